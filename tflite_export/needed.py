"""Which extra making the files of a base takes; to ask imports neither TensorFlow nor LiteRT."""

from __future__ import annotations

from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder


def extra_of(base: Base) -> str:
    """Name of the extra: files of an encoder from elsewhere are made without TensorFlow."""
    return "tflite" if isinstance(base.encoder, ForeignEncoder) else "export"
