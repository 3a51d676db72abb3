"""Who is told of a run, what, and when.

Of a run whose noise comes from the operating system the models are meant to leave the operator's
desk. Its loggers are told public figures alone: those of public speakers, of the plan and of the
ledger, as a published report shows them (`simulations.results.redaction`). They are told at the
end, because a logger writes down when it is told: the hour of each round would show which was
abandoned, and promises to readers of the models assume that nobody sees the timing. Such a run is
said to be released, whether or not anything is published later: what a tracking server holds
cannot be called back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from fedspeech.privacy.guarantee import Guarantee
from simulations.callbacks import figures
from simulations.callbacks.callback import Callback, Figure, RunEnd, RunInfo
from simulations.results.rows import RoundRow
from simulations.results.summary import Summary


class Audience:
    """The callbacks of one run.

    Args:
      callbacks: in the order in which they are told.
      say: prints a line, where one of them fails.
      info: of the run.
    """

    def __init__(
        self, callbacks: Sequence[Callback], say: Callable[[str], None], info: RunInfo
    ) -> None:
        self._listening = list(callbacks)
        self._say, self._info = say, info
        self._stages: list[tuple[str, tuple[Figure, ...]]] = []
        self._started = False

    def start(self) -> None:
        """Before the first round."""
        self._started = True
        if not self._info.released:
            self._tell(lambda callback: callback.on_start(self._info))

    def round(self, row: RoundRow) -> None:
        """After a round."""
        if not self._info.released:
            found = figures.of_round(row)
            self._tell(lambda callback: callback.on_round(row.round, found))

    def stage(self, name: str, found: Iterable[Figure]) -> None:
        """After a stage."""
        whole = tuple(found)
        if self._info.released:
            self._stages.append((name, _public(whole)))
        else:
            self._tell(lambda callback: callback.on_stage(name, whole))

    def end(self, summary: Summary, stated: Guarantee, rows: Sequence[RoundRow]) -> None:
        """After the report: the last figures, or everything that a released run shows.

        Nobody is told of the end of a run that was stopped before it was told to begin.

        Args:
          summary: of the run.
          stated: what a published report says was spent.
          rows: of all rounds.
        """
        if not self._started:
            return
        if self._info.released:
            self._tell_released(rows)
            summary = summary.model_copy(update={"guarantee": stated, "stopped": None})
        found = figures.of_summary(summary)
        told = RunEnd(
            status=summary.status,
            stopped=summary.stopped or "",
            figures=_public(found) if self._info.released else found,
        )
        self._tell(lambda callback: callback.on_end(told))

    def _tell_released(self, rows: Sequence[RoundRow]) -> None:
        self._tell(lambda callback: callback.on_start(self._info))
        for row in rows:
            if row.status == "completed":  # of any other there is no model to show
                found = _public(figures.of_round(row))
                self._tell(functools.partial(_round_to, row.round, found))
        for name, shown in self._stages:
            self._tell(functools.partial(_stage_to, name, shown))

    def _tell(self, event: Callable[[Callback], None]) -> None:
        """Tells everybody; whoever fails is told nothing more."""
        for callback in tuple(self._listening):
            try:
                event(callback)
            except Exception as error:  # the rounds are paid for, whatever a logger raises
                self._listening.remove(callback)
                self._say(
                    f"{type(callback).__name__} failed and is told nothing more of this run "
                    f"({type(error).__name__}: {error})"
                )


def _round_to(number: int, found: Sequence[Figure], callback: Callback) -> None:
    callback.on_round(number, found)


def _stage_to(name: str, found: Sequence[Figure], callback: Callback) -> None:
    callback.on_stage(name, found)


def _public(found: Sequence[Figure]) -> tuple[Figure, ...]:
    return tuple(figure for figure in found if figure.visibility == "public")
