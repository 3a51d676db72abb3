"""What is computed once for all phones of a process has the bytes of what each computes itself."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from secagg_sessions import CheckedOnce, recorded, terms_of, vectors_of

from fedspeech.secagg import keys, primitives
from fedspeech.secagg.keys import Identity, IdentityDirectory, public_key
from fedspeech.secagg.masks import keystream
from fedspeech.secagg.primitives import Primitives, SharedPrimitives, SignedStatements
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.refusals import WeakKey

PHONES = IdentityDirectory(bytes(32), b"tests", 200)
PAIR = [X25519PrivateKey.from_private_bytes(bytes([1 + i]) * 32) for i in range(2)]
PUBLICS = [public_key(private) for private in PAIR]
IDENTITY = Identity(bytes(32))


class SharedChecks(Primitives):
    """Shares signature checks alone: where each phone checks each other, they take the time."""

    def __init__(self):
        self.shared = SharedPrimitives()

    def verify(self, public, statement, signature):
        return self.shared.verify(public, statement, signature)

    def verify_all(self, signed):
        return self.shared.verify_all(signed)


def session(terms, n, gone, shared):
    vectors = vectors_of(np.random.default_rng(n), range(n), terms)
    found, messages = recorded(
        vectors, terms=terms, identities=PHONES, primitives=shared,
        last_stage=lambda phone: gone.get(phone, Stage.UNMASK),
    )  # fmt: skip
    return found, messages


def assert_same_bytes(terms, n, gone, plain):
    found, expected = session(terms, n, gone, plain)
    shared = SharedPrimitives()
    for _ in range(2):  # the second time, everything is remembered
        again, messages = session(terms, n, gone, shared)
        assert messages == expected
        assert again.total.tobytes() == found.total.tobytes()
    stages = Counter(stage for stage, _, _ in expected)
    assert min(stages.values()) >= 1
    assert {"advertise", "nonce", "share", "sharers", "mask", "masked", "reporting", "agree",
            "quorum", "unmask", "total"} == set(stages)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bits", [12, 16, 24, 32])
def test_every_message_is_byte_for_byte_the_same_with_shared_primitives(bits):
    gone = {1: Stage.ADVERTISE, 3: Stage.SHARE, 8: Stage.MASK, 5: Stage.AGREE, 13: Stage.NONE}
    assert_same_bytes(terms_of(bits=bits, colluders=1), 16, gone, Primitives())


RING_GONE = {1: Stage.ADVERTISE, 30: Stage.SHARE, 81: Stage.MASK, 50: Stage.AGREE, 99: Stage.NONE}
RING_GONE |= dict.fromkeys(range(110, 116), Stage.SHARE)


@pytest.mark.slow
def test_on_a_ring_every_message_is_the_same_with_shared_secrets_and_masks():
    terms = terms_of(bits=24, colluders=5, threat_model="semi_honest")
    assert_same_bytes(terms, 140, RING_GONE, SharedChecks())


@pytest.mark.slow
def test_on_a_ring_every_message_is_the_same_with_shared_primitives():
    assert_same_bytes(terms_of(bits=24, colluders=10), 140, RING_GONE, Primitives())


def test_another_session_has_other_messages():
    # or the equalities above would say nothing
    _, first = session(terms_of(), 5, {}, Primitives())
    _, other = session(terms_of(round_id=bytes([1]) * 16), 5, {}, Primitives())
    same = [(a, b) for a, b in zip(first, other, strict=True) if a[:2] == b[:2] and a[2] == b[2]]
    assert {stage for (stage, _, _), _ in same} <= {"sharers", "reporting", "total"}


class Calls:
    """Counts of what is computed, by the arguments that say what it is."""

    def __init__(self, monkeypatch):
        self.exchanges, self.derivations, self.checks = Counter(), Counter(), Counter()
        self.masks: list[Counter] = []
        exchange, hkdf, verify, apply = (
            keys.exchange, keys.hkdf, keys.verify, primitives.apply_mask,
        )  # fmt: skip

        def counted_exchange(private, public):
            self.exchanges[frozenset([public_key(private), public])] += 1
            return exchange(private, public)

        def counted_hkdf(secret, info):
            if info.startswith(b"fedspeech secagg"):  # not those of identities
                self.derivations[info] += 1
            return hkdf(secret, info)

        def counted_verify(*signed):
            self.checks[signed] += 1
            return verify(*signed)

        def counted_apply(key, targets):
            self.masks[-1][key] += 1
            apply(key, targets)

        monkeypatch.setattr(keys, "exchange", counted_exchange)
        monkeypatch.setattr(keys, "hkdf", counted_hkdf)
        monkeypatch.setattr(keys, "verify", counted_verify)
        monkeypatch.setattr(primitives, "apply_mask", counted_apply)
        for kind in (Primitives, SharedPrimitives):
            self._count_masks(monkeypatch, kind)

    def _count_masks(self, monkeypatch, kind):
        add_masks = kind.add_masks

        def counted(own, vectors, masks):
            self.masks.append(Counter())
            add_masks(own, vectors, masks)

        monkeypatch.setattr(kind, "add_masks", counted)


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


def test_shared_primitives_compute_each_thing_once(calls):
    n, gone = 12, {2: Stage.SHARE, 7: Stage.SHARE, 9: Stage.MASK}
    session(terms_of(), n, gone, SharedPrimitives())
    edges = n * (n - 1) // 2
    for counts in (calls.exchanges, calls.derivations, calls.checks, *calls.masks):
        assert set(counts.values()) == {1}
    masked = edges - 1  # all but the one between the two phones that are gone
    assert len(calls.exchanges) == edges + masked
    assert len(calls.derivations) == 2 * edges + masked  # one to seal in either direction
    # Advertisements, seeds, masked vectors, lists, shares.
    assert len(calls.checks) == n + n + (n - 2) + (n - 3) + (n - 3)
    on, off = calls.masks
    assert len(on) == (n - 2) + masked  # own, edges
    assert len(off) == (n - 2) + 2 * (n - 2)  # own, edges from those who are gone


def test_without_sharing_each_phone_computes_its_own(calls):
    n = 5
    session(terms_of(), n, {}, Primitives())
    edges = n * (n - 1) // 2
    assert calls.exchanges.total() == 2 * 3 * edges  # to seal, to open and to mask, at both ends
    assert calls.derivations.total() == 2 * 3 * edges
    assert calls.checks.total() == n * (n + n + 2 * (n - 1)) + 5 * n
    assert calls.masks[0].total() == n + 2 * edges


def test_one_edge_has_another_key_for_each_purpose():
    for shared in (SharedPrimitives(), Primitives()):
        infos = [b"seal", b"mask", b"seal"]
        first, other, again = shared.agree(PAIR[0], PUBLICS[0], [PUBLICS[1]] * 3, infos)
        assert first == again != other
        assert [first, other] == Primitives().agree(
            PAIR[1], PUBLICS[1], [PUBLICS[0]] * 2, infos[:2]
        )


def test_both_ends_of_an_edge_share_one_exchange(calls):
    shared = SharedPrimitives()
    for end in (0, 1, 0, 1):
        shared.agree(PAIR[end], PUBLICS[end], [PUBLICS[1 - end]], [b"mask"])
    assert calls.exchanges.total() == 1
    shared.agree(PAIR[0], PUBLICS[0], [PUBLICS[1]], [b"seal"])
    assert calls.exchanges.total() == 1


def test_no_two_edges_share_a_secret(calls):
    shared = SharedPrimitives()
    privates = [X25519PrivateKey.from_private_bytes(bytes([i + 1]) * 32) for i in range(6)]
    publics = [public_key(private) for private in privates]
    agreed = [
        shared.agree(privates[i], publics[i], [publics[j]], [b"mask"])[0]
        for i, j in combinations(range(6), 2)
    ]
    assert len(set(agreed)) == 15 == calls.exchanges.total()


@pytest.mark.parametrize("kind", [Primitives, SharedPrimitives])
def test_a_key_of_low_order_is_refused_each_time(kind):
    shared = kind()
    for _ in range(2):
        with pytest.raises(WeakKey):
            shared.agree(PAIR[0], PUBLICS[0], [PUBLICS[1], bytes(32)], [b"a", b"b"])


def test_who_names_a_key_that_is_not_its_own_plants_what_the_other_end_reads():
    """Why attacks never share: here another phone's key, with the bit set that X25519 ignores."""
    alias = flipped(PUBLICS[0], 248 + 7)
    assert alias != PUBLICS[0]
    liar = X25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    honest = Primitives().agree(PAIR[1], PUBLICS[1], [alias], [b"mask"])
    assert honest == Primitives().agree(PAIR[1], PUBLICS[1], [PUBLICS[0]], [b"mask"])
    for kind, planted in ((SharedPrimitives, True), (CheckedOnce, False)):
        primitives = kind()
        lie = primitives.agree(liar, alias, [PUBLICS[1]], [b"mask"])
        read = primitives.agree(PAIR[1], PUBLICS[1], [alias], [b"mask"])
        assert (read == lie) == planted
        assert (read == honest) == (not planted)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("kind", [Primitives, SharedPrimitives])
def test_a_check_that_failed_is_never_remembered_as_one_that_held(kind):
    shared, statement = kind(), b"what was said"
    good = (IDENTITY.public, statement, IDENTITY.sign(statement))
    bad = [
        (flipped(good[0], 7), good[1], good[2]),
        (good[0], flipped(good[1], 0), good[2]),
        *[(good[0], good[1], flipped(good[2], bit)) for bit in (0, 255, 256, 511)],
        (Identity(bytes([1]) * 32).public, good[1], good[2]),
    ]
    for _ in range(2):
        assert not any(shared.verify(*case) for case in bad)
        assert shared.verify(*good)
    for case in bad:
        lists = SignedStatements(*zip(good, case, strict=True))
        for _ in range(2):
            assert not shared.verify_all(lists)
            assert shared.verify_all(SignedStatements(*zip(good, good, strict=True)))
            assert not shared.verify(*case)


def test_a_list_that_held_says_nothing_of_its_parts_in_other_places():
    shared, other = SharedPrimitives(), Identity(bytes([1]) * 32)
    publics, statements = [IDENTITY.public, other.public], [b"one", b"two"]
    signatures = [IDENTITY.sign(b"one"), other.sign(b"two")]
    assert shared.verify_all(SignedStatements(publics, statements, signatures))
    assert not shared.verify_all(SignedStatements(publics[::-1], statements, signatures))
    assert not shared.verify_all(SignedStatements(publics, statements[::-1], signatures))
    assert not shared.verify_all(SignedStatements(publics, statements, signatures[::-1]))


def test_columns_of_different_length_never_hold():
    signature = IDENTITY.sign(b"one")
    for kind in (Primitives, SharedPrimitives):
        with pytest.raises(ValueError, match="zip"):
            kind().verify_all(SignedStatements([IDENTITY.public] * 2, [b"one"], [signature]))


def test_a_statement_that_lends_a_byte_to_its_signature_does_not_hold():
    shared, statement = SharedPrimitives(), b"what was said"
    signature = IDENTITY.sign(statement)
    assert shared.verify(IDENTITY.public, statement, signature)
    moved = (IDENTITY.public, statement[1:], signature + statement[:1])
    assert shared.verify(*moved) == Primitives().verify(*moved)


def test_forget_drops_every_secret(calls):
    shared = SharedPrimitives()
    info = b"fedspeech secagg mask"
    for _ in range(2):
        (key,) = shared.agree(PAIR[0], PUBLICS[0], [PUBLICS[1]], [info])
        secret = PAIR[0].exchange(PAIR[1].public_key())
        assert {key, secret} <= remembered(shared)
        shared.forget()
        assert not {key, secret} & remembered(shared)
    assert list(calls.exchanges.values()) == list(calls.derivations.values()) == [2]


def remembered(shared):
    """Every byte string that the primitives hold on to, as key or value."""
    held = [own for own in vars(shared).values() if isinstance(own, (dict, set))]
    return {entry for own in held for entry in own} | {
        value for own in held if isinstance(own, dict) for value in own.values()
    }


def test_forget_drops_checks_when_there_are_many(calls, monkeypatch):
    shared = SharedPrimitives()
    said = SignedStatements([IDENTITY.public], [b"said"], [IDENTITY.sign(b"said")])
    monkeypatch.setattr(primitives, "MAX_VERIFIED", 1)
    for _ in range(2):
        assert shared.verify_all(said)
        shared.forget()
    assert not remembered(shared)
    assert list(calls.checks.values()) == [2]


COLUMNS = st.lists(st.binary(max_size=3), max_size=4)
LISTS = st.builds(SignedStatements, COLUMNS, COLUMNS, COLUMNS)


def columns(signed):
    return [list(column) for column in (signed.publics, signed.statements, signed.signatures)]


@given(LISTS, st.data())
def test_the_digest_tells_apart_lists_that_differ_in_where_a_byte_stands(signed, data):
    other = columns(signed)
    filled = [(c, r) for c in range(3) for r in range(len(other[c])) if other[c][r]]
    if filled:  # the last byte of one entry goes in front of another, or into an entry of its own
        c, r = data.draw(st.sampled_from(filled))
        byte, other[c][r] = other[c][r][-1:], other[c][r][:-1]
        into = data.draw(st.sampled_from(range(3)))
        at = data.draw(st.integers(0, len(other[into])))
        if at < len(other[into]):
            other[into][at] = byte + other[into][at]
        else:
            other[into].append(byte)
    same = SignedStatements(*columns(signed))
    assert same.digest == signed.digest
    assert (SignedStatements(*other).digest == signed.digest) == (other == columns(signed))


@given(LISTS, LISTS)
def test_the_digest_tells_apart_lists_that_differ_anywhere(first, other):
    assert (first.digest == other.digest) == (columns(first) == columns(other))


def test_a_mask_is_added_at_one_end_and_taken_off_at_the_other():
    key = bytes(range(32))
    for kind in (Primitives, SharedPrimitives):
        vectors = [np.zeros(70_000, np.uint32) for _ in range(3)]
        kind().add_masks(vectors, [[(key, True)], [(key, False)], [(key, True), (bytes(32), True)]])
        np.testing.assert_array_equal(vectors[0], keystream(key, 70_000, 32))
        np.testing.assert_array_equal(vectors[0] + vectors[1], 0)
        np.testing.assert_array_equal(vectors[2] - vectors[0], keystream(bytes(32), 70_000, 32))
