"""Which family of files a task has: the one place in this package where the task is asked for."""

from __future__ import annotations

from fedspeech.errors import ExportRefused
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder
from tflite_export.family import Family
from tflite_export.foreign.family import ForeignFamily
from tflite_export.keywords import KeywordFamily
from tflite_export.sentences import SentenceFamily

_FAMILIES: dict[str, type[Family]] = {"kws": KeywordFamily, "asr": SentenceFamily}


def family_of(task: str, base: Base) -> type[Family]:
    """The class of the files of a task, `fedspeech.tasks.task.Task.name`, on a base.

    Raises:
      ExportRefused: if no class makes files of this task, or of this kind of encoder.
    """
    if task not in _FAMILIES:
        raise ExportRefused(
            f"task: files are made of the tasks {' and '.join(_FAMILIES)}, none of {task!r}; a "
            "class like those of tflite_export/keywords.py and sentences.py would make them"
        )
    if isinstance(base.encoder, ForeignEncoder):
        return ForeignFamily
    return _FAMILIES[task]
