"""A base that is mined is no longer deceived by what a stream holds, and still finds words."""

import dataclasses

import numpy as np
import pytest
import torch

from fedspeech.audio.frontend import LogMel
from fedspeech.models.base import Base
from fedspeech.seeds import stream
from fedspeech.training.base_training import Lesson
from fedspeech.training.hard_negatives import against_hard_negatives, scene_features
from fedspeech.training.pretrain import base_accuracy, pretrain
from fedspeech.training.stream_training import HardNegatives
from tests.fedspeech.training.test_pretrain import TINY, VOCABULARY, Whistles

SMALL = HardNegatives(hours=0.1, mined_per_hour=300, segments=4, epochs=24, learning_rate=0.01)
DECOY_HZ = (530, 1_900)  # between the words and what the base knows to be none


def scenes(seed, count=6):
    """Hiss with a decoy every 0.6 s, 3 s each, as features."""
    rng, time = stream(seed, "decoys"), np.arange(48_000) / 16_000
    sounds = 0.003 * rng.standard_normal((count, 48_000))
    for sound in sounds:
        for place in range(3_000, 44_000, 9_600):
            here = slice(place, place + 4_000)
            sound[here] += 0.1 * np.sin(2 * np.pi * rng.choice(DECOY_HZ) * time[here])
    with torch.no_grad():
        return LogMel(TINY.frontend)(torch.from_numpy(sounds.astype(np.float32)))


def wakes(base, features):
    """Log-odds of a target word at every window of scenes, beside what comes before 0.5 s."""
    own = base.built_in
    with torch.inference_mode():
        output = own.network((features - torch.from_numpy(own.feature_mean)) / own.feature_std)
        clips = output.unfold(1, base.num_windows, 1).transpose(2, 3).flatten(0, 1)
        logits = base.logits(clips).reshape(len(features), -1, 4)
    return (logits[..., :2].amax(-1) - logits[..., 2:].logsumexp(-1))[:, 8:]


@pytest.fixture(scope="module")
def whistles():
    return Whistles()


@pytest.fixture(scope="module")
def lesson(whistles):
    return Lesson(
        corpus=whistles, utterances=whistles.of(*range(8)), validation=whistles.of(8, 9), seed=1
    )


@pytest.fixture(scope="module")
def start(lesson):
    return pretrain(lesson, VOCABULARY, TINY)


@pytest.fixture(scope="module")
def listener(start, lesson):
    return against_hard_negatives(start, lesson, scenes(1), SMALL)


@pytest.mark.slow
def test_decoys_of_new_scenes_no_longer_wake_and_new_speakers_are_still_found(
    start, listener, whistles
):
    new = whistles.of(10, 11)
    before, after = (float((wakes(one, scenes(2)) > 0).float().mean()) for one in (start, listener))
    assert before > 0.1, "the decoys deceive a base that is taught clips alone"
    assert after < before / 5
    logits = [one.logits(one.encoder_output(one.heard(whistles, new))) for one in (start, listener)]
    labels = torch.from_numpy(VOCABULARY.encode([clip.word for clip in new]))
    said = labels < 2
    found = [(one[said, :2].argmax(1) == labels[said]).float().mean() for one in logits]
    assert found[1] >= found[0] - 0.1


@pytest.mark.slow
def test_the_record_names_the_base_before_and_what_was_mined(start, listener, whistles):
    expected = {"started_from": start.sha256, "mined_hours": 0.1}
    assert expected.items() <= listener.provenance.items()
    validating = whistles.of(8, 9)
    right = base_accuracy(listener, whistles, validating)
    assert listener.provenance["validation_accuracy"] == round(right, 4)
    assert listener.vocabulary == start.vocabulary
    np.testing.assert_array_equal(listener.built_in.feature_mean, start.built_in.feature_mean)


@pytest.mark.slow
def test_what_ships_is_what_the_new_base_takes_most_for_a_word(listener, tmp_path):
    logits = listener.logits(torch.from_numpy(listener.hard_negatives))
    found = (logits[:, :2].amax(1) - logits[:, 2:].logsumexp(1)).numpy()
    assert (np.diff(found) <= 1e-5).all(), "hardest first"
    assert found[0] >= float(wakes(listener, scenes(1)).quantile(0.95))
    assert listener.hard_negatives.shape[1:] == (listener.num_windows, listener.num_features)
    listener.save(tmp_path / "base.safetensors")
    assert Base.load(tmp_path / "base.safetensors").sha256 == listener.sha256


@pytest.mark.slow
def test_same_arguments_same_bytes(start, lesson, listener):
    assert against_hard_negatives(start, lesson, scenes(1), SMALL).sha256 == listener.sha256


@pytest.mark.slow
def test_scenes_that_are_too_short_are_refused(start, lesson):
    with pytest.raises(ValueError, match=r"scenes must have at least \d+ frames, got 9"):
        against_hard_negatives(start, lesson, scenes(1)[:, :9], SMALL)


@pytest.mark.slow
def test_scenes_hold_the_accents_that_are_asked_for_and_no_target_word():
    mining = HardNegatives(hours=36 / 3600, accents=("plain",))
    found = scene_features(TINY.frontend, mining, ("yes",), {})
    assert found.shape[0] == 3
    assert found.isfinite().all()
    other = scene_features(
        TINY.frontend, dataclasses.replace(mining, accents=("raised",)), ("yes",), {}
    )
    assert not torch.equal(found, other)
