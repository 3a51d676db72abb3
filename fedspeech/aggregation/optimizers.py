"""What the server does with the decoded mean delta: the protocol, and four optimizers of it.

| optimizer | step on a mean delta |
|---|---|
| fedavg | x <- x + eta delta |
| fedavgm | m <- beta m + delta; x <- x + eta m (Hsu et al. 2019, arXiv:1909.06335) |
| fedadam | m <- beta m + (1-beta) delta; v <- b2 v + (1-b2) delta^2; |
| | x <- x + eta m / (sqrt(v) + tau); no bias correction and v_0 = tau^2, as in the paper |
| fedyogi | fedadam with v <- v - (1-b2) delta^2 sign(v - delta^2): v falls slowly |

Reddi et al. 2021 (arXiv:2003.00295), Algorithm 2. The mean delta is a pseudo-gradient that is
added. Everything here is post-processing of a private sum and costs no privacy: an optimizer gets
its own state and the mean, and nothing else.

    optimizer = FedOpt(
        optimizer="fedadam", learning_rate=0.01, momentum=0.9, beta_2=0.99, adaptivity=1e-3
    )
    state = optimizer.init(parameters)
    state = optimizer.apply(state, mean_delta)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.single_updates import single_updates_refused
from fedspeech.limits import Decay, Positive, check_limits
from fedspeech.vectors import GlobalState, Vector

_MOMENTS: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedavgm": ("first",),
    "fedadam": ("first", "second"),
    "fedyogi": ("first", "second"),
}


class ServerOptimizer(Protocol):
    """What the server does with a decoded mean: two pure functions of state and mean."""

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """The state before the first round, from parameters of shape (d,)."""
        ...

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """The state after a round with this decoded mean; the one before is left unchanged."""
        ...


@dataclass(frozen=True, kw_only=True)
class FedOpt:
    """The server's step along the decoded mean delta.

    Attributes:
      optimizer: server optimizer.
      learning_rate: step size of the server optimizer.
      momentum: momentum of FedAvgM; decay of the first moment of FedAdam and FedYogi.
      beta_2: decay of the second moment of FedAdam and FedYogi.
      adaptivity: tau of FedAdam and FedYogi.

    Raises:
      ValueError: if there is no optimizer of that name, or a setting is out of range.
    """

    optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = "fedavg"
    learning_rate: Positive = 1.0
    momentum: Decay = 0.9
    beta_2: Decay = 0.99
    adaptivity: Positive = 1e-3

    def __post_init__(self) -> None:
        """Checks every setting, also those that the optimizer does not read."""
        if refused := single_updates_refused(self.optimizer):
            raise ValueError(refused)
        check_limits(self)

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """The state before the first round, from parameters of shape (d,)."""
        # Phones get float32; in the server's float64 steps add up that are below a parameter's last
        # bit.
        wide = parameters.astype(np.float64)
        starts = {"first": np.zeros_like(wide), "second": np.full_like(wide, self.adaptivity**2)}
        return GlobalState(wide, {name: starts[name] for name in _MOMENTS[self.optimizer]})

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """The state after one round with this decoded mean; the one before is left unchanged.

        Raises:
          ValueError: if shapes differ or the state belongs to another optimizer.
        """
        moments = self._checked(state, mean_delta)
        step = mean_delta
        if self.optimizer == "fedavgm":
            # m <- beta m + delta; x <- x + eta m (Hsu et al. 2019, arXiv:1909.06335).
            step = moments["first"] = self.momentum * moments["first"] + mean_delta
        elif "second" in moments:
            # x <- x + eta m / (sqrt(v) + tau), v_0 = tau^2, no bias correction, as in the paper.
            first = self.momentum * moments["first"] + (1 - self.momentum) * mean_delta
            moments = {"first": first, "second": self._second(moments["second"], mean_delta**2)}
            scaled = self.learning_rate * first / (np.sqrt(moments["second"]) + self.adaptivity)
            return GlobalState(state.parameters + scaled, moments)
        return GlobalState(state.parameters + self.learning_rate * step, moments)

    def reach(self, length: float, rounds: int) -> float:
        """How far means of at most this length can move the parameters in so many rounds.

        A moving average of momentum beta sums to at most 1 / (1 - beta) of its longest term; a
        step of FedAdam and FedYogi is at most the first moment over tau.
        """
        step = self.learning_rate * length
        if self.optimizer == "fedavgm":
            return rounds * step / (1 - self.momentum)
        return rounds * step / (self.adaptivity if "second" in _MOMENTS[self.optimizer] else 1.0)

    def _second(self, second: Vector, square: Vector) -> Vector:
        if self.optimizer == "fedyogi":  # v falls slowly, whatever its size
            return second - (1 - self.beta_2) * square * np.sign(second - square)
        return self.beta_2 * second + (1 - self.beta_2) * square

    def _checked(self, state: GlobalState, mean_delta: Vector) -> dict[str, Vector]:
        """The moments of a state that fits this optimizer and delta."""
        if mean_delta.shape != state.parameters.shape:
            raise ValueError(
                f"expected a delta of shape {state.parameters.shape}, got {mean_delta.shape}"
            )
        names = _MOMENTS[self.optimizer]
        if set(state.moments) != set(names):
            raise ValueError(
                f"this optimizer remembers {sorted(names)}, the state has {sorted(state.moments)}"
            )
        if any(moment.shape != mean_delta.shape for moment in state.moments.values()):
            raise ValueError(f"moments must have the shape of the parameters, {mean_delta.shape}")
        return dict(state.moments)
