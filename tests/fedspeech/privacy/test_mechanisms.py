import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.special
import scipy.stats

from fedspeech.privacy import mechanisms
from fedspeech.privacy.mechanisms import (
    CumulativeTable,
    DiscreteGaussian,
    RoundedGaussian,
    Skellam,
    rounded_gaussian,
)
from fedspeech.seeds import Keystream


class Words(Keystream):
    """A keystream whose words are given."""

    def __init__(self, *words: int) -> None:
        super().__init__(bytes(32))
        self.words = list(words)

    def uint64(self, num_words):
        taken, self.words = self.words[:num_words], self.words[num_words:]
        return np.array(taken, dtype=np.uint64)


def keystream(number: int = 0) -> Keystream:
    return Keystream(number.to_bytes(32, "big"))


def density(stddev: float, reach: int) -> np.ndarray:
    k = np.arange(-reach, reach + 1)
    weights = np.exp(-(k**2) / (2 * stddev**2))
    return weights / weights.sum()


@pytest.mark.parametrize("stddev", [0.7, 2.0, 3.3, 40.0])
def test_samples_follow_the_discrete_gaussian(stddev):
    """Chi-square at 1e-6 per case."""
    samples = DiscreteGaussian(stddev).draw(keystream(1), 300_000)
    reach = math.ceil(2.5 * stddev)
    expected = density(stddev, 12 * math.ceil(stddev))
    center = len(expected) // 2
    inside = expected[center - reach : center + reach + 1]
    counts = np.bincount(np.clip(samples, -reach - 1, reach + 1) + reach + 1)
    tail = (1 - inside.sum()) / 2
    probabilities = np.concatenate([[tail], inside, [tail]])
    statistic = ((counts - 300_000 * probabilities) ** 2 / (300_000 * probabilities)).sum()
    assert scipy.stats.chi2.sf(statistic, len(probabilities) - 1) > 1e-6


@pytest.mark.parametrize("stddev", [2.0, 77.0, 3000.0])
def test_moments_are_those_of_the_accounting(stddev):
    """Mean, variance and kurtosis within 5.5 standard errors: 1e-7 together."""
    samples = DiscreteGaussian(stddev).draw(keystream(2), 400_000).astype(np.float64)
    assert abs(samples.mean()) < 5.5 * stddev / math.sqrt(400_000)
    assert abs(samples.var() / stddev**2 - 1) < 5.5 * math.sqrt(2 / 400_000)
    assert abs((samples**4).mean() / stddev**4 / 3 - 1) < 5.5 * math.sqrt(96 / 400_000) / 3


def test_tails_are_there():
    """P[|X| > 4 stddev] = 6e-5 at stddev 50: 40 to 210 of 2 million, false alarm below 1e-9."""
    samples = DiscreteGaussian(50.0).draw(keystream(3), 2_000_000)
    expected = 2_000_000 * (1 - density(50.0, 1000)[800:1201].sum())
    beyond = int((np.abs(samples) > 200).sum())
    assert abs(beyond - expected) < 6.5 * math.sqrt(expected)


def test_table_is_exact_far_beyond_double_precision():
    """Every probability, against fractions, down to the 256-bit grain."""
    sampler = DiscreteGaussian(2.0)
    table = sampler._table
    thresholds = [
        Fraction((int(high) << 192) + low, 2**256)
        for high, low in zip(table._high, table._low, strict=True)
    ]
    cumulative = [Fraction(0), *thresholds, Fraction(1)]
    masses = [b - a for a, b in itertools.pairwise(cumulative)]
    center = -table.first
    for k in (1, 5, 10, 20):
        ratio = masses[center + k] / masses[center]
        exact = math.exp(-k * k / 8)
        grain = 2.0**-254 / float(masses[center])
        assert abs(float(ratio) - exact) <= 1e-14 * exact + grain
    assert masses[center + 36] > 0  # 8e-72: no 128-bit threshold could hold it
    assert sampler.total_variation < 1e-74


def test_a_tie_of_the_upper_word_is_settled_by_the_lower():
    # Thresholds 2^192 - 1 and 2^192: one lies just under, one on the edge of the upper word 1.
    table = CumulativeTable(10, [2**192 - 1, 1, 2**256 - 2**192])
    most = 2**64 - 1
    assert list(table.draw(Words(0, most, most, 5), 1)) == [10]
    assert list(table.draw(Words(0, 5, most, most), 1)) == [10]
    assert list(table.draw(Words(0, most, most, most), 1)) == [11]
    assert list(table.draw(Words(1, 0, 0, 0), 1)) == [12]
    assert list(table.draw(Words(most), 1)) == [12]


def test_a_certain_outcome_needs_no_luck():
    assert list(CumulativeTable(7, [1]).draw(keystream(), 3)) == [7, 7, 7]
    assert set(CumulativeTable(0, [1, 0, 0]).draw(keystream(), 100)) == {0}


def test_zero_weights_never_come():
    assert set(CumulativeTable(0, [0, 1, 0, 1, 0]).draw(keystream(), 1000)) == {1, 3}


def test_same_key_same_noise_and_other_key_other_noise():
    sampler = DiscreteGaussian(10.0)
    first = sampler.draw(keystream(1), 1000)
    np.testing.assert_array_equal(first, sampler.draw(keystream(1), 1000))
    other = sampler.draw(keystream(2), 1000)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2  # 6 standard deviations


@pytest.mark.parametrize("stddev", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("law", [DiscreteGaussian, RoundedGaussian, Skellam])
def test_a_stddev_that_is_no_stddev_is_refused(law, stddev):
    with pytest.raises(ValueError, match="stddev must be positive and finite"):
        law(stddev)


# --- The other two laws ---------------------------------------------------------------------------


def masses(law, stddev):
    """Probabilities of 0, 1, 2, ... as the table has them."""
    weights = law._half_weights(stddev)
    total = 2 * sum(weights) - weights[0]
    return np.array([weight / total for weight in weights])


@pytest.mark.parametrize("stddev", [0.3, 1.0, 2.0, 17.3, 400.0])
def test_skellam_masses_are_bessels(stddev):
    """P[k] = exp(-variance) I_k(variance), to 1e-10 relatively wherever scipy has digits."""
    found = masses(Skellam, stddev)
    exact = scipy.special.ive(np.arange(len(found)), stddev**2)
    usable = exact > 1e-250
    np.testing.assert_allclose(found[usable], exact[usable], rtol=1e-10)
    both = np.concatenate([found[:0:-1], found])
    k = np.arange(1 - len(found), len(found))
    assert (both * k**2).sum() == pytest.approx(stddev**2, rel=1e-12)


@pytest.mark.parametrize("stddev", [0.3, 1.0, 2.0, 17.3, 400.0])
def test_rounded_gaussian_masses_are_those_of_the_intervals(stddev):
    """P[k] = Phi((k + 1/2) / s) - Phi((k - 1/2) / s), by differences of upper tails."""
    found = masses(RoundedGaussian, stddev)
    k = np.arange(1, len(found))
    upper = scipy.stats.norm.sf((k - 0.5) / stddev)
    exact = upper - scipy.stats.norm.sf((k + 0.5) / stddev)
    # A difference of two tails loses as many digits as they share.
    lost = 1e-15 * upper / exact
    assert (np.abs(found[1:] / exact - 1) < 1e-9 + 10 * lost).all()
    assert found[0] == pytest.approx(math.erf(0.5 / stddev / math.sqrt(2)), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("law", [DiscreteGaussian, RoundedGaussian, Skellam])
@pytest.mark.parametrize("stddev", [0.3, 2.0, 50.0, 1000.0])
def test_a_table_ends_where_its_bound_says(law, stddev):
    sampler = law(stddev)
    assert sampler._table.size <= 2 * math.ceil(law._reach(stddev)) + 1
    assert sampler.total_variation < 1e-68
    first, *_, last = law._half_weights(stddev)
    if stddev >= 2:  # below, the last step of a rounded law is a long one
        assert last <= first >> 230


@pytest.mark.parametrize("law", [RoundedGaussian, Skellam])
@pytest.mark.parametrize("stddev", [2.0, 77.0])
def test_draws_have_the_moments_of_the_law(law, stddev):
    """Mean and variance of 400,000 draws within 5.5 standard errors: 1e-7 together."""
    samples = law.of(stddev).draw(keystream(4), 400_000).astype(np.float64)
    variance = stddev**2 + (1 / 12 if law is RoundedGaussian else 0)
    assert abs(samples.mean()) < 5.5 * stddev / math.sqrt(400_000)
    assert abs(samples.var() / variance - 1) < 5.5 * math.sqrt(2.3 / 400_000)


def test_skellam_shares_add_up_to_skellam_and_discrete_gaussians_do_not():
    """Of stddev 0.6: nine shares against one of three times the stddev, total variation."""

    def distance(law):
        one, nine = masses(law, 0.6), masses(law, 1.8)
        share = np.concatenate([one[:0:-1], one])
        total = np.array([1.0])
        for _ in range(9):
            total = np.convolve(total, share)
        whole = np.zeros_like(total)
        center, reach = len(total) // 2, min(len(total) // 2, len(nine) - 1)
        whole[center - reach : center + reach + 1] = np.concatenate(
            [nine[reach:0:-1], nine[: reach + 1]]
        )
        return np.abs(total - whole).sum() / 2

    assert distance(Skellam) < 1e-12
    assert distance(DiscreteGaussian) > 1e-3


def test_weights_that_are_no_law_are_refused():
    for weights in ([0, 0], [1, -1, 3]):
        with pytest.raises(ValueError, match="weights must be non-negative"):
            CumulativeTable(0, weights)


@pytest.mark.parametrize("stddev", [0.3, 2.0, 37.0, 900.0])
def test_a_sample_is_the_number_of_thresholds_that_its_word_reaches(stddev):
    """The guide answers for whole ranges of words, at their edges too, as a search does."""
    table = DiscreteGaussian.of(stddev)._table

    class Words:
        def __init__(self, words):
            self._words = words

        def uint64(self, _):
            return self._words

    edges = np.arange(1 << 16, dtype=np.uint64) << np.uint64(48)
    near = np.concatenate([table._high - np.uint64(1), table._high + np.uint64(1)])
    words = np.concatenate([edges, edges - np.uint64(1), near[~np.isin(near, table._high)]])
    words = words[~np.isin(words, table._high)]  # a tie asks for more words
    searched = np.searchsorted(table._high, words, side="left") + table.first
    np.testing.assert_array_equal(table.draw(Words(words), len(words)), searched)


@pytest.mark.parametrize("stddev", [0.4, 1.7, 30.0])
@pytest.mark.parametrize("center", [-0.75, 0.0, 0.5])
def test_rounded_gaussians_about_a_center_follow_their_law(stddev, center):
    """Chi-square at 1e-6 per case."""
    samples = rounded_gaussian(keystream(5), stddev, np.full(100_000, center))
    reach = math.ceil(2.5 * stddev)
    edges = (np.arange(-reach, reach + 2) - 0.5 - center) / stddev
    cumulative = np.concatenate([[0.0], scipy.special.ndtr(edges), [1.0]])
    counts = np.bincount(
        np.clip(samples, -reach - 1, reach + 1) + reach + 1, minlength=2 * reach + 3
    )
    expected = 100_000 * np.diff(cumulative)
    likely = expected > 1
    statistic = ((counts - expected) ** 2 / np.maximum(expected, 1e-9))[likely].sum()
    assert scipy.stats.chi2.sf(statistic, likely.sum() - 1) > 1e-6


def test_decimals_and_doubles_give_the_same_rounded_gaussians(monkeypatch):
    """Of the same bits: the decimals decide where doubles would not, and agree where they do."""
    centers = np.random.default_rng(0).uniform(-1, 1, 200)
    words = [int(word) for word in keystream(6).uint64(200)]
    quick = rounded_gaussian(Words(*words), 50.0, centers)
    monkeypatch.setattr(mechanisms, "_QUANTILE_ERROR", 1.0)
    exact = rounded_gaussian(Words(*words, *([2**63] * 600)), 50.0, centers)
    np.testing.assert_array_equal(quick, exact)


def test_a_rounded_gaussian_at_an_edge_is_decided_by_the_bits_below_the_first():
    """Where U = 1/2 the sample is its center; half an integer above 0 that is the edge of 1."""
    low, high = Words(2**63 - 1, 0, 0, 0), Words(2**63 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1)
    assert rounded_gaussian(low, 3.0, np.array([0.5])).tolist() == [1]
    assert rounded_gaussian(high, 3.0, np.array([0.5 - 2**-53])).tolist() == [0]
    tail = Words(0, 0, 0, 1)  # 2^-255 from the end at most: 18.5961 stddevs (mpmath 1.3.0)
    assert rounded_gaussian(tail, 1000.0, np.zeros(1)).tolist() == [18596]


def test_tails_of_a_normal_are_exact():
    """2^256 times them, as mpmath 1.3.0 has them at 700 bits."""
    for distance, expected in {
        0.25: 0x66BB2EA748949E57A6B53E75040B686E53A7A443E6454D6863F3C2F0A6F064F9,
        5.5: 0x518F3EA71FF39DD319482F286C1743BD58AFB03075460B157FC6F8CD52,
        17.0: 0x452F971606F,
    }.items():
        assert mechanisms._upper_tail(Fraction(distance)) == expected
        assert mechanisms._upper_tail(Fraction(-distance)) == 2**256 - expected
    assert mechanisms._upper_tail(Fraction(0)) == 2**255
    assert mechanisms._upper_tail(Fraction(41)) == 0
