"""Figures that say what they are: name, unit, model, segment, interval, and who could see them.

    found = Metric(name="word error rate", value=0.238, model="federated", lower_is_better=True)
    section = Section(key="error", title="Word errors", metrics=(found,))

Whatever scores a model hands on sections, and whatever shows, compares, publishes or searches reads
sections. Neither side asks which task it is: a new task brings its own names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

Visibility = Literal["public", "server", "simulation_only"]
"""Who could see a figure. `public`: anybody, from public speakers, the plan or the exported file.
`server`: the operator, who sees messages and sums. `simulation_only`: nobody outside a simulation,
because it is of single phones."""

Model = Literal["base", "federated", "personalized", "control"]
MODELS: tuple[Model, ...] = ("base", "federated", "personalized", "control")
"""The shared model before any round; with the adapter of the last round; adapted on a phone with
its own examples; adapted in the same way with another phone's examples."""

Unit = Literal["share", "probability", "number"]
"""`share`: 0 to 1, shown in percent; an error rate may exceed 1."""

ERROR = "error"
CHANGE = "change"
ACCURACY = "accuracy"
WORST_DECILE = "worst decile"
REGRESSION = "regression"
SHOTS = "shots"
VALIDATION = "validation"
"""Sections that an evaluation of every task has."""

Item = TypeVar("Item", bound="Metric | Chart | Matrix | Texts")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval.

    Attributes:
      low: lower end.
      high: upper end.
      level: coverage aimed at.
      method: how it was computed.
    """

    low: float
    high: float
    level: float = 0.95
    method: str = "bootstrap over phones"

    def __post_init__(self) -> None:
        """Refuses ends that are not finite or out of order."""
        if not self.low <= self.high:
            raise ValueError(f"low must not exceed high, got low={self.low}, high={self.high}")
        _require_finite("low and high", (self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A group of phones.

    Attributes:
      name: of the property, such as "accent".
      value: of it.
      merged: values that were too small to stand alone and are pooled here.
      in_pretraining_data: whether the base's speakers included the value; None if unknown.
    """

    name: str
    value: str
    merged: tuple[str, ...] = ()
    in_pretraining_data: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number with everything without which it says nothing.

    Attributes:
      name: what was measured, in words.
      value: the figure; finite.
      unit: what it is counted in; a share is shown in percent.
      lower_is_better: an error rather than a success.
      visibility: who could see it.
      model: whose; None where no model has a part in it.
      variant: what else tells it from others of its name, such as a way of decoding.
      segment: the phones that it is of; None: all held-out phones.
      phones: how many phones or speakers it is of.
      counted: observations behind it; 0: nothing was observed, and the value says nothing.
      by_chance: the value that luck alone would give.
      interval: of the value.
      headline: whether it is among the first figures of the console and of the report.
    """

    name: str
    value: float
    unit: Unit = "share"
    lower_is_better: bool = False
    visibility: Visibility = "simulation_only"
    model: Model | None = None
    variant: str = ""
    segment: Segment | None = None
    phones: int | None = None
    counted: int | None = None
    by_chance: float | None = None
    interval: Interval | None = None
    headline: bool = False

    def __post_init__(self) -> None:
        """Refuses what no file could hold."""
        _require_finite(self.name, (self.value, self.by_chance or 0.0))

    @property
    def whose(self) -> str:
        """The model and the variant, in words."""
        return " ".join(part for part in (self.model or "", self.variant) if part)


def since(model: Model) -> str:
    """The variant of a difference from an earlier model's figure."""
    return f"since {model}"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What one direction of a chart is.

    Attributes:
      name: in words.
      unit: of its values.
      logarithmic: whether equal ratios are equal lengths.
    """

    name: str
    unit: Unit = "share"
    logarithmic: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart.

    Attributes:
      name: of the line.
      x: positions, ascending.
      y: values, as many.
      model: whose; None where no model has a part in it.
      low: lower ends of intervals, as many; empty: none.
      high: upper ends, likewise.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    model: Model | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuses lists of different lengths."""
        lengths = {len(values) for values in (self.y, self.low, self.high) if values}
        if lengths - {len(self.x)} or bool(self.low) != bool(self.high):
            raise ValueError(
                f"x, y and both ends of intervals must be as long, got {len(self.x)}, "
                f"{len(self.y)}, {len(self.low)} and {len(self.high)} in {self.name}"
            )
        _require_finite(self.name, (*self.x, *self.y, *self.low, *self.high))


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Lines over one axis.

    Attributes:
      name: title.
      says: how to read it.
      x: what the lines run over.
      y: what they are of.
      curves: the lines.
      visibility: who could see it.
      counted: observations behind each position; empty where they are of no interest.
      single_phones: each position is one phone: it never leaves the operator's desk.
      marked: a position on `x` that is pointed out.
    """

    name: str
    says: str
    x: Axis
    y: Axis
    curves: tuple[Curve, ...]
    visibility: Visibility = "simulation_only"
    counted: tuple[int, ...] = ()
    single_phones: bool = False
    marked: float | None = None

    def of(self, model: Model) -> tuple[float, ...]:
        """Values of a model's first line; empty if it has none."""
        return next((curve.y for curve in self.curves if curve.model == model), ())


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Counts by what was said (rows) and what was answered (columns).

    Attributes:
      name: title.
      says: how to read it.
      labels: of rows and of columns.
      counts: row: said; column: answered.
      visibility: who could see it.
    """

    name: str
    says: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    visibility: Visibility = "simulation_only"

    def __post_init__(self) -> None:
        """Refuses what is not square."""
        size = len(self.labels)
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise ValueError(f"counts must be {size} by {size}, one row and column per label")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """A table of words; of synthesized speech alone, for nobody's words are written down.

    Attributes:
      name: title.
      header: names of the columns.
      rows: one text per column.
      visibility: who could see it.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    visibility: Visibility = "simulation_only"

    def __post_init__(self) -> None:
        """Refuses rows of another width."""
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"every row of {self.name} must have {len(self.header)} texts")


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures that are read together.

    Attributes:
      key: by which programs find it; one word or several joined by underscores.
      title: for readers.
      on: what the metrics are of, short enough for brackets behind a name.
      says: how it was measured.
      metrics: numbers; those of segments follow those of all phones.
      charts: curves.
      matrices: counts in a square.
      texts: examples of synthesized speech.
    """

    key: str
    title: str
    on: str = ""
    says: str = ""
    metrics: tuple[Metric, ...] = ()
    charts: tuple[Chart, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    texts: tuple[Texts, ...] = ()

    @property
    def whole(self) -> tuple[Metric, ...]:
        """Metrics of all phones."""
        return tuple(metric for metric in self.metrics if metric.segment is None)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics of all phones, each once, in order."""
        return tuple(dict.fromkeys(metric.name for metric in self.whole))

    def by_model(self, name: str = "") -> dict[Model, Metric]:
        """Metrics of a name by model, of all phones, without variants; "": the section's first."""
        wanted = name or next(iter(self.names), "")
        return {
            metric.model: metric
            for metric in self.whole
            if metric.name == wanted and metric.model and not metric.variant
        }

    def by_segment(self, name: str) -> dict[Segment, dict[Model, Metric]]:
        """Metrics of a name by segment and model."""
        found: dict[Segment, dict[Model, Metric]] = {}
        for metric in self.metrics:
            if metric.segment is not None and metric.name == name and metric.model:
                found.setdefault(metric.segment, {})[metric.model] = metric
        return found

    def of_models(self, models: Sequence[Model]) -> Section | None:
        """The section of some models alone; None if nothing of theirs is in it.

        Metrics and curves of no model stay where some of these models do; so do squares and texts,
        which are not of a single model.
        """
        if not any(metric.model in models for metric in self.metrics):
            return None
        kept = tuple(one for one in self.metrics if one.model is None or one.model in models)
        charts = []
        for chart in self.charts:
            curves = tuple(one for one in chart.curves if one.model is None or one.model in models)
            charts += [replace(chart, curves=curves)] if curves else []
        return replace(self, metrics=kept, charts=tuple(charts))

    def publishable(self) -> Section | None:
        """The section without what the operator alone may see; None if nothing is left of it.

        The server's own figures stay on its desk because readers are promised that they see no
        message, and lists of single phones because each entry is one person's.
        """
        kept = replace(
            self,
            metrics=tuple(_public(self.metrics)),
            charts=tuple(chart for chart in _public(self.charts) if not chart.single_phones),
            matrices=tuple(_public(self.matrices)),
            texts=tuple(_public(self.texts)),
        )
        return kept if kept.metrics or kept.charts or kept.matrices or kept.texts else None


def _public(items: Sequence[Item]) -> Iterator[Item]:
    """Items that are not the server's own."""
    return (item for item in items if item.visibility != "server")


def _require_finite(name: str, values: Sequence[float]) -> None:
    """Refuses NaN and infinity, which JSON has no word for."""
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name} must be finite, got {values}")
