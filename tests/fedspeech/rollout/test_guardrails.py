"""What the guardrails say of counts, and how often they are wrong."""

import dataclasses

import numpy as np
import pytest

from fedspeech.rollout.guardrails import Counts, SegmentCounts, Sums, Window, judge, segment_alpha
from fedspeech.rollout.plan import Evaluation, RolloutPlan, Stage

STAGE = Stage(share=0.1, margin=0.05, windows=4)
PLAN = RolloutPlan(
    phones=100_000,
    segments={"accent": {"north": 0.8, "south": 0.2}},
    stages=(STAGE, Stage(share=1.0)),
    evaluation=Evaluation(phone_stddev=0.1, k_min=100),
)


def counts(new, old=0.9, total=10_000.0, old_total=90_000.0, noise=0.0, windows=4):
    """Windows in which both segments have these accuracies."""
    shape = (windows, 2)
    full = np.broadcast_to
    return Counts(
        full(new * total, shape), full(total, shape) * np.ones(shape),
        full(old * old_total, shape), full(old_total, shape) * np.ones(shape),
        full(noise, shape), full(noise, shape),
    )  # fmt: skip


def test_no_loss_is_cleared_and_a_large_one_is_harm():
    same, worse = judge(counts(0.9), PLAN, STAGE), judge(counts(0.84), PLAN, STAGE)
    assert same.cleared[-1].all()
    assert not same.harmed.any()
    assert worse.harmed[-1].all()
    assert not worse.cleared.any()
    assert worse.difference[-1] == pytest.approx([-0.06, -0.06])


def test_an_end_of_an_interval_passes_its_limit_exactly_where_its_test_decides():
    accuracies = np.linspace(0.82, 0.92, 9)
    found = [judge(counts(new, total=3_000.0), PLAN, STAGE) for new in accuracies]
    for one in found:
        assert np.logical_or.accumulate(one.high < 0, 0).tolist() == one.harmed.tolist()
        assert np.logical_or.accumulate(one.low > -0.05, 0).tolist() == one.cleared.tolist()
    assert 0 < sum(one.harmed[-1, 0] for one in found) < 9
    assert 0 < sum(one.cleared[-1, 0] for one in found) < 9


def test_a_tolerated_loss_is_no_harm():
    plan = dataclasses.replace(PLAN, tolerance=0.02)
    assert judge(counts(0.885), PLAN, STAGE).harmed[-1].all()
    assert not judge(counts(0.885), plan, STAGE).harmed.any()
    assert judge(counts(0.84), plan, STAGE).harmed[-1].all()


def test_a_withheld_cell_says_nothing_and_the_others_go_on():
    found = counts(0.8)
    total = found.total.copy()
    total[:2, 1] = [np.nan, 99.0]
    judged = judge(dataclasses.replace(found, total=total), PLAN, STAGE)
    assert judged.harmed[0, 0]
    assert not judged.harmed[:2, 1].any()
    assert np.isnan(judged.difference[0, 1])
    assert judged.harmed[3, 1]


def test_clips_that_drown_in_their_noise_are_withheld():
    found = counts(0.5, total=200.0, noise=100.0)
    assert not found.usable(100).any()
    assert counts(0.5, total=425.0, noise=100.0).usable(100).all()


def test_segments_and_stages_share_the_chance_of_a_false_alarm():
    three = dataclasses.replace(
        PLAN, stages=(Stage(share=0.01), Stage(share=0.1), Stage(share=0.5), Stage(share=1.0))
    )
    assert segment_alpha(three, 5) * 3 * 5 == pytest.approx(three.alpha)


def test_a_stage_has_no_more_looks_than_it_plans():
    with pytest.raises(ValueError, match="plans 4 windows, got 5"):
        judge(counts(0.9, windows=5), PLAN, STAGE)


@pytest.mark.slow
def test_the_variance_is_that_of_phones_drawn_one_by_one():
    """Phones stay in their windows; false-alarm rate 1e-4, of the spread of 2,000 draws."""
    rng, draws, phones, old_phones, clips, windows = np.random.default_rng(3), 2_000, 60, 600, 8, 3
    asked = Evaluation(clips_per_phone=clips, clips=clips, phone_stddev=0.15, k_min=1)
    plan = dataclasses.replace(PLAN, evaluation=asked)
    a, b = 0.9 * 3.0, 0.1 * 3.0  # a Beta of stddev 0.15 around 0.9
    rates = rng.beta(a, b, (draws, phones + old_phones))
    answers = rng.binomial(clips, rates, (windows, draws, phones + old_phones)).astype(float)
    noise = 5.0
    correct = answers[:, :, :phones].sum(-1) + noise * rng.standard_normal((windows, draws))
    old = answers[:, :, phones:].sum(-1) + noise * rng.standard_normal((windows, draws))
    # Noise is in correct clips and in others, and the clips are the sum of both.
    extra = noise * rng.standard_normal((2, windows, draws))
    total = phones * clips + extra[0] + correct - answers[:, :, :phones].sum(-1)
    old_total = old_phones * clips + extra[1] + old - answers[:, :, phones:].sum(-1)
    full = np.full((windows, draws, 1), noise)
    found = Counts(*(one[..., None] for one in (correct, total, old, old_total)), full, full)
    sums = Sums(found, np.ones(full.shape, bool), plan)
    statistic = sums.loss(0.0).statistic[..., 0]
    assert abs(statistic.mean(1)) == pytest.approx(0, abs=0.1)
    assert statistic.std(1) == pytest.approx(1, abs=4 / np.sqrt(2 * draws))


def test_windows_name_what_is_wrong_with_their_counts():
    one = SegmentCounts(segment="accent=north", correct=90.0, total=100.0, noise_stddev=1.0)
    with pytest.raises(ValueError, match="counts each segment once"):
        Window(first_day=1, last_day=7, new=(one, one), old=())
    with pytest.raises(ValueError, match="first_day must not be after"):
        Window(first_day=8, last_day=7, new=(one,), old=(one,))
    with pytest.raises(ValueError, match="must be finite"):
        SegmentCounts(segment="s", correct=float("nan"), total=1.0, noise_stddev=0.0)


def test_merged_segments_add_up_and_are_left_out_where_a_part_is_withheld():
    def cell(name, correct, total):
        return SegmentCounts(segment=name, correct=correct, total=total, noise_stddev=3.0)

    groups = {"a=x": "a=x+y", "a=y": "a=x+y"}
    both = (cell("a=x", 8.0, 10.0), cell("a=y", 16.0, 20.0), cell("a=z", 1.0, 2.0))
    found = Window(first_day=1, last_day=1, new=both, old=both[1:]).merged(groups)
    assert [(one.segment, one.correct, one.total) for one in found.new] == [
        ("a=x+y", 24.0, 30.0), ("a=z", 1.0, 2.0)
    ]  # fmt: skip
    assert found.new[0].noise_stddev == pytest.approx(3 * np.sqrt(2))
    assert [one.segment for one in found.old] == ["a=z"]
    whole = (cell("a=x+y", 24.0, 30.0),)
    assert Window(first_day=1, last_day=1, new=whole, old=whole).merged(groups).new == whole
