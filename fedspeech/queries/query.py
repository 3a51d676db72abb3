"""What a round asks of phones, and what it does with the sum.

A query says how long a contribution is, what a phone contributes and what the server does with the
decoded mean. It clips nothing, draws no noise and sees no sum before it is paid for: the round does
that for every query alike, by the privacy plan (`fedspeech.round.run_round`).

    class Mean(Query):                                  # of one number per phone
        dimension = 1
        def initial(self, arrays): return GlobalState(np.zeros(1))
        def contributions(self, phones, model, rngs): return [number_of(phone) for phone in phones]
        def update(self, state, mean): return GlobalState(mean)

A job names its query as `module:Class`, so that every node builds the same one; which names a node
imports, `fedspeech.own_code` says.
"""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ScenarioError
from fedspeech.own_code import CodeKind, address_of, source_of
from fedspeech.population import PopulationArrays
from fedspeech.privacy.examples import ExampleCost
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.privacy.spending import Purpose
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

QUERIES = CodeKind(noun="a query", group="fedspeech.queries", room="fedspeech.queries")


class Query(abc.ABC):
    """One kind of round. A query is a frozen dataclass whose fields are its settings."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Length of a contribution; the privacy plan has the same."""

    def on(self, arrays: PopulationArrays) -> Self:
        """The query with what it needs of the job's arrays; `contributions` is asked of this one.

        Raises:
          ScenarioError: if they hold something else.
        """
        del arrays
        return self

    @abc.abstractmethod
    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """The state before the first round; from the public arrays only."""

    @abc.abstractmethod
    def contributions(
        self,
        phones: Sequence[LocalDataset],
        model: FloatVector,
        rngs: Sequence[np.random.Generator],
    ) -> Sequence[FloatVector]:
        """What phones contribute, each from its own data alone, before the plan clips it.

        The model is `GlobalState.parameters` as the server sent it, float32. Each phone has a
        generator, secret where `draws_secrets` says so, and gives one vector, shape (dimension,),
        float32, in order.

        Raises:
          ValueError: if the model has another shape than this query's.
        """

    def contributions_of(
        self,
        arrays: PopulationArrays,
        phones: NDArray[np.int64],
        model: FloatVector,
        rngs: Sequence[np.random.Generator],
    ) -> NDArray[np.float32]:
        """The same of the phones with these numbers, shape (phones, dimension).

        A query may read the arrays of all of them at once.
        """
        held = [arrays.phone(phone) for phone in phones.tolist()]
        return np.reshape(self.contributions(held, model, rngs), (len(held), self.dimension))

    @abc.abstractmethod
    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """The state after a round: post-processing, which costs no privacy.

        The state before is left unchanged; `mean` is the decoded sum over the expected cohort.
        """

    def public_loss(self, model: FloatVector, public: LocalDataset) -> float | None:
        """Loss of a released model on public clips, by which a run may stop; None: it has none."""
        return None

    @property
    def purpose(self) -> Purpose:
        """What its runs are for, as their population's ledger keeps it."""
        return "training"

    @property
    def release_window(self) -> ReleaseWindow | None:
        """What a run of it releases once; None: nothing that is released by windows."""
        return None

    @property
    def draws_secrets(self) -> bool:
        """Whether what phones draw protects somebody; else it follows from the job's seed."""
        return False

    def example_cost(self, max_participations: int) -> ExampleCost | None:
        """What the rounds that a phone may join cost one of its examples; None: it hides none."""
        return None

    @property
    def flops(self) -> float:
        """Operations of one phone in one round, at most; simulated time depends on it."""
        return 0.0

    def check(self, arrays: PopulationArrays) -> None:  # noqa: B027 (most have nothing to check)
        """Refuses arrays that this query cannot ask.

        Raises:
          ScenarioError: if they do not fit.
        """

    def settings(self) -> dict[str, Any]:
        """The fields as plain values, from which `from_settings` builds the same query."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Inverts `settings`.

        Raises:
          TypeError, ValueError: if they are not this query's.
        """
        return cls(**settings)

    def identity(self) -> dict[str, Any]:
        """What of the query belongs to the identity of a run, by name."""
        return {"query": self.described()}

    def described(self) -> dict[str, Any]:
        """What a job file says of the query."""
        return {"class": address_of(type(self)), "settings": self.settings()}

    def brought(self) -> tuple[Any, ...]:
        """Its classes and functions that may be of another package."""
        return (type(self),)

    def code(self) -> bytes:
        """Source of what another package brings, which both sides compare."""
        return source_of(self.brought())


def open_query(described: Mapping[str, Any]) -> Query:
    """Builds the query that a job file describes.

    Raises:
      ScenarioError: if it names a class that may not be imported, or that is no query.
      KeyError, TypeError, ValueError: if the description or its settings do not fit.
    """
    return query_class(described["class"]).from_settings(described["settings"])


def query_class(address: str) -> type[Query]:
    """Imports a query by `module:Class`, if it is of this package or installed as a query.

    Raises:
      ScenarioError: if it is neither, cannot be imported, or is no query.
    """
    found = QUERIES.find(address)
    if not (isinstance(found, type) and issubclass(found, Query)) or inspect.isabstract(found):
        raise ScenarioError(f"{address!r:.80} must be a class of queries, a Query")
    return found
