import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.corpora.identity import Persons, plain


@pytest.mark.parametrize(
    "other",
    [
        unicodedata.normalize("NFD", "Zoë 07"),
        "zoë 07",
        "  Zoë\u00a007 ",
        "Zo\u200bë 7",
        "Zoë7",
        "Zoë\u00ad 007",
        "ＺＯË ０７",
    ],
)
def test_what_reads_alike_is_one_person_under_the_first_name(other):
    persons = Persons(["Zoë 07", other])
    assert persons.of[other] == "Zoë 07"
    assert persons.merged == {"Zoë 07": ("Zoë 07", other)}
    assert persons.alike == ()


def test_punctuation_keeps_people_apart_and_is_said():
    persons = Persons(["ann-1", "ann_1", "ann-11", "ben"])
    assert len(set(persons.of.values())) == 4
    assert persons.alike == (("ann-1", "ann_1"),)


def test_hashes_of_one_length_stay_different_people():
    names = ["a01b001c", "a001b01c", "0132a06d", "1320a06d", "00000017", "10000007"]
    assert len(set(Persons(names).of.values())) == len(names)


@pytest.mark.slow
@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_names_are_read_and_the_outcome_is_stable(names):
    persons = Persons(names)
    assert set(persons.of) == set(names)
    assert Persons(persons.of.values()).of == {person: person for person in persons.of.values()}
    assert all(plain(person) == person for person in persons.of.values())


@pytest.mark.parametrize("name", ["0" * 100_000 + "x", "-" * 100_000, "0" * 100_000, "é" * 50_000])
def test_a_name_of_a_hundred_thousand_characters_takes_no_time(name):
    """One pattern for zeros and the number after them would take minutes."""
    assert list(Persons([name, "anna"]).of) == [name, "anna"]
