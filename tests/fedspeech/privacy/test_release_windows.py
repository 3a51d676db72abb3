"""One release per window, and one account of training and analytics together."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech import hash_chain
from fedspeech.errors import AlreadyReleased, BudgetExhausted, LedgerDamaged
from fedspeech.privacy import adversary_views
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.release_window import ReleaseWindow

TRAINING = PrivacyPlan(
    secure_aggregation="ideal", dropout_rate=0.0, dimension=600, clip_norm=0.1,
    noise_multiplier=3.0, population=3000, participation_probability=0.1, rounds=40,
    max_participations=18, min_cohort=215, min_reporting=215, delta=1 / 30_000,
    epsilon_budget=20.0,
)  # fmt: skip
COUNTS = dataclasses.replace(
    TRAINING, dimension=12, clip_norm=2.0, noise_multiplier=6.0, participation_probability=1.0,
    rounds=1, max_participations=1, min_cohort=2000, min_reporting=2000, mechanism="skellam",
    participation="round_robin",
)  # fmt: skip


def window(first=0, last=6, question="a"):
    return ReleaseWindow(question=question * 8, says="Histogram", first_day=first, last_day=last)


def opened(path, asked, run_id="one", plan=COUNTS):
    return Ledger.open(path, plan, run_id, "os", "analytics", window=asked)


def rid(number):
    return number.to_bytes(16, "big")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


days = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)


@settings(max_examples=60)
@given(days, days, st.booleans())
def test_windows_overlap_where_they_share_a_day_and_ask_the_same(one, other, same):
    first, second = window(*one), window(*other, question="a" if same else "b")
    shared = set(range(one[0], one[1] + 1)) & set(range(other[0], other[1] + 1))
    assert first.overlaps(second) == second.overlaps(first) == (same and bool(shared))
    assert ReleaseWindow.from_record(json.loads(json.dumps(first.to_record()))) == first


def test_copies_of_one_release_get_one_answer(path):
    """Both were opened before either was charged, as copies of a folder of a killed release are."""
    first = opened(path, window())
    again = Ledger.resume(path, COUNTS, "one", "os", first.opened, window=window())
    first.charge(0, 0, rid(1))
    with pytest.raises(AlreadyReleased, match=r"round 1 of this release .* was charged before"):
        again.charge(0, 0, rid(2))
    assert Ledger.inspect(path).rounds_charged == 1


def test_a_window_that_was_charged_is_refused_whatever_became_of_it(path):
    opened(path, window()).charge(0, 0, rid(1))  # killed here: no outcome was ever written
    before = path.read_bytes()
    for again in (window(), window(6, 12), window(0, 0)):
        with pytest.raises(AlreadyReleased, match="one release per window: Histogram was asked"):
            opened(path, again, "two")
        with pytest.raises(AlreadyReleased, match="days 0 to 6 by run one"):
            Ledger.require_first_round(path, COUNTS, again)
    assert path.read_bytes() == before
    for other in (window(7, 13), window(question="b")):
        opened(path, other, "three").charge(0, 0, rid(2 + other.first_day))


def test_a_run_that_was_never_charged_has_released_nothing(path):
    opened(path, window())
    opened(path, window(), "two").charge(0, 0, rid(1))


def test_of_two_runs_that_were_opened_the_second_cannot_be_charged(path):
    first, second = opened(path, window()), opened(path, window(), "two")
    first.charge(0, 0, rid(1))
    before = path.read_bytes()
    with pytest.raises(AlreadyReleased):
        second.require_budget(0)
    with pytest.raises(AlreadyReleased):
        second.charge(0, 0, rid(2))
    assert path.read_bytes() == before


def test_one_answer_may_take_several_rounds(path):
    ledger = opened(
        path, window(), plan=dataclasses.replace(COUNTS, rounds=3, max_participations=3)
    )
    for number in range(3):
        ledger.require_budget(number)
        ledger.charge(number, 0, rid(number))


def test_a_torn_charge_counts_as_a_release(path):
    opened(path, window())
    with path.open("ab") as file:
        file.write(b'{"kind": "char')
    hash_chain.forget_head(path)
    with pytest.raises(AlreadyReleased):
        opened(path, window(), "two")


def test_a_resumed_run_stays_that_of_its_window(path):
    asked = window()
    row = opened(path, asked).opened
    Ledger.resume(path, COUNTS, "one", "os", row, window=asked).charge(0, 0, rid(1))
    with pytest.raises(ValueError, match="another run"):
        Ledger.resume(path, COUNTS, "one", "os", row, window=window(7, 13))


def test_a_row_with_a_window_that_is_none_stops_everything(path):
    chain = hash_chain.HashChain(path, LedgerDamaged, "")
    row = json.loads(opened(path, window()).path.read_text())
    path.unlink()
    hash_chain.forget_head(path)
    kept = {k: v for k, v in row.items() if k not in ("sequence", "previous", "sha256")}
    with chain.locked() as file:
        list(chain.read(file, None))
        chain.append(file, kept | {"window": {"question": "a"}})
    with pytest.raises(LedgerDamaged, match="no row of a ledger"):
        opened(path, window(7, 13), "two")


def test_training_and_windows_are_composed_by_the_accountant(path):
    training = Ledger.open(path, TRAINING, "training", "os")
    for number in range(10):
        training.charge(number, 0, rid(number))
    week, next_week = opened(path, window()), opened(path, window(7, 13), "two")
    week.charge(0, 0, rid(20))
    next_week.charge(0, 0, rid(21))
    found = next_week.guarantee()
    events = [(TRAINING.cost, 10), (COUNTS.cost, 1), (COUNTS.cost, 1)]
    assert found.epsilon_release == adversary_views.release(events, COUNTS.delta).epsilon
    assert found.epsilon_server == adversary_views.server(events, COUNTS.delta).epsilon
    alone = [TRAINING.guarantee(10), COUNTS.guarantee(1)]
    assert found.epsilon_release > max(one.epsilon_release for one in alone)
    assert found.rounds == 12
    # The weaker of two relations is the one that holds for both.
    assert found.relation_release == "zero-out"


def test_a_question_asked_as_training_is_keeps_the_amplification_of_both():
    """The figures of docs/plan-files.md."""
    alike = dataclasses.replace(COUNTS, mechanism="distributed", participation="poisson")
    costs = {
        question: adversary_views.release([(TRAINING.cost, 10), (question.cost, 1)], 1 / 30_000)
        for question in (alike, COUNTS)
    }
    assert costs[alike].epsilon == pytest.approx(0.7835, abs=1e-3)
    assert costs[COUNTS].epsilon == pytest.approx(4.8113, abs=1e-3)
    assert [view.relation for view in costs.values()] == ["add/remove", "zero-out"]


def test_an_epsilon_above_what_is_left_is_refused_before_anybody_is_asked(path):
    opened(path, window()).charge(0, 0, rid(1))
    alone = COUNTS.guarantee(1).epsilon_release
    tight = dataclasses.replace(COUNTS, epsilon_budget=1.2 * alone)
    with pytest.raises(BudgetExhausted, match="above epsilon_budget"):
        Ledger.require_first_round(path, tight, window(7, 13))
    later = opened(path, window(7, 13), "two", plan=tight)
    with pytest.raises(BudgetExhausted, match="above epsilon_budget"):
        later.charge(0, 0, rid(2))
