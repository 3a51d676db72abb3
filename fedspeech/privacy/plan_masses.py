"""What can go wrong in one round of a `PrivacyPlan`, as probabilities."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from fedspeech.privacy import bad_events
from fedspeech.privacy.mechanisms import RoundedGaussian
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.graph import COMPLETE_UP_TO, SECURITY_BITS
from fedspeech.secagg.protocol import MAX_SESSIONS, Stage

if TYPE_CHECKING:
    from fedspeech.privacy.plan import PrivacyPlan


def masses(plan: PrivacyPlan) -> dict[str, float]:
    """Returns the masses of a round's bad events, as `RoundCost` names them."""
    return {
        "floor_mass": _floor_mass(plan),
        "cap_mass": _cap_mass(plan),
        "tail_mass": _tail_mass(plan),
        "graph_mass": _graph_mass(plan),
    }


def _tail_mass(plan: PrivacyPlan) -> float:
    """Distance, in one round, of all samplers from their ideals."""
    if plan.mechanism == "none":
        return 0.0
    if plan.central:
        draws, vector, bit = 1, plan.server_stddev, plan.server_bit_stddev
        bound = RoundedGaussian.total_variation_bound
    else:
        draws, vector, bit = plan.population, plan.stddev, plan.bit_stddev
        bound = plan.law.total_variation_bound
    of_bit = bound(bit) if plan.adaptive_clipping is not None else 0.0
    return draws * (plan.padded_dimension * bound(vector) + of_bit)


def _cap_mass(plan: PrivacyPlan) -> float:
    """Probability that the cap is reached, where noise on phones depends on who comes."""
    if plan.cohort_cap is None or not plan.on_phones:
        return 0.0
    probability = plan.participation_probability
    return bad_events.quota_mass(plan.population, probability, plan.cohort_cap - 1)


def _floor_mass(plan: PrivacyPlan) -> float:
    """Probability that one phone's presence decides whether a round opens.

    Floors: on the roster; on those who send, and under the protocol on those who shared. (A
    colluder who silences one phone's shares knows that it is there: it is a member of the cohort,
    against whom the release promises nothing.) In a cohort of fixed size the phone that stands in
    the place of another decides as much.
    """
    if plan.participation == "fixed_size":
        return 0.0

    floors = [
        (plan.min_cohort, share_answering(plan.dropout_rate, Stage.ADVERTISE)),
        (plan.min_survivors, share_answering(plan.dropout_rate, Stage.MASK)),
    ]
    unopened = 0.0
    if plan.secure_aggregation == "masked":
        floors.append((plan.min_survivors, share_answering(plan.dropout_rate, Stage.SHARE)))
        unopened = _unopened_mass(plan)
    candidates, probability = _coming(plan)
    floor_mass = bad_events.floor_mass(
        population=candidates,
        probability=probability,
        colluders=min(plan.colluders, candidates - 1),
        floors=floors,
        availability=plan.availability,
    )
    return min(1.0, floor_mass + unopened)


def _unopened_mass(plan: PrivacyPlan) -> float:
    """Probability that a masked round above its floors fails for want of answers at its end.

    Without a quorum of signatures, or without a threshold of shares for one phone, there is no sum.
    Both are rare in themselves, so all of that counts and not only what one phone decides. All
    colluders may have joined and keep silent; some of them, at random, are a phone's neighbours.
    Smaller rosters fail more often and come less often: the sizes are taken in steps, each at its
    lower edge.
    """
    from scipy.stats import hypergeom  # here because it takes most of a second

    reached = share_answering(plan.dropout_rate, Stage.ADVERTISE)
    signing = share_answering(plan.dropout_rate, Stage.AGREE) / reached
    unmasking = share_answering(plan.dropout_rate, Stage.UNMASK) / reached
    candidates, probability = _coming(plan)
    coming = probability * plan.availability * reached
    shortfall = functools.partial(bad_events.shortfall, alike=plan.availability == 1)
    edges = np.unique(np.linspace(plan.min_cohort, plan.max_cohort + 1, 17).astype(int))
    terms, mass = plan.terms(bytes(16), 0), 0.0
    for low, high in zip(edges.tolist(), edges[1:].tolist(), strict=False):
        graph = terms.parameters(low)
        votes = shortfall(low - 1 - plan.colluders, signing, terms.quorum(low))
        silent = np.arange(min(plan.colluders, graph.neighbours) + 1)
        chances = hypergeom.pmf(silent, low - 1, min(plan.colluders, low - 1), graph.neighbours)
        shares = sum(
            chance * shortfall(graph.neighbours - count, unmasking, graph.threshold)
            for count, chance in zip(silent.tolist(), chances.tolist(), strict=True)
        )
        mass += min(1.0, votes + high * shares) * shortfall(candidates, coming, high)
    return mass


def _graph_mass(plan: PrivacyPlan) -> float:
    """Probability that no graph of a round protects: each start of it draws one."""
    if plan.secure_aggregation != "masked" or plan.max_cohort <= COMPLETE_UP_TO:
        return 0.0
    return float(MAX_SESSIONS * 2.0 ** -SECURITY_BITS[plan.server])


def _coming(plan: PrivacyPlan) -> tuple[int, float]:
    """Phones that may stand on a roster, and the chance of each; where phones take turns, one."""
    if plan.participation == "limited":
        return round(plan.expected_cohort), 1.0
    return plan.population, plan.participation_probability
