"""The table of a wake word counts words, speakers and false accepts; its shortcut changes none."""

import numpy as np
import pytest

pytest.importorskip("torch")
from benchmarks.wake_word import COOLDOWN_HOPS, STAGES, accepted, table
from fedspeech.evaluation.streaming import THRESHOLDS, detections


def test_parts_in_which_nothing_is_loud_change_no_count():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.002, 0.05, 0.9):
        scores = np.where(rng.random(4_000) < share, rng.random(4_000) ** 0.1, 0.01)
        expected = detections(scores, THRESHOLDS, COOLDOWN_HOPS).sum(axis=1)
        assert np.array_equal(accepted(scores), expected)


def test_the_table_has_every_stage_with_its_interval_and_its_worst_tenth():
    rows = [
        {"stage": stage, "near": near, "rate": rate, "accepts": 4, "hours": 10.0,
         "speaker": f"sc:{number // 4}", "group": "sc", "missed": number < 4}
        for stage in STAGES for near in (False, True) for rate in (0.5, 0.1) for number in range(40)
    ]  # fmt: skip
    said = table([{"part": 2, "phones": 9, "words": rows, "real_hours": 0.4}])
    assert said.count("10.0 % (2.8 to 23.7; 4 of 40)") == 2 * 4 * len(STAGES)
    # One of ten speakers is missed always; were all alike, the worst would be missed less.
    assert "| its worst tenth of speakers; by chance | 100.0 %; " in said
    assert (
        "base, part 2, 0.5 an hour: 4 false accepts in 10.00 h, 0.40 an hour (0.11 to 1.02)" in said
    )
    assert "'real_hours': 0.4" in said
