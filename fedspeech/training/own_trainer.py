"""Local training of another package or program: what a phone does with its clips before the clip.

    def one_step(adapter, parameters, dataset, training, rng):      # plain gradient descent
        start = {name: torch.tensor(value[None]) for name, value in parameters.items()}
        ...
        return adapter.spec.flatten(changed)                        # local minus global

Epsilon does not depend on it. The plan clips whatever comes out to the clip norm, adds the noise
and prices a round by the clip norm alone: no line of the accounting reads how a delta came about.
Two conditions stand behind that, and this module holds both.

* A delta is a function of one phone's data. So one phone is trained at a time, by an instance of
  its own, and a try on public clips finds a trainer that remembers the phones before.
* Whether a phone reports does not depend on its data. So a trainer that fails on a phone, or
  returns no vector of its length, makes that phone send the zero vector, with full noise like any
  other.

The time that it takes is not padded as this library's own training is: a deadline may then tell
large phones from small ones. Single examples are not hidden: `example_privacy` is refused beside
it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import OwnCodeFailed, ScenarioError
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.own_code import CodeKind
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset, refuse_weights
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta, FloatVector

LOCAL_TRAINERS = CodeKind(noun="a local trainer", group="fedspeech.local_trainers")
TRIED_CLIPS = 8
_LOG = logging.getLogger(__name__)

TrainPhone = Callable[
    [
        Adapter,
        Mapping[str, NDArray[np.float32]],
        LocalDataset,
        LocalTraining,
        np.random.Generator,
    ],
    Delta | FloatVector,
]
"""Trains one phone: adapter, global parameters by name, clips, settings, the phone's generator.
Gives local minus global parameters, shape (d,)."""


@dataclass(frozen=True, kw_only=True)
class OwnTrainer:
    """A local trainer by its name; called like `cohort.train_cohort`.

    Attributes:
      trainer: `module:attr` of a function like `local.train_adapter`, or of a class whose instances
        are called like it.
      settings: what the class is made with.

    Raises:
      ScenarioError: if it may not be imported, takes other settings, or cannot be called.
    """

    trainer: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Finds the trainer, so that a job that cannot run is refused where it is read."""
        self.built()

    @classmethod
    def of(cls, trainer: object) -> OwnTrainer:
        """The trainer that a Python program gives: a function, or an instance of a dataclass.

        Raises:
          ScenarioError: if no file could name it.
        """
        address, settings = LOCAL_TRAINERS.named(trainer)
        return cls(trainer=address, settings=settings)

    @functools.cached_property
    def code(self) -> Any:
        """The class or function behind the name."""
        return LOCAL_TRAINERS.find(self.trainer)

    def built(self) -> TrainPhone:
        """A trainer that has seen no phone."""
        built = LOCAL_TRAINERS.build(self.trainer, self.settings)
        if not callable(built):
            raise ScenarioError(
                f"a local trainer must be a function or a class with __call__, and {self.trainer} "
                f"is a {type(built).__name__}"
            )
        return built  # type: ignore[no-any-return]

    def __call__(
        self,
        adapter: Adapter,
        parameters: Mapping[str, NDArray[np.float32]],
        datasets: Sequence[LocalDataset],
        training: LocalTraining,
        rngs: Sequence[np.random.Generator],
    ) -> list[Delta]:
        """Trains phone by phone; one on which the trainer fails sends the zero vector."""
        refuse_weights(datasets, "an own trainer")
        deltas = []
        for place in range(len(datasets)):
            try:
                delta = self._one(adapter, parameters, datasets[place], training, rngs[place])
            except Exception as error:  # whatever another's code raises
                # Said on this machine alone, and by its type: its text may hold what was said.
                _LOG.warning(
                    "the local trainer %s failed on a phone, which sends zeros: %s",
                    self.trainer, type(error).__name__,
                )  # fmt: skip
                delta = Delta(np.zeros(adapter.spec.size, np.float32))
            deltas.append(delta)
        return deltas

    def try_out(
        self,
        adapter: Adapter,
        parameters: Mapping[str, NDArray[np.float32]],
        public: LocalDataset,
        training: LocalTraining,
    ) -> None:
        """Trains on public clips, before a round is paid for; nothing of it is kept.

        Raises:
          OwnCodeFailed: naming the trainer and what it broke.
        """
        some, others = public.first(TRIED_CLIPS), public.first(TRIED_CLIPS // 2)
        found = []
        for dataset in (some, others, some, public.first(0)):
            try:
                delta = self._one(adapter, parameters, dataset, training, stream(0, "try"))
            except OwnCodeFailed:
                raise
            except Exception as error:  # of public clips: its text may be shown
                raise self._broken(
                    f"raised {type(error).__name__} on {len(dataset)} public clips: {error}"
                ) from error
            found.append(delta.vector)
        if not all(np.isfinite(vector).all() for vector in found):
            raise self._broken("must return finite numbers, and on public clips it did not")
        if not np.array_equal(found[0], found[2]):
            raise self._broken(
                "must give the same delta for the same phone and generator, whatever it trained "
                "before: it keeps nothing and draws from its generator alone"
            )

    def _one(
        self,
        adapter: Adapter,
        parameters: Mapping[str, NDArray[np.float32]],
        dataset: LocalDataset,
        training: LocalTraining,
        rng: np.random.Generator,
    ) -> Delta:
        """Trains one phone, by a trainer that has seen no other and on copies of what it has."""
        found = self.built()(
            adapter,
            {name: np.array(value) for name, value in parameters.items()},
            LocalDataset(np.array(dataset.embeddings), np.array(dataset.labels)),
            training,
            rng,
        )
        vector = found.vector if isinstance(found, Delta) else found
        shape = (adapter.spec.size,)
        if not isinstance(vector, np.ndarray) or vector.shape != shape or vector.dtype.kind != "f":
            got = (
                f"{vector.dtype} of shape {vector.shape}"
                if isinstance(vector, np.ndarray)
                else type(vector).__name__
            )
            raise self._broken(f"must return floats of shape {shape}, got {got}")
        return Delta(vector.astype(np.float32))

    def _broken(self, words: str) -> OwnCodeFailed:
        return OwnCodeFailed(f"the local trainer {self.trainer} {words}")
