"""What reading a `.tflite` file has in common, whether it is a base's or one for phones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

_BANNER = b"Created TensorFlow Lite XNNPACK delegate for CPU"


def operator_name(schema: Any, code: Any) -> str:
    """Names an operator as the schema's BuiltinOperator, or "custom:" and its own name or number.

    Args:
      schema: LiteRT's module of the file format.
      code: one of a model's operator codes.
    """
    if code.customCode is not None:
        return f"custom:{code.customCode.decode(errors='replace')}"
    # Old files keep the number in the deprecated field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    named = (name for name, value in vars(schema.BuiltinOperator).items() if value == number)
    return next(named, f"custom:{number}")


@contextmanager
def standard_error_into(file: IO[bytes]) -> Iterator[None]:
    """Lets a file have what native code prints on standard error, past Python's own."""
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def without_banner() -> Iterator[None]:
    """Drops the one line that LiteRT's native code prints on every start; the rest passes."""
    with tempfile.TemporaryFile() as caught:
        try:
            with standard_error_into(caught):
                yield
        finally:
            caught.seek(0)
            for line in caught:
                if _BANNER not in line:
                    os.write(2, line)
