"""Keyword files for other tools, made of the shipped base, and read by those tools."""

import subprocess
import sys

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from fedspeech.extras import lacking
from tflite_export.converter import Converter
from tflite_export.flatbuffer import operators
from tflite_export.interchange.keyword_files import FILES, metadata_checks
from tflite_export.interchange.tflite_metadata import Description, described
from tflite_export.interpreter import TfliteModel
from tflite_export.keywords import KeywordFamily
from tflite_export.verification import verify_content

pytestmark = pytest.mark.export
PLAIN = ("classifier", "log-mel")


@pytest.fixture(scope="module")
def made(evidence, make_card):
    """Kind to the bytes of its file; one conversion serves all."""
    family, card = KeywordFamily(evidence), make_card(evidence.trained)
    with Converter() as converter:
        kinds = [kind for kind in ("float", *FILES) if not family.lacking(kind)]
        return family, {kind: family.make(kind, card, converter) for kind in kinds}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_passes_its_checks_and_carries_its_card(made, kind):
    family, contents = made
    if missing := family.lacking(kind):
        pytest.skip(missing)
    found = verify_content(contents[kind], FILES[kind], family)
    assert found.kind == kind
    assert found.figure("largest difference") < 1e-4
    assert found.figure("same answer") == 1.0


@pytest.mark.parametrize(("kind", "signature"), zip(PLAIN, ("waveform", "log_mel"), strict=True))
def test_a_file_has_the_bits_of_the_float_file(made, evidence, kind, signature):
    _, contents = made
    inputs = evidence.probes if kind == "classifier" else evidence.log_mel
    one, other = (TfliteModel(contents[name]) for name in ("float", kind))
    assert set(other.signatures) == {signature}
    np.testing.assert_array_equal(
        one.run_each(signature, inputs[::25]), other.run_each(signature, inputs[::25])
    )


def test_the_file_for_features_has_no_transform_and_a_label_more_is_refused(made):
    _, contents = made
    assert "RFFT2D" in operators(contents["classifier"])
    assert "RFFT2D" not in operators(contents["log-mel"])
    wrong = described(
        contents["log-mel"],
        Description(
            name="n", description="d", version="v", license="l", labels=("yes", "no"),
            rate_hz=None, input="i", output="o",
        ),
    )  # fmt: skip
    with pytest.raises(ExportRefused, match="labels of the metadata that differ: at most 0"):
        list(metadata_checks(TfliteModel(wrong), ("yes", "up")))


def test_a_kind_whose_extra_is_missing_is_refused_and_left_out(evidence, make_card, monkeypatch):
    from tflite_export import family as module

    monkeypatch.setattr(module, "lacking", lambda extra: f"{extra} is missing")
    family = KeywordFamily(evidence)
    assert {"onnx", "executorch"} <= set(family.files) - set(family.at_hand)
    with Converter() as converter, pytest.raises(ExportRefused, match="onnx: onnx is missing"):
        family.make("onnx", make_card(evidence.trained), converter)


def test_mediapipe_gives_the_files_logits_by_their_labels(made, evidence, tmp_path):
    """In a process of its own: MediaPipe brings a runtime of its own."""
    pytest.importorskip("mediapipe", reason="MediaPipe is not installed")
    _, contents = made
    file, clips = tmp_path / "model.tflite", evidence.probes[:300:60]
    file.write_bytes(contents["classifier"])
    np.save(tmp_path / "clips.npy", clips)
    code = f"""
import json, numpy as np
from mediapipe.tasks.python import BaseOptions, audio
from mediapipe.tasks.python.components.containers import AudioData
options = audio.AudioClassifierOptions(base_options=BaseOptions(model_asset_path={str(file)!r}))
with audio.AudioClassifier.create_from_options(options) as classifier:
    for clip in np.load({str(tmp_path / "clips.npy")!r}):
        (found,) = classifier.classify(AudioData.create_from_array(clip, 16_000))
        rows = found.classifications[0].categories
        print(json.dumps({{row.category_name: row.score for row in rows}}))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    import json

    labels = evidence.trained.base.vocabulary.labels
    expected = TfliteModel(contents["classifier"]).run_each("waveform", clips)
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(found) == len(clips)
    for row, logits in zip(found, expected, strict=True):
        np.testing.assert_allclose([row[label] for label in labels], logits, atol=1e-4)


@pytest.mark.skipif(bool(lacking("onnx")), reason="needs the extra onnx")
def test_tf2onnx_converts_the_file_for_features(made, evidence, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    import onnxruntime

    _, contents = made
    source, target = tmp_path / "model.tflite", tmp_path / "model.onnx"
    source.write_bytes(contents["log-mel"])
    ran = subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--tflite", source, "--output", target,
         "--opset", "17"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    found = [session.run(None, {entry.name: clip[None]})[0][0] for clip in evidence.log_mel]
    assert np.abs(np.array(found) - evidence.logits).max() < 1e-4
