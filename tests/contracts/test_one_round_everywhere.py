"""The reference round and the Flower app agree bit for bit on the integers of every sum."""

import dataclasses
import json

import numpy as np
import pytest
from counting import axis
from tiny_job import PHONES, make_arrays, make_job
from whole_runs import run_in_grid, run_reference

from fedspeech.aggregation.robust import Defense
from fedspeech.errors import CohortTooSmall, ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.ledger import Ledger
from fedspeech.queries.histogram import Histogram
from fedspeech.round import run_round


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_reference_round_and_in_process_grid_give_the_same_integers(tmp_path, workers):
    path, job, arrays = make_job(tmp_path, num_shards=3)
    totals, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, grid_state = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl", workers)
    assert [record.status for record in records] == ["completed"] * 3
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    np.testing.assert_array_equal(grid_state.model, state.model)
    assert (grid_state.model != arrays.initial).any()


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


ADAPTIVE = AdaptiveClipping(
    target_quantile=0.3, bit_noise=0.5, min_clip_norm=0.01, max_clip_norm=4.0
)
CORRELATED = {
    "participation": "round_robin",
    "factorization": Factorization(min_separation=2, bands=2, momentum=0.5),
}
WAYS = [
    ("skellam", {"participation": "fixed_size"}),
    slow("central", {"cohort_cap": 32}),
    slow(
        "local",
        {"participation": "round_robin", "max_participations": 1, "participation_window": 2},
    ),
    ("distributed", {"adaptive_clipping": ADAPTIVE, "secure_aggregation": "masked"}),
    slow("central", {"participation": "round_robin", "adaptive_clipping": ADAPTIVE}),
    slow("skellam", {"participation": "round_robin", "secure_aggregation": "masked"}),
    ("matrix_factorization", CORRELATED | {"secure_aggregation": "masked"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "changes"), WAYS, ids=lambda way: str(way)[:24])
def test_every_mechanism_gives_the_same_bits_in_the_round_and_in_the_grid(
    tmp_path, mechanism, changes
):
    path, job, arrays = make_job(tmp_path, mechanism=mechanism, **changes)
    totals, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, grid_state = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl")
    assert [record.status for record in records] == ["completed"] * 3
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
        assert record.cohort <= (job.plan.cohort_cap or PHONES)
        assert job.plan.participation == "poisson" or record.cohort == 30
    np.testing.assert_array_equal(grid_state.model, state.model)
    assert grid_state.clip_norm == state.clip_norm
    assert (state.clip_norm != 0.2) == ("adaptive_clipping" in changes)
    moved = [record.clip_norm for record in records]
    assert moved[0] == 0.2
    assert len(set(moved)) == (3 if "adaptive_clipping" in changes else 1)
    reference, grid = (tmp_path / f"{name}.jsonl" for name in ("reference", "grid"))
    assert reference.read_bytes() == grid.read_bytes()


GROUPED = {"groups": 3, "min_cohort": 4, "min_reporting": 3, "dropout_rate": 0.05}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        slow({"mechanism": "central"}),
        slow({"participation": "fixed_size"}),
        slow({"participation": "round_robin"}),
    ],
)
def test_sums_of_groups_are_the_same_integers_in_the_round_and_in_the_grid(tmp_path, changes):
    path, job, arrays = make_job(tmp_path, rounds=2, **GROUPED, **changes)
    job = dataclasses.replace(job, defense=Defense(rule="median", max_loss_rise=0.5))
    job.save(path)
    totals, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, grid_state = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl")
    assert [record.status for record in records] == ["completed"] * 2
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    np.testing.assert_array_equal(grid_state.model, state.model)
    assert grid_state.public_losses == state.public_losses
    reference, grid = (tmp_path / f"{name}.jsonl" for name in ("reference", "grid"))
    assert reference.read_bytes() == grid.read_bytes()


def test_masked_sums_of_groups_are_refused_over_messages(tmp_path):
    path, job, arrays = make_job(tmp_path, secure_aggregation="masked", **GROUPED)
    with pytest.raises(ScenarioError, match="over messages a round is one masked session"):
        run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_training_that_hides_clips_gives_the_same_bits_in_the_round_and_in_the_grid(
    tmp_path, workers
):
    """Of 60 phones some have no clip; order, shards and workers move no coin and no noise."""
    path, job, arrays = make_job(tmp_path, rounds=2, secure_aggregation="masked")
    plain = job.run_id
    privacy = ExamplePrivacy(noise_multiplier=0.7, clip_norm=0.5, delta=1e-4)
    query = dataclasses.replace(job.query, example_privacy=privacy)
    job = dataclasses.replace(job, query=query)
    job.save(path)
    assert Job.load(path) == job
    assert job.run_id != plain
    totals, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, grid_state = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl", workers)
    assert [record.reason for record in records] == [""] * 2
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    np.testing.assert_array_equal(grid_state.model, state.model)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ideal", "masked"])
def test_sums_and_ledger_do_not_depend_on_the_number_of_shards(tmp_path, way):
    """A deployment on four nodes gives the bits of a simulation in two shards, noise included."""
    sums, ledgers = [], []
    for shards in (1, 2, 4):
        folder = tmp_path / str(shards)
        folder.mkdir()
        path, job, arrays = make_job(
            folder, num_shards=shards, secure_aggregation=way, dropout_rate=0.05
        )
        records, _ = run_in_grid(path, job, arrays, folder / "ledger.jsonl")
        sums.append([record.total for record in records])
        ledgers.append((folder / "ledger.jsonl").read_bytes())
    np.testing.assert_array_equal(sums, [sums[0]] * 3)
    assert ledgers == [ledgers[0]] * 3


@pytest.mark.slow
def test_the_same_job_twice_is_the_same_ledger_and_adapter(tmp_path):
    path, job, arrays = make_job(tmp_path)
    first = run_in_grid(path, job, arrays, tmp_path / "a.jsonl")
    second = run_in_grid(path, job, arrays, tmp_path / "b.jsonl")
    np.testing.assert_array_equal(first[1].model, second[1].model)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def counted(phones):
    """Phones with 0 to 4 events each, in three cells, and one of two device classes."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(0, 5, phones)
    events = np.zeros((sizes.sum(), 2), np.int16)
    events[:, 1] = rng.integers(0, 3, len(events))
    return dataclasses.replace(
        make_arrays(phones=phones),
        events=events,
        event_offsets=np.concatenate([[0], np.cumsum(sizes)]),
        attributes=(np.arange(phones) % 2).astype(np.int16)[:, np.newaxis],
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ideal", "masked"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_release_of_counts_is_the_same_integers_on_every_number_of_shards(tmp_path, way, whole):
    """Events reach nodes with the arrays; what a phone keeps of them is drawn there alike."""
    query = Histogram(
        axes=(axis("cell", 1, 3),), segments=(axis("device", 0, 2),), max_cells=2, max_per_cell=2
    )
    plan = {
        "query": query, "clip_norm": query.l2_bound, "rounds": 1, "max_participations": 1,
        "secure_aggregation": way, "whole": whole,
    }  # fmt: skip
    sums = []
    for shards in (1, 3):
        folder = tmp_path / str(shards)
        folder.mkdir()
        path, job, arrays = make_job(folder, num_shards=shards, arrays=counted(PHONES), **plan)
        assert Job.load(path) == job
        records, _ = run_in_grid(path, job, arrays, folder / "ledger.jsonl")
        sums.append(records[0].total)
    totals, state = run_reference(job, job.load_arrays(), tmp_path / "reference.jsonl")
    np.testing.assert_array_equal(sums, [totals[0]] * 2)
    assert len(query.estimates(state.query, job.plan)) == 6


def test_os_noise_differs_every_time(tmp_path):
    path, job, arrays = make_job(
        tmp_path, noise_entropy="os", participation_probability=1.0, rounds=1
    )
    first, _ = run_in_grid(path, job, arrays, tmp_path / "a.jsonl")
    second, _ = run_in_grid(path, job, arrays, tmp_path / "b.jsonl")
    assert (first[0].total != second[0].total).any()


def test_the_budget_stops_the_run_before_anybody_is_asked(tmp_path):
    path, job, arrays = make_job(tmp_path)
    budget = (job.plan.guarantee(1).epsilon_release + job.plan.guarantee(2).epsilon_release) / 2
    path, job, arrays = make_job(tmp_path, epsilon_budget=budget)
    records, state = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    assert [record.status for record in records] == ["completed", "refused"]
    assert records[1].cohort is None
    assert state.completed == 1
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["opened", "charge", "outcome"]


@pytest.mark.slow
def test_a_cohort_below_the_minimum_is_abandoned_uncharged_and_never_drawn_again(tmp_path):
    path, job, arrays = make_job(
        tmp_path, participation_probability=0.05, min_cohort=2, min_reporting=2, rounds=16,
        noise_multiplier=8.0, max_participations=16,
    )  # fmt: skip
    records, _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    empty = [record for record in records if record.cohort < 2]
    assert empty
    assert all(record.status == "abandoned" for record in empty)
    assert len(records) == 16
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "charge" for row in rows) == 16 - len(empty)


def test_too_few_reporting_abandon_the_round_and_it_stays_charged(tmp_path):
    path, job, arrays = make_job(tmp_path, dropout_rate=0.9, rounds=2, min_cohort=8)
    records, state = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    assert [record.status for record in records] == ["abandoned"] * 2
    assert state.completed == 0
    assert "reported" in records[0].reason
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["opened", "charge", "outcome", "charge", "outcome"]
    assert not rows[2]["completed"]
    ledger = Ledger.open(tmp_path / "reference.jsonl", job.plan, job.run_id, job.noise_entropy)
    for number in range(2):  # the reference round settles what it charged, in the same words
        with pytest.raises(CohortTooSmall, match="reported"):
            run_round(job.query, state, job, arrays, ledger, number)
    assert (tmp_path / "reference.jsonl").read_bytes() == (tmp_path / "ledger.jsonl").read_bytes()


def test_a_participation_limit_keeps_a_phone_out_once_it_is_used_up(tmp_path):
    path, job, arrays = make_job(
        tmp_path,
        participation_probability=1.0,
        max_participations=2,
        rounds=3,
        min_cohort=40,
        min_reporting=40,
    )
    records, _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    assert [record.cohort for record in records] == [PHONES, PHONES, 0]


@pytest.mark.slow
@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.15])
def test_masked_and_ideal_give_the_same_integers_in_the_round_and_in_the_grid(
    tmp_path, threat_model, dropout_rate
):
    """60 phones: everybody is everybody's neighbor. Drop-outs at every stage."""
    plan = {"dropout_rate": dropout_rate, "participation_probability": 0.8, "min_cohort": 20}
    found = {}
    for way in ("ideal", "masked"):
        (tmp_path / way).mkdir()
        path, job, arrays = make_job(
            tmp_path / way, secure_aggregation=way, threat_model=threat_model, **plan
        )
        totals, reference = run_reference(job, arrays, tmp_path / way / "reference.jsonl")
        records, state = run_in_grid(path, job, arrays, tmp_path / way / "grid.jsonl")
        assert [record.reason for record in records] == [""] * 3
        for record, total in zip(records, totals, strict=True):
            np.testing.assert_array_equal(record.total, total)
        np.testing.assert_array_equal(state.model, reference.model)
        found[way] = (totals, [record.reporting for record in records])
    np.testing.assert_array_equal(found["ideal"][0], found["masked"][0])
    assert found["ideal"][1] == found["masked"][1]
    if dropout_rate:
        assert sum(r.cohort - r.reporting for r in records) > 3
