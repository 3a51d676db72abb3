"""A phone can go on in another process, answers once, and keeps no secret longer than it must."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from secagg_sessions import (
    PURPOSE,
    FixedPhone,
    check_sum,
    fixed_random,
    recorded,
    terms_of,
    vectors_of,
)

from fedspeech.secagg import shamir
from fedspeech.secagg.client import Phone
from fedspeech.secagg.exchange import History
from fedspeech.secagg.keys import Identity, IdentityDirectory, exchange, hkdf, unseal
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import (
    MAX_SESSIONS,
    CohortList,
    Members,
    Stage,
    bind,
    session_round_id,
    share_info,
)
from fedspeech.secagg.refusals import (
    Malformed,
    OutOfOrder,
    Refusal,
    Replayed,
    SecondAnswer,
    StaleState,
)

PHONES = IdentityDirectory(bytes(32), b"tests", 200)
REQUESTS = ("advertise", "accept", "share", "mask", "agree", "unmask")
BOUNDARIES = REQUESTS[1:]  # before each request but the first


class Reborn:
    """A phone whose every request may find a fresh object: saved bytes and public lists go over."""

    boundaries: tuple[str, ...] = ()

    def __init__(self, number, identity, directory, terms, primitives, random):
        self.number = number
        self._parts = (number, identity, directory, terms, primitives)
        self._random = fixed_random(terms, number)  # goes on, as an operating system's would
        self._phone = self._fresh()
        self._lists = {"cohort_list": None, "purpose": bytes(32)}

    def _fresh(self):
        return Phone(*self._parts, self._random)

    def _ask(self, request, *told, **kept):
        if request in self.boundaries:
            saved, stage = self._phone.save(), self._phone.stage
            assert isinstance(saved, bytes)
            self._phone = self._fresh().restore(saved, stage=stage, **copies(self._lists))
        answer = getattr(self._phone, request)(*told)
        self._lists |= kept
        return answer

    def advertise(self):
        return self._ask("advertise")

    def accept(self, cohort_list, purpose):
        return self._ask("accept", cohort_list, purpose, cohort_list=cohort_list, purpose=purpose)

    def share(self, nonces):
        return self._ask("share", nonces, nonces=nonces)

    def mask(self, inbox):
        return self._ask("mask", inbox, sharers=inbox.sharers)

    def agree(self, reporting, signatures):
        return self._ask("agree", reporting, signatures, reporting=reporting)

    def unmask(self, quorum):
        return self._ask("unmask", quorum)


def copies(lists):
    """The public lists as another process reads them: equal, and new objects."""
    return {name: copied(value) for name, value in lists.items()}


def copied(value):
    if isinstance(value, Members):
        return Members(value.ids.copy())
    if isinstance(value, CohortList):
        columns = ("seal_keys", "mask_keys", "commitments", "signatures")
        return CohortList(members=copied(value.members),
                      **{name: getattr(value, name).copy() for name in columns})  # fmt: skip
    return copy.copy(value)


def session(monkeypatch, n, terms, gone, boundaries, phone=Reborn):
    monkeypatch.setattr(Reborn, "boundaries", boundaries)
    vectors = vectors_of(np.random.default_rng(n), range(n), terms)
    found, messages = recorded(
        vectors, phone=phone, terms=terms, identities=PHONES, primitives=SharedPrimitives(),
        last_stage=lambda number: gone.get(number, Stage.UNMASK),
    )  # fmt: skip
    check_sum(found, vectors, terms)
    return messages


GONE = {1: Stage.ADVERTISE, 3: Stage.SHARE, 8: Stage.MASK, 5: Stage.AGREE}


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("boundaries", [*[(one,) for one in BOUNDARIES], BOUNDARIES])
def test_a_restored_phone_says_what_it_would_have_said(monkeypatch, boundaries, bits):
    terms = terms_of(bits=bits)
    expected = session(monkeypatch, 13, terms, GONE, (), phone=FixedPhone)
    assert session(monkeypatch, 13, terms, GONE, boundaries) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "boundaries",
    [*[pytest.param((one,), marks=pytest.mark.slow) for one in BOUNDARIES], BOUNDARIES],
)
def test_a_restored_phone_finds_its_place_on_the_ring(monkeypatch, boundaries):
    terms = terms_of(colluders=3, threat_model="semi_honest")
    gone = {2: Stage.SHARE, 77: Stage.MASK, 100: Stage.SHARE, 130: Stage.AGREE}
    expected = session(monkeypatch, 130 + 1, terms, gone, (), phone=FixedPhone)
    assert session(monkeypatch, 130 + 1, terms, gone, boundaries) == expected


# One phone of a small session, with what it was told at each stage.

NUMBER, SIZE = 2, 5
ROUND = terms_of()
TERMS = replace(ROUND, round_id=session_round_id(ROUND.round_id, 0))


class Listening(FixedPhone):
    """A phone that remembers what it was told, and what it had to save before and after."""

    heard: dict

    def _hear(self, request, *told):
        before = self.save()
        answer = getattr(FixedPhone, request)(self, *told)
        if self.number == NUMBER:
            self.heard[request] = (told, before, self.save())
        return answer

    def advertise(self):
        return self._hear("advertise")

    def accept(self, cohort_list, purpose):
        return self._hear("accept", cohort_list, purpose)

    def share(self, nonces):
        return self._hear("share", nonces)

    def mask(self, inbox):
        return self._hear("mask", inbox)

    def agree(self, reporting, signatures):
        return self._hear("agree", reporting, signatures)

    def unmask(self, quorum):
        return self._hear("unmask", quorum)


def listened(n=SIZE, terms=ROUND):
    """What phone NUMBER was told at each request of a session, and its states around it."""
    heard = {}
    kind = type("Listening", (Listening,), {"heard": heard})
    vectors = vectors_of(np.random.default_rng(0), range(n), terms)
    recorded(vectors, phone=kind, terms=terms, identities=PHONES, primitives=SharedPrimitives())
    return heard


HEARD = listened()
(COHORT_LIST, _), SHARERS = HEARD["accept"][0], HEARD["mask"][0][0].sharers
REPORTING = HEARD["agree"][0][0]
LISTS = {"cohort_list": COHORT_LIST, "purpose": PURPOSE, "sharers": SHARERS, "reporting": REPORTING}
SAVED = [HEARD["advertise"][1], *[HEARD[request][2] for request in REQUESTS]]  # by requests done
REACHED = list(Stage)  # by requests done


class Forbidden(Primitives):
    """Computes nothing: whoever asks has broken a promise."""

    def agree(self, *told):
        raise AssertionError("computed a key")

    def verify(self, *told):
        raise AssertionError("checked a signature")


class Mute(Identity):
    """Signs nothing."""

    def sign(self, statement):
        raise AssertionError("signed")


def no_random(size):
    raise AssertionError("drew secret bytes")


def idle():
    """A phone that must not compute, sign or draw anything."""
    return Phone(NUMBER, Mute(bytes(32)), PHONES, TERMS, Forbidden(), no_random)


def done(count):
    """An idle phone that has answered so many requests."""
    return idle().restore(SAVED[count], stage=REACHED[count], **LISTS)


def going_on(count):
    """A phone that has answered so many requests, and can answer the next as it did before."""
    draw = fixed_random(TERMS, NUMBER)
    draw(3 * 32 if count else 0)
    phone = Phone(NUMBER, PHONES.identity(NUMBER), PHONES, TERMS, SharedPrimitives(), draw)
    return phone.restore(SAVED[count], stage=REACHED[count], **LISTS)


def ask(phone, request):
    return getattr(phone, request)(*HEARD[request][0])


@pytest.mark.parametrize("request_", range(6))
@pytest.mark.parametrize("count", range(1, 7))
def test_a_request_out_of_turn_is_refused_and_nothing_is_computed(count, request_):
    if request_ == count:
        return  # in turn
    phone = done(count)
    refusal = SecondAnswer if request_ < count else OutOfOrder
    with pytest.raises(refusal, match="stage"):
        ask(phone, REQUESTS[request_])
    for request in REQUESTS:
        with pytest.raises(Replayed, match="has left this session"):
            ask(phone, request)


@pytest.mark.parametrize("request_", range(1, 6))
def test_a_phone_that_never_advertised_answers_nothing(request_):
    with pytest.raises(OutOfOrder, match="is at stage none"):
        ask(idle(), REQUESTS[request_])


@pytest.mark.parametrize("count", range(1, 7))
def test_a_refusal_outlives_the_process_and_leaves_no_secret(count):
    phone = done(count)
    with pytest.raises(SecondAnswer):
        ask(phone, REQUESTS[count - 1])
    assert not secrets_in(everything(phone))
    saved = phone.save()
    assert not secrets_in(saved)
    for request in REQUESTS:
        again = idle().restore(saved, stage=REACHED[count], **LISTS)
        with pytest.raises(Replayed):
            ask(again, request)


@pytest.mark.parametrize("count", range(6))
def test_the_request_in_turn_is_answered_and_leaves_the_same_state(count):
    phone = going_on(count)
    ask(phone, REQUESTS[count])
    assert phone.save() == SAVED[count + 1]


# What a saved state holds.


def own_secrets():
    draw = fixed_random(TERMS, NUMBER)
    return {name: draw(32) for name in ("seal key", "mask key", "nonce", "seed")}


def shares_for_phone():
    """What each neighbor sealed for phone NUMBER: a share of its seed, one of its mask key."""
    found = {}
    t = (SIZE + TERMS.colluders) // 2 + 1
    for other in set(range(SIZE)) - {NUMBER}:
        draw = fixed_random(TERMS, other)
        _, mask_key, _, seed = (draw(32) for _ in range(4))
        limbs = np.concatenate([shamir.to_limbs(seed), shamir.to_limbs(mask_key)])
        place = NUMBER - (other < NUMBER)  # among the other's neighbors, which are all others
        share = shamir.share(limbs, t, SIZE - 1, draw)[place].astype("<u4").tobytes()
        found |= {f"seed of {other}": share[:36], f"mask key of {other}": share[36:]}
    return found


OWN, SHARES = own_secrets(), shares_for_phone()


def secrets_in(data):
    """Which planted secrets stand in some bytes; eight of theirs in a row are enough."""
    return {
        name
        for name, secret in (OWN | SHARES).items()
        if any(secret[at : at + 8] in data for at in range(len(secret) - 7))
    }


def everything(phone):
    """All bytes of a phone's own attributes."""
    held = [value for value in vars(phone).values()
            if isinstance(value, (bytes, bytearray, np.ndarray))]  # fmt: skip
    return b"|".join(bytes(value) if not hasattr(value, "dtype") else value.tobytes()
                     for value in held)  # fmt: skip


def shares_given():
    """Of each neighbor the one share that the last answer holds."""
    answer = ask(going_on(5), "unmask")[1].tobytes()
    return {name for name, share in SHARES.items() if share in answer}


def test_of_each_neighbor_one_share_is_given():
    assert len(shares_given()) == len(SHARES) / 2


def test_a_saved_state_holds_what_later_stages_need_and_no_other_secret():
    needed = [
        set(),
        {"seal key", "mask key", "nonce"},
        {"seal key", "mask key", "nonce"},
        {"seal key", "mask key", "seed"},
        set(SHARES),
        shares_given(),
        set(),
    ]
    for count, saved in enumerate(SAVED):
        assert secrets_in(saved) == needed[count], count
        assert secrets_in(everything(done(count))) == needed[count], count


def test_a_share_is_sealed_for_one_neighbor_at_one_place():
    inbox, seal_key = HEARD["mask"][0][0], X25519PrivateKey.from_private_bytes(OWN["seal key"])
    context, own = bind(TERMS, PURPOSE, COHORT_LIST).digest, NUMBER.to_bytes(8, "big")
    for row, other in enumerate(sorted(set(range(SIZE)) - {NUMBER})):
        info = share_info(context, other.to_bytes(8, "big"), own)
        key = hkdf(exchange(seal_key, COHORT_LIST.seal_rows[other]), info)
        place = NUMBER - (other < NUMBER)
        for at in range(SIZE):
            opened = unseal(key, inbox.sealed[row].tobytes(), info + at.to_bytes(4, "big"))
            expected = SHARES[f"seed of {other}"] + SHARES[f"mask key of {other}"]
            assert opened == (expected if at == place else None)


@pytest.mark.parametrize("count", range(1, 6))
def test_the_object_that_answered_keeps_no_more_than_it_saves(count):
    phone = going_on(count)
    before = secrets_in(everything(phone))
    ask(phone, REQUESTS[count])
    assert secrets_in(everything(phone)) == secrets_in(phone.save())
    gone = {
        "accept": set(), "share": {"nonce"}, "mask": {"seal key", "mask key", "seed"},
        "agree": set(SHARES) - shares_given(), "unmask": shares_given(),
    }[REQUESTS[count]]  # fmt: skip
    assert not gone & secrets_in(everything(phone))
    assert gone <= before


def test_printing_a_phone_shows_number_and_stage_only():
    assert repr(done(3)) == "Phone(2, stage share)"
    left = done(3)
    with pytest.raises(SecondAnswer):
        ask(left, "share")
    assert repr(left) == "Phone(2, stage share, left)"


# Going on from a state that is too old, or beside another list.


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("stage", list(Stage))
def test_a_state_older_than_what_was_answered_is_refused(count, stage):
    if REACHED[count] >= stage:
        assert idle().restore(SAVED[count], stage=stage, **LISTS).stage == REACHED[count]
        return
    phone = idle()
    with pytest.raises(StaleState, match=f"has answered stage {stage.word}"):
        phone.restore(SAVED[count], stage=stage, **LISTS)
    for request in REQUESTS:
        with pytest.raises(Replayed):
            ask(phone, request)
    assert not secrets_in(everything(phone))


OTHERS = Members(np.array([0, 1, 2, 3]))
OTHER_COHORT_LIST = CohortList(
    members=COHORT_LIST.members, seal_keys=COHORT_LIST.seal_keys[::-1],
    mask_keys=COHORT_LIST.mask_keys,
    commitments=COHORT_LIST.commitments, signatures=COHORT_LIST.signatures,
)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "lists"),
    [
        *[(count, {"cohort_list": OTHER_COHORT_LIST}) for count in range(2, 7)],
        *[(count, {"purpose": bytes(32)}) for count in range(2, 7)],
        *[(count, {"sharers": sharers}) for count in range(4, 7) for sharers in (OTHERS, None)],
        *[(count, {"reporting": some}) for count in range(5, 7) for some in (OTHERS, None)],
    ],
)
def test_a_list_that_the_phone_did_not_see_is_refused_for_good(count, lists):
    phone = idle()
    with pytest.raises(Malformed, match="not the one that this phone saw"):
        phone.restore(SAVED[count], stage=REACHED[count], **(LISTS | lists))
    assert not secrets_in(everything(phone))
    for request in REQUESTS:
        with pytest.raises(Replayed):
            ask(phone, request)


def on_a_ring():
    """A phone that never said anything, and what one that shared on a ring would restore."""
    terms = terms_of(colluders=3, threat_model="semi_honest")
    heard = listened(131, terms)
    (cohort_list, purpose), (nonces,) = heard["accept"][0], heard["share"][0]
    phone = Phone(
        NUMBER,
        Mute(bytes(32)),
        PHONES,
        replace(terms, round_id=TERMS.round_id),
        Forbidden(),
        no_random,
    )
    kept = {"cohort_list": cohort_list, "purpose": purpose, "nonces": nonces}
    return phone, heard["share"][2], kept


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed", [lambda nonces: nonces[::-1], lambda nonces: nonces[:-1], lambda nonces: ()]
)
def test_nonces_that_the_phone_did_not_see_are_refused(changed):
    phone, saved, kept = on_a_ring()
    with pytest.raises(Refusal):
        phone.restore(saved, stage=Stage.SHARE, **(kept | {"nonces": changed(kept["nonces"])}))


def test_a_refusal_of_nonces_is_for_good_and_leaves_no_secret():
    phone, saved, kept = on_a_ring()
    with pytest.raises(Refusal):
        phone.restore(saved, stage=Stage.SHARE, **(kept | {"nonces": ()}))
    assert not any(phone._seed)
    with pytest.raises(Replayed):
        ask(phone, "advertise")


def test_a_missing_cohort_list_is_refused():
    with pytest.raises(Malformed):
        idle().restore(SAVED[3], stage=REACHED[3], **(LISTS | {"cohort_list": None}))


# Which sessions a phone enters.


@pytest.mark.parametrize(
    ("history", "entered"),
    [
        (History(), (0, 0)),
        (History(), (0, MAX_SESSIONS - 1)),
        (History(), (7, 3)),
        (History(round=2, session=0), (2, 1)),
        (History(round=2, session=1), (2, 3)),
        (History(round=2, session=3), (3, 0)),
        (History(round=2, session=3), (9, 5)),
        (History(round=2, session=3, stage=Stage.MASK), (3, 0)),
        (History(round=0, session=0), (0, 1)),
    ],
)
def test_a_later_session_is_entered(history, entered):
    found = history.entering(*entered)
    assert found == History(round=entered[0], session=entered[1], stage=Stage.NONE)


@pytest.mark.parametrize(
    ("history", "refused"),
    [
        (History(), (0, -1)),
        (History(), (0, MAX_SESSIONS)),
        (History(round=0, session=0), (0, 0)),
        (History(round=2, session=3), (2, 3)),
        (History(round=2, session=3), (2, 2)),
        (History(round=2, session=3), (2, 0)),
        (History(round=2, session=3), (1, 7)),
        (History(round=2, session=3), (0, 0)),
        (History(round=2, session=3), (-1, 0)),
        (History(round=2, session=3), (2, MAX_SESSIONS)),
        (History(round=2, session=0, stage=Stage.MASK), (2, 1)),
        (History(round=2, session=0, stage=Stage.UNMASK), (2, 7)),
        (History(round=2, session=0, stage=Stage.AGREE), (2, 0)),
    ],
)
def test_an_earlier_session_or_one_after_a_masked_vector_is_refused(history, refused):
    with pytest.raises(Replayed):
        history.entering(*refused)


def test_each_session_is_entered_once_and_at_most_so_often_in_a_round():
    history, entered = History(), []
    for round_number in (0, 1, 0, 1, 2):
        for session_number in [*range(MAX_SESSIONS + 2)] * 2:
            try:
                history = history.entering(round_number, session_number)
            except Replayed:
                continue
            entered.append((round_number, session_number))
    assert entered == [(r, s) for r in range(3) for s in range(MAX_SESSIONS)]


def test_a_round_before_the_first_is_refused():
    with pytest.raises(Replayed):
        History().entering(-1, 0)
