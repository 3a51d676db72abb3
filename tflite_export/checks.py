"""A check of a file: one figure, one limit, and a refusal that names both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fedspeech.errors import ExportRefused

_ROUNDING = 1e-12
_SAME_ANSWER = ("agreement", "same answer", "same label of a window")
_LOGITS = (
    "logits, largest difference", "largest difference of a logit from torch",
    "window, largest difference", "hop, largest difference", "embed, largest difference",
)  # fmt: skip


class AtWork(str):
    """What is measured next, in words; stands before its checks, for whoever waits for them."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was measured on a file and what was allowed.

    Attributes:
      name: of what was measured, such as "waveform logits".
      rule: whether `limit` is the most or the least that is allowed for `figure`.
      over: on what it was measured, in words.
    """

    name: str
    figure: float
    rule: Literal["at most", "at least"]
    limit: float
    over: str

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the limit; NaN never does."""
        # Two equal shares that were computed in two ways may differ in the last digit.
        rounding = _ROUNDING * abs(self.limit)
        if self.rule == "at most":
            return self.figure <= self.limit + rounding
        return self.figure >= self.limit - rounding

    def in_words(self) -> tuple[str, str]:
        """Limit and figure, with as many digits as it takes to tell them apart."""
        # "at most 0.0001 allowed, got 0.0001" would help nobody.
        for digits in (4, 6, 9):
            limit, figure = (f"{value:.{digits}g}" for value in (self.limit, self.figure))
            if limit != figure:
                return limit, figure
        return repr(self.limit), repr(self.figure)

    def required(self) -> Check:
        """Returns itself, or raises ExportRefused with figure and limit."""
        if not self.passed:
            limit, figure = self.in_words()
            raise ExportRefused(
                f"{self.name}: {self.rule} {limit} allowed over {self.over}, got {figure}"
            )
        return self


def at_most(name: str, figure: float, limit: float, over: str) -> Check:
    """Checks that a figure is at most a limit, or raises ExportRefused."""
    return Check(name=name, figure=float(figure), rule="at most", limit=limit, over=over).required()


def at_least(name: str, figure: float, limit: float, over: str) -> Check:
    """Checks that a figure is at least a limit, or raises ExportRefused."""
    check = Check(name=name, figure=float(figure), rule="at least", limit=limit, over=over)
    return check.required()


def same_answer(checks: Iterable[Check]) -> float | None:
    """The least share of inputs, or of a sentence's frames, with the trained model's prediction.

    Over all signatures and sets of kernels; None if nothing of the kind was measured.
    """
    shares = [
        check.figure
        for check in checks
        # Between words torch's own predictions are near ties, and have a limit of their own.
        if check.name.endswith(_SAME_ANSWER) and not check.name.startswith("listening")
    ]
    return min(shares, default=None)


def logit_difference(checks: Iterable[Check]) -> float | None:
    """The largest difference of a logit from the trained model's, over the same inputs."""
    return max((check.figure for check in checks if check.name.endswith(_LOGITS)), default=None)
