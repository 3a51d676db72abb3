"""Continuous Gaussian noise: published figures, and libraries against each other."""

import itertools
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import NeighboringRelation
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedspeech.privacy import accountant, dp_accounting_bridge
from fedspeech.privacy.events import (
    CappedPoisson,
    DiscreteGaussianSum,
    Gaussian,
    NonPrivate,
    PoissonSampled,
    Replaced,
    WithoutReplacement,
)
from fedspeech.privacy.filling import fill
from fedspeech.privacy.pricing import price


def gaussian(z):
    return Gaussian(noise_multiplier=z)


def poisson(q, z):
    return PoissonSampled(probability=q, event=gaussian(z))


def drawn(population, cohort, z):
    return WithoutReplacement(population=population, cohort=cohort, event=gaussian(z))


def capped(cap, *, population=1000, q=0.064, z=1.2):
    return CappedPoisson(population=population, probability=q, cap=cap, event=gaussian(z))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("q", "z", "rounds", "delta", "rdp", "pld"),
    [
        (256 / 60_000, 1.1, 14_062, 1e-5, 2.5966, 2.3817),
        (0.01, 1.0, 500, 1e-6, 1.9689, 1.5803),
        (0.064, 1.2, 300, 1e-4, 5.2223, 4.6516),
        (1.0, 4.0, 8, 1e-6, 3.5424, 3.3076),
    ],
)
def test_published_epsilons(q, z, rounds, delta, rdp, pld):
    event = poisson(q, z)
    assert dp_accounting_bridge.rdp([(event, rounds)])(delta) == pytest.approx(rdp, abs=1e-4)
    assert dp_accounting_bridge.pld([(event, rounds)])(delta) == pytest.approx(pld, abs=1e-4)


def test_published_epsilon_of_a_plain_gaussian():
    assert dp_accounting_bridge.analytic(gaussian(4.0), 8)(1e-6) == pytest.approx(
        3.307601, abs=1e-6
    )
    assert dp_accounting_bridge.rdp([(gaussian(4.0), 8)])(1e-6) == pytest.approx(3.5424, abs=1e-4)
    assert dp_accounting_bridge.pld([(gaussian(4.0), 8)])(1e-6) == pytest.approx(3.3076, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("cap", "expected"), [(96, 2.641), (64, 9.68)])
def test_a_cap_on_the_cohort_costs_what_it_should(cap, expected):
    assert dp_accounting_bridge.pld([(capped(cap), 100)])(1e-4) == pytest.approx(expected, abs=4e-3)
    assert dp_accounting_bridge.rdp([(capped(cap), 100)]) is None
    assert np.isinf(accountant.rdp(capped(cap))).all()


@pytest.mark.slow
def test_without_the_cap_it_would_cost_less():
    assert dp_accounting_bridge.pld([(poisson(0.064, 1.2), 100)])(1e-4) == pytest.approx(
        2.632, abs=1e-3
    )


@pytest.mark.slow
def test_an_attack_on_the_cap_beats_the_price_without_it_and_never_the_price_with_it():
    """Everybody comes to a cap of one of two: the phone replaces the other, amplified by a half.

    Without the phone the other's -1 is always in; with it, it is the phone's +1 half of the time.
    """
    grid = np.linspace(-30, 30, 200_001)
    without = norm.pdf(grid, -1, 2)
    with_phone = (norm.pdf(grid, 1, 2) + without) / 2

    def delta(epsilon):
        return np.maximum(with_phone - math.exp(epsilon) * without, 0).sum() * 60 / 200_000

    assert delta(dp_accounting_bridge.pld([(poisson(1.0, 2.0), 1)])(1e-5)) > 1e-5
    assert (
        delta(dp_accounting_bridge.pld([(capped(1, population=2, q=1.0, z=2.0), 1)])(1e-5)) < 1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "price", [dp_accounting_bridge.rdp, dp_accounting_bridge.pld], ids=["rdp", "pld"]
)
def test_under_replace_the_noise_counts_half(price):
    """z / 2 for every event; the library's RDP ignores the relation, its PLD doubles by itself."""
    assert price([(Replaced(event=gaussian(8.0)), 8)])(1e-6) == price([(gaussian(4.0), 8)])(1e-6)
    library = PLDAccountant(NeighboringRelation.REPLACE_ONE)
    library.compose(dp_accounting.GaussianDpEvent(8.0), 8)
    assert dp_accounting_bridge.pld([(Replaced(event=gaussian(8.0)), 8)])(1e-6) == pytest.approx(
        library.get_epsilon(1e-6), abs=1e-6
    )


@pytest.mark.slow
def test_a_drawn_cohort_is_priced_at_half_the_noise():
    library = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    library.compose(
        dp_accounting.SampledWithoutReplacementDpEvent(
            3000, 300, dp_accounting.GaussianDpEvent(1.5)
        ),
        40,
    )
    found = dp_accounting_bridge.rdp([(drawn(3000, 300, 3.0), 40)])(1 / 30_000)
    assert found == library.get_epsilon(1 / 30_000) == pytest.approx(4.6318, abs=1e-4)
    assert dp_accounting_bridge.pld([(drawn(3000, 300, 3.0), 40)]) is None
    # Drawing everybody is no sampling: one phone's vector for another, two norms apart.
    everybody = dp_accounting_bridge.rdp([(drawn(300, 300, 8.0), 8)])(1e-6)
    assert everybody == pytest.approx(3.5424, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("population", "cohort"), [(3000, 300), (100, 50), (10**6, 100)])
@pytest.mark.parametrize("z", [1.0, 3.0, 10.0])
def test_the_general_bound_for_drawn_cohorts_is_above_the_one_for_gaussians(population, cohort, z):
    """Ours is Theorem 9 for any noise; the library's Theorem 27 is for Gaussians only."""
    orders = np.arange(2.0, 60)
    ours = accountant.rdp(drawn(population, cohort, z))[np.searchsorted(accountant.ORDERS, orders)]
    relation = NeighboringRelation.REPLACE_ONE
    library = RdpAccountant(orders=orders.tolist(), neighboring_relation=relation)
    half = dp_accounting.GaussianDpEvent(z / 2)
    library.compose(dp_accounting.SampledWithoutReplacementDpEvent(population, cohort, half))
    plain = orders / (2 * (z / 2) ** 2)  # ours is never above no sampling; theirs may be
    assert (np.minimum(library._rdp, plain) <= ours * (1 + 1e-9) + 1e-14).all()
    assert ours[0] == pytest.approx(library._rdp[0], rel=1e-6)


def exact_drawn_epsilon(cohort_share, z, delta):
    """One round, one phone replaced, in the worst case of a sum of two opposite vectors: exact.

    A = (1-g) N(0) + g N(+1), B = (1-g) N(0) + g N(-1): a lower bound on any epsilon.
    """
    grid = np.linspace(-14 * z, 14 * z, 400_001)
    step = grid[1] - grid[0]
    law = lambda center: norm.pdf(grid, center, z)  # noqa: E731
    one = (1 - cohort_share) * law(0) + cohort_share * law(1)
    other = (1 - cohort_share) * law(0) + cohort_share * law(-1)

    def spare(epsilon):
        return np.maximum(one - math.exp(epsilon) * other, 0).sum() * step - delta

    return brentq(spare, 0, 60) if spare(0) > 0 else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("z", [0.5, 1.0, 3.0])
def test_no_drawn_cohort_is_cheaper_than_its_worst_case(share, z):
    event = drawn(1000, round(1000 * share), z)
    worst = exact_drawn_epsilon(share, z, 1e-6)
    assert dp_accounting_bridge.rdp([(event, 1)])(1e-6) >= worst
    assert accountant.epsilon(accountant.rdp(event), 1e-6) >= worst


@pytest.mark.slow
def test_pricing_at_z_instead_of_half_of_it_would_be_beaten():
    worst = exact_drawn_epsilon(0.9, 1.0, 1e-6)
    wrong = drawn(1000, 900, 2.0)  # as if the library's z were not halved
    assert dp_accounting_bridge.rdp([(wrong, 1)])(1e-6) < worst


def test_other_noise_than_gaussian_is_not_the_librarys():
    event = DiscreteGaussianSum(sensitivity=10.0, stddev=3.0, shares=9, dimension=4)
    for candidate in (event, PoissonSampled(probability=0.1, event=event), Replaced(event=event)):
        assert dp_accounting_bridge.rdp([(candidate, 3)]) is None
        assert dp_accounting_bridge.pld([(candidate, 3)]) is None
        assert dp_accounting_bridge.analytic(candidate, 3) is None
    assert dp_accounting_bridge.rdp([(NonPrivate(), 3)])(1e-6) == math.inf
    assert dp_accounting_bridge.pld([(NonPrivate(), 3)])(1e-6) == math.inf


def test_digits_that_the_library_loses_are_not_read_as_free():
    """Wide noise at a tiny share: the library's sum of near-ones dips below 1, and it answers 0."""
    wide = dp_accounting.PoissonSampledDpEvent(1e-9, dp_accounting.GaussianDpEvent(1e4))
    assert RdpAccountant().compose(wide, 10**7).get_epsilon(1e-10) == 0
    event = poisson(1e-9, 1e4)
    assert dp_accounting_bridge.rdp([(event, 10**7)])(1e-10) > 0
    assert accountant.rdp(event)[accountant.ORDERS == 2.0][0] == pytest.approx(
        1e-18 * math.expm1(1e-8), rel=1e-6
    )
    small = drawn(10**9, 1, 50.0)
    assert 0 < accountant.rdp(small)[accountant.ORDERS == 2.0][0] < 1e-16
    assert dp_accounting_bridge.rdp([(small, 10**7)])(1e-10) > 0


@pytest.mark.parametrize(
    ("rounds", "z", "delta"), [(8, 4.0, 1e-10), (8, 4.0, 1e-12), (1000, 30.0, 1e-10)]
)
def test_small_deltas_survive_the_convolution(rounds, z, delta):
    """A coin of 1 goes through the same convolution as any other; the answer is known exactly."""
    exact = dp_accounting_bridge.analytic(gaussian(z), rounds)(delta)
    found = dp_accounting_bridge.pld([(poisson(1.0, z), rounds)])(delta)
    assert exact <= found <= exact + 5e-3


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-8, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14])
@pytest.mark.parametrize(("rounds", "z"), [(40, 5.0), (10_000, 300.0), (10**6, 2000.0)])
def test_rounding_errors_of_the_convolution_are_never_taken_for_privacy(rounds, z, delta):
    """They grow with the rounds: without room for them, 3.14 is printed where 3.61 is exact."""
    exact = dp_accounting_bridge.analytic(gaussian(z), rounds)(delta)
    assert dp_accounting_bridge.pld([(poisson(1.0, z), rounds)])(delta) >= exact


def test_where_the_convolution_has_no_digits_left_there_is_another_accountant():
    filled = fill(
        mechanism="central", participation="poisson", population=10**6, probability=1.0,
        rounds=10**6, noise_multiplier=2000.0, secure_aggregation="ideal", delta=1e-13,
    )  # fmt: skip
    assert set(price(filled).release.epsilons) == {"rdp"}


@pytest.mark.slow
def test_a_coarse_grid_never_lowers_the_answer():
    event = poisson(0.1, 0.3)
    coarse = dp_accounting_bridge.pld([(event, 200)])(1e-6)
    fine = PLDAccountant(value_discretization_interval=1e-3)
    fine.compose(dp_accounting_bridge._library_event(event), 200)
    exact = fine.get_epsilon(1e-6)
    assert exact * (1 - 1e-9) <= coarse <= 1.01 * exact


# --- Libraries against each other -----------------------------------------------------------------

GRID = list(
    itertools.product((0.001, 0.01, 0.05, 0.2), (0.7, 1.0, 2.0, 5.0), (10, 200, 1000), (1e-5, 1e-7))
)


def agreeing(q, z, rounds, delta):
    """Checks one setting; returns the accountants that both libraries had a figure of."""
    event = poisson(q, z)
    checks = accountant.opacus_checks(probability=q, noise_multiplier=z, rounds=rounds, delta=delta)
    renyi, loss = (
        dp_accounting_bridge.rdp([(event, rounds)])(delta),
        dp_accounting_bridge.pld([(event, rounds)])(delta),
    )
    assert loss <= renyi
    assert loss <= accountant.epsilon(rounds * accountant.rdp(event), delta) * (1 + 1e-6)
    agreed = []
    if 0.3 < renyi < 18:
        assert renyi == pytest.approx(checks["opacus_rdp"], rel=5e-3)
        agreed.append("rdp")
    if "prv" in checks:
        assert checks["prv"] - 0.01 == pytest.approx(loss, abs=5e-3 + 1e-3 * loss)
        agreed.append("loss distribution")
    return agreed


@pytest.mark.parametrize(
    "every", [pytest.param(5, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.soak)]
)
def test_two_libraries_agree_in_many_settings(every):
    """dp-accounting against Opacus, one test since it counts: its parts may run anywhere.

    RDP to 0.5 % between .3 and 18, where both have the orders that matter; PLD against PRV (which
    states .01 more than it finds) to .005 and 0.1 %.
    """
    agreed = [name for setting in GRID[::every] for name in agreeing(*setting)]
    assert agreed.count("rdp") >= 60 // every
    assert agreed.count("loss distribution") >= 80 // every


@pytest.mark.slow
def test_opacus_gdp_is_too_small_and_never_reported():
    from opacus.accountants import GaussianAccountant

    gdp = GaussianAccountant()
    gdp.history = [(0.6, 0.002, 1000)]
    checks = accountant.opacus_checks(
        probability=0.002, noise_multiplier=0.6, rounds=1000, delta=1e-5
    )
    assert gdp.get_epsilon(1e-5) < 0.6 * dp_accounting_bridge.pld([(poisson(0.002, 0.6), 1000)])(
        1e-5
    )
    assert set(checks) == {"opacus_rdp", "prv"}


def test_prv_is_left_out_where_it_does_not_apply():
    found = accountant.opacus_checks(probability=1.0, noise_multiplier=4.0, rounds=8, delta=1e-6)
    assert set(found) == {"opacus_rdp"}
    found = accountant.opacus_checks(probability=0.1, noise_multiplier=0.3, rounds=2000, delta=1e-6)
    assert "prv" not in found


@pytest.mark.slow
def test_small_epsilons_are_those_of_a_finer_grid_and_of_another_library():
    event = poisson(0.001, 5.0)
    found = dp_accounting_bridge.pld([(event, 1000)])(1e-5)
    library = PLDAccountant(value_discretization_interval=2e-6)
    exact = library.compose(dp_accounting_bridge._library_event(event), 1000).get_epsilon(1e-5)
    assert exact <= found <= 1.02 * exact
    checks = accountant.opacus_checks(
        probability=0.001, noise_multiplier=5.0, rounds=1000, delta=1e-5
    )
    assert checks["prv"] - 0.01 == pytest.approx(found, abs=5e-4)
