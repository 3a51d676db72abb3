import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.evaluation.streaming import (
    THRESHOLDS,
    Detector,
    Keyword,
    ListeningCounts,
    ListeningRules,
    binomial_interval,
    detections,
    poisson_interval,
    scored,
    smoothed,
)
from fedspeech.seeds import stream

RULES = ListeningRules(smoothing_hops=1, cooldown_hops=5, patience_hops=3)


def logits_of(probabilities):
    """Streams of two words, unknown and silence, in which word 0 has these probabilities."""
    p = np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-9)
    rest = (1 - p) / 2
    return np.log(np.stack([p, np.full_like(p, 1e-9), rest, rest], axis=1))


@given(hops=st.integers(1, 12), rows=st.integers(0, 30))
def test_smoothing_is_the_mean_of_what_was_heard_so_far(hops, rows):
    values = stream(0, "smoothing", rows).random((rows, 3))
    expected = [values[max(0, row - hops + 1) : row + 1].mean(axis=0) for row in range(rows)]
    np.testing.assert_allclose(smoothed(values, hops), np.reshape(expected, (rows, 3)), atol=1e-12)


def test_a_score_is_the_probability_of_the_likeliest_target_never_of_unknown_or_silence():
    words, scores = scored(np.log([[0.1, 0.2, 0.3, 0.4], [0.6, 0.2, 0.1, 0.1]]), RULES)
    assert words.tolist() == [1, 0]
    np.testing.assert_allclose(scores, [0.2, 0.6])


@settings(max_examples=50)
@given(
    scores=st.lists(st.floats(0, 1), max_size=60), cooldown=st.integers(0, 10),
    threshold=st.floats(0, 1),
)  # fmt: skip
def test_detections_are_those_of_the_plain_loop(scores, cooldown, threshold):
    expected, ready = [], 0
    for hop, score in enumerate(scores):
        if hop >= ready and score >= threshold:
            expected.append(hop)
            ready = hop + cooldown + 1
    (marks,) = detections(np.array(scores), np.array([threshold]), cooldown)
    assert np.flatnonzero(marks).tolist() == expected


def test_false_accepts_are_counted_per_hour_and_held_apart_by_the_cooldown():
    heard = np.zeros(100)
    heard[[10, 11, 12, 30]] = 0.9
    counts = ListeningCounts.without_keywords(logits_of(heard), RULES, hop_ms=20.0)
    point = counts.at(0.5)
    assert point.false_accepts == 2
    assert point.hours == pytest.approx(100 * 0.02 / 3600)
    assert point.false_accepts_per_hour == pytest.approx(2 * 3600 / 2.0)
    assert point.frr is None
    assert counts.at(0.95).false_accepts == 0


@pytest.mark.parametrize(
    ("hop", "found"), [(9, False), (10, True), (20, True), (23, True), (24, False)]
)
def test_a_keyword_is_found_from_its_beginning_until_patience_ends(hop, found):
    heard = np.zeros(40)
    heard[hop] = 0.9
    counts = ListeningCounts.of_keywords(logits_of(heard), [Keyword(0, 10, 20)], RULES)
    assert counts.at(0.5).frr == (0.0 if found else 1.0)
    assert counts.at(0.5).false_accepts_per_hour is None


def test_another_word_is_not_the_keyword():
    heard = np.zeros(40)
    heard[15] = 0.9
    counts = ListeningCounts.of_keywords(logits_of(heard), [Keyword(1, 10, 20)], RULES)
    assert counts.at(0.5).frr == 1.0


def test_counts_of_two_streams_add_up():
    heard = np.zeros(60)
    heard[[10, 40]] = 0.9, 0.6
    first = ListeningCounts.without_keywords(logits_of(heard), RULES, hop_ms=20.0)
    second = ListeningCounts.of_keywords(logits_of(heard), [Keyword(0, 8, 12)], RULES)
    both = first + second
    np.testing.assert_array_equal(both.false_accepts, first.false_accepts)
    assert (both.keywords, both.at(0.5).rejected) == (1, 0)


def test_a_rate_is_kept_from_its_threshold_on():
    heard = np.zeros(400)
    heard[[10, 40, 80]] = 0.6, 0.8, 0.95
    counts = ListeningCounts.without_keywords(logits_of(heard), RULES, hop_ms=20.0)
    per_event = counts.at(0.5).false_accepts_per_hour / 3
    point = counts.at_most(per_event)
    assert point.false_accepts == 1
    assert 0.8 < point.threshold < 0.95
    above = [p.false_accepts for p in counts.curve() if p.threshold >= point.threshold]
    assert max(above) == 1
    assert counts.at_most(0).false_accepts == 0


def test_thresholds_are_probabilities_that_ascend():
    assert (np.diff(THRESHOLDS) > 0).all()
    assert 0 < THRESHOLDS[0] < 0.06
    assert 0.999 < THRESHOLDS[-1] < 1


def test_intervals_have_their_published_values():
    # Garwood 1936, Table 1: 10 events, 95 %: 4.80 to 18.39; none: 0 to 3.69.
    assert poisson_interval(10, 1.0) == pytest.approx((4.795, 18.390), abs=1e-3)
    assert poisson_interval(0, 1.0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(10, 2.0) == pytest.approx((2.398, 9.195), abs=1e-3)
    # Newcombe 1998 (Statistics in Medicine 17, 857), Table I: method 5, "exact".
    assert binomial_interval(81, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert binomial_interval(15, 148) == pytest.approx((0.0578, 0.1617), abs=1e-4)
    assert binomial_interval(0, 20) == pytest.approx((0.0, 0.1684), abs=1e-4)


@settings(max_examples=40)
@given(
    blocks=st.lists(st.integers(0, 17), min_size=1, max_size=8),
    smoothing=st.integers(1, 6), cooldown=st.integers(0, 9), seed=st.integers(0, 5),
)  # fmt: skip
def test_a_stream_in_blocks_is_detected_like_the_whole(blocks, smoothing, cooldown, seed):
    rules = ListeningRules(smoothing_hops=smoothing, cooldown_hops=cooldown, offsets=(0.3, -0.2))
    logits = stream(seed, "blocks").standard_normal((sum(blocks), 4)) * 2
    thresholds = np.array([0.1, 0.4, 0.7])
    detector = Detector(rules, thresholds)
    parts = np.split(logits, np.cumsum(blocks)[:-1])
    fed = [detector.feed(part) for part in parts]
    words, scores = scored(logits, rules)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in fed]), words)
    np.testing.assert_allclose(np.concatenate([part[2] for part in fed]), scores, atol=1e-9)
    marks = np.concatenate([part[0] for part in fed], axis=1)
    np.testing.assert_array_equal(marks, detections(scores, thresholds, cooldown))
    counts = ListeningCounts.of_blocks(parts, rules, hop_ms=20.0)
    whole = ListeningCounts.without_keywords(logits, rules, hop_ms=20.0)
    np.testing.assert_array_equal(counts.false_accepts, whole.false_accepts)
    assert counts.hours == pytest.approx(whole.hours)


def test_offsets_give_each_word_its_own_threshold():
    """A word whose score is lowered by log 9 needs 0.9 where the other needs 0.5."""
    rules = ListeningRules(smoothing_hops=1, offsets=(np.log(9), 0.0))
    words, scores = scored(np.log([[0.89, 0.01, 0.05, 0.05], [0.91, 0.01, 0.04, 0.04]]), rules)
    assert words.tolist() == [0, 0]
    assert scores[0] < 0.5 < scores[1]
    with pytest.raises(ValueError, match="an offset for each of 2 target words, got 1"):
        scored(np.zeros((1, 4)), ListeningRules(offsets=(0.0,)))


@pytest.mark.parametrize(
    "change", [{"smoothing_hops": 0}, {"cooldown_hops": -1}, {"patience_hops": -1}]
)
def test_rules_that_mean_nothing_are_refused(change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be at least"):
        ListeningRules(**change)
