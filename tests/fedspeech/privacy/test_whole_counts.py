"""Counts go into the ring as they are: exact in sums, within the bound, hidden as ever."""

import dataclasses
import math

import numpy as np
import pytest
from counting import axis, plan_for
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedspeech.messages import RoundKey
from fedspeech.privacy import encoding
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.mechanisms import DiscreteGaussian
from fedspeech.privacy.whole_counts import squared_bound, to_integers
from fedspeech.queries.histogram import Histogram
from fedspeech.round import privatize_phone, privatize_phones
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import Keystream, NoiseEntropy

QUERY = Histogram(axes=(axis("a", 1, 24),), max_cells=5)
ENTROPY = NoiseEntropy.seeded(1, "whole counts")
KEY = RoundKey(round=0, attempt=0, round_id=bytes(16), context=bytes(32))
NONE = {"mechanism": "none", "noise_multiplier": 0.0, "epsilon_budget": math.inf}


def plan_of(population=400, **changes):
    return plan_for(QUERY, population=population, whole=True, **changes)


def sent(plan, vectors):
    phones = range(len(vectors))
    return privatize_phones(plan, vectors, KEY, phones, ENTROPY, plan.clip_norm)


def some_counts(phones, cells=24):
    rng = np.random.default_rng(0)
    found = np.zeros((phones, cells), np.float32)
    for row in found:
        row[rng.choice(cells, 5, replace=False)] = 1
    return found


def decoded(plan, vectors):
    total = ring_sum(sent(plan, vectors), plan.bits)
    return plan.decode(total, rotation_seed=b"").mean * plan.expected_cohort


@pytest.mark.parametrize(("mechanism", "participation"), [
    ("distributed", "poisson"), ("skellam", "fixed_size"), ("central", "poisson"),
])  # fmt: skip
def test_side_by_side_and_alone_phones_send_the_same_bits(mechanism, participation):
    plan = plan_of(mechanism=mechanism, participation=participation)
    vectors = some_counts(30)
    alone = [
        privatize_phone(plan, vector, KEY, phone, ENTROPY, plan.clip_norm)
        for phone, vector in enumerate(vectors)
    ]
    np.testing.assert_array_equal(sent(plan, vectors), alone)
    assert len({row.tobytes() for row in sent(plan, np.zeros_like(vectors))}) == (
        1 if plan.central else 30  # each phone's noise is its own
    )


def test_a_sum_is_that_of_the_counts_and_wraps_nowhere():
    """Also where every phone stands in the same cells: rounding would have shortened them."""
    plan = plan_of(**NONE, participation_probability=1.0)
    vectors = np.zeros((400, 24), np.float32)
    vectors[:, :5] = 1  # at the clip norm
    np.testing.assert_array_equal(decoded(plan, vectors), vectors.sum(axis=0))
    other = dataclasses.replace(plan, whole=False)
    assert decoded(other, vectors)[0] < 400


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    arrays(np.float32, (3, 6), elements=st.one_of(
        st.integers(-4, 4), st.sampled_from([0.5, math.nan, math.inf, -math.inf, 1e30, -2.0**63]),
    )),
)  # fmt: skip
def test_what_is_not_whole_or_too_long_becomes_zeros(bound, scale, vectors):
    found = to_integers(vectors, scale, bound)
    for row, vector in zip(found.tolist(), vectors.tolist(), strict=True):
        fits = all(value == value and abs(value) < 1e6 and value == int(value) for value in vector)
        fits = fits and sum(int(value) ** 2 for value in vector) <= bound
        assert row == ([scale * int(value) for value in vector] if fits else [0] * 6)


@pytest.mark.parametrize("cells", range(1, 200))
def test_the_bound_of_so_many_counts_is_exact(cells):
    for each in (1, 2, 7):
        assert squared_bound(each * math.sqrt(cells)) == each**2 * cells


def test_one_phone_moves_a_sum_by_the_sensitivity_that_is_priced_at_most():
    plan = plan_of(**NONE)
    longest = encoding.from_ring(sent(plan, some_counts(1))[0], plan.bits)
    assert math.sqrt(float(longest @ longest)) == pytest.approx(plan.sensitivity, rel=1e-12)
    too_long = np.zeros((1, 24), np.float32)
    too_long[0, :6] = 1
    assert not sent(plan, too_long).any()


@pytest.mark.parametrize("mechanism", ["distributed", "central"])
def test_the_same_noise_costs_no_more_than_of_real_numbers(mechanism):
    whole = plan_of(population=5000, mechanism=mechanism, noise_multiplier=3.0)
    other = dataclasses.replace(whole, whole=False)
    assert whole.guarantee(1).epsilon_release <= other.guarantee(1).epsilon_release * (1 + 1e-9)
    noise = whole.stddev * math.sqrt(whole.honest) or whole.server_stddev
    assert noise / whole.scale == pytest.approx(3.0 * QUERY.l2_bound)


def test_noise_is_that_of_the_plan():
    """Of 300 phones that say nothing; 5 standard errors of a variance."""
    plan = plan_of()
    values = encoding.from_ring(sent(plan, np.zeros((300, 24), np.float32)), plan.bits)
    error = 5 * math.sqrt(2 / values.size)
    assert abs(values.astype(float).var() / plan.stddev**2 - 1) < error


def test_a_phone_draws_the_same_beside_others():
    law = DiscreteGaussian.of(7.5)
    keys = [bytes([number]) * 32 for number in range(5)]
    together = law.draw_each([Keystream(key) for key in keys], 500)
    np.testing.assert_array_equal(together, [law.draw(Keystream(key), 500) for key in keys])


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_a_ring_has_room_for_everybody_in_one_cell_and_its_noise(bits):
    plan = plan_of(ring_bits=bits, noise_multiplier=9.0)
    most = plan.max_cohort * math.floor(plan.clip_norm) * plan.scale
    assert most + 6.5 * plan.stddev * math.sqrt(plan.max_cohort) < plan.modulus / 2


def test_too_many_phones_for_a_ring_are_refused():
    with pytest.raises(ValueError, match="no ring"):
        plan_of(population=2**30, noise_multiplier=1.0)


@pytest.mark.parametrize("changes", [
    {"clip_norm": 0.5},
    {"adaptive_clipping": AdaptiveClipping(
        target_quantile=0.3, bit_noise=0.5, min_clip_norm=0.01, max_clip_norm=4.0)},
])  # fmt: skip
def test_whole_numbers_have_a_bound_that_stays(changes):
    with pytest.raises(ValueError, match="whole numbers"):
        plan_of(**changes)


def test_plans_of_real_numbers_keep_the_noise_that_they_always_had():
    plan = plan_of()
    assert "whole" in plan.identity()
    assert "whole" not in dataclasses.replace(plan, whole=False).identity()
