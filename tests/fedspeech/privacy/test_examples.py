"""DP-SGD on examples: an event of its own in the ledger, never added to what phones spend."""

import json
import math

import dp_accounting
import dp_accounting.rdp
import pytest

from fedspeech.errors import LedgerDamaged
from fedspeech.hash_chain import forget_head
from fedspeech.privacy.events import DiscreteGaussianSum, Gaussian, PoissonSampled, to_record
from fedspeech.privacy.examples import ExampleCost, ExampleGuarantee, price
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import example_paragraph
from fedspeech.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=16, min_cohort=225,
    min_reporting=225,
    delta=1 / 30_000, epsilon_budget=50.0,
)  # fmt: skip
COST = ExampleCost(
    event=PoissonSampled(probability=0.25, event=Gaussian(noise_multiplier=1.5)),
    steps=8, max_participations=16, clip_norm=1.0, delta=1e-5,
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def opened(path, run_id="a run", cost=COST, rounds=2):
    ledger = Ledger.open(path, PLAN, run_id, "seeded", example_cost=cost)
    for number in range(rounds):
        charge = ledger.charge(number, 0, bytes([number]) * 8 + run_id.encode().rjust(8))
        ledger.outcome(charge, completed=True)
    return ledger


@pytest.mark.slow
def test_the_price_is_the_librarys_for_all_rounds_that_a_phone_may_join():
    gaussian = dp_accounting.GaussianDpEvent(1.5)
    sampled = dp_accounting.PoissonSampledDpEvent(0.25, gaussian)
    library = dp_accounting.rdp.RdpAccountant().compose(sampled, 8 * 16)
    found = price([COST])
    assert found.epsilon == pytest.approx(library.get_epsilon(1e-5), rel=1e-9)
    assert (found.steps, found.participations, found.unit) == (128, 16, "example")


def test_records_survive_json_and_an_unknown_event_is_refused():
    record = json.loads(json.dumps(COST.to_record()))
    assert ExampleCost.from_record(record) == COST
    found = price([COST])
    assert ExampleGuarantee.from_record(json.loads(json.dumps(found.to_record()))) == found
    other = DiscreteGaussianSum(sensitivity=1.0, stddev=2.0, shares=9, dimension=4)
    for wrong in (
        {**record, "event": {"kind": "Oracle"}},
        {**record, "event": to_record(other)},
        {**record, "event": to_record(PoissonSampled(probability=0.1, event=other))},
        {**record, "more": 1},
        {"event": record["event"]},
        {},
    ):
        with pytest.raises(ValueError, match=r"unknown event|does not fit|Poisson-sampled Gauss"):
            ExampleCost.from_record(wrong)


def test_examples_stand_apart_from_what_phones_have_spent(path, tmp_path):
    ledger, plain = opened(path), opened(tmp_path / "plain.jsonl", cost=None)
    assert ledger.guarantee() == plain.guarantee()
    assert ledger.example_guarantee() == price([COST])
    assert plain.example_guarantee() is None
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [("examples" in row) for row in rows] == [True, False, False, False, False]
    assert "examples" not in (tmp_path / "plain.jsonl").read_text()


def test_every_run_that_hid_examples_counts_and_none_that_did_not(path):
    opened(path)
    opened(path, "plain", None)
    opened(path, "never charged", rounds=0)
    last = opened(path, "the last")
    both = price([COST, COST])
    assert last.example_guarantee() == both
    assert both.epsilon > price([COST]).epsilon
    assert (both.steps, both.runs) == (256, 2)
    assert "all 2 runs that trained so" in example_paragraph(both)
    assert Ledger.inspect(path, "plain").example_guarantee() == both
    asking = Ledger.open(path, PLAN, "another", "seeded", example_cost=COST)
    assert asking.example_guarantee() == price([COST] * 3), "before it is charged"


@pytest.mark.slow
def test_whoever_reads_ledgers_reads_one_with_examples(path):
    ledger = opened(path)
    Ledger.require_first_round(path, PLAN)
    assert Ledger.inspect(path).runs[0].charged == 2
    again = Ledger.resume(path, PLAN, "a run", "seeded", ledger.opened, COST)
    assert again.example_guarantee() == ledger.example_guarantee()
    with pytest.raises(ValueError, match="opened another run or plan"):
        Ledger.resume(path, PLAN, "a run", "seeded", ledger.opened, None)
    fresh = Ledger.resume(path, PLAN, "killed before its first row", "seeded", None, COST)
    assert fresh.example_guarantee() == price([COST, COST])


def test_an_unknown_event_of_examples_is_damage(path, monkeypatch):
    unknown = {**COST.to_record(), "event": {"kind": "Oracle"}}
    monkeypatch.setattr(ExampleCost, "to_record", lambda self: unknown)
    with pytest.raises(LedgerDamaged, match="unknown event of kind 'Oracle'"):
        opened(path)
    forget_head(path)
    with pytest.raises(LedgerDamaged, match="unknown event of kind 'Oracle'"):
        Ledger.inspect(path)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_no_bound_is_said_and_not_left_out():
    nothing = ExampleCost(
        event=PoissonSampled(probability=1.0, event=Gaussian(noise_multiplier=1e-200)),
        steps=1, max_participations=1, clip_norm=1.0, delta=1e-5,
    )  # fmt: skip
    found = price([nothing])
    assert math.isinf(found.epsilon)
    assert "epsilon = infinite" in example_paragraph(found)
    assert ExampleGuarantee.from_record(found.to_record()) == found
