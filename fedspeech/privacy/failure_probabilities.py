"""Every event of a round that may depend on a phone: one table, each with its probability.

The accountant's argument holds outside a few events: one phone decides whether a round opens, a cap
is reached, a sampler misses its ideal, a masking graph falls to pieces. `EVENTS` lists all that can
happen in a round of the real protocol, as `server`, `clients` and `fedspeech.secagg` run it: each
with a minimum or a probability that the price includes, or with the reason why it has none. A test
finds every exit of that code and the event that explains it.

    probabilities(plan)["the cohort list is below min_cohort"]
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedspeech.privacy import binomial_tails
from fedspeech.privacy.mechanisms import RoundedGaussian
from fedspeech.privacy.participation import PoissonParticipation
from fedspeech.privacy.sizing import PlanSizing
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.graph import COMPLETE_UP_TO, SECURITY_BITS
from fedspeech.secagg.protocol import MAX_SESSIONS, Stage

Minimum = tuple[int, float]
"""Phones that must stand there, and the share of those who come that do."""
Counted = Literal[
    "", "minimum_failure", "cap_failure", "sampler_failure", "graph_failure", "max_participations"
]


@dataclass(frozen=True, kw_only=True)
class RoundEvent:
    """Something that may happen in a round.

    Attributes:
      name: in words.
      counted: the field of `RoundCost` that its probability is part of; "" if it has none.
      minimum: of the round, which one phone may lift it over; it may give None under a plan.
      probability: of the event in one round.
      reason: why it has no probability of its own; "" if it has one.
    """

    name: str
    counted: Counted = ""
    minimum: Callable[[PlanSizing], Minimum | None] | None = None
    probability: Callable[[PlanSizing], float] | None = None
    reason: str = ""


def totals(plan: PlanSizing) -> dict[str, float]:
    """Returns the probabilities of a round's events, summed as `RoundCost` names them."""
    names = ("minimum_failure", "cap_failure", "sampler_failure", "graph_failure")
    found = dict.fromkeys(names, 0.0)
    for event in EVENTS:
        if event.probability is not None and event.counted in names:
            found[event.counted] += event.probability(plan)
    minimums = [event.minimum(plan) for event in EVENTS if event.minimum is not None]
    found["minimum_failure"] += _lifted(plan, [each for each in minimums if each is not None])
    return {name: min(1.0, probability) for name, probability in found.items()}


def probabilities(plan: PlanSizing) -> dict[str, float]:
    """Returns the probability in one round of each event that has one and can happen under a plan.

    A participation limit that runs out is one event of the whole run.
    """
    found = {}
    for event in EVENTS:
        if event.minimum is not None and (minimum := event.minimum(plan)) is not None:
            found[event.name] = _lifted(plan, [minimum])
        elif event.probability is not None:
            found[event.name] = event.probability(plan)
    return {name: probability for name, probability in found.items() if probability > 0}


# Minimums. Each is where a number of phones is compared with a number of the plan.


def _on_cohort_list(plan: PlanSizing) -> Minimum:
    return plan.min_cohort, share_answering(plan.dropout_rate, Stage.ADVERTISE)


def _on_next_cohort_list(plan: PlanSizing) -> Minimum | None:
    """A session restarts without those whose nonces stayed away; no graph, no nonces."""
    if not _draws_graphs(plan):
        return None
    return plan.min_cohort, share_answering(plan.dropout_rate, Stage.ACCEPT)


def _sharing(plan: PlanSizing) -> Minimum | None:
    if plan.secure_aggregation != "masked":
        return None
    return plan.min_reporting, share_answering(plan.dropout_rate, Stage.SHARE)


def _sending(plan: PlanSizing) -> Minimum:
    return plan.min_reporting, share_answering(plan.dropout_rate, Stage.MASK)


def _lifted(plan: PlanSizing, minimums: list[Minimum]) -> float:
    """Probability that one phone's presence lifts the round over one of some minimums.

    In a cohort of fixed size the phone that stands in the place of another decides as much.
    """
    if plan.participation == "fixed_size":
        return 0.0
    candidates, probability = _coming(plan)
    return binomial_tails.minimum_failure(
        population=candidates,
        probability=probability,
        colluders=min(plan.colluders, candidates - 1),
        minimums=minimums,
        availability=plan.availability,
    )


# Probabilities.


def _fails_with_or_without(plan: PlanSizing) -> float:
    """Probability that one phone comes, and that the round fails at its end with it or without it.

    Where the phone does not come, the two worlds are one. Who else comes is independent of its
    coin, and fewer phones fail more often, so both failures are bounded by `_unopened`.
    """
    return min(1.0, 2 * _coming(plan)[1] * _unopened(plan))


def _unopened(plan: PlanSizing) -> float:
    """Probability that a masked round above its minimums fails for want of answers at its end.

    Without a quorum of signatures, or without a threshold of shares for one phone, there is no sum.
    Both are rare in themselves, so all of that counts and not only what one phone decides. All
    colluders may have joined and keep silent; some of them, at random, are a phone's neighbors.
    Smaller cohort lists fail more often and come less often: sizes are taken in steps, each as
    likely as any cohort list below its upper edge. Of an odd and an even cohort list the one fails
    more often, so the two smallest of a step count; a cohort list that was formed after a restart
    is counted with all of the phones that vanished before it as if they were yet to vanish.
    """
    if plan.secure_aggregation != "masked" or plan.participation == "fixed_size":
        return 0.0
    candidates, probability = _coming(plan)
    coming = probability * plan.availability
    coming *= share_answering(plan.dropout_rate, _last_cohort_list(plan))
    edges = np.unique(np.linspace(plan.min_cohort, plan.max_cohort + 1, 17).astype(int))
    failing = 0.0
    for low, high in zip(edges.tolist(), edges[1:].tolist(), strict=False):
        fails = max(_fails(plan, size, high) for size in {low, min(low + 1, high - 1)})
        alike = plan.availability == 1
        failing += min(1.0, fails) * binomial_tails.shortfall(candidates, coming, high, alike=alike)
    return failing


def _fails(plan: PlanSizing, size: int, most: int) -> float:
    """Probability that a cohort of this size gets no quorum, or one of `most` phones no shares."""
    from scipy.stats import hypergeom  # here because it takes most of a second

    reached = share_answering(plan.dropout_rate, Stage.ADVERTISE)
    signing = share_answering(plan.dropout_rate, Stage.AGREE) / reached
    unmasking = share_answering(plan.dropout_rate, Stage.UNMASK) / reached
    # Where some phones may be away more often than others, their chances here differ as well.
    shortfall = functools.partial(binomial_tails.shortfall, alike=plan.availability == 1)
    terms = plan.terms(bytes(16), 0)
    graph = terms.parameters(size)
    votes = shortfall(size - 1 - plan.colluders, signing, terms.quorum(size))
    silent = np.arange(min(plan.colluders, graph.neighbors) + 1)
    colluders = min(plan.colluders, size - 1)
    chances = hypergeom.pmf(silent, size - 1, colluders, graph.neighbors)
    shares = sum(
        chance * shortfall(graph.neighbors - count, unmasking, graph.threshold)
        for count, chance in zip(silent.tolist(), chances.tolist(), strict=True)
    )
    return float(votes + most * shares)


def _capped(plan: PlanSizing) -> float:
    """Probability that the cap is reached, where noise on phones depends on who comes."""
    if plan.cohort_cap is None or not plan.on_phones:
        return 0.0
    probability = plan.participation_probability
    # From the cap on and not beyond it: where the cap is reached, one phone more puts another out.
    return binomial_tails.max_participations_failure(
        plan.population, probability, plan.cohort_cap - 1
    )


def _max_participations(plan: PlanSizing) -> float:
    """Probability, over the whole run, that a phone would come more often than it may."""
    if plan.participation == "round_robin":
        return 0.0
    probability = plan.participation_probability
    return binomial_tails.max_participations_failure(plan.rounds, probability, plan.participations)


def _sampled_otherwise(plan: PlanSizing) -> float:
    """Distance of all samplers from their ideals.

    Who takes part does not depend on noise. So, given who did, the distance is at most the number
    of draws times that of one draw, and over all cohorts the expected number counts: that of the
    phones that are expected if all are there, and the phone that is asked about. The server
    draws once for the sum of each group. Who takes part by a coin is drawn from a table as well.
    """
    if plan.mechanism == "none":
        return 0.0
    if plan.central:
        draws, vector, bit = float(plan.groups), plan.server_stddev, plan.server_bit_stddev
        bound = RoundedGaussian.total_variation_bound
    else:
        expected = plan.population * plan.participation_probability
        draws, vector, bit = expected + 1, plan.stddev, plan.bit_stddev
        bound = plan.noise_distribution.total_variation_bound
    of_bit = bound(bit) if plan.adaptive_clipping is not None else 0.0
    drawn = draws * (plan.padded_dimension * bound(vector) + of_bit)
    if plan.participation != "poisson":
        return drawn
    coins = PoissonParticipation(
        population=plan.population, probability=plan.participation_probability
    )
    return drawn + coins.total_variation


def _unprotected(plan: PlanSizing) -> float:
    """Probability that a graph of a round does not protect: each start of it draws one."""
    return MAX_SESSIONS * 2.0 ** -SECURITY_BITS[plan.threat_model] if _draws_graphs(plan) else 0.0


def _in_pieces(plan: PlanSizing) -> float:
    """Probability that more phones vanish than a ring is made for, which may leave it in pieces.

    The ring that loses no more is in pieces with a probability that `_unprotected` includes. Under
    a malicious server nothing opens where a ring is in pieces: the phone at the end of a piece
    lacks a threshold of shares (`fedspeech.secagg.graph`), whoever vanished and why.
    """
    if plan.threat_model == "malicious" or not _draws_graphs(plan):
        return 0.0
    return float(MAX_SESSIONS * 2.0 ** -(SECURITY_BITS[plan.threat_model] + 1))


def _draws_graphs(plan: PlanSizing) -> bool:
    """Whether a cohort list may be so long that its graph is drawn."""
    return plan.secure_aggregation == "masked" and plan.max_cohort > COMPLETE_UP_TO


def _last_cohort_list(plan: PlanSizing) -> Stage:
    """What a phone has answered that stands on the cohort list of the session that goes on."""
    return Stage.ACCEPT if _draws_graphs(plan) else Stage.ADVERTISE


def _coming(plan: PlanSizing) -> tuple[int, float]:
    """Phones that may be in a sum, and the chance of each; where phones take turns, one.

    A phone decides over the minimums of its own group alone, which is dealt before anybody comes.
    """
    if plan.participation == "round_robin":
        return round(plan.expected_in_sum), 1.0
    return plan.candidates, plan.participation_probability


# The table.

EVENTS: tuple[RoundEvent, ...] = (
    RoundEvent(
        name="a phone's participation limit runs out",
        counted="max_participations",
        probability=_max_participations,
    ),
    RoundEvent(name="the cap on the cohort is reached", counted="cap_failure", probability=_capped),
    RoundEvent(
        name="the cohort list is below min_cohort",
        counted="minimum_failure",
        minimum=_on_cohort_list,
    ),
    RoundEvent(
        name="the cohort list of a session that restarts is below min_cohort",
        counted="minimum_failure",
        minimum=_on_next_cohort_list,
    ),
    RoundEvent(name="fewer than min_reporting share", counted="minimum_failure", minimum=_sharing),
    RoundEvent(name="fewer than min_reporting send", counted="minimum_failure", minimum=_sending),
    RoundEvent(
        name="a masked round above its minimums lacks signatures or shares",
        counted="minimum_failure",
        probability=_fails_with_or_without,
    ),
    RoundEvent(
        name="samplers miss their ideals", counted="sampler_failure", probability=_sampled_otherwise
    ),
    RoundEvent(
        name="a masking graph does not protect", counted="graph_failure", probability=_unprotected
    ),
    RoundEvent(
        name="more phones vanish than a ring is made for",
        counted="graph_failure",
        probability=_in_pieces,
    ),
    RoundEvent(
        name="nonces stay away in every session of a round",
        reason="phones that vanish do so before the second cohort; after that only colluders keep "
        "nonces back, members of the cohort, who may do so whoever else came",
    ),
    RoundEvent(
        name="there is no graph for a cohort list",
        reason="there is one for the smallest cohort and for the largest that is expected, or the "
        "plan is refused; more phones never need a denser one than fits",
    ),
    RoundEvent(
        name="the sum is longer than honest phones can make it",
        reason="read from the sum with its noise, which the price of the release includes",
    ),
    RoundEvent(
        name="the budget is spent",
        reason="counts the rounds that were charged, and the minimums decide which are",
    ),
    RoundEvent(
        name="a node fails, or answers what does not parse",
        reason="a node fails, is silent or is late as a whole, and then nothing of the round "
        "opens; it does so whatever its phones hold (work is the same for all, a delta that is not "
        "finite is sent as zeros) and whichever of them came",
    ),
    RoundEvent(name="an exit is passed on", reason="carries another exit on, under another name"),
    RoundEvent(
        name="a message is not by the rules",
        reason="only who breaks the rules of the protocol is refused so: no honest phone or node "
        "is",
    ),
    RoundEvent(
        name="a run does not begin, or ends",
        reason="before the first round or after the last: no phone has said anything that depends "
        "on it",
    ),
)
