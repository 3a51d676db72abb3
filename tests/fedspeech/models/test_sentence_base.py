"""The base for sentences: what was never recorded is zeros, and nothing else depends on it."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from strangers import strangers

from fedspeech.audio.frontend import LogMel, cepstral_matrix, mel_matrix
from fedspeech.audio.spec import SPHINX_MFCC, Cepstra, FrontendSpec
from fedspeech.corpora.corpus import Alphabet
from fedspeech.models.asr import FLUSH_WINDOWS, SentenceEncoder
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.decoding import greedy
from fedspeech.tasks.kws import Kws
from fedspeech.training.pretrain_sentences import synthetic_sentence_base


@pytest.fixture(scope="module")
def base():
    return Base.load(sentence_base_path())


@pytest.fixture(scope="module")
def people():
    """Six speakers with the accent that the base has heard, none of whom taught it."""
    return strangers(seed=77, num_speakers=6)


def test_the_shipped_base_is_small_and_named_by_its_bytes(base):
    data = sentence_base_path().read_bytes()
    assert len(data) < 3_000_000
    assert base.sha256 == hashlib.sha256(data).hexdigest()
    assert base.built_in.network.num_parameters < SentenceEncoder.MAX_PARAMETERS
    assert base.built_in.frontend == SPHINX_MFCC
    assert base.provenance["command"] == "fedspeech pretrain --task asr --seed 0"
    assert base.provenance["validation_sentences_right"] > 0.5
    with pytest.raises(ValueError, match="recognizes sentences, and the scenario wants words"):
        Kws.known(base)


def test_it_hears_most_words_of_the_accent_that_it_knows(base, people):
    clips = people.utterances
    output = base.encoder_output(people.waveforms(clips))
    windows = (output != 0).any(dim=2).sum(dim=1).numpy()
    heard = greedy(base.logits(output).numpy(), windows, base.vocabulary)
    said = [word for clip in clips for word in clip.word.split()]
    kept = sum(
        len(set(clip.word.split()) & set(text.split()))
        for clip, text in zip(clips, heard, strict=True)
    )
    assert kept / len(said) > 0.6


def test_windows_end_with_the_recording_and_do_not_depend_on_padding(base, people):
    waveforms = people.waveforms(people.utterances[:2])
    output = base.encoder_output(waveforms)
    assert output.shape == (2, base.num_windows, base.built_in.spec.features)
    frames = base.built_in.frontend.recorded_frames(waveforms)
    windows = -(-frames // base.built_in.spec.stride) + FLUSH_WINDOWS
    for clip, count in zip(output, windows, strict=True):
        assert clip[:count].any(dim=1).all()
        assert not clip[count:].any()
    longer = np.pad(waveforms, ((0, 0), (0, 16_000)))
    again = base.encoder_output(longer)[:, : base.num_windows]
    torch.testing.assert_close(again, output, atol=1e-4, rtol=1e-4)
    assert not base.encoder_output(np.zeros_like(waveforms)).any()


def test_features_instead_of_sound_give_the_same_windows(base, people):
    waveforms = people.waveforms(people.utterances[2:4])
    with torch.inference_mode():
        features = LogMel(base.built_in.frontend)(torch.from_numpy(waveforms)).numpy()
    frames = base.built_in.frontend.recorded_frames(waveforms)
    features[np.arange(features.shape[1]) >= frames[:, None]] = 0
    torch.testing.assert_close(
        base.encoder_output(features), base.encoder_output(waveforms), atol=1e-4, rtol=1e-4
    )


def test_a_base_reads_back_and_one_without_cepstra_keeps_its_bytes(base):
    again = Base.from_bytes(base.to_bytes())
    assert again.sha256 == base.sha256
    assert again.vocabulary == base.vocabulary == Alphabet()
    assert again.built_in.frontend.cepstra == Cepstra()


def test_cepstra_are_those_of_sphinx():
    """Its definition in one line of NumPy per step, on one frame."""
    rng = np.random.default_rng(3)
    frame = rng.normal(0, 0.1, SPHINX_MFCC.window_samples).astype(np.float32)
    (found,) = LogMel(SPHINX_MFCC)(torch.from_numpy(frame[None]))[0].numpy()
    sharp = np.append(frame[0] * (1 - 0.97), frame[1:] - 0.97 * frame[:-1]) * 32_768
    power = np.abs(np.fft.rfft(sharp * np.hamming(410), 512)) ** 2
    filters = mel_matrix(SPHINX_MFCC).astype(np.float64)
    bands = np.log(power @ (filters / (filters.sum(axis=0) * 16_000 / 512)))
    for number in range(13):
        terms = bands * np.cos(np.pi * number * (np.arange(40) + 0.5) / 40)
        assert found[number] == pytest.approx((terms.sum() - terms[0] / 2) / 40, abs=2e-3)
    assert cepstral_matrix(SPHINX_MFCC, Cepstra()).shape == (40, 13)


def test_cepstra_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="an FFT as long as the window"):
        FrontendSpec(cepstra=Cepstra(fft_samples=256))
    with pytest.raises(ValueError, match="num must be at least 1, got num=0"):
        Cepstra(num=0)


@pytest.mark.slow
def test_a_synthetic_base_is_made_once_and_learns(tmp_path):
    from fedspeech.training.pretrain_sentences import SentenceSettings

    settings = SentenceSettings(epochs=2, batch_clips=8)
    made = [
        synthetic_sentence_base(
            seed=1, cache_dir=tmp_path, num_speakers=5, sentences_per_speaker=6, settings=settings
        )
        for _ in range(2)
    ]
    assert made[0].sha256 == made[1].sha256
    assert made[0].provenance["task"] == "asr"
    other = dataclasses.replace(settings, epochs=1)
    again = synthetic_sentence_base(
        seed=1, cache_dir=tmp_path, num_speakers=5, sentences_per_speaker=6, settings=other
    )
    assert again.sha256 != made[0].sha256
