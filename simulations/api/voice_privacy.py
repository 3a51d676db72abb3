"""Measures of voice privacy and of use, from plain data."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fedspeech.errors import FedspeechError
from simulations.api.records import Records
from simulations.console import Console

if TYPE_CHECKING:
    from fedspeech.evaluation.metric import Metric
    from fedspeech.evaluation.voice_privacy.bootstrap import Marked

_STDIN = "-"
_MOST_BYTES = 500_000_000


@dataclass(frozen=True, kw_only=True)
class VoicePrivacy:
    """Figures of one measure, as `print` shows them and `record` gives them.

    Attributes:
      metric: name of the measure.
      says: what it tells, and which way is private.
      figures: each with its interval and mark.
      units_are: what was resampled, in words.
    """

    metric: str
    says: str
    figures: tuple[Marked, ...]
    units_are: str

    def record(self) -> dict[str, Any]:
        """As plain data; docs/voice-privacy.md names every key."""
        return {
            "metric": self.metric,
            "says": self.says,
            "units_are": self.units_are,
            "figures": [_record(one) for one in self.figures],
        }

    def print(self, console: Console) -> None:
        """Prints one line a figure."""
        console.print(self.says)
        for row in self.record()["figures"]:
            console.print(f"  {_line(row)}")
            if row["difference"]:
                console.print(f"  {_line(row['difference'])}")
        console.print(
            f"  95 % intervals over {self.figures[0].metric.phones} {self.units_are}; "
            "* p < 0.05, ** p < 0.01, *** p < 0.001"
        )


def voice_privacy(
    metric: str, given: Mapping[str, Any], *, seed: int = 1, resamples: int = 2_000
) -> VoicePrivacy:
    """Computes one measure, each figure with a bootstrap interval and a mark of significance.

        >>> import fedspeech as fs
        >>> found = fs.voice_privacy("eer", {"target": [1, 2, 3, 4], "nontarget": [0, 1.5, 2.5, 0]})
        >>> found.figures[0].metric.value
        0.25

    Args:
      metric: one of `voice_privacy_metrics()`.
      given: its fields; "other" may hold the same fields of a second system, with which every
        figure is compared.
      seed: of the draws.
      resamples: draws behind an interval.

    Raises:
      FedspeechError: naming the field and what is wrong with it.
    """
    from fedspeech.evaluation.voice_privacy.bootstrap import measured
    from fedspeech.evaluation.voice_privacy.measures import MEASURES
    from fedspeech.seeds import stream

    if metric not in MEASURES:
        raise FedspeechError(f"metric must be one of {', '.join(MEASURES)}, got {metric}")
    measure = MEASURES[metric]
    try:
        own = {name: value for name, value in given.items() if name != "other"}
        sample, other = measure.sample(own), None
        if "other" in given:
            if not isinstance(given["other"], Mapping):
                raise ValueError("other must be an object with the same fields")
            other = measure.sample(given["other"])
        rng = stream(seed, "bootstrap", metric)
        figures = measured(sample, rng, other=other, resamples=resamples)
    except ValueError as error:
        raise FedspeechError(f"{metric}: {error}") from None
    return VoicePrivacy(metric=metric, says=measure.says, figures=figures, units_are=sample.kind)


def voice_privacy_file(
    metric: str, source: str | Path, *, seed: int = 1, resamples: int = 2_000
) -> VoicePrivacy:
    """Reads the fields of a measure from a JSON file and computes it; see `voice_privacy`.

        >>> import fedspeech as fs
        >>> _ = open("pairs.json", "w").write('{"target": [2, 1], "nontarget": [-1, -2]}')
        >>> round(fs.voice_privacy_file("cllr", "pairs.json").figures[0].metric.value, 6)
        0.31753

    Args:
      metric: one of `voice_privacy_metrics()`.
      source: a file, or "-" for standard input.
      seed: of the draws.
      resamples: draws behind an interval.

    Raises:
      FedspeechError: if it is no JSON object, or as `voice_privacy` does.
      OSError: if the file cannot be read.
    """
    with _opened(source) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise FedspeechError(f"the input may have at most {_MOST_BYTES} bytes")
    try:
        given = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise FedspeechError("the input is not UTF-8") from None
    except (ValueError, RecursionError):
        raise FedspeechError("the input is no JSON") from None
    if not isinstance(given, dict):
        raise FedspeechError(f"the input must be a JSON object, got {type(given).__name__}")
    return voice_privacy(metric, given, seed=seed, resamples=resamples)


def voice_privacy_metrics() -> Records:
    """Every measure with its fields, those in brackets optional.

    >>> import fedspeech as fs
    >>> len(fs.voice_privacy_metrics()) >= 19
    True
    """
    from fedspeech.evaluation.voice_privacy.measures import MEASURES

    return Records(
        {
            "metric": name,
            "fields": ", ".join([*one.fields, *(f"[{more}]" for more in one.optional)]),
            "says": one.says,
        }
        for name, one in MEASURES.items()
    )


def _opened(source: str | Path) -> IO[bytes]:
    if str(source) == _STDIN:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    return Path(source).open("rb")


def _record(one: Marked) -> dict[str, Any]:
    from fedspeech.evaluation.voice_privacy.evidence import category

    metric, difference = one.metric, None
    if one.difference is not None:
        difference = {
            **_numbers(one.difference), "p_value": one.difference_p_value,
            "mark": one.difference_mark,
        }  # fmt: skip
    found = {
        **_numbers(metric), "by_chance": metric.by_chance, "p_value": one.p_value,
        "mark": one.mark, "units": metric.phones, "difference": difference,
    }  # fmt: skip
    if metric.name == "strongest evidence":
        found["category"] = category(metric.value)
    return found


def _numbers(metric: Metric) -> dict[str, Any]:
    interval = metric.interval
    return {
        "name": metric.name, "value": metric.value, "unit": metric.unit,
        "low": interval and interval.low, "high": interval and interval.high,
        "level": interval and interval.level,
    }  # fmt: skip


def _line(row: Mapping[str, Any]) -> str:
    said = f"{row['name']}: {row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"
    if "category" in row:
        said += f", category {row['category']}"
    if row.get("by_chance") is not None:
        said += f", by chance {row['by_chance']:.4g}"
    return said + (f" {row['mark']}" if row["mark"] else "")
