"""Pre-training learns, repeats, and hears nobody it must not hear."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from fedspeech.audio.augment import Augmentation
from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Speaker, Utterance, Vocabulary
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.synthesis.lexicon import DEFAULT_TARGETS
from fedspeech.training.base_training import Lesson, check_apart
from fedspeech.training.pretrain import (
    PretrainSettings,
    base_accuracy,
    pretrain,
    synthetic_base,
)

VOCABULARY = Vocabulary(("low", "high"))
PITCH_HZ = {"low": 400, "high": 2_500, "middle": 1_000, SILENCE: 0}
TINY = PretrainSettings(
    frontend=FrontendSpec(num_mels=20, clip_samples=4_000),
    augmentation=Augmentation(
        shift_frames=1, shift_mels=0.5, noise_db=(-120, -90), mask_mels=2, mask_frames=2
    ),
    encoder=EncoderSpec(num_mels=20, stem_channels=8, channels=(8, 8), strides=(2, 2), features=8),
    epochs=20,
    batch_clips=16,
    learning_rate=0.02,
)


class Whistles:
    """Words are pitches; speakers differ in loudness and accent of a few per cent."""

    name, license, skipped = "whistles", "none needed", ()

    def __init__(self, loudness: float = 0.1, speakers: int = 12) -> None:
        self.loudness = loudness
        self.speakers = {f"s{i:02d}": Speaker(f"s{i:02d}") for i in range(speakers)}
        self.utterances = [
            Utterance(f"{speaker}/{word}/{take}", speaker, word)
            for speaker in self.speakers
            for word in PITCH_HZ
            for take in range(3)
        ]

    def of(self, *numbers: int) -> list[Utterance]:
        names = {f"s{number:02d}" for number in numbers}
        return [utterance for utterance in self.utterances if utterance.speaker_id in names]

    def fingerprint(self, utterance: Utterance) -> str:
        return hashlib.sha256(utterance.utterance_id.encode()).hexdigest()

    def waveforms(self, utterances):
        clips = []
        for utterance in utterances:
            rng = np.random.default_rng(int(self.fingerprint(utterance)[:8], 16))
            pitch = PITCH_HZ[utterance.word] * rng.uniform(0.95, 1.05)
            tone = np.sin(2 * np.pi * pitch * np.arange(4_000) / 16_000)
            clips.append(self.loudness * tone + 0.003 * rng.standard_normal(4_000))
        return np.array(clips, dtype=np.float32)


@pytest.fixture(scope="module")
def whistles():
    return Whistles()


def taught(whistles, *numbers, seed=1, **more):
    return Lesson(corpus=whistles, utterances=whistles.of(*numbers), seed=seed, **more)


@pytest.fixture(scope="module")
def base(whistles):
    lesson = taught(
        whistles,
        *range(8),
        validation=whistles.of(8, 9),
        forbidden=("s10", "s11"),
        provenance={"command": "made in a test"},
    )
    return pretrain(lesson, VOCABULARY, TINY)


@pytest.mark.slow
def test_words_are_told_apart_for_speakers_never_heard(base, whistles):
    assert base_accuracy(base, whistles, whistles.of(10, 11)) >= 0.9  # four labels: chance is 0.25
    assert base.provenance["validation_accuracy"] == base_accuracy(
        base, whistles, whistles.of(8, 9)
    )


@pytest.mark.slow
def test_the_record_says_what_happened(base):
    assert base.speakers == tuple(f"s{i:02d}" for i in range(8))
    expected = {"seed": 1, "corpus": "whistles", "training_speakers": 8, "validation_speakers": 2}
    assert expected.items() <= base.provenance.items()
    assert base.provenance["command"] == "made in a test"


def test_same_arguments_same_bytes_whatever_torch_did_before(whistles):
    short = dataclasses.replace(TINY, epochs=2)
    first = pretrain(taught(whistles, 0, 1, seed=1), VOCABULARY, short)
    torch.rand(17)
    again = pretrain(taught(whistles, 0, 1, seed=1), VOCABULARY, short)
    other = pretrain(taught(whistles, 0, 1, seed=2), VOCABULARY, short)
    assert again.sha256 == first.sha256
    assert not np.allclose(other.head_weight, first.head_weight)


def test_torch_is_left_as_it_was(whistles):
    torch.manual_seed(5)
    threads, expected = torch.get_num_threads(), torch.rand(1)
    torch.manual_seed(5)
    few = dataclasses.replace(TINY, epochs=1, batch_clips=8)
    pretrain(taught(whistles, 0, seed=2), VOCABULARY, few)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_features_are_standardized_by_the_training_speakers_alone(base, whistles):
    # Leaking validation or evaluation clips into the constants would move them.
    waveforms = torch.from_numpy(whistles.waveforms(whistles.of(*range(8))))
    log_mel = LogMel(TINY.frontend)(waveforms).double()
    np.testing.assert_allclose(base.built_in.feature_mean, log_mel.mean(dim=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(base.built_in.feature_std, log_mel.std(dim=(0, 1)), rtol=1e-4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"forbidden": ("s07", "s10")}, "training and phones share 1, .*'s07'"),
        ({"validation": (7, 8)}, "training and validation share 1"),
        ({"validation": (8, 9), "forbidden": ("s09",)}, "validation and phones share 1"),
    ],
)
def test_a_speaker_in_two_groups_is_refused(whistles, groups, message):
    validation = whistles.of(*groups.pop("validation", ()))
    with pytest.raises(ValueError, match=message):
        pretrain(taught(whistles, *range(8), validation=validation, **groups), VOCABULARY, TINY)


def test_groups_that_share_nobody_pass():
    check_apart(training={"a"}, phones={"b"}, validation=set())


def test_a_label_without_a_clip_is_refused(whistles):
    spoken = [utterance for utterance in whistles.of(0) if utterance.word != SILENCE]
    with pytest.raises(ValueError, match="no clip to learn \\['_silence_'\\]"):
        pretrain(Lesson(corpus=whistles, utterances=spoken, seed=1), VOCABULARY, TINY)


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"batch_clips": 1}, {"learning_rate": 0}, {"label_smoothing": 1.0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PretrainSettings(**wrong)


def tiny_synthetic(tmp_path, progress=None, seed=1):
    return synthetic_base(
        Vocabulary(("yes", "stop")),
        seed=seed,
        cache_dir=tmp_path,
        num_speakers=6,
        settings=PretrainSettings(encoder=EncoderSpec(channels=(16,), strides=(4,)), epochs=1),
        progress=progress,
    )


@pytest.mark.slow
def test_a_synthetic_base_is_made_once_and_a_damaged_one_again(tmp_path):
    stages = []
    first = tiny_synthetic(tmp_path, lambda stage, done, total: stages.append(stage))
    assert set(stages) == {"features", "training"}
    assert first.vocabulary.targets == ("yes", "stop")
    assert {"validation_accuracy", "validation_accuracy_other_accents"} <= set(first.provenance)

    stages.clear()
    again = tiny_synthetic(tmp_path, lambda stage, done, total: stages.append(stage))
    assert again.sha256 == first.sha256
    assert not stages

    (file,) = (tmp_path / "bases").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert tiny_synthetic(tmp_path).sha256 == first.sha256
    assert tiny_synthetic(tmp_path, seed=2).sha256 != first.sha256


def test_the_shipped_base_is_small_and_says_how_it_was_made():
    assert default_base_path().stat().st_size <= 600_000
    base = Base.load(default_base_path())
    assert base.vocabulary.targets == DEFAULT_TARGETS
    assert {"command", "seed", "corpus", "license", "validation_accuracy"} <= set(base.provenance)
    assert all(speaker.startswith("public-") for speaker in base.speakers)
