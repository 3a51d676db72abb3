"""Estimates against a truth that is known: coverage of intervals, error and bias.

Phones, and what they keep within their bound, are the same in every run; coins and noise are fresh.
Every run yields one interval per cell. `binomtest` of the covered ones against 95 % is refused
below 1e-4, which is the false-alarm rate of a test; the band of 93 to 97 % is wider than that for
the counts of the soak test.
"""

import math

import numpy as np
import pytest
from counting import Release, axis, phone, plan_for
from scipy.stats import binomtest

from fedspeech.queries.axes import Condition
from fedspeech.queries.confusion import Confusion
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.quantile import TreeQuantiles
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
    "tree of counts": TreeQuantiles(axis=FINE, quantiles=(0.25, 0.5, 0.75), fanout=4),
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
        case TreeQuantiles():
            return quantiles(query, totals[-len(query.axis) :])
    return totals


def quantiles(query, leaves):
    """The first cell up to which a share of the events is."""
    return [
        float(np.flatnonzero(np.cumsum(leaves) >= level * leaves.sum())[0])
        for level in query.quantiles
    ]


def releases(name, way, runs):
    """Estimates of so many runs, and the truth."""
    query = QUERIES[name]
    plan = plan_for(query, population=PHONES, **PLANS[way])
    release = Release(query, plan, population())
    found = [query.estimates(release.run(seed), plan) for seed in range(runs)]
    return found, truth(query, release.contributions())


def check_coverage(found, true, *, low=0.93, high=0.97):
    """Refuses intervals that hold the truth too rarely or too often."""
    held = [
        estimate.low <= value <= estimate.high
        for estimates in found
        for estimate, value in zip(estimates, true, strict=True)
        if estimate.value is not None
    ]
    share, count = np.mean(held), len(held)
    if high < 1:
        assert binomtest(int(sum(held)), count, 0.95).pvalue > 1e-4, share
    else:  # coarse cells hold more often than they say
        assert binomtest(int(sum(held)), count, 0.95, alternative="less").pvalue > 1e-4, share
    spread = 3.9 * math.sqrt(0.05 * 0.95 / count)
    assert low - max(0, spread - 0.02) <= share <= high + max(0, spread - 0.02)
    return share


def check_error(found, true):
    """The root mean square error is within 1.2 of what estimates say, and no cell is biased.

    The mean of n errors goes beyond 4.5 of its deviations once in 150,000 cells.
    """
    errors = np.array([[one.value for one in run] for run in found]) - true
    said = np.array([[math.hypot(one.noise_stddev, one.sampling_stddev) for one in run]
                     for run in found])  # fmt: skip
    assert np.sqrt(np.mean(errors**2)) <= 1.2 * np.sqrt(np.mean(said**2))
    return errors, said


WAYS = [(name, way) for name in QUERIES for way in ("phones' noise",)] + [
    ("histogram", way) for way in list(PLANS)[1:]
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), WAYS)
def test_intervals_hold_in_a_few_runs(name, way):
    found, true = releases(name, way, 30)
    check_coverage(found, true, high=1.0 if "tree" in name else 0.97)
