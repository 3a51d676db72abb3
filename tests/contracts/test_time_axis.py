"""Rounds in virtual time: the same integers everywhere, and no more drop-outs than were priced."""

import dataclasses

import numpy as np
import pytest
from tiny_job import make_job, with_plan
from whole_runs import run_in_grid, run_reference

from fedspeech.cohorts import draw_cohort
from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import CHECK_IN_S, TimeAxis
from fedspeech.device.work_policy import WorkPolicy
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.protocol import Stage
from fedspeech.training.virtual_phones import VirtualPhones
from simulations.run.left_by_shards import round_time

AXIS = TimeAxis(seed=5, first_round_h=2.0, every_h=24.0, deadline_s=2.4)


def in_time(folder, axis=AXIS, **plan):
    """A job of 2,000 phones on a time axis."""
    path, job, _ = make_job(folder)
    settings = {
        "population": 2000, "participation_probability": 0.1, "availability": 0.39, "rounds": 2,
        "min_cohort": 40, "min_reporting": 30, "dropout_rate": 0.3, "delta": 1 / 20_000,
    }  # fmt: skip
    job = dataclasses.replace(
        with_plan(job, **settings | plan),
        virtual_phones=VirtualPhones(seed=5, share=0.5),
        time=axis,
        simulation_only=str(folder / "simulation_only"),
    )
    job.save(path)
    return path, job, job.load_arrays()


@pytest.mark.parametrize("sums", ["ideal", pytest.param("masked", marks=pytest.mark.slow)])
def test_reference_and_messages_agree_on_who_is_there_and_who_is_late(tmp_path, sums):
    axis = AXIS if sums == "ideal" else dataclasses.replace(AXIS, deadline_s=4.0)
    path, job, arrays = in_time(tmp_path, axis, secure_aggregation=sums)
    totals, _ = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, _ = run_in_grid(path, job, arrays, tmp_path / "l.jsonl")
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    found = round_time(job, records[1])
    assert found.called_h == 26.0
    assert found.joined == records[1].cohort < 0.6 * found.called  # four in ten are there
    assert 0 < found.late <= found.joined - records[1].reporting
    assert found.enough_s < found.finished_s == CHECK_IN_S + axis.deadline_s


def test_reference_and_messages_agree_on_who_consented_and_what_is_held(tmp_path):
    """And clips that have expired change the sum, while who may be asked does not."""
    rules = PhoneRules(consent_rate=0.7, revoked_a_day=0.1, captures_a_day=0.4, clip_days=2.0)
    axis, availability = dataclasses.replace(AXIS, rules=rules), 0.25
    path, job, arrays = in_time(tmp_path, axis, availability=availability, min_cohort=20,
                                min_reporting=15)  # fmt: skip
    totals, _ = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, _ = run_in_grid(path, job, arrays, tmp_path / "l.jsonl")
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    for number, record in enumerate(records):
        called = draw_cohort(job, job.round_key(number))
        agreed = rules.consented(5, axis.called_h(number), called)
        may = axis.rules.policy.allows(axis.days.conditions(axis.called_h(number), called))
        assert record.cohort <= (agreed & may).sum() < may.sum()
    held = [len(job.as_of(arrays, 0).phone(p)) for p in range(9)]
    assert sum(held) < sum(len(arrays.phone(p)) for p in range(9))
    kept = dataclasses.replace(rules, captures_a_day=None)
    whole = dataclasses.replace(job, time=dataclasses.replace(axis, rules=kept), repeats=job.run_id)
    other, _ = run_reference(whole, arrays, tmp_path / "whole.jsonl")
    assert not np.array_equal(other[0], totals[0])


def test_a_run_in_which_minutes_could_end_is_refused(tmp_path):
    rules = PhoneRules(policy=WorkPolicy(minutes_a_day=0.02))
    with pytest.raises(ValueError, match=r"minutes_a_day=0\.02 could end .* every 24 hours works"):
        in_time(tmp_path, dataclasses.replace(AXIS, rules=rules))


@pytest.mark.slow
def test_drop_outs_are_those_that_the_plan_prices(tmp_path):
    """Of those there: five standard deviations of 1,500 phones, a false alarm in 10^6 a stage."""
    _, job, _ = in_time(tmp_path)
    late = AXIS.share_late(job.work)
    assert 0.02 < late < 0.3
    there = [phone for phone in range(4_500) if AXIS.available(0, phone)][:1500]
    stages = np.array([job.last_stage(0, phone) for phone in there])
    for stage in (Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.AGREE, Stage.UNMASK):
        least = share_answering(job.plan.dropout_rate, stage)
        slack = 5 * np.sqrt(least * (1 - least) / len(there))
        assert (stages >= stage).mean() > least - slack
    assert (stages >= Stage.MASK).mean() < share_answering(0.3, Stage.MASK) + slack


@pytest.mark.parametrize(
    ("axis", "plan", "words"),
    [
        (AXIS, {"availability": 0.41}, r"40\.3% of the phones are there, .*availability=0\.41"),
        (AXIS, {"dropout_rate": 0.01}, r"deadline_s=2\.4 drops .* assumes dropout_rate=0\.01"),
        (dataclasses.replace(AXIS, every_h=1.0), {"rounds": 15}, r"9\.9% of the phones"),
    ],
)
def test_a_trace_that_takes_more_phones_than_the_plan_assumes_is_refused(
    tmp_path, axis, plan, words
):
    with pytest.raises(ValueError, match=words):
        in_time(tmp_path, axis, **plan)


def test_a_job_in_time_survives_a_round_trip_and_draws_noise_of_its_own(tmp_path):
    path, job, _ = in_time(tmp_path)
    assert Job.load(path) == job
    assert dataclasses.replace(job, time=None).run_id != job.run_id
    slow = dataclasses.replace(job, time=dataclasses.replace(AXIS, deadline_s=4.0))
    masked = with_plan(slow, secure_aggregation="masked")
    assert masked.run_id != slow.run_id  # other phones are late: the sums would differ by them
    path.write_text(path.read_text().replace('"every_h": 24.0', '"every_h": 0.1'))
    with pytest.raises(ScenarioError, match="no usable job"):
        Job.load(path)
