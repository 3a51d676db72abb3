import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedspeech.privacy import encoding, mechanisms
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.events import DiscreteGaussianSum, NonPrivate
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=18, min_cohort=215,
    min_reporting=215,
    delta=1 / 30_000, epsilon_budget=2.0,
)  # fmt: skip
NONE = dataclasses.replace(PLAN, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf)
ENTROPY = NoiseEntropy.seeded(1, "plan tests")


def change(plan=PLAN, **changes):
    return dataclasses.replace(plan, **changes)


def send(plan, vector, phone=0, attempt=0):
    return plan.privatize(
        vector,
        rotation_seed=b"round",
        rounding=ENTROPY.keystream("round", phone, attempt),
        noise=ENTROPY.keystream("noise", phone, attempt),
    )


def mean_of(plan, vectors):
    total = ring_sum([send(plan, v, i) for i, v in enumerate(vectors)], plan.bits)
    return plan.decode(total, rotation_seed=b"round").mean


def unit(norm, seed=0, dimension=PLAN.dimension):
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (norm * vector / np.linalg.norm(vector)).astype(np.float32)


# --- The promises of the path, each as a check that a broken path fails --------------------------


def check_noise(plan=PLAN):
    """A phone with nothing to say adds exactly its share; 5.5 standard errors of 20 phones."""
    sent = [send(plan, np.zeros(plan.dimension), i) for i in range(20)]
    values = np.concatenate([encoding.from_ring(v, plan.bits) for v in sent]).astype(float)
    error = 5.5 / math.sqrt(values.size)
    assert abs(values.mean()) < error * plan.stddev
    assert abs(values.var() / plan.stddev**2 - 1) < error * math.sqrt(2)
    share = plan.noise_multiplier * plan.clip_norm * plan.scale / math.sqrt(plan.honest)
    assert plan.stddev == pytest.approx(share)


def check_clip(plan=NONE):
    """A vector of 1,000 times the norm arrives in its direction with the clip norm."""
    arrived = mean_of(plan, [unit(100.0)]) * 300
    np.testing.assert_allclose(arrived, unit(0.1), atol=2.5 / plan.scale)
    sent = encoding.from_ring(send(plan, unit(100.0)), plan.bits)
    assert sum(int(v) ** 2 for v in sent) <= plan.norm_bound_squared


def check_unbiased(plan=NONE):
    """300 phones, values between the integers: 6 standard errors of a rounding per coordinate."""
    vector = unit(0.3 * math.sqrt(PLAN.padded_dimension) / plan.scale, seed=3)
    error = mean_of(plan, [vector] * 300) - vector
    bound = 6 * 0.5 / math.sqrt(300) / plan.scale
    assert np.abs(error).max() < bound
    # Rounding to nearest loses part of the whole vector: look along it, too.
    along = float(error @ vector) / float(np.linalg.norm(vector))
    assert abs(along) < bound


def check_divisor(plan=NONE):
    """200 phones of an expected 300: the sum is divided by 300 all the same."""
    arrived = mean_of(plan, [unit(0.09)] * 200)
    np.testing.assert_allclose(arrived, unit(0.09) * 200 / 300, atol=6 / plan.scale / 14)


CHECKS = [check_noise, check_clip, check_unbiased, check_divisor]


@pytest.mark.parametrize("check", CHECKS)
def test_the_path_keeps_its_promises(check):
    check()


class Silent:
    def draw(self, keystream, num_values):
        return np.zeros(num_values, dtype=np.int64)


def no_noise(monkeypatch):
    monkeypatch.setattr(mechanisms.DiscreteGaussian, "of", lambda stddev: Silent())


def half_noise(monkeypatch):
    monkeypatch.setattr(
        mechanisms.DiscreteGaussian, "of", lambda s: mechanisms.DiscreteGaussian(s / 2)
    )


def noise_sized_for_those_expected(monkeypatch):
    sized = PLAN.stddev * math.sqrt(PLAN.honest / PLAN.expected_cohort)
    monkeypatch.setattr(PrivacyPlan, "stddev", property(lambda plan: sized))


def clip_off(monkeypatch):
    monkeypatch.setattr(L2Clip, "__call__", lambda clip, vector: vector.astype(np.float64))


def clip_and_norm_check_off(monkeypatch):
    clip_off(monkeypatch)
    monkeypatch.setattr(
        encoding,
        "conditional_round",
        lambda values, bound, stream: encoding.stochastic_round(values, stream),
    )


def rounding_to_nearest(monkeypatch):
    monkeypatch.setattr(
        encoding, "stochastic_round", lambda values, stream: np.rint(values).astype(np.int64)
    )


def rounding_down(monkeypatch):
    monkeypatch.setattr(
        encoding, "stochastic_round", lambda values, stream: np.floor(values).astype(np.int64)
    )


def divisor_of_those_who_replied(monkeypatch):
    monkeypatch.setattr(PrivacyPlan, "expected_cohort", property(lambda plan: 200.0))


def no_divisor(monkeypatch):
    monkeypatch.setattr(PrivacyPlan, "expected_cohort", property(lambda plan: 1.0))


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (check_noise, no_noise),
        (check_noise, half_noise),
        (check_noise, noise_sized_for_those_expected),
        (check_clip, clip_off),
        (check_clip, clip_and_norm_check_off),
        (check_unbiased, rounding_to_nearest),
        (check_unbiased, rounding_down),
        (check_divisor, divisor_of_those_who_replied),
        (check_divisor, no_divisor),
    ],
)
def test_a_path_broken_on_purpose_is_noticed(check, broken, monkeypatch):
    broken(monkeypatch)
    with pytest.raises(AssertionError):
        check(change(NONE) if check is not check_noise else change())


# --- What a phone sends --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_delta_that_is_not_finite_is_sent_as_zeros_with_full_noise(value):
    vector = unit(0.05)
    vector[3] = value
    np.testing.assert_array_equal(send(PLAN, vector), send(PLAN, np.zeros(PLAN.dimension)))


@settings(max_examples=25)
@given(arrays(np.float32, 600, elements=st.floats(-(2.0**20), 2.0**20, width=32)))
def test_no_vector_says_more_than_the_sensitivity(vector):
    sent = encoding.from_ring(send(NONE, vector), NONE.bits)
    assert sum(int(v) ** 2 for v in sent) <= NONE.norm_bound_squared


def one_round(**fields):
    """A plan of one round with a tenth of the phones, whose minimums refuse nothing."""
    return PrivacyPlan(
        participation_probability=0.1, rounds=1, max_participations=1, min_cohort=1,
        min_reporting=1,
        delta=1e-9, **{"secure_aggregation": "ideal", "dropout_rate": 0.0, **fields},
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    dimension=st.integers(1, 300),
    clip_norm=st.floats(1e-9, 1e9),
    cohort=st.integers(20, 100_000),
    noise=st.floats(0.3, 50),
    mechanism=st.sampled_from(["none", "central"]),
    lengths=st.lists(st.sampled_from([0.0, 1e-30, 0.5, 1.0, 1.0 + 1e-7, 3.0, 1e20]), min_size=3,
                     max_size=3),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_at_any_size_no_phone_exceeds_the_sensitivity_and_sums_are_exact(
    dimension, clip_norm, cohort, noise, mechanism, lengths, seed
):
    """Dimension, clip norm, bits and cohort together: bounds in exact integers, sums without wrap.

    "central" has the same integers as "distributed" before its noise, and leaves room for it.
    """
    noisy = mechanism == "central"
    try:
        plan = one_round(
            mechanism=mechanism, dimension=dimension, clip_norm=clip_norm, population=10 * cohort,
            noise_multiplier=noise if noisy else 0.0, epsilon_budget=1e9 if noisy else math.inf,
        )  # fmt: skip
    except ValueError as refusal:  # few coordinates: rounding costs too much at any width
        if "no ring of up to 32 bits" not in str(refusal):
            raise
        return
    reach = plan.clip_norm * plan.scale
    assert (reach + math.sqrt(plan.padded_dimension)) ** 2 < 2**62
    assert reach <= plan.sensitivity <= 1.01 * reach
    assert plan.server_stddev == noise * plan.sensitivity * noisy
    sent = []
    for phone, length in enumerate(lengths):
        vector = unit(1.0, seed + phone, dimension).astype(np.float64) * length * clip_norm
        sent.append(encoding.from_ring(send(plan, vector, phone), plan.bits))
        assert sum(int(value) ** 2 for value in sent[-1]) <= plan.norm_bound_squared
    exact = [sum(map(int, column)) for column in zip(*sent, strict=True)]
    if max(map(abs, exact)) < plan.modulus // 2:
        ring = [encoding.to_ring(vector, plan.bits) for vector in sent]
        total = encoding.from_ring(ring_sum(ring, plan.bits), plan.bits)
        assert [int(value) for value in total] == exact


def test_a_grid_on_which_only_zeros_are_short_enough_is_not_taken():
    """23,467 phones, one coordinate, 16 bits: a fifth of an integer at the clip norm."""
    plan = one_round(
        mechanism="none", dimension=1, clip_norm=1.0, population=234_670, noise_multiplier=0.0,
        epsilon_budget=math.inf,
    )  # fmt: skip
    assert plan.bits > 16
    assert plan.sensitivity >= plan.clip_norm * plan.scale


def test_what_is_sent_is_uint32_of_the_padded_size_below_the_modulus():
    sent = send(PLAN, unit(0.1))
    assert (sent.dtype, sent.shape, PLAN.padded_dimension) == (np.uint32, (1024,), 1024)
    assert int(sent.max()) < PLAN.modulus


def test_phones_and_attempts_have_different_noise_and_one_key_the_same():
    zeros = np.zeros(PLAN.dimension)
    first = send(PLAN, zeros, phone=1)
    np.testing.assert_array_equal(first, send(PLAN, zeros, phone=1))
    for other in (send(PLAN, zeros, phone=2), send(PLAN, zeros, phone=1, attempt=1)):
        assert (first == other).mean() < 0.1


def test_a_vector_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(600,\), got \(601,\)"):
        send(PLAN, np.zeros(601))


# --- What the server makes of it -----------------------------------------------------------------


def test_error_of_the_mean_is_the_noise_that_was_accounted():
    vector = unit(0.08)
    error = mean_of(PLAN, [vector] * 300) - vector
    expected = PLAN.stddev * math.sqrt(300) / PLAN.scale / 300
    assert np.std(error) == pytest.approx(expected, rel=0.15)


def test_full_cohorts_of_like_minded_phones_do_not_wrap():
    vectors = [unit(0.1)] * 300
    arrived = mean_of(PLAN, vectors)
    assert np.linalg.norm(arrived - unit(0.1)) < 0.05
    total = ring_sum([send(PLAN, v, i) for i, v in enumerate(vectors)], PLAN.bits)
    assert not PLAN.wrap_warning(total)
    assert not PLAN.norm_warning(total)


def test_wraps_and_long_sums_are_told():
    zeros = np.zeros(1024, dtype=np.uint32)
    near = zeros.copy()
    near[5] = 2**15 - 100
    assert PLAN.wrap_warning(near)
    near[5] = 2**16 - 2**15 + 100  # the same distance below zero
    assert PLAN.wrap_warning(near)
    near[5] = int(0.8 * 2**15)
    assert not PLAN.wrap_warning(near)
    assert not PLAN.norm_warning(zeros)
    assert PLAN.norm_warning(np.full(1024, 2**15 - 1, dtype=np.uint32))
    assert PLAN.norm_bound > PLAN.max_cohort


def test_phones_that_all_send_the_longest_integers_raise_no_alarm():
    """Without noise there is no slack for rounding, which lengthens a vector at the clip norm."""
    plan = change(NONE, participation_probability=1.0)
    each = math.isqrt(plan.norm_bound_squared // plan.padded_dimension)
    flat = np.full(plan.padded_dimension, each, dtype=np.int64)
    flat[: plan.padded_dimension // 2] += 1
    while int(flat @ flat) > plan.norm_bound_squared:
        flat[np.argmax(flat)] -= 1
    assert math.sqrt(flat @ flat) / plan.scale > plan.clip_norm
    assert not plan.norm_warning(encoding.to_ring(plan.population * flat, plan.bits))


def test_a_sum_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected uint32"):
        PLAN.decode(np.zeros(600, dtype=np.uint32), rotation_seed=b"")
    with pytest.raises(ValueError, match="below the modulus 65536"):
        PLAN.decode(np.full(1024, 65536, dtype=np.uint32), rotation_seed=b"")


# --- What follows from the fields ----------------------------------------------------------------


def test_scale_is_the_one_at_which_sums_stay_in_the_ring():
    """6.5 sqrt(s^2 (n^2 C^2 / d + z^2 C^2 n / m) + n / 4) = 2^15, n six deviations over 300."""
    n, c, m = 300 + 6 * math.sqrt(270), 0.1, 215
    assert PLAN.max_cohort == math.ceil(n)
    n = math.ceil(n)
    variance = PLAN.scale**2 * (n**2 * c**2 / 1024 + 9 * c**2 * n / m) + n / 4
    assert 6.5 * math.sqrt(variance) == pytest.approx(2**15)
    assert PLAN.expected_cohort == 300


def test_ring_widens_when_rounding_would_cost_more_than_one_percent():
    assert PLAN.bits == 16
    wide = change(
        population=300_000,
        min_cohort=20_000,
        min_reporting=20_000,
        delta=1e-7,
        max_participations=30,
    )
    assert wide.bits == 24
    for plan in (PLAN, wide):
        assert 1 <= plan.sensitivity / (plan.clip_norm * plan.scale) <= 1.01
        assert (plan.clip_norm * plan.scale + math.sqrt(plan.padded_dimension)) ** 2 < 2**62


def test_a_plan_survives_json_and_any_change_changes_its_fingerprint():
    for plan in (PLAN, NONE):
        assert PrivacyPlan(**json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
    other = [
        change(dimension=601), change(clip_norm=0.11), change(noise_multiplier=3.1),
        change(rounds=41), change(max_participations=17), change(min_reporting=214),
        change(colluders=1),
        change(dropout_rate=0.01), change(delta=1e-5), change(epsilon_budget=1.0),
        change(unit="phone"), NONE, PLAN,
    ]  # fmt: skip
    assert len({plan.fingerprint for plan in other}) == len(other)
    assert change().fingerprint == PLAN.fingerprint


def test_events_say_what_is_released():
    assert PLAN.cost.given == DiscreteGaussianSum(
        sensitivity=PLAN.sensitivity, stddev=PLAN.stddev, shares=215, dimension=1024
    )
    assert NONE.cost.given == NonPrivate()
    assert change(colluders=15).cost.given.shares == 200
    # The same protection from fewer honest shares: each adds more.
    assert change(colluders=15).stddev > PLAN.stddev


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": 1 / 29_000}, "delta must be positive and at most"),
        ({"delta": 0.0}, "delta must be positive"),
        ({"min_cohort": 226}, "min_cohort must be at most 75%"),
        ({"min_reporting": 216}, "min_reporting <= min_cohort"),
        ({"colluders": 215}, "colluders must be an integer"),
        ({"noise_multiplier": 0.0}, "noise_multiplier must be positive"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be positive"),
        ({"noise_multiplier": 0.01}, "stddev >= 2"),
        ({"clip_norm": -1.0}, "clip_norm must be positive"),
        ({"participation_probability": 0.0}, "participation_probability"),
        ({"participation_probability": 1.5}, "participation_probability"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"rounds": 0}, "rounds must be a positive integer"),
        ({"dimension": 2.5}, "dimension must be a positive integer"),
        ({"max_participations": True}, "max_participations must be a positive integer"),
        ({"epsilon_budget": 0.0}, "epsilon_budget must be positive"),
        ({"epsilon_budget": math.nan}, "epsilon_budget must be positive"),
        ({"mechanism": "laplace"}, "mechanism must be"),
        ({"mechanism": "skellam"}, "poisson participation is refused with skellam"),
        ({"unit": "speaker"}, "unit must be"),
        ({"secure_aggregation": "plain"}, "secure_aggregation must be"),
        ({"threat_model": "honest"}, "threat_model must be"),
        (
            {"dropout_rate": 0.4, "secure_aggregation": "masked"},
            "more than half and colluders must be there at the end",
        ),
        ({"mechanism": "none"}, "noise_multiplier must be 0"),
        ({"mechanism": "none", "noise_multiplier": 0.0}, "epsilon_budget must be infinite"),
    ],
)
def test_a_broken_rule_is_named_with_its_value(changes, message):
    with pytest.raises(ValueError, match=message):
        change(**changes)
    name = next(iter(changes))
    with pytest.raises(ValueError, match=name):
        change(**changes)


def test_a_population_that_no_ring_holds_is_refused():
    with pytest.raises(ValueError, match="no ring of up to 32 bits"):
        PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
            dimension=2**20, clip_norm=1.0, noise_multiplier=1.0, population=10**11,
            participation_probability=0.9, rounds=1, max_participations=1, min_cohort=10**10,
            min_reporting=10**10, delta=1e-13, epsilon_budget=1.0,
        )  # fmt: skip
