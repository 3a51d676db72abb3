"""A near miss is another word, however close; an accent's version of a word is the word."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.seeds import stream
from fedspeech.synthesis.lexicon import CONSONANTS, PRONUNCIATIONS, VOWELS, parse_phones
from fedspeech.synthesis.music import music
from fedspeech.synthesis.near_misses import (
    FARTHEST,
    distance,
    draws,
    edits,
    is_near_miss,
    named,
    neighbors,
    parts,
)

ZERO = ("Z", "IH1", "R", "OW0")
PHONES = st.lists(st.sampled_from(sorted(VOWELS | CONSONANTS)), max_size=6).map(tuple)


@given(one=PHONES, other=PHONES, third=PHONES)
def test_distances_are_a_metric_on_phonemes(one, other, third):
    assert distance(one, one) == 0
    assert distance(one, other) == distance(other, one)
    assert distance(one, third) <= distance(one, other) + distance(other, third)
    assert distance(one, ()) == len(one)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Z IY1 R OW0", 0.5), ("S IH1 R OW0", 0.5), ("HH IH1 R OW0", 1.0), ("Z IH1 R", 1.0),
        ("Z IH0 R OW1", 0.0), ("Z IH1 R OW0 Z", 1.0), ("N IH1 L OW0", 2.0),
    ],
)  # fmt: skip
def test_distances_by_hand(said, expected):
    assert distance(ZERO, parse_phones("said", said)) == expected


def test_parts_hold_the_halves_and_edits_change_one_phoneme():
    assert {("Z", "IH1"), ("R", "OW0"), ("Z", "IH1", "R")} <= set(parts(ZERO))
    assert ZERO not in parts(ZERO)
    assert ("Z",) not in parts(ZERO), "nobody says a consonant by itself"
    assert {distance(ZERO, one) for one in edits(ZERO)} == {1.0}
    assert ("Z", "IY1", "R", "OW0") not in edits(ZERO), "so some say zero"


@pytest.mark.slow
@pytest.mark.parametrize("word", ["zero", "yes", "on", "computer"])
def test_drawn_near_misses_are_near_and_are_no_target(word):
    phones = parse_phones(word, PRONUNCIATIONS.get(word, "K AH0 M P Y UW1 T ER0"))
    whole = set(parts(phones))
    for drawn in islice(draws(phones, PRONUNCIATIONS, stream(1, word)), 60):
        assert 1 <= distance(phones, drawn) <= (len(phones) if drawn in whole else FARTHEST)
    assert phones not in neighbors(phones, PRONUNCIATIONS)


def test_neighbors_of_on_are_words_like_it():
    found = neighbors(("AA1", "N"), {"gone": "G AO1 N", "an": "AE0 N", "water": "W AO1 T ER0"})
    assert found == (("AE0", "N"), ("G", "AO1", "N"))


def test_music_is_loud_and_repeats_by_its_draws():
    first, again, other = (music(32_000, stream(seed, "music")) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.isfinite(first).all()
    assert np.sqrt(np.mean(first**2)) == pytest.approx(0.1, rel=1e-3)
    assert not np.array_equal(first, other)


def test_named_near_misses_are_near_one_target_and_far_from_all():
    found = named(["zero", "hero", "fedora"], {"hero": "HH IH1 R OW0"})
    said = {"zero": ZERO, "hero": ("HH", "IH1", "R", "OW0")}
    assert {name.split("~")[0] for name in found} == set(said), "nobody can say fedora"
    assert all(map(is_near_miss, found))
    assert not is_near_miss("zero")
    for name, spelled in found.items():
        phones = parse_phones(name, spelled)
        assert min(distance(phones, other) for other in said.values()) >= 1
    assert found == named(["zero", "hero"], {"hero": "HH IH1 R OW0"})
