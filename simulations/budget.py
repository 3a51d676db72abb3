"""`fedspeech budget`: what a plan costs, what that stands on, and which plan an epsilon buys.

The pricing is `fedspeech.privacy.pricing`; here options become terms, and prices become text or
JSON. Every epsilon that is printed is rounded up.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError
from fedspeech.privacy.guarantee import rounded_up

if TYPE_CHECKING:
    from rich.table import Table

    from fedspeech.privacy.pricing import Price
    from fedspeech.privacy.terms import Terms
    from fedspeech.privacy.views import View
    from simulations.console import Console

# Options of the command by the field of `Terms` that they fill.
_OPTIONS = {"noise_multiplier": "noise", "clip_norm": "clip"}
_UNKNOWNS = {"noise": "noise_multiplier", "rounds": "rounds", "cohort": "cohort", "bits": "bits"}


class BudgetRefused(FedspeechError):
    """Options that do not fit together, or an epsilon that nothing reaches."""


def budget(
    fields: Mapping[str, Any],
    *,
    solve: str | None,
    epsilon: float | None,
    against: str,
    explain: bool,
    as_json: bool,
) -> None:
    """Prices what the options describe and writes it to stdout.

    Args:
      fields: of `Terms`, as given; none where an option was left out.
      solve: what to find, or nothing.
      epsilon: bound to solve for.
      against: which epsilon the bound is on.
      explain: print everything that stands behind the figures.
      as_json: print one JSON object instead of text.

    Raises:
      BudgetRefused: with the rule that was broken, in the words of the options.
    """
    started = time.monotonic()
    try:
        found = _price(dict(fields), solve, epsilon, against, cross_check=explain or as_json)
        if as_json:
            output = json.dumps(_document(found, explain), indent=2, allow_nan=False)
            print(output)  # noqa: T201
        else:
            from simulations.console import Console

            _print(found, Console(markup=True), solve, explain, time.monotonic() - started)
    except ValueError as error:
        raise BudgetRefused(_in_options(str(error))) from None


def _price(
    fields: dict[str, Any],
    unknown: str | None,
    epsilon: float | None,
    against: str,
    *,
    cross_check: bool,
) -> Price:
    """Prices, or solves and prices."""
    from fedspeech.privacy.pricing import price
    from fedspeech.privacy.solving import solve
    from fedspeech.privacy.terms import Terms

    given = {name: value for name, value in fields.items() if value is not None}
    solved = _UNKNOWNS.get(unknown or "")
    if (unknown is None) != (epsilon is None):
        raise ValueError("--solve and --epsilon go together: one says what, the other how much")
    if solved in given:
        raise ValueError(f"--solve {unknown} finds it: leave --{unknown} out")
    needed = {"rounds", "noise_multiplier"} - {solved}
    for name in sorted(needed - set(given)):
        raise ValueError(f"--{_OPTIONS.get(name, name)} is needed")
    if solved == "cohort":
        if "probability" in given:
            raise ValueError("--solve cohort finds the probability too: leave --probability out")
    elif "cohort" not in given and "probability" not in given:
        raise ValueError("--cohort or --probability is needed: how many phones join a round")
    if "cohort_cap" in given and given.get("mechanism") == "central":
        _say("a cohort cap is priced by mixing two loss distributions: this may take a while")
    if unknown is None:
        return price(Terms(**given), cross_check=cross_check)
    assert epsilon is not None
    _say(f"looking for {unknown}: up to a few dozen prices")
    found = solve(functools.partial(Terms, **given), unknown, epsilon, against=against)  # type: ignore[arg-type]
    return price(found.terms, cross_check=True) if cross_check else found


def _say(what: str) -> None:
    """Tells somebody who waits, without touching what a program reads."""
    print(f"fedspeech: {what}", file=sys.stderr, flush=True)  # noqa: T201


def _in_options(message: str) -> str:
    """Names options as they are typed."""
    fields = (
        "noise_multiplier", "clip_norm", "cohort_cap", "min_survivors", "max_participations",
        "dropout_rate", "availability",
    )  # fmt: skip
    for field in fields:
        option = "--" + _OPTIONS.get(field, field).replace("_", "-")
        message = message.replace(field, option)
    return message


# JSON.


def _document(found: Price, explain: bool) -> dict[str, Any]:
    """Everything a program may want; infinities are the string "Infinity", absent is absent."""
    from fedspeech.privacy import explaining, pricing

    terms = found.terms
    document: dict[str, Any] = {
        "epsilon_release": _by_accountant(found.release),
        "epsilon_server": _by_accountant(found.server),
        "claim": {"release": found.release.claim, "server": found.server.claim},
        "delta": terms.target_delta,
        "unit": "user",
        "relation": {"release": found.release.relation, "server": found.server.relation},
        "rounds": terms.rounds,
        "participations": {
            "release": found.release.participations,
            "server": found.server.participations,
        },
        "amplified": {"release": found.release.amplified, "server": False},
        "bad_event_mass": {
            "release": found.release.bad_event_mass,
            "server": found.server.bad_event_mass,
        },
        "who_must_be_honest": pricing.trust(terms),
        "assumptions": pricing.assumptions(found),
        "warnings": pricing.warnings(found),
        "plan": _plan(terms),
    }
    if explain:
        missing = explaining.missing_noise(terms)
        document["explain"] = {
            "curve": [
                {
                    "rounds": each.terms.rounds,
                    "epsilon_release": _number(each.release.epsilon),
                    "relation": each.release.relation,
                    "epsilon_server": _number(each.server.epsilon),
                }
                for each in explaining.curve(found)
            ],
            "phone": [
                {"joined": k, "epsilon": _by_accountant(view), "relation": view.relation}
                for k, view in explaining.account(terms)
            ],
            "noise_not_sized_for_the_floor": [
                {
                    "dropout": row.dropout,
                    "colluding": row.colluding,
                    "noise_multiplier": row.noise_multiplier,
                    "epsilon_release": _number(row.epsilon),
                }
                for row in explaining.losses(terms)
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


def _plan(terms: Terms) -> dict[str, Any]:
    """The terms with what was filled in; what does not apply is left out."""
    plan: dict[str, Any] = {
        "mechanism": terms.mechanism,
        "participation": terms.participation,
        "population": terms.population,
        "cohort": terms.expected_cohort,
        "rounds": terms.rounds,
        "noise_multiplier": terms.noise_multiplier,
        "clip_norm": terms.clip_norm,
        "colluders": terms.colluders,
        "dropout_rate": terms.dropout_rate,
        "max_participations": terms.participations,
    }
    if terms.availability < 1:
        plan["availability"] = terms.availability
    if terms.participation != "limited":
        plan["probability"] = terms.participation_probability
    if terms.floor is not None:
        plan["min_survivors"] = terms.floor
    if terms.cohort_cap is not None:
        plan["cohort_cap"] = terms.cohort_cap
    if terms.on_phones:
        plan["dimension"] = terms.coordinates
    if terms.on_phones and terms.noise_multiplier > 0:
        plan["bits"] = terms.ring.bits
    return plan


# Text.


def _print(found: Price, console: Console, solved: str | None, explain: bool, took: float) -> None:
    from fedspeech.privacy import pricing

    terms = found.terms
    console.print(_headline(terms), highlight=False)
    if solved is not None:
        console.print(f"[bold]{_solution(terms, solved)}[/bold]", highlight=False)
    console.print()
    honest = pricing.trust(terms)
    for name, view, who in (
        ("epsilon_release", found.release, "readers of the published models"),
        ("epsilon_server", found.server, "the server"),
    ):
        console.print(f"[bold]{name} {rounded_up(view.epsilon)}[/bold]  {_words(view, terms)}",
                      highlight=False)  # fmt: skip
        others = {**view.epsilons, **view.checks}
        if math.isfinite(view.epsilon):
            shown = ", ".join(f"{key} {rounded_up(value)}" for key, value in others.items())
            console.print(f"    by accountant: {shown}", highlight=False)
        console.print(
            f"    against {who}; who must be honest: {honest[name.split('_')[1]]}.",
            highlight=False,
        )
    assumed = _assumed(terms)
    if assumed:
        console.print(f"Assumed, and to be kept: {', '.join(assumed)}.", highlight=False)
    for line in pricing.warnings(found):
        console.print(f"[bold]Warning:[/bold] {line}", highlight=False)
    if explain:
        _explain(found, console)
    else:
        console.print(f"\nTook {took:.1f} s. --explain prints what these figures stand on.",
                      style="dim", highlight=False)  # fmt: skip


def _assumed(terms: Terms) -> list[str]:
    """What was filled in or left at nothing, and would change an epsilon that is printed."""
    if not terms.on_phones or terms.noise_multiplier == 0:
        return []
    said = ["an ideal secure sum"] if terms.mechanism in ("distributed", "skellam") else []
    if terms.dimension is None:
        said.append(f"{terms.coordinates:,} coordinates (--dimension)")
    if terms.min_survivors is None:
        said.append(f"no sum of fewer than {terms.floor:,} answers (--min-survivors)")
    if terms.max_participations is None and terms.participations < terms.rounds:
        said.append(f"no phone in more than {terms.participations:,} rounds (--max-participations)")
    if terms.dropout_rate == 0:
        said.append("nobody drops out (--dropout-rate)")
    if terms.availability == 1 and terms.participation == "poisson":
        said.append("everybody is there whenever a round begins (--availability)")
    if terms.colluders == 0:
        said.append("nobody colludes (--colluders)")
    return said


def _headline(terms: Terms) -> str:
    there = ""
    if terms.availability < 1:
        there = f", where the fewest ({terms.availability:.4g} of them) are there"
    noise = "of one phone" if terms.mechanism == "local" else "of the sum"
    return (
        f"{terms.mechanism} noise {terms.noise_multiplier:.8g} ({noise}, over the clip norm), "
        f"{terms.participation} participation, {terms.expected_cohort:,.12g} of "
        f"{terms.population:,} phones in each of {terms.rounds:,} rounds{there}"
    )


def _solution(terms: Terms, solved: str) -> str:
    match solved:
        case "noise":
            # Written so that what is read back is enough.
            return f"noise {rounded_up(terms.noise_multiplier, 6)}"
        case "rounds":
            return f"rounds {terms.rounds}"
        case "cohort":
            return f"cohort {terms.expected_cohort:.0f}"
    return f"bits {terms.bits}"


def _words(view: View, terms: Terms) -> str:
    if math.isinf(view.epsilon):
        return "(no protection at all)"
    over = (
        f"over {terms.rounds:,} rounds"
        if view.amplified
        else f"for a phone that joins {view.participations:,} of {terms.rounds:,} rounds"
    )
    return f"at delta {terms.target_delta:.3g} {over}; relation {view.relation}; unit: one user"


def _explain(found: Price, console: Console) -> None:
    from fedspeech.privacy import explaining, pricing

    terms = found.terms
    console.print("\n[bold]What this stands on[/bold]")
    for line in pricing.assumptions(found):
        console.print(f"- {line}", highlight=False)
    for name, view in (("release", found.release), ("server", found.server)):
        if view.bad_event_mass > 0:
            console.print(
                f"- Bad events of epsilon_{name} have mass {view.bad_event_mass:.2e} over all "
                "rounds; e^epsilon times that is inside delta.",
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
    missing = explaining.missing_noise(terms)
    if missing is not None:
        console.print(
            f"\nA phone that comes adds 1 / z^2 = {missing[1]:.3g} by what it says and d / (2 m^2) "
            f"= {missing[0]:.3g} by the noise it brings ({terms.coordinates:,} coordinates, "
            f"{terms.honest:,} other shares): squared signal over noise of one round.",
            highlight=False,
        )
    console.print("\n[bold]Over rounds[/bold] (same quota and floor)")
    rows = [
        (f"{each.terms.rounds:,}", rounded_up(each.release.epsilon), each.release.relation,
         rounded_up(each.server.epsilon))
        for each in explaining.curve(found)
    ]  # fmt: skip
    console.print(_table(("rounds", "epsilon_release", "relation", "epsilon_server"), rows))
    _explain_losses(terms, console)
    against = (
        "a reader who knows when it was there" if terms.mechanism == "central" else "the server"
    )
    console.print(f"\n[bold]One phone's account[/bold] (against {against})")
    spent = [
        (f"{joined:,}", rounded_up(view.epsilon), view.relation)
        for joined, view in explaining.account(terms)
    ]
    console.print(_table(("rounds joined", "epsilon", "relation"), spent))


def _explain_losses(terms: Terms, console: Console) -> None:
    from fedspeech.privacy import explaining

    console.print("\n[bold]Dropouts and colluders[/bold]")
    if not terms.on_phones:
        console.print(
            "The server adds all of the noise: phones that drop out or collude take none of it "
            "away.",
            highlight=False,
        )
        return
    console.print(
        f"Noise is sized for {terms.honest:,} honest survivors, so the figures above hold however "
        "many drop out: rounds below the floor are not opened. Had it been sized for the expected "
        "cohort instead (no bad events counted):",
        highlight=False,
    )
    rows = [
        (f"{row.dropout:.0%}", f"{row.colluding:.0%}", f"{row.noise_multiplier:.4g}",
         rounded_up(row.epsilon))
        for row in explaining.losses(terms)
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
