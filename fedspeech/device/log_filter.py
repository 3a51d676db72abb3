"""What logs and crash reports of a phone may hold: places in the code, counts, and no content.

    with filtered():                   # every record and warning, and uncaught exceptions
        ...
    crash_report(error)                # lines: types, functions, line numbers

Denied by default. A template is shown if it is a literal of the function that logs; an argument if
it is a count below 1,000; of an exception its type and the places that it passed; of a warning its
type and its place. A text that was put together before, the message of an exception or a warning,
local variables and lines of source are not shown: any of them may hold what a user said.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, TextIO

WITHHELD = "<withheld>"
_LARGEST = 1000


def crash_report(error: BaseException) -> list[str]:
    """Where an exception and its causes came from, innermost place last; no word of what they say.

    Args:
      error: any exception.

    Returns:
      A line for each exception and each place.
    """
    lines: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        lines += [type(cause).__name__, *_places(cause.__traceback__)]
        if isinstance(cause, BaseExceptionGroup):
            for one in cause.exceptions:
                lines += crash_report(one)
        cause = cause.__cause__ or cause.__context__
    return lines


@contextmanager
def filtered() -> Iterator[None]:
    """Lets every log record, warning and uncaught exception of this process pass meanwhile."""
    factory = logging.getLogRecordFactory()
    raising, logging.raiseExceptions = logging.raiseExceptions, False  # a report of its own kind
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return _cleaned(factory(*args, **kwargs))

    logging.setLogRecordFactory(made)
    sys.excepthook = lambda _, error, __: _say(error)
    threading.excepthook = lambda args: _say(args.exc_value)
    sys.unraisablehook = lambda args: _say(args.exc_value)
    warnings.showwarning = _warn
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        logging.raiseExceptions = raising
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def _cleaned(record: logging.LogRecord) -> logging.LogRecord:
    """The record without anything that may be content."""
    if not _is_literal(record):
        record.msg, record.args = WITHHELD, ()
    elif isinstance(record.args, Mapping):
        record.args = {name: _shown(value) for name, value in record.args.items()}
    else:
        record.args = tuple(_shown(value) for value in record.args or ())
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = "\n".join(crash_report(record.exc_info[1]))
    record.exc_info, record.stack_info = None, None
    return record


def _shown(value: object) -> object:
    """A small count as it is, anything else by its type: a telephone number is a number too."""
    small = isinstance(value, int) and -_LARGEST < value < _LARGEST
    return value if small else f"<{type(value).__name__}>"


def _is_literal(record: logging.LogRecord) -> bool:
    """Whether the message is a constant of the code that logs it, with nothing put into it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == record.pathname and code.co_name == record.funcName:
            return type(record.msg) is str and record.msg in code.co_consts
        frame = frame.f_back
    return False


def _places(traceback: TracebackType | None) -> Iterator[str]:
    while traceback is not None:
        code: CodeType = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__", "?")
        yield f"  {module}.{code.co_name}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next


def _say(error: BaseException | None) -> None:
    if error is not None:
        sys.stderr.write("\n".join(crash_report(error)) + "\n")


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Takes the place of `warnings.showwarning`, whose message may be content."""
    del message, line
    said = f"{category.__name__}\n  {Path(filename).name}, line {lineno}\n"
    (file or sys.stderr).write(said)
