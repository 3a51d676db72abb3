"""All texts are searched at once, and what is found is what each text alone would give."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fedspeech.sharing import artifact, claim_rules, content_rules, people_rules
from fedspeech.sharing.artifact import BETWEEN, Artifact, Sought, columns_of
from fedspeech.sharing.cells import Cell, isolated
from fedspeech.sharing.people_rules import _naming, _registry, spelled_together


def sought_by(module):
    for name, value in vars(module).items():
        group = value if isinstance(value, tuple) else (value,)
        yield from ((f"{name}{n}", each) for n, each in enumerate(group) if type(each) is Sought)


SOUGHT = {
    f"{module.__name__.rpartition('.')[2]}.{name}": each
    for module in (claim_rules, content_rules, people_rules)
    for name, each in sought_by(module)
} | {"artifact.run": Sought(artifact._RUN)}
PIECES = (
    "2026-11-30T14", "19:45", " 20261130-2113", "/home/ann", "/a/b", "C:\\u", "\\\\h\\s", "~ann/",
    "FILE://", "x.wav", "10.0.4.17", "fe80::1ff:fe23", "00:1a:2b:3c:4d:5e", "QUJD" * 9, "0" * 12,
    "1 2 3 4 5 6 7", "@", "dot", "five oh SIX", "p\u0131n", "P\u0130N", "\u017ftreet", "\u212aey",
    "pass_code", "epsilon 6", "\u03b5 = 2", "EPS-LDP", "Anonymised", "differentially privat",
    "For the operator only", "no personal data", "tokens", "codec\u017f",
    ", ".join("0123456789" * 2), "-", " ", ".", "",
    "\0", "\u0301", "\u00df", "\ufb01", "a", "Z", "7",
)  # fmt: skip
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=6)


@given(texts=TEXTS)
def test_a_search_of_all_finds_what_a_search_of_each_finds(texts):
    whole = Artifact("n.json", b"", "json", (("", texts),))
    for name, sought in SOUGHT.items():
        each = [(at, text) for at, text in whole.strings() if sought.pattern.search(text)]
        assert list(whole.strings(sought)) == each, name


def test_every_pattern_of_the_rules_is_tried():
    assert len(SOUGHT) > 20
    assert all(sought.pattern.search(" ".join(PIECES)) for sought in SOUGHT.values())


def windows(text):
    """Words in a row written as one, and pieces of words: every one of them."""
    words = re.findall(r"[^\W_]+", artifact.folded(text))
    rows = [words, *(re.findall(r"\d+|[^\W\d_]+", word) for word in words)]
    for row in rows:
        for start in range(len(row)):
            for end in range(start + 1, len(row) + 1):
                yield "".join(row[start:end])


PEOPLE = ("Zo\u00eb Marchetti", "spk-0042", "Bj\u00f6rn", "QX7715", "An", "anna")
NAMES = ("Zoe", "MARCHETTI", "zo\u200be\u0308", "spk", "0042", "004", "2", "Bjo\u0308rn", "qx77",
         "15", "an", "na", "-", " ", "_", ".", "\ufb03", "x")  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=6).map("".join), max_size=5))
def test_a_name_is_found_in_whatever_words_it_is_written(texts):
    people, begun, _ = _registry(PEOPLE)
    words = artifact.Joined(texts).words
    found = set(words.texts_of(_naming(words.row, people, begun)))
    assert found == {
        place for place, text in enumerate(texts) if not people.isdisjoint(windows(text))
    }
    assert all(spelled_together(each) in people for each in PEOPLE)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), min_size=1, max_size=5))
def test_every_column_of_a_table_is_one(rows):
    assert set(columns_of(rows)) == {key for row in rows for key in row}


def test_a_zero_byte_in_a_text_parts_no_texts():
    joined = artifact.Joined([f"one{BETWEEN}two", "/home/ann"])
    assert list(joined.touched_by(Sought(re.compile("ann")))) == [1]
    assert list(joined.words.texts_of([joined.words.row.index("ann")])) == [1]


ACCENTS, OTHERS = ("", "north", "south"), ("", "f", "30-40", "30-50")
CELLS = st.lists(
    st.tuples(st.sampled_from(ACCENTS), st.sampled_from(OTHERS), st.integers(0, 60), st.booleans()),
    max_size=6,
)


@given(CELLS)
def test_of_two_cells_one_within_the_other_none_is_near_and_unsaid(rows):
    """Against every pair; one release each, so nothing follows from one alone."""

    def conditions(accent, other):
        found = {("accent", accent)} if accent else set()
        return frozenset(found | ({("age" if "-" in other else "sex", other)} if other else set()))

    cells = [Cell(conditions(a, b), n, f"place {i}") for i, (a, b, n, _) in enumerate(rows)]
    new = [cell for cell, (*_, new) in zip(cells, rows, strict=True) if new]
    earlier = [cell for cell in cells if cell not in new]
    said = {where for where, _ in isolated([(cell,) for cell in earlier], [(c,) for c in new], 20)}
    for one in new:
        for other in cells:
            if one is not other and one.conditions >= other.conditions:
                near = 0.5 < abs(one.people - other.people) < 20
                assert not near or one.where in said


def test_many_rounds_of_one_table_are_compared_in_order_and_not_in_pairs():
    """Ten thousand counts: every pair would be a hundred million."""
    cells = tuple(Cell(frozenset({("accent", "a")}), 100.0 + 50 * n, "x") for n in range(10_000))
    assert list(isolated([(Cell(frozenset({("accent", "a")}), 107.0),)], [cells], 20))
