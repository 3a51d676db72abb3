"""What the user sees while a run works: live bars in a terminal or a notebook, else plain lines.

    with RunProgress() as progress, progress.stage("rounds", 8):
        progress.round(row, 8)

`progress_for` picks a form: bars where somebody looks at a terminal, a cell that is redrawn where a
notebook's kernel runs, and records of the logger "fedspeech" where nothing is to be shown.
"""

from __future__ import annotations

import html
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

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

from simulations.console import LOGGER, Console
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
        if not self._begun(name, total):
            self.say(f"{name} ...")
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - started
            self.cpu_seconds[name] = _cpu_seconds() - cpu_started
            note = f"{self.seconds[name]:.1f} s"
            if not self._moved(completed=total or 1, total=total or 1, note=note):
                self.say(f"{name}: {note}")

    def _begun(self, name: str, total: int | None) -> bool:
        """Draws the bar of a stage; False where nothing is drawn."""
        if self._bars is None:
            return False
        self._task = self._bars.add_task(name, total=total, note="")
        return True

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

    def file(self, name: str, done: int, total: int, at_work: str) -> None:
        """Shows which file is made, how many are, and which check is at work on it."""
        if self._moved(completed=done, total=total, note=f"{name}: {at_work}"):
            return
        # A line for each file is enough of a log.
        if self._part != (name, total):
            self._part = (name, total)
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
        if row.status != "completed" or not self._latest(text):
            self.say(text)
        else:
            self._moved(completed=row.round, total=total)

    def _latest(self, text: str) -> bool:
        """Shows the latest round below the bars, if there are any."""
        if self._bars is None:
            return False
        self._bars.latest = text
        return True


class LoggedProgress(RunProgress):
    """Shows nothing: every line is a record of the logger "fedspeech", level INFO.

    `logging.basicConfig(level=logging.INFO)` shows them.
    """

    def __init__(self) -> None:
        """Draws no bars, whatever standard output is."""
        super().__init__(Console(quiet=True, force_terminal=False))

    def say(self, text: str) -> None:
        """Logs a line."""
        LOGGER.info("%s", text)


class _Display(Protocol):
    """What `IPython.display.display` returns."""

    def update(self, shown: object) -> None:
        """Replaces what is shown."""
        ...


class NotebookProgress(RunProgress):
    """One output of a notebook's cell that is redrawn: lines, a bar per stage, the latest round."""

    def __init__(self) -> None:
        """Opens the output."""
        super().__init__(Console(quiet=True, force_terminal=False))
        self._lines: list[str] = []
        self._rows: dict[str, tuple[int, int | None, str]] = {}
        self._round = ""
        self._drawn_at = 0.0
        self._output: _Display | None = None

    def __exit__(self, *_: object) -> None:
        """Draws the last state."""
        self._draw(at_once=True)

    def say(self, text: str) -> None:
        """Adds a line above the bars."""
        self._lines.append(text)
        self._draw(at_once=True)

    def _begun(self, name: str, total: int | None) -> bool:
        self._rows[name] = (0, total, "")
        self._draw(at_once=True)
        return True

    def _moved(self, **shown: Any) -> bool:
        completed, total, note = self._rows[self._stage]
        self._rows[self._stage] = (
            shown.get("completed", completed), shown.get("total", total), shown.get("note", note)
        )  # fmt: skip
        self._draw()
        return True

    def _latest(self, text: str) -> bool:
        self._round = text
        return True

    def _draw(self, *, at_once: bool = False) -> None:
        """Redraws, at most five times a second: a notebook keeps every message."""
        if not at_once and time.monotonic() - self._drawn_at < 0.2:
            return
        self._drawn_at = time.monotonic()
        display = sys.modules["IPython"].display
        shown = display.HTML(self._html())
        if self._output is None:
            self._output = display.display(shown, display_id=True)
        else:
            self._output.update(shown)

    def _html(self) -> str:
        lines = "\n".join(self._lines)
        bars = "".join(
            f"<tr><td>{html.escape(name)}</td>"
            f'<td><progress value="{done}" max="{total or max(done, 1)}"></progress></td>'
            f"<td>{f'{done:,}/{total:,}' if total else ''}</td><td>{html.escape(note)}</td></tr>"
            for name, (done, total, note) in self._rows.items()
        )
        return (
            f'<pre style="white-space: pre-wrap; margin: 0">{html.escape(lines)}</pre>'
            f"<table>{bars}</table>"
            f'<pre style="white-space: pre-wrap; margin: 0">{html.escape(self._round)}</pre>'
        )


def progress_for(shown: bool | RunProgress | None) -> RunProgress:
    """The form in which progress is shown.

    Args:
      shown: True or None: bars in a terminal, a redrawn output in a notebook, else plain lines;
        False: records of the logger "fedspeech"; or the form itself.
    """
    if isinstance(shown, RunProgress):
        return shown
    if shown is False:
        return LoggedProgress()
    return NotebookProgress() if in_notebook() else RunProgress()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; imports nothing to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


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
