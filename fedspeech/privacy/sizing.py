"""What follows from the fields of a plan: minimums, ring and scale, the noise of each phone.

Sizes of the ring are in units of the scaled clip norm, so the clip norm itself drops out of them. A
phone computes every number here from the fields, and takes none from the server.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from fedspeech.privacy import encoding, whole_counts
from fedspeech.privacy.adaptive_clipping import vector_noise_multiplier
from fedspeech.privacy.config import PlanConfig
from fedspeech.privacy.factorization import most_participations
from fedspeech.privacy.mechanisms import DiscreteGaussian, IntegerDistribution, Skellam
from fedspeech.secagg.costs import bytes_per_phone
from fedspeech.secagg.dropouts import share_gone, tolerated_share
from fedspeech.secagg.graph import COMPLETE_UP_TO, CORRECTNESS_BITS, SECURITY_BITS
from fedspeech.secagg.protocol import SessionTerms

MAX_MINIMUM = 0.75  # of the expected cohort
# At 2 `accountant.tau` is 7e-17 a coordinate; at 1.5 it is 2e-9, and at 1 it is 5e-4 and more.
MIN_STDDEV = 2.0  # of one share, below which sums of shares are no discrete Gaussian
MAX_COHORT_STDDEVS = 6.0
RING_BITS = (16, 24, 32)
MAX_ROUNDING_COST = 1.01  # rounded over exact sensitivity
# A normal coordinate goes so far with probability 8e-11.
WRAP_STDDEVS = 6.5  # a coordinate of the sum wraps beyond this many of its standard deviations


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A ring and the scale that fits it.

    Attributes:
      bits: width.
      norm: clip norm times scale: L2 norm of one phone's vector before rounding.
      sensitivity: L2 norm of one phone's integers, after rounding.
    """

    bits: int
    norm: float
    sensitivity: float


@dataclass(frozen=True, kw_only=True)
class PlanSizing(PlanConfig):
    """A plan's fields and the numbers that they determine."""

    @property
    def padded_dimension(self) -> int:
        """Coordinates of the rotated delta, the next power of two; whole ones are not rotated."""
        return self.dimension if self.whole else encoding.padded(self.dimension)

    @property
    def vector_length(self) -> int:
        """Coordinates that travel: the rotated delta and, if the clip norm adapts, its bit."""
        return self.padded_dimension + (self.adaptive_clipping is not None)

    @property
    def expected_cohort(self) -> float:
        """Phones that are expected in a round, of all groups."""
        return self.population * self.participation_probability * self.availability

    @property
    def expected_in_sum(self) -> float:
        """The fixed, public divisor of every sum, whoever replied."""
        return self.expected_cohort / self.groups

    @property
    def candidates(self) -> int:
        """Phones of which a sum may be taken: the population, or the fewest dealt to a group."""
        return self.population // self.groups

    @property
    def max_cohort(self) -> int:
        """Most phones in a sum, all being there: six deviations above the mean, or the cap."""
        if self.participation != "poisson":
            return round(self.expected_in_sum)
        dealt = math.ceil(self.population / self.groups)
        everybody = dealt * self.participation_probability
        spread = math.sqrt(everybody * (1 - self.participation_probability))
        most = math.ceil(everybody + MAX_COHORT_STDDEVS * spread)
        return min(dealt, most, self.cohort_cap or most)

    @property
    def largest_minimum(self) -> float:
        """Most that `min_cohort` may be."""
        return (MAX_MINIMUM if self.participation == "poisson" else 1.0) * self.expected_in_sum

    @property
    def window(self) -> int:
        """Rounds over which a phone counts towards its participation limit."""
        return self.participation_window or self.rounds

    @property
    def participations(self) -> int:
        """Rounds of the run in which a phone takes part at most."""
        most = min(self.rounds, self.max_participations * math.ceil(self.rounds / self.window))
        if self.factorization is None:
            return most
        return most_participations(self.rounds, self.factorization.min_separation, most)

    @property
    def honest(self) -> int:
        """Noise shares that are certain to be in a sum: min_reporting - colluders."""
        return self.min_reporting - self.colluders

    @property
    def on_phones(self) -> bool:
        """Whether phones add the noise."""
        return self.mechanism in ("distributed", "skellam", "local")

    @property
    def central(self) -> bool:
        """Whether the server adds the noise."""
        return self.mechanism in ("central", "matrix_factorization")

    @functools.cached_property
    def noise_gain(self) -> float:
        """Stddev of the server's noise on a sum, at most, over that of what it draws afresh."""
        return 1.0 if self.factorization is None else self.factorization.gain(self.rounds)

    @property
    def drawn_by_server(self) -> bool:
        """Whether one party must know all who come before it can say who takes part."""
        return self.participation == "fixed_size" or self.cohort_cap is not None

    @property
    def noise_distribution(self) -> type[IntegerDistribution]:
        """Of the noise that phones add, a share each."""
        return Skellam if self.mechanism == "skellam" else DiscreteGaussian

    @functools.cached_property
    def ring(self) -> Ring:
        """The ring that was chosen, or the smallest where rounding costs at most 1 %.

        Raises:
          ValueError: if no ring is wide enough.
        """
        chosen, dimension = self.ring_bits, self.padded_dimension
        for width in RING_BITS if chosen is None else (chosen,):
            if self.whole:
                scale = self._whole_scale(width)
                if scale < 1 or (chosen is None and not self._fine(scale)):
                    continue
                sensitivity = scale * math.sqrt(whole_counts.squared_bound(self.clip_norm))
                return Ring(bits=width, norm=scale * self.clip_norm, sensitivity=sensitivity)
            norm = self._scaled_norm(width)
            if norm <= 0:
                continue
            sensitivity = math.sqrt(encoding.rounded_norm_bound(norm, dimension))
            # Shorter than before rounding: too coarse a grid to send anything but zeros.
            if chosen is None and not norm <= sensitivity <= MAX_ROUNDING_COST * norm:
                continue
            return Ring(bits=width, norm=norm, sensitivity=sensitivity)
        raise ValueError(
            f"no ring of {'up to ' if chosen is None else ''}{chosen or RING_BITS[-1]} bits holds "
            f"a sum of {self.max_cohort} vectors of dimension {dimension}"
        )

    def _scaled_norm(self, bits: int) -> float:
        """Clip norm times the largest scale that the ring, int64 and the sampler's table allow.

        A sum rarely wraps: 6.5 sqrt(Var) <= 2^(bits-1) with Var = scale^2 (n^2 C^2 / d + z^2 C^2 n
        / honest) + n / 4 and n = max_cohort. A wrap costs accuracy, never privacy. 0 if no scale
        does.
        """
        n, d = self.max_cohort, self.padded_dimension
        z = self.vector_noise_multiplier * self.noise_gain
        shares = 1 if self.mechanism == "local" else self.honest
        # The server adds all of its noise in one draw, however many came.
        honest, drawn = (n, 1) if self.central else (shares, shares)
        # Rounding a coordinate at random adds a variance of at most 1/4 for each phone.
        room = (2 ** (bits - 1) / WRAP_STDDEVS) ** 2 - n / 4
        if room <= 0:
            return 0.0
        norm = math.sqrt(room / (n**2 / d + z**2 * n / honest))
        # Rounding lengthens a vector by less than sqrt(d), so squared norms stay below 2^61, within
        # int64.
        norm = min(norm, 2.0**30.5 - math.sqrt(d))
        if z > 0:
            # Beyond this only the sampler's table grows: the stddev of a draw is 1024, or rounding
            # costs under 1e-4, as it does from 35 sqrt(d) on.
            norm = min(norm, max(35 * math.sqrt(d), 1024 * math.sqrt(drawn) / z))
        return float(norm)

    def _whole_scale(self, bits: int) -> int:
        """Largest scale at which the counts of all phones in one cell and the noise do not wrap."""
        n, z = self.max_cohort, self.noise_multiplier
        shares = 1 if self.mechanism == "local" else self.honest
        noise = z if self.central else z * math.sqrt(n / shares)
        room = 2.0 ** (bits - 1) - 1
        scale = whole_counts.largest_scale(room, self.clip_norm, n, WRAP_STDDEVS * noise)
        if z > 0:  # beyond a stddev of 1024 a draw only the sampler's table grows
            drawn = 1 if self.central else shares
            scale = min(scale, max(1, int(1024 * math.sqrt(drawn) / (z * self.clip_norm))))
        return scale

    def _fine(self, scale: int) -> bool:
        """Whether the grid is so fine that its noise is as good as that of real numbers."""
        if self.mechanism == "none":
            return True
        drawn = 1 if self.central or self.mechanism == "local" else self.honest
        # The server's noise is rounded, which adds a variance of 1/12.
        least = 2 * MIN_STDDEV if self.central else MIN_STDDEV
        return self.noise_multiplier * self.clip_norm * scale / math.sqrt(drawn) >= least

    @property
    def bits(self) -> int:
        """Width of the ring."""
        return self.ring.bits

    @property
    def modulus(self) -> int:
        """Size of the ring, 2^bits."""
        return 1 << self.bits

    @property
    def scale(self) -> float:
        """Integers per unit of delta at `clip_norm`, whatever the cohort that came."""
        scale = self.ring.norm / self.clip_norm
        return float(round(scale)) if self.whole else scale

    @functools.cached_property
    def norm_bound_squared(self) -> int:
        """Largest squared L2 norm of one phone's integers, after rounding."""
        if self.whole:
            return round(self.scale) ** 2 * whole_counts.squared_bound(self.clip_norm)
        return encoding.rounded_norm_bound(self.clip_norm * self.scale, self.padded_dimension)

    @property
    def sensitivity(self) -> float:
        """L2 norm of one phone's integers, after rounding."""
        return math.sqrt(self.norm_bound_squared)

    @functools.cached_property
    def vector_noise_multiplier(self) -> float:
        """Of the vector, without the clip bit's part."""
        if self.adaptive_clipping is None or self.mechanism == "none":
            return self.noise_multiplier
        return vector_noise_multiplier(self.noise_multiplier, self._bit_noise)

    @property
    def stddev(self) -> float:
        """Noise of one phone, integer units: sized for the fewest honest reporting phones."""
        if not self.on_phones:
            return 0.0
        shares = 1 if self.mechanism == "local" else self.honest
        return self.vector_noise_multiplier * self.clip_norm * self.scale / math.sqrt(shares)

    @property
    def server_stddev(self) -> float:
        """Noise that the server draws in a round, integer units, over the norm after rounding."""
        return self.vector_noise_multiplier * self.sensitivity if self.central else 0.0

    @functools.cached_property
    def bit_scale(self) -> int:
        """Twice the integer that stands for a clip bit; so large that its noise is wide enough."""
        if self.adaptive_clipping is None or not self.on_phones:
            return 2
        return 2 * math.ceil(MIN_STDDEV * math.sqrt(self.honest) / self._bit_noise)

    @property
    def bit_stddev(self) -> float:
        """Noise of one phone on its clip bit, integer units."""
        if not self.on_phones:
            return 0.0
        return self._bit_noise * self.bit_scale / math.sqrt(self.honest)

    @property
    def server_bit_stddev(self) -> float:
        """Noise that the server adds to the sum of clip bits, integer units."""
        return self._bit_noise * self.bit_scale if self.central else 0.0

    @property
    def norm_bound(self) -> float:
        """What the L2 norm of an honest cohort's sum stays under, in clip norms.

        A weak test: many attackers within their clip norm pass it.
        """
        count = self.max_cohort
        stddev = math.hypot(self.stddev * math.sqrt(count), self.server_stddev * self.noise_gain)
        # The norm of d normal numbers is sqrt(d) with deviations below 1: six of them are allowed.
        noise = stddev * (math.sqrt(self.padded_dimension) + 6)
        return (count * self.sensitivity + noise) / (self.scale * self.clip_norm)

    def terms(self, round_id: bytes, round_number: int) -> SessionTerms:
        """What phones and server of a masked session agree on, all of it from this plan."""
        return SessionTerms(
            round_id=round_id,
            round=round_number,
            dimension=self.vector_length,
            bits=self.bits,
            min_cohort=self.min_cohort,
            min_reporting=self.min_reporting,
            colluders=self.colluders,
            dropped_share=self.dropout_tolerance,
            threat_model=self.threat_model,
        )

    @functools.cached_property
    def dropout_tolerance(self) -> float:
        """Share of a cohort list that the graph of a masked session is made to lose.

        Derived from the drop-outs that the plan expects, so that it is hardly ever exceeded on any
        cohort list that needs a graph. A sum under a malicious server is then seldom abandoned.
        Under a semi-honest server a ring that loses more may fall to pieces whose sums have less
        noise than the plan: the chance of that is one of the failures that `SECURITY_BITS` bounds.
        """
        bits = (
            CORRECTNESS_BITS if self.threat_model == "malicious" else SECURITY_BITS["semi_honest"]
        )
        smallest = max(self.min_cohort, COMPLETE_UP_TO + 1)
        return tolerated_share(share_gone(self.dropout_rate), smallest, bits + 1)

    def bytes_per_phone(self, cohort: int | None) -> tuple[int, int]:
        """Bytes that one phone sends and receives in a round, without the transport's framing.

        A masked session shows the whole cohort to each of its phones; None: nobody was asked.
        """
        if cohort is None:
            return 0, 0
        adapter = 4 * self.dimension
        if self.secure_aggregation == "ideal" or cohort < self.min_cohort:
            return self.vector_length * self.bits // 8, adapter
        graph = self.terms(bytes(16), 0).parameters(cohort)
        stages = bytes_per_phone(cohort, graph, self.vector_length, self.bits).values()
        return sum(up for up, _ in stages), adapter + sum(down for _, down in stages)

    @property
    def _bit_noise(self) -> float:
        """Stddev of the noise on the sum of clip bits."""
        share = 0.0 if self.adaptive_clipping is None else self.adaptive_clipping.bit_noise
        return share * self.expected_cohort
