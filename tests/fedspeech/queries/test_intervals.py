"""Intervals of totals and ratios, by simulation of what they assume and against closed forms."""

import dataclasses
import math

import numpy as np
import pytest
from counting import Release, axis, phone, plan_for
from scipy.stats import binomtest

from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.fieller import NOTHING_SAID, Fraction
from fedspeech.queries.histogram import Histogram

MOVING = AdaptiveClipping(target_quantile=0.5, min_clip_norm=0.1, max_clip_norm=2.0)
RUNS = 2000  # of one test: covered within 93.2 and 96.8 % with a false alarm in 5,000


def sampling(present, stddev):
    """Totals from sums to which a phone comes with a probability."""
    return Sampling(
        scale_up=1 / present, noise_variance=(stddev / present) ** 2, spread=(1 - present) / present
    )


def covered(intervals, true):
    """Refuses a share that is not 95 %: false alarm 1 in 5,000."""
    held = sum(low <= true <= high for low, high in intervals)
    assert binomtest(held, len(intervals), 0.95).pvalue > 2e-4, held / len(intervals)


@pytest.mark.parametrize("total", [0, 5, 100])
@pytest.mark.parametrize("present", [0.1, 0.6, 1.0])
def test_the_interval_of_a_total_holds_it_where_counts_are_small(total, present):
    rng, found = np.random.default_rng(total), sampling(present, 2.0)
    sums = rng.binomial(total, present, RUNS) + rng.normal(0, 2, RUNS)
    covered([found.interval(value / present) for value in sums.tolist()], total)


@pytest.mark.parametrize(("count", "share"), [(60, 0.1), (300, 0.5), (300, 0.02)])
def test_the_interval_of_a_share_holds_it_where_counts_are_small(count, share):
    rng, found, hits = np.random.default_rng(count), sampling(0.6, 2.0), round(count * share)
    pairs = [
        rng.binomial(size, 0.6, RUNS) + rng.normal(0, 2, RUNS) for size in (hits, count - hits)
    ]
    shares = [
        Fraction(nested=True).of(*pair).estimate(found, of="")
        for pair in np.transpose(pairs).tolist()
    ]
    covered([(one.low, one.high) for one in shares if one.value is not None], hits / count)
    assert all(0 <= one.low <= one.high <= 1 for one in shares if one.value is not None)


def test_a_rate_per_hour_holds():
    rng, found = np.random.default_rng(1), sampling(0.6, 2.0)
    pairs = [rng.binomial(size, 0.6, RUNS) + rng.normal(0, 2, RUNS) for size in (100, 400)]
    rates = [
        Fraction(nested=False, other_unit=21.0).of(*pair).estimate(found, of="")
        for pair in np.transpose(pairs).tolist()
    ]
    covered([(one.low, one.high) for one in rates], 100 / 400 / 21)
    assert rates[0].count == pytest.approx(pairs[1][0] / 0.6)


def test_without_noise_a_share_is_within_wilsons_interval():
    """Everybody else's formula: Wilson 1927, with the finite population's (1 - p)."""
    found = Fraction(nested=True).of(30.0, 70.0).estimate(sampling(0.5, 0.0), of="")
    z2, count, share = 1.959963984540054**2 * 0.5, 100, 0.3
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    reach = math.sqrt(z2 * (share * 0.7 / count + z2 / (4 * count**2))) / (1 + z2 / count)
    assert (found.low, found.high) == pytest.approx((middle - reach, middle + reach), abs=1e-9)


def test_where_the_denominator_is_noise_nothing_is_said():
    found = Fraction(nested=False).of(3.0, 2.0).estimate(sampling(1.0, 10.0), of="")
    assert (found.value, found.low, found.high, found.remark) == (None, None, None, NOTHING_SAID)


def test_nobody_is_clamped_to_zero():
    """Half of the estimates of an empty cell are negative, and their mean is 0."""
    found = sampling(0.5, 2.0)
    assert found.total(-3.0, of="phones").value == -6
    assert found.total(-3.0, of="phones").low < found.total(-3.0, of="phones").high


def test_estimates_hold_plain_numbers_and_refuse_ends_out_of_order():
    found = Estimate(of="", value=np.float32(1), low=np.float64(0), high=2, count=np.int64(3),
                     noise_stddev=np.float64(1), sampling_stddev=0)  # fmt: skip
    assert {type(getattr(found, name)) for name in ("value", "low", "high", "count")} == {float}
    with pytest.raises(ValueError, match="low must not exceed high"):
        dataclasses.replace(found, low=3.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"adaptive_clipping": MOVING}, "adaptive_clipping"),
        ({"cohort_cap": 80}, "cohort_cap"),
        ({"groups": 3, "min_cohort": 8, "min_reporting": 7}, "groups"),
    ],
)  # fmt: skip
def test_plans_whose_sums_say_nothing_certain_are_refused(change, word):
    query = Histogram(axes=(axis("a", 1, 3),))
    with pytest.raises(ValueError, match=f"{word} must be (left out|1)"):
        query.expected_error(plan_for(query, population=100, whole=False, **change))


@pytest.mark.parametrize("whole", [True, False])
def test_the_stated_noise_is_that_of_the_plan(whole):
    """By hand: 100 phones, 50 asked, 6 % gone, each with a share for 30 - 2 honest ones."""
    query = Histogram(axes=(axis("a", 1, 8),))
    plan = plan_for(
        query, population=100, min_reporting=30, colluders=2, dropout_rate=0.06, whole=whole
    )
    sending = 100 * 0.5 * 0.94
    variance = sending / 28 * plan.noise_multiplier**2
    if not whole:  # rounding to integers of the ring
        variance += sending / 4 / plan.scale**2
    assert query.expected_error(plan).noise_stddev == pytest.approx(
        math.sqrt(variance) / (0.5 * 0.94)
    )


def test_what_is_said_of_a_total_counts_phones_that_do_not_come():
    """By hand: of 100 phones 47 are expected, whoever they are, or exactly 50 before drop-outs."""
    query = Histogram(axes=(axis("a", 1, 8),))
    coins = Sampling.of(plan_for(query, population=100, dropout_rate=0.06))
    assert coins.scale_up == pytest.approx(100 / 0.94)
    assert coins.spread == pytest.approx(0.53 / 0.47)
    assert coins.shared == 0
    drawn = Sampling.of(
        plan_for(query, population=100, dropout_rate=0.06, participation="fixed_size",
                 mechanism="central")
    )  # fmt: skip
    assert drawn.shared == pytest.approx(0.5 / (0.5 * 100))
    assert drawn.sampling_variance(100) == pytest.approx(100 * 0.53 / 0.47 - 100)


def test_the_error_of_a_release_is_the_noise_that_is_stated():
    """128 cells of 12 phones that all come: within 0.75 and 1.25, false alarm below 1 in 10,000."""
    query = Histogram(axes=(axis("a", 1, 128),))
    plan = plan_for(query, population=12, participation_probability=1.0, noise_multiplier=3.0)
    release = Release(query, plan, [phone([(0, code)]) for code in range(12)])
    found = query.estimates(release.run(1), plan)
    errors = [one.value - (place < 12) for place, one in enumerate(found)]
    assert 0.75 < np.std(errors) / found[0].noise_stddev < 1.25


@pytest.mark.parametrize("nested", [True, False])
def test_where_phones_add_several_events_intervals_hold_at_least_as_often(nested):
    """Phones add up to 4 events, those of one phone alike: the largest spread that there can be."""
    rng, said = np.random.default_rng(5), sampling(0.6, 2.0)
    both = rng.integers(1, 5, 200)
    above = np.where(rng.random(200) < 0.3, both, 0)  # all of a phone's events, or none
    other = both - above if nested else both
    came = rng.random((800, 200)) < 0.6
    pairs = np.stack([came @ above, came @ other], axis=1) + rng.normal(0, 2, (800, 2))
    fraction = Fraction(nested=nested, most=4)
    found = [fraction.of(*pair).estimate(said, of="") for pair in pairs.tolist()]
    true = above.sum() / both.sum()
    held = sum(one.low <= true <= one.high for one in found)
    assert binomtest(held, len(found), 0.95, alternative="less").pvalue > 2e-4, held
    totals = [said.interval(pair[0] / 0.6, most=4.0) for pair in pairs.tolist()]
    held = sum(low <= above.sum() <= high for low, high in totals)
    assert binomtest(held, len(totals), 0.95, alternative="less").pvalue > 2e-4, held
