"""Limited participation, noise on phones: absence shows in the variance, and is paid for."""

import math

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import beta, chi2

from fedspeech.privacy import accountant, mechanisms
from fedspeech.privacy.events import DiscreteGaussianSum, Presence
from fedspeech.privacy.filling import fill
from fedspeech.privacy.pricing import price
from fedspeech.seeds import Keystream


def shares(*, z, m, d, norm=1000.0):
    return DiscreteGaussianSum(
        sensitivity=norm, stddev=z * norm / math.sqrt(m), shares=m, dimension=d
    )


def test_the_published_figure_with_and_without_the_missing_noise():
    """z = 4, k = 8, d = 131072, m = 800, delta = 1e-6: 3.54 becomes 6.14."""
    event = shares(z=4.0, m=800, d=131_072)
    without = accountant.epsilon(8 * accountant.rdp(event), 1e-6)
    with_it = accountant.epsilon(8 * accountant.rdp(Presence(event=event)), 1e-6)
    assert without == pytest.approx(3.54, abs=5e-3)
    assert with_it == pytest.approx(6.14, abs=2e-2)


def test_absence_costs_more_than_silence_at_every_order():
    event = shares(z=4.0, m=100, d=1024)
    presence, silence = accountant.rdp(Presence(event=event)), accountant.rdp(event)
    assert (presence > silence).all()
    assert np.isinf(presence[accountant.ORDERS > 100]).all()


@pytest.mark.parametrize("number", [2, 5, 12])
@pytest.mark.parametrize("shift", [0, 1, 4])
def test_fractional_orders_cover_the_exact_sums(number, shift):
    """Steps 3 to 5 at real orders, against convolutions of the shares, both directions."""
    stddev = 2.0
    reach = math.ceil(14 * stddev)
    k = np.arange(-reach, reach + 1)
    one = np.exp(-(k**2) / (2 * stddev**2))
    one /= one.sum()
    laws = [one]
    for _ in range(number):
        laws.append(np.convolve(laws[-1], one))
    without, with_phone = laws[-2], laws[-1]
    reach = math.ceil(13 * stddev * math.sqrt(number))
    span = np.arange(-reach, reach + 1)
    log_a = np.log(with_phone[len(with_phone) // 2 + span - shift])
    log_b = np.log(without[len(without) // 2 + span])
    event = DiscreteGaussianSum(sensitivity=float(shift), stddev=stddev, shares=number, dimension=1)
    curve = accountant.rdp(Presence(event=event))
    for order in (1.05, 1.3, 1.5, 1.95, 2.5):
        if order > number:
            continue
        claim = curve[np.searchsorted(accountant.ORDERS, order)]
        forward = logsumexp(order * log_a + (1 - order) * log_b) / (order - 1)
        backward = logsumexp(order * log_b + (1 - order) * log_a) / (order - 1)
        assert max(forward, backward) <= claim + 1e-9


# --- The attack: say nothing, and look at the variance of the sum -------------------------------


def variance_attack(m, d, rounds, delta):
    """Best epsilon of a test on the sum of squares over all rounds, exact, either direction.

    With the phone the sum of squares is (m+1) s^2 chi^2, without it m s^2 chi^2.
    """
    degrees = d * rounds
    points = np.linspace(0.5, 2.5, 4001) * m * degrees
    best = 0.0
    for tail in (chi2.sf, chi2.cdf):
        present, absent = tail(points / (m + 1), degrees), tail(points / m, degrees)
        for one, other in ((present, absent), (absent, present)):
            usable = (one > delta) & (other > 1e-290)
            if usable.any():
                best = max(best, float(np.log((one[usable] - delta) / other[usable]).max()))
    return best


@pytest.mark.parametrize(("m", "d", "k"), [(10, 512, 1), (40, 16_384, 1), (80, 16_384, 8),
                                           (800, 131_072, 8), (240, 8192, 15)])  # fmt: skip
def test_the_variance_beats_the_uncorrected_epsilon_and_never_the_corrected_one(m, d, k):
    z, delta = 50.0, 1e-6
    event = DiscreteGaussianSum(
        sensitivity=1000.0, stddev=z * 1000 / math.sqrt(m), shares=m, dimension=d
    )
    uncorrected = accountant.epsilon(k * accountant.rdp(event), delta)
    corrected = accountant.epsilon(k * accountant.rdp(Presence(event=event)), delta)
    found = variance_attack(m, d, k, delta)
    assert uncorrected < found < corrected


@pytest.mark.parametrize("m", [4, 10, 60, 300])
@pytest.mark.parametrize("d", [16, 512, 8192])
@pytest.mark.parametrize("k", [1, 4, 20])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_the_variance_never_beats_a_price(m, d, k, delta):
    event = DiscreteGaussianSum(sensitivity=1.0, stddev=100.0, shares=m, dimension=d)
    assert variance_attack(m, d, k, delta) <= accountant.epsilon(
        k * accountant.rdp(Presence(event=event)), delta
    )


@pytest.mark.slow
def test_real_samples_show_the_absence_too():
    """400 sums of 10 shares in 512 coordinates, Clopper-Pearson at 1e-4."""
    filled = fill(
        mechanism="distributed", participation="round_robin", population=100, cohort=20, rounds=1,
        noise_multiplier=50.0, dimension=512, min_reporting=10, delta=5e-4,
        secure_aggregation="ideal",
    )  # fmt: skip
    found, plan = price(filled), filled.plan
    sampler = mechanisms.DiscreteGaussian(plan.stddev)
    keystream = Keystream(bytes(32))
    trials, d = 400, plan.padded_dimension
    scores = {}
    for number in (10, 11):
        draws = sampler.draw(keystream, trials * number * d).reshape(trials, number, d)
        scores[number] = (draws.sum(axis=1).astype(float) ** 2).mean(axis=1)
    threshold = 10.5 * plan.stddev**2
    hits, misses = int((scores[11] > threshold).sum()), int((scores[10] > threshold).sum())
    low = beta.ppf(5e-5, hits, trials - hits + 1)
    high = beta.ppf(1 - 5e-5, misses + 1, trials - misses)
    beaten = math.log((low - plan.delta) / high)
    uncorrected = accountant.epsilon(accountant.rdp(plan.cost.given), plan.delta)
    assert uncorrected < 0.2 < beaten < found.release.epsilon
    assert found.release.relation == "add/remove"
