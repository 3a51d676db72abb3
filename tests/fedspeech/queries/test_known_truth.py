"""Estimates against a truth that is known: coverage of intervals, error and bias.

Phones, and what they keep within their bound, are the same in every run; coins and noise are fresh.
Every run yields one interval per cell. A test refuses a `binomtest` of those that hold against 95 %
below 1e-4, which is its false-alarm rate; over 200 runs with eight cells a share outside of 93 to
97 % is as rare.
"""

import math

import numpy as np
import pytest
from counting import Release, axis, phone, plan_for
from scipy.stats import binomtest

from fedspeech.queries.axes import Condition
from fedspeech.queries.confusion import Confusion
from fedspeech.queries.estimate import Sampling
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.quantile import TreeQuantiles
from fedspeech.queries.quantile_search import SearchQuantiles
from fedspeech.queries.ratios import Mean, Ratio
from fedspeech.queries.sums import Sum, Weights
from fedspeech.seeds import stream

PHONES = 400
SEGMENTS = (axis("s", 0, 2),)
FINE = axis("score", 3, 256)


def population(cells=4):
    """Phones with two events each on average: (day, a, b, score), codes of a falling in number."""
    rng = stream(7, "population", cells)
    found = []
    for _ in range(PHONES):
        count = int(rng.poisson(2))
        a = np.minimum(rng.geometric(0.5, count) - 1, cells - 1)
        b = np.where(rng.random(count) < 0.7, a, rng.integers(0, cells, count))
        score = np.clip(rng.normal(120, 30, count), 0, 255).astype(int)
        events = list(zip(np.zeros(count, int), a, b, score, strict=True))
        found.append(phone(events, [int(rng.random() < 0.3)]))
    return found


def one(code, place=2):
    return Condition(name="b", place=place, codes=(code,))


A, B = axis("a", 1, 4), axis("b", 2, 4)
QUERIES = {
    "histogram": Histogram(segments=SEGMENTS, axes=(A,), max_cells=2),
    "sum": Sum(segments=SEGMENTS, axes=(A,), weights=Weights(name="b", place=2, worth=(2, 2, 2))),
    "confusion": Confusion(axes=(A, B)),
    "share": Ratio(segments=SEGMENTS, axes=(A,), numerator=(one(0),)),
    "rate": Ratio(
        segments=SEGMENTS,
        numerator=(one(0, 1),),
        denominator=(Condition(name="a", place=1, codes=(1, 2, 3)),),
        weights=Weights(name="a", place=1, worth=(0, 12, 12, 12)),
        max_per_cell=1,
    ),
    "mean": Mean(segments=SEGMENTS, weights=Weights(name="a", place=1, worth=(0, 5, 5, 5))),
}
PLANS = {
    "phones' noise": {"dropout_rate": 0.06, "participation_probability": 0.6},
    "central": {"mechanism": "central", "noise_multiplier": 3.0},
    "everybody is asked": {
        "participation": "round_robin",
        "participation_probability": 1.0,
        "min_cohort": 300,
    },
    "a drawn cohort": {"mechanism": "central", "participation": "fixed_size"},
}


def truth(query, contributions):
    """What the estimates are of, from the contributions of all phones."""
    totals = np.sum(contributions, axis=0, dtype=np.float64)
    match query:
        case Sum():
            return totals * query.weights.most
        case Mean() | Ratio():
            part = query.fraction
            above, other = totals.reshape(-1, 2).T
            below = other * part.other_unit + (above if part.nested else 0)
            return above / below * part.ratio_unit
    return totals


def release_of(name, way):
    query = QUERIES[name]
    return Release(query, plan_for(query, population=PHONES, **PLANS[way]), population())


def released(release, runs):
    """Estimates of so many runs."""
    return [release.query.estimates(release.run(seed), release.plan) for seed in range(runs)]


def check_coverage(held, count):
    """Refuses intervals that hold the truth too rarely or too often."""
    assert binomtest(held, count, 0.95).pvalue > 1e-4, (held, count)


def covered(found, true):
    """How many intervals hold the truth, and how many there are."""
    held = [
        estimate.low <= value <= estimate.high
        for estimates in found
        for estimate, value in zip(estimates, true, strict=True)
        if estimate.value is not None
    ]
    return sum(held), len(held)


def check_error(found, true):
    """The root mean square error is within 1.2 of what estimates say, and no total is biased.

    A mean of n errors goes beyond 4.5 of its deviations once in 150,000 cells.
    """
    errors = np.array([[one.value for one in run] for run in found], float) - true
    said = [[math.hypot(one.noise_stddev, one.sampling_stddev) for one in run] for run in found]
    bound = np.sqrt(np.mean(np.square(said), axis=0))
    assert np.sqrt(np.mean((errors / bound) ** 2)) <= 1.2
    return np.abs(errors.mean(axis=0)) / bound * math.sqrt(len(found))


WAYS = [(name, "phones' noise") for name in QUERIES]
WAYS += [("histogram", way) for way in list(PLANS)[1:]]
TOTALS = ("histogram", "sum", "confusion")


def check(name, way, runs):
    """Coverage, error and bias of so many runs; returns the share of intervals that hold."""
    release = release_of(name, way)
    found, true = released(release, runs), truth(release.query, release.contributions())
    held, count = covered(found, true)
    check_coverage(held, count)
    if all(one.value is not None for run in found for one in run):
        away = check_error(found, true)
        assert name not in TOTALS or away.max() < 4.5
    return held / count


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_intervals_hold_in_a_few_runs(name, way):
    check(name, way, 15)


@pytest.mark.soak
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_intervals_hold_in_93_to_97_of_a_hundred(name, way):
    share = check(name, way, 200)
    assert 0.93 <= share <= 0.97, share


def rank_errors(release, runs):
    """How far ranks of estimates are off, over what they say; and whether intervals hold."""
    query = release.query
    single = TreeQuantiles(axis=query.axis, fanout=len(query.axis))
    leaves = np.sum(Release(single, release.plan, release.phones).contributions(), axis=0)
    up_to = np.concatenate([[0], np.cumsum(leaves) / leaves.sum()])
    errors, held = [], []
    for run in released(release, runs):
        for one, level in zip(run, query.quantiles, strict=True):
            place = int(one.value)
            off = max(up_to[place] - level, level - up_to[place + 1], 0)
            errors.append(off / math.hypot(one.noise_stddev, one.sampling_stddev))
            true = int(np.searchsorted(up_to[1:], level))
            held.append(one.low <= true <= one.high)
    return np.array(errors), np.array(held)


QUANTILES = {
    "tree": TreeQuantiles(axis=FINE, quantiles=(0.25, 0.5, 0.75), fanout=4),
    "search": SearchQuantiles(axis=FINE, quantiles=(0.5,)),
}


def check_quantiles(name, runs):
    """Ranks are off by what is said; intervals hold at least as often as they say."""
    query = QUANTILES[name]
    # Of 256 cells some ten lie within the noise; where cells are coarse intervals hold more often.
    changes = PLANS["phones' noise"] | {"noise_multiplier": 2.0}
    plan = plan_for(query, population=PHONES, **changes)
    errors, held = rank_errors(Release(query, plan, one_event_each()), runs)
    assert np.sqrt(np.mean(errors**2)) <= 1.2
    assert binomtest(int(held.sum()), len(held), 0.95, alternative="less").pvalue > 1e-4
    return held.mean()


def one_event_each():
    """Phones with one event, so that what they keep is the same in every round."""
    scores = np.clip(stream(8, "scores").normal(120, 30, PHONES), 0, 255).astype(int)
    return [phone([(0, 0, 0, score)]) for score in scores.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTILES)
def test_ranks_of_quantiles_are_off_by_what_is_said_in_a_few_runs(name):
    check_quantiles(name, 8)


@pytest.mark.soak
@pytest.mark.parametrize("name", QUANTILES)
def test_ranks_of_quantiles_are_off_by_what_is_said(name):
    share = check_quantiles(name, 200)
    # A search's interval ends at thresholds that were asked, and its rounds ask at few.
    most = {"tree": 0.97, "search": 1.0}[name]
    assert 0.93 <= share <= most, share


COARSE = axis("score", 3, 64)


def drawn_anew(query, plan, places, runs):
    """Whether intervals hold the truth, where sums are drawn as the plan says they come about."""
    rng, sampling, cells = np.random.default_rng(9), Sampling.of(plan), len(query.axis)
    present, stddev = 1 / (1 + sampling.spread), math.sqrt(sampling.noise_variance)
    up_to = np.cumsum(np.bincount(places, minlength=cells)) / len(places)
    true = [int(np.searchsorted(up_to, level)) for level in query.quantiles]
    for _ in range(runs):
        state = query.initial(None)
        for _ in range(query.rounds):
            came = places[rng.random(len(places)) < present]
            own = np.bincount(came, minlength=cells) / present
            if isinstance(query, TreeQuantiles):
                total = np.zeros(query.tree.nodes)
                for nodes in query.tree.nodes_of(np.arange(cells)):
                    np.add.at(total, nodes, own)
            else:
                parts = [np.split(own, [int(asked) + 1]) for asked in state.parameters]
                total = np.array([part.sum() for pair in parts for part in pair])
            noisy = total + rng.normal(0, stddev, len(total))
            state = query.update(state, noisy / sampling.scale_up)
        found = query.estimates(state, plan)
        yield [one.low <= place <= one.high for one, place in zip(found, true, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TreeQuantiles, SearchQuantiles])
@pytest.mark.parametrize(("phones", "least", "most"), [(600, 0.93, 0.97), (40_000, 0.94, 1.0)])
def test_intervals_of_quantiles_hold_as_often_as_they_say(kind, phones, least, most):
    """Of noise over several cells within 93 to 97 %; of noise within one never below.

    Of 600 intervals of 95 % fewer than 93 % hold in 2 tests of 100; seeds are fixed.
    """
    scores = np.clip(np.random.default_rng(1).normal(30, 14, phones), 0, 63).astype(int)
    query = kind(axis=COARSE, quantiles=(0.2, 0.5))
    plan = plan_for(query, population=phones, noise_multiplier=3.0, participation_probability=0.6)
    held = list(drawn_anew(query, plan, scores, 300))
    assert least <= np.mean(held) <= most, np.mean(held, axis=0)
