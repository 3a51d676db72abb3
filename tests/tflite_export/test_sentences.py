"""Files for sentences: the same logits and transcripts as the trained model, and the same steps."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from strangers import strangers

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, sentence_base_path
from tflite_export import sentences
from tflite_export.arrays import Network
from tflite_export.card import INTEGER_NOTICE, LATER_TRAINING_NOTICE
from tflite_export.flatbuffer import read_card
from tflite_export.interpreter import TfliteModel
from tflite_export.listening import Listener
from tflite_export.publishing import export_family
from tflite_export.sentences import FILES, SENTENCES, SentenceFamily
from tflite_export.verification import verify
from tflite_export.weights import Trained, network

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def speech():
    """Forty sentences of people who taught nobody."""
    corpus = strangers(seed=7, num_speakers=10)
    return corpus.waveforms(corpus.utterances)


def make_trained(name):
    """The shipped base with an adapter that has moved from it."""
    base = Base.load(sentence_base_path())
    features, labels = base.built_in.spec.features, len(base.vocabulary.labels)
    adapter = make_adapter(name, base.num_windows, features, labels)
    rng = np.random.default_rng(1)
    parameters = {
        key: (value + 0.02 * rng.standard_normal(value.shape)).astype(np.float32)
        for key, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    return Trained(base=base, adapter=adapter, parameters=parameters)


def export_sentences(trained, card, speech, folder, kinds=tuple(FILES)):
    """What was published by kind, and what was refused."""
    found = export_family(SentenceFamily(trained, speech), card, kinds, folder=folder)
    verified = {file.kind: file for file in found.verified}
    return SimpleNamespace(verified=verified, refused=found.refused)


@pytest.mark.parametrize("name", ["frame_affine", "frame_bottleneck"])
def test_every_file_does_what_the_model_did(name, speech, make_card, tmp_path):
    trained = make_trained(name)
    exported = export_sentences(trained, make_card(trained, task=SENTENCES), speech, tmp_path)
    assert not exported.refused
    assert set(exported.verified) == set(FILES)
    for way in ("window", "hop"):
        assert exported.verified["float"].figure(f"{way}, largest difference") < 1e-3
        assert exported.verified["float"].figure(f"{way}, same transcripts") == 1
    assert exported.verified["personal"].figure("20 training steps, largest difference") < 1e-5
    assert exported.verified["personal"].figure("train_dp, largest difference") < 1e-6
    sizes = {kind: (tmp_path / file).stat().st_size for kind, file in FILES.items()}
    assert sizes["int8"] < sizes["float"] / 2.5
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["labels"][0] == "_"
    for kind, file in FILES.items():
        sha256 = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
        assert card["files"][file]["sha256"] == sha256 == exported.verified[kind].sha256
        assert sha256 in (tmp_path / "card.md").read_text()
    for kind, file in FILES.items():
        inside = read_card((tmp_path / file).read_bytes())
        assert (INTEGER_NOTICE in inside["notices"]) == (kind == "int8")
        assert (inside["calibration"] is not None) == (kind == "int8")
        assert LATER_TRAINING_NOTICE in inside["notices"], "noise on a phone is floating-point"
    names = {check.name for check in exported.verified["int8"].checks}
    assert "reference kernels, window, same label of a window" in names
    listed = card["files"]["model_int8.tflite"]
    assert 0.9 < listed["same_answer"] < 1
    assert 0 < listed["largest_logit_difference"] < 10
    model = TfliteModel((tmp_path / "model_float.tflite").read_bytes())
    assert set(model.signatures) == {"hop", "window", "reset"}
    with pytest.raises(ExportRefused, match="this file writes sentences"):
        Listener(model)


def test_a_file_that_says_something_else_is_refused_and_an_earlier_one_goes(
    speech, make_card, tmp_path, monkeypatch
):
    trained = make_trained("frame_affine")
    monkeypatch.setattr(Network, "merged", lambda arrays: arrays)  # forgets the affine
    (tmp_path / FILES["float"]).write_bytes(b"of an earlier export")
    card = make_card(trained, task=SENTENCES)
    exported = export_sentences(trained, card, speech[:8], tmp_path, ["float", "personal"])
    assert "float" in exported.refused
    assert re.match("window, (same|largest)", exported.refused["float"])
    assert not (tmp_path / FILES["float"]).exists()
    assert (tmp_path / FILES["personal"]).exists()  # does not need what was broken


def test_a_card_of_another_model_is_refused_and_nothing_is_written(speech, make_card, tmp_path):
    trained = make_trained("frame_affine")
    card = make_card(make_trained("frame_bottleneck"), task=SENTENCES)
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        export_sentences(trained, card, speech[:8], tmp_path / "export")
    assert not (tmp_path / "export").exists()
    with pytest.raises(ExportRefused, match="at least 2 needed, got 1"):
        export_sentences(
            trained, make_card(trained, task=SENTENCES), speech[:1], tmp_path / "export"
        )


@pytest.fixture(scope="module")
def published(speech, make_card, tmp_path_factory):
    """The model with an affine adapter, its files' folder, and what was verified, by kind."""
    trained, folder = make_trained("frame_affine"), tmp_path_factory.mktemp("published")
    card = make_card(trained, task=SENTENCES)
    return trained, folder, export_sentences(trained, card, speech[:8], folder).verified


def test_a_file_is_verified_again_and_refused_for_another_model(published, speech, tmp_path):
    trained, folder, verified = published
    family = SentenceFamily(trained, speech[:8])
    for kind, file in FILES.items():
        found = verify(folder / file, family)
        assert found.kind == kind
        assert found == verified[kind]
    moved = dict(trained.parameters) | {"head_bias": trained.parameters["head_bias"] + 1}
    other = SentenceFamily(replace(trained, parameters=moved), speech[:4])
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        verify(folder / FILES["float"], other)
    (tmp_path / "torn.tflite").write_bytes((folder / FILES["int8"]).read_bytes()[:5_000])
    with pytest.raises(ExportRefused, match="cannot read"):
        verify(tmp_path / "torn.tflite", SentenceFamily(trained, speech[:4]))


def test_one_kind_is_made_anew_and_files_of_the_same_model_stay(
    published, speech, make_card, tmp_path
):
    trained, folder, _ = published
    card = make_card(trained, task=SENTENCES)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / FILES["int8"]).write_bytes(b"that no card lists")
    before = (tmp_path / FILES["personal"]).read_bytes()
    exported = export_sentences(trained, card, speech[:8], tmp_path, ["float"])
    assert list(exported.verified) == ["float"]
    assert (tmp_path / FILES["personal"]).read_bytes() == before
    assert not (tmp_path / FILES["int8"]).exists()
    listed = json.loads((tmp_path / "card.json").read_text())["files"]
    assert set(listed) == {FILES["float"], FILES["personal"]}
    with pytest.raises(ExportRefused, match="no format cc; there are float, int8, personal"):
        export_sentences(trained, card, speech[:8], tmp_path, ["cc"])


def test_a_front_end_that_hears_something_else_is_refused(speech, make_card, tmp_path, monkeypatch):
    trained = make_trained("frame_affine")

    def louder(trained):
        arrays = network(trained)
        return replace(arrays, window=np.float32(1.05) * arrays.window)

    monkeypatch.setattr(sentences, "network", louder)
    card = make_card(trained, task=SENTENCES)
    exported = export_sentences(trained, card, speech[:8], tmp_path)
    assert exported.refused["float"].startswith("hop, ")
    assert exported.refused["personal"].startswith("embed_hop, ")


def test_recorded_features_are_verified_without_sound(speech, make_card, tmp_path):
    trained = make_trained("frame_affine")
    with torch.inference_mode():
        features = LogMel(SPHINX_MFCC)(torch.from_numpy(speech[:8])).numpy()
    card = make_card(trained, task=SENTENCES)
    exported = export_sentences(trained, card, features, tmp_path, ["float", "personal"])
    assert not exported.refused
    assert exported.verified["float"].figure("window, same transcripts") == 1
    assert exported.verified["float"].figure("hop, same transcripts") is None
