"""Virtual time of a run: phones by hour, days until most of the gain, bytes of all phones."""

import dataclasses

import pytest
from tiny_job import make_job, with_plan

from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import TimeAxis
from simulations.results.rows import RoundTime
from simulations.run.left_by_shards import run_time


@pytest.fixture
def job(tmp_path):
    _, job, _ = make_job(tmp_path)
    rules = PhoneRules(consent_rate=0.5, revoked_a_day=0.01)
    job = with_plan(
        job, population=2000, participation_probability=0.1, availability=0.1, rounds=4,
        min_cohort=8, min_reporting=6, dropout_rate=0.3, delta=1e-5,
    )  # fmt: skip
    return dataclasses.replace(job, time=TimeAxis(seed=3, rules=rules))


def rows(example, job, accuracies):
    row = example.rows()[0]
    found = []
    for number, accuracy in enumerate(accuracies):
        time = RoundTime(called_h=job.time.called_h(number), called=90, joined=40, late=0,
                         trained=39, finished_s=920.0)  # fmt: skip
        of = row.simulation_only.model_copy(update={"time": time, "held_out_accuracy": accuracy})
        found.append(
            row.model_copy(update={"simulation_only": of, "bytes_up": 10, "bytes_down": 7})
        )
    return found


def test_days_to_converge_are_those_until_nine_tenths_of_the_best_gain(example, job):
    found = run_time(rows(example, job, [0.5, 0.58, 0.595, 0.6]), job)
    assert found.converged_days == pytest.approx(2 + 920 / 86_400)
    assert found.bytes_in_all == 4 * 40 * 17
    assert run_time(rows(example, job, [0.5, 0.4]), job).converged_days is None


def test_phones_by_hour_are_the_formula_and_the_consents_in_force(example, job):
    hours = run_time(rows(example, job, [0.5, 0.5, 0.5, 0.5]), job).hours
    assert len(hours) == 1 + 73  # three days and the last round, to the hour
    for one in hours[::13]:
        agreed = job.time.rules.consented(3, one.hour, range(2000)).sum()
        assert one.consented == agreed
        assert one.eligible == pytest.approx(2000 * job.time.days.share(one.hour))
        assert one.both == pytest.approx(one.eligible * agreed / 2000)
    assert hours[0].consented > hours[-1].consented


def test_a_run_of_two_months_shows_its_first_week(example, job):
    long = dataclasses.replace(job, time=dataclasses.replace(job.time, every_h=240.0))
    assert len(run_time(rows(example, long, [0.5, 0.5, 0.5]), long).hours) == 7 * 24 + 1
