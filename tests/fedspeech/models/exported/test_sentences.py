"""A base for sentences from elsewhere: frames of its own alphabet, zeros behind the end."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from fedspeech.corpora.corpus import Alphabet
from fedspeech.corpora.recorded import unusable_transcript
from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.models.base import Base

CHARACTERS = (" ", "ä", "k", "o")
SAMPLES, HOP, FEATURES = 3_200, 320, 6


class Frames(nn.Module):
    """One frame of features for every 320 samples."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, FEATURES, HOP, stride=HOP)

    def forward(self, waveforms):
        return torch.tanh(self.layer(waveforms[:, None])).transpose(1, 2)


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(3)
    labels = 1 + len(CHARACTERS)
    return Base.from_module(
        Frames(), example=torch.zeros(1, SAMPLES), alphabet=CHARACTERS, license="MIT",
        head=(torch.randn(labels, FEATURES), torch.randn(labels)),
    )  # fmt: skip


@pytest.mark.parametrize(("recorded", "windows"), [(0, 0), (1, 1), (320, 1), (321, 2), (3_200, 10)])
def test_frames_after_the_last_recorded_sample_are_zeros(base, recorded, windows):
    heard = np.zeros((1, SAMPLES), np.float32)
    heard[:, :recorded] = 0.5
    output = base.encoder_output(heard)
    assert output.shape == (1, base.num_windows, base.num_features) == (1, 10, FEATURES)
    assert present_windows(output).tolist() == [windows]
    assert output[0, :windows].all()


def test_every_frame_is_answered_by_an_adapter_as_by_the_head(base):
    heard = np.random.default_rng(1).normal(0, 0.1, (2, SAMPLES)).astype(np.float32)
    adapter = make_adapter(
        "frame_affine", base.num_windows, base.num_features, 5, base.encoder.activation
    )
    output = base.encoder_output(heard)
    start = adapter.initial(base.head_weight, base.head_bias)
    parameters = {name: torch.from_numpy(value[None]) for name, value in start.items()}
    logits = adapter.logits(parameters, adapter.embed(output)[None])[0]
    torch.testing.assert_close(logits, base.logits(output), atol=1e-5, rtol=1e-5)
    assert (output < 0).any(), "an activation that is not the network's own would cut these"


def test_its_folder_and_its_file_read_back(base, tmp_path):
    base.save(tmp_path / "mine")
    assert "pooling" not in (tmp_path / "mine" / "base.toml").read_text(encoding="utf-8")
    for again in (Base.load(tmp_path / "mine"), Base.from_bytes(base.to_bytes())):
        assert again.sha256 == base.sha256
        assert again.vocabulary == Alphabet(CHARACTERS)
        assert again.pooling is None


def test_words_and_sentences_are_not_mixed(base):
    example = torch.zeros(1, SAMPLES)
    with pytest.raises(ValueError, match="either words or an alphabet"):
        Base.from_module(Frames(), example=example, license="MIT")
    with pytest.raises(ValueError, match="either words or an alphabet"):
        Base.from_module(
            Frames(), example=example, license="MIT", words=["yes"], alphabet=CHARACTERS
        )
    with pytest.raises(ValueError, match="frame by frame, got pooling = 'mean_max'"):
        Base.from_module(
            Frames(), example=example, license="MIT", alphabet=CHARACTERS, pooling="mean_max"
        )
    with pytest.raises(ValueError, match="context_samples must be 0 where sentences are"):
        dataclasses.replace(base.encoder.declared, context_samples=320)


def test_a_transcript_is_usable_in_the_alphabet_of_the_base():
    assert unusable_transcript("okkä o", Alphabet(CHARACTERS)) == ""
    assert "outside the alphabet: 1 kinds" in unusable_transcript("okkä o")
    assert "outside the alphabet: 1 kinds" in unusable_transcript("book", Alphabet(CHARACTERS))
