"""Real personal files that are wrong in one thing: converts, right signatures. Each is refused."""

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.interpreter import TfliteModel
from tflite_export.twins import PersonalTwin
from tflite_export.verification import personal_run
from tflite_export.weights import network

pytestmark = [pytest.mark.adversarial, pytest.mark.export]
WRONG = (
    "train_without_present", "train_without_proximal_mu", "constant_loss",
    "train_dp_without_present", "train_dp_without_expected_clips", "train_dp_without_momentum",
    "train_dp_without_noise", "restore_keeps_momentum", "restore_without_checksum",
    "save_without_checksum",
)  # fmt: skip


def run_of(trained, wrong, monkeypatch):
    """The long run of random calls over a file of the wrong graph."""
    blueprint = Blueprint(
        graph="personal", network=network(trained), base_sha256=trained.base.sha256, batch_clips=8
    )
    monkeypatch.setenv("WRONG_GRAPH", wrong)
    with Converter("wrong_graphs") as converter:
        file = TfliteModel(converter.convert(blueprint))
    embeddings = np.abs(stream(0, "wrong files").standard_normal((12, 24))).astype(np.float32)
    return personal_run(file, PersonalTwin(trained), trained, embeddings, 8)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_learns_wrongly_is_refused(make_trained, monkeypatch, wrong):
    with pytest.raises(ExportRefused, match="train, train_dp, save, restore, largest difference"):
        run_of(make_trained("head"), wrong, monkeypatch)


def test_the_right_file_passes(make_trained, monkeypatch):
    assert run_of(make_trained("head"), "nothing", monkeypatch).passed
