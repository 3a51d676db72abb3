"""Every measure of voice privacy against a second implementation or a sum by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import integrate, stats

import fedspeech as fs
from fedspeech.errors import FedspeechError
from fedspeech.evaluation.voice_privacy.bootstrap import Figure, Sample, mark, measured
from fedspeech.evaluation.voice_privacy.distinctiveness import (
    d_diag,
    de_identification,
    gain_of_distinctiveness,
    voice_similarity,
)
from fedspeech.evaluation.voice_privacy.evidence import category, cllr, scored
from fedspeech.evaluation.voice_privacy.identification import Named, rank_tests, singled_out
from fedspeech.evaluation.voice_privacy.linking import random_rank_p1
from fedspeech.evaluation.voice_privacy.measures import MEASURES
from fedspeech.seeds import stream

RNG = np.random.default_rng(5)
TARGET, NONTARGET = RNG.normal(1, 1, 60), RNG.normal(-1, 1, 80)
PAIRS = {"target": TARGET.tolist(), "nontarget": NONTARGET.tolist()}


def ones(of):
    return np.ones(len(of.scores))


def value(metric, given, place=0):
    """The figure alone, every unit counting once."""
    sample = MEASURES[metric].sample(given)
    return sample.figures[place].of(np.ones(len(sample.units)))


def test_cllr_is_the_mean_cost_in_bits():
    assert cllr(np.array([2.0, 1.0]), np.array([-1.0, -2.0])) == pytest.approx(0.317530, abs=1e-6)
    assert cllr(np.zeros(3), np.zeros(2)) == pytest.approx(1)
    metrics = pytest.importorskip("sklearn.metrics")
    truth = np.repeat([1, 0], [60, 80])
    balanced = np.repeat([1 / 120, 1 / 160], [60, 80])
    chances = 1 / (1 + np.exp(-np.concatenate([TARGET, NONTARGET])))
    expected = metrics.log_loss(truth, chances, sample_weight=balanced) / math.log(2)
    assert value("cllr", PAIRS) == pytest.approx(expected)


def test_min_cllr_is_that_of_isotonic_regression():
    isotonic = pytest.importorskip("sklearn.isotonic")
    scores, truth = np.concatenate([TARGET, NONTARGET]).round(1), np.repeat([1.0, 0.0], [60, 80])
    share = isotonic.IsotonicRegression().fit_transform(scores, truth).clip(1e-15, 1 - 1e-15)
    ratios = np.log(share / (1 - share)) - math.log(60 / 80)
    found = scored(scores[:60], scores[60:])
    assert found.min_cllr(np.ones(140)) == pytest.approx(cllr(ratios[:60], ratios[60:]), abs=1e-9)
    assert found.min_cllr(np.ones(140)) <= found.cllr(np.ones(140))


@pytest.mark.parametrize(
    ("target", "nontarget", "expected"),
    [
        ([5.0] * 3, [5.0] * 4, (0.5, 1.0, 0.0, 0.0)),  # all ties
        ([2.0, 3.0], [0.0, 1.0], (0.0, 0.0, 1.0, 0.5 / math.log(2))),  # told apart
        ([0.0, 1.0], [2.0, 3.0], (1.0, 1.0, 1.0, 0.0)),  # upside down: no monotone rule helps
    ],
)
def test_edges(target, nontarget, expected):
    of = scored(np.array(target), np.array(nontarget))
    found = (
        of.equal_error_rate(ones(of)), of.min_cllr(ones(of)), of.d_sys(ones(of)),
        of.disclosure(ones(of)),
    )  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-12)


def test_d_sys_by_hand():
    """Two bins: the upper holds 3/4 of target and 1/4 of nontarget scores: ratio 3, 2 3/4 - 1."""
    of = scored(np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 1]))
    assert of.d_sys(np.ones(8)) == pytest.approx(0.375)
    assert of.d_sys(np.ones(8), omega=1 / 3) == 0


def test_expected_disclosure_is_the_integral_over_priors():
    scores = np.concatenate([TARGET, NONTARGET]).round(0)  # few levels
    of = scored(scores[:60], scores[60:])
    ratios, mine, theirs = of._calibrated(np.ones(140))

    def gained(prior):
        odds = math.log(prior / (1 - prior))
        cost = sum(
            chance
            * np.average(np.logaddexp(0, -side * (ratios + odds))[part > 0], weights=part[part > 0])
            for chance, part, side in ((prior, mine, 1), (1 - prior, theirs, -1))
        )
        return stats.entropy([prior, 1 - prior]) - cost

    expected = integrate.quad(gained, 0, 1)[0] / math.log(2)
    assert of.disclosure(np.ones(140)) == pytest.approx(expected, abs=1e-7)


def test_strongest_evidence_by_hand():
    """At each end a target below a nontarget: pools (t n) and (t t t n): shares 1/4 and 3/4."""
    of = scored(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert of.strongest(np.ones(4)) == pytest.approx(math.log10(3))
    assert [category(x) for x in (0.0, 0.5, 1.0, 2.0, 4.0, 5.5, 7.0)] == list("0ABCDEF")


def test_weights_are_copies():
    weights = RNG.integers(0, 3, 140).astype(float)
    copied = np.repeat(np.concatenate([TARGET, NONTARGET]), weights.astype(int))
    cut = int(weights[:60].sum())
    of, other = scored(TARGET, NONTARGET), scored(copied[:cut], copied[cut:])
    for name in ("equal_error_rate", "cllr", "min_cllr", "disclosure", "strongest"):
        expected = getattr(other, name)(np.ones(len(copied)))
        assert getattr(of, name)(weights) == pytest.approx(expected, abs=1e-9), name
    for metric, fields in (("spearman", "xy"), ("ccc", "xy")):
        x, y = TARGET, TARGET.round(0) + RNG.normal(size=60)
        one = MEASURES[metric].sample(dict(zip(fields, (x.tolist(), y.tolist()), strict=True)))
        twice = [np.repeat(v, weights[:60].astype(int)).tolist() for v in (x, y)]
        expected = value(metric, dict(zip(fields, twice, strict=True)))
        assert one.figures[0].of(weights[:60]) == pytest.approx(expected)


MATRIX = {
    "scores": [[3.0, 2.0, 2.0], [1.0, 2.0, 3.0], [4.0, 4.0, 4.0]],
    "probe_speakers": ["a", "b", "c"],
    "candidate_speakers": ["a", "b", "c"],
}


def test_ranks_and_linkability_by_hand():
    named = Named(np.array(MATRIX["scores"]), list("abc"), list("abc"))
    assert named.ranks().tolist() == [1, 2, 2]  # the last: mid-rank of three that tie
    assert named.linked().tolist() == pytest.approx([1, 0, 1 / 3])
    assert value("rank", MATRIX) == 2
    assert value("rank", MATRIX, 1) == pytest.approx(np.percentile([1, 2, 2], 1))
    assert value("linkability", MATRIX) == pytest.approx(4 / 9)


def test_the_random_row_of_ranks():
    assert random_rank_p1(7974, 100) == pytest.approx(3451.999, abs=0.01)


def test_fewer_candidates_are_every_draw_of_them():
    scores = RNG.integers(0, 4, (6, 6)).astype(float)
    named = Named(scores, range(6), range(6))
    for drawn in (2, 3, 5):
        for row in range(6):
            others = [place for place in range(6) if place != row]
            wins = []
            for some in itertools.combinations(others, drawn - 1):
                rest = scores[row, list(some)]
                level = (rest == scores[row, row]).sum()
                wins.append((rest <= scores[row, row]).all() / (1 + level))
            assert named.linked(drawn)[row] == pytest.approx(np.mean(wins))


def test_a_predicate_that_knows_nothing_singles_out_at_1_over_e():
    """4,000 attackers, N = 50: the share is within 4 standard errors (false alarm 6e-5)."""
    rng, size = np.random.default_rng(1), 50
    found = singled_out(rng.normal(size=(4000, size)), rng.normal(size=(4000, 9 * size))).mean()
    chance = (1 - 1 / size) ** (size - 1)
    # The threshold itself varies with the 9 N scores it is set on, which lowers the share a little.
    assert chance - 0.035 < found < chance + 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert singled_out(np.array([[9.0, 0.0, 0.0]]), np.array([[8.0, 0.0, 1.0]])).tolist() == [True]


def test_average_precision_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    scores = RNG.integers(0, 5, (8, 12)).astype(float)
    who, whose = list(RNG.integers(0, 3, 8)), [0, 1, 2] * 4
    found = Named(scores, who, whose).average_precision()
    for row, speaker in enumerate(who):
        truth = np.array(whose) == speaker
        assert found[row] == pytest.approx(metrics.average_precision_score(truth, scores[row]))


def test_repeated_tests_rank_a_known_voice_first():
    centers = np.eye(5)
    of = np.repeat(np.arange(5), 8)
    near = centers[of] + 0.01 * RNG.normal(size=(40, 5))
    assert (rank_tests(near, list(of), stream(1, "t"), tests=3).ranks() == 1).all()
    far = np.random.default_rng(2).normal(size=(40, 5))
    ranks = rank_tests(far, list(of), stream(1, "t"), tests=40).ranks()
    assert 2 < ranks.mean() < 4


def test_similarity_leaves_out_an_utterance_and_itself():
    ratios = np.where(np.eye(4, dtype=bool), 100.0, -1.0)
    ratios[0, 1] = ratios[1, 0] = ratios[2, 3] = ratios[3, 2] = 2.0
    found = voice_similarity(ratios, list("aabb"))
    high, low = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    np.testing.assert_allclose(found, [[high, low], [low, high]])
    assert d_diag(found) == pytest.approx(high - low)
    assert d_diag(found, np.array([2.0, 1.0])) == pytest.approx(high - low)
    flat = np.full((2, 2), 0.5)
    half = np.array([[0.5 + (high - low) / 2, 0.5], [0.5, 0.5 + (high - low) / 2]])
    assert gain_of_distinctiveness(found, half) == pytest.approx(10 * math.log10(0.5))
    assert gain_of_distinctiveness(found, found) == pytest.approx(0)
    assert gain_of_distinctiveness(found, flat) == pytest.approx(-100)
    assert de_identification(found, flat) == pytest.approx(1)
    assert de_identification(found, found) == pytest.approx(0)


def test_f0_is_compared_where_both_are_voiced():
    before, after = [100.0, 0.0, 120.0, 110.0, 90.0], [200.0, 999.0, 240.0, 0.0, 150.0]
    kept = [[100, 120, 90], [200, 240, 150]]
    given = {"original": [before, before], "anonymized": [after, [0.0] * 5]}
    assert value("f0-correlation", given) == pytest.approx(stats.pearsonr(*kept)[0])
    monotone = {"original": [before], "anonymized": [[100.0] * 5]}
    assert value("f0-correlation", monotone) == 0


def test_agreement_is_that_of_scipy_and_numpy():
    x, y = RNG.integers(0, 9, 40).astype(float), RNG.integers(0, 9, 40).astype(float)
    given = {"x": x.tolist(), "y": y.tolist()}
    assert value("spearman", given) == pytest.approx(stats.spearmanr(x, y)[0])
    (vx, cov), (_, vy) = np.cov(x, y, ddof=0)
    assert value("ccc", given) == pytest.approx(2 * cov / (vx + vy + (x.mean() - y.mean()) ** 2))
    assert value("ccc", {"x": [1.0, 2.0], "y": [1.0, 2.0]}) == pytest.approx(1)


def test_recall_and_purity_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    truth, guess = RNG.integers(0, 3, 50).tolist(), RNG.integers(0, 4, 50).tolist()
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        expected = metrics.balanced_accuracy_score(truth, guess)
    assert value("uar", {"truth": truth, "predicted": guess}) == pytest.approx(expected)
    table = metrics.cluster.contingency_matrix(truth, guess)
    found = value("cluster-purity", {"clusters": guess, "labels": truth})
    assert found == pytest.approx(table.max(axis=0).sum() / 50)


def test_words():
    given = {"said": ["turn it on", "stop"], "heard": ["turn on on now", "stop"]}
    assert value("wer", given) == pytest.approx(2 / 4)  # it > on, and "now"
    assert value("word-accuracy", given) == pytest.approx(1 - 2 / 4)


def test_intervals_cover_and_marks_are_rare_where_there_is_nothing():
    """60 samples of 40 units at chance: at most 12 marked or missed (binomial .05: 1e-4)."""
    rng = np.random.default_rng(3)
    marked = missed = 0
    for _ in range(60):
        values = rng.normal(size=40)
        figure = Figure(name="mean", of=lambda w, v=values: float(w @ v / w.sum()), by_chance=0.0)
        (found,) = measured(Sample(units=range(40), figures=(figure,)), rng, resamples=200)
        marked += found.mark != ""
        missed += not found.metric.interval.low <= 0 <= found.metric.interval.high
    assert marked <= 12
    assert missed <= 12


def test_two_systems_of_the_same_speakers_are_compared_in_pairs():
    noise = RNG.normal(size=40)
    given = {"x": noise.tolist(), "y": (noise + RNG.normal(size=40)).tolist()}
    other = {"x": noise.tolist(), "y": (noise + 0.2 * RNG.normal(size=40)).tolist()}
    (found,) = fs.voice_privacy("ccc", {**given, "other": other}, resamples=500).figures
    assert found.difference.value < 0
    assert found.difference_mark
    (same,) = fs.voice_privacy("ccc", {**given, "other": given}, resamples=200).figures
    assert (same.difference.interval.low, same.difference.interval.high) == (0, 0)
    assert same.difference_mark == ""


def test_few_units_get_no_mark():
    few = {"target": [2.0, 3.0], "nontarget": [0.0, 1.0]}
    assert fs.voice_privacy("eer", few, resamples=200).figures[0].p_value is None
    assert [mark(p) for p in (None, 0.2, 0.04, 0.009, 0.0009)] == ["", "", "*", "**", "***"]


def test_pairs_of_named_speakers_are_not_shuffled_as_if_they_were_independent():
    """What is biased is then compared with nothing: a mark would be wrong where there is none."""
    named = {
        "target_speakers": ["a"] * 60,
        "nontarget_speakers": [["a", str(i)] for i in range(80)],
    }
    alone = fs.voice_privacy("d-sys", PAIRS, resamples=100).figures[0]
    found = fs.voice_privacy("d-sys", {**PAIRS, **named}, resamples=100).figures[0]
    assert alone.mark == "*"
    assert (found.mark, found.p_value) == ("", None)


REFUSED = [
    ("eer", {"target": [1.0], "nontarget": [float("nan")]}, "nontarget must hold finite"),
    ("eer", {"target": [1.0], "nontarget": []}, "nontarget must be a list of numbers that"),
    ("eer", {"target": [1.0]}, "missing=.'nontarget'."),
    ("eer", {**PAIRS, "speakers": ["a"]}, "unknown=.'speakers'."),
    ("eer", {**PAIRS, "target_speakers": ["a"]}, "belong together"),
    ("eer", {**PAIRS, "target_speakers": ["a"], "nontarget_speakers": ["a"]}, "equally long"),
    ("cllr", {"target": [True], "nontarget": [1.0]}, "target must hold finite"),
    ("cllr", {"target": [10**400], "nontarget": [1.0]}, "target must hold finite"),
    ("zebra", {"target": "12", "nontarget": [1.0]}, "target must be a list"),
    ("rank", {**MATRIX, "probe_speakers": ["a", "b"]}, "scores must be finite, of shape"),
    ("rank", {**MATRIX, "probe_speakers": ["a", "b", "x"]}, "every probe needs a candidate"),
    ("retrieval", {**MATRIX, "scores": [[1.0, 2.0], [1.0]]}, "rows of scores must be as long"),
    ("linkability", {**MATRIX, "candidates": 9}, "candidates must be 2 to"),
    ("singling-out", {"scores": [[1.0, 2.0]], "calibration": [[1.0]]}, "calibration must hold"),
    ("d-diag", {"original": [[1.0, 2.0]], "speakers": ["a"]}, "original must be square"),
    ("g-vd", {"original": [[1.0]], "anonymized": [[1.0]], "speakers": ["a"]}, "two speakers"),
    ("f0-correlation", {"original": [[1.0]], "anonymized": [[1.0, 2.0]]}, "as many frames"),
    ("f0-correlation", {"original": [[1.0]], "anonymized": [[1.0]]}, "3 frames that are voiced"),
    ("spearman", {"x": [1.0, 2.0], "y": [1.0]}, "x and y must be equally long"),
    ("ccc", {"x": [1.0, 1.0], "y": [1.0, 1.0]}, "concordance is not defined"),
    ("uar", {"truth": ["a", "a"], "predicted": ["a", "b"]}, "two labels or more"),
    ("wer", {"said": [""], "heard": ["a"]}, "a word in every text"),
    ("cluster-purity", {"clusters": [1], "labels": [1.5]}, "labels must hold names"),
    ("nothing", {}, "metric must be one of"),
    ("eer", {**PAIRS, "other": 3}, "other must be an object"),
]


@pytest.mark.parametrize(("metric", "given", "said"), REFUSED)
def test_bad_input_is_refused_by_name(metric, given, said):
    with pytest.raises(FedspeechError, match=said):
        fs.voice_privacy(metric, given, resamples=100)


def test_every_measure_is_recorded_as_json(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(PAIRS))
    found = fs.voice_privacy_file("zebra", path, resamples=100).record()
    json.dumps(found, allow_nan=False)
    assert [row["name"] for row in found["figures"]] == [
        "expected disclosure",
        "strongest evidence",
    ]
    path.write_text("[1]")
    with pytest.raises(FedspeechError, match="must be a JSON object, got list"):
        fs.voice_privacy_file("zebra", path)


def test_speakers_are_drawn_whole():
    """One speaker's many pairs are one observation: the interval is wider than over pairs."""
    whose = np.repeat(np.arange(12), 5)
    shift = np.random.default_rng(8).normal(size=12)[whose] * 2
    target = (TARGET + shift).tolist()
    alone = fs.voice_privacy("eer", {**PAIRS, "target": target}, resamples=300).figures[0].metric
    named = fs.voice_privacy(
        "eer",
        {**PAIRS, "target": target, "target_speakers": [str(one) for one in whose],
         "nontarget_speakers": [[str(i % 12), str((i + 1) % 12)] for i in range(80)]},
        resamples=300,
    ).figures[0].metric  # fmt: skip
    assert named.value == alone.value
    width = [one.interval.high - one.interval.low for one in (named, alone)]
    assert width[0] > 1.2 * width[1]
