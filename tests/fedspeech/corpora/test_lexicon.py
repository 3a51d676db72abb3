"""Pronunciations."""

import pytest

from fedspeech.corpora.lexicon import (
    COMMAND_WORDS,
    DEFAULT_TARGETS,
    HELD_OUT_WORDS,
    PRONUNCIATIONS,
    UNKNOWN_WORDS,
    parse_phones,
    pronunciation,
)


def test_every_word_is_arpabet_and_no_two_sound_the_same_by_accident():
    spoken = {}
    for word in PRONUNCIATIONS:
        spoken.setdefault(pronunciation(word, {}), []).append(word)
    assert [words for words in spoken.values() if len(words) > 1] == []


def test_the_words_of_the_published_corpora_are_there():
    assert len(set(COMMAND_WORDS)) == 35
    dspspeech = {"speech", "speaker", "signal", "process", "print", "open", "close", "project"}
    assert {*COMMAND_WORDS, *UNKNOWN_WORDS, *HELD_OUT_WORDS, *dspspeech} <= set(PRONUNCIATIONS)
    assert len(PRONUNCIATIONS) >= 60


def test_held_out_words_are_neither_targets_nor_training_words():
    assert not set(HELD_OUT_WORDS) & {*COMMAND_WORDS, *UNKNOWN_WORDS}
    assert not set(DEFAULT_TARGETS) & set(UNKNOWN_WORDS)


def test_an_unknown_word_is_an_error_that_says_how_to_add_it():
    with pytest.raises(ValueError, match=r"'fedora'.*lexicon.*ARPAbet.*fedora = "):
        pronunciation("fedora", {})
    assert pronunciation("fedora", {"fedora": "f ah0 d ao r ah0"}) == (
        *("F", "AH0", "D", "AO1", "R", "AH0"),
    )


def test_own_pronunciations_win_over_built_in_ones():
    assert pronunciation("zero", {"zero": "OW1"}) == ("OW1",)


@pytest.mark.parametrize(
    ("phones", "rule"),
    [
        ("G QQ", "'QQ'"),
        ("G OW9", "'OW9'"),
        ("G1 OW", "'G1'"),
        ("S T", "needs a vowel"),
        ("", "vow"),
    ],
)
def test_what_is_not_arpabet_is_refused(phones, rule):
    with pytest.raises(ValueError, match=rule):
        parse_phones("word", phones)
