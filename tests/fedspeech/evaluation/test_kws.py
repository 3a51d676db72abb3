import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.evaluation.kws import THRESHOLDS, KwsCounts, detections, negative_shift

LABELS = 5  # three target words, unknown, silence


def random_clips(seed, count=60):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, LABELS, count)
    return rng.normal(0, 2, (count, LABELS)) + 2 * np.eye(LABELS)[labels], labels


def slow_rates(logits, labels, threshold):
    """FRR and FAR clip by clip, from the definition."""
    rejected, accepted, positives, negatives = 0, 0, 0, 0
    for row, label in zip(logits, labels, strict=True):
        softmax = np.exp(row) / np.exp(row).sum()
        word = int(np.argmax(softmax[: LABELS - 2]))
        detected = np.log(softmax[word]) - np.log(1 - softmax[word]) >= threshold
        if label < LABELS - 2:
            positives += 1
            rejected += not (detected and word == label)
        else:
            negatives += 1
            accepted += detected
    return rejected / positives, accepted / negatives


@given(st.integers(0, 50), st.sampled_from([0, 700, 980, 1_000, 1_050, 1_300, 2_000]))
def test_rates_at_a_threshold_are_those_of_the_definition(seed, index):
    logits, labels = random_clips(seed)
    counts = KwsCounts.of(logits, labels)
    frr, far = slow_rates(logits, labels, THRESHOLDS[index] if index else -np.inf)
    assert 1 - counts.detected[index] / counts.num_positives == pytest.approx(frr)
    assert counts.accepted[index] / counts.num_negatives == pytest.approx(far)


def test_shards_merge_to_the_whole():
    logits, labels = random_clips(1)
    whole = KwsCounts.of(logits, labels)
    merged = KwsCounts.of(logits[:7], labels[:7]) + KwsCounts.of(logits[7:], labels[7:])
    assert np.array_equal(whole.confusion, merged.confusion)
    assert np.array_equal(whole.detected, merged.detected)
    assert np.array_equal(whole.accepted, merged.accepted)


def test_confusion_has_what_was_said_in_rows():
    logits = 9.0 * np.eye(LABELS)[[0, 1, 1, 0]]
    counts = KwsCounts.of(logits, np.array([0, 0, 1, 4]))
    expected = np.zeros((LABELS, LABELS), dtype=int)
    expected[0, 0] = expected[0, 1] = expected[1, 1] = expected[4, 0] = 1
    assert np.array_equal(counts.confusion, expected)
    assert counts.accuracy == 0.5
    assert counts.false_accepts == 1.0
    assert (counts.num_positives, counts.num_negatives) == (3, 1)


def test_frr_at_far_takes_the_lowest_threshold_that_keeps_the_far():
    # Four negatives with scores 3, 1, -1, -3 and two targets with scores 2 and 0.
    logits = np.zeros((6, 4))
    logits[:, 1] = -50.0
    logits[:, 3] = -50.0
    logits[:, 0] = [3, 1, -1, -3, 2, 0]
    labels = np.array([2, 2, 2, 3, 0, 0])
    counts = KwsCounts.of(logits, labels)
    assert counts.frr_at_far(0.0) == 1.0
    assert counts.frr_at_far(0.25) == 0.5
    assert counts.frr_at_far(0.49) == 0.5
    assert counts.frr_at_far(0.5) == 0.0
    far, frr = counts.curve()
    assert far.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert frr.tolist() == [1.0, 0.5, 0.0, 0.0, 0.0]


def test_the_wrong_word_is_a_reject_however_sure():
    counts = KwsCounts.of(
        9.0 * np.eye(LABELS)[[1, 4]] - 30.0 * np.eye(LABELS)[[0, 0]], np.array([0, 4])
    )
    assert counts.frr_at_far(1.0) == 1.0


def test_a_score_equal_to_the_threshold_is_a_detection():
    counts = KwsCounts.of(np.array([[np.log(2.0), 0.0, 0.0]]), np.array([0]))
    assert counts.detected[THRESHOLDS == 0] == 1
    assert counts.detected[1_001] == 0


@given(st.integers(0, 50))
def test_the_curve_only_trades(seed):
    far, frr = KwsCounts.of(*random_clips(seed)).curve()
    assert (np.diff(far) > 0).all()
    assert (np.diff(frr) <= 0).all()
    assert far[0] >= 0
    assert far[-1] <= 1


def test_scores_stay_exact_where_the_posterior_rounds_to_one():
    words, scores = detections(np.array([[200.0, 0.0, 0.0, 0.0], [0.0, -200.0, 0.0, 200.0]]))
    assert words.tolist() == [0, 0]
    assert scores == pytest.approx([200 - np.log(3), -200.0])


def test_nothing_is_said_where_there_is_nothing_to_divide_by():
    empty = KwsCounts.of(np.zeros((0, LABELS)), np.zeros(0, dtype=np.int64))
    assert empty.accuracy is None
    assert empty.false_accepts is None
    assert empty.frr_at_far(0.1) is None
    assert empty.curve()[0].size == 0
    only_targets = KwsCounts.of(*(part[:1] for part in (np.zeros((3, LABELS)), np.zeros(3, int))))
    assert only_targets.frr_at_far(0.1) is None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, LABELS)), [0], "expected logits"),
        (np.zeros((1, 2)), [0], "expected target words, unknown and silence"),
        (np.full((1, LABELS), np.nan), [0], "must be finite"),
        (np.zeros((1, LABELS)), [LABELS], "labels must be in 0 to 4, got 5 to 5"),
        (np.zeros((1, LABELS)), [-1], "labels must be in 0 to 4"),
    ],
)
def test_what_cannot_be_judged_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        KwsCounts.of(logits, np.array(labels))


@given(seed=st.integers(0, 10_000), rate=st.floats(0, 1))
def test_a_shift_lets_at_most_the_stated_share_of_clips_without_a_target_pass(seed, rate):
    logits, labels = random_clips(seed)
    logits, labels = logits[labels >= LABELS - 2], labels[labels >= LABELS - 2]
    shift = negative_shift(logits, labels, rate)
    shifted = (logits + shift * (np.arange(LABELS) >= LABELS - 2)).astype(np.float32)
    accepted = shifted.argmax(axis=1) < LABELS - 2
    passed = {label: accepted[labels == label] for label in np.unique(labels)}
    assert all(found.mean() <= rate for found in passed.values())
    # One clip fewer is what an order statistic may cost, of the label that needs the most.
    assert any(found.sum() >= np.floor(rate * len(found)) - 1 for found in passed.values())


def test_equal_clips_pass_together_or_not_at_all():
    logits = np.tile([1.0, 0, 0, 0.5, 0.5], (40, 1))
    shift = negative_shift(logits, np.full(40, LABELS - 2), 0.05)
    assert (logits + shift * (np.arange(LABELS) >= 3)).argmax(axis=1).min() >= 3


def test_without_clips_nothing_is_shifted():
    assert negative_shift(np.zeros((0, LABELS)), np.zeros(0, dtype=np.int64), 0.05) == 0
