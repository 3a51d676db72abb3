"""Losses of the codec by hand, gradients that stop or turn, and a codec that learns two words."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedspeech.audits.sequence_attacker import one_hot, train_attacker
from fedspeech.models.codec import Codec, CodecNetwork, CodecSpec
from fedspeech.training.codec import (
    SpeakerClassifier,
    TokenLesson,
    TokenTraining,
    clip_norm_of,
    decoder_input,
    distillation,
    noisy,
    teacher_frames,
    train_codec,
)

SPEC = CodecSpec(channels=16, width=16, codebooks=2, entries=16, code_size=4, teacher_features=2)


def test_noise_is_laplace_of_twice_the_clip_over_the_ratio():
    """C = 2, ratio 15: scale 0.26667. 200,000 draws: within 4 standard errors of the mean."""
    torch.manual_seed(0)
    found = noisy(torch.zeros(12_500, 4), clip_norm=2.0, ratio=15.0)
    scale = 4 / 15
    assert float(found.abs().mean()) == pytest.approx(scale, abs=4 * scale / math.sqrt(50_000))
    assert abs(float(found.mean())) < 4 * math.sqrt(2) * scale / math.sqrt(50_000)
    share = float((found.abs() > 2 * scale).float().mean())
    assert share == pytest.approx(math.exp(-2), abs=0.008)
    loud = noisy(torch.tensor([[30.0, -10.0], [0.5, 0.5]]), clip_norm=2.0, ratio=1e9)
    torch.testing.assert_close(loud, torch.tensor([[1.5, -0.5], [0.5, 0.5]]))


def test_no_gradient_of_a_clip_that_is_decoded_from_the_first_codebook():
    quantized = [torch.ones(2, 3, 4, requires_grad=True) for _ in range(2)]
    alone = torch.tensor([True, False])[:, None, None]
    found = decoder_input(quantized, alone)
    assert found[:, 0, 0].tolist() == [1, 2]
    found.sum().backward()
    for vectors in quantized:
        assert vectors.grad[0].abs().sum() == 0
        assert (vectors.grad[1] == 1).all()


def test_the_classifier_learns_and_what_comes_before_unlearns():
    """A step against the gradient makes it easier for the one and harder for the other."""
    torch.manual_seed(0)
    classifier = SpeakerClassifier(4, 3, TokenTraining())
    vectors = torch.randn(5, 7, 4, requires_grad=True)
    who = torch.tensor([0, 1, 2, 0, 1])
    before = classifier.loss(vectors, who, strength=0.5)
    before.backward()
    once, voices = vectors.grad.clone(), classifier.voices.grad.clone()
    vectors.grad = None
    classifier.loss(vectors, who, strength=1.0).backward()
    torch.testing.assert_close(vectors.grad, 2 * once)
    with torch.no_grad():
        assert classifier.loss(vectors - 1e-2 * once, who, 1.0) > before + 1e-5
        classifier.voices -= 1e-2 * voices
        assert classifier.loss(vectors, who, 1.0) < before - 1e-5


def test_the_margin_is_taken_from_the_true_cosine():
    torch.manual_seed(0)
    training = TokenTraining(margin=0.4, scale=30.0)
    classifier = SpeakerClassifier(4, 3, training)
    vectors, who = torch.randn(2, 7, 4), torch.tensor([2, 0])
    frames = classifier.frames(vectors.transpose(1, 2))
    pooled = torch.cat([frames.mean(dim=2), frames.std(dim=2)], dim=1)
    cosines = nn.functional.cosine_similarity(pooled[:, None], classifier.voices[None], dim=2)
    expected = 0.0
    for row, true in enumerate(who):
        logits = 30 * cosines[row].double()
        logits[true] -= 30 * 0.4
        expected += (torch.logsumexp(logits, 0) - logits[true]).item() / 2
    assert classifier.loss(vectors, who, 1.0).item() == pytest.approx(expected, rel=1e-4)


def test_distillation_by_hand():
    found, teacher = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
    expected = 1.0 + math.log(1 + math.exp(-24 / 25))
    assert float(distillation(found, teacher)) == pytest.approx(expected)


def test_a_token_gets_the_first_window_that_has_heard_it():
    windows = np.arange(13, dtype=np.float32).reshape(1, 13, 1)
    found = teacher_frames(windows, 25)[0, :, 0]
    assert found[:4].tolist() == [0, 1, 1, 2]
    assert found[-1] == 12
    assert (np.diff(found) >= 0).all()


def two_words(voices=3, takes=12, seed=0):
    """Words: rising or falling bands; voices: a constant tilt. Teacher: which word."""
    rng = np.random.default_rng(seed)
    who, word = np.divmod(np.arange(voices * 2 * takes), 2 * takes)
    word = word % 2
    time, band = np.linspace(0, 1, 20)[:, None], np.linspace(0, 1, 40)
    shapes = np.stack([np.exp(-40 * (band - time) ** 2), np.exp(-40 * (band - 1 + time) ** 2)])
    tilts = np.linspace(-1, 1, voices)[:, None] * (band - 0.5)
    frames = shapes[word] + tilts[who][:, None] + 0.1 * rng.normal(size=(len(who), 20, 40))
    teacher = np.repeat(np.eye(2)[word][:, None], 10, axis=1)
    return TokenLesson(frames.astype(np.float32), teacher.astype(np.float32), who), word


@pytest.mark.slow
def test_the_first_codebook_learns_words():
    lesson, word = two_words()
    codec = train_codec(lesson, TokenTraining(epochs=8, batch_clips=12), SPEC, seed=1)
    fresh, said = two_words(seed=9)
    codes = codec.encode(fresh.features)
    frames = one_hot(codec.encode(lesson.features)[..., :1], 16)
    reader = train_attacker(frames, word, classes=2, rng=np.random.default_rng(0), epochs=6)
    right = reader(one_hot(codes[..., :1], 16)).argmax(axis=1) == said
    assert right.mean() > 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_codec_and_noise_another():
    lesson, _ = two_words(takes=2)
    once = TokenTraining(epochs=1, batch_clips=6)
    noise = TokenTraining(epochs=1, batch_clips=6, clip_norm=1.0)
    first, again, noisy_one = (
        train_codec(lesson, one, SPEC, seed=1) for one in (once, once, noise)
    )
    for name, weights in first.network.state_dict().items():
        assert torch.equal(weights, again.network.state_dict()[name])
    assert not torch.equal(
        first.network.quantizer(0).codebook, noisy_one.network.quantizer(0).codebook
    )
    assert (first.provenance["noise_in_training"], noisy_one.provenance["noise_in_training"]) == (
        0,
        1,
    )


def test_the_clip_norm_is_the_mean_l1_norm_of_what_the_first_codebook_gets():
    lesson, _ = two_words(takes=2)
    torch.manual_seed(0)
    codec = Codec(network=CodecNetwork(SPEC), feature_mean=np.full(40, 0.3, np.float32),
                  feature_std=np.full(40, 2.0, np.float32), provenance={})  # fmt: skip
    quantizer = codec.network.quantizer(0)
    standard = torch.from_numpy((lesson.features - codec.feature_mean) / codec.feature_std)
    latents = quantizer.down(codec.network.latents(standard))
    expected = np.mean([float(row.abs().sum()) for clip in latents for row in clip])
    assert clip_norm_of(codec, lesson.features) == pytest.approx(expected, rel=1e-5)


def test_bad_lessons_and_settings_are_refused():
    lesson, _ = two_words(takes=1)
    with pytest.raises(ValueError, match="a recognizer's frame of every token"):
        TokenLesson(lesson.features, lesson.teacher[:, :3], lesson.speakers)
    with pytest.raises(ValueError, match="teacher must be finite"):
        TokenLesson(lesson.features, lesson.teacher * np.nan, lesson.speakers)
    with pytest.raises(ValueError, match="two speakers or more"):
        TokenLesson(lesson.features, lesson.teacher, lesson.speakers * 0)
    for bad in ({"epochs": 0}, {"first_alone": 1.5}, {"clip_norm": -1.0}, {"noise_ratio": 0.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TokenTraining(**bad)


def test_bad_attacks_are_refused():
    rng, frames = np.random.default_rng(0), np.zeros((4, 3, 2), np.float32)
    with pytest.raises(ValueError, match="labels must be in"):
        train_attacker(frames, np.array([0, 1, 2, 3]), classes=3, rng=rng)
    with pytest.raises(ValueError, match="a label of each"):
        train_attacker(frames, np.array([0, 1]), classes=2, rng=rng)
    with pytest.raises(ValueError, match="frames must be finite"):
        train_attacker(frames + np.inf, np.zeros(4, np.int64), classes=2, rng=rng)


def test_codes_become_frames_of_ones():
    found = one_hot(np.array([[[1, 0], [2, 2]]]), 3)
    assert found.tolist() == [[[0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 0, 1]]]


def test_networks_of_the_default_size_start():
    assert CodecNetwork(CodecSpec()).num_parameters > 200_000
