"""What is signed and hashed is unmistakable; minimums and sizes are what they are said to be."""

from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_sessions import PURPOSE, FixedPhone, recorded, terms_of, vectors_of

from fedspeech.secagg import protocol
from fedspeech.secagg.costs import bytes_per_phone
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.masks import pack
from fedspeech.secagg.primitives import SharedPrimitives
from fedspeech.secagg.protocol import (
    CohortList,
    Members,
    SessionTerms,
    Stage,
    bind,
    commitment_to,
    rows,
    session_round_id,
    table,
)
from fedspeech.secagg.refusals import KeyReused, Malformed
from fedspeech.secagg.server import Server

PHONES = IdentityDirectory(bytes(32), b"tests", 200)


def members(*ids):
    return Members(np.array(ids, dtype=np.int64))


def cohort_list_of(n=6, seed=0):
    rng = np.random.default_rng(seed)
    columns = {"seal_keys": 32, "mask_keys": 32, "commitments": 32, "signatures": 64}
    return CohortList(
        members=members(*range(0, 3 * n, 3)),
        **{name: rng.integers(0, 256, (n, width), np.uint8) for name, width in columns.items()},
    )


COHORT_LIST = cohort_list_of()
COLUMNS = ("seal_keys", "mask_keys", "commitments", "signatures")


# SessionTerms.

# One other value for each term; whoever adds a term must add it here.
OTHER_TERMS = {
    "round_id": bytes(15) + b"\1", "round": 4, "dimension": 10, "bits": 17, "min_cohort": 3,
    "min_reporting": 3, "colluders": 1, "dropped_share": 0.1 + 1e-9, "threat_model": "semi_honest",
}  # fmt: skip
GIVEN = terms_of(min_cohort=6)


def test_every_term_has_another_value_in_these_tests():
    assert set(OTHER_TERMS) == {field.name for field in fields(SessionTerms)}
    assert all(getattr(GIVEN, name) != other for name, other in OTHER_TERMS.items())


@pytest.mark.parametrize("name", OTHER_TERMS)
def test_terms_and_context_change_with_every_term(name):
    other = replace(GIVEN, **{name: OTHER_TERMS[name]})
    assert other.encode() != GIVEN.encode()
    assert len(other.encode()) == len(GIVEN.encode())
    assert bind(other, PURPOSE, COHORT_LIST).digest != bind(GIVEN, PURPOSE, COHORT_LIST).digest


SMALL = st.integers(2, 5)
TERMS = st.builds(
    lambda low, more, **given: SessionTerms(min_reporting=low, min_cohort=low + more, **given),
    SMALL, st.integers(0, 3),
    round_id=st.sampled_from(
        [bytes(16), bytes(15) + b"\1", bytes(14) + b"\1\0", b"\1" + bytes(15)]
    ),
    round=st.sampled_from([0, 1, 2, 256]), dimension=st.sampled_from([1, 2, 256, 2**32]),
    bits=st.sampled_from([1, 2, 16]), colluders=st.sampled_from([0, 1, 256]),
    dropped_share=st.sampled_from([0.0, 1e-9, 0.1]),
    threat_model=st.sampled_from(["malicious", "semi_honest"]),
)  # fmt: skip


@given(TERMS, TERMS)
def test_no_two_terms_share_an_encoding(first, other):
    assert (first.encode() == other.encode()) == (first == other)


@given(TERMS, st.data())
def test_terms_that_swap_two_numbers_do_not_share_an_encoding(terms, data):
    numbers = ["round", "dimension", "colluders"]
    one, two = data.draw(st.permutations(numbers))[:2]
    swapped = replace(terms, **{one: getattr(terms, two), two: getattr(terms, one)})
    assert (swapped.encode() == terms.encode()) == (swapped == terms)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"round_id": bytes(15)}, "16 bytes, got 15"),
        ({"round_id": bytes(17)}, "16 bytes, got 17"),
        ({"bits": 0}, r"1\.\.32, got bits=0"),
        ({"bits": 33}, r"1\.\.32, got bits=33"),
        ({"min_reporting": 1}, "min_reporting=1"),
        ({"min_reporting": 3}, "min_reporting=3, min_cohort=2"),
        ({"dropped_share": -0.1}, r"\[0, 1\), got -0.1"),
        ({"dropped_share": 1.0}, r"\[0, 1\), got 1.0"),
        ({"dropped_share": float("nan")}, r"\[0, 1\), got nan"),
    ],
)
def test_terms_that_a_session_could_not_live_with_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        terms_of(**changes)


@given(st.integers(1, 10_000), st.integers(0, 5_000), st.data())
def test_two_quorums_for_two_pairs_of_lists_cannot_be(n, c, data):
    # Honest phones sign one pair, corrupt ones both: whoever signs for neither is left out.
    c = min(c, n)
    quorum = terms_of(colluders=c).quorum(n)
    honest_for_one = data.draw(st.integers(0, n - c))
    honest_for_other = n - c - honest_for_one
    assert not (honest_for_one + c >= quorum and honest_for_other + c >= quorum)
    assert 2 * quorum > n + c
    assert 2 * (quorum - 1) <= n + c  # and no phone more than that takes


@pytest.mark.parametrize("n", [3, 10, 100, 128, 129, 200, 1000])
@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
def test_phones_who_may_vanish_leave_a_quorum(n, threat_model):
    terms = terms_of(colluders=n // 20, threat_model=threat_model)
    assert n - int(n * terms.dropped_share) >= terms.quorum(n)
    parameters = terms.parameters(n)
    assert parameters.num_phones == n
    assert parameters.complete == (n <= 128)
    assert parameters.complete <= (parameters.threshold == terms.quorum(n))


# Lists of phones, cohort lists.

NUMBERS = st.sets(st.sampled_from([0, 1, 2, 255, 256, 2**32, 2**62]), max_size=5)


@given(NUMBERS, NUMBERS)
def test_a_list_is_told_from_every_other(first, other):
    one, two = members(*sorted(first)), members(*sorted(other))
    assert (one.digest == two.digest) == (first == other)
    assert one.within(two) == (first <= other)
    assert len(one) == len(first)
    assert [one.place(phone) for phone in sorted(first)] == list(range(len(first)))
    assert all(one.place(phone) is None for phone in other - first)
    asked = sorted(first | other)
    assert one.present(asked) == [at for at, phone in enumerate(asked) if phone in first]


@pytest.mark.parametrize(
    "ids",
    [
        [1, 2], (1, 2), None, b"12", np.array([1, 2], np.int32), np.array([1.0, 2.0]),
        np.array([[1, 2]]), np.array(1), np.array([2, 1]), np.array([1, 1]), np.array([-1, 1]),
    ],
)  # fmt: skip
def test_what_is_no_increasing_list_of_phones_is_refused(ids):
    with pytest.raises(Malformed, match="list of phones"):
        Members(ids)


def changed_cohort_list(column, row, at, bit):
    columns = {name: getattr(COHORT_LIST, name).copy() for name in COLUMNS}
    columns[column][row, at] ^= 1 << bit
    return CohortList(members=COHORT_LIST.members, **columns)


@given(st.sampled_from(COLUMNS), st.integers(0, 5), st.integers(0, 63), st.integers(0, 7))
def test_cohort_list_and_context_change_with_every_bit(column, row, at, bit):
    other = changed_cohort_list(column, row, at % getattr(COHORT_LIST, column).shape[1], bit)
    assert other.digest != COHORT_LIST.digest
    assert bind(GIVEN, PURPOSE, other).digest != bind(GIVEN, PURPOSE, COHORT_LIST).digest


@pytest.mark.parametrize(
    "ids", [(0, 3, 6, 9, 12, 16), (0, 3, 6, 9, 12, 2**40), (0, 4, 6, 9, 12, 15)]
)
def test_the_cohort_list_changes_with_every_number(ids):
    columns = {name: getattr(COHORT_LIST, name) for name in COLUMNS}
    assert CohortList(members=members(*ids), **columns).digest != COHORT_LIST.digest


def test_the_cohort_list_changes_when_columns_trade_places():
    columns = [COHORT_LIST.seal_keys, COHORT_LIST.mask_keys, COHORT_LIST.commitments]
    found = {
        CohortList(
            members=COHORT_LIST.members, seal_keys=a, mask_keys=b, commitments=c,
            signatures=COHORT_LIST.signatures,
        ).digest
        for a, b, c in ([0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1])
        for a, b, c in [(columns[a], columns[b], columns[c])]
    }  # fmt: skip
    assert len(found) == 6


def test_the_cohort_list_changes_when_a_phone_leaves_or_two_trade_places():
    columns = {name: getattr(COHORT_LIST, name) for name in COLUMNS}
    without = {name: column[:-1] for name, column in columns.items()}
    order = [1, 0, 2, 3, 4, 5]
    traded = {name: column[order] for name, column in columns.items()}
    digests = {
        COHORT_LIST.digest,
        CohortList(members=COHORT_LIST.members, **traded).digest,
        CohortList(members=Members(COHORT_LIST.members.ids[:-1]), **without).digest,
    }
    assert len(digests) == 3


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_another_shape_or_type_are_refused(column):
    columns = {name: getattr(COHORT_LIST, name) for name in COLUMNS}
    right = columns[column]
    for wrong in (
        right[:-1], right[:, :-1], right.astype(np.int64), right.astype(np.int8), right.tobytes(),
        right[None], None,
    ):  # fmt: skip
        with pytest.raises(Malformed, match=column):
            CohortList(members=COHORT_LIST.members, **(columns | {column: wrong}))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("seal_keys", "seal_keys"), ("mask_keys", "mask_keys"), ("seal_keys", "mask_keys"),
        ("mask_keys", "seal_keys"), ("commitments", "commitments"),
    ],
)  # fmt: skip
def test_no_key_or_commitment_stands_twice_in_a_cohort_list(one, two):
    columns = {name: getattr(COHORT_LIST, name).copy() for name in COLUMNS}
    columns[two][4] = columns[one][1]
    with pytest.raises(KeyReused):
        CohortList(members=COHORT_LIST.members, **columns)


def test_one_phones_two_keys_differ():
    columns = {name: getattr(COHORT_LIST, name).copy() for name in COLUMNS}
    columns["mask_keys"][2] = columns["seal_keys"][2]
    with pytest.raises(KeyReused):
        CohortList(members=COHORT_LIST.members, **columns)


# The context.


@given(st.integers(0, 255))
def test_the_context_changes_with_every_bit_of_the_purpose(bit):
    other = bytearray(PURPOSE)
    other[bit // 8] ^= 1 << bit % 8
    assert bind(GIVEN, bytes(other), COHORT_LIST).digest != bind(GIVEN, PURPOSE, COHORT_LIST).digest


@pytest.mark.parametrize("purpose", [b"", bytes(31), bytes(33), "0" * 32, None])
def test_a_purpose_is_a_hash(purpose):
    with pytest.raises(Malformed, match="32 bytes"):
        bind(GIVEN, purpose, COHORT_LIST)


def test_equal_terms_purpose_and_cohort_list_make_equal_contexts():
    again = bind(replace(GIVEN), bytes(PURPOSE), cohort_list_of())
    assert again.digest == bind(GIVEN, PURPOSE, COHORT_LIST).digest
    assert again.quorum == 4
    assert again.parameters.threshold == 4


def test_the_graph_is_drawn_from_every_bit_of_every_nonce_and_from_the_context():
    cohort_list, terms = cohort_list_of(140), terms_of(threat_model="semi_honest")
    nonces = [bytes([i]) * 32 for i in range(140)]
    drawn = bind(terms, PURPOSE, cohort_list).graph(nonces).neighbors
    for changed in (
        [bytes(31) + b"\1", *nonces[1:]], [*nonces[:-1], bytes([139]) * 31 + b"\0"],
        [nonces[1], nonces[0], *nonces[2:]],
    ):  # fmt: skip
        assert (bind(terms, PURPOSE, cohort_list).graph(changed).neighbors != drawn).any()
    for context in (
        bind(replace(terms, round=9), PURPOSE, cohort_list), bind(terms, bytes(32), cohort_list),
    ):  # fmt: skip
        assert (context.graph(nonces).neighbors != drawn).any()
    again = bind(replace(terms), PURPOSE, cohort_list_of(140)).graph(list(nonces))
    np.testing.assert_array_equal(again.neighbors, drawn)


# Statements: fields from a small alphabet, so that near misses are common.

HASHES = [bytes(32), bytes(31) + b"\1", b"\1" + bytes(31)]
IDS = [bytes(8), bytes(7) + b"\1", b"\1" + bytes(7)]
RIDS = [bytes(16), bytes(15) + b"\1"]
LAYOUTS = {
    "advertisement_statement": (RIDS, [0, 1, 256], [0, 1, 256], HASHES, HASHES, HASHES),
    "seed_statement": (HASHES, IDS, HASHES),
    "masked_statement": (HASHES, IDS, HASHES),
    "agreed_statement": (HASHES, HASHES, HASHES),
    "share_info": (HASHES, IDS, IDS),
    "mask_info": (HASHES, IDS, IDS),
}


def test_no_two_statements_share_an_encoding():
    said = {}
    for name, layout in LAYOUTS.items():
        for values in product(*layout):
            encoded = getattr(protocol, name)(*values)
            assert said.setdefault(encoded, (name, values)) == (name, values)
    expected = sum(int(np.prod([len(column) for column in layout])) for layout in LAYOUTS.values())
    assert len(said) == expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_statements_of_one_kind_have_one_length_that_no_other_kind_begins_with(name):
    lengths = {
        kind: {len(getattr(protocol, kind)(*values)) for values in product(*layout)}
        for kind, layout in LAYOUTS.items()
    }
    assert len(lengths[name]) == 1
    others = [kind for kind in LAYOUTS if kind != name]
    assert all(lengths[name] != lengths[other] for other in others)


def test_only_kinds_that_never_meet_could_begin_alike():
    # keys are derived for the infos, the others are signed
    infos = [k for k in LAYOUTS if k.endswith("info")]
    signed = [k for k in LAYOUTS if k.endswith("statement")]
    for group in (infos, signed):
        labels = [getattr(protocol, kind)(*[column[0] for column in LAYOUTS[kind]]).rstrip(b"\0")
                  for kind in group]  # fmt: skip
        for one, two in product(labels, labels):
            assert one == two or not one.startswith(two)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_commitments_are_to_one_secret(first, other):
    assert (commitment_to(first) == commitment_to(other)) == (first == other)
    assert len(commitment_to(first)) == 32


def test_each_session_of_each_round_has_its_own_name():
    rids = [bytes(16), bytes(15) + b"\1", b"\1" + bytes(15)]
    names = [session_round_id(round_id, number) for round_id in rids for number in range(300)]
    assert len(set(names)) == len(names)
    assert {len(name) for name in names} == {16}
    assert not set(names) & set(rids)
    assert session_round_id(session_round_id(rids[0], 1), 2) != session_round_id(
        session_round_id(rids[0], 2), 1
    )


# Bytes.


@given(st.lists(st.binary(min_size=5, max_size=5), max_size=6))
def test_a_table_has_its_entries_as_rows(entries):
    assert table(entries, 5).shape == (len(entries), 5)
    assert rows(table(entries, 5)) == entries
    assert rows(np.asfortranarray(table(entries, 5))) == entries


class Weighed(FixedPhone):
    """Counts the bytes of what one phone is told and says."""

    sizes: dict

    def _weigh(self, stage, sent, received):
        if self.number == 3:
            before = self.sizes.get(stage, (0, 0))
            self.sizes[stage] = (before[0] + size(*sent), before[1] + size(*received))

    def advertise(self):
        said = super().advertise()
        number = said.phone.to_bytes(8, "big")
        self._weigh(
            "advertise",
            [number, said.seal_key, said.mask_key, said.commitment, said.signature],
            [self._terms.round_id],
        )
        return said

    def accept(self, cohort_list, purpose):
        nonce = super().accept(cohort_list, purpose)
        columns = [getattr(cohort_list, column) for column in COLUMNS]
        self._weigh("advertise", [nonce], [cohort_list.members.ids, *columns])
        return nonce

    def share(self, nonces):
        said = super().share(nonces)
        self._weigh("share", [said.sealed, said.commitment, said.signature], nonces)
        return said

    def mask(self, inbox):
        signature, masks = super().mask(inbox)
        told = [inbox.sharers.ids, inbox.sealed, inbox.commitments, inbox.signatures]
        self._weigh("mask", [signature], told)
        return signature, masks

    def agree(self, reporting, signatures):
        signature = super().agree(reporting, signatures)
        self._weigh("agree", [signature], [reporting.ids, signatures])
        return signature

    def unmask(self, quorum):
        given = super().unmask(quorum)
        self._weigh("unmask", given, [quorum.members.ids, quorum.signatures])
        return given


def size(*parts):
    return sum(part.nbytes if hasattr(part, "nbytes") else len(part) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "bits", "dimension"),
    [(4, 16, 10), (21, 24, 11), (9, 32, 9), (9, 12, 5), (9, 1, 9), (140, 24, 11), (140, 16, 8)],
)
def test_bytes_per_phone_are_those_of_a_sessions_messages(n, bits, dimension, monkeypatch):
    terms = terms_of(bits=bits, dimension=dimension, threat_model="semi_honest")
    sizes = {}
    add_masked = Server.add_masked

    def weighed(server, phone, words, signature):
        if phone == 3:
            sizes["mask"] = (sizes["mask"][0] + pack(words[None], bits).nbytes, sizes["mask"][1])
        return add_masked(server, phone, words, signature)

    monkeypatch.setattr(Server, "add_masked", weighed)
    found, _ = recorded(
        vectors_of(np.random.default_rng(0), range(n), terms), terms=terms, identities=PHONES,
        phone=type("Weighed", (Weighed,), {"sizes": sizes}), primitives=SharedPrimitives(),
    )  # fmt: skip
    assert sizes == bytes_per_phone(n, found.context.parameters, dimension, bits)


def test_stages_come_in_the_order_of_the_protocol():
    names = ["NONE", "ADVERTISE", "ACCEPT", "SHARE", "MASK", "AGREE", "UNMASK"]
    assert [stage.name for stage in sorted(Stage)] == names
