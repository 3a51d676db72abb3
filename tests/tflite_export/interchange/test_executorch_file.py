"""The ExecuTorch program, run by its own runtime, against torch."""

import json

import numpy as np
import pytest
import torch

from fedspeech.errors import ExportRefused
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.interchange.executorch_file import (
    ExecutorchModel,
    WholeModel,
    write_executorch,
)
from tflite_export.interchange.keyword_files import whole_checks
from tflite_export.weights import network


def judged(trained, clips):
    held_out = HeldOut(
        source="a test", waveforms=clips[:2], labels=np.zeros(2, np.int64),
        users=np.array(["a", "b"]),
    )  # fmt: skip
    return Evidence(trained, clips[:250], held_out)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["head", "affine", "bottleneck"])
def test_the_module_that_is_exported_gives_torchs_logits(make_trained, clips, adapter):
    """Before ExecuTorch sees it: the same model from plain arrays, on every probe."""
    trained = make_trained(adapter)
    evidence, module = judged(trained, clips), WholeModel(network(trained).merged()).eval()
    with torch.inference_mode():
        found = torch.cat([module(clip[None]) for clip in torch.from_numpy(evidence.probes)])
    assert np.abs(found.numpy() - evidence.logits).max() < 1e-4


@pytest.mark.export
def test_the_program_gives_torchs_logits_and_carries_its_card(make_trained, make_card, clips):
    pytest.importorskip("executorch", reason="needs the extra executorch")
    trained = make_trained("bottleneck")
    card = make_card(trained).inside("executorch")
    content = write_executorch(network(trained).merged(), card)
    model = ExecutorchModel(content)
    assert model.card == json.loads(json.dumps(card.to_json()))
    difference, answers = whole_checks(model, judged(trained, clips))
    assert difference.figure < difference.limit == 1e-4
    assert answers.figure == 1.0
    with pytest.raises(ExportRefused, match="waveform logits, largest difference"):
        list(whole_checks(model, judged(make_trained("head"), clips)))
    with pytest.raises(ExportRefused, match="ExecuTorch cannot read this program"):
        ExecutorchModel(b"no program" * 100)
