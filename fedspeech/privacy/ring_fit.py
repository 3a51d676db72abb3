"""How finely a ring of so many bits can hold a sum of vectors, and what rounding then costs.

The one rule behind the scale, for runs (`PrivacyPlan`) and for plans that are only being priced.
Everything is in units of the scaled clip norm, so the clip norm itself drops out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedspeech.privacy import encoding

RING_BITS = (16, 24, 32)
MAX_ROUNDING_COST = 1.01  # rounded over exact sensitivity
WRAP_STDDEVS = 6.5  # a coordinate of the sum wraps beyond this many of its standard deviations


@dataclass(frozen=True, kw_only=True)
class RingFit:
    """A ring and the scale that fits it.

    Attributes:
      bits: width.
      norm: clip norm times scale: L2 norm of one phone's vector before rounding.
      sensitivity: L2 norm of one phone's integers, after rounding.
      stddev: noise of one phone, integer units.
    """

    bits: int
    norm: float
    sensitivity: float
    stddev: float


def fit(
    *,
    bits: int | None,
    dimension: int,
    noise_multiplier: float,
    max_cohort: int,
    honest: int,
    added_once: bool = False,
) -> RingFit:
    """Fits the scale to a ring, or finds the smallest ring where rounding costs at most 1 %.

    Args:
      bits: width, or none to find it.
      dimension: padded coordinates.
      noise_multiplier: stddev of the sum's noise over the clip norm with `honest` shares.
      max_cohort: phones that may be in a sum.
      honest: shares that the noise is sized for.
      added_once: whether the sum gets all of its noise in one draw, however many came; `honest`
        then counts for nothing, and phones have no noise.

    Raises:
      ValueError: if no ring is wide enough.
    """
    for width in RING_BITS if bits is None else (bits,):
        norm = _scaled_norm(
            width,
            dimension=dimension,
            noise_multiplier=noise_multiplier,
            max_cohort=max_cohort,
            honest=max_cohort if added_once else honest,
            drawn=1 if added_once else honest,
        )
        if norm <= 0:
            continue
        sensitivity = math.sqrt(encoding.rounded_norm_bound(norm, dimension))
        # Shorter than before rounding: too coarse a grid to send anything but zeros.
        if bits is None and not norm <= sensitivity <= MAX_ROUNDING_COST * norm:
            continue
        return RingFit(
            bits=width,
            norm=norm,
            sensitivity=sensitivity,
            stddev=0.0 if added_once else noise_multiplier * norm / math.sqrt(honest),
        )
    raise ValueError(
        f"no ring of {'up to ' if bits is None else ''}{bits or RING_BITS[-1]} bits holds a sum of "
        f"{max_cohort} vectors of dimension {dimension}"
    )


def _scaled_norm(
    bits: int, *, dimension: int, noise_multiplier: float, max_cohort: int, honest: int, drawn: int
) -> float:
    """Clip norm times the largest scale that the ring, int64 and the sampler's table allow.

    A sum rarely wraps: 6.5 sqrt(Var) <= 2^(bits-1) with Var = scale^2 (n^2 C^2 / d + z^2 C^2 n /
    honest) + n / 4 and n = max_cohort. A wrap costs accuracy, never privacy. 0 if no scale does.

    Args:
      bits: width of the ring.
      dimension: padded coordinates d.
      noise_multiplier: z, stddev of the sum's noise over the clip norm with `honest` shares.
      max_cohort: phones that may be in a sum.
      honest: shares that the noise is sized for.
      drawn: shares that one draw of the sampler is one of.
    """
    n, d, z = max_cohort, dimension, noise_multiplier
    room = (2 ** (bits - 1) / WRAP_STDDEVS) ** 2 - n / 4
    if room <= 0:
        return 0.0
    norm = math.sqrt(room / (n**2 / d + z**2 * n / honest))
    norm = min(norm, 2.0**30.5 - math.sqrt(d))
    if z > 0:
        norm = min(norm, finest_norm(d, z, drawn))
    return float(norm)


def finest_norm(dimension: int, noise_multiplier: float, drawn: int) -> float:
    """Scaled clip norm beyond which only the sampler's table grows.

    The stddev of a draw is then 1024, or rounding costs under 1e-4, as it does from 35 sqrt(d) on.

    Args:
      dimension: padded coordinates d.
      noise_multiplier: z, positive.
      drawn: shares that one draw is one of.
    """
    return max(35 * math.sqrt(dimension), 1024 * math.sqrt(drawn) / noise_multiplier)
