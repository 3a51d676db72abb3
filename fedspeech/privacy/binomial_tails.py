"""What the accountant's argument leaves out, priced as probability instead of divergence.

The argument holds outside a few events: a phone's participation limit runs out, one phone's
presence lifts a round over a minimum, a sampler misses its ideal. If their total probability is B,
delta grows by e^epsilon * B (moving between the two worlds multiplies a probability by e^epsilon),
never by B alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.special
from numpy.typing import NDArray

# Bad events may cost at most this share of delta, or no add/remove epsilon is stated.
SHARE_OF_DELTA = 0.1


def max_participations_failure(rounds: int, probability: float, max_participations: int) -> float:
    """Returns P[Bin(rounds, probability) > max_participations]: a phone would come, but may not."""
    if rounds <= max_participations:
        return 0.0
    return float(
        scipy.special.betainc(max_participations + 1, rounds - max_participations, probability)
    )


def minimum_failure(
    *,
    population: int,
    probability: float,
    colluders: int,
    minimums: Sequence[tuple[int, float]],
    availability: float = 1.0,
) -> float:
    """Returns the probability that one phone's presence lifts one round over a minimum.

    It does when exactly minimum - 1 others stand there. Colluders may or may not join, and those
    who joined may or may not answer, so at each minimum the worst number of them counts: max over j
    of P[honest others = minimum - 1 - j]. Minimums add up, and the whole is multiplied by the
    probability that the phone comes. Where everybody who stands at one minimum stands at the other,
    and nobody may keep silent, only the higher one counts.

    Who is not there when a round begins stands at no minimum. The fewer are there, the nearer the
    minimums, so the smallest share counts for all rounds. Phones that are there more or less often
    make a sum of unequal coins, whose probability of exactly minimum - 1 has no simple bound: the
    whole tail counts. The phone itself and colluders may always be there, and answer, which leaves
    so much less of the share to the others.

    Args:
      population: phones, this one included.
      probability: of taking part.
      colluders: corrupt phones that may join.
      minimums: number of phones and the share of those who take part that stand there, each phone
        for itself.
      availability: smallest share of the population that is there, each phone for itself.
    """
    honest_others = population - 1 - colluders
    if availability < 1:
        tails = 0.0
        for minimum, share in minimums:
            others = max(0.0, population * availability * share - 1 - colluders)
            rate = probability * others / max(1, honest_others)
            tails += shortfall(honest_others, rate, minimum, alike=False)
        return min(1.0, probability * tails)
    if colluders == 0:
        highest: dict[float, int] = {}
        for minimum, share in minimums:
            highest[share] = max(minimum, highest.get(share, 0))
        minimums = [(minimum, share) for share, minimum in highest.items()]
    failing = 0.0
    for minimum, share in minimums:
        rate = probability * share
        counts = minimum - 1 - np.arange(colluders + 1)
        counts = counts[(counts >= 0) & (counts <= honest_others)]
        # Where all come for certain, the logarithm of the chance to stay away has no value.
        if rate == 1.0:
            failing += float((counts == honest_others).any())
        elif counts.size:
            failing += float(np.exp(_log_binomial_pmf(counts, honest_others, rate)).max())
    return min(1.0, probability * failing)


def shortfall(trials: int, probability: float, needed: int, *, alike: bool = True) -> float:
    """Returns P[Bin(trials, probability) < needed]: so many phones, votes or shares do not come.

    If the probability is not `alike` for all but on average, this is a bound: up to the mean the
    binomial's of the same mean (Hoeffding 1956, Theorem 5), beyond it 1.
    """
    if needed <= 0:
        return 0.0
    if trials < needed or not (alike or needed <= trials * probability):
        return 1.0
    # The incomplete beta function: a sum of terms would be as long as the minimum and give nine
    # digits fewer at a million phones.
    return float(scipy.special.betaincc(needed, trials - needed + 1, probability))


def _log_binomial_pmf(
    counts: NDArray[np.int64], trials: int, probability: float
) -> NDArray[np.float64]:
    """Logarithm of the binomial probabilities, 0 < probability < 1."""
    choose = [
        # Logarithms, because factorials leave the range of floats at 171.
        math.lgamma(trials + 1) - math.lgamma(int(k) + 1) - math.lgamma(trials - int(k) + 1)
        for k in counts
    ]
    result: NDArray[np.float64] = (
        np.array(choose)
        + counts * math.log(probability)
        + (trials - counts) * math.log1p(-probability)
    )
    return result
