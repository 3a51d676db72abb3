"""Personalized adapters as `.tflite` files: what leaves a phone, and what its bytes give away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedspeech.audits.model_file import read_adapter
from fedspeech.audits.transcript import Transcript
from fedspeech.errors import ExportRefused
from fedspeech.extras import MissingExtra, require
from fedspeech.vectors import FloatVector
from simulations.artifacts.loaded_run import held_out_clips
from simulations.audits.subject import Subject
from tflite_export.needed import extra_of

FILES = 3  # each takes seconds to convert, and one is like another
_HELD_OUT_CLIPS = 8  # a family asks for some; nothing is judged here


def read_back(subject: Subject, recipient: Transcript) -> str:
    """Exports adapters that left their phones, reads them out of the bytes, and says what came.

    Args:
      subject: what is attacked.
      recipient: the transcript of whoever gets personalized adapters.
    """
    last, spec = recipient.releases[-1], subject.built.adapter.spec
    adapters = [(last + row).astype(np.float32) for row in recipient.observations[:FILES]]
    if not adapters:
        return ""
    try:
        require(extra_of(subject.built.base))
        public, *files = _exported(subject, [last, *adapters])
        found = [read_adapter(file, public, last, spec) for file in files]
    except (MissingExtra, ExportRefused, ValueError) as error:
        return f"No adapter was read out of a .tflite file: {error}."
    same = sum(np.array_equal(one, other) for one, other in zip(found, adapters, strict=True))
    return (
        f"{len(files)} of these adapters were exported as .tflite files in float and read out of "
        f"their bytes: {same} of them are what was trained, bit for bit. So whoever gets such a "
        "file has what is attacked here."
    )


def _exported(subject: Subject, adapters: Sequence[FloatVector]) -> list[bytes]:
    """The float file of each adapter, without its card."""
    from tflite_export.converter import Converter
    from tflite_export.families import family_of
    from tflite_export.family import Material
    from tflite_export.weights import Trained

    built = subject.built
    kind = family_of(built.task.name, built.base)
    material = Material(
        speech=built.speech,
        held_out=lambda: held_out_clips(built.base, built.speakers, _HELD_OUT_CLIPS),
    )
    with Converter() as converter:
        return [
            converter.convert(
                kind.of(
                    Trained(
                        base=built.base, adapter=built.adapter,
                        parameters=built.adapter.spec.unflatten(adapter),
                    ),
                    material,
                ).blueprint("float")
            )
            for adapter in adapters
        ]  # fmt: skip
