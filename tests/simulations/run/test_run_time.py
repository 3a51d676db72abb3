"""Virtual time of a run: phones by hour, days until most of the gain, bytes of all phones."""

import dataclasses
from types import SimpleNamespace

import pytest
from tiny_job import make_job, with_plan

from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import TimeAxis
from simulations.report.by_round import virtual_time
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


def test_the_picture_by_hour_shows_the_rows_and_joins_no_rounds(example, job):
    """Every number of the lines and of the table behind them is one of the run's own."""
    ran = rows(example, job, [0.5, 0.5, 0.5, 0.5])
    found = run_time(ran, job)
    results = SimpleNamespace(rows=ran, summary=SimpleNamespace(time=found))
    figure = next(one for one in virtual_time(results) if one.key == "phones-by-hour")
    assert figure.header == ("day", "eligible", "consented", "both", "trained")
    drawn = {trace["name"]: trace for trace in figure.traces}
    for name in ("eligible", "consented", "both"):
        expected = [round(getattr(one, name)) for one in found.hours]
        assert list(drawn[name]["y"]) == expected
        assert [row[figure.header.index(name)] for row in figure.table] == list(map(str, expected))
    first = found.hours[0].hour
    called = {round(row.simulation_only.time.called_h - first): 39 for row in ran}
    assert dict(enumerate(drawn["trained"]["y"])) == {
        place: called.get(place) for place in range(len(found.hours))
    }
    assert len(called) == 4
    assert drawn["trained"]["mode"] == "markers"
