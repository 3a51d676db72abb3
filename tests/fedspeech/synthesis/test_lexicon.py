"""Pronunciations."""

import numpy as np
import pytest

from fedspeech.corpora.corpus import MAX_CHARACTERS, Alphabet
from fedspeech.synthesis.grammar import Grammar
from fedspeech.synthesis.lexicon import (
    COMMAND_WORDS,
    DEFAULT_TARGETS,
    HELD_OUT_WORDS,
    PRONUNCIATIONS,
    UNKNOWN_WORDS,
    parse_phones,
    pronunciation,
    sentence_pronunciation,
)
from fedspeech.synthesis.names import NAMES, PEOPLE, PLACES, by_kind, pretraining_names
from fedspeech.training.pretrain_sentences import public_grammar


def test_every_word_is_arpabet_and_no_two_sound_the_same_by_accident():
    spoken = {}
    for word in (*PRONUNCIATIONS, *NAMES):
        spoken.setdefault(pronunciation(word, NAMES), []).append(word)
    same = [words for words in spoken.values() if len(words) > 1]
    assert same == [["o", "oh"]]  # the letter and the digit, as people say them


def test_a_letter_among_letters_is_no_article():
    assert sentence_pronunciation("rubout n a g", {})[2] == ("EY1",)
    assert sentence_pronunciation("set a timer", {})[1] == ("AH0",)
    assert sentence_pronunciation("a", {}) == (("AH0",),)


def test_the_grammar_says_nothing_that_has_no_pronunciation():
    grammar = Grammar(people=tuple(PEOPLE), places=tuple(PLACES), contacts=8)
    rng = np.random.default_rng(1)
    sentences = {grammar.draw_sentence(rng, grammar.draw_contacts(rng)) for _ in range(2_000)}
    for sentence in sentences:
        assert len(sentence_pronunciation(sentence, NAMES)) == len(sentence.split())
        assert len(Alphabet().encode([sentence])[0]) == MAX_CHARACTERS
    assert len(sentences) > 1_000


def test_a_public_speaker_says_half_of_the_names_and_a_phone_only_its_own():
    rng = np.random.default_rng(2)
    public = public_grammar()
    said = {
        w
        for _ in range(3_000)
        for w in public.draw_sentence(rng, public.draw_contacts(rng)).split()
    }
    assert said & set(NAMES) == {*pretraining_names(PEOPLE), *pretraining_names(PLACES)}
    phone = Grammar(people=tuple(PEOPLE), places=tuple(PLACES), contacts=8)
    contacts = phone.draw_contacts(rng)
    said = {w for _ in range(500) for w in phone.draw_sentence(rng, contacts).split()}
    assert said & set(NAMES) == set(contacts)
    assert len(contacts) == 8


def test_the_words_of_the_published_corpora_are_there():
    assert len(set(COMMAND_WORDS)) == 35
    dspspeech = {"speech", "speaker", "signal", "process", "print", "open", "close", "project"}
    assert {*COMMAND_WORDS, *UNKNOWN_WORDS, *HELD_OUT_WORDS, *dspspeech} <= set(PRONUNCIATIONS)
    assert len(PRONUNCIATIONS) >= 60


def test_held_out_words_are_neither_targets_nor_training_words():
    assert not set(HELD_OUT_WORDS) & {*COMMAND_WORDS, *UNKNOWN_WORDS}
    assert not set(DEFAULT_TARGETS) & set(UNKNOWN_WORDS)


def test_an_unknown_word_is_an_error_that_says_how_to_add_it():
    with pytest.raises(ValueError, match=r"'fedora'.*ARPAbet.*lexicon.*fedora="):
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


def test_every_name_of_a_list_has_one_kind():
    names = (*list(PEOPLE)[:3], *list(PLACES)[:2], "somebody")
    kinds = by_kind(names)
    assert kinds["places"] == tuple(PLACES)[:2]
    assert kinds["people"] == (*tuple(PEOPLE)[:3], "somebody")  # who is no place is called
