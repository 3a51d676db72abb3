"""Whatever phones drop out, the sum of those who stay is exact, or there is none."""

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from secagg_sessions import (
    PURPOSE,
    Watched,
    check_end,
    check_sum,
    terms_of,
    vectors_of,
)

from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import MAX_SESSIONS, Stage, session_round_id
from fedspeech.secagg.session import stays, sum_vectors

PHONES = IdentityDirectory(os.urandom(32), b"tests", 1000)
GONE_EARLY = [stage for stage in Stage if stage < Stage.UNMASK]


def summed(vectors, terms, last_stage=stays, primitives=None):
    return sum_vectors(
        vectors, terms=terms, purpose=PURPOSE, identities=PHONES, last_stage=last_stage,
        primitives=primitives or SharedPrimitives(),
    )  # fmt: skip


def some_gone(rng, phones, count, stages):
    """The last stage of every phone; `count` of them vanish, each after one of some stages."""
    gone = rng.choice(phones, count, replace=False).tolist()
    last = dict.fromkeys(range(phones), Stage.UNMASK)
    return last | {phone: Stage(rng.choice(stages)) for phone in gone}


# The widths share their code but for words and cut: all of them where all tests are run.
BITS = [pytest.param(16, marks=pytest.mark.slow), 24, pytest.param(32, marks=pytest.mark.slow)]


@pytest.mark.parametrize("bits", BITS)
def test_the_masked_sum_is_that_of_the_vectors(bits):
    rng = np.random.default_rng(bits)
    gone = {3: Stage.NONE, 7: Stage.ADVERTISE, 11: Stage.SHARE, 12: Stage.MASK, 20: Stage.AGREE}
    terms = terms_of(dimension=33, bits=bits, min_cohort=100, min_reporting=90, colluders=10)
    vectors = vectors_of(rng, range(140), terms)
    found = summed(vectors, terms, lambda phone: gone.get(phone, Stage.UNMASK))
    assert sorted(set(range(140)) - set(found.reporting.ids.tolist())) == [3, 7, 11]
    check_sum(found, vectors, terms)


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS)
def test_cohorts_of_every_small_size_open_the_sum_of_those_who_stay(bits):
    rng = np.random.default_rng(bits)
    for n in range(3, 41):
        terms = terms_of(bits=bits, dimension=int(rng.integers(1, 50)))
        spare = n - (n // 2 + 2)  # as many as may vanish: t + 1 of them unmask
        last = some_gone(rng, n, int(rng.integers(0, spare + 1)), [*GONE_EARLY[1:]])
        assert check_end(rng, terms, last, PHONES, SharedPrimitives()).stage == "sum"


@pytest.mark.slow
@pytest.mark.parametrize("bits", BITS)
def test_a_hundred_phones_open_the_sum_of_those_who_stay(bits):
    rng = np.random.default_rng(bits)
    terms = terms_of(bits=bits, dimension=200, colluders=5, min_cohort=90, min_reporting=80)
    last = some_gone(rng, 100, 10, GONE_EARLY)
    assert check_end(rng, terms, last, PHONES, SharedPrimitives()).stage == "sum"


@pytest.mark.slow
@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
@pytest.mark.parametrize("bits", BITS)
def test_two_hundred_phones_on_a_ring_open_the_sum_of_those_who_stay(bits, threat_model):
    check_ring(200, bits, threat_model, colluders=10)


@pytest.mark.parametrize(
    "bits",
    [pytest.param(16, marks=pytest.mark.soak), pytest.param(24, marks=pytest.mark.soak),
     pytest.param(32, marks=pytest.mark.slow)],
)  # fmt: skip
def test_a_thousand_phones_on_a_ring_open_the_sum_of_those_who_stay(bits):
    check_ring(1000, bits, "malicious", colluders=100)


def check_ring(n, bits, threat_model, colluders):
    rng = np.random.default_rng(n + bits)
    terms = terms_of(bits=bits, dimension=50, colluders=colluders, threat_model=threat_model)
    last = some_gone(rng, n, n // 10, GONE_EARLY)
    vectors = vectors_of(rng, range(n), terms)
    found = summed(vectors, terms, last.__getitem__)
    assert not found.context.parameters.complete
    reporting = [phone for phone in range(n) if last[phone] >= Stage.MASK]
    assert found.reporting.ids.tolist() == reporting
    check_sum(found, vectors, terms)


@st.composite
def sessions(draw):
    """SessionTerms, and how far each of a few phones gets; most of them to the end."""
    n = draw(st.integers(3, 12))
    min_cohort = draw(st.sampled_from([2, 3, n - 1, n, n + 1]))
    terms = terms_of(
        bits=draw(st.sampled_from([1, 16, 17, 24, 32])), dimension=draw(st.integers(1, 20)),
        colluders=draw(st.sampled_from([0, 0, 0, 1, 2])), min_cohort=max(2, min_cohort),
        min_reporting=draw(st.integers(2, max(2, min_cohort))),
        dropped_share=draw(st.sampled_from([0.0, 0.1, 0.3])),
        threat_model=draw(st.sampled_from(["malicious", "semi_honest"])),
    )  # fmt: skip
    gone = draw(st.dictionaries(st.integers(0, n - 1), st.sampled_from(GONE_EARLY), max_size=n))
    return terms, dict.fromkeys(range(n), Stage.UNMASK) | gone


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(sessions(), st.sampled_from([Primitives, SharedPrimitives]), st.integers(0, 2**32 - 1))
def test_a_session_ends_as_counting_foretells(case, primitives, seed):
    terms, last = case
    check_end(np.random.default_rng(seed), terms, last, PHONES, primitives())


@pytest.mark.slow
def test_a_session_ends_at_every_stage_that_it_can_end_at():
    ends = Counter()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 10))
        stage = Stage(rng.choice(GONE_EARLY))
        minimum = int(rng.integers(2, n + 1))
        terms = terms_of(
            bits=int(rng.choice([16, 24, 32])), colluders=int(rng.integers(0, 2)),
            min_cohort=minimum, min_reporting=int(rng.integers(2, minimum + 1)), dropped_share=0.0,
        )  # fmt: skip
        last = some_gone(rng, n, int(rng.integers(0, n)), [stage])
        ends[check_end(rng, terms, last, PHONES, SharedPrimitives()).stage] += 1
    assert set(ends) == {"advertise", "share", "mask", "agree", "unmask", "sum"}
    assert min(ends.values()) >= 5


@pytest.mark.parametrize(
    ("gone", "refusal", "text"),
    [
        (Stage.NONE, CohortTooSmall, "^advertise: 5 phones joined"),
        (Stage.SHARE, ProtocolAbort, "^mask: 5 phones are left, and 6 are needed"),
        (Stage.MASK, ProtocolAbort, "^agree: 5 phones are left, and 7 are needed"),
        (Stage.AGREE, ProtocolAbort, "^unmask: 5 phones are left, and 7 are needed"),
    ],
)
def test_an_abort_names_its_stage_and_the_minimum(gone, refusal, text):
    terms = terms_of(min_cohort=10, min_reporting=6)
    vectors = vectors_of(np.random.default_rng(0), range(12), terms)
    watched = Watched()
    with pytest.raises(refusal, match=text):
        watched.sum_vectors(
            vectors, terms=terms, purpose=PURPOSE, identities=PHONES,
            last_stage=lambda phone: gone if phone >= 5 else Stage.UNMASK,
        )  # fmt: skip
    assert watched.opened == []


@pytest.mark.parametrize("gone", GONE_EARLY)
def test_when_all_phones_vanish_the_abort_names_a_stage(gone):
    vectors = vectors_of(np.random.default_rng(0), range(5), terms_of())
    with pytest.raises((ProtocolAbort, CohortTooSmall), match=r"^\w+: "):
        summed(vectors, terms_of(), lambda phone: gone)


@pytest.mark.parametrize(
    ("stage", "gone", "colluders"), [("advertise", Stage.UNMASK, 5), ("mask", Stage.ADVERTISE, 0)]
)
def test_a_phones_refusal_names_its_stage(stage, gone, colluders):
    terms = terms_of(colluders=colluders)
    vectors = vectors_of(np.random.default_rng(0), range(6), terms)
    with pytest.raises(ProtocolAbort, match=f"^{stage}: "):
        summed(vectors, terms, lambda phone: gone if phone >= 4 else Stage.UNMASK)


def test_a_cohort_list_without_a_graph_aborts_even_if_no_phone_is_left_to_say_so():
    terms = terms_of(colluders=5)
    vectors = vectors_of(np.random.default_rng(0), range(6), terms)
    with pytest.raises(ProtocolAbort, match=r"^advertise: "):
        summed(vectors, terms, lambda phone: Stage.ADVERTISE)


@pytest.mark.slow
@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
@pytest.mark.parametrize("gone", [Stage.MASK, Stage.AGREE])
def test_too_many_dropouts_on_a_ring_open_nothing(gone, threat_model):
    terms = terms_of(colluders=10, threat_model=threat_model)
    vectors = vectors_of(np.random.default_rng(0), range(140), terms)
    watched = Watched()
    stage = {Stage.MASK: "agree", Stage.AGREE: "unmask"}[gone]
    with pytest.raises(ProtocolAbort, match=f"^{stage}: "):
        watched.sum_vectors(
            vectors, terms=terms, purpose=PURPOSE, identities=PHONES, primitives=SharedPrimitives(),
            last_stage=lambda phone: gone if phone >= 14 else Stage.UNMASK,
        )  # fmt: skip
    assert len(watched.arrived) == 140
    assert watched.opened == []


class Vanishing:
    """Phones that say yes a number of times and then are gone: one more in each session."""

    def __init__(self, sessions):
        self.answers = {phone: phone + 1 for phone in range(sessions)}  # first, once for the round

    def __call__(self, phone):
        if phone not in self.answers:
            return Stage.UNMASK
        self.answers[phone] -= 1
        return Stage.ADVERTISE if self.answers[phone] < 0 else Stage.UNMASK


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [1, 3, MAX_SESSIONS - 1])
def test_missing_nonces_restart_the_session_without_those_who_vanished(restarts):
    terms = terms_of(colluders=10, threat_model="semi_honest", bits=24)
    vectors = vectors_of(np.random.default_rng(0), range(140), terms)
    found = summed(vectors, terms, Vanishing(restarts))
    assert found.sessions == restarts + 1
    assert found.reporting.ids.tolist() == list(range(restarts, 140))
    assert found.context.cohort_list.members.ids.tolist() == list(range(restarts, 140))
    assert found.context.terms.round_id == session_round_id(terms.round_id, restarts)
    check_sum(found, vectors, terms)


@pytest.mark.slow
def test_nonces_missing_in_every_session_abort_the_round():
    terms = terms_of(colluders=10, threat_model="semi_honest")
    vectors = vectors_of(np.random.default_rng(0), range(140), terms)
    watched = Watched()
    with pytest.raises(ProtocolAbort, match=rf"^advertise: nonces .* {MAX_SESSIONS} sessions"):
        watched.sum_vectors(
            vectors, terms=terms, purpose=PURPOSE, identities=PHONES, primitives=SharedPrimitives(),
            last_stage=Vanishing(MAX_SESSIONS),
        )  # fmt: skip
    assert watched.arrived == []
    advertised = sum(140 - session for session in range(MAX_SESSIONS))
    assert len(watched.keys) == 3 * advertised == len(set(watched.keys))  # fresh in each session


def test_a_restart_keeps_the_minimum_on_the_cohort():
    terms = terms_of(colluders=10, threat_model="semi_honest", min_cohort=138)
    vectors = vectors_of(np.random.default_rng(0), range(140), terms)
    with pytest.raises(CohortTooSmall, match=r"^advertise: 137 phones joined"):
        summed(vectors, terms, lambda phone: Stage.ADVERTISE if phone < 3 else Stage.UNMASK)


def test_everybodys_neighbor_needs_no_nonce_and_no_restart():
    terms = terms_of()
    vectors = vectors_of(np.random.default_rng(0), range(9), terms)
    found = summed(vectors, terms, lambda phone: Stage.ADVERTISE if phone == 4 else Stage.UNMASK)
    assert found.sessions == 1
    assert found.context.cohort_list.members.place(4) is not None
    assert found.reporting.place(4) is None
    check_sum(found, vectors, terms)


def test_phones_are_summed_whatever_their_numbers_and_order():
    terms = terms_of(bits=24)
    vectors = vectors_of(np.random.default_rng(0), [900, 3, 512, 7, 0, 255, 256], terms)
    found = summed(vectors, terms)
    assert found.reporting.ids.tolist() == sorted(vectors)
    check_sum(found, vectors, terms)
