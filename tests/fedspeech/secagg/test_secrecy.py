"""What leaves a phone looks like chance, and what must not leave it is nowhere to be read.

The random bytes are the operating system's, so a correct program can fail. At most 100 p-values are
looked at in a run, each against 1e-8: a false alarm in at most one of a million runs. Every test
that accepts the real thing rejects things that are slightly wrong.
"""

import hashlib
import os
import traceback
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from secagg_sessions import masked_vector

from fedspeech.secagg import client, shamir
from fedspeech.secagg.client import Phone
from fedspeech.secagg.exchange import Quorum
from fedspeech.secagg.keys import IdentityDirectory, exchange, hkdf
from fedspeech.secagg.masks import apply_mask, cut, keystream, word_type
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import Members, SessionTerms, commitment_to, mask_info, table
from fedspeech.secagg.refusals import Refusal
from fedspeech.secagg.server import Server
from fedspeech.seeds import canonical

ALARM = 1e-8
ENROLLED = os.urandom(32)
PHONES = IdentityDirectory(ENROLLED, b"tests", 10)
MODEL = bytes(32)
COUNT = 5
TERMS = SessionTerms(
    round_id=bytes(16), round=0, dimension=40_000, bits=20, min_cohort=5, min_reporting=4
)


class Session:
    """Five phones and an honest server, up to the list of those who shared."""

    def __init__(self, *, random=None, **changes):
        self.terms = replace(TERMS, round_id=os.urandom(16), **changes)
        self.primitives = Primitives()
        self.server = Server(self.terms, PHONES, self.primitives)
        self.phones = [
            Phone(
                number, PHONES.identity(number), PHONES, self.terms, self.primitives,
                random(number) if random else os.urandom,
            )
            for number in range(COUNT)
        ]  # fmt: skip

    def advertised(self):
        told = [phone.advertise() for phone in self.phones]
        self.cohort_list = self.server.close_cohort_list(
            np.arange(COUNT),
            table([one.seal_key for one in told], 32),
            table([one.mask_key for one in told], 32),
            table([one.commitment for one in told], 32),
            table([one.signature for one in told], 64),
        )
        self.context = self.server.bind(MODEL)
        return self

    def accepted(self):
        self.advertised()
        for phone in self.phones:
            phone.accept(self.cohort_list, MODEL)
        self.server.close_nonces(np.zeros(0, np.int64), np.zeros((0, 32), np.uint8))
        return self

    def shared(self):
        self.accepted()
        said = [phone.share(()) for phone in self.phones]
        self.server.close_shares(
            np.arange(COUNT),
            np.array([one.sealed for one in said]),
            table([one.commitment for one in said], 32),
            table([one.signature for one in said], 64),
        )
        return self

    def mask(self, vector):
        """The masked vectors of all phones, if each has this one."""
        self.masked = []
        for phone in self.phones:
            inbox = self.server.inbox(phone.number)
            sent = masked_vector(phone, inbox, vector, self.primitives, self.terms.bits)
            self.masked.append(sent[0])
            assert self.server.add_masked(phone.number, *sent)
        self.reporting = self.server.close_masked()
        return self

    def agreed(self):
        told = [
            phone.agree(self.reporting, self.server.neighbors_signatures(phone.number))
            for phone in self.phones
        ]
        self.quorum = self.server.close_agreement(np.arange(COUNT), table(told, 64))
        return self


class Counted:
    """Random bytes, remembered in order."""

    def __init__(self, fixed=None):
        self.asked, self.given, self.fixed = [], [], fixed or {}

    def __call__(self, size):
        data = self.fixed.get(len(self.asked), os.urandom(size))
        self.asked.append(size)
        self.given.append(data)
        return data


# Statistics.


def of_cells(cells, num_cells):
    """Chi-square: how likely counts at least as uneven are, if all cells are alike."""
    return float(scipy.stats.chisquare(np.bincount(cells, minlength=num_cells)).pvalue)


def of_runs(ones):
    """Wald and Wolfowitz 1940: how likely so few or so many runs are, if the order is chance."""
    num_ones, size = int(ones.sum()), ones.size
    expected = 1 + 2 * num_ones * (size - num_ones) / size
    variance = (expected - 1) * (expected - 2) / (size - 1)
    if variance <= 0:
        return 0.0
    runs = 1 + int((ones[1:] != ones[:-1]).sum())
    return float(2 * scipy.stats.norm.sf(abs(runs - expected) / variance**0.5))


def p_values(words, bits):
    """Of the six highest and the six lowest bits: how even they are, and in what order."""
    high, low = words >> (bits - 6), words & 63
    return [
        of_cells(high.astype(np.int64), 64),
        of_cells(low.astype(np.int64), 64),
        of_runs(high >= 32),
        of_runs(low % 2 == 1),
    ]


def looks_like_chance(words, bits):
    return min(p_values(words, bits)) > ALARM


LOUD = {
    "zeros": lambda bits, size: np.zeros(size, np.uint32),
    "all that there is": lambda bits, size: np.full(size, 2**bits - 1, np.uint32),
    "the index": lambda bits, size: np.arange(size, dtype=np.uint32),
    "a ramp": lambda bits, size: (np.arange(size) * 2**bits // size).astype(np.uint32),
}


@pytest.mark.parametrize("bits", [16, 20, 24, 32])
@pytest.mark.parametrize("vector", LOUD.values(), ids=LOUD)
def test_one_phones_masked_vector_looks_like_chance_whatever_the_vector(bits, vector):
    words = Session(bits=bits).shared().mask(vector(bits, TERMS.dimension)).masked[0]
    assert words.max() < 2**bits
    assert looks_like_chance(words, bits)  # 64 p-values in all


def word_repeated(key, vector, bits):
    return vector + keystream(key, 1, bits)


def folded_to_few_bits(key, vector, bits):
    return vector + (keystream(key, vector.size, bits) & (2 ** (bits - 2) - 1))


def lowest_bit_kept(key, vector, bits):
    return vector + (keystream(key, vector.size, bits) << 1)


def in_order(key, vector, bits):
    return vector + np.sort(keystream(key, vector.size, bits))


def counted(key, vector, bits):
    start = keystream(key, 1, bits)
    return vector + start + np.arange(vector.size, dtype=start.dtype)


def in_pairs(key, vector, bits):
    return vector + np.repeat(keystream(key, vector.size // 2, bits), 2)


WRONG_MASKS = [
    word_repeated, folded_to_few_bits, lowest_bit_kept, in_order, counted, in_pairs,
    lambda key, vector, bits: vector,
]  # fmt: skip


@pytest.mark.parametrize("bits", [16, 20, 32])
@pytest.mark.parametrize("masked", WRONG_MASKS, ids=lambda f: f.__name__.strip("<>"))
def test_a_wrong_mask_does_not_look_like_chance(bits, masked):
    vector = np.zeros(TERMS.dimension, word_type(bits))
    key = hashlib.sha256(b"a fixed key").digest()
    right = cut(vector + keystream(key, vector.size, bits), bits)
    assert looks_like_chance(right, bits)
    assert not looks_like_chance(cut(masked(key, vector, bits), bits), bits)


def test_two_sessions_mask_one_vector_in_unrelated_ways():
    vector = np.full(TERMS.dimension, 77, np.uint32)
    one, other = Session().shared().mask(vector), Session().shared().mask(vector)
    for number in range(3):  # 12 p-values in all
        difference = cut(one.masked[number] - other.masked[number], 20)
        assert looks_like_chance(difference, 20)
    assert not looks_like_chance(cut(one.masked[0] - one.masked[0], 20), 20)


def test_two_phones_mask_one_vector_in_unrelated_ways():
    masked = Session().shared().mask(np.zeros(TERMS.dimension, np.uint32)).masked
    assert looks_like_chance(cut(masked[0] - masked[1], 20), 20)  # 4 p-values
    assert looks_like_chance(cut(masked[0] + masked[1], 20), 20)  # 4 p-values


# Shares.

SECRETS = {"zeros": bytes(32), "ones": b"\xff" * 32}


def shares_of(secret, coefficients):
    """What neighbors hold of one phone's seed and mask key, 400 times: shape (400, 4, 18)."""
    limbs = np.tile(shamir.to_limbs(secret), 2)
    return np.array([shamir.share(limbs, 3, COUNT - 1, coefficients) for _ in range(400)])


def pairs_look_like_chance(shares):
    """Whether two of the shares, t = 3, fall evenly into the cells of their three highest bits."""
    high = shares.astype(np.int64) >> 28
    return all(
        of_cells((8 * high[:, one] + high[:, other]).ravel(), 64) > ALARM
        for one, other in ((0, 1), (3, 1), (2, 3))
    )


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_fewer_shares_than_the_threshold_look_like_chance_whatever_the_secret(secret):
    assert pairs_look_like_chance(shares_of(secret, os.urandom))  # 6 p-values in all


def no_coefficients(size):
    return bytes(size)


def one_coefficient(size):
    """Degree 1 instead of 2: one share still looks like chance, two determine the secret."""
    half = size // 2
    return os.urandom(half) + bytes(size - half)


def coefficients_of_few_bits(size):
    return (np.frombuffer(os.urandom(size), "<u4") & 0xFFFF).tobytes()


def coefficients_used_again(size):
    return hashlib.shake_256(b"always these").digest(size)


@pytest.mark.parametrize(
    "coefficients",
    [no_coefficients, one_coefficient, coefficients_of_few_bits, coefficients_used_again],
)
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_wrong_shares_do_not_look_like_chance(secret, coefficients):
    assert not pairs_look_like_chance(shares_of(secret, coefficients))


def test_what_a_phone_seals_is_shares_of_its_own_seed_and_mask_key_of_the_right_degree(
    monkeypatch,
):
    sealed = []
    seal = client.seal
    monkeypatch.setattr(client, "seal", lambda *told: sealed.append(told[1]) or seal(*told))
    session = Session().accepted()
    for phone in session.phones:
        phone.share(())
    t = session.context.parameters.threshold
    for number, phone in enumerate(session.phones):
        plain = b"".join(sealed[4 * number : 4 * number + 4])
        shares = np.frombuffer(plain, "<u4").reshape(4, 18)
        for places in ([0, 1, 2], [3, 1, 0]):
            assert len(places) == t == 3
            values = shamir.reconstruct(np.array([places]), shares[None, places])[0]
            assert shamir.from_limbs(values[:9]) == bytes(phone._seed)
            assert shamir.from_limbs(values[9:]) == bytes(phone._mask_key)
        fewer = shamir.reconstruct(np.array([[0, 1]]), shares[None, :2])[0]
        assert (fewer != values).all()


def test_a_vector_that_comes_late_stays_under_its_own_mask():
    # Phone 4 sends its vector and is named as dropped: the others give its mask key, so that every
    # mask between it and them comes off. None of them gives a share of its seed.
    sources = [Counted() for _ in range(COUNT)]
    session = Session(random=sources.__getitem__).shared()
    vector = np.full(TERMS.dimension, 5, np.uint32)
    session.mask(vector)
    of_seed = {
        phone.number: bytes(phone._held)[3 * 72 : 3 * 72 + 36] for phone in session.phones[:4]
    }
    reporting = Members(np.arange(4))
    told = [
        phone.agree(reporting, session.server.neighbors_signatures(phone.number))
        for phone in session.phones[:4]
    ]
    quorum = Quorum(reporting, table(told, 64))
    given = np.array([phone.unmask(quorum)[1] for phone in session.phones[:4]])
    for phone in session.phones[:4]:
        assert of_seed[phone.number] not in given.tobytes()
    limbs = shamir.reconstruct(np.array([[0, 1, 2]]), given[None, :3, 3])[0]
    assert shamir.from_limbs(limbs) == sources[4].given[1]  # its mask key, indeed

    private = X25519PrivateKey.from_private_bytes(sources[4].given[1])
    left = session.masked[4].copy()
    for other in range(4):
        secret = exchange(private, session.cohort_list.mask_rows[other])
        ids = session.cohort_list.id_rows
        apply_mask(
            hkdf(secret, mask_info(session.context.digest, ids[other], ids[4])), [(left, True)]
        )
    left = cut(left, 20)
    seed = sources[4].given[3]
    np.testing.assert_array_equal(left, cut(vector + keystream(seed, vector.size, 20), 20))
    assert looks_like_chance(left, 20)  # 4 p-values


# Where secrets come from.


def test_each_secret_is_32_bytes_of_the_source_and_each_coefficient_four():
    sources = [Counted() for _ in range(COUNT)]
    session = Session(random=sources.__getitem__).shared()
    for phone, source in zip(session.phones, sources, strict=True):
        seal_key, mask_key, nonce, seed, *_ = source.given
        coefficients = 2 * shamir.LIMBS * (session.context.parameters.threshold - 1)
        assert source.asked[:5] == [32, 32, 32, 32, 4 * coefficients]
        assert all(size < 100 for size in source.asked[5:])  # a coefficient drawn again
        assert (bytes(phone._seal_key), bytes(phone._mask_key)) == (seal_key, mask_key)
        assert (bytes(phone._nonce), bytes(phone._seed)) == (bytes(32), seed)  # nonce: used up
        assert session.cohort_list.commitments[phone.number].tobytes() == commitment_to(nonce)


def test_masks_are_keyed_by_the_whole_seed_and_by_the_whole_agreed_secret():
    sources = [Counted() for _ in range(COUNT)]
    session = Session(random=sources.__getitem__).shared()
    masks = [phone.mask(session.server.inbox(phone.number))[1] for phone in session.phones]
    for number, own in enumerate(masks):
        assert own[0] == (sources[number].given[3], True)
        others = [other for other in range(COUNT) if other != number]
        for (key, added), other in zip(own[1:], others, strict=True):
            low, high = sorted((number, other))
            private = X25519PrivateKey.from_private_bytes(sources[number].given[1])
            secret = exchange(private, session.cohort_list.mask_rows[other])
            ids = [session.cohort_list.id_rows[place] for place in (low, high)]
            assert key == hkdf(secret, mask_info(session.context.digest, *ids))
            assert added == (other > number)
    keys = [key for own in masks for key, _ in own]
    assert {len(key) for key in keys} == {32}
    assert len(set(keys)) == COUNT + COUNT * (COUNT - 1) // 2  # no key masks two edges


def flipped(secret, bit):
    return (int.from_bytes(secret, "little") ^ 1 << bit).to_bytes(32, "little")


def test_each_of_the_256_bits_of_a_seed_changes_mask_and_commitment():
    seed = os.urandom(32)
    seeds = [seed, *(flipped(seed, bit) for bit in range(256))]
    masks = {keystream(one, 4, 32).tobytes() for one in seeds}
    assert len(masks) == len({commitment_to(one) for one in seeds}) == 257


@pytest.mark.parametrize("bit", [0, 7, 31, 32, 63, 64, 128, 200, 255])
def test_each_bit_of_a_phones_seed_reaches_its_masked_vector(bit):
    seed, masked = os.urandom(32), []
    for own in (seed, seed, flipped(seed, bit)):
        session = Session(random=lambda number, own=own: Counted(
            {place: hashlib.sha256(b"%d %d" % (number, place)).digest() for place in range(3)}
            | {3: own}
        ), dimension=100)  # fmt: skip
        session.server._terms = session.terms = replace(session.terms, round_id=bytes(16))
        for phone in session.phones:
            phone._terms = session.terms
        masked.append(session.shared().mask(np.zeros(100, np.uint32)).masked[0])
    np.testing.assert_array_equal(masked[0], masked[1])
    assert (masked[0] != masked[2]).mean() > 0.9


# What can be read.


def traces(secrets):
    """How secrets could be written: eight bytes as hex or bytes, words and limbs as numbers."""
    found = set()
    for secret in secrets:
        for at in range(0, len(secret) - 7, 4):
            part = secret[at : at + 8]
            found |= {part.hex(), part.hex().upper(), repr(part)[2:-1], repr(list(part))[1:-1]}
        numbers = np.frombuffer(secret, "<u4").tolist()
        if len(secret) == 32:
            found.add(str(int.from_bytes(secret, "big")))
            numbers += shamir.to_limbs(secret).tolist()
        found |= {str(number) for number in numbers if number > 10**8}
    return found


def shown(text, secrets):
    """Which traces of secrets stand in a text."""
    return sorted(trace for trace in traces(secrets) if trace in text)


def texts_of(thing):
    return " ".join(
        [repr(thing), str(thing), f"{thing}", f"{thing!r}", repr([thing]), ascii(thing)]
    )


def test_traces_are_found_where_there_are_some():
    secret = os.urandom(32)
    for text in (
        repr(secret), repr(bytearray(secret)), f"key {secret.hex()}", str(list(secret)),
        f"{secret.hex().upper()}", str(shamir.to_limbs(secret).tolist()), repr({"key": secret}),
    ):  # fmt: skip
        assert shown(text, [secret])
    assert not shown(os.urandom(500).hex(), [secret])


def every_secret(sources, session):
    """All that was drawn and is held: keys, nonces, seeds, coefficients, shares, roots."""
    root = hkdf(ENROLLED, canonical("fedspeech enrolment", b"tests"))
    identities = [hkdf(root, canonical("identity", number)) for number in range(COUNT)]
    drawn = [data for source in sources for data in source.given]
    held = [bytes(phone._held) for phone in session.phones if any(phone._held)]
    return [ENROLLED, root, *identities, *drawn, *held]


def states():
    """A session before each of its answers, with what is secret in it."""
    for steps in range(6):
        sources = [Counted() for _ in range(COUNT)]
        session = Session(random=sources.__getitem__, dimension=8)
        if steps == 1:
            session.advertised()
        elif steps == 2:
            session.accepted()
        elif steps >= 3:
            session.shared()
        if steps >= 4:
            session.mask(np.zeros(8, np.uint32))
        if steps >= 5:
            session.agreed()
        yield steps, session, sources


def test_printing_shows_no_secret_at_any_stage():
    for _, session, sources in states():
        secrets = every_secret(sources, session)
        identities = [phone._identity for phone in session.phones]
        for thing in (
            *session.phones, *identities, session.server, session.primitives, PHONES,
            SharedPrimitives(),
        ):  # fmt: skip
            assert not shown(texts_of(thing), secrets)
        for identity in identities:
            assert not shown(repr(vars(identity)), secrets)


@pytest.mark.parametrize("kind", ["phone", "enrolment"])
def test_printing_the_attributes_shows_no_secret_either(kind):
    sources = [Counted() for _ in range(COUNT)]
    session = Session(random=sources.__getitem__).shared()
    secrets = every_secret(sources, session)
    thing = session.phones[0] if kind == "phone" else PHONES
    assert not shown(repr(vars(thing)), secrets)


def lies(steps, session):
    """Messages of every kind that a phone refuses at some stage."""
    nobody, table_of_nothing = Members(np.zeros(0, np.int64)), np.zeros((0, 64), np.uint8)
    if steps < 1:
        return []
    if steps == 1:
        cohort_list = session.cohort_list
        return [
            lambda phone: phone.accept(None, MODEL),
            lambda phone: phone.accept(cohort_list, b"short"),
            lambda phone: phone.accept(
                replace(cohort_list, seal_keys=cohort_list.seal_keys ^ 1), MODEL
            ),
            lambda phone: phone.accept(
                replace(cohort_list, signatures=cohort_list.signatures ^ 1), MODEL
            ),
            lambda phone: phone.mask(None),
        ]
    if steps == 2:
        return [
            lambda phone: phone.accept(session.cohort_list, MODEL),
            lambda phone: phone.agree(0, 0),
        ]
    if steps == 3:

        def inbox(phone, **changes):
            return phone.mask(replace(session.server.inbox(phone.number), **changes))

        def flip(name):
            return lambda phone: inbox(
                phone, **{name: getattr(session.server.inbox(phone.number), name) ^ 1}
            )

        return [
            lambda phone: inbox(phone, sharers=nobody),
            lambda phone: inbox(phone, sealed=table_of_nothing),
            flip("sealed"), flip("commitments"), flip("signatures"),
        ]  # fmt: skip
    if steps == 4:
        return [
            lambda phone: phone.agree(nobody, table_of_nothing),
            lambda phone: phone.agree(session.reporting, table_of_nothing),
            lambda phone: phone.agree(session.reporting, np.zeros((4, 64), np.uint8)),
            lambda phone: phone.unmask(None),
        ]
    forged = Quorum(session.quorum.members, session.quorum.signatures ^ 1)
    return [
        lambda phone: phone.unmask(None),
        lambda phone: phone.unmask(Quorum(nobody, table_of_nothing)),
        lambda phone: phone.unmask(forged),
    ]


def kept_by(phone):
    """The very objects in which a phone keeps its secrets."""
    return [phone._seal_key, phone._mask_key, phone._nonce, phone._seed, phone._held]


def test_no_refusal_shows_a_secret_and_each_erases_them_where_they_stood():
    count = 0
    for steps, session, sources in states():
        secrets = every_secret(sources, session)
        for phone, lie in zip(session.phones, lies(steps, session), strict=False):
            kept = kept_by(phone)
            assert any(any(bytes(one)) for one in kept)
            with pytest.raises(Refusal) as caught:
                lie(phone)
            told = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
            assert not shown(told + texts_of(phone), secrets)
            assert not any(any(bytes(one)) for one in kept)
            assert not any(secret in phone.save() for secret in secrets)
            count += 1
    assert count == 19


def test_a_session_that_ends_well_leaves_no_secret_where_it_stood():
    *_, (_, session, sources) = states()
    secrets = every_secret(sources, session)
    kept = [one for phone in session.phones for one in kept_by(phone)]
    assert any(any(bytes(one)) for one in kept)
    for phone in session.phones:
        phone.unmask(session.quorum)
        assert not any(secret in phone.save() for secret in secrets)
    assert not any(any(bytes(one)) for one in kept)


def test_secrets_are_erased_as_soon_as_they_are_used_up():
    session = Session(dimension=8).accepted()
    phone = session.phones[0]
    nonce = phone._nonce
    assert any(nonce)
    phone.share(())
    assert not any(nonce)

    session = Session(dimension=8).shared()
    phone = session.phones[0]
    kept = kept_by(phone)
    assert all(map(any, (phone._seal_key, phone._mask_key, phone._seed)))
    session.mask(np.zeros(8, np.uint32))
    assert not any(any(bytes(one)) for one in kept)
    both_kinds = phone._held
    assert any(both_kinds)  # shares of neighbors
    session.agreed()
    assert not any(both_kinds)
    assert any(phone._held)  # those for the last answer
