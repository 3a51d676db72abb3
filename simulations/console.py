"""What is printed for a person, whatever the text holds and whoever still reads it."""

from __future__ import annotations

import abc
import contextlib
import html
import io
import logging
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import rich.console
from rich.table import Table

LOGGER = logging.getLogger("fedspeech")
LOGGER.addHandler(logging.NullHandler())  # a library is silent unless its user asks

COLUMNS = 100
"""Width of text that no terminal shows."""


class Console(rich.console.Console):
    """A console that prints text as it is.

    Names of folders and words of a corpus may hold brackets, which are no markup. Whoever read the
    output may have gone (`fedspeech simulate | head`): then nothing more is shown, and the work
    that was reported on goes on.
    """

    def __init__(self, *, markup: bool = False, **settings: Any) -> None:
        super().__init__(markup=markup, **{"highlight": False, **settings})

    def on_broken_pipe(self) -> None:
        """Sends what is still to come nowhere; rich's own answer is to end the process."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError, ValueError):  # a stream without a file of its own
            os.dup2(nowhere, sys.stdout.fileno())  # else closing it raises the error again
        os.close(nowhere)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str | None = None,
) -> Table:
    """A table without rules; columns named in `right` are set to the right."""
    found = Table(box=None, pad_edge=False, title=title)
    for name in header:
        found.add_column(name, justify="right" if name in right else "left")
    for row in rows:
        found.add_row(*row)
    return found


class Printed(abc.ABC):
    """Something found, which commands print, `str` says, and a notebook shows."""

    @abc.abstractmethod
    def print(self, console: Console) -> None:
        """Prints it."""

    def __str__(self) -> str:
        """What is printed, as plain text of `COLUMNS` columns."""
        text = io.StringIO()
        self.print(Console(file=text, width=COLUMNS, markup=True, force_terminal=False))
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def preformatted(text: str) -> str:
    """Text with its own lines, as HTML of a notebook."""
    return f'<pre style="white-space: pre-wrap; margin: 0">{html.escape(text)}</pre>'


def print_any_text() -> None:
    """Lets standard output and error show, as escapes, characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
