"""What an epsilon allows of an attack on membership, and when an attack has shown more.

(epsilon, delta) differential privacy of a user bounds every attack that decides between "took part"
and "did not": true positives <= e^epsilon false positives + delta, and the same of both negatives
(Kairouz, Oh, Viswanath 2015, arXiv:1311.0776, Theorem 2.1). An attack above that line disproves the
claim; how surely is what `check` works out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.lower_bounds import LowerBound, one_run
from fedspeech.errors import require


def most_true_positives(rate: float, *, epsilon: float, delta: float) -> float:
    """The largest true positive rate that a claim allows at a false positive rate.

    Raises:
      ValueError: if a number is out of range.
    """
    require(0 <= rate <= 1, "rate must be in [0, 1]", rate=rate)
    require(epsilon >= 0, "epsilon must not be negative", epsilon=epsilon)
    require(0 <= delta <= 1, "delta must be in [0, 1]", delta=delta)
    if math.isinf(epsilon):
        return 1.0
    factor = math.exp(min(epsilon, 700.0))
    return min(1.0, factor * rate + delta, 1 - (1 - delta - rate) / factor)


@dataclass(frozen=True, kw_only=True)
class ClaimCheck:
    """A claim beside what an attack on membership has shown.

    Attributes:
      claimed: epsilon of the claim.
      delta: of the claim.
      bound: what the attack proves of epsilon.
    """

    claimed: float
    delta: float
    bound: LowerBound

    @property
    def broken(self) -> bool:
        """Whether the claim is disproven."""
        return self.bound.epsilon > self.claimed

    @property
    def says(self) -> str:
        """One sentence for a table or a log."""
        shown = f"epsilon is at least {self.bound.epsilon:.3f}"
        if self.broken:
            return (
                f"CLAIM VIOLATED: {shown} ({self.bound.confidence:.4g} confidence), and "
                f"{self.claimed:.3f} is claimed: {self.bound.says}"
            )
        return f"{shown}, {self.claimed:.3f} is claimed: not contradicted, and not proven"


def check(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    claimed: float,
    delta: float,
    confidence: float = 0.99,
) -> ClaimCheck:
    """Holds scores of candidates of one run, or of several, against the claimed epsilon.

    Candidates of one run are attacked through the same releases, so their hits are not independent
    and no count of true positives has a binomial interval. Their coins are independent, which is
    what Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846, Theorem 5.2) ask for.

    Args:
      scores: of every candidate, higher where it looks like a member, shape (candidates,).
      included: whether it was one, each by a fair coin of its own, same shape.
      claimed: epsilon; infinite where nothing is claimed.
      delta: of the claim.
      confidence: of the bound.

    Raises:
      ValueError: if shapes or numbers are out of range; see `one_run`.
    """
    bound = one_run(scores, included, delta=delta, confidence=confidence)
    return ClaimCheck(claimed=claimed, delta=delta, bound=bound)
