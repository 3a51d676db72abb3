"""Adapters are scored where the clips are, and the counts of it are right and bounded."""

import dataclasses
import math

import numpy as np
import pytest
from counting import Release, axis, plan_for
from tiny_job import FEATURES, LABELS, make_arrays, make_job
from whole_runs import run_in_grid, run_reference

from fedspeech.corpora.corpus import Alphabet
from fedspeech.errors import ScenarioError
from fedspeech.evaluation.asr import AsrCounts
from fedspeech.evaluation.kws import KwsCounts, answers, detections
from fedspeech.job import Job
from fedspeech.models.adapters.scoring import score_clips, transcribe
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.queries.estimate import Sampling
from fedspeech.queries.evaluation import Evaluation, sha256_of
from fedspeech.queries.likeness import of_phone
from fedspeech.seeds import NoiseEntropy, stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import GlobalState

HEAD = AdapterShape(name="head", num_windows=1, num_features=FEATURES, num_labels=LABELS)
PHONES = 60


def evaluated(seed=0, phones=PHONES):
    """Phones that are sent some adapter, hold own clips alone and have an attribute."""
    arrays = make_arrays(phones=phones)
    parameters = stream(seed, "evaluated").normal(size=HEAD.spec.size).astype(np.float32)
    return dataclasses.replace(
        arrays,
        initial=parameters,
        background=arrays.background.first(0),
        attributes=(np.arange(phones) % 3).astype(np.int16)[:, np.newaxis],
    )


def query_for(arrays, **settings):
    shape = {"segments": (axis("accent", 0, 3),), "max_per_cell": 9, **settings}
    return Evaluation(adapter=HEAD, adapter_sha256=sha256_of(arrays.initial), **shape)


def added(query, arrays, phones=range(PHONES)):
    """What phones add, one row each."""
    rngs = [stream(1, "kept", phone) for phone in phones]
    held = [arrays.phone(phone) for phone in phones]
    return np.stack(query.on(arrays).contributions(held, arrays.initial, rngs))


def logits_of(arrays, data):
    return score_clips(HEAD.build(), arrays.initial[np.newaxis], data.embeddings)[0]


@pytest.mark.parametrize("measure", ["accuracy", "false_rejects", "false_accepts"])
def test_counts_are_those_of_the_library_that_judges_models(measure):
    arrays = evaluated()
    query = query_for(arrays, measure=measure, threshold=0.3)
    total = added(query, arrays).sum(axis=0).reshape(3, 5)[:, :2]
    for segment in range(3):
        own = [arrays.phone(phone) for phone in range(segment, PHONES, 3)]
        data = LocalDataset(
            np.concatenate([one.embeddings for one in own]),
            np.concatenate([one.labels for one in own]),
        )
        logits = logits_of(arrays, data)
        counts = KwsCounts.of(logits, data.labels)
        words, scores = detections(logits)
        found = scores >= np.log(0.3 / 0.7)
        target = data.labels < LABELS - 2
        expected = {
            "accuracy": (np.trace(counts.confusion), counts.num_clips),
            "false_rejects": (
                (target & ~(found & (words == data.labels))).sum(),
                counts.num_positives,
            ),
            "false_accepts": ((~target & found).sum(), counts.num_negatives),
        }[measure]
        assert (total[segment, 0], total[segment].sum()) == expected
        assert 0 < expected[0] < expected[1]
    assert (answers(logits) == data.labels).sum() == counts.confusion.trace()


def test_of_two_versions_each_phone_scores_the_one_that_it_serves():
    arrays, other = evaluated(), evaluated(seed=1)
    serves = (np.arange(PHONES) % 2).astype(np.int16)
    both = dataclasses.replace(
        arrays,
        initial=np.concatenate([arrays.initial, other.initial]),
        attributes=np.column_stack([arrays.attributes, serves]),
    )
    version = dataclasses.replace(axis("version", 1, 2), names=("old", "new"))
    versions = tuple(sha256_of(one.initial) for one in (arrays, other))
    segments = (version, axis("accent", 0, 3))
    query = query_for(both, segments=segments, version_sha256=versions)
    query.check(both)
    found = added(query, both).reshape(PHONES, 2, 3, 5)
    for code, one in enumerate((arrays, other)):
        alone = added(query_for(one), one).reshape(PHONES, 3, 5)
        np.testing.assert_array_equal(
            found[serves == code, code, :, :2], alone[serves == code, :, :2]
        )
        assert not found[serves != code, code].any()
    assert not query.release_window.overlaps(query_for(arrays).release_window)
    for bad in ({"segments": segments[1:]}, {"version_sha256": ()}):
        with pytest.raises(ValueError, match="two versions need one segment of both"):
            query_for(both, **{"segments": segments, "version_sha256": versions} | bad)


def test_a_phone_adds_no_more_than_its_bound_and_to_its_segment_alone():
    arrays = evaluated()
    query = query_for(arrays, max_per_cell=2)
    found = added(query, arrays)
    assert np.linalg.norm(found, axis=1).max() <= query.l2_bound == 2
    held = np.diff(arrays.offsets)
    counts = found.reshape(-1, 3, 5)
    np.testing.assert_array_equal(counts[..., :2].sum(axis=(1, 2)), np.minimum(held, 2))
    for phone, row in enumerate(counts):
        assert not np.delete(row, phone % 3, axis=0).any()


class Ceiling:
    """Draws that round everything up."""

    def random(self, count):
        return np.zeros(count)


@pytest.mark.parametrize("most", [2, 3, 8, 20])
def test_what_says_how_alike_clips_are_costs_no_norm(most):
    for right in range(most + 1):
        for wrong in range(most + 1 - right):
            for rng in (stream(0, right, wrong), Ceiling()):
                row = np.array([right, wrong, *of_phone(right, wrong, most, rng)])
                assert (row == np.rint(row)).all()
                assert row @ row <= most**2


@pytest.mark.slow
@pytest.mark.parametrize("likeness", [0.0, 0.4, 1.0])
def test_intervals_of_several_clips_a_phone_hold_as_often_as_they_say(likeness):
    """A share of 800 intervals outside of 93 to 97 % is a false alarm in 100."""
    rng, phones, most = np.random.default_rng(round(10 * likeness)), 3000, 8
    query = query_for(evaluated(), segments=(), max_per_cell=most)
    plan = plan_for(query, population=phones, participation_probability=0.3, noise_multiplier=1.0)
    spread = 1 / likeness - 1 if likeness else 1e9
    drawn = (
        rng.beta(0.8 * spread, 0.2 * spread, phones)
        if spread
        else (rng.random(phones) < 0.8).astype(float)
    )
    held = rng.integers(1, most + 1, phones)
    right = rng.binomial(held, drawn)
    rows = np.array(
        [(x, y - x, *of_phone(x, y - x, most, rng)) for x, y in zip(right, held, strict=True)]
    )
    sampling, inside = Sampling.of(plan), 0
    for _ in range(800):
        came = rng.random(phones) < 0.3
        noise = rng.normal(size=5) * math.sqrt(sampling.noise_variance)
        counts = (rows[came].sum(axis=0) / 0.3 + noise) / sampling.scale_up
        (one,) = query.estimates(GlobalState(counts, {"counts": counts}), plan)
        inside += one.low <= right.sum() / held.sum() <= one.high
    assert 0.93 <= inside / 800 <= 0.97, inside / 800


def test_what_a_phone_adds_does_not_depend_on_who_shares_its_node():
    arrays = evaluated()
    query = query_for(arrays)
    together = added(query, arrays)
    alone = np.concatenate([added(query, arrays, [phone]) for phone in range(PHONES)])
    np.testing.assert_array_equal(together, alone)


def test_arrays_that_send_another_adapter_are_refused():
    arrays = evaluated()
    query = query_for(arrays)
    query.check(arrays)
    with pytest.raises(ScenarioError, match="must send adapter"):
        query.check(dataclasses.replace(arrays, initial=arrays.initial + 1))
    with pytest.raises(ScenarioError, match="labels must be below 4"):
        query.check(dataclasses.replace(arrays, labels=arrays.labels + 1))


def test_measures_are_of_their_labels():
    arrays = evaluated()
    with pytest.raises(ValueError, match="measure must be accuracy or word_errors of sentences"):
        query_for(arrays, measure="word_errors")
    with pytest.raises(ValueError, match="measure must be"):
        query_for(arrays, measure="false_rejects", alphabet=" ab")
    with pytest.raises(ValueError, match="max_cells must be 1"):
        query_for(arrays, max_cells=2)
    with pytest.raises(ValueError, match="threshold must be"):
        query_for(arrays, threshold=float("nan"))


def test_another_adapter_is_another_question_and_another_bound_is_not():
    arrays, other = evaluated(), evaluated(seed=1)
    asked = query_for(arrays).release_window
    assert not asked.overlaps(query_for(other).release_window)
    assert not asked.overlaps(query_for(arrays, measure="false_rejects").release_window)
    assert asked.overlaps(query_for(arrays, max_per_cell=3).release_window)
    assert query_for(arrays).purpose == "evaluation"


SPELLED = AdapterShape(name="frame_affine", num_windows=6, num_features=5, num_labels=4)


def sentences(alphabet):
    """Sentences of two letters and spaces, and frames that hold them more or less."""
    rng = stream(3, "sentences")
    said = [" ".join("ab"[i] * 2 for i in rng.integers(0, 2, rng.integers(1, 4))) for _ in range(8)]
    return LocalDataset(rng.normal(size=(8, 6, 5)).astype(np.float32), alphabet.encode(said)), said


def test_word_errors_are_those_of_whole_sentences_within_the_bound():
    alphabet = Alphabet((" ", "a", "b"))
    data, said = sentences(alphabet)
    parameters = stream(4, "spelled").normal(size=SPELLED.spec.size).astype(np.float32)
    heard = transcribe(SPELLED.build(), parameters, data.embeddings, alphabet)
    whole = AsrCounts.of(said, heard)
    assert whole.word_errors > 0
    settings = {"adapter": SPELLED, "adapter_sha256": sha256_of(parameters), "alphabet": " ab"}
    query = Evaluation(measure="word_errors", max_per_cell=100, **settings)
    (row,) = query.contributions([data], parameters, [stream(0, "kept")])
    assert tuple(row) == (whole.word_errors, whole.words)
    bounded = Evaluation(measure="word_errors", max_per_cell=4, **settings)
    (few,) = bounded.contributions([data], parameters, [stream(0, "kept")])
    assert 0 < few.max() <= 4
    assert np.linalg.norm(few) <= bounded.l2_bound
    right = Evaluation(measure="accuracy", max_per_cell=100, **settings)
    (row,) = right.contributions([data], parameters, [stream(0, "kept")])
    assert tuple(row[:2]) == (whole.right, 8 - whole.right)


class EvaluationRelease(Release):
    """One release over phones whose arrays name the adapter that they are sent."""

    def run(self, seed):
        state = self.query.initial(self.arrays)
        entropy = NoiseEntropy.seeded(seed, "counting")
        return self.query.update(state, self.mean(state, entropy, seed, 0))


@pytest.mark.slow
def test_intervals_hold_the_truth_at_least_as_often_as_they_say():
    """Of 3 x 60 intervals of 95 %, fewer than 161 hold the truth in 1 test of 1,000."""
    arrays = evaluated(phones=300)
    query = query_for(arrays, max_per_cell=1)
    plan = plan_for(
        query, population=300, participation_probability=0.9, dropout_rate=0.05,
        noise_multiplier=3.0,
    )  # fmt: skip
    release = EvaluationRelease(query, plan, [arrays.phone(phone) for phone in range(300)])
    release.arrays = arrays
    rows = release.contributions(arrays.initial)
    total = np.sum(rows, axis=0).reshape(3, 2)
    truth = total[:, 0] / total.sum(axis=1)
    release.contributions = lambda model, phones, number: [rows[int(one)] for one in phones]
    held = 0
    for seed in range(60):
        found = query.estimates(release.run(seed), plan)
        held += sum(one.low <= true <= one.high for one, true in zip(found, truth, strict=True))
    assert held >= 161


@pytest.mark.slow
def test_reference_round_and_grid_give_the_same_integers(tmp_path):
    """The adapter travels as the model does; each shard scores its own phones."""
    arrays = evaluated()
    query = query_for(arrays)
    path, job, _ = make_job(
        tmp_path, arrays=arrays, query=query, clip_norm=query.l2_bound, rounds=1,
        max_participations=1, secure_aggregation="masked",
    )  # fmt: skip
    assert Job.load(path) == job
    totals, state = run_reference(job, job.load_arrays(), tmp_path / "reference.jsonl")
    records, grid = run_in_grid(path, job, arrays, tmp_path / "grid.jsonl")
    np.testing.assert_array_equal(records[0].total, totals[0])
    np.testing.assert_array_equal(grid.query.moments["counts"], state.query.moments["counts"])
    np.testing.assert_array_equal(grid.model, arrays.initial)
    assert len(query.estimates(grid.query, job.plan)) == 3
