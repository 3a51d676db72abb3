"""A check of a file: one figure, one limit, and a refusal that names both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedspeech.errors import ExportRefused


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was measured on a file and what was allowed.

    Attributes:
      name: what was measured, such as "waveform logits".
      figure: what was found.
      rule: whether `limit` is the most or the least that is allowed.
      limit: what was allowed.
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
        return self.figure <= self.limit if self.rule == "at most" else self.figure >= self.limit

    def required(self) -> Check:
        """Returns itself.

        Raises:
          ExportRefused: if the figure breaks the limit; names both.
        """
        if not self.passed:
            raise ExportRefused(
                f"{self.name}: {self.rule} {self.limit:g} allowed over {self.over}, got "
                f"{self.figure:.4g}"
            )
        return self


def at_most(name: str, figure: float, limit: float, over: str) -> Check:
    """Checks that a figure is at most a limit.

    Raises:
      ExportRefused: if it is not.
    """
    return Check(name=name, figure=float(figure), rule="at most", limit=limit, over=over).required()


def at_least(name: str, figure: float, limit: float, over: str) -> Check:
    """Checks that a figure is at least a limit.

    Raises:
      ExportRefused: if it is not.
    """
    return Check(
        name=name, figure=float(figure), rule="at least", limit=limit, over=over
    ).required()
