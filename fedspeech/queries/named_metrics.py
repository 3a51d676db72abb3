"""The figures of a voice product by name, as queries of what phones remember.

    accents = (Axis.of(schema, "accent"),)
    query = NAMED["false_rejects_per_1000"](schema, last_day=6, segments=accents)

A plan file names them. Each is a ratio of two noisy counts with an interval, or quantiles, or a
table of counts. What the events cannot say, docs/telemetry.md says: false accepts are those that
users canceled, and false rejects those after which users tried again.

A share counts one event of each phone, drawn at random: it is the share of a phone's events, over
all phones alike. A larger bound would make no smaller error, for noise grows with it as the counts
do. A rate per hour needs both the hours and the false accepts of a phone, so more events of it
count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fedspeech.device.telemetry import LAST_DAY, NONE, Schema
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.axes import Axis, Condition
from fedspeech.queries.confusion import Confusion
from fedspeech.queries.quantile_search import best
from fedspeech.queries.ratios import Ratio
from fedspeech.queries.sums import Weights

COMMANDS = ("command_success", "command_failure", "correction")
INVOCATIONS = ("wake_trigger", *COMMANDS, "likely_false_reject")

SCORES = tuple(round(0.05 + 0.1 * bucket, 2) for bucket in range(10))
DECIBELS = tuple(-2.5 + 5 * bucket for bucket in range(8))
"""What stands for a bucket of the score and of the signal-to-noise ratio: its middle."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

HOURS: Mapping[str, float] = MappingProxyType(
    {"under 6 h": 3.0, "6 to 12 h": 9.0, "12 to 18 h": 15.0, "18 to 24 h": 21.0}
)
"""Hours that a bucket of listening counts for: its middle."""


@dataclass(frozen=True, kw_only=True)
class NamedMetric:
    """A figure of a product.

    Attributes:
      title: in words.
      factor: by which the query's estimate is multiplied to be shown in the unit.
      unit: that it is shown in.
      lower_is_better: whether a smaller figure is a better product.
      max_per_cell: events of one phone and window that count, unless a plan says otherwise.
      made: builds the query from a schema and the fields that every query of counts has.
    """

    title: str
    factor: float = 1.0
    unit: str = "share"
    lower_is_better: bool = True
    max_per_cell: int = 1
    made: Callable[..., Analytics]

    def __call__(
        self,
        schema: Schema,
        *,
        first_day: int = 0,
        last_day: int = LAST_DAY,
        where: tuple[Condition, ...] = (),
        segments: tuple[Axis, ...] = (),
        axes: tuple[Axis, ...] = (),
        max_cells: int = 1,
        max_per_cell: int | None = None,
        **settings: Any,
    ) -> Analytics:
        """The query of this figure.

        Args:
          schema: of the telemetry.
          first_day: of the window.
          last_day: of the window, included.
          where: what else an event must fulfil.
          segments: attributes of phones by which it is asked.
          axes: columns of events by which it is asked, such as the environment.
          max_cells: cells of one phone that count.
          max_per_cell: events of one phone that count in a cell; None: `self.max_per_cell`.
          **settings: what else the query has, such as the quantiles.
        """
        return self.made(
            schema,
            first_day=first_day,
            last_day=last_day,
            where=where,
            segments=segments,
            axes=axes,
            max_cells=max_cells,
            max_per_cell=max_per_cell or self.max_per_cell,
            **settings,
        )


def _share(numerator: tuple[str, ...], denominator: tuple[str, ...]) -> Callable[..., Ratio]:
    """Makes the query of a share of events by how interactions ended."""

    def made(schema: Schema, **fields: Any) -> Ratio:
        return Ratio(
            numerator=(Condition.of(schema, "event", numerator),),
            denominator=(Condition.of(schema, "event", denominator),),
            **fields,
        )

    return made


def _false_accepts_per_hour(schema: Schema, **fields: Any) -> Ratio:
    """Canceled false accepts over the hours of the days' buckets of listening."""
    return Ratio(
        numerator=(Condition.of(schema, "event", ("canceled_false_accept",)),),
        denominator=(Condition.of(schema, "event", ("listening",)),),
        weights=Weights.of(schema, "listening", HOURS),
        **fields,
    )


def _quantiles(column: str, numbers: tuple[float, ...]) -> Callable[..., Analytics]:
    """Makes the query of quantiles of what was measured when users spoke to the phone."""

    def made(schema: Schema, **fields: Any) -> Analytics:
        spoken = Condition.of(schema, "event", INVOCATIONS)
        return best(
            axis=Axis.of(schema, column, leave_out=(NONE,)),
            numbers=numbers,
            **{"quantiles": QUANTILES, **fields, "where": (spoken, *fields["where"])},
        )

    return made


def _intent_confusion(schema: Schema, **fields: Any) -> Confusion:
    """Counts by what was meant and what was answered, where the phone knows both."""
    known = Condition.of(schema, "event", ("command_success", "correction"))
    both = (Axis.of(schema, name, leave_out=(NONE,)) for name in ("word_or_intent", "answered"))
    axes = tuple(both)
    return Confusion(**{**fields, "where": (known, *fields["where"]), "axes": axes})


NAMED: Mapping[str, NamedMetric] = MappingProxyType(
    {
        "false_rejects_per_1000": NamedMetric(
            title="likely false rejects",
            factor=1000.0,
            unit="per 1,000 invocations",
            made=_share(("likely_false_reject",), INVOCATIONS),
        ),
        "command_success_rate": NamedMetric(
            title="commands that succeeded",
            lower_is_better=False,
            made=_share(("command_success",), COMMANDS),
        ),
        "correction_rate": NamedMetric(
            title="commands that users corrected",
            made=_share(("correction",), COMMANDS),
        ),
        "false_accepts_per_hour": NamedMetric(
            title="canceled false accepts",
            unit="per hour of listening",
            max_per_cell=8,
            made=_false_accepts_per_hour,
        ),
        "score_quantiles": NamedMetric(
            title="scores of words that users meant",
            unit="score",
            lower_is_better=False,
            made=_quantiles("score_bucket", SCORES),
        ),
        "snr_quantiles": NamedMetric(
            title="signal-to-noise ratios at which users speak",
            unit="dB",
            lower_is_better=False,
            made=_quantiles("snr_bucket", DECIBELS),
        ),
        "intent_confusion": NamedMetric(
            title="answers by what was meant",
            unit="commands",
            made=_intent_confusion,
        ),
    }
)
"""Figures by the names that plan files use."""
