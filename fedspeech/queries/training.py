"""The query that trains an adapter: phones contribute deltas, the server takes a step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import ServerOptimizer
from fedspeech.aggregation.own_optimizer import OwnOptimizer, open_optimizer
from fedspeech.errors import ScenarioError
from fedspeech.models.adapters import adapter_class
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.own_code import address_of
from fedspeech.population import PopulationArrays
from fedspeech.privacy.examples import ExampleCost, ExamplePrivacy
from fedspeech.queries.query import Query
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset, lowest_label
from fedspeech.training.dp_sgd import example_cost, train_private
from fedspeech.training.local import adapter_loss
from fedspeech.training.own_trainer import OwnTrainer
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta, FloatVector, GlobalState, Vector

TrainingFunction = Callable[
    [
        Adapter,
        Mapping[str, NDArray[np.float32]],
        Sequence[LocalDataset],
        LocalTraining,
        Sequence[np.random.Generator],
    ],
    Sequence[Delta],
]


@dataclass(frozen=True, kw_only=True)
class AdapterTraining(Query):
    """Trains one adapter of all phones (federated averaging and its relatives).

    Attributes:
      training: what a phone does in a round.
      adapter: what is trained.
      optimizer: what the server does with the mean delta.
      example_privacy: how training hides single clips of a phone; None: it does not.
      trainer: what trains in the place of this library; None: nothing does. A job file can name
        an `OwnTrainer`; anything else, for instance an exported file, trains in process alone.
      frozen: what of the job's arrays phones train through, see `on`. No job file holds it.

    Raises:
      ValueError: if a trainer of another package is to hide single clips.
    """

    training: LocalTraining
    adapter: AdapterShape
    optimizer: ServerOptimizer
    example_privacy: ExamplePrivacy | None = None
    trainer: TrainingFunction | None = None
    frozen: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses a promise that nobody could keep."""
        # The steps of DP-SGD are this library's own: what another's code does with a clip is not
        # known, so nothing can be said of one clip.
        if self.example_privacy is not None and isinstance(self.trainer, OwnTrainer):
            raise ValueError(
                "training.example_privacy must not be set beside an own trainer: DP-SGD clips and "
                "noises each step of this library's training, and the steps of "
                f"{self.trainer.trainer} are not known. Unset either; the guarantee of the whole "
                "phone holds with both"
            )

    @classmethod
    def of(cls, query: Query) -> AdapterTraining:
        """A query that is one of these.

        Raises:
          ScenarioError: if it asks something else.
        """
        if not isinstance(query, AdapterTraining):
            raise ScenarioError(
                f"this run trains no adapter: its query is {address_of(type(query))}"
            )
        return query

    def on(self, arrays: PopulationArrays) -> Self:
        """The query with the frozen graph that an inner adapter trains through; see `Query.on`."""
        if self.adapter.lora is None:
            return self
        query = replace(self, frozen=arrays.frozen)
        try:
            _ = query.built
        except ValueError as error:
            raise ScenarioError(f"the job's arrays do not hold its adapter: {error}") from error
        return query

    @functools.cached_property
    def built(self) -> Adapter:
        """The adapter."""
        return self.adapter.build(self.frozen)

    @property
    def dimension(self) -> int:
        """Parameters of the adapter."""
        return self.adapter.spec.size

    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """Starts from the adapter that the arrays hold; tries an own trainer on public clips.

        Raises:
          OwnCodeFailed: if own code breaks a rule, before a round is paid for.
        """
        if isinstance(self.trainer, OwnTrainer):
            public = arrays.background if len(arrays.background) else arrays.validation
            start = self.adapter.spec.unflatten(arrays.initial)
            self.trainer.try_out(self.on(arrays).built, start, public, self.training)
        return self.optimizer.init(arrays.initial)

    def contributions(
        self,
        phones: Sequence[LocalDataset],
        model: FloatVector,
        rngs: Sequence[np.random.Generator],
    ) -> Sequence[FloatVector]:
        """Trains each phone from the global adapter and returns the deltas."""
        deltas = self.train(
            self.built, self.built.spec.unflatten(model), phones, self.training, rngs
        )
        return [delta.vector for delta in deltas]

    @property
    def train(self) -> TrainingFunction:
        """How phones train: plainly, or so that single clips are hidden."""
        if self.trainer is not None:
            return self.trainer
        if self.example_privacy is None:
            return train_cohort
        return functools.partial(train_private, privacy=self.example_privacy)

    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """Takes one step of the server optimizer."""
        return self.optimizer.apply(state, mean)

    def public_loss(self, model: FloatVector, public: LocalDataset) -> float | None:
        """What local training minimizes, on public clips, in nats."""
        return adapter_loss(self.built, self.built.spec.unflatten(model), public)

    @property
    def draws_secrets(self) -> bool:
        """Whether the draws hide single clips."""
        return self.example_privacy is not None

    def example_cost(self, max_participations: int) -> ExampleCost | None:
        """The steps of DP-SGD that hide an example, if training does."""
        if self.example_privacy is None:
            return None
        return example_cost(self.example_privacy, self.training, max_participations)

    @property
    def flops(self) -> float:
        """As many clips as a phone may use, each forward and both halves of backward."""
        # A product and a sum for each parameter and window, three times; frozen layers, which have
        # no half for their own weights, twice.
        inner = 0 if self.adapter.lora is None else 4.0 * self.adapter.lora.multiplications
        per_clip = inner + 6.0 * self.dimension * self.adapter.num_windows
        return per_clip * self.training.max_examples * self.training.local_epochs

    def check(self, arrays: PopulationArrays) -> None:
        """Refuses labels that the adapter has no output for."""
        labels = np.concatenate([arrays.labels, arrays.background.labels])
        if (
            labels.size
            and not lowest_label(labels) <= labels.min() <= labels.max() < self.adapter.num_labels
        ):
            # Found here, where it stops everybody, not on the phone whose label it is.
            raise ScenarioError(f"job labels must be in [0, {self.adapter.num_labels})")

    def brought(self) -> tuple[Any, ...]:
        """The query, and the adapter, server rule and trainer that a job names."""
        own = self.adapter.name
        adapter = (adapter_class(own),) if ":" in own else ()
        rule = (type(self.optimizer.built),) if isinstance(self.optimizer, OwnOptimizer) else ()
        trainer = (self.trainer.code,) if isinstance(self.trainer, OwnTrainer) else ()
        return (type(self), *adapter, *rule, *trainer)

    def settings(self) -> dict[str, Any]:
        """The fields as plain values; without a trainer, where there is none."""
        if not isinstance(self.trainer, OwnTrainer | None):
            raise TypeError("a query with a trainer of its own has no name in a job file")
        settings = super().settings()
        if self.trainer is None:  # as in the runs before a file could name one
            del settings["trainer"]
        del settings["frozen"]
        return settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Inverts `settings`."""
        clips, trainer = settings.get("example_privacy"), settings.get("trainer")
        return cls(
            **{
                **settings,
                "training": LocalTraining(**settings["training"]),
                "adapter": AdapterShape.from_settings(settings["adapter"]),
                "optimizer": open_optimizer(settings["optimizer"]),
                "example_privacy": clips and ExamplePrivacy(**clips),
                "trainer": trainer and OwnTrainer(**trainer),
            }
        )

    def identity(self) -> dict[str, Any]:
        """The settings under the names that the noise of recorded runs was derived from."""
        settings = self.settings()
        settings["server"] = settings.pop("optimizer")
        if self.example_privacy is None:
            del settings["example_privacy"]
        # Settings that later versions added, where they are what they always were.
        if settings["adapter"].get("activation") == "relu":
            del settings["adapter"]["activation"]
        if self.adapter.lora is None:
            del settings["adapter"]["lora"]
        return settings
