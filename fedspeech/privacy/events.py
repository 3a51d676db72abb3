"""What was released, as data: everything an accountant needs, and nothing that runs.

A ledger stores events; an accountant prices them; an event that it does not know is refused, never
guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """A release without noise. It costs infinity."""


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianSum:
    """A sum to which every honest phone has added its own discrete Gaussian share.

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
class PoissonSampled:
    """A round that each phone enters by its own coin, absent phones withholding their noise too.

    The relation is add/remove. The event's `shares` are then those of the other phones.

    Attributes:
      probability: of the coin.
      event: what the round is to a phone that takes part.
    """

    probability: float
    event: DiscreteGaussianSum


Event = NonPrivate | DiscreteGaussianSum | PoissonSampled


@dataclass(frozen=True, kw_only=True)
class RoundCost:
    """One round of a plan as both adversaries see it, with what can go wrong in it.

    Attributes:
      release: to somebody who reads the published models.
      server: to the server, given that the phone took part.
      probability: of taking part.
      quota: rounds that a phone takes part in at most; the phone counts.
      floor_mass: probability, in one round, that one phone's presence lifts it over a floor.
      tail_mass: bound, in one round, on the distance of the samplers from their ideals.
      graph_mass: probability, in one round, of a masking graph that does not protect.
    """

    release: Event
    server: Event
    probability: float
    quota: int
    floor_mass: float
    tail_mass: float
    graph_mass: float = 0.0


def to_record(event: Event) -> dict[str, Any]:
    """Returns the event as plain data for JSON."""
    record: dict[str, Any] = {"kind": type(event).__name__}
    for name, value in vars(event).items():
        record[name] = to_record(value) if isinstance(value, DiscreteGaussianSum) else value
    return record


def from_record(record: Mapping[str, Any]) -> Event:
    """Rebuilds an event.

    Raises:
      ValueError: if the kind is unknown or the fields do not fit it.
    """
    fields = {name: value for name, value in record.items() if name != "kind"}
    try:
        match record.get("kind"):
            case "NonPrivate":
                return NonPrivate(**fields)
            case "DiscreteGaussianSum":
                return DiscreteGaussianSum(**fields)
            case "PoissonSampled":
                inner = from_record(fields.pop("event"))
                if isinstance(inner, DiscreteGaussianSum):
                    return PoissonSampled(event=inner, **fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"an event record does not fit its kind: {error}") from None
    raise ValueError(f"unknown event of kind {record.get('kind')!r}; it is not priced by guessing")


def cost_to_record(cost: RoundCost) -> dict[str, Any]:
    """Returns a round's cost as plain data for JSON."""
    return {
        **asdict(cost),
        "release": to_record(cost.release),
        "server": to_record(cost.server),
    }


def cost_from_record(record: Mapping[str, Any]) -> RoundCost:
    """Rebuilds a round's cost.

    Raises:
      ValueError: if an event is unknown or fields do not fit.
    """
    fields = dict(record)
    try:
        release, server = from_record(fields.pop("release")), from_record(fields.pop("server"))
        return RoundCost(release=release, server=server, **fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"a cost record does not fit: {error}") from None
