"""The speaker encoder answers what the package that ships it answers, and takes no other file."""

import numpy as np
import pytest

from fedspeech.audits import speaker_encoder
from fedspeech.audits.speaker_encoder import SpeakerEncoder, mel_frames, partial_starts
from fedspeech.extras import MissingExtra, lacking

there = pytest.mark.skipif(bool(lacking("audit")), reason="Resemblyzer is not installed")
PLACES = np.arange(24_000) / 16_000
TONE = (
    0.1 * np.sin(2 * np.pi * 220 * PLACES) * np.sin(2 * np.pi * 3 * PLACES)
    + 0.05 * np.sin(2 * np.pi * 1900 * PLACES)
).astype(np.float32)


def test_mel_frames_are_librosas():
    """Of librosa 0.11.0 by Resemblyzer 0.1.4's `wav_to_mel_spectrogram`."""
    found = mel_frames(TONE)
    assert found.shape == (151, 40)
    assert found.sum() == pytest.approx(191.9326, rel=1e-5)
    np.testing.assert_allclose(found[50, [3, 10, 25]], [2.3107941e-3, 0, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(16_000, [0]), (25_599, [0]), (40_000, [0, 77]), (60_001, [0, 77, 154, 231])],
)
def test_partial_utterances_are_the_packages(samples, starts):
    """`VoiceEncoder.compute_partial_slices(samples, 1.3, 0.75)` of Resemblyzer 0.1.4."""
    assert partial_starts(samples) == starts


@there
def test_voices_are_the_packages():
    """`VoiceEncoder.embed_utterance` of the same tone, after `normalize_volume` to -30 dB."""
    voice = SpeakerEncoder.load()(TONE[None], rate_hz=16_000)[0]
    order = np.argsort(-voice)[:4]
    assert order.tolist() == [245, 149, 225, 126]
    expected = [0.3385388, 0.24743664, 0.22506289, 0.21712454]
    np.testing.assert_allclose(voice[order], expected, atol=1e-5)
    assert np.linalg.norm(voice) == pytest.approx(1, abs=1e-5)


@there
def test_a_quiet_voice_is_the_voice():
    encoder = SpeakerEncoder.load()
    quiet, quieter = (encoder(TONE[None] * gain, rate_hz=16_000)[0] for gain in (0.1, 0.001))
    np.testing.assert_allclose(quiet, quieter, atol=1e-4)


@there
def test_another_rate_and_sound_that_is_none_are_refused():
    encoder = SpeakerEncoder.load()
    with pytest.raises(ValueError, match="16000 Hz, got rate_hz=8000"):
        encoder(TONE[None], rate_hz=8_000)
    with pytest.raises(ValueError, match="finite waveforms"):
        encoder(TONE[None] * np.nan, rate_hz=16_000)
    assert np.isfinite(encoder(0 * TONE[None], rate_hz=16_000)).all()


def test_another_file_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    file = tmp_path / "pretrained.pt"
    file.write_bytes(b"not weights")
    monkeypatch.setattr(speaker_encoder.torch, "load", lambda *_: pytest.fail("parsed"))
    with pytest.raises(ValueError, match="must have SHA-256 39373b86"):
        SpeakerEncoder.load(file)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "resemblyzer", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fedspeech\[audit\]'"):
        SpeakerEncoder.load()
