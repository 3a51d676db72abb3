"""Which family of files a task has: the one place in this package where the task is asked for."""

from __future__ import annotations

from fedspeech.errors import ExportRefused
from tflite_export.family import Family
from tflite_export.keywords import KeywordFamily
from tflite_export.sentences import SentenceFamily


def family_of(task: str) -> type[Family]:
    """The class of the task's files.

    Args:
      task: its name, `fedspeech.tasks.task.Task.name`.

    Raises:
      ExportRefused: if no class makes files of this task.
    """
    match task:
        case "kws":
            return KeywordFamily
        case "asr":
            return SentenceFamily
        case _:
            raise ExportRefused(
                f"task: files are made of the tasks kws and asr, none of {task!r}; a class like "
                "those of tflite_export/keywords.py and sentences.py would make them"
            )
