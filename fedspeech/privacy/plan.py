"""One frozen plan owns every number that must agree: clip, encoding, noise, cohort, accounting.

Phone, server and ledger read the same object; its fingerprint travels in every message, so that
two sides with different plans stop instead of disagreeing silently. A phone recomputes every
derived number (bits, scale, noise) and takes none from the server.

    plan = PrivacyPlan(dimension=5140, clip_norm=0.1, noise_multiplier=3.0, population=3000,
                       participation_probability=0.1, rounds=40, quota=16, min_cohort=225,
                       min_survivors=225, delta=1 / 30_000, epsilon_budget=2.0)
    sent = plan.privatize(delta.vector, rotation_seed=rid, rounding=keys_r, noise=keys_n)
    mean = plan.decode(ideal.partial_sum([sent, ...], plan.bits), rotation_seed=rid)
    print(plan.guarantee(rounds=40).words())
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy import bad_events, encoding, guarantee, mechanisms
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.events import (
    DiscreteGaussianSum,
    NonPrivate,
    PoissonSampled,
    RoundCost,
)
from fedspeech.privacy.guarantee import Guarantee, Unit
from fedspeech.privacy.ring_fit import MAX_ROUNDING_COST, RING_BITS, scaled_norm
from fedspeech.secagg.costs import bytes_per_phone
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.graph import COMPLETE_UP_TO, SECURITY_BITS, Server
from fedspeech.secagg.protocol import MAX_SESSIONS, SessionTerms, Stage
from fedspeech.seeds import Keystream

WRAP_WARNING = 0.85  # share of the ring's half
MIN_STDDEV = 2.0  # of one share, below which sums of shares are no discrete Gaussian
MAX_COHORT_STDDEVS = 6.0
MAX_FLOOR = 0.75  # of the expected cohort

_TRUST_IN_PROTOCOL: dict[Server, str] = {
    "lying": (
        " For the figure against the server, which may lie: the directory of phones' identities is "
        "not in its hands, and phones keep their keys to themselves."
    ),
    "curious": (
        " For the figure against the server: it keeps the rules of the protocol and does not "
        "choose who drops out, the directory of phones' identities is not in its hands, and phones "
        "keep their keys to themselves."
    ),
}


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Everything that the privacy of a run depends on, checked once.

    All fields are plain values: `PrivacyPlan(**dataclasses.asdict(plan))` is the same plan.

    Attributes:
      mechanism: "distributed" (each phone adds its share of discrete Gaussian noise) or "none"
        (the same path without noise: clipped, rounded, summed in the ring; epsilon is infinite).
      dimension: coordinates of a delta, before padding.
      clip_norm: L2 bound C on a delta.
      noise_multiplier: stddev z of the sum's noise over C with the fewest honest survivors; 0 for
        "none".
      population: eligible phones.
      participation_probability: q of each phone's own coin.
      rounds: planned.
      quota: rounds a phone takes part in at most; the phone counts what it sent.
      min_cohort: floor on the roster; below it a round is abandoned, never drawn again.
      min_survivors: floor on those who answer; sizes the noise.
      colluders: corrupt phones of the population that may join a round, all of them.
      dropout_rate: share of a roster that never answers, each for itself and whatever its data.
      delta: at most 1 / (10 population).
      epsilon_budget: limit on epsilon_release; infinite for "none".
      unit: what is protected as a whole.
      secure_aggregation: "masked": the protocol of `fedspeech.secagg`; "ideal": a plain modular sum
        that stands for it.
      server: whom the protocol withstands: a "lying" server, which breaks any rule and chooses who
        drops out once it has seen the graph, or a "curious" one, which keeps the rules and looks.
      dropout_tolerance: share of a roster that may vanish while a masked sum still opens.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """

    mechanism: Literal["distributed", "none"] = "distributed"
    dimension: int
    clip_norm: float
    noise_multiplier: float
    population: int
    participation_probability: float
    rounds: int
    quota: int
    min_cohort: int
    min_survivors: int
    colluders: int = 0
    dropout_rate: float = 0.0
    delta: float
    epsilon_budget: float
    unit: Unit = "user"
    secure_aggregation: Literal["masked", "ideal"] = "ideal"
    server: Server = "lying"
    dropout_tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Checks each value, then what depends on several."""
        self._check_values()
        self._check_noise()
        assert self.bits in RING_BITS  # raises by itself if no ring is wide enough
        if self.mechanism == "distributed" and self.stddev < MIN_STDDEV:
            raise ValueError(
                f"noise of one phone must have stddev >= {MIN_STDDEV:g} in integer units, got "
                f"{self.stddev:.3g}: raise noise_multiplier={self.noise_multiplier} or lower "
                f"min_survivors={self.min_survivors}"
            )
        self._check_protocol()

    def _check_values(self) -> None:
        """Checks one value at a time, and the order of the floors."""
        for name in ("dimension", "population", "rounds", "quota", "min_cohort", "min_survivors"):
            _require(
                _is_integer(getattr(self, name)) and getattr(self, name) >= 1,
                f"{name} must be a positive integer",
                **{name: getattr(self, name)},
            )
        _require(
            self.mechanism in ("distributed", "none"),
            'mechanism must be "distributed" or "none"',
            mechanism=self.mechanism,
        )
        _require(self.unit in ("user", "phone"), 'unit must be "user" or "phone"', unit=self.unit)
        _require(
            self.secure_aggregation in ("masked", "ideal"),
            'secure_aggregation must be "masked" or "ideal"',
            secure_aggregation=self.secure_aggregation,
        )
        _require(
            self.server in ("lying", "curious"),
            'server must be "lying" or "curious"',
            server=self.server,
        )
        L2Clip(clip_norm=self.clip_norm)
        _require(
            0 < self.participation_probability <= 1,
            "participation_probability must be in (0, 1]",
            participation_probability=self.participation_probability,
        )
        _require(
            0 <= self.dropout_rate < 1,
            "dropout_rate must be in [0, 1)",
            dropout_rate=self.dropout_rate,
        )
        _require(
            0 <= self.dropout_tolerance < 1,
            "dropout_tolerance must be in [0, 1)",
            dropout_tolerance=self.dropout_tolerance,
        )
        _require(
            self.min_survivors <= self.min_cohort <= self.population,
            "expected min_survivors <= min_cohort <= population",
            min_survivors=self.min_survivors,
            min_cohort=self.min_cohort,
            population=self.population,
        )
        _require(
            _is_integer(self.colluders) and 0 <= self.colluders < self.min_survivors,
            "colluders must be an integer in [0, min_survivors)",
            colluders=self.colluders,
            min_survivors=self.min_survivors,
        )
        _require(
            self.delta > 0 and self.delta * 10 * self.population <= 1 + 1e-9,
            "delta must be positive and at most 1 / (10 * population)",
            delta=self.delta,
            population=self.population,
        )
        _require(
            self.epsilon_budget > 0,
            "epsilon_budget must be positive",
            epsilon_budget=self.epsilon_budget,
        )

    def _check_protocol(self) -> None:
        """Checks that the masked protocol can work with the fewest phones that may come."""
        if self.secure_aggregation != "masked":
            return
        _require(
            self.min_survivors >= 2,
            "min_survivors must be at least 2 for a masked sum: a sum of one hides nothing",
            min_survivors=self.min_survivors,
        )
        left = self.min_cohort - int(self.dropout_tolerance * self.min_cohort)
        _require(
            2 * left > self.min_cohort + self.colluders,
            "after drop-outs, more than half of min_cohort and colluders must be left",
            min_cohort=self.min_cohort,
            dropout_tolerance=self.dropout_tolerance,
            colluders=self.colluders,
        )
        try:
            self.terms(bytes(16), 0).parameters(self.min_cohort)
        except ValueError as error:
            raise ValueError(f"min_cohort is too small for a masked sum: {error}") from None

    def _check_noise(self) -> None:
        """Checks that mechanism, noise, budget and floor fit together."""
        if self.mechanism == "none":
            _require(
                self.noise_multiplier == 0,
                'noise_multiplier must be 0 for mechanism "none"',
                noise_multiplier=self.noise_multiplier,
            )
            _require(
                math.isinf(self.epsilon_budget),
                'epsilon_budget must be infinite for mechanism "none": it promises nothing',
                epsilon_budget=self.epsilon_budget,
            )
            return
        _require(
            math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0,
            "noise_multiplier must be positive and finite",
            noise_multiplier=self.noise_multiplier,
        )
        _require(
            self.min_cohort <= MAX_FLOOR * self.expected_cohort + 1e-9,
            f"min_cohort must be at most {MAX_FLOOR:.0%} of the expected cohort, or single "
            "phones decide whether a round takes place",
            min_cohort=self.min_cohort,
            expected_cohort=self.expected_cohort,
        )

    # What follows from the fields.

    @property
    def padded_dimension(self) -> int:
        """Coordinates that travel: the next power of two."""
        return encoding.padded(self.dimension)

    @property
    def expected_cohort(self) -> float:
        """The fixed, public divisor of every sum, whoever replied."""
        return self.population * self.participation_probability

    @property
    def max_cohort(self) -> int:
        """Six standard deviations above the mean. Bounds wraps; nobody is cut off."""
        spread = math.sqrt(self.expected_cohort * (1 - self.participation_probability))
        return min(self.population, math.ceil(self.expected_cohort + MAX_COHORT_STDDEVS * spread))

    @property
    def honest(self) -> int:
        """Noise shares that are certain to be in a sum: min_survivors - colluders."""
        return self.min_survivors - self.colluders

    @functools.cached_property
    def bits(self) -> int:
        """Width of the ring: the smallest where rounding adds at most 1 % to the sensitivity."""
        for bits in RING_BITS:
            norm = self.clip_norm * self._scale_for(bits)
            if norm > 0 and math.sqrt(self._rounded_bound(norm)) <= MAX_ROUNDING_COST * norm:
                return bits
        raise ValueError(
            f"no ring of up to {RING_BITS[-1]} bits holds a sum of max_cohort={self.max_cohort} "
            f"vectors of dimension={self.padded_dimension}"
        )

    @property
    def modulus(self) -> int:
        """Size of the ring, 2^bits."""
        return 1 << self.bits

    @functools.cached_property
    def scale(self) -> float:
        """Integers per unit of delta, fixed by the plan and never by the cohort that came."""
        return self._scale_for(self.bits)

    @functools.cached_property
    def norm_bound_squared(self) -> int:
        """Largest squared L2 norm of one phone's integers, after rounding."""
        return self._rounded_bound(self.clip_norm * self.scale)

    @property
    def sensitivity(self) -> float:
        """L2 norm of one phone's integers, after rounding."""
        return math.sqrt(self.norm_bound_squared)

    @property
    def stddev(self) -> float:
        """Noise of one phone, integer units: sized for the fewest honest survivors."""
        return self.noise_multiplier * self.clip_norm * self.scale / math.sqrt(self.honest)

    @property
    def event(self) -> DiscreteGaussianSum | NonPrivate:
        """One round to a phone that takes part, as data."""
        if self.mechanism == "none":
            return NonPrivate()
        return DiscreteGaussianSum(
            sensitivity=self.sensitivity,
            stddev=self.stddev,
            shares=self.honest,
            dimension=self.padded_dimension,
        )

    @property
    def cost(self) -> RoundCost:
        """One round to both adversaries, with its bad events."""
        event = self.event
        if isinstance(event, NonPrivate):
            release: NonPrivate | PoissonSampled = event
            sampler_error = 0.0
        else:
            release = PoissonSampled(probability=self.participation_probability, event=event)
            sampler_error = mechanisms.total_variation_bound(self.stddev)
        return RoundCost(
            release=release,
            server=event,
            probability=self.participation_probability,
            quota=self.quota,
            floor_mass=self._floor_mass(),
            tail_mass=self.population * self.padded_dimension * sampler_error,
            graph_mass=self._graph_mass(),
        )

    def _floor_mass(self) -> float:
        """Probability that one phone's presence decides whether a round opens.

        Floors: on the roster; on those who send, and under the protocol on those who shared. (A
        colluder who silences one phone's shares knows that it is there: it is a member of the
        cohort, against whom the release promises nothing.)
        """
        answering = functools.partial(share_answering, self.dropout_rate)
        floors = [
            (self.min_cohort, answering(Stage.ADVERTISE)),
            (self.min_survivors, answering(Stage.MASK)),
        ]
        unopened = 0.0
        if self.secure_aggregation == "masked":
            floors.append((self.min_survivors, answering(Stage.SHARE)))
            unopened = self._unopened_mass()
        floor_mass = bad_events.floor_mass(
            population=self.population,
            probability=self.participation_probability,
            colluders=self.colluders,
            floors=floors,
        )
        return min(1.0, floor_mass + unopened)

    def _unopened_mass(self) -> float:
        """Probability that a masked round above its floors fails for want of answers at its end.

        Without a quorum of signatures, or without a threshold of shares for one phone, there is no
        sum. Both are rare in themselves, so all of that counts and not only what one phone decides.
        Smaller rosters fail more often and come less often: the sizes are taken in steps, each at
        its lower edge.
        """
        reached = share_answering(self.dropout_rate, Stage.ADVERTISE)
        signing = share_answering(self.dropout_rate, Stage.AGREE) / reached
        unmasking = share_answering(self.dropout_rate, Stage.UNMASK) / reached
        rate = self.participation_probability * reached
        edges = np.unique(np.linspace(self.min_cohort, self.max_cohort + 1, 17).astype(int))
        terms, mass = self.terms(bytes(16), 0), 0.0
        for low, high in zip(edges.tolist(), edges[1:].tolist(), strict=False):
            graph = terms.parameters(low)
            votes = bad_events.shortfall(low - 1 - self.colluders, signing, terms.quorum(low))
            shares = bad_events.shortfall(graph.neighbours, unmasking, graph.threshold)
            smaller = bad_events.shortfall(self.population, rate, high)
            mass += min(1.0, votes + high * shares) * smaller
        return mass

    def _graph_mass(self) -> float:
        """Probability that no graph of a round protects: each start of it draws one."""
        if self.secure_aggregation != "masked" or self.max_cohort <= COMPLETE_UP_TO:
            return 0.0
        return float(MAX_SESSIONS * 2.0 ** -SECURITY_BITS[self.server])

    def terms(self, rid: bytes, round_number: int) -> SessionTerms:
        """What phones and server of a masked session agree on, all of it from this plan.

        Args:
          rid: 16 bytes, of the session.
          round_number: from 0.
        """
        return SessionTerms(
            rid=rid,
            round=round_number,
            dimension=self.padded_dimension,
            bits=self.bits,
            min_cohort=self.min_cohort,
            min_survivors=self.min_survivors,
            colluders=self.colluders,
            dropped_share=self.dropout_tolerance,
            server=self.server,
        )

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all fields."""
        fields = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(fields.encode()).hexdigest()

    @property
    def trust(self) -> str:
        """Who must be honest, in words."""
        return (
            f"at least {self.honest} of the phones in every sum add their noise and tell nobody "
            f"what it was (no sum of fewer than {self.min_survivors} answers is opened, at most "
            f"{self.colluders} phones of the population collude), and each phone tosses its own "
            "coin in secret."
            + (_TRUST_IN_PROTOCOL[self.server] if self.secure_aggregation == "masked" else "")
        )

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
            return self.padded_dimension * self.bits // 8, adapter
        graph = self.terms(bytes(16), 0).parameters(cohort)
        stages = bytes_per_phone(cohort, graph, self.padded_dimension, self.bits).values()
        return sum(up for up, _ in stages), adapter + sum(down for _, down in stages)

    # What phone and server do.

    def privatize(
        self,
        vector: NDArray[np.floating],
        *,
        rotation_seed: bytes,
        rounding: Keystream,
        noise: Keystream,
    ) -> NDArray[np.uint32]:
        """Clips, rotates, scales, rounds, adds this phone's noise and enters the ring.

        A delta with a coordinate that is not finite becomes zeros with full noise: whether a phone
        takes part must not depend on its data.

        Args:
          vector: the delta, shape (dimension,).
          rotation_seed: public, the same for all phones of a round.
          rounding: secret, of this phone and attempt, used for nothing else.
          noise: secret, of this phone and attempt, used for nothing else.

        Returns:
          Shape (padded_dimension,), values below 2^bits: safe to add, not to publish alone.

        Raises:
          ValueError: if the vector has another shape.
        """
        if vector.shape != (self.dimension,):
            raise ValueError(f"expected a vector of shape ({self.dimension},), got {vector.shape}")
        clipped = L2Clip(clip_norm=self.clip_norm)(vector)
        rotated = encoding.rotate(clipped, rotation_seed)
        integers = encoding.conditional_round(
            rotated * self.scale, self.norm_bound_squared, rounding
        )
        if self.mechanism == "distributed":
            sampler = mechanisms.discrete_gaussian(self.stddev)
            integers = integers + sampler.draw(noise, self.padded_dimension)
        return encoding.to_ring(integers, self.bits)

    def decode(self, total: NDArray[np.uint32], *, rotation_seed: bytes) -> NDArray[np.float64]:
        """Turns the ring's sum into the mean delta, dividing by the fixed expected cohort.

        Args:
          total: sum mod 2^bits, shape (padded_dimension,).
          rotation_seed: of the round.

        Returns:
          Shape (dimension,), float64.

        Raises:
          ValueError: if the sum has another shape or leaves the ring.
        """
        centred = self._centred(total).astype(np.float64)
        summed = encoding.unrotate(centred / self.scale, rotation_seed, self.dimension)
        return summed / self.expected_cohort

    def wrap_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether a coordinate is so large that some may have wrapped; hurts accuracy only."""
        return bool(np.abs(self._centred(total)).max() > WRAP_WARNING * self.modulus / 2)

    @property
    def norm_bound(self) -> float:
        """What the L2 norm of an honest cohort's sum stays under, in units of delta.

        (max_cohort sensitivity + stddev sqrt(max_cohort) (sqrt(d) + 6)) / scale, where sensitivity
        / scale is C with what rounding adds. A weak test: many attackers within their clip norm
        pass it.
        """
        count = self.max_cohort
        noise = self.stddev * math.sqrt(count) * (math.sqrt(self.padded_dimension) + 6)
        return (count * self.sensitivity + noise) / self.scale

    def norm_warning(self, total: NDArray[np.uint32]) -> bool:
        """Whether the sum is longer than `norm_bound`: somebody sent what no honest phone sends."""
        centred = self._centred(total).astype(np.float64)
        return math.sqrt(float(np.add.reduce(centred**2))) / self.scale > self.norm_bound

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
            secure_aggregation=self.secure_aggregation,
            server=self.server,
        )

    # Behind the properties.

    def _centred(self, total: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Checks a sum and unwraps it around zero."""
        if total.shape != (self.padded_dimension,) or total.dtype != np.uint32:
            raise ValueError(
                f"expected uint32 of shape ({self.padded_dimension},), got {total.dtype} of shape "
                f"{total.shape}"
            )
        if int(total.max()) >= self.modulus:
            raise ValueError(f"a sum must be below the modulus {self.modulus}, got {total.max()}")
        return encoding.from_ring(total, self.bits)

    def _rounded_bound(self, norm: float) -> int:
        return encoding.rounded_norm_bound(norm, self.padded_dimension)

    def _scale_for(self, bits: int) -> float:
        """Largest scale that the ring allows, integers per unit of delta."""
        norm = scaled_norm(
            bits,
            dimension=self.padded_dimension,
            noise_multiplier=self.noise_multiplier,
            max_cohort=self.max_cohort,
            honest=self.honest,
        )
        return norm / self.clip_norm


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, rule: str, **values: object) -> None:
    """Raises a ValueError that names the rule and the values."""
    if not holds:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"{rule}, got {shown}")
