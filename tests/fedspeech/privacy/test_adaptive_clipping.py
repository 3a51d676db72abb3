import math

import numpy as np
import pytest
import scipy.stats

from fedspeech.privacy.adaptive_clipping import AdaptiveClipping, vector_noise_multiplier
from fedspeech.privacy.clipping import L2Clip
from fedspeech.privacy.events import Joint
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy

ENTROPY = NoiseEntropy.seeded(4, "adaptive clipping")
RULE = AdaptiveClipping(target_quantile=0.5, min_clip_norm=0.01, max_clip_norm=10.0)


def plan(mechanism="distributed", **changes):
    fields = {
        "mechanism": mechanism, "dimension": 60, "clip_norm": 1.0, "noise_multiplier": 1.0,
        "population": 80, "participation": "fixed_size", "participation_probability": 0.5,
        "rounds": 10, "max_participations": 10, "min_cohort": 30, "min_reporting": 30,
        "delta": 1 / 800,
        "epsilon_budget": 1e6 if mechanism != "none" else math.inf,
        "secure_aggregation": "ideal", "dropout_rate": 0.0,
        "adaptive_clipping": AdaptiveClipping(
            target_quantile=0.5, bit_noise=0.2, min_clip_norm=0.01, max_clip_norm=10.0
        ),
    }  # fmt: skip
    if mechanism == "none":
        fields["noise_multiplier"] = 0.0
    return PrivacyPlan(**{**fields, **changes})


def test_the_vector_gets_what_the_bit_leaves():
    """Andrew et al. 2021, Theorem 1, with sigma_b = n / 20 and n = 32."""
    assert vector_noise_multiplier(1.0, 32 / 20) == pytest.approx(1.05272, abs=1e-5)
    together = 1 / vector_noise_multiplier(1.0, 1.6) ** 2 + 1 / 3.2**2
    assert together == pytest.approx(1.0)
    for bit_stddev in (0.5, 0.49):
        with pytest.raises(ValueError, match="must be below twice the stddev"):
            vector_noise_multiplier(1.0, bit_stddev)


def test_without_noise_the_clip_norm_climbs_by_e_a_tenth_and_settles_at_the_quantile():
    """From 0.1, where nothing is within, by exp(eta gamma) a round; then to the median, 2."""
    norms = 2 * np.exp(0.3 * scipy.stats.norm.ppf((np.arange(1000) + 0.5) / 1000))
    clip_norm, at = 0.1, {}
    for t in range(1, 200):
        clip_norm = RULE.updated(clip_norm, float((norms <= clip_norm).mean()))
        at[t] = clip_norm
    assert at[10] == pytest.approx(0.1 * math.e, abs=1e-4)
    assert 0.72 < at[20] < 0.1 * math.e**2 + 1e-9
    assert at[60] == pytest.approx(2.0, abs=0.05)
    assert clip_norm == pytest.approx(2.0, abs=0.01)


def test_a_bound_is_never_crossed():
    assert RULE.updated(0.0101, 5.0) == 0.01
    assert RULE.updated(9.9, -5.0) == 10.0


@pytest.mark.parametrize(
    "changes",
    [
        {"target_quantile": 0.0}, {"target_quantile": 1.5}, {"learning_rate": 0.0},
        {"bit_noise": 0.0}, {"min_clip_norm": 0.0}, {"min_clip_norm": 11.0},
        {"max_clip_norm": math.inf}, {"target_quantile": math.nan},
    ],
)  # fmt: skip
def test_a_rule_out_of_range_is_refused(changes):
    fields = {"target_quantile": 0.5, "min_clip_norm": 0.01, "max_clip_norm": 10.0}
    with pytest.raises(ValueError, match=r"must be in|expected 0 <"):
        AdaptiveClipping(**{**fields, **changes})


def test_a_bit_says_whether_the_norm_is_within():
    clip = L2Clip(clip_norm=1.0)
    said = [clip.within(np.array(v)) for v in ([0.6, 0.8], [0.7, 0.8], [0.0, 0.0], [np.nan, 0.0])]
    assert said == [1, -1, 1, 0]


def decoded(candidate, vectors, clip_norm, trial):
    sent = [
        candidate.privatize(
            vector, rotation_seed=b"round", clip_norm=clip_norm,
            rounding=ENTROPY.keystream("rounding", trial, phone),
            noise=ENTROPY.keystream("noise", trial, phone),
        )
        for phone, vector in enumerate(vectors)
    ]  # fmt: skip
    return candidate.decode(
        ring_sum(sent, candidate.bits), rotation_seed=b"round", clip_norm=clip_norm,
        noise=ENTROPY.keystream("server", trial),
    )  # fmt: skip


@pytest.mark.parametrize("clip_norm", [1.0, 0.02, 8.0])
def test_share_and_mean_come_back_at_any_clip_norm(clip_norm):
    candidate = plan("none")
    direction = np.ones(60) / math.sqrt(60)
    norms = clip_norm * np.array([0.5] * 25 + [3.0] * 15)
    found = decoded(candidate, [norm * direction for norm in norms], clip_norm, 0)
    assert found.share_within == 25 / 40
    expected = np.minimum(norms, clip_norm).sum() / 40 * direction
    # Rounding: under one integer unit a coordinate and phone.
    np.testing.assert_allclose(found.mean, expected, atol=2 * clip_norm / candidate.scale)


@pytest.mark.parametrize(
    "mechanism",
    [
        "distributed",
        pytest.param("skellam", marks=pytest.mark.slow),
        pytest.param("central", marks=pytest.mark.slow),
    ],
)
def test_share_and_mean_carry_the_noise_that_is_accounted(mechanism):
    """150 rounds of the fewest reporting phones: both variances within 5 standard errors."""
    candidate, trials = plan(mechanism), 150
    zeros = [np.zeros(60)] * candidate.min_reporting
    found = [decoded(candidate, zeros, 1.0, trial) for trial in range(trials)]
    shares = np.array([each.share_within for each in found])
    means = np.stack([each.mean for each in found])
    bit_stddev = candidate.adaptive_clipping.bit_noise
    assert abs(shares.mean() - (0.5 + 30 / 40 / 2)) < 5 * bit_stddev / math.sqrt(trials)
    assert abs(shares.var() / bit_stddev**2 - 1) < 5 * math.sqrt(2 / trials)
    per_coordinate = candidate.vector_noise_multiplier * 1.0 / 40
    assert abs(means.var() / per_coordinate**2 - 1) < 5 * math.sqrt(2 / means.size) + 0.02
    assert candidate.noise_norm(30) == pytest.approx(per_coordinate * math.sqrt(60), rel=0.02)


@pytest.mark.parametrize("mechanism", ["distributed", "skellam"])
def test_the_bit_is_in_the_price_and_a_bit_of_one_and_zero_would_cost_less(mechanism):
    candidate = plan(mechanism)
    event = candidate.cost.given
    assert isinstance(event, Joint)
    vector, bit = event.parts
    assert bit.sensitivity == candidate.bit_scale / 2
    assert bit.stddev >= 2
    ratio = 1 / (bit.sensitivity / bit.stddev) ** 2 * bit.shares
    assert math.sqrt(ratio) == pytest.approx(2 * 0.2 * 40)  # 2 sigma_b
    spent = (vector.sensitivity / vector.stddev) ** 2 + (bit.sensitivity / bit.stddev) ** 2
    # Vector and bit together are z, but for what rounding adds to the vector.
    assert math.sqrt(bit.shares / spent) == pytest.approx(1.0, rel=0.01)
    plain = plan(mechanism, adaptive_clipping=None)
    ratio = candidate.guarantee(10).epsilon_server / plain.guarantee(10).epsilon_server
    assert 0.99 < ratio < 1.03


def test_a_norm_out_of_bounds_is_not_clipped_to():
    candidate = plan()
    for clip_norm in (0.009, 10.1, math.nan):
        assert not candidate.accepts(clip_norm)
        with pytest.raises(ValueError, match="does not clip to"):
            decoded(candidate, [np.zeros(60)], clip_norm, 0)
    fixed = plan(adaptive_clipping=None)
    assert fixed.accepts(1.0)
    assert not fixed.accepts(1.0001)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mechanism": "local"}, "adaptive_clipping is refused for mechanism"),
        ({"clip_norm": 11.0}, "clip_norm must be from min_clip_norm"),
        ({"noise_multiplier": 17.0}, "must be below twice the stddev"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_rule(changes, rule):
    with pytest.raises(ValueError, match=rule):
        plan(**changes)


def test_bits_that_do_not_fit_the_ring_are_refused():
    rule = AdaptiveClipping(
        target_quantile=0.5, bit_noise=0.0003, min_clip_norm=0.01, max_clip_norm=10.0
    )
    with pytest.raises(ValueError, match="clip bits of 40 phones do not fit"):
        plan(adaptive_clipping=rule, noise_multiplier=0.02, min_cohort=40, min_reporting=40)
