"""What a round asks of phones, and what it does with the sum.

A query says how long a contribution is, what a phone contributes and what the server does with the
decoded mean. It clips nothing, draws no noise and sees no sum before it is paid for: the round does
that for every query alike, by the privacy plan (`fedspeech.round.run_round`).

    class Mean(Query):                                  # of one number per phone
        dimension = 1
        def initial(self, arrays): return GlobalState(np.zeros(1))
        def contributions(self, phones, model, rngs): return [number_of(phone) for phone in phones]
        def update(self, state, mean): return GlobalState(mean)

A job names its query as `module:Class`, so that every node builds the same one. A name runs code
when it is imported, so a node imports only the queries of this package and those that a package
installed on it declares:

    [project.entry-points."fedspeech.queries"]
    mean = "my_package.queries:Mean"
"""

from __future__ import annotations

import abc
import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

import numpy as np

from fedspeech.errors import ScenarioError
from fedspeech.population import PopulationArrays
from fedspeech.privacy.examples import ExampleCost
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

GROUP = "fedspeech.queries"  # of entry points; and the package whose queries need none


class Query(abc.ABC):
    """One kind of round. A query is a frozen dataclass whose fields are its settings."""

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """Length of a contribution; the privacy plan has the same."""

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

    @abc.abstractmethod
    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """The state after a round: post-processing, which costs no privacy.

        The state before is left unchanged; `mean` is the decoded sum over the expected cohort.
        """

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

    def code(self) -> bytes:
        """Its source, where it is not of this package, whose digest both sides compare anyway."""
        if _is_own(type(self).__module__):
            return b""
        return Path(inspect.getfile(type(self))).read_bytes()


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
    module, _, name = address.partition(":")
    if not _is_own(module) and address not in {e.value for e in entry_points(group=GROUP)}:
        raise ScenarioError(
            f"a query must be of {GROUP} or be declared as an entry point of the group {GROUP} by "
            f"a package that is installed here, got {address!r:.80}"
        )
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ScenarioError(f"the query {address!r:.80} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Query)) or inspect.isabstract(found):
        raise ScenarioError(f"{address!r:.80} must be a class of queries, a Query")
    return found


def address_of(query: type[Query]) -> str:
    """The name by which `query_class` finds a class."""
    return f"{query.__module__}:{query.__qualname__}"


def _is_own(module: str) -> bool:
    return module.startswith(f"{GROUP}.")
