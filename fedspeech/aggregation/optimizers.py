"""What the server does with the decoded mean delta: four optimizers as pure functions.

Reddi et al. 2021 (arXiv:2003.00295), Algorithm 2. The mean delta is a pseudo-gradient that is
added. Everything here is post-processing of a private sum and costs no privacy.

    optimizer = FedAdam(learning_rate=0.01)
    state = optimizer.init(parameters)
    state = optimizer.apply(state, mean_delta)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.vectors import GlobalState, Vector


class ServerOptimizer(Protocol):
    """State in, state out."""

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """Starts from parameters, shape (d,)."""
        ...

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """Returns the state after one round.

        Args:
          state: before; left unchanged.
          mean_delta: decoded mean, shape (d,).

        Raises:
          ValueError: if shapes differ or the state belongs to another optimizer.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FedAvg:
    """x <- x + eta delta.

    Attributes:
      learning_rate: eta, positive.
    """

    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        """Checks the rate."""
        _check_positive("learning_rate", self.learning_rate)

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """Starts without memory."""
        return GlobalState(parameters.astype(np.float64))

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """Takes one step."""
        _moments(state, mean_delta)
        return GlobalState(state.parameters + self.learning_rate * mean_delta)


@dataclass(frozen=True, kw_only=True)
class FedAvgM:
    """m <- beta m + delta; x <- x + eta m (Hsu et al. 2019, arXiv:1909.06335).

    Attributes:
      learning_rate: eta, positive.
      momentum: beta, in [0, 1).
    """

    learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Checks rate and momentum."""
        _check_positive("learning_rate", self.learning_rate)
        _check_decay("momentum", self.momentum)

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """Starts at rest."""
        wide = parameters.astype(np.float64)
        return GlobalState(wide, {"first": np.zeros_like(wide)})

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """Takes one step."""
        (first,) = _moments(state, mean_delta, "first")
        first = self.momentum * first + mean_delta
        return GlobalState(state.parameters + self.learning_rate * first, {"first": first})


@dataclass(frozen=True, kw_only=True)
class FedAdam:
    """m <- b1 m + (1-b1) delta; v <- b2 v + (1-b2) delta^2; x <- x + eta m / (sqrt(v) + tau).

    No bias correction and v_0 = tau^2, as in the paper.

    Attributes:
      learning_rate: eta, positive.
      beta_1: decay of the first moment, in [0, 1).
      beta_2: decay of the second moment, in [0, 1).
      adaptivity: tau, positive; the smaller, the more adaptive.
    """

    learning_rate: float = 0.01
    beta_1: float = 0.9
    beta_2: float = 0.99
    adaptivity: float = 1e-3

    def __post_init__(self) -> None:
        """Checks rates."""
        _check_positive("learning_rate", self.learning_rate)
        _check_positive("adaptivity", self.adaptivity)
        _check_decay("beta_1", self.beta_1)
        _check_decay("beta_2", self.beta_2)

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """Starts with m = 0 and v = tau^2."""
        wide = parameters.astype(np.float64)
        second = np.full_like(wide, self.adaptivity**2)
        return GlobalState(wide, {"first": np.zeros_like(wide), "second": second})

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """Takes one step."""
        first, second = _moments(state, mean_delta, "first", "second")
        first = self.beta_1 * first + (1 - self.beta_1) * mean_delta
        second = self._second(second, mean_delta**2)
        step = self.learning_rate * first / (np.sqrt(second) + self.adaptivity)
        return GlobalState(state.parameters + step, {"first": first, "second": second})

    def _second(self, second: Vector, square: Vector) -> Vector:
        """Moves v towards delta^2, by a share of their difference."""
        return self.beta_2 * second + (1 - self.beta_2) * square


@dataclass(frozen=True, kw_only=True)
class FedYogi(FedAdam):
    """FedAdam with v <- v - (1-b2) delta^2 sign(v - delta^2): v falls slowly, whatever its size."""

    def _second(self, second: Vector, square: Vector) -> Vector:
        """Moves v towards delta^2, by a share of delta^2."""
        return second - (1 - self.beta_2) * square * np.sign(second - square)


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which server optimizer, with which settings.

    Attributes:
      optimizer: "fedavg", "fedavgm", "fedadam" or "fedyogi".
      learning_rate: of the server.
      momentum: of FedAvgM; first decay of FedAdam and FedYogi.
      beta_2: second decay of FedAdam and FedYogi.
      adaptivity: tau of FedAdam and FedYogi.

    Raises:
      ValueError: if there is no optimizer of that name, or a setting is out of range.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    beta_2: float
    adaptivity: float

    def __post_init__(self) -> None:
        """Checks the settings."""
        self.build()

    def build(self) -> ServerOptimizer:
        """Returns the optimizer."""
        rate, momentum = self.learning_rate, self.momentum
        adaptive = {
            "learning_rate": rate,
            "beta_1": momentum,
            "beta_2": self.beta_2,
            "adaptivity": self.adaptivity,
        }
        match self.optimizer:
            case "fedavg":
                return FedAvg(learning_rate=rate)
            case "fedavgm":
                return FedAvgM(learning_rate=rate, momentum=momentum)
            case "fedadam":
                return FedAdam(**adaptive)
            case "fedyogi":
                return FedYogi(**adaptive)
        raise ValueError(
            f"optimizer must be fedavg, fedavgm, fedadam or fedyogi, got {self.optimizer!r}"
        )


def _moments(state: GlobalState, mean_delta: Vector, *names: str) -> list[Vector]:
    """Returns the named moments after checking that state, delta and optimizer fit."""
    if mean_delta.shape != state.parameters.shape:
        raise ValueError(
            f"expected a delta of shape {state.parameters.shape}, got {mean_delta.shape}"
        )
    if set(state.moments) != set(names):
        raise ValueError(
            f"this optimizer remembers {sorted(names)}, the state has {sorted(state.moments)}"
        )
    if any(moment.shape != mean_delta.shape for moment in state.moments.values()):
        raise ValueError(f"moments must have the shape of the parameters, {mean_delta.shape}")
    return [state.moments[name] for name in names]


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {name}={value}")


def _check_decay(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {name}={value}")
