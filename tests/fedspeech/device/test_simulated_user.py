"""Simulated users: their events follow the rates, are of the schema, and repeat from the seed."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from fedspeech.device import simulated_user
from fedspeech.device.simulated_user import SimulatedUsers
from fedspeech.device.telemetry import telemetry_schema
from fedspeech.device.user_rates import Jingle, ThresholdChange, UserRates
from fedspeech.errors import ScenarioError

SCHEMA = telemetry_schema(("yes", "no", "stop"))
FALSE_ALARM = 1e-6
JINGLE = Jingle(per_day=2.0, first_day=1)


def phones(number, **stated):
    return np.tile(SCHEMA.encode_attributes(stated), (number, 1))


def simulated(rates, attributes=None, seed=1):
    if attributes is None:
        attributes = np.concatenate(
            [phones(60, device="handset", accent="plain"), phones(60, device="speakerphone")]
        )
    return SimulatedUsers(SCHEMA, attributes, rates, seed).events()


def column(events, name):
    return events[:, SCHEMA.place(name)]


def of(events, **wanted):
    """Which events have these values."""
    masks = [column(events, name) == SCHEMA.code(name, value) for name, value in wanted.items()]
    return np.logical_and.reduce(masks)


def poisson_agrees(count, expected):
    return (
        stats.poisson.cdf(count, expected) > FALSE_ALARM / 2
        and (stats.poisson.sf(count - 1, expected)) > FALSE_ALARM / 2
    )


def test_events_are_of_the_schema_and_in_the_order_of_time():
    found = simulated(UserRates(days=3, jingle=JINGLE))
    SCHEMA.check(found.events)
    assert found.offsets.tolist() == sorted(found.offsets)
    assert found.offsets[-1] == len(found.events)
    time = 4 * column(found.events, "day").astype(int) + column(found.events, "day_part")
    for first, last in zip(found.offsets, found.offsets[1:], strict=False):
        assert (np.diff(time[first:last]) >= 0).all()
    listening = of(found.events, event="listening")
    assert listening.sum() == 3 * 120
    assert (column(found.events, "listening")[listening] > 0).all()
    assert not column(found.events, "listening")[~listening].any()


def test_the_same_seed_gives_the_same_events_and_another_seed_others():
    one, same, other = (simulated(UserRates(days=2), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.events, same.events)
    assert one.events.shape != other.events.shape or (one.events != other.events).any()


def test_more_phones_change_no_event_of_the_blocks_before(monkeypatch):
    monkeypatch.setattr(simulated_user, "_BLOCK", 40)
    few = simulated(UserRates(days=2), phones(40))
    many = simulated(UserRates(days=2), phones(100))
    assert np.array_equal(few.events, many.events[: len(few.events)])
    assert len(many.offsets) == 101


def test_a_jingle_changes_nothing_but_what_it_wakes():
    """Events of all others stay bit for bit: only rows of television in the evening are added."""
    without, with_it = (simulated(UserRates(days=4, jingle=one)).events for one in (None, JINGLE))
    whole = [np.unique(events, axis=0, return_counts=True) for events in (without, with_it)]
    before = {tuple(row): n for row, n in zip(*whole[0], strict=True)}
    added = [row for row, n in zip(*whole[1], strict=True) if n > before.pop(tuple(row), 0)]
    assert not before
    rows = np.array(added, dtype=np.int16)
    assert of(rows, day_part="evening", environment="television_or_music").all()
    assert (column(rows, "day") >= 1).all()


def test_interactions_false_accepts_and_hours_follow_their_rates():
    rates = UserRates(days=7, false_accepts_per_day=1.0)
    found = simulated(rates, phones(2_000))
    spoken, rejected, mistaken, hours = found.truth.sum(axis=0, dtype=np.float64)
    # Users differ by a gamma distribution of shape 2, on which the counts of 2,000 users stand.
    spread = np.sqrt(2_000 * (7 * 2.0 + 49 * 2.0))
    assert abs(spoken - 2_000 * 7 * 2.0) < 6 * spread
    assert poisson_agrees(mistaken, hours / 24)
    canceled = of(found.events, event="canceled_false_accept").sum()
    assert stats.binomtest(int(canceled), int(mistaken), 0.8).pvalue > FALSE_ALARM
    retried = of(found.events, event="likely_false_reject").sum()
    assert stats.binomtest(int(retried), int(rejected), 0.8).pvalue > FALSE_ALARM


def test_a_score_decides_and_a_higher_threshold_trades_false_accepts_for_false_rejects():
    low, high = (
        simulated(UserRates(threshold=threshold, false_accepts_per_day=2.0), phones(500)).truth
        for threshold in (0.5, 0.8)
    )
    rates = [truth.sum(axis=0, dtype=np.float64) for truth in (low, high)]
    assert rates[1][1] / rates[1][0] > 1.5 * rates[0][1] / rates[0][0]
    # exp(-logit(0.8) / 0.8) of the false accepts are left.
    assert poisson_agrees(rates[1][2], 2.0 / 24 * rates[1][3] * np.exp(-np.log(4) / 0.8))


def test_accepted_scores_are_above_the_threshold_and_rejected_ones_below():
    events = simulated(UserRates(threshold=0.6)).events
    score = column(events, "score_bucket")
    rejected = of(events, event="likely_false_reject")
    assert (score[rejected] <= 6).all()
    assert (score[~rejected & ~of(events, event="listening")] >= 7).all()


def test_accents_and_noise_are_rejected_more_often():
    rejected = {}
    for name, stated in {
        "plain": {"accent": "plain", "noise": "quiet"},
        "fronted": {"accent": "fronted", "noise": "quiet"},
        "noisy": {"accent": "plain", "noise": "noisy"},
    }.items():
        truth = simulated(UserRates(), phones(1_000, **stated)).truth.sum(axis=0)
        rejected[name] = truth[1] / truth[0]
    assert rejected["fronted"] > 1.5 * rejected["plain"]
    assert rejected["noisy"] > 1.5 * rejected["plain"]


def test_a_phone_knows_what_was_meant_only_where_its_user_showed_it():
    events = simulated(UserRates(wrong_share=0.5)).events
    meant, answered = column(events, "word_or_intent"), column(events, "answered")
    success, correction = of(events, event="command_success"), of(events, event="correction")
    assert (meant[success] == answered[success]).all()
    assert (meant[success] > 0).all()
    assert correction.any()
    assert (meant[correction] != answered[correction]).all()
    assert (np.minimum(meant, answered)[correction] > 0).all()
    for name in ("wake_trigger", "canceled_false_accept", "command_failure"):
        assert not meant[of(events, event=name)].any()


def test_a_product_of_one_word_has_no_corrections():
    schema = telemetry_schema(("computer",))
    events = SimulatedUsers(schema, phones(200), UserRates(wrong_share=0.5), 1).events().events
    schema.check(events)
    assert not of(events, event="correction").any()
    assert of(events, event="command_failure").any()


def test_a_changed_threshold_reaches_phones_in_stages_and_none_goes_back():
    change = ThresholdChange(threshold=0.9, first_day=2, stages=(0.25, 1.0), days_per_stage=2)
    rates = UserRates(days=6, threshold_change=change)
    attributes = np.concatenate([phones(100, device="handset"), phones(400, device="speakerphone")])
    cut = SimulatedUsers(SCHEMA, attributes, rates, 1).cut(0)
    changed = cut > 1
    assert not changed[:100].any()
    assert (np.diff(changed.astype(int), axis=1) >= 0).all()
    assert not changed[:, :2].any()
    assert changed[100:, 4:].all()
    assert stats.binomtest(int(changed[100:, 2].sum()), 400, 0.25).pvalue > FALSE_ALARM


def test_names_that_the_schema_has_not_are_refused():
    with pytest.raises(ScenarioError, match="toaster"):
        simulated(UserRates(jingle=Jingle(device="toaster")))
    with pytest.raises(ScenarioError, match="noon"):
        simulated(UserRates(jingle=Jingle(day_part="noon")))
    with pytest.raises(ScenarioError, match="words"):
        SimulatedUsers(telemetry_schema(), phones(1), UserRates(), 1)
    with pytest.raises(ValueError, match="rise"):
        ThresholdChange(stages=(0.5, 0.1))
    with pytest.raises(ValueError, match="canceled_share"):
        dataclasses.replace(UserRates(), canceled_share=2.0)
