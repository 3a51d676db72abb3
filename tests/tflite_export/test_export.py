"""Conversion and its negative controls; the figures a refusal must name are in the patterns."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.errors import ExportRefused
from tflite_export import export
from tflite_export.export import export_float, verify
from tflite_export.flatbuffer import embed_card, read_card
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import network


def test_everything_but_conversion_does_without_tensorflow():
    code = "import sys, tflite_export.export; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def adapted(make_adapted):
    return make_adapted("affine")


@pytest.fixture(scope="module")
def card(base, adapted, make_card):
    return make_card(base, *adapted)


@pytest.fixture(scope="module")
def exported(base, adapted, card, clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "export"
    return export_float(base, *adapted, card=card, speech=clips, folder=folder)


@pytest.fixture
def written(base, adapted, card, tmp_path):
    """Writes a file that claims to be `adapted` on `base` but was built from other arrays."""
    from tflite_export.convert import convert_float

    def write(changed_base=base, changed_parameters=adapted[1]):
        file = tmp_path / "model.tflite"
        plain = convert_float(network(changed_base, adapted[0], changed_parameters))
        file.write_bytes(embed_card(plain, card.to_json()))
        return file

    return write


@pytest.mark.export
@pytest.mark.parametrize("kind", ["head", "bottleneck"])
def test_the_other_adapters_compute_what_torch_computes(
    base, make_adapted, make_card, clips, tmp_path, kind
):
    adapter, parameters = make_adapted(kind)
    card = make_card(base, adapter, parameters)
    export = export_float(base, adapter, parameters, card=card, speech=clips, folder=tmp_path)
    for check in export.verification.checks:
        assert check.max_logit_difference <= 1e-4
        assert check.argmax_agreement == 1.0


@pytest.mark.export
def test_the_published_file_computes_what_torch_computes(exported):
    checks = {check.signature: check for check in exported.verification.checks}
    assert set(checks) == {"waveform", "log_mel"}
    for check in checks.values():
        assert (check.inputs, check.speech_inputs) == (500, 250)
        assert check.max_logit_difference <= 1e-4
        assert check.argmax_agreement == 1.0
        assert check.labels_answered >= 4, "an agreement on one answer shows nothing"
    assert exported.verification.worst.max_logit_difference == max(
        check.max_logit_difference for check in checks.values()
    )


@pytest.mark.export
def test_the_folder_holds_four_files_that_agree(exported, card):
    names = sorted(path.name for path in exported.model.parent.iterdir())
    assert names == ["card.json", "card.md", "model_float.tflite", "parity.json"]
    content = exported.model.read_bytes()
    parity = json.loads(exported.parity.read_text())
    assert parity["sha256"] == hashlib.sha256(content).hexdigest()
    assert parity["size_bytes"] == len(content)
    assert parity["checks"][0]["argmax_agreement"] == 1.0
    assert json.loads(exported.card.read_text()) == read_card(content) == card.to_json()
    assert exported.card_text.read_text() == card.to_markdown()


@pytest.mark.export
def test_the_file_needs_builtins_only_and_holds_the_weights_once(exported, base):
    assert not any(name.startswith("custom") for name in exported.verification.operators)
    assert "RFFT2D" in exported.verification.operators
    weights = 4 * base.trunk.num_parameters + 4 * 257 * 40
    assert exported.verification.size_bytes < weights + 50_000


@pytest.mark.export
def test_verify_finds_the_published_file_good(exported, base, adapted, clips):
    assert verify(exported.model, base, *adapted, clips) == exported.verification


@pytest.mark.export
def test_a_truncated_file_is_refused(exported, base, adapted, clips, tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(exported.model.read_bytes()[:-1000])
    with pytest.raises(ExportRefused, match="LiteRT cannot read"):
        verify(file, base, *adapted, clips)


@pytest.mark.export
def test_a_foreign_base_is_refused(exported, foreign_base, adapted, clips):
    with pytest.raises(ExportRefused, match="card: expected base_sha256"):
        verify(exported.model, foreign_base, *adapted, clips)


@pytest.mark.export
def test_swapped_labels_are_refused(exported, written, base, adapted, clips):
    swapped = dataclasses.replace(base, vocabulary=Vocabulary(("no", "yes", "up", "down")))
    with pytest.raises(ExportRefused, match="card: expected"):
        verify(exported.model, swapped, *adapted, clips)
    order = [1, 0, 2, 3, 4, 5]
    rows = {name: adapted[1][name][order] for name in ("head_weight", "head_bias")}
    with pytest.raises(ExportRefused, match=r"waveform logits: at most 0\.0001 .* got"):
        verify(written(changed_parameters=adapted[1] | rows), base, *adapted, clips)


@pytest.mark.export
def test_one_slightly_wrong_weight_is_refused(written, base, adapted, clips):
    shift = adapted[1]["shift"].copy()
    shift[3] += 0.01
    with pytest.raises(ExportRefused, match=r"waveform logits: at most 0\.0001 .* got"):
        verify(written(changed_parameters=adapted[1] | {"shift": shift}), base, *adapted, clips)


@pytest.mark.export
def test_foreign_constants_of_standardisation_are_refused(written, base, adapted, clips):
    other = dataclasses.replace(base, feature_mean=base.feature_mean + np.float32(0.01))
    with pytest.raises(ExportRefused, match=r"waveform logits: at most 0\.0001 .* got"):
        verify(written(changed_base=other), base, *adapted, clips)


@pytest.mark.export
def test_padding_on_both_sides_is_refused(written, base, adapted, clips, monkeypatch):
    import tensorflow as tf

    from tflite_export import graph

    def same(x, conv):
        return tf.nn.conv2d(x, graph.kernel(conv), [conv.stride, 1], "SAME") + conv.bias

    monkeypatch.setattr(graph, "_convolve", same)
    with pytest.raises(ExportRefused, match=r"waveform logits: .*argmax agreement"):
        verify(written(), base, *adapted, clips)


@pytest.mark.export
def test_an_operation_without_a_builtin_is_refused(base, adapted, monkeypatch):
    import tensorflow as tf

    from tflite_export import graph
    from tflite_export.convert import convert_float

    def with_a_determinant(x):
        return tf.reduce_mean(x, axis=[1, 2]) * tf.linalg.det(x[0, :1, 0] * tf.eye(x.shape[3]))

    monkeypatch.setattr(graph, "_pooled", with_a_determinant)
    with pytest.raises(
        ExportRefused, match=r"conversion: .* builtin operator for MatrixDeterminant$"
    ):
        convert_float(network(base, *adapted))


@pytest.mark.export
def test_a_refusal_publishes_nothing_and_leaves_an_earlier_export_alone(
    exported, base, adapted, card, clips, tmp_path, monkeypatch
):
    from tflite_export import convert

    true_conversion = convert.convert_float

    def wrong_weights(arrays):
        parameters = {name: 1.01 * value for name, value in arrays.parameters.items()}
        return true_conversion(dataclasses.replace(arrays, parameters=parameters))

    monkeypatch.setattr(convert, "convert_float", wrong_weights)
    folder = exported.model.parent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for place in (tmp_path / "new", folder):
        with pytest.raises(ExportRefused, match="waveform logits"):
            export_float(base, *adapted, card=card, speech=clips, folder=place)
    assert not (tmp_path / "new").exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.export
def test_a_card_of_another_adapter_is_refused_before_anything_is_converted(
    base, adapted, make_adapted, make_card, clips, tmp_path
):
    card = make_card(base, *make_adapted("head"))
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        export_float(base, *adapted, card=card, speech=clips, folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.export
def test_a_phone_can_run_the_file_from_the_card_alone(exported, clips):
    model = TfliteModel.open(exported.model)
    card = read_card(model.content)
    (clip,) = model.signatures["waveform"].inputs.values()
    assert clip.shape == (1, card["frontend"]["clip_samples"])
    logits = model.run("waveform", waveform=clips[:1])[card["outputs"]]
    assert logits.shape == (1, len(card["labels"]))


@pytest.mark.export
def test_a_card_whose_embedding_moved_an_output_is_refused(
    base, adapted, card, clips, tmp_path, monkeypatch
):
    from tflite_export.convert import convert_float

    other = convert_float(network(base, adapted[0], adapted[1] | {"shift": -adapted[1]["shift"]}))
    monkeypatch.setattr(export, "embed_card", lambda plain, card: embed_card(other, card))
    with pytest.raises(ExportRefused, match="card: embedding it must leave every output"):
        export_float(base, *adapted, card=card, speech=clips, folder=tmp_path / "new")


@pytest.mark.export
def test_a_disk_that_fails_leaves_no_model_and_no_partial_file(
    base, adapted, card, clips, tmp_path, monkeypatch
):
    replace = os.replace

    def fail_on_the_model(source, target):
        if target.name == "model_float.tflite":
            raise OSError("no space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_model)
    with pytest.raises(OSError, match="no space left"):
        export_float(base, *adapted, card=card, speech=clips, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["card.json", "card.md", "parity.json"]
