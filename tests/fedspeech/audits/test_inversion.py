"""Inversion: one clip exactly, several by label, and chance behind noise."""

import dataclasses

import numpy as np
import pytest
import torch
from attacked_runs import PLAN, knowledge, played, speakers, with_noise
from tiny_job import LABELS, TRAINING

from fedspeech.audits.gradient_inversion import inputs_of, likeness, ratios
from fedspeech.audits.inversion import INVERSION, MATCHING, RATIO
from fedspeech.evaluation.roc import roc
from fedspeech.models.adapters.affine import AffineAdapter
from fedspeech.models.adapters.head import pooled
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset

ADAPTER = TRAINING.built


def model_of(adapter, seed=7):
    return (0.3 * stream(seed, "model").normal(size=adapter.spec.size)).astype(np.float32)


def test_the_update_of_one_clip_gives_its_features_away_after_any_number_of_steps():
    (clip,), model = speakers(1, seed=1, clips=1), model_of(ADAPTER)
    training = dataclasses.replace(TRAINING.training, local_epochs=5)
    (delta,) = train_cohort(ADAPTER, ADAPTER.spec.unflatten(model), [clip], training, [stream(1)])
    recovered = ratios(ADAPTER, 0.01 * delta.vector[np.newaxis])
    assert recovered.shape == (1, LABELS, clip.embeddings.shape[1])
    assert np.allclose(recovered[0], clip.embeddings, rtol=1e-3, atol=1e-4)
    assert inputs_of(ADAPTER, model, clip) == pytest.approx(clip.embeddings, rel=1e-3)


def test_behind_an_affine_its_output_is_given_away():
    adapter, rng = AffineAdapter(3, 5, LABELS), stream(2, "affine")
    clips = LocalDataset(rng.normal(size=(4, 3, 5)).astype(np.float32), np.arange(4) % LABELS)
    model = adapter.spec.flatten(
        adapter.initial(
            rng.normal(size=(LABELS, 5)).astype(np.float32), np.zeros(LABELS, np.float32)
        )
    )

    expected = pooled(torch.tensor(clips.embeddings), "relu").numpy()
    assert inputs_of(adapter, model, clips) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_an_output_without_error_says_nothing():
    assert not ratios(ADAPTER, np.zeros((1, ADAPTER.spec.size))).any()


def test_likeness_is_the_cosine_about_the_public_mean():
    center = np.array([1.0, 1.0])
    found = likeness(np.array([[2.0, 1.0], [2.0, 2.0]]), np.array([[3.0, 1.0], [0.0, 0.0]]), center)
    assert found == pytest.approx([1.0, -1.0])


def areas(attack, plan, *, single, count=20, rounds=1):
    """Are clips that phones of a round trained on told from others of the same speakers?"""
    plan = dataclasses.replace(plan, rounds=rounds, max_participations=rounds)
    both = speakers(count, seed=9, clips=6)
    members = [one.take(np.arange(2)) for one in both]
    asked = LocalDataset(
        np.concatenate([one.embeddings[[0, 5]] for one in both]),
        np.concatenate([one.labels[[0, 5]] for one in both]),
    )
    seen = played(plan, members, seed=3, single=single)
    guess = attack.guess(seen, knowledge(speakers(30, 77), (), clips=asked), stream(0, "none"))
    assert guess.shown["recovered"].shape[:2] == (len(guess.scores), LABELS)
    behind = seen.senders if single else np.full(len(guess.scores), -1)
    scores = np.array([
        guess.scores[(behind == phone) | (behind < 0), 2 * phone : 2 * phone + 2].mean(axis=0)
        for phone in np.unique(seen.rounds[0].senders)
    ])  # fmt: skip
    return roc(scores[:, 0], scores[:, 1]).area


@pytest.mark.parametrize("attack", INVERSION, ids=lambda attack: attack.name)
def test_clips_are_told_in_single_updates(attack):
    """Chance is 0.5, with a deviation of 0.12 among so few."""
    assert areas(attack, PLAN, single=True) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("attack", INVERSION, ids=lambda attack: attack.name)
def test_noise_of_a_hundred_clip_norms_hides_them(attack):
    """Within three deviations of chance."""
    assert 0.08 < areas(attack, with_noise(100.0), single=True) < 0.92


def test_what_it_cannot_read_is_refused():
    sentences = LocalDataset(np.zeros((1, 12), np.float32), np.ones((1, 3), np.int64))
    known = knowledge(speakers(2, 1), (), clips=sentences)
    with pytest.raises(ValueError, match="one label each"):
        RATIO.guess(played(PLAN, speakers(20, 0), 0), known, stream(0, "none"))
    assert MATCHING.auxiliary == "public"
    headless = type("Headless", (), {"spec": type("Spec", (), {"shapes": ()})()})()
    with pytest.raises(ValueError, match="head_weight"):
        ratios(headless, np.zeros((1, 3)))
