"""What a tuning found, in words: every epsilon with its terms, every figure with its doubt."""

from __future__ import annotations

from collections.abc import Iterator

from fedspeech.privacy.phrasing import scientific_up
from simulations.report import phrasing
from simulations.tuning.results import Recommended, Spread, Tried, Tuning


def short(found: Tuning) -> tuple[str, ...]:
    """The recommendation in three lines: what to run, why, how sure; none where there is none."""
    chosen = found.chosen
    if found.recommended is None or chosen is None:
        return ()
    promised = chosen.guarantee
    return (
        f"Run {chosen}: {interval(chosen.accuracy)} (base "
        f"{phrasing.percent(found.base)}) at epsilon {phrasing.epsilon(promised.epsilon_release)} "
        f"against readers of the published models ({promised.relation_release}), "
        f"{phrasing.epsilon(promised.epsilon_server)} against the server "
        f"({promised.relation_server}), delta {scientific_up(promised.delta, 1)}, "
        f"unit one {promised.unit}.",
        f"Why: {_reason(found, found.recommended)}",
        f"How sure: {_certainty(found, found.recommended)}",
    )


def recommendation(found: Tuning) -> Iterator[str]:
    """What the three lines stand on, one paragraph after the other."""
    if found.recommended is None:
        yield _nothing_words(found)
    else:
        yield from _terms(found, found.recommended)
    yield _visibility_words(found)
    if found.spent is not None:
        yield (
            f"The ledger now holds: {phrasing.price(found.spent.guarantee, 'charged')}. A run of "
            "the recommended scenario on the same population adds its own."
        )


def _reason(found: Tuning, choice: Recommended) -> str:
    chosen, best = found.trial(choice.number), found.trial(choice.best)
    if choice.best == choice.number:
        price = chosen.guarantee.epsilon_release
        cheaper = any(one.guarantee.epsilon_release < price for one in _eligible(found))
        return "it is the best seen, and " + (
            f"every setting with a smaller epsilon is worse by more than {_limit(found)} and by "
            "more than chance explains."
            if cheaper
            else "no setting that went to its end has a smaller epsilon."
        )
    assert chosen.against_best is not None
    return (
        f"it has the smallest epsilon of those within {_limit(found)} of the best seen or not told "
        f"from it: {_difference(chosen.against_best)} from {phrasing.percent(best.accuracy.mean)} "
        f"at epsilon {phrasing.epsilon(best.guarantee.epsilon_release)} ({best})."
    )


def _certainty(found: Tuning, choice: Recommended) -> str:
    tried = len(_eligible(found))
    if tried == 1:
        return "there is nothing to compare it with, no other setting went to its end in budget."
    others = len(choice.unresolved)
    apart = (
        f"{others} other{'' if others == 1 else 's'} cannot be told from it by accuracy."
        if others
        else "every other one differs from it by more than chance explains."
    )
    return (
        f"with seeds and phones drawn again the same rule chose it out of {tried} settings in "
        f"{100 * choice.share_same:.0f} % of cases; {apart}"
    )


def _eligible(found: Tuning) -> list[Tried]:
    """Settings that could have been chosen."""
    return [trial for trial in found.tried if not trial.stopped and trial.within_budget]


def _terms(found: Tuning, choice: Recommended) -> Iterator[str]:
    """Who evaluated, the whole price, and what the figures leave out."""
    chosen = found.trial(choice.number)
    what = "phones" if found.visibility == "simulation_only" else "public speakers"
    yield (
        f"Accuracy ({found.measure}) with its 95 % interval on {found.members} {what} over "
        f"{found.seeds_said}; a setting is not told from another where the 95 % interval of their "
        "paired difference holds zero. "
        f"{phrasing.capital(phrasing.price(chosen.guarantee, 'planned'))}; who must be honest: "
        f"{chosen.guarantee.trust}"
    )
    flattered = (
        f"Being chosen on these {what} flatters its accuracy by about "
        f"{100 * choice.flattery:.1f} points; a run of the recommended scenario draws its own "
        "noise and cohorts and will show another figure."
    )
    if left_out := f"{flattered}{_edge_of_range(found, chosen)}".strip():
        yield left_out


def _edge_of_range(found: Tuning, chosen: Tried) -> str:
    """Where the range may have been too small."""
    ends = []
    for name in ("clip_norm", "noise_multiplier"):
        value, values = getattr(chosen, name), {getattr(trial, name) for trial in found.tried}
        if len(values) > 1 and value in (min(values), max(values)):
            end = "largest" if value == max(values) else "smallest"
            ends.append(f"the {end} {name.replace('_', ' ')} tried")
    if not ends:
        return ""
    return f" It has {' and '.join(ends)}: a wider range may hold better ones."


def _nothing_words(found: Tuning) -> str:
    done = [trial for trial in found.tried if not trial.stopped]
    if not done:
        return (
            "Nothing can be recommended: no trial went to its end. Lower the noise multiplier or "
            "the server learning rate, or raise the number of phones per round."
        )
    cheapest = min(done, key=lambda trial: trial.guarantee.epsilon_release)
    return (
        "Nothing can be recommended: no setting that went to its end stays within "
        f"privacy.epsilon_budget = {found.budget:g}. The smallest seen: {cheapest}; "
        f"{phrasing.price(cheapest.guarantee, 'planned')}. Search larger noise multipliers, plan "
        "fewer rounds, or raise the budget."
    )


def _visibility_words(found: Tuning) -> str:
    if found.population == "charged":
        return (
            "Chosen by what a server sees: public validation speakers alone, on models that the "
            "ledger paid for, so choosing costs nothing on top. Held-out phones were not "
            "looked at: their speech is private too, and no epsilon covers it."
            + (
                " Careful: on these speakers every setting is below the base "
                f"({phrasing.percent(found.base)}). They are unlike the phones that train, so this "
                "ranks settings by how little they hurt other speech, not by how much they help "
                "those phones."
                if all(trial.accuracy.mean < found.base for trial in found.tried)
                else ""
            )
        )
    why = (
        "this population is synthetic"
        if found.population == "synthetic"
        else "this population was declared public"
    )
    return (
        "Chosen by what only a simulation sees: held-out phones, whom no real server could judge "
        f"by. That is allowed because {why}; tuning cost no privacy, and on a private population "
        "it would."
    )


def _limit(found: Tuning) -> str:
    return f"{100 * found.within:g} point{'' if found.within == 0.01 else 's'}"


def interval(found: Spread) -> str:
    """A share with its interval."""
    return f"{phrasing.percent(found.mean)} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _difference(found: Spread) -> str:
    low, high = phrasing.points(found.low), phrasing.points(found.high)
    return f"{phrasing.points(found.mean)} points [{low}, {high}]"
