"""`fedspeech budget`: what a plan costs, what that stands on, and which plan an epsilon buys.

The plan is made where runs make theirs (`fedspeech.privacy.filling`, for a scenario
`simulations.setup.planning`), so a run costs what is printed here. Here options become a plan, and
prices become text or JSON. Every epsilon that is printed is rounded up.
"""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError
from fedspeech.privacy.phrasing import SERVER_ADDS_NOISE, judgment, rounded_up

if TYPE_CHECKING:
    from rich.table import Table

    from fedspeech.privacy.adversary_views import View
    from fedspeech.privacy.filling import Filled
    from fedspeech.privacy.plan import PrivacyPlan
    from fedspeech.privacy.pricing import Price
    from simulations.console import Console
    from simulations.scenario.schema import Scenario

# Options of the command by the field of the plan that they fill, where the names differ.
_OPTIONS = {
    "noise_multiplier": "noise", "clip_norm": "clip", "ring_bits": "bits",
    "quota": "max_participations", "participation_probability": "probability",
}  # fmt: skip
_UNKNOWNS = {
    "noise": "noise_multiplier", "rounds": "rounds", "cohort": "cohort", "bits": "ring_bits",
}  # fmt: skip


class BudgetRefused(FedspeechError):
    """Options that do not fit together, or an epsilon that nothing reaches."""


def budget(
    fields: Mapping[str, Any],
    *,
    scenario: Scenario | None,
    solve: str | None,
    epsilon: float | None,
    against: str,
    explain: bool,
    as_json: bool,
) -> None:
    """Prices what the options or a scenario describe and writes it to stdout.

    Args:
      fields: of `fill`, as given; none where an option was left out.
      scenario: whose plan is priced, instead of fields.
      solve: what to find, or nothing.
      epsilon: bound to solve for.
      against: which epsilon the bound is on.
      explain: print everything that stands behind the figures.
      as_json: print one JSON object instead of text.

    Raises:
      BudgetRefused: with the rule that was broken, in the words of the options.
      ScenarioError: if the scenario does not fit together.
      CorpusError: if its recordings cannot be used.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        if (solve is None) != (epsilon is None):
            raise ValueError("--solve and --epsilon go together: one says what, the other how much")
        make = _from_options(given, solve) if scenario is None else _from_scenario(given, scenario)
        found, limit = _price(make, solve, epsilon, against, cross_check=explain or as_json)
        if as_json:
            document = _document(found, explain)
            if solve is not None:
                document["solved"] = {"for": solve, "limit": limit}
            output = json.dumps(document, indent=2, allow_nan=False)
            print(output)  # noqa: T201
        else:
            from simulations.console import Console

            _print(found, Console(markup=True), (solve, limit), explain)
    except ValueError as error:
        raise BudgetRefused(_in_options(str(error))) from None


def _from_options(given: dict[str, Any], solve: str | None) -> Callable[..., Filled]:
    """What makes a plan from options and what is solved for."""
    from fedspeech.privacy.filling import fill
    from simulations.scenario.schema import AdaptiveClippingSettings
    from simulations.setup.planning import adaptive_clipping

    solved = _UNKNOWNS.get(solve or "")
    if solved in given:
        raise ValueError(f"--solve {solve} finds it: leave --{solve} out")
    needed = {"mechanism", "participation", "population", "rounds", "noise_multiplier"} - {solved}
    for name in sorted(needed - set(given)):
        raise ValueError(f"--{_OPTIONS.get(name, name)} is needed, or --scenario")
    if solved == "cohort":
        if "probability" in given:
            raise ValueError("--solve cohort finds the probability too: leave --probability out")
    elif "cohort" not in given and "probability" not in given:
        raise ValueError("--cohort or --probability is needed: how many phones join a round")
    if "cohort_cap" in given and given.get("mechanism") == "central":
        _say("a cohort cap is priced by mixing two loss distributions: this may take a while")
    if (quantile := given.pop("clip_quantile", None)) is not None:
        settings = AdaptiveClippingSettings(target_quantile=quantile)
        given["adaptive_clipping"] = adaptive_clipping(settings, given.get("clip_norm", 1.0))
    if given.get("noise_multiplier") == 0:
        given["mechanism"] = "none"
    return functools.partial(fill, **given)


def _from_scenario(given: dict[str, Any], scenario: Scenario) -> Callable[..., Filled]:
    """What makes the plan that a run of a scenario obeys."""
    from simulations.setup.experiment import open_scenario
    from simulations.setup.planning import maker

    for name in given:
        option = _OPTIONS.get(name, name).replace("_", "-")
        raise ValueError(f"--scenario says it all: change it by --set, and leave --{option} out")
    return maker(scenario.privacy, open_scenario(scenario).sizes)


def _price(
    make: Callable[..., Filled],
    unknown: str | None,
    epsilon: float | None,
    against: str,
    *,
    cross_check: bool,
) -> tuple[Price, str]:
    """Prices, or solves and prices; with what ended the search, if not epsilon."""
    from fedspeech.privacy.pricing import price
    from fedspeech.privacy.solving import solve

    if unknown is None:
        return price(make(), cross_check=cross_check), ""
    assert epsilon is not None
    _say(f"looking for {unknown}: some dozens of prices, seconds to half a minute")
    found = solve(make, unknown, epsilon, against=against)  # type: ignore[arg-type]
    return found.price, found.limit


def _say(what: str) -> None:
    """Tells somebody who waits, without touching what a program reads."""
    print(f"fedspeech: {what}", file=sys.stderr, flush=True)  # noqa: T201


def _in_options(message: str) -> str:
    """Names options as they are typed."""
    fields = (
        "participation_probability", "noise_multiplier", "clip_norm", "cohort_cap", "min_cohort",
        "min_survivors", "quota", "dropout_rate", "availability", "ring_bits",
    )  # fmt: skip
    for field in fields:
        option = "--" + _OPTIONS.get(field, field).replace("_", "-")
        message = re.sub(rf"\b{field}\b", option, message)
    return message


# JSON.


def _document(found: Price, explain: bool) -> dict[str, Any]:
    """Everything a program may want; infinities are the string "Infinity", absent is absent."""
    from fedspeech.privacy import explaining, phrasing

    plan = found.plan
    document: dict[str, Any] = {
        "epsilon_release": _by_accountant(found.release),
        "epsilon_server": _by_accountant(found.server),
        "claim": {"release": found.release.claim, "server": found.server.claim},
        "delta": plan.delta,
        "unit": plan.unit,
        "relation": {"release": found.release.relation, "server": found.server.relation},
        "rounds": plan.rounds,
        "participations": {
            "release": found.release.participations,
            "server": found.server.participations,
        },
        "amplified": {"release": found.release.amplified, "server": False},
        "bad_event_mass": {
            "release": found.release.failure_probability,
            "server": found.server.failure_probability,
        },
        "who_must_be_honest": plan.trust,
        "judgment": {
            "release": judgment(found.release.epsilon),
            "server": judgment(found.server.epsilon),
        },
        "assumptions": phrasing.assumptions(plan, plan.cost, found.assumed),
        "warnings": phrasing.warnings(plan, found.release, found.server),
        "plan": _plan(plan),
        "assumed": sorted(found.assumed),
    }
    if explain:
        missing = explaining.missing_noise(plan)
        document["explain"] = {
            "curve": [
                {
                    "rounds": each.plan.rounds,
                    "epsilon_release": _number(each.release.epsilon),
                    "relation": each.release.relation,
                    "epsilon_server": _number(each.server.epsilon),
                }
                for each in explaining.curve(found)
            ],
            "phone": [
                {"joined": k, "epsilon": _by_accountant(view), "relation": view.relation}
                for k, view in explaining.account(plan)
            ],
            "noise_not_sized_for_the_floor": [
                {
                    "dropout": row.dropout,
                    "colluding": row.colluding,
                    "noise_multiplier": row.noise_multiplier,
                    "epsilon_release": _number(row.epsilon),
                }
                for row in explaining.losses(plan)
            ],
        }
        if missing is not None:
            document["explain"]["missing_noise"] = {
                "d_over_2_m_squared": missing[0],
                "one_over_z_squared": missing[1],
            }
    return document


def _by_accountant(view: View) -> dict[str, float | str]:
    return {name: _number(value) for name, value in {**view.epsilons, **view.checks}.items()}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "Infinity"


def _plan(plan: PrivacyPlan) -> dict[str, Any]:
    """The plan with what was filled in; what does not apply is left out."""
    fields: dict[str, Any] = {
        "mechanism": plan.mechanism,
        "participation": plan.participation,
        "population": plan.population,
        "cohort": plan.expected_cohort,
        "rounds": plan.rounds,
        "noise_multiplier": plan.noise_multiplier,
        "clip_norm": plan.clip_norm,
        "colluders": plan.colluders,
        "dropout_rate": plan.dropout_rate,
        "max_participations": plan.participations,
        "min_cohort": plan.min_cohort,
        "min_survivors": plan.min_survivors,
        "secure_aggregation": plan.secure_aggregation,
        "fingerprint": plan.fingerprint,
    }
    if plan.availability < 1:
        fields["availability"] = plan.availability
    if plan.participation != "limited":
        fields["probability"] = plan.participation_probability
    if plan.cohort_cap is not None:
        fields["cohort_cap"] = plan.cohort_cap
    if plan.on_phones:
        fields["dimension"] = plan.padded_dimension
        fields["bits"] = plan.bits
    return fields


# Text.


def _print(found: Price, console: Console, solved: tuple[str | None, str], explain: bool) -> None:
    from fedspeech.privacy import phrasing

    plan = found.plan
    console.print(_headline(plan), highlight=False)
    what, limit = solved
    if what is not None:
        console.print(f"[bold]{_solution(plan, what)}[/bold]", highlight=False)
    if limit:
        console.print(f"[bold]Not epsilon ended the search:[/bold] {limit}", highlight=False)
    console.print()
    for name, view, who in (
        ("epsilon_release", found.release, "readers of the published models"),
        ("epsilon_server", found.server, "the server"),
    ):
        console.print(f"[bold]{name} {rounded_up(view.epsilon)}[/bold]  {_words(view, plan)}",
                      highlight=False)  # fmt: skip
        others = {**view.epsilons, **view.checks}
        if math.isfinite(view.epsilon):
            shown = ", ".join(f"{key} {rounded_up(value)}" for key, value in others.items())
            console.print(f"    by accountant: {shown}", highlight=False)
        console.print(f"    against {who}: {judgment(view.epsilon)}", highlight=False)
    console.print(f"Who must be honest: {plan.trust}", highlight=False)
    assumed = _assumed(found)
    if assumed:
        console.print(f"Assumed, and to be kept: {', '.join(assumed)}.", highlight=False)
    for line in phrasing.warnings(plan, found.release, found.server):
        console.print(f"[bold]Warning:[/bold] {line}", highlight=False)
    if explain:
        _explain(found, console)
    else:
        console.print("\n--explain prints what these figures stand on.",
                      style="dim", highlight=False)  # fmt: skip


def _assumed(found: Price) -> list[str]:
    """What was filled in, and would change an epsilon that is printed."""
    plan = found.plan
    if plan.mechanism == "none":
        return []
    words = {
        "secure_aggregation": "masked sums (--secure-aggregation)"
        if plan.secure_aggregation == "masked"
        else "",
        "dimension": f"{plan.dimension:,} coordinates (--dimension)" if plan.on_phones else "",
        "min_cohort": f"no round of fewer than {plan.min_cohort:,} phones (--min-cohort)",
        "min_survivors": f"no sum of fewer than {plan.min_survivors:,} answers (--min-survivors)",
        "quota": f"no phone in more than {plan.participations:,} rounds (--max-participations)"
        if plan.participations < plan.rounds
        else "",
        "dropout_rate": "nobody drops out (--dropout-rate)",
        "availability": "everybody is there whenever a round begins (--availability)"
        if plan.participation == "poisson"
        else "",
        "colluders": "nobody colludes (--colluders)",
    }
    return [said for name, said in words.items() if name in found.assumed and said]


def _headline(plan: PrivacyPlan) -> str:
    there = ""
    if plan.availability < 1:
        there = f", where the fewest ({plan.availability:.4g} of them) are there"
    noise = "of one phone" if plan.mechanism == "local" else "of the sum"
    return (
        f"{plan.mechanism} noise {plan.noise_multiplier:.8g} ({noise}, over the clip norm), "
        f"{plan.participation} participation, {plan.expected_cohort:,.12g} of "
        f"{plan.population:,} phones in each of {plan.rounds:,} rounds{there}"
    )


def _solution(plan: PrivacyPlan, solved: str) -> str:
    match solved:
        case "noise":
            # Written so that what is read back is enough.
            return f"noise {rounded_up(plan.noise_multiplier, 6)}"
        case "rounds":
            return f"rounds {plan.rounds}"
        case "cohort":
            return f"cohort {plan.expected_cohort:.0f}"
    return f"bits {plan.bits}"


def _words(view: View, plan: PrivacyPlan) -> str:
    if plan.mechanism == "none":
        return "(no protection at all)"
    if math.isinf(view.epsilon):
        return "(no bound can be stated)" if view.reason else f"({SERVER_ADDS_NOISE})"
    over = (
        f"over {plan.rounds:,} rounds"
        if view.amplified
        else f"for a phone that joins {view.participations:,} of {plan.rounds:,} rounds"
    )
    return f"at delta {plan.delta:.3g} {over}; relation {view.relation}; unit: one {plan.unit}"


def _explain(found: Price, console: Console) -> None:
    from fedspeech.privacy import explaining, phrasing

    plan = found.plan
    console.print("\n[bold]What this stands on[/bold]")
    for line in phrasing.assumptions(plan, plan.cost, found.assumed):
        console.print(f"- {line}", highlight=False)
    for name, view in (("release", found.release), ("server", found.server)):
        if view.failure_probability > 0:
            console.print(
                f"- Bad events of epsilon_{name} have probability {view.failure_probability:.2e} "
                "over all rounds; e^epsilon times that is inside delta.",
                highlight=False,
            )
    console.print("\n[bold]By accountant[/bold] (a claim is a bound; a check stands beside it)")
    rows = [
        (f"epsilon_{name}", accountant, kind, rounded_up(value))
        for name, view in (("release", found.release), ("server", found.server))
        for kind, epsilons in (("claim", view.epsilons), ("check", view.checks))
        for accountant, value in epsilons.items()
    ]
    console.print(_table(("", "accountant", "", "epsilon"), rows))
    _explain_events(plan, console)
    missing = explaining.missing_noise(plan)
    if missing is not None:
        console.print(
            f"\nA phone that comes adds 1 / z^2 = {missing[1]:.3g} by what it says and d / (2 m^2) "
            f"= {missing[0]:.3g} by the noise it brings ({plan.padded_dimension:,} coordinates, "
            f"{plan.honest:,} other shares): squared signal over noise of one round.",
            highlight=False,
        )
    console.print("\n[bold]Over rounds[/bold] (same quota and floor)")
    rows = [
        (f"{each.plan.rounds:,}", rounded_up(each.release.epsilon), each.release.relation,
         rounded_up(each.server.epsilon))
        for each in explaining.curve(found)
    ]  # fmt: skip
    console.print(_table(("rounds", "epsilon_release", "relation", "epsilon_server"), rows))
    _explain_losses(plan, console)
    against = (
        "a reader who knows when it was there" if plan.mechanism == "central" else "the server"
    )
    console.print(f"\n[bold]One phone's account[/bold] (against {against})")
    spent = [
        (f"{joined:,}", rounded_up(view.epsilon), view.relation)
        for joined, view in explaining.account(plan)
    ]
    console.print(_table(("rounds joined", "epsilon", "relation"), spent))


def _explain_events(plan: PrivacyPlan, console: Console) -> None:
    from fedspeech.privacy.failure_probabilities import probabilities

    rows = [(name, f"{probability:.1e}") for name, probability in probabilities(plan).items()]
    if rows:
        console.print("\n[bold]Bad events[/bold] (one round; a quota: the run)")
        console.print(_table(("event", "probability"), rows))


def _explain_losses(plan: PrivacyPlan, console: Console) -> None:
    from fedspeech.privacy import explaining

    console.print("\n[bold]Dropouts and colluders[/bold]")
    if not plan.on_phones:
        console.print(
            "The server adds all of the noise: phones that drop out or collude take none of it "
            "away.",
            highlight=False,
        )
        return
    console.print(
        f"Noise is sized for {plan.honest:,} honest survivors, so the figures above hold however "
        "many drop out: rounds below the floor are not opened. Had it been sized for the expected "
        "cohort instead (no bad events counted):",
        highlight=False,
    )
    rows = [
        (f"{row.dropout:.0%}", f"{row.colluding:.0%}", f"{row.noise_multiplier:.4g}",
         rounded_up(row.epsilon))
        for row in explaining.losses(plan)
    ]  # fmt: skip
    console.print(_table(("drop out", "collude", "noise left", "epsilon_release"), rows))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table
