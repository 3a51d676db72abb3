"""Speakers are linked by their updates and by no sum of many: the control of every figure."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import voices_speech, voices_that_leak
from benchmarks.voices_that_leak import identified, in_steps, line, measured, played
from fedspeech.extras import lacking
from fedspeech.models.adapters.head import HeadAdapter

SPEECH = Path(os.environ.get("FEDSPEECH_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
COMMANDS = SPEECH / "speech_commands_v1_subset"


def test_a_row_says_value_interval_and_chance():
    figure = {"value": 0.125, "low": 0.1, "high": 0.15, "chance": 0.5}
    said = line({"case": "single updates", "attack": "weight cosine", "equal error rate": figure})
    assert said == (
        "single updates | weight cosine | equal error rate 0.125 [0.100, 0.150] chance 0.5"
    )


def test_int8_keeps_each_row_within_half_a_step():
    adapter = HeadAdapter(5, 3)
    vector = np.random.default_rng(1).normal(size=adapter.spec.size)
    error = np.abs(in_steps(adapter, vector) - vector)
    rows = np.abs(vector[:15].reshape(3, 5)).max(axis=1)
    assert (error[:15].reshape(3, 5) <= rows[:, None] / 254 + 1e-12).all()
    assert error[:15].max() > 0
    assert error[15:].max() <= np.abs(vector[15:]).max() / 254 + 1e-12


@pytest.mark.slow
def test_a_small_world_is_measured_from_end_to_end(monkeypatch):
    """48 attackers' speakers and 24 attacked: linked far above chance, whatever else is printed."""
    for name, value in {
        "ATTACKERS": 48,
        "ATTACKED": 24,
        "CROWD": 6,
        "TAKES": 2,
        "ROUNDS": 2,
    }.items():
        monkeypatch.setattr(voices_speech, name, value)
    monkeypatch.setattr(voices_that_leak, "NOISE", (0.0, 0.3, 1.0))
    monkeypatch.setattr(voices_that_leak, "ROUNDS", 2)
    monkeypatch.setattr(voices_that_leak, "SUMS", 4)
    rows = list(measured(voices_speech.synthetic_world(1), [10]))
    cases = {row["case"] for row in rows}
    assert {"single updates, noise 0, 1 rounds", "4 sums of 10, no noise"} <= cases
    assert {"personalized adapter, float", "personalized adapter, int8"} <= cases
    cosine = next(row for row in rows if row["attack"] == "weight cosine")
    assert cosine["equal error rate"]["high"] < 0.4
    hidden = [row for row in rows if row["case"] == "single updates, noise 1, 1 rounds"]
    assert all(row["equal error rate"]["value"] > 0.3 for row in hidden)


@pytest.mark.corpus
@pytest.mark.skipif(
    not COMMANDS.is_dir() or bool(lacking("speech-embedding")),
    reason="needs recordings and the extra speech-embedding",
)
def test_updates_of_real_speakers_betray_them():
    world = voices_speech.real_world(COMMANDS, "speech-embedding", 1)
    transcript = voices_that_leak.first(played(world, 0.0), 1)
    for found in list(identified(world, transcript, noise=0.0, rounds=1))[:3]:
        assert found["equal error rate"]["high"] < 0.4, found
        assert found["top-1"]["low"] > 3 * found["top-1"]["chance"], found
