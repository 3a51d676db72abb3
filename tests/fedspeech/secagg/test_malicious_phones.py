"""Whatever phones tell an honest server, the sum of the reporting phones is right or there is none.

Eight phones, all adjacent, two of which may be corrupt; what some of them say is replaced on its
way to the server. Every phone computes for itself: no key is shared.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from secagg_sessions import CheckedOnce

from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.secagg import shamir
from fedspeech.secagg.client import Phone
from fedspeech.secagg.keys import IdentityDirectory, public_key, seal
from fedspeech.secagg.masks import apply_mask, cut
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    Members,
    SessionTerms,
    Stage,
    advertisement_statement,
    agreed_statement,
    bind,
    commitment_to,
    id_bytes,
    masked_statement,
    seed_statement,
    share_info,
    table,
    unmasked_statement,
)
from fedspeech.secagg.refusals import CiphertextMissing, Malformed, Refusal
from fedspeech.secagg.server import NoncesMissing, Server

PHONES = IdentityDirectory(os.urandom(32), b"tests", 200)
PURPOSE = bytes(32)
TERMS = SessionTerms(
    round_id=bytes(16), round=0, dimension=7, bits=20, min_cohort=6, min_reporting=5, colluders=2
)
STAGES = ("advertise", "share", "mask", "agree", "unmask")
LIAR = 3


class Careless(Phone):
    """A corrupt phone: it takes any cohort list."""

    def accept(self, cohort_list, purpose):
        with self._step(Stage.ADVERTISE, Stage.ACCEPT):
            self.context = bind(self._terms, purpose, cohort_list)
        return b""


class Cohort:
    """Phones, an honest server, and lies: what some phone says at some stage, replaced.

    A lie gets this cohort, the phone and what it said; it returns what reaches the server, as pairs
    of a number and a message. Phones that refuse have vanished.
    """

    def __init__(self, lies, count=8):
        self.terms, self.primitives = replace(TERMS, round_id=os.urandom(16)), Primitives()
        self.server = Server(self.terms, PHONES, self.primitives)
        self.lies, self.refusals = lies, {}
        self.phones = {
            number: kind(number, PHONES.identity(number), PHONES, self.terms, self.primitives)
            for number in range(count)
            for kind in [Careless if any(liar == number for liar, _ in lies) else Phone]
        }
        random = np.random.default_rng()
        self.vectors = {  # what each phone's part of the sum has to be
            number: random.integers(0, 2**20, 7, dtype=np.uint32) for number in range(count)
        }
        self.masks = {}

    def hear(self, stage, numbers, ask):
        """What the server hears at a stage: numbers and messages."""
        told = []
        for number in numbers:
            if number in self.refusals or number not in self.phones:
                continue
            try:
                said = ask(self.phones[number])
            except Refusal as refusal:
                self.refusals[number] = refusal
                continue
            lie = self.lies.get((number, stage))
            told += lie(self, self.phones[number], said) if lie else [(number, said)]
        return told

    def mask(self, phone):
        signature, self.masks[phone.number] = phone.mask(self.server.inbox(phone.number))
        words = self.vectors[phone.number].copy()
        self.primitives.add_masks([words], [self.masks[phone.number]])
        return cut(words, self.terms.bits), signature

    def run(self):
        """Lets the server close each stage with what it heard; the sum of the reporting phones."""
        server = self.server
        told = self.hear("advertise", self.phones, Phone.advertise)
        cohort_list = server.close_cohort_list(
            np.array([number for number, _ in told], dtype=np.int64),
            table([one.seal_key for _, one in told], 32),
            table([one.mask_key for _, one in told], 32),
            table([one.commitment for _, one in told], 32),
            table([one.signature for _, one in told], 64),
        )
        self.context = server.bind(PURPOSE)
        there = cohort_list.members.ids.tolist()
        self.hear("accept", there, lambda phone: phone.accept(cohort_list, PURPOSE))
        server.close_nonces(np.zeros(0, np.int64), np.zeros((0, 0), np.uint8))

        told = self.hear("share", there, lambda phone: phone.share(()))
        self.sharers = server.close_shares(
            np.array([number for number, _ in told], dtype=np.int64),
            np.array([one.sealed for _, one in told]),
            table([one.commitment for _, one in told], 32),
            table([one.signature for _, one in told], 64),
        )
        self.added = [
            server.add_masked(number, *said)
            for number, said in self.hear("mask", self.sharers.ids.tolist(), self.mask)
        ]
        self.reporting = server.close_masked()
        told = self.hear("agree", self.reporting.ids.tolist(), lambda phone: phone.agree(
            self.reporting, server.neighbors_signatures(phone.number)))  # fmt: skip
        quorum = server.close_agreement(
            np.array([number for number, _ in told], dtype=np.int64),
            table([signature for _, signature in told], 64),
        )
        signed = [number for number, _ in told]
        told = self.hear("unmask", dict.fromkeys(signed), lambda phone: phone.unmask(quorum))
        ids = np.array([number for number, _ in told], dtype=np.int64)
        return server.open(
            ids,
            np.array([shares for _, (_, shares) in told]),
            table([signature for _, (signature, _) in told], 64),
        )

    def ends(self):
        """The sum, or None and the text of the abort."""
        try:
            return self.run(), ""
        except (ProtocolAbort, CohortTooSmall) as error:
            return None, str(error)

    def expected(self):
        """The sum of what the reporting phones put in."""
        parts = [self.vectors[number] for number in self.reporting.ids.tolist()]
        return cut(np.sum(parts, axis=0, dtype=np.uint32), self.terms.bits)


def check(lies, without=None, abort=None):
    """Runs a cohort and checks how it ends; the sum, if there is one, must be right.

    Args:
      lies: by number and stage.
      without: phones that are missing in the sum; None if there must be none.
      abort: how the text of the abort starts, if there may be one.
    """
    cohort = Cohort(lies)
    total, why = cohort.ends()
    if total is None:
        assert abort is not None, why
        assert why.startswith(abort)
        return cohort
    assert without is not None, "there is a sum"
    assert set(cohort.phones) - set(cohort.reporting.ids.tolist()) == set(without)
    np.testing.assert_array_equal(total, cohort.expected())
    return cohort


def test_without_lies_the_sum_has_everybody():
    assert not check({}, without=()).refusals


# Lies for any stage.


def silence(cohort, phone, said):
    return []


def twice(cohort, phone, said):
    return [(phone.number, said), (phone.number, said)]


def in_anothers_name(cohort, phone, said, other=5):
    return [(other, said), (phone.number, said)]


def in_strangers_names(cohort, phone, said):
    return [(150, said), (2**62, said), (phone.number, said)]


@pytest.mark.parametrize("stage", STAGES)
def test_a_phone_that_falls_silent_is_left_out_or_was_in_time(stage):
    in_time = stage in ("agree", "unmask")
    check({(LIAR, stage): silence}, without=[] if in_time else [LIAR])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("lie", [twice, in_strangers_names])
def test_a_message_counts_once_and_for_phones_of_the_session_alone(stage, lie):
    check({(LIAR, stage): lie}, without=[])


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("other", [1, 5])  # who speaks before the liar, and who after it
def test_a_message_in_another_phones_name_is_not_its_own(stage, other):
    check({(LIAR, stage): lambda c, p, said: in_anothers_name(c, p, said, other)}, without=[])


@pytest.mark.parametrize(
    ("stage", "count", "abort"),
    [
        ("advertise", 3, "advertise: 5 phones"),
        ("share", 4, "share: 4 phones"),
        ("share", 3, "mask: 0 phones"),  # five that shared are too few neighbors for each other
        ("mask", 4, "mask: 4 phones"),
        ("agree", 3, "agree: 5 phones"),
        ("unmask", 3, "unmask: 5 phones"),
    ],
)
def test_too_many_silent_phones_abort_by_the_name_of_the_stage(stage, count, abort):
    check({(number, stage): silence for number in range(count)}, abort=abort)


# Advertisements.


def advertised(phone, said, *, number=None, signed=True, **fields):
    """An advertisement with other fields, signed by its phone unless said otherwise."""
    number, said = phone.number if number is None else number, replace(said, **fields)
    if signed:
        statement = advertisement_statement(
            phone._terms.round_id,
            phone._terms.round,
            number,
            said.seal_key,
            said.mask_key,
            said.commitment,
        )
        said = replace(said, signature=phone._identity.sign(statement))
    return number, said


def readvertised(**fields):
    return lambda cohort, phone, said: [advertised(phone, said, **fields)]


def fresh_key():
    return public_key(X25519PrivateKey.generate())


def key_of_a_neighbor(cohort, phone, said):
    first = next(number for number in cohort.phones if (number, "advertise") not in cohort.lies)
    if phone.number < first:
        return []
    secret = cohort.phones[first]._seal_key  # of a phone that is in the cohort list
    key = public_key(X25519PrivateKey.from_private_bytes(bytes(secret)))
    return [advertised(phone, said, mask_key=key)]


ADVERTISEMENTS = {
    "a signature over nothing": readvertised(signed=False, signature=bytes(64)),
    "a key that it did not sign": readvertised(signed=False, mask_key=fresh_key()),
    "one key for both purposes": lambda cohort, phone, said: [
        advertised(phone, said, mask_key=said.seal_key)
    ],
    "a key as commitment": lambda cohort, phone, said: [
        advertised(phone, said, commitment=said.mask_key)
    ],
    "the key of another phone": key_of_a_neighbor,
    "a number that nobody has": readvertised(number=150),
    "a huge number": readvertised(number=2**63 - 1),
}


@pytest.mark.parametrize("lie", ADVERTISEMENTS.values(), ids=ADVERTISEMENTS)
def test_an_advertisement_that_does_not_hold_is_left_out(lie):
    assert not check({(LIAR, "advertise"): lie}, without=[LIAR]).refusals


@pytest.mark.parametrize("number", [-1, -(2**63)])
def test_an_advertisement_under_a_number_below_zero_is_left_out(number):
    check({(LIAR, "advertise"): lambda *told: [(number, told[-1])]}, without=[LIAR])


def another_first(cohort, phone, said):
    other = advertised(phone, said, seal_key=fresh_key(), mask_key=fresh_key())
    return [other, (phone.number, said)]


def another_after(cohort, phone, said):
    return another_first(cohort, phone, said)[::-1]


def test_of_two_advertisements_the_first_counts():
    check({(LIAR, "advertise"): another_after}, without=[])
    # nothing that it seals opens under the keys that count, so everybody leaves
    cohort = check({(LIAR, "advertise"): another_first}, abort="mask: 0 phones")
    assert {type(refusal) for refusal in cohort.refusals.values()} == {CiphertextMissing}


LOW_ORDER = [
    {kind: key} for kind in ("seal_key", "mask_key") for key in (bytes(32), b"\1" + bytes(31))
]


@pytest.mark.parametrize("fields", LOW_ORDER, ids=lambda fields: next(iter(fields)))
def test_a_key_of_low_order_costs_its_own_phone_alone(fields):
    assert not check({(LIAR, "advertise"): readvertised(**fields)}, without=[LIAR]).refusals


def before_nonces():
    """A server that waits for 140 nonces on a sparse graph, and those nonces by phone."""
    terms = replace(TERMS, min_cohort=100, min_reporting=80, colluders=5)
    shared = CheckedOnce()
    server = Server(terms, PHONES, shared)
    phones = [Phone(n, PHONES.identity(n), PHONES, terms, shared) for n in range(140)]
    told = [phone.advertise() for phone in phones]
    cohort_list = server.close_cohort_list(
        np.arange(140),
        table([one.seal_key for one in told], 32),
        table([one.mask_key for one in told], 32),
        table([one.commitment for one in told], 32),
        table([one.signature for one in told], 64),
    )
    server.bind(PURPOSE)
    return server, {phone.number: phone.accept(cohort_list, PURPOSE) for phone in phones}


@pytest.mark.parametrize("nonce", [None, bytes(32)])
def test_a_nonce_that_is_missing_or_another_one_restarts_the_session_without_its_phone(nonce):
    server, nonces = before_nonces()
    del nonces[LIAR]
    if nonce is not None:
        nonces[LIAR] = nonce
    with pytest.raises(NoncesMissing, match="advertise: 1 of 140 nonces") as caught:
        server.close_nonces(np.array(list(nonces)), table(list(nonces.values()), 32))
    assert caught.value.present.tolist() == [n for n in range(140) if n != LIAR]


def test_a_nonce_in_anothers_name_is_not_its_own():
    """Whether it comes first or last: only the nonce that a phone committed to is its own."""
    server, nonces = before_nonces()
    ids = np.array([5, *nonces, 7])
    told = table([bytes(32), *nonces.values(), bytes(32)], 32)
    assert server.close_nonces(ids, told) == tuple(nonces.values())


# Shares.


def resealed(phone, said, shares, places=None):
    """The message of stage share with other shares, well sealed, for some neighbors or all."""
    context, sealed = phone.context, said.sealed.copy()
    infos = [share_info(context.digest, phone._own, other) for other in phone._neighbors]
    keys = phone._agree(phone._seal_key, context.cohort_list.seal_rows, phone._places, infos)
    for place in range(len(keys)) if places is None else places:
        plain = shares[place].astype("<u4").tobytes()
        row = seal(keys[place], plain, infos[place] + place.to_bytes(4, "big"))
        sealed[place] = np.frombuffer(row, np.uint8)
    return [(phone.number, replace(said, sealed=sealed))]


def random_shares(cohort, phone, said):
    shares = np.random.default_rng().integers(0, shamir.PRIME, (len(said.sealed), 18))
    return resealed(phone, said, shares)


def no_shares_of_the_mask_key(cohort, phone, said):
    secrets = [shamir.to_limbs(bytes(phone._seed)), shamir.to_limbs(os.urandom(32))]
    t, k = phone.context.parameters.threshold, len(said.sealed)
    return resealed(phone, said, shamir.share(np.concatenate(secrets), t, k, os.urandom))


def one_random_share(place):
    def lie(cohort, phone, said):
        shares = np.random.default_rng().integers(0, shamir.PRIME, (len(said.sealed), 18))
        return resealed(phone, said, shares, [min(place, len(shares) - 1)])

    return lie


def share_outside_the_field(cohort, phone, said):
    return resealed(phone, said, np.full((len(said.sealed), 18), shamir.PRIME), [1])


def garbage_for(*places):
    def lie(cohort, phone, said):
        sealed = said.sealed.copy()
        sealed[[place for place in places if place < len(sealed)]] ^= 1
        return [(phone.number, replace(said, sealed=sealed))]

    return lie


def two_swapped(cohort, phone, said):
    sealed = said.sealed.copy()
    sealed[:2] = sealed[1::-1]
    return [(phone.number, replace(said, sealed=sealed))]


def another_commitment(cohort, phone, said):
    commitment = commitment_to(os.urandom(32))
    statement = seed_statement(phone.context.digest, phone._own, commitment)
    signature = phone._identity.sign(statement)
    return [(phone.number, replace(said, commitment=commitment, signature=signature))]


def unsigned_commitment(cohort, phone, said):
    return [(phone.number, replace(said, commitment=commitment_to(os.urandom(32))))]


def garbage_after(cohort, phone, said):
    return [(phone.number, said), *another_commitment(cohort, phone, said)]


SHARES = {
    "a signature over another commitment": (unsigned_commitment, {"without": [LIAR]}),
    "a second message": (garbage_after, {"without": []}),
    "a commitment to another seed": (another_commitment, {"abort": "unmask: phone 3 or its neigh"}),
    "garbage for one neighbor": (garbage_for(1), {"without": [1]}),
    "garbage for everybody": (garbage_for(*range(7)), {"abort": "mask: 1 phones"}),
    "a share outside the field": (share_outside_the_field, {"without": [1]}),
    "two swapped": (two_swapped, {"abort": "unmask: 6 shares are needed"}),
    "random shares": (random_shares, {"abort": "unmask: "}),
    "a random share among the first": (one_random_share(0), {"abort": "unmask: "}),
    "a random share after them": (one_random_share(6), {"without": []}),
    "no shares of its mask key": (no_shares_of_the_mask_key, {"without": []}),
}


@pytest.mark.parametrize(("lie", "end"), SHARES.values(), ids=SHARES)
def test_a_phone_that_shares_badly_costs_neighbors_or_the_sum_but_never_falsifies_it(lie, end):
    check({(LIAR, "share"): lie}, **end)


def test_neighbors_leave_for_a_share_by_the_rule_that_it_breaks():
    for lie, refusal in ((garbage_for(1), CiphertextMissing), (share_outside_the_field, Malformed)):
        cohort = check({(LIAR, "share"): lie}, without=[1])
        assert {number: type(why) for number, why in cohort.refusals.items()} == {1: refusal}


def test_a_mask_key_that_nobody_can_put_together_opens_nothing_once_its_phone_is_gone():
    lies = {(LIAR, "share"): no_shares_of_the_mask_key, (LIAR, "mask"): silence}
    check(lies, abort="unmask: phone 3 or its neighbors lied: its mask key")


# Masked vectors.


def sends(cohort, phone, words, signature):
    """The words as this phone's arbitrary part of the sum: what is left without its masks."""
    part = words.copy()
    for key, added in cohort.masks[phone.number]:
        apply_mask(key, [(part, not added)])
    cohort.vectors[phone.number] = part
    return [(phone.number, (words, signature))]


def garbage(cohort, phone, said):
    words = np.random.default_rng().integers(0, 2**20, 7, dtype=np.uint32)
    return sends(cohort, phone, words, said[1])


def beyond_the_ring(cohort, phone, said):
    return [(phone.number, (said[0] | np.uint32(0xFFF << 20), said[1]))]


def zeros(cohort, phone, said):
    return sends(cohort, phone, np.zeros(7, np.uint32), said[1])


def one_mask_forgotten(cohort, phone, said):
    words, (key, added) = said[0].copy(), cohort.masks[phone.number][-1]
    apply_mask(key, [(words, not added)])
    return sends(cohort, phone, words, said[1])


def first_of_two(cohort, phone, said):
    return [(phone.number, said), (phone.number, (said[0] + np.uint32(1), said[1]))]


def another_list(cohort, phone, said):
    own, other = phone._own, Members(np.arange(7)).digest
    statement = masked_statement(cohort.context.digest, own, other)
    return [(phone.number, (said[0], phone._identity.sign(statement)))]


def of_type(change):
    return lambda cohort, phone, said: [(phone.number, (change(said[0]), said[1]))]


def signed_as(change):
    return lambda cohort, phone, said: [(phone.number, (said[0], change(said[1])))]


ARBITRARY = [garbage, beyond_the_ring, zeros, one_mask_forgotten, first_of_two]


@pytest.mark.parametrize("lie", ARBITRARY)
def test_whatever_words_a_phone_sends_are_its_own_part_and_no_other_part_changes(lie):
    check({(LIAR, "mask"): lie}, without=[])


WORDS = {
    "too short": of_type(lambda words: words[:-1]),
    "too long": of_type(lambda words: np.append(words, words[:1])),
    "of two dimensions": of_type(lambda words: words[None]),
    "one number": of_type(lambda words: words[0]),
    "narrow": of_type(lambda words: words.astype(np.uint16)),
    "wide": of_type(lambda words: words.astype(np.uint64)),
    "signed": of_type(lambda words: words.astype(np.int32)),
    "floating": of_type(lambda words: words.astype(np.float32)),
    "of the other byte order": of_type(lambda words: words.astype(">u4")),
    "objects": of_type(lambda words: words.astype(object)),
    "not signed": signed_as(lambda signature: bytes(64)),
    "signed by too few bytes": signed_as(lambda signature: signature[:-1]),
    "signed by nothing": signed_as(lambda signature: b""),
    "signed for another list of sharers": another_list,
}


@pytest.mark.parametrize("lie", WORDS.values(), ids=WORDS)
def test_words_of_another_kind_or_unsigned_ones_are_left_out(lie):
    check({(LIAR, "mask"): lie}, without=[LIAR])


def test_a_vector_that_comes_after_the_reporting_were_named_is_left_out():
    def late(cohort, phone, shares):
        assert not cohort.server.add_masked(LIAR, *kept[0])
        return [(phone.number, shares)]

    def keep(cohort, phone, said):
        kept.append(said)
        return []

    kept = []
    check({(LIAR, "mask"): keep, (0, "unmask"): late}, without=[LIAR])


def test_a_vector_of_a_phone_that_never_shared_is_left_out():
    def adds_a_vector(cohort, phone, said):
        own, sharers = cohort.phones[LIAR]._own, cohort.sharers.digest
        statement = masked_statement(cohort.context.digest, own, sharers)
        signature = PHONES.identity(LIAR).sign(statement)
        return [(LIAR, (said[0], signature)), (phone.number, said)]

    check({(LIAR, "share"): silence, (0, "mask"): adds_a_vector}, without=[LIAR])


# Signatures over both lists, and shares that open.


def signs(make):
    def lie(cohort, phone, said):
        digest, sharers = cohort.context.digest, cohort.sharers.digest
        return [(phone.number, phone._identity.sign(make(digest, sharers, cohort)))]

    return lie


def over_fewer_reporting(digest, sharers, cohort):
    return agreed_statement(digest, sharers, Members(np.arange(7)).digest)


def over_another_session(digest, sharers, cohort):
    return agreed_statement(bytes(32), sharers, cohort.reporting.digest)


def over_its_vector_again(digest, sharers, cohort):
    return masked_statement(digest, bytes(8), sharers)


def both(cohort, phone, said):
    return [*signs(over_fewer_reporting)(cohort, phone, said), (phone.number, said)]


SIGNATURES = {
    "over fewer reporting phones": signs(over_fewer_reporting),
    "over another session": signs(over_another_session),
    "of another stage": signs(over_its_vector_again),
    "of nothing": lambda cohort, phone, said: [(phone.number, bytes(64))],
    "over two lists": both,
}


@pytest.mark.parametrize("lie", SIGNATURES.values(), ids=SIGNATURES)
def test_a_signature_over_other_lists_is_no_vote(lie):
    check({(LIAR, "agree"): lie}, without=[])
    check({(number, "agree"): lie for number in (1, LIAR)}, without=[])
    three = check({(n, "agree"): lie for n in (1, 2, LIAR)}, without=[], abort="agree: 5 phones")
    assert not three.refusals


def gives(make):
    """A lie that gives other shares, and signs them."""

    def lie(cohort, phone, said):
        shares = make(said[1])
        statement = unmasked_statement(
            phone.context.digest, id_bytes(phone.number), cohort.sharers.digest,
            cohort.reporting.digest, shares.tobytes(),
        )  # fmt: skip
        return [(phone.number, (PHONES.identity(phone.number).sign(statement), shares))]

    return lie


def rolled(shares):
    return np.roll(shares, 1, axis=0)


SHARES_GIVEN = {
    "zeros": gives(np.zeros_like),
    "ones": gives(np.ones_like),
    "those of other neighbors": gives(rolled),
    "outside the field": gives(lambda shares: np.full_like(shares, shamir.PRIME)),
    "the largest numbers": gives(lambda shares: np.full_like(shares, 2**32 - 1)),
    "one bit flipped": gives(lambda shares: shares ^ np.uint32(1)),
}


@pytest.mark.parametrize("lie", SHARES_GIVEN.values(), ids=SHARES_GIVEN)
def test_a_false_share_opens_nothing_unless_it_is_not_needed(lie):
    check({(0, "unmask"): lie}, abort="unmask: ")
    check({(7, "unmask"): lie}, without=[])  # six others answer for each


def test_false_shares_of_a_vanished_phones_mask_key_open_nothing():
    lies = {(LIAR, "mask"): silence, (0, "unmask"): gives(rolled)}
    check(lies, abort="unmask: ")


def test_shares_of_phones_that_did_not_survive_are_not_looked_at():
    def of_the_vanished(cohort, phone, said):
        return [(LIAR, (said[0], np.ones_like(said[1]))), (phone.number, said)]

    check({(LIAR, "mask"): silence, (0, "unmask"): of_the_vanished}, without=[LIAR])


# Tables that do not fit: whoever sends them for others ends the session, and by name.


def reshaped(name, change):
    """A lie that gives one field of a message of stage share another shape."""
    return lambda cohort, phone, said: [
        (phone.number, replace(said, **{name: change(getattr(said, name))}))
    ]


CHANGES = {
    "shorter": lambda column: column[:-1],
    "narrower": lambda column: column[:, :-1],
    "wider numbers": lambda column: column.astype(np.int64),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_tables_of_another_shape_abort(change):
    sealed = {(number, "share"): reshaped("sealed", change) for number in range(8)}
    check(sealed, abort="share: expected sealed shares")
    shares = {(number, "unmask"): gives(change) for number in range(8)}
    check(shares, abort="unmask: expected shares")


# Anything together.

ANY_STAGE = [silence, twice, in_strangers_names]
LIES = {
    "advertise": [*ANY_STAGE, *ADVERTISEMENTS.values(), another_first, another_after],
    "share": [*ANY_STAGE, *(lie for lie, _ in SHARES.values())],
    "mask": [*ANY_STAGE, *ARBITRARY, *WORDS.values()],
    "agree": [*ANY_STAGE, *SIGNATURES.values()],
    "unmask": [*ANY_STAGE, *SHARES_GIVEN.values()],
}


@pytest.mark.slow
def test_no_mixture_of_lies_gives_a_wrong_sum():
    random, opened = np.random.default_rng(1), 0
    for _ in range(60):
        lies = {
            (liar, stage): LIES[stage][random.integers(len(LIES[stage]))]
            for liar in random.choice(8, 2, replace=False).tolist()
            for stage in random.choice(STAGES, 2, replace=False).tolist()
        }
        cohort = Cohort(lies)
        total, why = cohort.ends()
        if total is None:
            assert why.startswith(tuple(f"{stage}: " for stage in STAGES))
        else:
            np.testing.assert_array_equal(total, cohort.expected())
            opened += 1
    assert 10 < opened < 50  # of these 60: both ends are met


STEPS = {
    "close_cohort_list": lambda server: server.close_cohort_list(
        np.zeros(0, np.int64), *(np.zeros((0, width), np.uint8) for width in (32, 32, 32, 64))
    ),
    "bind": lambda server: server.bind(PURPOSE),
    "close_nonces": lambda server: server.close_nonces(
        np.zeros(0, np.int64), np.zeros((0, 32), np.uint8)
    ),
    "close_shares": lambda server: server.close_shares(
        np.zeros(0, np.int64), np.zeros((0, 7, 88), np.uint8),
        np.zeros((0, 32), np.uint8), np.zeros((0, 64), np.uint8),
    ),
    "close_masked": lambda server: server.close_masked(),
    "close_agreement": lambda server: server.close_agreement(
        np.zeros(0, np.int64), np.zeros((0, 64), np.uint8)
    ),
    "open": lambda server: server.open(
        np.zeros(0, np.int64), np.zeros((0, 7, 9), np.uint32), np.zeros((0, 64), np.uint8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_the_server_closes_stages_in_order_and_each_once(step):
    fresh = Cohort({}).server
    if step != "close_cohort_list":
        with pytest.raises(ProtocolAbort, match="past stage none"):
            STEPS[step](fresh)
    done = Cohort({})
    done.run()
    with pytest.raises(ProtocolAbort, match="past stage unmask"):
        STEPS[step](done.server)
