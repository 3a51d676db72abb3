"""What was released, as data: everything an accountant needs, and nothing that runs.

A ledger stores events; an accountant prices them; an event that it does not know is refused, never
guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from fedspeech.errors import is_integer, require
from fedspeech.privacy.factorization import check_strategy, sensitivity


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """A release without noise. It costs infinity."""


@dataclass(frozen=True, kw_only=True)
class _SumOfShares:
    """A sum to which every honest phone has added its own share of the noise.

    The cost of one round to a phone that took part, under zero-out: the phone keeps its share.

    Attributes:
      sensitivity: L2 norm of one phone's integers, after rounding.
      stddev: of one share, in the same units.
      shares: honest shares that are certain to be in the sum.
      dimension: coordinates, padding included.
    """

    sensitivity: float
    stddev: float
    shares: int
    dimension: int


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianSum(_SumOfShares):
    """A sum with discrete Gaussian shares."""


@dataclass(frozen=True, kw_only=True)
class SkellamSum(_SumOfShares):
    """A sum with Skellam shares, which add up to Skellam noise exactly."""


@dataclass(frozen=True, kw_only=True)
class Joint:
    """Sums that phones send at once, each with shares of its own: the vector and the clip bit.

    Noise of the parts is independent, so their divergences add before any sampling.

    Attributes:
      parts: what is sent, of one kind and from the same shares.

    Raises:
      ValueError: if the parts differ in kind or shares.
    """

    parts: tuple[DiscreteGaussianSum | SkellamSum, ...]

    def __post_init__(self) -> None:
        """Checks that one phone's presence is the same for all parts."""
        if len({(type(part), part.shares) for part in self.parts}) != 1:
            raise ValueError(f"parts of a joint sum must be alike in kind and shares: {self.parts}")

    @property
    def shares(self) -> int:
        """Honest shares that are certain to be in each sum."""
        return self.parts[0].shares


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """A sum with continuous Gaussian noise that is there whether or not a phone is.

    Attributes:
      noise_multiplier: stddev over the norm of one phone's vector, whatever the relation: where
        one vector replaces another, the accountant halves it.
    """

    noise_multiplier: float


@dataclass(frozen=True, kw_only=True)
class CorrelatedGaussian:
    """The first rounds of a run whose noise is correlated, together: one event, not one a round.

    Noise is there whether or not a phone is.

    Attributes:
      noise_multiplier: stddev of what a round draws afresh, over the norm of one phone's vector.
      coefficients: first column of the strategy matrix, as `factorization` has it.
      min_separation: rounds from one participation of a phone to its next, at least.
      rounds: first rounds of the run that were released, gaps between them included.

    Raises:
      ValueError: if the strategy is none whose sensitivity is known, or a number is no such count.
    """

    noise_multiplier: float
    coefficients: tuple[int, ...]
    min_separation: int
    rounds: int

    def __post_init__(self) -> None:
        """Checks the strategy, also in a record that was read back."""
        object.__setattr__(self, "coefficients", tuple(self.coefficients))
        check_strategy(self.coefficients)
        for name in ("min_separation", "rounds"):
            value = getattr(self, name)
            require(is_integer(value) and value >= 1, f"{name} must be at least 1", **{name: value})

    def together(self, max_participations: int) -> Gaussian:
        """All of these rounds as one Gaussian, to a phone that joins at most so many.

        C x + z is released and the rest computed from it, so the norm of C x is what noise hides.
        """
        return Gaussian(noise_multiplier=self.noise_multiplier / self.norm(max_participations))

    def norm(self, max_participations: int) -> float:
        """What such a phone moves C x by, over the norm of one of its vectors."""
        return sensitivity(self.coefficients, self.rounds, self.min_separation, max_participations)


SharedNoise = DiscreteGaussianSum | Joint
GivenParticipation = SharedNoise | SkellamSum | Gaussian

NO_SKELLAM_COIN = (
    "poisson participation is refused with skellam noise: an absent phone withholds its noise, and "
    "what that tells is not derived for Skellam shares; use fixed_size or round-robin "
    "participation, or the distributed mechanism"
)


@dataclass(frozen=True, kw_only=True)
class PoissonSampled:
    """A round that each phone enters by its own coin, absent phones withholding their noise too.

    The relation is add/remove. The event's `shares` are then those of the other phones; a
    `Gaussian` depends on nobody's coin.

    Attributes:
      probability: of the coin.
      event: what the round is to a phone that takes part.

    Raises:
      ValueError: for noise whose absence is not priced.
    """

    probability: float
    event: SharedNoise | Gaussian

    def __post_init__(self) -> None:
        """Refuses Skellam noise, also in a record that was read back."""
        if is_skellam(self.event):
            raise ValueError(NO_SKELLAM_COIN)


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A round with a phone against the same round without it; no coin hides which.

    The relation is add/remove. The absent phone withholds its noise; `shares` are the others'.

    Raises:
      ValueError: for noise whose absence is not priced.
    """

    event: SharedNoise

    def __post_init__(self) -> None:
        """Refuses Skellam noise, also in a record that was read back."""
        if is_skellam(self.event):
            raise ValueError("what an absent phone's missing Skellam noise tells is not derived")


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """A round in which a phone said one thing against the same round in which it said another."""

    event: GivenParticipation


@dataclass(frozen=True, kw_only=True)
class WithoutReplacement:
    """A round whose cohort is a uniformly random set of fixed size; one phone is replaced.

    Attributes:
      population: phones to draw from.
      cohort: phones drawn.
      event: what the round is to a phone that takes part, under zero-out.
    """

    population: int
    cohort: int
    event: GivenParticipation


@dataclass(frozen=True, kw_only=True)
class CappedPoisson:
    """A round of phones with coins of which at most `cap`, drawn at random, are let in.

    The relation is add/remove. Who is let in depends on who else came, so the noise must not.
    """

    population: int
    probability: float
    cap: int
    event: Gaussian


Event = (
    NonPrivate
    | GivenParticipation
    | CorrelatedGaussian
    | PoissonSampled
    | Presence
    | Replaced
    | WithoutReplacement
    | CappedPoisson
)


Relation = Literal["add/remove", "replace", "zero-out", "none"]


@dataclass(frozen=True, kw_only=True)
class RoundCost:
    """One round of a plan as both adversaries see it, with what can go wrong in it.

    Attributes:
      release: to somebody who reads the published models.
      release_relation: neighboring relation of `release`.
      sampled: whether `release` counts on chance and is paid every round; if not, it is paid in
        the rounds that a phone may join.
      given: to the same reader, of a phone known to take part, under zero-out.
      server: to the server, given that the phone took part.
      server_relation: of `server`.
      probability: of taking part; 1 where nobody counts on chance.
      max_participations: rounds that a phone takes part in at most; the phone counts.
      planned: rounds that may begin. One that is abandoned before anything is sent is not charged,
        and readers see it all the same, so minimums count in all of them.
      minimum_failure: probability, in one round, that one phone's presence lifts it over a minimum.
      cap_failure: probability, in one round, that a cap on the cohort is reached.
      sampler_failure: bound, in one round, on the distance of the samplers from their ideals.
      graph_failure: probability, in one round, of a masking graph that does not protect.
    """

    release: Event
    release_relation: Relation
    sampled: bool
    given: Event
    server: Event
    server_relation: Relation
    probability: float
    max_participations: int
    planned: int
    minimum_failure: float
    cap_failure: float = 0.0
    sampler_failure: float
    graph_failure: float = 0.0

    def of_first(self, rounds: int) -> RoundCost:
        """The cost in a run of which no round beyond its first `rounds` was charged.

        Where noise is correlated the price is that of the leading block of the strategy: rows and
        columns of later rounds are not there, and a longer run never costs less.
        """
        if not isinstance(self.given, CorrelatedGaussian) or rounds == 0:
            return self
        event = replace(self.given, rounds=min(rounds, self.given.rounds))
        return replace(self, release=event, given=event)


def is_skellam(event: object) -> bool:
    """Whether a sum holds Skellam shares."""
    if isinstance(event, Joint):
        return isinstance(event.parts[0], SkellamSum)
    return isinstance(event, SkellamSum)


def to_record(event: Event) -> dict[str, Any]:
    """Returns the event as plain data for JSON."""
    record = {"kind": type(event).__name__, **vars(event)}
    if "event" in record:
        record["event"] = to_record(record["event"])
    if "parts" in record:
        record["parts"] = [to_record(part) for part in record["parts"]]
    return record


_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Event)}


def from_record(record: Mapping[str, Any]) -> Event:
    """Rebuilds an event; what it holds inside must be of the type that its field declares.

    Raises:
      ValueError: if the kind is unknown or the fields do not fit it.
    """
    fields = dict(record)
    kind = _KINDS.get(fields.pop("kind", ""))
    if kind is None:
        raise ValueError(
            f"unknown event of kind {record.get('kind')!r}; it is not priced by guessing"
        )
    holds = get_type_hints(kind)
    try:
        if "event" in holds:
            fields["event"] = _held(kind, fields["event"], holds["event"])
        if "parts" in holds:
            part_type, _ = get_args(holds["parts"])
            fields["parts"] = tuple(_held(kind, part, part_type) for part in fields["parts"])
        event: Event = kind(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"an event record does not fit its kind: {error}") from None
    return event


def _held(kind: type[Any], record: Mapping[str, Any], allowed: Any) -> Any:
    """The event inside one of this kind."""
    inner = from_record(record)
    if not isinstance(inner, allowed):
        raise ValueError(
            f"an event of kind {kind.__name__} cannot hold one of kind {type(inner).__name__}"
        )
    return inner


RecordT = TypeVar("RecordT")


def rebuilt(
    kind: Callable[..., RecordT],
    record: Mapping[str, Any],
    **read: Callable[[Any], Any],
) -> RecordT:
    """Makes the object that a record describes.

    Args:
      kind: takes the record's fields.
      record: as it was read.
      **read: by field, what turns plain data into its value.

    Raises:
      ValueError: if a field is missing, unknown or of the wrong type.
    """
    try:
        fields = dict(record)
        return kind(**fields | {name: reader(fields[name]) for name, reader in read.items()})
    except (KeyError, TypeError) as error:
        name = getattr(kind, "__name__", "")
        raise ValueError(f"a record of {name} does not fit: {error}") from None


def cost_to_record(cost: RoundCost) -> dict[str, Any]:
    """Returns a round's cost as plain data for JSON."""
    return {
        **vars(cost),
        **{name: to_record(getattr(cost, name)) for name in ("release", "given", "server")},
    }


def cost_from_record(record: Mapping[str, Any]) -> RoundCost:
    """Rebuilds a round's cost.

    Raises:
      ValueError: if an event is unknown or fields do not fit.
    """
    return rebuilt(RoundCost, record, release=from_record, given=from_record, server=from_record)
