"""One frozen plan owns every number that must agree: clip, encoding, noise, cohort, accounting.

Phone, server and ledger read the same object; its fingerprint travels in every message, so that
two sides with different plans stop instead of disagreeing silently. A phone recomputes every
derived number (bits, scale, noise) and takes none from the server.

    plan = PrivacyPlan(dimension=5140, clip_norm=0.1, noise_multiplier=3.0, population=3000,
                       participation_probability=0.1, rounds=40, quota=16, min_cohort=225,
                       min_survivors=225, delta=1 / 30_000, epsilon_budget=2.0)
    sent = plan.privatize(delta.vector, rotation_seed=rid, rounding=keys_r, noise=keys_n)
    found = plan.decode(ideal.partial_sum([sent, ...], plan.bits), rotation_seed=rid)
    print(found.mean, plan.guarantee(rounds=40).words())
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy import encoding, failure_probabilities, guarantee, plan_rules
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping, vector_noise_multiplier
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.events import (
    DiscreteGaussianSum,
    Gaussian,
    GivenParticipation,
    Joint,
    NonPrivate,
    RoundCost,
    SkellamSum,
)
from fedspeech.privacy.guarantee import Guarantee, Unit
from fedspeech.privacy.mechanisms import (
    DiscreteGaussian,
    IntegerDistribution,
    RoundedGaussian,
    Skellam,
)
from fedspeech.privacy.plan_rules import MAX_FLOOR, MIN_STDDEV
from fedspeech.privacy.ring_fit import RingFit, fit
from fedspeech.privacy.round_cost import Mechanism, Participation, round_cost
from fedspeech.secagg.costs import bytes_per_phone
from fedspeech.secagg.dropouts import share_gone, tolerated_share
from fedspeech.secagg.graph import COMPLETE_UP_TO, CORRECTNESS_BITS, SECURITY_BITS, Server
from fedspeech.secagg.protocol import SessionTerms
from fedspeech.seeds import Keystream

WRAP_WARNING = 0.85  # share of the ring's half
MAX_COHORT_STDDEVS = 6.0

_TRUST_IN_PROTOCOL: dict[Server, str] = {
    "lying": "the server, which may lie, does not hold the directory of identities",
    "curious": (
        "server and colluders keep the rules of the protocol and do not choose who drops out, and "
        "the server does not hold the directory of identities"
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What a sum says.

    Attributes:
      mean: delta over the fixed expected cohort, shape (d,), float64.
      share_within: noisy share of deltas within the clip norm; None without adaptive clipping.
      too_long: whether the sum, noise included, is longer than `PrivacyPlan.norm_bound`.
    """

    mean: NDArray[np.float64]
    share_within: float | None
    too_long: bool


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Everything that the privacy of a run depends on, checked once by `plan_rules.check`.

    All fields are plain values: `PrivacyPlan(**dataclasses.asdict(plan))` is the same plan.

    Attributes:
      mechanism: "distributed", "skellam" (each phone adds its share of integer noise), "central"
        (the server adds noise to the sum), "local" (each phone adds noise enough for itself) or
        "none" (the same path without noise; epsilon is infinite).
      dimension: coordinates of a delta, before padding.
      clip_norm: L2 bound C on a delta; of the first round if it adapts.
      noise_multiplier: stddev z over C: of the sum's noise with the fewest honest survivors, for
        "local" of one phone's noise; 0 for "none". Clip bits included.
      population: eligible phones.
      participation: "poisson" (each phone's own coin), "fixed_size" (a random cohort of always the
        same size) or "limited" (phones take turns; nobody counts on chance).
      participation_probability: of a phone in a round; times population and availability, the
        expected cohort.
      rounds: planned.
      quota: rounds a phone takes part in at most; the phone counts what it sent.
      quota_window: rounds after which a phone counts anew, for "limited"; None: never.
      cohort_cap: of more phones than these, so many are drawn, for "poisson"; None: no cap.
      min_cohort: floor on the roster; below it a round is abandoned, never drawn again.
      min_survivors: floor on those who answer; sizes the noise.
      colluders: corrupt phones of the population that may join a round, all of them.
      dropout_rate: share of a roster that never answers, each for itself and whatever its data.
      availability: smallest share of the population that is there when a round begins, for
        "poisson"; phones are there, and drop out, each for itself and whatever their data, some
        more often than others, and everybody may know which. Divisor and floors are sized by it;
        nothing is amplified by it: the coin alone is.
      delta: at most 1 / (10 population).
      epsilon_budget: limit on epsilon_release; infinite for "none".
      unit: what is protected as a whole.
      adaptive_clipping: how the clip norm moves; None: it stays.
      secure_aggregation: "masked": the protocol of `fedspeech.secagg`; "ideal": a plain modular sum
        that stands for it.
      server: whom the protocol withstands: a "lying" server, which breaks any rule and chooses who
        drops out once it has seen the graph, or a "curious" one, which keeps the rules and looks,
        as phones that collude with it do.
      ring_bits: width of the ring; None: the narrowest where rounding costs at most 1 %.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """

    mechanism: Mechanism = "distributed"
    dimension: int
    clip_norm: float
    noise_multiplier: float
    population: int
    participation: Participation = "poisson"
    participation_probability: float
    rounds: int
    quota: int
    quota_window: int | None = None
    cohort_cap: int | None = None
    min_cohort: int
    min_survivors: int
    colluders: int = 0
    dropout_rate: float = 0.0
    delta: float
    epsilon_budget: float
    unit: Unit = "user"
    adaptive_clipping: AdaptiveClipping | None = None
    secure_aggregation: Literal["masked", "ideal"] = "ideal"
    server: Server = "lying"
    availability: float = 1.0
    ring_bits: int | None = None

    def __post_init__(self) -> None:
        """Checks the rules; rebuilds what was read back as plain data."""
        adaptive: Any = self.adaptive_clipping
        if isinstance(adaptive, dict):
            object.__setattr__(self, "adaptive_clipping", AdaptiveClipping(**adaptive))
        plan_rules.check(self)

    # What follows from the fields.

    @property
    def padded_dimension(self) -> int:
        """Coordinates of the rotated delta: the next power of two."""
        return encoding.padded(self.dimension)

    @property
    def vector_length(self) -> int:
        """Coordinates that travel: the rotated delta and, if the clip norm adapts, its bit."""
        return self.padded_dimension + (self.adaptive_clipping is not None)

    @property
    def expected_cohort(self) -> float:
        """The fixed, public divisor of every sum, whoever replied."""
        return self.population * self.participation_probability * self.availability

    @property
    def max_cohort(self) -> int:
        """Most phones in a sum, all being there: six deviations above the mean, or the cap."""
        if self.participation != "poisson":
            return round(self.expected_cohort)
        everybody = self.population * self.participation_probability
        spread = math.sqrt(everybody * (1 - self.participation_probability))
        most = math.ceil(everybody + MAX_COHORT_STDDEVS * spread)
        return min(self.population, most, self.cohort_cap or most)

    @property
    def largest_floor(self) -> float:
        """Most that `min_cohort` may be."""
        return (MAX_FLOOR if self.participation == "poisson" else 1.0) * self.expected_cohort

    @property
    def window(self) -> int:
        """Rounds over which a phone counts towards its quota."""
        return self.quota_window or self.rounds

    @property
    def participations(self) -> int:
        """Rounds of the run in which a phone takes part at most."""
        return min(self.rounds, self.quota * math.ceil(self.rounds / self.window))

    @property
    def honest(self) -> int:
        """Noise shares that are certain to be in a sum: min_survivors - colluders."""
        return self.min_survivors - self.colluders

    @property
    def on_phones(self) -> bool:
        """Whether phones add the noise."""
        return self.mechanism in ("distributed", "skellam", "local")

    @property
    def central(self) -> bool:
        """Whether the server adds the noise."""
        return self.mechanism == "central"

    @property
    def noise_distribution(self) -> type[IntegerDistribution]:
        """Of the noise that phones add, a share each."""
        return Skellam if self.mechanism == "skellam" else DiscreteGaussian

    @functools.cached_property
    def ring(self) -> RingFit:
        """The ring that was chosen, or the smallest that rounds well, and its scale."""
        return fit(
            bits=self.ring_bits,
            dimension=self.padded_dimension,
            noise_multiplier=self.vector_noise_multiplier,
            max_cohort=self.max_cohort,
            honest=1 if self.mechanism == "local" else self.honest,
            added_once=self.central,
        )

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
        return self.ring.norm / self.clip_norm

    @functools.cached_property
    def norm_bound_squared(self) -> int:
        """Largest squared L2 norm of one phone's integers, after rounding."""
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
        """Noise of one phone, integer units: sized for the fewest honest survivors."""
        if not self.on_phones:
            return 0.0
        shares = 1 if self.mechanism == "local" else self.honest
        return self.vector_noise_multiplier * self.clip_norm * self.scale / math.sqrt(shares)

    @property
    def server_stddev(self) -> float:
        """Noise that the server adds, integer units, relative to the norm after rounding."""
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
    def event(self) -> GivenParticipation | NonPrivate:
        """One round to a phone that takes part, as data."""
        return self._event(self.honest)

    @functools.cached_property
    def cost(self) -> RoundCost:
        """One round to both adversaries, with its bad events."""
        limited = self.participation == "limited"
        return round_cost(
            mechanism=self.mechanism,
            participation=self.participation,
            given=self.event,
            alone=self._event(1),
            population=self.population,
            probability=1.0 if limited else self.participation_probability,
            cohort_cap=self.cohort_cap,
            quota=self.participations,
            planned=self.rounds,
            **failure_probabilities.totals(self),
        )

    def _event(
        self, shares: int
    ) -> DiscreteGaussianSum | SkellamSum | Joint | Gaussian | NonPrivate:
        """A sum with so many honest shares, to a phone that took part, under zero-out."""
        if self.mechanism == "none":
            return NonPrivate()
        if self.mechanism == "central":
            return Gaussian(noise_multiplier=self.noise_multiplier)
        kind = SkellamSum if self.mechanism == "skellam" else DiscreteGaussianSum
        vector = kind(
            sensitivity=self.sensitivity,
            stddev=self.stddev,
            shares=shares,
            dimension=self.padded_dimension,
        )
        if self.adaptive_clipping is None:
            return vector
        bit = kind(
            sensitivity=self.bit_scale / 2, stddev=self.bit_stddev, shares=shares, dimension=1
        )
        return Joint(parts=(vector, bit))

    def terms(self, rid: bytes, round_number: int) -> SessionTerms:
        """What phones and server of a masked session agree on, all of it from this plan.

        Args:
          rid: 16 bytes, of the session.
          round_number: from 0.
        """
        return SessionTerms(
            rid=rid,
            round=round_number,
            dimension=self.vector_length,
            bits=self.bits,
            min_cohort=self.min_cohort,
            min_survivors=self.min_survivors,
            colluders=self.colluders,
            dropped_share=self.dropout_tolerance,
            server=self.server,
        )

    @functools.cached_property
    def dropout_tolerance(self) -> float:
        """Share of a roster that the graph of a masked session is made to lose.

        Derived from the drop-outs that the plan expects, so that it is hardly ever exceeded on any
        roster that needs a graph. A sum under a lying server is then seldom abandoned. Under a
        curious server a ring that loses more may fall to pieces whose sums have less noise than
        the plan: the chance of that is one of the failures that `SECURITY_BITS` bounds.
        """
        bits = CORRECTNESS_BITS if self.server == "lying" else SECURITY_BITS["curious"]
        smallest = max(self.min_cohort, COMPLETE_UP_TO + 1)
        return tolerated_share(share_gone(self.dropout_rate), smallest, bits + 1)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all fields."""
        fields = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(fields.encode()).hexdigest()

    @property
    def trust(self) -> str:
        """Who must be honest, in one sentence."""
        noise = "the server adds the noise and shows nobody a sum without"
        if self.on_phones:
            against = (
                "against the server nobody; against readers " if self.mechanism == "local" else ""
            )
            noise = (
                f"{against}{self.honest:,} phones of every sum add their noise and tell nobody "
                f"({self.min_survivors:,} answers open it, {self.colluders:,} phones may collude)"
            )
        parts = [noise, self._trust_in_participation]
        if self.availability < 1:
            parts.append(
                f"at least {self.availability:.1%} of the population is there whenever a round "
                "begins, whatever its data"
            )
        if self.secure_aggregation == "masked":
            parts.append(_TRUST_IN_PROTOCOL[self.server])
        return "; ".join(parts) + "."

    @property
    def _trust_in_participation(self) -> str:
        """Who must keep secret who takes part."""
        if self.drawn_by_server:
            return "whom the server draws, no reader learns from it or from a phone"
        if self.participation == "limited":
            return "each phone counts its rounds"
        return "each phone keeps its coin secret"

    @property
    def drawn_by_server(self) -> bool:
        """Whether one party must know all who come before it can say who takes part."""
        return self.participation == "fixed_size" or self.cohort_cap is not None

    def admits(self, inputs_sent: int) -> bool:
        """Whether a phone that has sent so many inputs within its window may send one more.

        The phone asks, of its own count; an input counts whatever became of its round.
        """
        return inputs_sent < self.quota

    def accepts(self, clip_norm: float) -> bool:
        """Whether a phone may be asked to clip to this norm."""
        if self.adaptive_clipping is None:
            return clip_norm == self.clip_norm
        bounds = self.adaptive_clipping
        return bounds.min_clip_norm <= clip_norm <= bounds.max_clip_norm

    def bytes_per_phone(self, cohort: int | None) -> tuple[int, int]:
        """Bytes that one phone sends and receives in a round, without the transport's framing.

        Args:
          cohort: phones on the roster, which a masked session shows to each of them; None: nobody
            was asked.
        """
        if cohort is None:
            return 0, 0
        adapter = 4 * self.dimension
        if self.secure_aggregation == "ideal" or cohort < self.min_cohort:
            return self.vector_length * self.bits // 8, adapter
        graph = self.terms(bytes(16), 0).parameters(cohort)
        stages = bytes_per_phone(cohort, graph, self.vector_length, self.bits).values()
        return sum(up for up, _ in stages), adapter + sum(down for _, down in stages)

    # What phone and server do.

    def privatize(
        self,
        vector: NDArray[np.floating],
        *,
        rotation_seed: bytes,
        rounding: Keystream,
        noise: Keystream,
        clip_norm: float | None = None,
    ) -> NDArray[np.uint32]:
        """Clips, rotates, scales, rounds, adds this phone's noise and enters the ring.

        A delta with a coordinate that is not finite becomes zeros with full noise: whether a phone
        takes part must not depend on its data. The clip bit is the last coordinate, +-1/2 of
        `bit_scale`, neither rotated nor counted in the vector's norm.

        Args:
          vector: the delta, shape (dimension,).
          rotation_seed: public, the same for all phones of a round.
          rounding: secret, of this phone and attempt, used for nothing else.
          noise: secret, of this phone and attempt, used for nothing else.
          clip_norm: of the round; None: the plan's.

        Returns:
          Shape (vector_length,), values below 2^bits: safe to add, not to publish alone.

        Raises:
          ValueError: if the vector has another shape, or phones may not clip to this norm.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"expected a vector of shape ({self.dimension},), got {vector.shape}")
        clip_norm = self._checked(clip_norm)
        clip = L2Clip(clip_norm=clip_norm)
        rotated = encoding.rotate(clip(vector), rotation_seed)
        rotated *= self.scale * (self.clip_norm / clip_norm)
        integers = encoding.conditional_round(rotated, self.norm_bound_squared, rounding)
        if self.on_phones:
            integers += self.noise_distribution.of(self.stddev).draw(noise, len(integers))
        if self.adaptive_clipping is not None:
            bit = np.array([clip.within(vector) * (self.bit_scale // 2)], dtype=np.int64)
            if self.on_phones:
                bit += self.noise_distribution.of(self.bit_stddev).draw(noise, 1)
            integers = np.concatenate([integers, bit])
        return encoding.to_ring(integers, self.bits)

    def decode(
        self,
        total: NDArray[np.uint32],
        *,
        rotation_seed: bytes,
        clip_norm: float | None = None,
        noise: Keystream | None = None,
    ) -> Decoded:
        """Turns the ring's sum into the mean delta, dividing by the fixed expected cohort.

        Noise that the server adds enters the ring like any other, before anything is read from the
        sum. Added to an unwrapped sum it would hide nothing where the sum stands at the ring's
        edge: one phone more, and a coordinate jumps by the whole ring.

        Args:
          total: sum mod 2^bits, shape (vector_length,).
          rotation_seed: of the round.
          clip_norm: of the round; None: the plan's.
          noise: secret, of this round; for "central", where the server adds the noise here.

        Raises:
          ValueError: if the sum has another shape or leaves the ring, or noise is missing.
        """
        if self.central:
            if noise is None:
                raise ValueError('mechanism "central" adds noise to the sum: none was given')
            total = self._with_server_noise(total, noise)
        integers = self._centred(total)
        padded = self.padded_dimension
        scale = self.scale * (self.clip_norm / self._checked(clip_norm))
        vector = integers[:padded].astype(np.float64) / scale
        summed = encoding.unrotate(vector, rotation_seed, self.dimension)
        share = None
        if self.adaptive_clipping is not None:
            share = 0.5 + float(integers[padded]) / (self.bit_scale * self.expected_cohort)
        return Decoded(
            mean=summed / self.expected_cohort,
            share_within=share,
            too_long=self.norm_warning(total),
        )

    def noise_norm(self, survivors: int, clip_norm: float | None = None) -> float:
        """Expected L2 norm of the noise in a decoded mean of so many survivors."""
        variance = survivors * self.stddev**2 + self.server_stddev**2
        scale = self.scale * (self.clip_norm / self._checked(clip_norm))
        return math.sqrt(variance * self.dimension) / scale / self.expected_cohort

    def wrap_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether a coordinate is so large that some may have wrapped; hurts accuracy only."""
        return bool(np.abs(self._centred(total)).max() > WRAP_WARNING * self.modulus / 2)

    @property
    def norm_bound(self) -> float:
        """What the L2 norm of an honest cohort's sum stays under, in clip norms.

        (max_cohort sensitivity + stddev (sqrt(d) + 6)) over the scaled clip norm, stddev that of
        the sum's noise. A weak test: many attackers within their clip norm pass it.
        """
        count = self.max_cohort
        stddev = math.hypot(self.stddev * math.sqrt(count), self.server_stddev)
        noise = stddev * (math.sqrt(self.padded_dimension) + 6)
        return (count * self.sensitivity + noise) / (self.scale * self.clip_norm)

    def norm_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether the sum is longer than `norm_bound`: somebody sent what no honest phone sends."""
        vector = self._centred(total)[: self.padded_dimension].astype(np.float64)
        norm = math.sqrt(float(np.add.reduce(vector**2)))
        return norm / (self.scale * self.clip_norm) > self.norm_bound

    def guarantee(self, rounds: int) -> Guarantee:
        """Prices `rounds` rounds, counting every one that sent anything, failed ones included.

        Raises:
          ValueError: if rounds is negative.
        """
        return guarantee.price(
            [(self.cost, rounds)],
            delta=self.delta,
            unit=self.unit,
            trust=self.trust,
            mechanism=self.mechanism,
            secure_aggregation=self.secure_aggregation,
            server=self.server,
        )

    # Behind the properties.

    @property
    def _bit_noise(self) -> float:
        """Stddev of the noise on the sum of clip bits."""
        share = 0.0 if self.adaptive_clipping is None else self.adaptive_clipping.bit_noise
        return share * self.expected_cohort

    def _checked(self, clip_norm: float | None) -> float:
        """The clip norm of a round, or a refusal."""
        if clip_norm is None:
            return self.clip_norm
        if not self.accepts(clip_norm):
            raise ValueError(f"the plan does not clip to clip_norm={clip_norm}")
        return clip_norm

    def _with_server_noise(self, total: NDArray[np.uint32], noise: Keystream) -> NDArray[np.uint32]:
        """Adds the server's noise, mod 2^bits: as if each integer had been noised before."""
        drawn = [RoundedGaussian.of(self.server_stddev).draw(noise, self.padded_dimension)]
        if self.adaptive_clipping is not None:
            drawn.append(RoundedGaussian.of(self.server_bit_stddev).draw(noise, 1))
        return encoding.to_ring(self._centred(total) + np.concatenate(drawn), self.bits)

    def _centred(self, total: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Checks a sum and unwraps it around zero."""
        if total.shape != (self.vector_length,) or total.dtype != np.uint32:
            raise ValueError(
                f"expected uint32 of shape ({self.vector_length},), got {total.dtype} of shape "
                f"{total.shape}"
            )
        if int(total.max()) >= self.modulus:
            raise ValueError(f"a sum must be below the modulus {self.modulus}, got {total.max()}")
        return encoding.from_ring(total, self.bits)
