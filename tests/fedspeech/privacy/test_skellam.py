"""The Skellam bound against exact divergences of Skellam laws."""

import math

import numpy as np
import pytest
from scipy.special import ive, logsumexp

from fedspeech.privacy import accountant
from fedspeech.privacy.events import (
    PoissonSampled,
    Presence,
    SkellamSum,
    WithoutReplacement,
    from_record,
    to_record,
)


def log_law(variance: float, reach: int) -> np.ndarray:
    """ln P[k] for |k| <= reach, by downward recurrence of Bessel ratios: precise in the tails."""
    ratios = np.zeros(reach + 202)
    for k in range(reach + 200, -1, -1):
        ratios[k] = 1 / (ratios[k + 1] + 2 * (k + 1) / variance)
    start = math.log(ive(0, variance))
    half = np.concatenate([[start], start + np.cumsum(np.log(ratios[:reach]))])
    return np.concatenate([half[:0:-1], half])


def total(*, shift, variance, shares=1, dimension=1):
    return SkellamSum(
        sensitivity=float(shift),
        stddev=math.sqrt(variance / shares),
        shares=shares,
        dimension=dimension,
    )


@pytest.mark.parametrize("variance", [0.5, 2.0, 20.0, 200.0])
@pytest.mark.parametrize("shift", [1, 2, 5, 30])
def test_the_bound_covers_both_directions_and_is_nearly_tight(variance, shift):
    law = log_law(variance, int(40 * math.sqrt(variance) + 40 * shift + 400))
    one, other = law[:-shift], law[shift:]
    curve = accountant.rdp(total(shift=shift, variance=variance))
    for order in (2, 3, 5, 8, 16, 32):
        terms = order * one + (1 - order) * other
        if not 5 < terms.argmax() < terms.size - 5:
            continue  # the moment reaches beyond the grid
        claim = curve[np.searchsorted(accountant.ORDERS, order)]
        forward = logsumexp(terms) / (order - 1)
        backward = logsumexp(order * other + (1 - order) * one) / (order - 1)
        assert max(forward, backward) <= claim * (1 + 1e-9)
        if variance >= 200 and shift == 1:
            assert claim <= forward * 1.05


def test_shares_sum_exactly_whoever_drops_out():
    many = accountant.rdp(total(shift=10, variance=400.0, shares=50))
    one = accountant.rdp(total(shift=10, variance=400.0))
    np.testing.assert_allclose(many, one, rtol=1e-12)


def test_orders_that_are_no_integers_have_no_bound():
    curve = accountant.rdp(total(shift=3, variance=100.0, dimension=64))
    whole = accountant.ORDERS % 1 == 0
    assert np.isfinite(curve[whole]).all()
    assert np.isinf(curve[~whole]).all()


def test_with_wide_noise_the_price_is_that_of_the_gaussian():
    event = total(shift=1000, variance=4000.0**2, dimension=64)
    found = accountant.epsilon(8 * accountant.rdp(event), 1e-6)
    assert found == pytest.approx(3.5424, abs=2e-3)


def test_coins_and_absence_are_refused():
    """Nobody has derived what the missing noise of an absent phone tells."""
    event = total(shift=3, variance=100.0)
    with pytest.raises(ValueError, match="poisson participation is refused with skellam noise"):
        PoissonSampled(probability=0.1, event=event)
    record = {"kind": "PoissonSampled", "probability": 0.1, "event": to_record(event)}
    with pytest.raises(ValueError, match="cannot hold one of kind SkellamSum"):
        from_record(record)
    record = {"kind": "Presence", "event": to_record(event)}
    with pytest.raises(ValueError, match="cannot hold one of kind SkellamSum"):
        from_record(record)
    with pytest.raises((TypeError, AttributeError)):
        accountant.rdp(Presence(event="three rounds"))


def test_one_drawn_cohort_of_everybody_is_no_sampling():
    event = total(shift=100, variance=400.0**2)
    drawn = WithoutReplacement(population=50, cohort=50, event=event)
    replaced = accountant.rdp(total(shift=200, variance=400.0**2))
    whole = np.isfinite(replaced)
    np.testing.assert_allclose(accountant.rdp(drawn)[whole], replaced[whole], rtol=1e-12)


def test_the_bound_is_the_papers_term_by_term():
    """Order 2, L2 3, L1 min(sqrt(d) 3, 9) = 9, variance 100; then few coordinates, L1 3."""
    wide = accountant.rdp(total(shift=3, variance=100.0, shares=4, dimension=10_000))
    narrow = accountant.rdp(total(shift=3, variance=100.0, shares=4, dimension=1))
    at_two = np.searchsorted(accountant.ORDERS, 2)
    assert wide[at_two] == pytest.approx(0.09 + (27 + 54) / 40_000, rel=1e-12)
    assert narrow[at_two] == pytest.approx(0.09 + (27 + 18) / 40_000, rel=1e-12)
    loud = accountant.rdp(total(shift=3, variance=1.0, dimension=1))
    assert loud[np.searchsorted(accountant.ORDERS, 100)] == pytest.approx(450 + 4.5, rel=1e-12)
