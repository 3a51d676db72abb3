"""What the user sees while a run works: live bars in a terminal, plain lines without one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from simulations.console import Console
from simulations.report.phrasing import epsilon
from simulations.results.rows import RoundRow


class _Bars(Progress):
    """A bar per stage; below them the latest round, which wraps where a window is narrow."""

    latest = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields what is drawn."""
        yield self.make_tasks_table(self.tasks)
        if self.latest:
            yield Text(self.latest)


class RunProgress:
    """Stages of a run with their seconds, and one line per round.

    Attributes:
      seconds: wall seconds by finished stage, in order.
      cpu_seconds: CPU seconds of this process and its finished workers, by finished stage.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._bars: _Bars | None = None
        if self.console.is_terminal:
            self._bars = _Bars(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
        self._task: TaskID | None = None
        self._stage = ""
        self._part = ("", 0)
        self._next_percent = 0

    def __enter__(self) -> RunProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def say(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[None]:
        """Times a stage and shows it."""
        started, cpu_started = time.perf_counter(), _cpu_seconds()
        self._stage, self._part = name, ("", 0)
        if self._bars:
            self._task = self._bars.add_task(name, total=total, note="")
        else:
            self.say(f"{name} ...")
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started
            self.cpu_seconds[name] = _cpu_seconds() - cpu_started
            note = f"{self.seconds[name]:.1f} s"
            if not self._moved(completed=total or 1, total=total or 1, note=note):
                self.say(f"{name}: {note}")

    def _moved(self, **shown: Any) -> bool:
        """Moves the stage's bar, if there is one."""
        if self._bars is None or self._task is None:
            return False
        self._bars.update(self._task, **shown)
        return True

    def advance(self, done: int, total: int, part: str = "") -> None:
        """Shows how far the stage is, or the part of it that bears a name."""
        if self._part != (part, total):
            self._part, self._next_percent = (part, total), 0
        if self._moved(completed=done, total=total, note=part):
            return
        if total and 100 * done >= self._next_percent * total and done < total:
            self.say(f"  {self._stage}: {part}{' ' * bool(part)}{done:,} of {total:,}")
            self._next_percent = 100 * done // total + 25

    def file(self, name: str, done: int, total: int) -> None:
        """Shows which file is made next, and how many are."""
        if not self._moved(completed=done, total=total, note=name):
            self.say(f"  {self._stage}: {name}, {done + 1} of {total}")

    def round(self, row: RoundRow, total: int) -> None:
        """Shows one round: public and held-out accuracy, both epsilons, reporting phones, rate."""
        if row.status == "completed":
            public, held_out = row.server.validation_accuracy, row.simulation_only.held_out_accuracy
            rate = (row.server.reporting or 0) / (row.seconds or 1e-9)
            text = (
                f"round {row.round:>3}/{total}"
                f"  public {_percent(public)}  held-out {_percent(held_out)}"
                f"  epsilon release {epsilon(row.guarantee.epsilon_release)}"
                f" server {epsilon(row.guarantee.epsilon_server)}"
                f"  signal to noise {_signal(row)}"
                f"  reporting phones {row.server.reporting}/{row.server.cohort}"
                f"  {rate:,.0f} phones/s"
            )
        else:
            text = f"round {row.round:>3}/{total}  {row.status}: {row.reason}"
        if self._bars and row.status == "completed":
            self._bars.latest = text
            self._moved(completed=row.round, total=total)
        else:
            self.say(text)


def _percent(share: float | None) -> str:
    return "  -  " if share is None else f"{100 * share:5.1f}%"


def _signal(row: RoundRow) -> str:
    """Signal to noise of the round, and of all rounds so far."""
    latest, accumulated = row.server.signal_to_noise, row.server.accumulated_signal_to_noise
    if latest is None or accumulated is None:
        return "-"
    return f"{latest:.2f}, so far {accumulated:.2f}"


def _cpu_seconds() -> float:
    # A child's seconds are added when it is waited for: workers count where they end.
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
