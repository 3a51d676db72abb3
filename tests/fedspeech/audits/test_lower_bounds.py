"""Bounds from outcomes: known answers, sound claims that stand, wrong ones that fall."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from fedspeech.audits.lower_bounds import LowerBound, jointly, many_runs, one_run

RNG = np.random.default_rng(7)


def column(values):
    return np.asarray(values, dtype=float)[:, None]


def test_worlds_without_any_overlap_give_the_bound_of_clopper_and_pearson():
    runs, confidence = 300, 0.99
    found = many_runs(
        column(np.ones(runs)), column(np.zeros(runs)), delta=0.01, confidence=confidence
    )
    counted = runs - int(runs / 3)
    # All of n: the lower limit is risk^(1/n), the upper limit of the other 1 - risk^(1/n).
    edge = 0.005 ** (1 / counted)
    assert found.epsilon == pytest.approx(math.log((edge - 0.01) / (1 - edge)))
    assert found.observations == 2 * counted
    assert found.reach == found.epsilon


def test_the_same_world_twice_proves_nothing():
    proven = [
        many_runs(RNG.normal(size=(300, 3)), RNG.normal(size=(300, 3)), delta=0.0).epsilon
        for _ in range(20)
    ]
    # Of 20 bounds at 99 %, more than 3 above the truth happen with a probability of 5e-5.
    assert sum(epsilon > 0 for epsilon in proven) <= 3


def test_a_bound_of_a_gaussian_stays_below_its_epsilon_and_comes_near():
    # Balle and Wang 2018 (arXiv:1805.06530), Theorem 8: sensitivity 1, stddev 1, delta at epsilon.
    epsilon, delta = 3.0, norm.cdf(0.5 - 3.0) - math.exp(3.0) * norm.cdf(-0.5 - 3.0)
    silent, spoken = RNG.normal(size=(20_000, 1)), RNG.normal(1.0, size=(20_000, 1))
    found = many_runs(spoken, silent, delta=delta, confidence=1 - 1e-6)
    assert 1.0 < found.epsilon < epsilon


def test_what_no_column_shows_alone_is_found():
    """The noise stands in a second column too: only the difference tells."""
    noise = RNG.normal(scale=50.0, size=(2, 400))
    worlds = [np.stack([noise[world] + world, noise[world]], axis=1) for world in (0, 1)]
    assert many_runs(worlds[1], worlds[0], delta=0.0).epsilon > 3
    assert many_runs(worlds[1][:, :1], worlds[0][:, :1], delta=0.0).epsilon == 0


def test_an_event_that_tells_of_the_world_without_counts_as_well():
    rare, never = column(RNG.random(3000) < 0.2), column(np.zeros(3000))
    one, other = (many_runs(*worlds, delta=0.0) for worlds in ((rare, never), (never, rare)))
    assert one.epsilon == other.epsilon > 3


def test_a_delta_that_explains_the_event_leaves_nothing():
    rare, never = column(RNG.random(3000) < 0.2), column(np.zeros(3000))
    assert many_runs(rare, never, delta=0.3).epsilon == 0


@pytest.mark.parametrize(
    ("worlds", "settings", "said"),
    [
        ((np.zeros((29, 1)), np.zeros((40, 1))), {}, "at least 30 runs"),
        ((np.zeros((40, 1)), np.zeros((40, 2))), {}, r"\(40, 1\) and \(40, 2\)"),
        ((np.full((40, 1), np.nan), np.zeros((40, 1))), {}, "finite"),
        ((np.zeros((40, 1)), np.zeros((40, 1))), {"confidence": 1.0}, "confidence"),
        ((np.zeros((40, 1)), np.zeros((40, 1))), {"delta": -0.1}, "delta"),
    ],
)
def test_what_no_bound_follows_from_is_refused(worlds, settings, said):
    with pytest.raises(ValueError, match=said):
        many_runs(*worlds, **{"delta": 0.0, **settings})


def test_all_guesses_right_give_the_bound_of_one_run():
    """Without delta: success^guesses is the risk, which a union over four shares pays for."""
    canaries, confidence = 400, 0.99
    coins = np.arange(canaries) % 2 == 0
    found = one_run(coins.astype(float), coins, delta=0.0, confidence=confidence)
    success = 0.0025 ** (1 / canaries)
    assert found.epsilon == pytest.approx(math.log(success / (1 - success)), abs=1e-4)
    assert "400 of 400" in found.says
    assert found.reach == found.epsilon


def test_one_run_of_randomized_response_stays_below_its_epsilon_and_comes_near():
    epsilon, canaries = 1.5, 4000
    truth = 1 / (1 + math.exp(-epsilon))
    above = []
    for _ in range(8):
        coins = RNG.random(canaries) < 0.5
        told = np.where(RNG.random(canaries) < truth, coins, ~coins)
        above.append(one_run(told + RNG.random(canaries) / 2, coins, delta=0.0).epsilon)
    # Of 8 bounds at 99 %, more than 2 above the truth happen with a probability of 5e-5.
    assert sum(found > epsilon for found in above) <= 2
    assert np.median(above) > 0.8 * epsilon


def test_the_delta_of_one_run_is_paid_for_every_canary():
    """Theorem 5.2 by hand at two canaries that matter: tail, and what delta moves."""
    guesses, right, epsilon, delta, canaries = 20, 18, 0.7, 1e-3, 50
    success = 1 / (1 + math.exp(-epsilon))
    tail = [float(binom.sf(v - 1, guesses, success)) for v in range(right + 1)]
    moved = max((tail[right - step] - tail[right]) / step for step in range(1, right + 1))
    from fedspeech.audits.lower_bounds import _one_run_p_value

    found = _one_run_p_value(epsilon, canaries, guesses, right, delta)
    assert found == pytest.approx(tail[right] + 2 * canaries * delta * moved)


def test_luck_in_one_run_proves_nothing():
    proven = [one_run(RNG.random(200), RNG.random(200) < 0.5, delta=0.0).epsilon for _ in range(60)]
    assert sum(epsilon > 0 for epsilon in proven) <= 6


def test_too_few_canaries_are_refused():
    with pytest.raises(ValueError, match="at least 10 canaries"):
        one_run(np.zeros(9), np.zeros(9, dtype=bool), delta=0.0)


def test_bounds_are_beaten_together_at_the_sum_of_their_levels():
    bounds = [
        LowerBound(epsilon=epsilon, confidence=0.999, observations=1, reach=9.0, says="")
        for epsilon in (1.0, 2.0)
    ]
    assert jointly(bounds, [1.5, 2.5]) == (False, pytest.approx(0.002))
    assert jointly(bounds, [1.5, 1.9])[0]


def test_limits_are_exact_for_every_count():
    """Coverage over all outcomes of a binomial, computed and not sampled."""
    from fedspeech.audits.lower_bounds import _epsilon

    n, p, q, confidence = 60, 0.5, 0.1, 0.9
    wrong = 0.0
    for hits in range(n + 1):
        found = _epsilon(hits, np.arange(n + 1), n, n, 0.0, confidence)
        chance = binom.pmf(hits, n, p) * binom.pmf(np.arange(n + 1), n, q)
        wrong += float(chance[found > math.log(p / q)].sum())
    assert 0 < wrong <= 1 - confidence
    assert _epsilon(0, 5, n, n, 0.0, confidence) == -math.inf
    assert beta.ppf(0.05, 60, 1) == pytest.approx(0.05 ** (1 / 60))
