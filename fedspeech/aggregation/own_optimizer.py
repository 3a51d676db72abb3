"""A server rule of another package or program, held to what a rule may do.

    @dataclass(frozen=True, kw_only=True)
    class Signs:                                      # signSGD on the mean
        rate: float = 0.01

        def init(self, parameters):
            return GlobalState(parameters)

        def apply(self, state, mean_delta):
            return GlobalState(state.parameters + self.rate * np.sign(mean_delta))

Its step is post-processing: a function of the state, which follows from earlier means, and of this
round's mean, which the ledger has paid for. So epsilon does not depend on the rule (Dwork and Roth
2014, Proposition 2.1). It would if the rule read anything else of private speech, for instance the
recordings of held-out phones: it is given neither, and an author who opens such a file breaks a
promise that no check of this module can keep.

What comes back is checked, because a broken rule costs rounds that are paid for: shape, float64,
finite also as the float32 that phones are sent, nothing changed in place, and the same result when
asked again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import FedOpt, ServerOptimizer
from fedspeech.aggregation.single_updates import refuse_reader_of_replies
from fedspeech.errors import OwnCodeFailed, ScenarioError
from fedspeech.own_code import CodeKind
from fedspeech.vectors import GlobalState, Vector

SERVER_OPTIMIZERS = CodeKind(noun="a server rule", group="fedspeech.server_optimizers")
# Of what a rule remembers, in states and checkpoints, which hold arrays of the server beside it.
_OWN = "own."


@dataclass(frozen=True, kw_only=True)
class OwnOptimizer:
    """A server rule by its name.

    Attributes:
      rule: `module:attr` of a class with `init` and `apply`, or of an object that has them.
      settings: what the class is made with.

    Raises:
      ScenarioError: if it may not be imported, takes other settings, or is no rule of a mean.
    """

    rule: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Finds the rule, so that a job that cannot run is refused where it is read."""
        self.built  # noqa: B018

    @classmethod
    def of(cls, rule: object) -> OwnOptimizer:
        """The rule that a Python program gives: an instance of a dataclass.

        Raises:
          ScenarioError: if no file could name it.
        """
        address, settings = SERVER_OPTIMIZERS.named(rule)
        return cls(rule=address, settings=settings)

    @functools.cached_property
    def built(self) -> ServerOptimizer:
        """The rule itself."""
        built = SERVER_OPTIMIZERS.build(self.rule, self.settings)
        try:
            refuse_reader_of_replies(built, self.rule)
        except ValueError as error:
            raise ScenarioError(str(error)) from error
        for method in ("init", "apply"):
            if not callable(getattr(built, method, None)):
                raise ScenarioError(
                    f"a server rule must have init and apply, and {self.rule} has no {method}"
                )
        return built  # type: ignore[no-any-return]

    def init(self, parameters: NDArray[np.floating]) -> GlobalState:
        """The state before the first round, from parameters of shape (d,).

        The rule takes two steps first that nobody keeps, so that a broken one costs no round.

        Raises:
          OwnCodeFailed: naming the rule, what it broke and the value.
        """
        start = parameters.astype(np.float64)
        state = self._kept("init", lambda: self.built.init(_read_only(start)), start)
        if not np.array_equal(state.parameters, start):
            raise self._broken("init", "must begin with the parameters that it is given")
        for mean in (np.zeros_like(start), np.linspace(-1e-2, 1e-2, len(start))):
            once, again = self.apply(state, mean), self.apply(state, mean)
            if not _same(once, again):
                raise self._broken(
                    "apply",
                    "must give the same state for the same state and mean: what it remembers "
                    "belongs into the state's moments, and it draws nothing at random",
                )
        return state

    def apply(self, state: GlobalState, mean_delta: Vector) -> GlobalState:
        """The state after one round with this decoded mean; the one before is left unchanged.

        Raises:
          OwnCodeFailed: naming the rule, what it broke and the value.
        """
        given = GlobalState(
            _read_only(state.parameters),
            {name.removeprefix(_OWN): _read_only(moment) for name, moment in state.moments.items()},
        )
        mean = _read_only(mean_delta)
        return self._kept("apply", lambda: self.built.apply(given, mean), state.parameters)

    def _kept(
        self, method: str, call: Callable[[], GlobalState], parameters: Vector
    ) -> GlobalState:
        """Copies of what the rule returns, checked."""
        try:
            found = call()
        except Exception as error:  # whatever another's code raises
            words = f"raised {type(error).__name__}: {error}"
            if "read-only" in str(error):
                words = "must not change the state or the mean in place: it gets them read-only"
            raise self._broken(method, words) from error
        if not isinstance(found, GlobalState):
            raise self._broken(method, f"must return a GlobalState, got {type(found).__name__}")
        if np.shape(found.parameters) != parameters.shape:
            raise self._broken(
                method,
                f"must return parameters of shape {parameters.shape}, got "
                f"{np.shape(found.parameters)}",
            )
        moments = {
            f"{_OWN}{name}": self._array(method, name, moment)
            for name, moment in found.moments.items()
        }
        return GlobalState(self._array(method, "parameters", found.parameters), moments)

    def _array(self, method: str, name: str, array: Any) -> Vector:
        """A copy of one array of a state."""
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            kind = getattr(array, "dtype", type(array).__name__)
            raise self._broken(method, f"must return {name} as a float64 array, got {kind}")
        with np.errstate(over="ignore"):
            wrong = int((~np.isfinite(array.astype(np.float32))).sum())
        if wrong:
            raise self._broken(
                method,
                f"must return {name} that are finite as float32, got {wrong} of {array.size} that "
                "are not",
            )
        return np.array(array, order="C")

    def _broken(self, method: str, words: str) -> OwnCodeFailed:
        return OwnCodeFailed(f"the server rule {self.rule}: {method} {words}")


def open_optimizer(settings: Mapping[str, Any]) -> ServerOptimizer:
    """The optimizer of a job file: one that ships, or a rule by its name.

    Raises:
      ScenarioError, TypeError, ValueError: if there is none, or it takes other settings.
    """
    return OwnOptimizer(**settings) if "rule" in settings else FedOpt(**settings)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _same(one: GlobalState, other: GlobalState) -> bool:
    """Whether two states agree bit for bit."""
    mine, theirs = one.to_arrays(), other.to_arrays()
    return mine.keys() == theirs.keys() and all(
        np.array_equal(mine[name], theirs[name]) for name in mine
    )
