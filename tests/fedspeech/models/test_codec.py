"""A codec keeps its shapes, its bytes and its promises, of which it makes none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.codec import Codec, CodecNetwork, CodecSpec

SPEC = CodecSpec(channels=8, width=8, codebooks=3, entries=16, code_size=4, teacher_features=5)


def codec_of(spec=SPEC, seed=0):
    torch.manual_seed(seed)
    return Codec(network=CodecNetwork(spec), feature_mean=np.zeros(40, np.float32),
                 feature_std=np.ones(40, np.float32), provenance={"seed": seed})  # fmt: skip


@pytest.fixture(scope="module")
def codec():
    return codec_of()


def clips(n=2, frames=49):
    return np.random.default_rng(3).normal(size=(n, frames, 40)).astype(np.float32)


def test_a_clip_of_a_second_is_25_tokens(codec):
    codes = codec.encode(clips())
    assert codes.shape == (2, 25, 3)
    assert codes.min() >= 0
    assert codes.max() < 16
    assert codec.decode(codes).shape == (2, 50, 40)
    assert codec.decode(codes[..., :1]).shape == (2, 50, 40)


def test_bit_rates_are_codes_times_their_bits():
    default = CodecSpec()
    found = codec_of(default)
    assert found.bit_rates() == (150.0, 300.0, 450.0, 600.0)
    assert 200_000 < found.network.num_parameters < 500_000


def test_each_codebook_takes_what_the_ones_before_left(codec):
    """By hand: nearest code of length 1 to the projection of the rest, three times."""
    network, features = codec.network, torch.from_numpy(clips(1))
    left = network.latents(features)[0, 7]
    expected = []
    for place in range(3):
        quantizer = network.quantizer(place)
        latent = quantizer.down(left)
        entries = torch.nn.functional.normalize(quantizer.codebook, dim=1)
        cosines = entries @ latent / latent.norm()
        expected.append(int(cosines.argmax()))
        left = left - quantizer.up(entries[expected[-1]])
    assert codec.encode(clips(1))[0, 7].tolist() == expected


def test_encoding_adds_no_noise(codec):
    assert (codec.encode(clips()) == codec.encode(clips())).all()


def test_features_are_standardized_and_given_back():
    mean, std = np.full(40, 3.0, np.float32), np.full(40, 2.0, np.float32)
    plain = codec_of()
    moved = Codec(network=plain.network, feature_mean=mean, feature_std=std, provenance={})
    codes = moved.encode(clips() * 2 + 3)
    assert (codes == plain.encode(clips())).all()
    np.testing.assert_allclose(moved.decode(codes), plain.decode(codes) * 2 + 3, rtol=1e-5)


def test_a_file_gives_the_same_codec_back(codec, tmp_path):
    codec.save(tmp_path / "codec.safetensors")
    again = Codec.load(tmp_path / "codec.safetensors")
    assert again.sha256 == codec.sha256
    assert again.provenance == {"seed": 0}
    assert (again.encode(clips()) == codec.encode(clips())).all()


def test_what_is_no_codec_is_refused_by_name(codec, tmp_path):
    path = tmp_path / "codec.safetensors"
    data = codec.to_bytes()
    for content in (b"", b"RIFF", data[:-40], data.replace(b"code_size", b"code_sizf"),
                    data[:8] + b"x" * 40):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"codec\.safetensors: .*not a fedspeech codec"):
            Codec.load(path)
    with pytest.raises(FileNotFoundError):
        Codec.load(tmp_path / "none.safetensors")


def test_bad_input_is_refused(codec):
    for features in (clips()[0], clips()[..., :7], np.full((1, 9, 40), np.nan, np.float32)):
        with pytest.raises(ValueError, match="features must be"):
            codec.encode(features)
    good = codec.encode(clips())
    for codes in (good[0], good - 99, good + 16, good.astype(float), np.zeros((1, 4, 9), int)):
        with pytest.raises(ValueError, match="codes must be"):
            codec.decode(codes)
    with pytest.raises(ValueError, match="entries must be in"):
        CodecSpec(entries=1)
    with pytest.raises(ValueError, match=r"channels must be in \[1, 512\]"):
        CodecSpec(channels=10**9)  # as a file could ask for
    with pytest.raises(ValueError, match="at most 500000 parameters"):
        CodecNetwork(CodecSpec(channels=400))
    with pytest.raises(ValueError, match="other features"):
        replace(codec, frontend=FrontendSpec(num_mels=30))
