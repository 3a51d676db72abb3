"""The terms on which phones would take part: what a price needs to know of a plan, and no more.

A plan that runs (`PrivacyPlan`) is one case of these; here every mechanism meets every kind of
participation, or is refused with the rule that forbids it. What was not given is filled in on the
safe side and listed by `fedspeech.privacy.pricing` among the assumptions.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from fedspeech.privacy import bad_events, encoding, mechanisms
from fedspeech.privacy.events import (
    NO_SKELLAM_COIN,
    DiscreteGaussianSum,
    Gaussian,
    GivenParticipation,
    NonPrivate,
    RoundCost,
    SkellamSum,
)
from fedspeech.privacy.plan import MAX_COHORT_STDDEVS
from fedspeech.privacy.plan_rules import (
    MAX_FLOOR,
    MIN_STDDEV,
    check_availability,
    check_floor,
    is_integer,
    require,
)
from fedspeech.privacy.releases import PARTICIPATIONS, Mechanism, Participation, round_cost
from fedspeech.privacy.ring_fit import (
    MAX_ROUNDING_COST,
    RING_BITS,
    RingFit,
    finest_norm,
    fit,
)
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.protocol import Stage

NOISY = ("central", "distributed", "skellam", "local")  # 0 as noise multiplier stands for none
DEFAULT_DIMENSION = 16_384  # above every adapter that ships; more coordinates never cost less
MAX_POPULATION = 10**12
MAX_ROUNDS = 10**7
MAX_COLLUDERS = 10**5
# Defaults keep what they may cost in bad events under this share of delta.
_DEFAULT_MASS = 1e-4


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a plan costs depends on these, checked once.

    Attributes:
      mechanism: "central": the server adds noise to the sum; "distributed", "skellam": phones add
        shares of integer noise; "local": each phone adds noise of `noise_multiplier` clip norms.
      participation: "poisson": each phone's own coin; "fixed_size": a uniformly random cohort;
        "limited": anyhow, each phone at most `max_participations` times, and nobody counts on
        chance.
      population: eligible phones.
      cohort: expected phones per round, of the fewest that are there, whole but for "poisson". This
        or `probability`.
      probability: of one phone taking part in one round.
      rounds: planned.
      noise_multiplier: stddev over the clip norm: of the sum with the fewest honest survivors; for
        "local" of one phone. 0 is no noise, and epsilon is infinite.
      delta: below 1 / population; none for 1 / (10 population).
      dimension: coordinates of a delta, for noise on phones.
      clip_norm: L2 bound on a delta. Noise is relative to it, so no price depends on it.
      bits: width of the ring; none for the smallest that rounds well.
      cohort_cap: more phones than these are turned away.
      min_survivors: fewer answers than these are never opened; sizes the noise of phones.
      colluders: corrupt phones that may join a round, all of them.
      dropout_rate: share of a roster that never answers, each for itself and whatever its data.
      max_participations: rounds that a phone takes part in at most; the phone counts.
      availability: smallest share of the population that is there when a round begins, for
        "poisson", as in `PrivacyPlan`: it moves floors and amplifies nothing.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """

    mechanism: Mechanism
    participation: Participation
    population: int
    cohort: float | None = None
    probability: float | None = None
    rounds: int
    noise_multiplier: float
    delta: float | None = None
    dimension: int | None = None
    clip_norm: float = 1.0
    bits: int | None = None
    cohort_cap: int | None = None
    min_survivors: int | None = None
    colluders: int = 0
    dropout_rate: float = 0.0
    max_participations: int | None = None
    availability: float = 1.0

    def __post_init__(self) -> None:
        """Checks each value, then what depends on several."""
        self._check_values()
        self._check_rules()
        self._check_floors()

    def _check_values(self) -> None:
        """Checks one value at a time."""
        require(self.mechanism in NOISY, f"mechanism must be one of {NOISY}",
                mechanism=self.mechanism)  # fmt: skip
        require(self.participation in PARTICIPATIONS,
                f"participation must be one of {PARTICIPATIONS}",
                participation=self.participation)  # fmt: skip
        for name, most in (
            ("population", MAX_POPULATION),
            ("rounds", MAX_ROUNDS),
            ("dimension", 2**30),
            ("cohort_cap", MAX_POPULATION),
            ("min_survivors", MAX_POPULATION),
            ("max_participations", MAX_ROUNDS),
        ):
            value = getattr(self, name)
            require(
                (value is None and name not in ("population", "rounds"))
                or (is_integer(value) and 1 <= value <= most),
                f"{name} must be an integer from 1 to {most:,}",
                **{name: value},
            )
        require(is_integer(self.colluders)
                 and 0 <= self.colluders <= min(MAX_COLLUDERS, self.population - 1),
                 f"colluders must be an integer from 0 to {MAX_COLLUDERS:,} and below population",
                 colluders=self.colluders, population=self.population)  # fmt: skip
        require(0 <= self.dropout_rate < 1, "dropout_rate must be in [0, 1)",
                dropout_rate=self.dropout_rate)  # fmt: skip
        require(math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0,
                "noise_multiplier must be finite and not negative",
                noise_multiplier=self.noise_multiplier)  # fmt: skip
        require(self.noise_multiplier == 0 or 1e-3 <= self.noise_multiplier <= 1e9,
                "noise_multiplier must be 0 or between 0.001 and 1e9",
                noise_multiplier=self.noise_multiplier)  # fmt: skip
        require(math.isfinite(self.clip_norm) and self.clip_norm > 0,
                "clip_norm must be positive and finite", clip_norm=self.clip_norm)  # fmt: skip
        require(self.bits is None or self.bits in RING_BITS,
                f"bits must be one of {RING_BITS}", bits=self.bits)  # fmt: skip
        if self.delta is not None:
            require(0 < self.delta < 1, "delta must be in (0, 1)", delta=self.delta)
            require(
                self.delta * self.population < 1,
                "delta must be below 1 / population: at that size it allows the publication of one "
                "phone's whole contribution",
                delta=self.delta,
                population=self.population,
            )

    def _check_rules(self) -> None:
        """Checks what fits together."""
        if (self.cohort is None) == (self.probability is None):
            raise ValueError(
                "give either cohort or probability, one of the two, got "
                f"cohort={self.cohort}, probability={self.probability}"
            )
        if self.probability is not None:
            require(0 < self.probability <= 1, "probability must be in (0, 1]",
                     probability=self.probability)  # fmt: skip
            require(self.participation != "limited",
                     "limited participation counts on no probability: give cohort",
                     probability=self.probability)  # fmt: skip
        check_availability(self.availability, self.participation)
        if self.cohort is not None:
            require(0 < self.cohort <= self.population, "cohort must be in (0, population]",
                    cohort=self.cohort, population=self.population)  # fmt: skip
            require(self.cohort <= self.population * self.availability,
                    "cohort must be at most the phones that are there", cohort=self.cohort,
                    population=self.population, availability=self.availability)  # fmt: skip
        if self.participation != "poisson":
            require(
                abs(self.expected_cohort - round(self.expected_cohort)) < 1e-6
                and self.expected_cohort > 0.5,
                f"{self.participation} participation needs a whole number of phones per round",
                cohort=self.expected_cohort,
            )
        if self.mechanism == "skellam" and self.participation == "poisson":
            raise ValueError(NO_SKELLAM_COIN)
        if self.cohort_cap is not None and self.participation != "poisson":
            raise ValueError(
                "cohort_cap belongs to poisson participation, where nobody knows how many will "
                f"come, got cohort_cap={self.cohort_cap} with participation={self.participation}"
            )
        if self.bits is not None and not self.on_phones:
            raise ValueError(
                "bits belongs to noise on phones, which send integers, got "
                f"bits={self.bits} with mechanism={self.mechanism}"
            )

    def _check_floors(self) -> None:
        """Checks the floor, and what stands on it."""
        if self.floor is None:
            return
        require(self.floor <= self.expected_cohort + 1e-9,
                "min_survivors must be at most the expected cohort",
                min_survivors=self.floor, cohort=self.expected_cohort)  # fmt: skip
        require(self.colluders < self.floor or not self.on_phones,
                "colluders must be fewer than min_survivors, or no honest noise is certain",
                colluders=self.colluders, min_survivors=self.floor)  # fmt: skip
        check_floor(
            "min_survivors",
            self.floor,
            standing=self.expected_cohort * share_answering(self.dropout_rate, Stage.MASK),
            colluders=self.colluders,
            availability=self.availability,
        )
        if self.mechanism in ("distributed", "local") and self.noise_multiplier > 0:
            require(
                self.ring.stddev >= MIN_STDDEV,
                f"noise of one phone must have stddev >= {MIN_STDDEV:g} in integer units (raise "
                "bits or noise_multiplier, or lower min_survivors)",
                stddev=round(self.ring.stddev, 4),
                bits=self.ring.bits,
            )

    # What was given or follows.

    @property
    def on_phones(self) -> bool:
        """Whether an absent phone withholds noise."""
        return self.mechanism != "central"

    @property
    def expected_cohort(self) -> float:
        """Phones per round, on average, of the fewest that are there."""
        return self.invited * self.availability if self.cohort is None else float(self.cohort)

    @property
    def invited(self) -> float:
        """Phones per round whose turn it is or whose coin says yes, on average, there or not."""
        if self.cohort is not None:
            return self.cohort / self.availability
        assert self.probability is not None
        return self.population * self.probability

    @property
    def participation_probability(self) -> float:
        """Of one phone in one round; 1 where nobody counts on chance."""
        if self.participation == "limited":
            return 1.0
        if self.probability is not None:
            return self.probability
        return min(1.0, self.invited / self.population)

    @property
    def target_delta(self) -> float:
        """The delta given, or 1 / (10 population)."""
        return 1 / (10 * self.population) if self.delta is None else self.delta

    @property
    def coordinates(self) -> int:
        """Of one phone's vector as it is noised: padded where it travels in the ring."""
        given = self.dimension or DEFAULT_DIMENSION
        return encoding.padded(given) if self.on_phones else given

    @property
    def max_cohort(self) -> int:
        """Phones that a sum may hold, for the ring: six standard deviations above the mean."""
        if self.participation != "poisson":
            return round(self.expected_cohort)
        spread = math.sqrt(self.invited * (1 - self.participation_probability))
        most = math.ceil(self.invited + MAX_COHORT_STDDEVS * spread)
        return min(self.population, most, self.cohort_cap or most)

    @functools.cached_property
    def participations(self) -> int:
        """Rounds in which a phone takes part at most; all of them unless it counts."""
        if self.max_participations is not None:
            return min(self.rounds, self.max_participations)
        if not self.on_phones or self.participation == "limited":
            return self.rounds
        return self._default_quota()

    @property
    def quota_mass(self) -> float:
        """Probability that a phone would have come more often than it may."""
        if self.participation == "limited":
            return 0.0
        q = self.participation_probability
        return bad_events.quota_mass(self.rounds, q, self.participations)

    @functools.cached_property
    def floor(self) -> int | None:
        """Answers without which no sum is opened; none where no noise depends on them."""
        if self.min_survivors is not None or not self.on_phones:
            return self.min_survivors
        return self._default_floor()

    @property
    def honest(self) -> int:
        """Noise shares that are certain to be in a sum."""
        return max(1, (self.floor or 1) - self.colluders)

    @property
    def floor_mass(self) -> float:
        """Probability, in one round, that one phone's presence lifts it over the floor."""
        return 0.0 if self.floor is None else self._mass_of(self.floor)

    @property
    def cap_mass(self) -> float:
        """Probability, in one round, that the cap is reached; priced by its event if central."""
        if self.cohort_cap is None or not self.on_phones:
            return 0.0
        from scipy.stats import binom

        q = self.participation_probability
        return float(binom.sf(self.cohort_cap - 1, self.population, q))

    @property
    def tail_mass(self) -> float:
        """Distance, in one round, of all samplers from their ideals."""
        if self.noise_multiplier == 0:
            return 0.0
        if self.mechanism == "central":
            dimension = encoding.padded(self.coordinates)
            norm = MAX_ROUNDING_COST * finest_norm(dimension, self.noise_multiplier, 1)
            widest = self.noise_multiplier * norm  # whatever the ring
            return dimension * mechanisms.RoundedGaussian.total_variation_bound(widest)
        law = mechanisms.Skellam if self.mechanism == "skellam" else mechanisms.DiscreteGaussian
        error = law.total_variation_bound(self.ring.stddev)
        return self.population * self.coordinates * error

    @functools.cached_property
    def ring(self) -> RingFit:
        """The ring and the scale."""
        return fit(
            bits=self.bits,
            dimension=self.coordinates,
            noise_multiplier=self.noise_multiplier,
            max_cohort=self.max_cohort,
            honest=1 if self.mechanism == "local" else self.honest,
        )

    # Events.

    @property
    def given(self) -> GivenParticipation | NonPrivate:
        """One published sum to a phone that took part, under zero-out."""
        return self._sum(self.honest)

    def _sum(self, shares: int) -> GivenParticipation | NonPrivate:
        """A sum with so many honest shares, to a phone that took part."""
        if self.noise_multiplier == 0:
            return NonPrivate()
        if self.mechanism == "central":
            return Gaussian(noise_multiplier=self.noise_multiplier)
        kind = SkellamSum if self.mechanism == "skellam" else DiscreteGaussianSum
        return kind(
            sensitivity=self.ring.sensitivity,
            stddev=self.ring.stddev,
            shares=shares,
            dimension=self.coordinates,
        )

    @property
    def cost(self) -> RoundCost:
        """One round to both adversaries, with its bad events."""
        return round_cost(
            mechanism=self.mechanism,
            participation=self.participation,
            given=self.given,
            alone=self._sum(1),
            population=self.population,
            probability=self.participation_probability,
            cohort_cap=self.cohort_cap,
            quota=self.participations,
            planned=self.rounds,
            floor_mass=self.floor_mass,
            cap_mass=self.cap_mass,
            tail_mass=self.tail_mass,
        )

    # Defaults.

    def _default_quota(self) -> int:
        """Smallest number of rounds that a phone's coins hardly ever exceed."""
        from scipy.stats import binom

        q = self.participation_probability
        mass = _DEFAULT_MASS * self.target_delta
        low, high = 0, self.rounds
        while low < high:
            middle = (low + high) // 2
            if binom.sf(middle, self.rounds, q) <= mass:
                high = middle
            else:
                low = middle + 1
        return max(1, low)

    def _default_floor(self) -> int:
        """Largest floor up to 75 % of those expected that one phone hardly ever decides."""
        expected = self.expected_cohort * (1 - self.dropout_rate)
        high = math.floor(MAX_FLOOR * expected)
        if self.availability < 1:  # the whole tail counts, which has a bound below the mean only
            high = min(high, math.floor(expected) - self.colluders - 1)
        high = max(high, 1)
        if self.participation == "fixed_size":
            return high
        mass = _DEFAULT_MASS * self.target_delta / self.rounds
        low = self.colluders + 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._mass_of(middle) <= mass:
                low = middle
            else:
                high = middle - 1
        return high

    def _mass_of(self, floor: int) -> float:
        """Probability that one phone decides a round at this floor."""
        if self.participation == "fixed_size":
            return 0.0  # the phone that comes in its place decides as much
        limited = self.participation == "limited"
        population = round(self.expected_cohort) if limited else self.population
        return bad_events.floor_mass(
            population=population,
            probability=self.participation_probability,
            colluders=min(self.colluders, population - 1),
            floors=[
                (floor, share_answering(self.dropout_rate, Stage.ADVERTISE)),
                (floor, share_answering(self.dropout_rate, Stage.MASK)),
            ],
            availability=self.availability,
        )
