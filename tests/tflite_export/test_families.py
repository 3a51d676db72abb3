"""One class of files per task, found by the task's name."""

import pytest

from fedspeech.errors import ExportRefused
from fedspeech.models.base import Base, default_base_path
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws
from tflite_export.families import family_of


@pytest.mark.parametrize("task", [Kws, Asr])
def test_each_task_that_ships_has_files_of_its_own_name(task):
    family = family_of(task.name, Base.load(task.shipped_base()))
    assert family.task.name == task.name
    assert set(family.run_kinds) <= set(family.files)
    for needed_by in family.beside.values():
        assert set(needed_by) <= set(family.files)


def test_a_task_without_files_is_refused_by_name():
    with pytest.raises(ExportRefused, match="of the tasks kws and asr, none of 'tones'"):
        family_of("tones", Base.load(default_base_path()))
