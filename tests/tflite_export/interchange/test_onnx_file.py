"""The ONNX file, run by onnxruntime, against torch."""

import json

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.interchange.keyword_files import whole_checks
from tflite_export.interchange.onnx_file import OnnxModel, write_onnx
from tflite_export.weights import network

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def judged(clips):
    """Trained model -> what its files are held against."""

    def made(trained):
        held_out = HeldOut(
            source="a test",
            waveforms=clips[:2],
            labels=np.zeros(2, np.int64),
            users=np.array(["a", "b"]),
        )
        return Evidence(trained, clips[:250], held_out)

    return made


def written(trained, make_card):
    return write_onnx(network(trained).merged(), make_card(trained).inside("onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["head", "affine", "bottleneck"])
def test_the_file_gives_torchs_logits(make_trained, make_card, judged, adapter):
    """Speech, noise, tones, clicks, overload and silence; within 1e-4, the same answer each."""
    trained = make_trained(adapter)
    model = OnnxModel(written(trained, make_card))
    difference, answers = whole_checks(model, judged(trained))
    assert difference.figure < difference.limit == 1e-4
    assert answers.figure == 1.0
    assert set(model.operators()) <= {
        "Add", "Conv", "Div", "Gemm", "Log", "MatMul", "Mul", "ReduceMean", "Relu", "Slice", "Sub",
        "Unsqueeze",
    }  # fmt: skip


def test_many_clips_at_once_are_each_of_them(make_trained, make_card, clips):
    import onnxruntime

    content = written(make_trained("head"), make_card)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    together = session.run(None, {"waveform": clips[:5]})[0]
    np.testing.assert_allclose(
        together, OnnxModel(content).run_each("waveform", clips[:5]), atol=1e-5
    )


def test_the_card_is_in_the_file_and_the_same_model_has_the_same_bytes(make_trained, make_card):
    trained = make_trained("head")
    content = written(trained, make_card)
    assert OnnxModel(content).card == json.loads(
        json.dumps(make_card(trained).inside("onnx").to_json())
    )
    assert content == written(trained, make_card)


def test_a_file_of_another_model_is_refused_with_its_figure(make_trained, make_card, judged):
    one, other = make_trained("head"), make_trained("affine")
    with pytest.raises(ExportRefused, match="waveform logits, largest difference"):
        list(whole_checks(OnnxModel(written(other, make_card)), judged(one)))


def test_torn_files_files_without_a_card_and_foreign_operators_are_refused(make_trained, make_card):
    content = written(make_trained("head"), make_card)
    with pytest.raises(ExportRefused, match="onnxruntime cannot read"):
        OnnxModel(content[:1000])
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    with pytest.raises(ExportRefused, match="card: the file has no property"):
        OnnxModel(model.SerializeToString())
    model = onnx.load_from_string(content)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Gelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ExportRefused, match="needs Gelu, not ONNX's own"):
        OnnxModel(model.SerializeToString()).operators()


def test_another_shape_is_refused(make_trained, make_card, clips):
    model = OnnxModel(written(make_trained("head"), make_card))
    for signature, batch in (("waveform", clips[:2, 1:]), ("log_mel", clips[:2])):
        with pytest.raises(ValueError, match="expected waveform of shape"):
            model.run_each(signature, batch)
