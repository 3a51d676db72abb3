"""How far two stages are apart, and when phones cannot tell."""

import functools

import numpy as np
import pytest

from fedspeech.evaluation import kws, streaming
from fedspeech.evaluation.kws import KwsCounts
from fedspeech.evaluation.over_phones import change_section
from fedspeech.evaluation.streaming import ListeningCounts

LABELS = 4  # two target words, unknown, silence


def clips_of(phones, rng, clips=40):
    """Counts of phones whose clips score at random."""
    return [
        KwsCounts.of(rng.normal(size=(clips, LABELS)) * 3, rng.integers(0, LABELS, clips))
        for _ in range(phones)
    ]


def streams_of(phones, rng):
    """Counts of phones that heard an hour and twenty words."""
    size = len(streaming.THRESHOLDS)
    return [
        ListeningCounts(
            -np.sort(-rng.integers(0, 30, size)), -np.sort(-rng.integers(0, 21, size)), 1.0, 20
        )
        for _ in range(phones)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_phones_that_count_twice_are_phones_listed_twice(seed):
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 3, (6, 8)).astype(float)
    heard, listened = clips_of(8, rng), streams_of(8, rng)
    clips = kws.false_rejects(heard, times, 0.1)
    hours = streaming.false_rejects(listened, times, 4.0)
    for draw, found, frr in zip(times, clips, hours, strict=True):
        listed = [i for i, count in enumerate(draw) for _ in range(int(count))]
        assert found == pytest.approx(sum_of(heard, listed).frr_at_far(0.1))
        point = sum_of(listened, listed).at_most(4.0)
        assert frr == pytest.approx(1.0 if point is None else point.frr)


def sum_of(counts, listed):
    """Counts of the phones that are listed, added one by one."""
    first, *others = listed
    return functools.reduce(lambda a, b: a + b, [counts[i] for i in others], counts[first])


def test_phones_without_clips_of_both_kinds_do_not_tell():
    silent = KwsCounts.of(np.zeros((3, LABELS)), np.full(3, LABELS - 1))
    assert np.isnan(kws.false_rejects([silent], np.ones((1, 1)), 0.1)).all()
    nobody = ListeningCounts(
        np.zeros(len(streaming.THRESHOLDS), int), np.zeros(len(streaming.THRESHOLDS), int), 1.0, 0
    )
    assert np.isnan(streaming.false_rejects([nobody], np.ones((1, 1)), 1.0)).all()
    rates = {"base": lambda times: np.full(len(times), np.nan)}
    assert change_section(rates, [("base", "base")], "errors", 3, 1) is None


def intervals(shift, repeats=200, phones=60, clips=30):
    """Paired intervals of two stages whose errors differ by `shift` on phones of unlike ease."""
    rng = np.random.default_rng(7)
    for repeat in range(repeats):
        ease = rng.beta(2, 8, phones)
        before = rng.binomial(clips, ease) / clips
        after = rng.binomial(clips, np.clip(ease + shift, 0, 1)) / clips
        rates = {
            "base": lambda times, errors=before: times @ errors / times.sum(axis=1),
            "federated": lambda times, errors=after: times @ errors / times.sum(axis=1),
        }
        (metric,) = change_section(rates, [("federated", "base")], "errors", phones, repeat).metrics
        assert metric.value == pytest.approx(after.mean() - before.mean())
        yield metric.interval


@pytest.mark.slow
def test_an_interval_of_no_change_holds_zero_as_often_as_it_says():
    """Of 200 intervals of 95 % fewer than 178 hold the truth once in 4,000 times (binomial)."""
    found = list(intervals(0.0))
    assert sum(one.low <= 0 <= one.high for one in found) >= 178
    # Phones differ by twelve points: were they not paired, intervals would be twice as wide.
    assert np.mean([one.high - one.low for one in found]) < 0.06


@pytest.mark.slow
def test_a_change_of_five_points_is_told():
    assert all(one.low > 0 for one in intervals(0.05, repeats=20, phones=200))
