"""SpeakerSplit and accents."""

import numpy as np
import pytest

from fedspeech.seeds import stream
from fedspeech.synthesis.lexicon import DEFAULT_TARGETS, pronunciation
from fedspeech.synthesis.phonemes import word_segments
from fedspeech.synthesis.voices import ACCENTS, PLAIN, Spread, draw_voice


def voices(spread, count=200, accent="plain"):
    return [draw_voice(stream(1, "voice", number), accent, spread) for number in range(count)]


def test_there_are_four_accents_beside_the_plain_one():
    assert len(ACCENTS) >= 5
    assert next(iter(ACCENTS)) == PLAIN.name == "plain"


def test_every_accent_changes_every_target_word():
    for word in DEFAULT_TARGETS:
        tables = [word_segments(name, pronunciation(word, {})) for name in ACCENTS]
        for first in range(len(tables)):
            for second in range(first):
                assert not np.array_equal(tables[first], tables[second]), word


def test_an_accent_substitutes_phones_and_keeps_stress():
    five = ACCENTS["five_vowel"]
    assert five.realize(("TH", "ER1", "T", "IY0")) == ("T", "EH1", "R", "T", "IY0")
    assert five.realize(("B", "IH1", "D")) == ("B", "IY1", "T")
    assert PLAIN.realize(("B", "IH1", "D")) == ("B", "IH1", "D")


def test_voices_follow_sex_and_age():
    drawn = voices(Spread())
    scale = {
        key: np.mean([v.tract_scale for v in drawn if (v.sex, v.age_band == "child") == key])
        for key in (("male", False), ("female", False), ("male", True))
    }
    # Hillenbrand et al. 1995: women's formants are 1.16 times men's, children's 1.26 times.
    assert scale["female", False] / scale["male", False] == pytest.approx(1.16, abs=0.04)
    assert scale["male", True] / scale["male", False] == pytest.approx(1.26, abs=0.06)
    assert {v.age_band for v in drawn} == {"child", "young", "middle", "senior"}


def test_spread_is_what_makes_speakers_of_a_kind_differ():
    narrow = Spread(tract=0, pitch_st=0, rate=0, vowels=0, quality=0, takes=0)
    men = [v for v in voices(narrow) if (v.sex, v.age_band) == ("male", "young")]
    assert len({(v.tract_scale, v.pitch_hz, v.rate, v.tilt, v.clarity) for v in men}) == 1
    assert len({v.pitch_hz for v in voices(Spread())}) > 190


def test_unknown_accents_and_negative_spreads_are_refused():
    with pytest.raises(ValueError, match="accent must be one of"):
        draw_voice(stream(1, "voice"), "martian", Spread())
    with pytest.raises(ValueError, match="rate=-1"):
        Spread(rate=-1)
