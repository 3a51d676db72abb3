"""Jingles: the same draws, the same bits; near a target, and never the target itself."""

import numpy as np
import pytest

from fedspeech.corpora.jingles import SAMPLES, jingle, on_devices, said
from fedspeech.synthesis.lexicon import pronunciation
from fedspeech.synthesis.near_misses import FARTHEST, distance

pytestmark = pytest.mark.slow  # sounds are synthesized


WORDS = ("stop", "go")


def test_a_number_names_a_jingle_and_its_bits():
    one, same, other = (jingle(WORDS, {}, 1, number) for number in (3, 3, 4))
    assert one.sound.shape == (SAMPLES,)
    assert one.sound.dtype == np.float32
    assert np.array_equal(one.sound, same.sound)
    assert not np.array_equal(one.sound, other.sound)
    assert not np.array_equal(one.sound, jingle(WORDS, {}, 2, 3).sound)


def test_a_jingle_says_what_is_near_a_target_and_is_not_it():
    for number in (0, 2, 18):
        one = jingle(WORDS, {}, 1, number)
        away = distance(one.phones, pronunciation(one.word, {}))
        parts = len(one.phones) < len(pronunciation(one.word, {}))
        assert away >= 1
        assert parts or away <= FARTHEST


def test_without_a_pronunciation_nothing_is_near():
    with pytest.raises(ValueError, match="xyzzy"):
        jingle(("xyzzy",), {}, 1, 0)
    assert jingle(("xyzzy",), {"xyzzy": "Z IH1 Z IY0"}, 1, 0).word == "xyzzy"


def test_devices_of_a_class_are_the_same_for_every_sound():
    quiet = np.zeros(SAMPLES, dtype=np.float32)
    far, near = (on_devices(quiet, kind, 2, 1) for kind in ("far_field", "handset"))
    assert far.shape == (2, SAMPLES)
    assert np.array_equal(far, on_devices(quiet, "far_field", 2, 1))
    assert not np.array_equal(far[0], far[1])
    assert not np.array_equal(far, near)


def test_a_word_is_said_by_as_many_speakers():
    heard = said("stop", {}, "handset", 3, 1)
    assert heard.shape == (3, SAMPLES)
    assert len({row.tobytes() for row in heard}) == 3
