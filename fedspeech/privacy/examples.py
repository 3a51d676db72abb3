"""DP-SGD on the examples of one phone: its event, its price and what may be claimed of it.

The unit is one example of one phone, the adversary whoever sees what that phone sends. The figures
of a phone (`fedspeech.privacy.guarantee`) hide all of its examples together from others, so neither
epsilon is part of the other, and they are never added. Whatever takes the steps, torch or an
exported file, states this one price.

    cost = ExampleCost(event=PoissonSampled(probability=0.25, event=Gaussian(noise_multiplier=1.5)),
                       steps=8, max_participations=15, clip_norm=1.0, delta=1e-5)
    print(price([cost]).epsilon)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedspeech.limits import NotNegative, Positive, Probability, check_limits
from fedspeech.privacy import dp_accounting_bridge
from fedspeech.privacy.events import Gaussian, PoissonSampled, from_record, rebuilt, to_record


@dataclass(frozen=True, kw_only=True)
class ExamplePrivacy:
    """DP-SGD on the phone, which hides single examples in what a phone sends.

    It is priced apart from the epsilons of the phone's user and never added to them.

    Attributes:
      noise_multiplier: standard deviation of a step's noise over `clip_norm`; 0 clips and promises
        nothing.
      clip_norm: L2 bound on the gradient of one example.
      delta: delta of one example, for the whole run.

    Raises:
      ValueError: if a value is out of range.
    """

    noise_multiplier: NotNegative
    clip_norm: Positive = 1.0
    delta: Probability = 1e-5

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)


@dataclass(frozen=True, kw_only=True)
class ExampleCost:
    """What a run costs one example of a phone, as data: a ledger keeps it, an accountant prices it.

    Attributes:
      event: one step to an example that is in it by a coin.
      steps: of one round.
      max_participations: rounds that a phone takes part in at most, which is what is paid for.
      clip_norm: L2 bound on one example's gradient.
      delta: of the whole run.
    """

    event: PoissonSampled
    steps: int
    max_participations: int
    clip_norm: float
    delta: float

    @property
    def noise_multiplier(self) -> float:
        """Of a step."""
        assert isinstance(self.event.event, Gaussian)
        return self.event.event.noise_multiplier

    def to_record(self) -> dict[str, Any]:
        """Returns the cost as plain data for JSON."""
        return {**vars(self), "event": to_record(self.event)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ExampleCost:
        """Rebuilds a cost.

        Raises:
          ValueError: if the event is unknown or none of DP-SGD, or fields do not fit.
        """
        cost = rebuilt(cls, record, event=from_record)
        if not (isinstance(cost.event, PoissonSampled) and isinstance(cost.event.event, Gaussian)):
            raise ValueError(
                f"a step of DP-SGD is a Poisson-sampled Gaussian, got {record['event']}"
            )
        return cost


@dataclass(frozen=True, kw_only=True)
class ExampleGuarantee:
    """What one example is promised, and everything that must stand next to it.

    Attributes:
      epsilon: of all rounds that a phone may join; infinite where no bound can be stated.
      delta: likewise.
      participations: rounds that are paid for.
      steps: of all of them together.
      noise_multipliers: of a step, one of each run.
      clip_norms: of a gradient, one of each run.
      runs: that trained so; another that did not promises an example nothing of its own.
      unit: of privacy.
      relation: neighboring relation.
      accountant: how it was computed.
    """

    epsilon: float
    delta: float
    participations: int
    steps: int
    noise_multipliers: tuple[float, ...]
    clip_norms: tuple[float, ...]
    runs: int
    unit: str = "example"
    relation: str = "add/remove"
    accountant: str = "Renyi divergences of the Poisson-sampled Gaussian (dp-accounting)"

    def to_record(self) -> dict[str, Any]:
        """Returns the guarantee as plain data for JSON; an infinite epsilon is "Infinity"."""
        return {
            **vars(self),
            "epsilon": "Infinity" if math.isinf(self.epsilon) else self.epsilon,
            "noise_multipliers": list(self.noise_multipliers),
            "clip_norms": list(self.clip_norms),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ExampleGuarantee:
        """Rebuilds a guarantee.

        Raises:
          ValueError: if a field is missing or unknown.
        """
        return rebuilt(cls, record, epsilon=float, noise_multipliers=tuple, clip_norms=tuple)


def price(costs: Sequence[ExampleCost]) -> ExampleGuarantee | None:
    """Composes the steps of one run, or of several on the same phones; None where there are none.

    Each run is paid for at its participation limit, whatever was charged so far: a phone joins no
    more rounds.
    """
    if not costs:
        return None
    # What holds at the smallest delta of the runs holds at each of theirs.
    delta = min(cost.delta for cost in costs)
    bound = dp_accounting_bridge.rdp(
        [(cost.event, cost.steps * cost.max_participations) for cost in costs]
    )
    assert bound is not None  # the library prices this event
    return ExampleGuarantee(
        epsilon=max(0.0, bound(delta)),
        delta=delta,
        participations=sum(cost.max_participations for cost in costs),
        steps=sum(cost.steps * cost.max_participations for cost in costs),
        noise_multipliers=tuple(cost.noise_multiplier for cost in costs),
        clip_norms=tuple(cost.clip_norm for cost in costs),
        runs=len(costs),
    )
