"""A model and its files listen to the same sound by one recipe, whatever a file answers."""

import numpy as np
import pytest
from made_once import tiny_run

from fedspeech.evaluation.streaming import ListeningRules
from simulations.artifacts import compared_kinds
from simulations.artifacts.compared_kinds import Kind, compare_kinds, counted

RULES = ListeningRules(smoothing_hops=10, cooldown_hops=50, patience_hops=40)
HOP = 320


def said(hops, first, last):
    """Logits of one word, of other words and of silence: sure of the word in some hops."""
    logits = np.tile(np.float32([-9, 5, 0]), (hops, 1))
    logits[first:last] = [9, 0, 0]
    return logits


@pytest.mark.parametrize("stride", [1, 4])
def test_durations_are_counted_in_the_answers_of_a_file(stride):
    hops, lengths = said(400, 100, 150), []

    def answers(sound):
        lengths.append(len(sound))
        return hops[stride - 1 : len(sound) // HOP : stride]

    kind, sound = Kind(answers, stride), np.zeros(400 * HOP + 7, np.float32)
    words = counted(kind, sound, [(0, 100 * HOP, 150 * HOP)], RULES, HOP, 20.0).at(0.8)
    assert (words.keywords, words.rejected) == (1, 0)
    late = counted(kind, sound, [(0, 300 * HOP, 350 * HOP)], RULES, HOP, 20.0).at(0.8)
    assert (late.keywords, late.rejected) == (1, 1)
    none = counted(kind, sound, [], RULES, HOP, 20.0).at(0.8)
    assert none.hours == pytest.approx(400 * 0.02 / 3600)
    # Sure of the word for a second, with a cooldown of one: detected once or twice.
    assert none.false_accepts == 1
    assert set(lengths) == {400 * HOP}


def test_a_model_that_is_asked_as_seldom_answers_with_the_last_hop_of_each_call():
    every = Kind(lambda sound: np.arange(len(sound))[:, np.newaxis])
    seldom = compared_kinds._seldom(every, 4)
    assert seldom.stride == 4
    assert seldom.answers(np.zeros(12)).ravel().tolist() == [3, 7, 11]


@pytest.fixture(scope="module")
def compared():
    return compare_kinds(tiny_run(), hours=0.02, seed=3)


@pytest.mark.export
def test_files_in_float_are_wrong_where_the_model_is(compared):
    assert list(compared.points) == ["torch", "float", "streaming", "personal"]
    assert set(compared.left_out) == {"int8", "streaming-int8", "micro"}
    one = compared.points["torch"]
    assert one.keywords == 12
    assert one.hours == pytest.approx(0.02, rel=0.2)
    for kind, point in compared.points.items():
        assert point == one
        assert compared.apart(kind) == 0
    assert compared.record()["kinds"]["float"]["frr"] == one.frr


@pytest.mark.export
def test_a_clip_that_ends_with_a_hop_is_answered_as_the_stream_answers_the_hop():
    from tflite_export.interpreter import TfliteModel
    from tflite_export.listening import Listener

    trained, _ = compared_kinds.FinishedRun.open(tiny_run()).trained()
    sound = np.random.default_rng(0).normal(0, 0.05, 60 * HOP).astype(np.float32)
    files = [tiny_run() / "export" / f"model_{name}.tflite" for name in ("float", "streaming")]
    whole, streaming = (TfliteModel(file.read_bytes()) for file in files)
    clips = compared_kinds._clips(whole, trained).answers(sound)
    hops = compared_kinds._streaming(Listener(streaming)).answers(sound)
    assert clips.shape == (60, len(trained.base.vocabulary.labels))
    np.testing.assert_allclose(clips, hops, atol=1e-4)
