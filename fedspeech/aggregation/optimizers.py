"""What the server does with the decoded mean delta: four optimizers as pure functions.

Reddi et al. 2021 (arXiv:2003.00295), Algorithm 2. The mean delta is a pseudo-gradient that is
added. Everything here is post-processing of a private sum and costs no privacy.

    optimizer = ServerOptimizer(
        optimizer="fedadam", learning_rate=0.01, momentum=0.9, beta_2=0.99, adaptivity=1e-3
    )
    state = optimizer.init(parameters)
    state = optimizer.apply(state, mean_delta)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.vectors import GlobalState, Vector

_MOMENTS: dict[str, tuple[str, ...]] = {
    "fedavg": (),
    "fedavgm": ("first",),
    "fedadam": ("first", "second"),
    "fedyogi": ("first", "second"),
}


@dataclass(frozen=True, kw_only=True)
class ServerOptimizer:
    """One server optimizer: state in, state out.

    | optimizer | step on a mean delta |
    |---|---|
    | fedavg | x <- x + eta delta |
    | fedavgm | m <- beta m + delta; x <- x + eta m (Hsu et al. 2019, arXiv:1909.06335) |
    | fedadam | m <- beta m + (1-beta) delta; v <- b2 v + (1-b2) delta^2; |
    | | x <- x + eta m / (sqrt(v) + tau); no bias correction and v_0 = tau^2, as in the paper |
    | fedyogi | fedadam with v <- v - (1-b2) delta^2 sign(v - delta^2): v falls slowly |

    Attributes:
      optimizer: of the table.
      learning_rate: eta.
      momentum: beta, in [0, 1).
      beta_2: in [0, 1).
      adaptivity: tau; the smaller, the more adaptive.

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
        require(
            self.optimizer in _MOMENTS,
            f"optimizer must be one of {', '.join(_MOMENTS)}",
            optimizer=self.optimizer,
        )
        for name in ("learning_rate", "adaptivity"):
            value = getattr(self, name)
            fits = math.isfinite(value) and value > 0
            require(fits, f"{name} must be positive and finite", **{name: value})
        for name in ("momentum", "beta_2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must be in [0, 1)", **{name: value})

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """The state before the first round, from parameters of shape (d,)."""
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
            step = moments["first"] = self.momentum * moments["first"] + mean_delta
        elif "second" in moments:
            first = self.momentum * moments["first"] + (1 - self.momentum) * mean_delta
            moments = {"first": first, "second": self._second(moments["second"], mean_delta**2)}
            scaled = self.learning_rate * first / (np.sqrt(moments["second"]) + self.adaptivity)
            return GlobalState(state.parameters + scaled, moments)
        return GlobalState(state.parameters + self.learning_rate * step, moments)

    def _second(self, second: Vector, square: Vector) -> Vector:
        if self.optimizer == "fedyogi":
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
