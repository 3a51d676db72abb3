"""Figures by name are what a census of the simulated phones says."""

import functools

import numpy as np
import pytest
from counting import Release, plan_for

from fedspeech.device.simulated_user import SimulatedUsers
from fedspeech.device.telemetry import telemetry_schema
from fedspeech.device.user_rates import UserRates
from fedspeech.queries.axes import Axis, Condition
from fedspeech.queries.named_metrics import COMMANDS, HOURS, INVOCATIONS, NAMED
from fedspeech.queries.query import open_query
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset

SCHEMA = telemetry_schema(("yes", "no", "stop"))
ACCENTS = Axis.of(SCHEMA, "accent", leave_out=("unstated", "other"))
PHONES = 250
ALL = 400  # events of a phone and cell, all of which count: no phone has more


@functools.cache
def phones():
    rng = stream(5, "named metrics")
    attributes = np.zeros((PHONES, len(SCHEMA.attributes)), dtype=np.int16)
    attributes[:, SCHEMA.place("accent")] = rng.integers(1, 6, PHONES)
    attributes[:, SCHEMA.place("device")] = rng.integers(1, 6, PHONES)
    rates = UserRates(days=7, false_accepts_per_day=1.0)
    found = SimulatedUsers(SCHEMA, attributes, rates, 1).events()
    nothing = np.zeros((0, 1), np.float32), np.zeros(0, np.int64)
    return [
        LocalDataset(*nothing, events=found.events[first:last], attributes=attributes[phone])
        for phone, (first, last) in enumerate(zip(found.offsets, found.offsets[1:], strict=False))
    ]


def census(query):
    """The estimates of a query where everybody answers and nobody adds noise."""
    rngs = [stream(1, "kept", phone) for phone in range(PHONES)]
    state = query.initial(None)
    for _ in range(query.rounds):
        sums = query.contributions(phones(), state.parameters.astype(np.float32), rngs)
        state = query.update(state, np.sum(sums, axis=0, dtype=np.float64) / PHONES)
    # A plan with next to no noise: of counts that noise could explain, nothing would be said.
    return query.estimates(
        state, plan_for(query, population=PHONES, noise_multiplier=0.01, mechanism="central")
    )


def events_of(accent=None):
    code = None if accent is None else SCHEMA.code("accent", accent)
    place = SCHEMA.place("accent")
    return np.concatenate(
        [phone.events for phone in phones() if code is None or phone.attributes[place] == code]
    )


def count(events, names):
    codes = [SCHEMA.code("event", name) for name in names]
    return int(np.isin(events[:, SCHEMA.place("event")], codes).sum())


@pytest.mark.parametrize(
    ("name", "numerator", "denominator"),
    [
        ("false_rejects_per_1000", ("likely_false_reject",), INVOCATIONS),
        ("command_success_rate", ("command_success",), COMMANDS),
        ("correction_rate", ("correction",), COMMANDS),
    ],
)
def test_a_share_by_accent_is_that_of_a_census(name, numerator, denominator):
    query = NAMED[name](SCHEMA, last_day=6, segments=(ACCENTS,), max_per_cell=ALL)
    found = census(query)
    assert [estimate.segment for estimate in found] == [(accent,) for accent in ACCENTS.names]
    for estimate in found:
        events = events_of(*estimate.segment)
        true = count(events, numerator) / count(events, denominator)
        assert estimate.value == pytest.approx(true, rel=1e-5)


def test_false_accepts_are_per_hour_of_the_middle_of_each_bucket_of_listening():
    (found,) = census(NAMED["false_accepts_per_hour"](SCHEMA, last_day=6, max_per_cell=60))
    events = events_of()
    assert tuple(HOURS) == SCHEMA.column("listening").buckets
    assert list(HOURS.values()) == [3, 9, 15, 21]
    listening = events[:, SCHEMA.place("listening")]
    names = SCHEMA.names("listening")
    hours = sum(HOURS[name] * (listening == code).sum() for code, name in enumerate(names) if code)
    assert found.value == pytest.approx(count(events, ("canceled_false_accept",)) / hours, rel=1e-5)
    # The middle of a bucket stands for its hours: within 3 % of the 0.8 / 24 of the rates.
    assert found.value == pytest.approx(0.8 * 1.0 / 24, rel=0.1)


def test_one_event_of_each_phone_says_nearly_the_same():
    (one,) = census(NAMED["command_success_rate"](SCHEMA, last_day=6))
    (every,) = census(NAMED["command_success_rate"](SCHEMA, last_day=6, max_per_cell=ALL))
    # Four standard deviations of a share of as many events.
    assert abs(one.value - every.value) < 4 * np.sqrt(0.2 * 0.8 / PHONES)


@pytest.mark.parametrize(
    ("name", "column", "numbers"),
    [
        ("score_quantiles", "score_bucket", 0.05 + 0.1 * np.arange(10)),
        ("snr_quantiles", "snr_bucket", -2.5 + 5 * np.arange(8)),
    ],
)
def test_quantiles_are_those_of_words_that_users_meant(name, column, numbers):
    found = census(NAMED[name](SCHEMA, last_day=6, max_per_cell=ALL))
    events = events_of()
    codes = [SCHEMA.code("event", name) for name in INVOCATIONS]
    spoken = events[np.isin(events[:, SCHEMA.place("event")], codes)]
    measured = np.sort(numbers[spoken[:, SCHEMA.place(column)] - 1])
    for estimate in found:
        share = float(estimate.cell[0])
        true = measured[int(np.ceil(share * len(measured))) - 1]
        assert estimate.value == pytest.approx(true)


def test_confusions_are_counted_where_the_phone_knows_what_was_meant():
    found = {one.cell: one.value for one in census(
        NAMED["intent_confusion"](SCHEMA, last_day=6, max_cells=9, max_per_cell=ALL)
    )}  # fmt: skip
    events = events_of()
    known = events[events[:, SCHEMA.place("word_or_intent")] > 0]
    known = known[known[:, SCHEMA.place("answered")] > 0]
    assert sum(found.values()) == pytest.approx(len(known), rel=1e-5)
    said, answered = (known[:, SCHEMA.place(name)] for name in ("word_or_intent", "answered"))
    assert found["yes", "no"] == pytest.approx(((said == 1) & (answered == 2)).sum(), abs=0.01)


def test_a_figure_is_asked_by_environment_and_under_a_condition():
    environment = Axis.of(SCHEMA, "environment")
    evening = Condition.of(SCHEMA, "day_part", ("evening",))
    query = NAMED["false_rejects_per_1000"](
        SCHEMA, last_day=6, axes=(environment,), where=(evening,), max_cells=7, max_per_cell=ALL
    )
    events = events_of()
    quiet = events[
        (events[:, SCHEMA.place("environment")] == SCHEMA.code("environment", "quiet"))
        & (events[:, SCHEMA.place("day_part")] == SCHEMA.code("day_part", "evening"))
    ]
    found = next(one for one in census(query) if one.cell == ("quiet",))
    true = count(quiet, ("likely_false_reject",)) / count(quiet, INVOCATIONS)
    assert found.value == pytest.approx(true, rel=1e-5)


@pytest.mark.parametrize("name", NAMED)
def test_a_job_file_holds_every_figure(name):
    query = NAMED[name](SCHEMA, last_day=6, segments=(ACCENTS,))
    assert open_query(query.described()) == query


@pytest.mark.parametrize("name", [name for name in NAMED if "_per_" in name])
def test_a_noisy_release_is_near_the_census(name):
    """Within three widths of the interval: false alarm below 1e-8 for each of two figures."""
    query = NAMED[name](SCHEMA, last_day=6)
    (true,) = census(query)
    state = Release(query, plan_for(query, population=PHONES), phones()).run(3)
    (found,) = query.estimates(state, plan_for(query, population=PHONES))
    assert found.value != true.value
    width = found.high - found.low
    assert found.low - width < true.value < found.high + width
