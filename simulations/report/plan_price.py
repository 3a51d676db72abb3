"""The price of a plan as text for people and as JSON for programs. Every epsilon is rounded up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fedspeech.privacy import phrasing, pricing
from fedspeech.privacy.failure_probabilities import probabilities
from fedspeech.privacy.phrasing import SERVER_ADDS_NOISE, judgment, rounded_up, scientific_up
from simulations.console import table

if TYPE_CHECKING:
    from fedspeech.privacy.adversary_views import View
    from fedspeech.privacy.plan import PrivacyPlan
    from fedspeech.privacy.pricing import Price
    from fedspeech.queries.estimate import ExpectedError
    from simulations.console import Console


def document(found: Price, explain: bool) -> dict[str, Any]:
    """Returns everything a program may want.

    Infinities are the string "Infinity"; what does not apply has no key.
    """
    plan = found.plan
    facts: dict[str, Any] = {
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
        "failure_probability": {
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
        missing = pricing.missing_noise(plan)
        facts["explain"] = {
            "curve": [
                {
                    "rounds": each.plan.rounds,
                    "epsilon_release": _number(each.release.epsilon),
                    "relation": each.release.relation,
                    "epsilon_server": _number(each.server.epsilon),
                }
                for each in pricing.curve(found)
            ],
            "phone": [
                {"joined": k, "epsilon": _by_accountant(view), "relation": view.relation}
                for k, view in pricing.account(plan)
            ],
            "noise_not_sized_for_the_minimum": [
                {**vars(row), "epsilon_release": _number(row.epsilon_release)}
                for row in pricing.losses(plan)
            ],
        }
        if missing is not None:
            facts["explain"]["missing_noise"] = {
                "d_over_2_m_squared": missing[0],
                "one_over_z_squared": missing[1],
            }
    return facts


def _by_accountant(view: View) -> dict[str, float | str]:
    return {name: _number(value) for name, value in {**view.epsilons, **view.checks}.items()}


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "Infinity"


def _plan(plan: PrivacyPlan) -> dict[str, Any]:
    """The plan with what was filled in; what does not apply is left out."""
    names = (
        "mechanism", "participation", "population", "rounds", "noise_multiplier", "clip_norm",
        "colluders", "dropout_rate", "min_cohort", "min_reporting", "secure_aggregation",
        "fingerprint",
    )  # fmt: skip
    fields: dict[str, Any] = {name: getattr(plan, name) for name in names}
    fields |= {"cohort": plan.expected_cohort, "max_participations": plan.participations}
    if plan.groups > 1:
        fields["groups"] = plan.groups
    if plan.availability < 1:
        fields["availability"] = plan.availability
    if plan.participation != "round_robin":
        fields["probability"] = plan.participation_probability
    if plan.cohort_cap is not None:
        fields["cohort_cap"] = plan.cohort_cap
    if plan.factorization is not None:
        fields |= vars(plan.factorization) | {"noise_gain": plan.noise_gain}
    if plan.on_phones:
        fields["dimension"] = plan.padded_dimension
        fields["bits"] = plan.bits
    return fields


def print_price(
    found: Price, console: Console, solved: tuple[str | None, str], explain: bool
) -> None:
    """Prints both epsilons, against whom they hold, what was assumed, and its grounds if asked.

    `solved` is the quantity that was searched for, if any, and what else ended the search.
    """
    plan = found.plan
    console.print(_headline(plan))
    what, limit = solved
    if what is not None:
        console.print(f"[bold]{_solution(plan, what)}[/bold]")
    if limit:
        console.print(f"[bold]Not epsilon ended the search:[/bold] {limit}")
    console.print()
    for name, view, who in (
        ("epsilon_release", found.release, "readers of the published models"),
        ("epsilon_server", found.server, "the server"),
    ):
        console.print(f"[bold]{name} {rounded_up(view.epsilon)}[/bold]  {_words(view, plan)}")
        others = {**view.epsilons, **view.checks}
        if math.isfinite(view.epsilon):
            shown = ", ".join(f"{key} {rounded_up(value)}" for key, value in others.items())
            console.print(f"    by accountant: {shown}")
        console.print(f"    against {who}: {judgment(view.epsilon)}")
    console.print(f"Who must be honest: {plan.trust}")
    assumed = _assumed(found)
    if assumed:
        console.print(f"Assumed, and to be kept: {', '.join(assumed)}.")
    for line in phrasing.warnings(plan, found.release, found.server):
        console.print(f"[bold]Warning:[/bold] {line}")
    if explain:
        _explain(found, console)


def error_to_expect(error: ExpectedError) -> str:
    """What an estimate will be off by, said before anybody is asked."""
    return (
        f"Error to expect of one estimate, at a true total of {error.total:.4g}: "
        f"+-{error.half_width:.3g} with {error.level:.0%} probability (standard deviation of the "
        f"noise {error.noise_stddev:.3g}, of who comes {error.sampling_stddev:.3g}). What the "
        f"bound of a phone takes: {error.truncation}."
    )


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
        "min_reporting": f"no sum of fewer than {plan.min_reporting:,} phones (--min-reporting)",
        "max_participations": f"no phone in more than {plan.participations:,} rounds "
        "(--max-participations)"
        if plan.participations < plan.rounds
        else "",
        "min_separation": _separation(plan),
        "dropout_rate": "nobody drops out (--dropout-rate)",
        "availability": "everybody is there whenever a round begins (--availability)"
        if plan.participation == "poisson"
        else "",
        "colluders": "nobody colludes (--colluders)",
    }
    return [said for name, said in words.items() if name in found.assumed and said]


def _separation(plan: PrivacyPlan) -> str:
    if plan.factorization is None:
        return ""
    apart = plan.factorization.min_separation
    return f"rounds of a phone at least {apart:,} apart (--min-separation)"


def _headline(plan: PrivacyPlan) -> str:
    there = ""
    if plan.availability < 1:
        there = f", where the fewest ({plan.availability:.4g} of them) are there"
    noise = {"local": "of one phone", "matrix_factorization": "of what a round draws afresh"}.get(
        plan.mechanism, "of the sum"
    )
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
    delta = float(scientific_up(plan.delta))
    return f"at delta {delta:g} {over}; relation {view.relation}; unit: one {plan.unit}"


def _explain(found: Price, console: Console) -> None:
    plan = found.plan
    console.print("\n[bold]What this stands on[/bold]")
    for line in phrasing.assumptions(plan, plan.cost, found.assumed):
        console.print(f"- {line}")
    for name, view in (("release", found.release), ("server", found.server)):
        if view.failure_probability > 0:
            console.print(
                f"- Bad events of epsilon_{name} have probability "
                f"{scientific_up(view.failure_probability)} over all rounds; e^epsilon times "
                "that is inside delta.",
            )
    console.print("\n[bold]By accountant[/bold] (a claim is a bound; a check stands beside it)")
    rows = [
        (f"epsilon_{name}", accountant, kind, rounded_up(value))
        for name, view in (("release", found.release), ("server", found.server))
        for kind, epsilons in (("claim", view.epsilons), ("check", view.checks))
        for accountant, value in epsilons.items()
    ]
    console.print(table(("", "accountant", "", "epsilon"), rows))
    _explain_events(plan, console)
    missing = pricing.missing_noise(plan)
    if missing is not None:
        console.print(
            f"\nA phone that comes adds 1 / z^2 = {missing[1]:.3g} by what it says and d / (2 m^2) "
            f"= {missing[0]:.3g} by the noise it brings ({plan.padded_dimension:,} coordinates, "
            f"{plan.honest:,} other shares): squared signal over noise of one round.",
        )
    console.print("\n[bold]Over rounds[/bold] (same participation limit and minimum)")
    rows = [
        (f"{each.plan.rounds:,}", rounded_up(each.release.epsilon), each.release.relation,
         rounded_up(each.server.epsilon))
        for each in pricing.curve(found)
    ]  # fmt: skip
    console.print(table(("rounds", "epsilon_release", "relation", "epsilon_server"), rows))
    _explain_losses(plan, console)
    against = "a reader who knows when it was there" if plan.central else "the server"
    console.print(f"\n[bold]One phone's account[/bold] (against {against})")
    spent = [
        (f"{joined:,}", rounded_up(view.epsilon), view.relation)
        for joined, view in pricing.account(plan)
    ]
    console.print(table(("rounds joined", "epsilon", "relation"), spent))


def _explain_events(plan: PrivacyPlan, console: Console) -> None:
    rows = [(name, f"{probability:.1e}") for name, probability in probabilities(plan).items()]
    if rows:
        console.print("\n[bold]Bad events[/bold] (one round; a participation limit: the run)")
        console.print(table(("event", "probability"), rows))


def _explain_losses(plan: PrivacyPlan, console: Console) -> None:
    console.print("\n[bold]Dropouts and colluders[/bold]")
    if not plan.on_phones:
        console.print(
            "The server adds all of the noise: phones that drop out or collude take none of it "
            "away.",
        )
        return
    console.print(
        f"Noise is sized for {plan.honest:,} honest reporting phones, so the figures above hold "
        "however many drop out: rounds below the minimum are not opened. Had it been sized for the "
        "expected cohort instead (no bad events counted):",
    )
    rows = [
        (f"{row.dropout:.0%}", f"{row.colluding:.0%}", f"{row.noise_multiplier:.4g}",
         rounded_up(row.epsilon_release))
        for row in pricing.losses(plan)
    ]  # fmt: skip
    console.print(table(("drop out", "collude", "noise left", "epsilon_release"), rows))
