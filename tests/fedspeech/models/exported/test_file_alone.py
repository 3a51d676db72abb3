"""A network in a file becomes a base, and what a file does not say is asked for."""

import numpy as np
import pytest
import torch
from torch import nn

from fedspeech.models.base import Base
from fedspeech.models.exported.program import exported

SAMPLES, FEATURES = 1_600, 6


class Network(nn.Module):
    """Waveforms to one vector."""

    def __init__(self, features=FEATURES):
        super().__init__()
        self.layer = nn.Conv1d(1, features, 160, stride=80)

    def forward(self, waveforms):
        return torch.tanh(self.layer(waveforms[:, None])).mean(dim=2)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return Network().eval()


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(exported(network, torch.zeros(2, SAMPLES)))
    return path


@pytest.mark.slow
def test_it_is_the_base_of_its_module(network, file):
    base = Base.from_file(file, words=["yes", "no"], license="MIT", speakers=["anna"])
    module = Base.from_module(
        network, example=torch.zeros(1, SAMPLES), words=["yes", "no"], license="MIT",
        speakers=["anna"],
    )  # fmt: skip
    assert base.sha256 == module.sha256
    assert base.encoder.clip_samples == SAMPLES
    heard = np.random.default_rng(0).normal(0, 0.1, (3, SAMPLES)).astype(np.float32)
    expected = network(torch.from_numpy(heard)).detach().numpy()
    # One vector is mean and maximum at once, as a head will be fit on them.
    np.testing.assert_allclose(
        base.encoder_output(heard)[:, 0].numpy(), np.concatenate([expected] * 2, axis=1), atol=1e-6
    )


def test_without_a_head_it_says_so_and_with_one_it_does_not(file):
    given = {"words": ["yes", "no"], "license": "MIT"}
    assert Base.from_file(file, **given).lacks_head
    head = (torch.ones(4, FEATURES), torch.zeros(4))
    with_head = Base.from_file(file, **given, head=head)
    assert not with_head.lacks_head
    assert with_head.num_features == FEATURES


def test_as_many_numbers_as_labels_are_taken_for_logits(tmp_path):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(exported(Network(features=3), torch.zeros(2, SAMPLES)))
    (doubt,) = Base.from_file(path, words=["yes", "no"], license="MIT").doubts
    assert "answers 3 numbers and the base has 4 labels" in doubt
    assert "without its last layer" in doubt


def test_more_numbers_than_labels_are_features(file):
    assert not Base.from_file(file, words=["yes", "no"], license="MIT").doubts


def test_a_base_is_not_read_of_an_encoder_and_the_way_out_is_named(file):
    with pytest.raises(ValueError, match=r"neither words nor license: `fedspeech pretrain --base"):
        Base.load(file)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("encoder.pth", b"", r"named \*\.pt2 or \*\.tflite, got .*encoder\.pth"),
        ("encoder.pt2", b"no archive", r"encoder\.pt2: not a whole \.pt2 archive"),
        ("encoder.pt2", b"", r"encoder\.pt2: not a whole \.pt2 archive"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        Base.from_file(tmp_path / name, words=["yes"], license="MIT")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_refused(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"encoder\.pt2: not a whole \.pt2 archive"):
        Base.from_file(file, words=["yes"], license="MIT")


def test_a_network_that_takes_features_is_sent_to_base_toml(tmp_path):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(exported(nn.Linear(40, 8), torch.zeros(2, 98, 40)))
    with pytest.raises(ValueError, match=r"takes \(None, 98, 40\).*base\.toml"):
        Base.from_file(path, words=["yes"], license="MIT")


def test_weights_that_are_no_numbers_are_refused(network, tmp_path):
    broken = Network().eval()
    with torch.no_grad():
        broken.layer.weight[0, 0, 0] = float("nan")
    path = tmp_path / "encoder.pt2"
    path.write_bytes(exported(broken, torch.zeros(2, SAMPLES)))
    with pytest.raises(ValueError, match=r"encoder\.pt2: .*finite values, on silence"):
        Base.from_file(path, words=["yes"], license="MIT")
