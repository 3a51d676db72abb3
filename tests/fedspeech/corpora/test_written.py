import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.corpora import written
from fedspeech.corpora.corpus import SILENCE, UNKNOWN, Vocabulary
from fedspeech.corpora.written import RESERVED, listed, spoken, without_dashes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("  Don’t   STOP! ", "don't stop"),
        ("«Où est-ce?»", "où est-ce"),
        (unicodedata.normalize("NFD", "Zoë"), "zoë"),
        ("п'ять", "п'ять"),
        ("пʼять", "п'ять"),
        ("شكرا", "شكرا"),
        ("\u202bשלום\u202c\u200f", "שלום"),
        ("می‌خواهم", "می‌خواهم"),  # Persian spells it with a joiner
        ("ye\u200cs\u200d", "yes"),
        ("はい。", "はい"),
        ("नमस्ते!", "नमस्ते"),
        ("C3PO", "c3po"),
        ("wi-fi", "wi-fi"),
        ("[Noise] (yes)", "[noise] yes"),
        ("... !", ""),
        ("", ""),
        ("İstanbul", "i̇stanbul"),
        (" _silence_ ", SILENCE),
        ("_unknown_", UNKNOWN),
    ],
)
def test_written_words_have_one_spelling(text, said):
    assert spoken(text) == said


@given(st.text())
def test_spelling_twice_changes_nothing_and_fits_a_vocabulary(text):
    said = spoken(text)
    assert spoken(said) == said
    assert unicodedata.is_normalized("NFC", said)
    for word in said.split():
        if word not in RESERVED:
            assert Vocabulary((word,)).targets == (word,)


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32)))
def test_the_quick_way_for_ascii_is_the_same(text):
    if text.strip() not in RESERVED:
        assert spoken(text) == written._spoken(text)


def test_reserved_labels_are_those_of_vocabularies():
    assert set(RESERVED) == {SILENCE, UNKNOWN}


def test_words_from_right_to_left_keep_their_order_in_a_list():
    assert listed(["yes", "no"]) == "yes, no"
    assert listed(["נה", "yes", "بله"]) == "\u2068נה\u2069, yes, \u2068بله\u2069"
    assert "\u2068بله\u2069, \u2068نه\u2069" in Vocabulary(("بله", "نه")).in_words()


def test_compounds_come_apart_for_an_alphabet_without_dashes():
    assert without_dashes("well-known twenty–one") == "well known twenty one"
