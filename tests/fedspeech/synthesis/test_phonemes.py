"""Segment tables."""

import numpy as np
import pytest

from fedspeech.synthesis.lexicon import PRONUNCIATIONS, pronunciation
from fedspeech.synthesis.phonemes import COLUMNS, HISSES, word_segments
from fedspeech.synthesis.voices import ACCENTS

COLUMN = {name: place for place, name in enumerate(COLUMNS)}


def column(table, name):
    return table[:, COLUMN[name]]


@pytest.mark.parametrize(
    ("vowel", "formants"),
    [("IY1", (342, 2322, 3000)), ("AA1", (768, 1333, 2522)), ("UW1", (378, 997, 2343))],
)
def test_vowels_have_the_formants_of_hillenbrand_1995(vowel, formants):
    table = word_segments("plain", (vowel,))
    assert table[0, :3] == pytest.approx(formants)


@pytest.mark.slow
def test_every_word_has_a_sound_table_in_every_accent():
    for accent in ACCENTS:
        for word in PRONUNCIATIONS:
            table = word_segments(accent, pronunciation(word, {}))
            f1, f2, f3 = table[:, :3].T
            assert ((f1 > 180) & (f1 < f2) & (f2 < f3) & (f3 < 3_300)).all(), (accent, word)
            assert 100 < column(table, "ms").sum() < 1_200, (accent, word)


def test_a_stop_is_a_closure_a_burst_and_a_puff():
    closure, burst, puff = word_segments("plain", ("T", "IY1"))[:3]
    assert closure[COLUMN["voicing"]] == closure[COLUMN["hiss"]] == 0
    assert burst[COLUMN["hiss"]] > 0.2
    assert burst[COLUMN["ms"]] < 25
    assert puff[COLUMN["breath"]] > 0.2
    voiced = word_segments("plain", ("D", "IY1"))
    assert voiced[0, COLUMN["voicing"]] > 0
    assert voiced[2, COLUMN["ms"]] < puff[COLUMN["ms"]] / 3


def test_k_bursts_follow_the_vowel():
    front = word_segments("plain", ("K", "IY1"))[1, COLUMN["hiss_kind"]]
    back = word_segments("plain", ("K", "AO1"))[1, COLUMN["hiss_kind"]]
    assert (HISSES[int(front)], HISSES[int(back)]) == ("k_front", "k_back")


def test_consonants_lean_towards_their_vowel():
    before = {vowel: word_segments("plain", ("B", vowel))[0, 1] for vowel in ("IY1", "AO1")}
    assert before["IY1"] > before["AO1"] + 300


def test_vowels_are_longer_last_and_shorter_before_voiceless_sounds():
    tables = [word_segments("plain", ("B", "IY1", *coda)) for coda in ((), ("D",), ("T",))]
    last, voiced, voiceless = (
        column(table, "ms")[column(table, "stress") == 1].sum() for table in tables
    )
    assert last > voiced > voiceless


def test_tables_are_shared_and_read_only():
    table = word_segments("plain", ("G", "OW1"))
    assert table is word_segments("plain", ("G", "OW1"))
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 1
    assert np.isfinite(table).all()
