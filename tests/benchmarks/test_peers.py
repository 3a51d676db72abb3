"""What every contender gets is the same, and what is counted is what it took."""

import sys

import numpy as np
import pytest

from benchmarks.peers import task
from benchmarks.peers.__main__ import show


def test_the_task_is_drawn_once_and_is_of_the_size_it_says(tmp_path):
    task.write(tmp_path, 7)
    clips, labels = task.read(tmp_path)
    assert clips.shape == (7, 40, 256)
    assert labels.shape == (7, 40)
    assert task.PARAMETERS == 5_140
    first = np.array(clips)
    task.write(tmp_path, 7)
    np.testing.assert_array_equal(first, task.read(tmp_path)[0])


def test_a_round_that_warms_up_is_not_counted():
    played, clock = [], iter([10.0, 12.5])
    found = task.timed(2, lambda number: played.append(number) or 5, lambda: next(clock))
    assert played == [0, 1, 2]
    assert (found["phones"], found["cpu_seconds"], found["rounds"]) == (10, 2.5, 2)


def test_the_table_divides_by_fedspeechs_own_figure(capsys):
    row = {"version": "1", "seconds": 6.0, "rounds": 3, "phones_per_cpu_second": 100.0}
    ours = {**row, "phones_per_cpu_second": 1_500.0}
    show({"local training": {"pfl": row, "fedspeech": ours}}, 1_000)
    out = capsys.readouterr().out
    assert "100          2.00    15.0" in out
    assert "1,500          2.00     1.0" in out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cpu_seconds_are_of_the_processes_that_carry_the_token():
    assert task.cpu_of_all("a token that nobody carries") == 0.0
