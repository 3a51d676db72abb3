"""A clip norm that follows a quantile of the deltas' norms, learned from one noisy bit per phone.

Andrew, Thakkar, McMahan, Ramaswamy 2021 (arXiv:1905.03871). Each phone says whether its delta's
norm is within the clip norm; the sum of these bits is noised like the vector, and the clip norm
moves by a factor towards the target. A round is encoded with the norm that it was announced with,
and scale times clip norm stays fixed, so that integers, ring and noise are the same in every round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from fedspeech.errors import require
from fedspeech.limits import Fraction, check_limits


@dataclass(frozen=True, kw_only=True)
class AdaptiveClipping:
    """How the clip norm moves.

    Attributes:
      target_quantile: share of deltas whose norm should be within the clip norm.
      learning_rate: eta of the geometric update.
      bit_noise: stddev of the noise on the sum of bits, over the expected cohort.
      min_clip_norm: the clip norm never falls below it.
      max_clip_norm: nor rises above it; phones refuse more.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """

    target_quantile: Fraction
    # Both as the paper recommends: eta 0.2, and noise of a twentieth of the cohort on the bits.
    learning_rate: Annotated[float, Gt(0), Le(10)] = 0.2
    bit_noise: Annotated[float, Gt(0), Le(10)] = 0.05
    min_clip_norm: float
    max_clip_norm: float

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)
        require(
            0 < self.min_clip_norm < self.max_clip_norm < math.inf,
            "expected 0 < min_clip_norm < max_clip_norm",
            min_clip_norm=self.min_clip_norm,
            max_clip_norm=self.max_clip_norm,
        )

    def updated(self, clip_norm: float, share_within: float) -> float:
        """The next round's clip norm: C exp(-eta (b - gamma)), within its bounds.

        Noise may take b, the share of deltas within this round's, out of [0, 1].
        """
        moved = clip_norm * math.exp(-self.learning_rate * (share_within - self.target_quantile))
        return min(self.max_clip_norm, max(self.min_clip_norm, moved))


def vector_noise_multiplier(noise_multiplier: float, bit_stddev: float) -> float:
    """What is left for the vector when the bit takes its part: (z^-2 - (2 sigma_b)^-2)^(-1/2).

    Andrew et al. 2021, Theorem 1, for z of both together and noise of stddev sigma_b on the sum of
    bits. A bit is +-1/2, so that one phone moves the sum by 1/2 and its multiplier is 2 sigma_b.

    Raises:
      ValueError: if the bit alone would cost more than z allows.
    """
    if noise_multiplier >= 2 * bit_stddev:
        raise ValueError(
            f"noise_multiplier={noise_multiplier} must be below twice the stddev of the noise on "
            f"the clip bits, {2 * bit_stddev:.4g}: raise bit_noise or the expected cohort"
        )
    return float((noise_multiplier**-2 - (2 * bit_stddev) ** -2) ** -0.5)
