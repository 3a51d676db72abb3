"""Files of a keyword model for tools of others: one graph each, described as those tools expect.

| kind | file | read by |
|---|---|---|
| `classifier` | `model_classifier.tflite`, samples to logits | MediaPipe's AudioClassifier |
| `log-mel` | `model_log_mel.tflite`, log-mel to logits, no transform | tf2onnx and others |
| `onnx` | `model.onnx`, samples to logits | onnxruntime and others |
| `executorch` | `model.pte`, samples to logits | ExecuTorch |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fedspeech.rollout.adapter_file import CARD_ENTRY
from tflite_export.arrays import Network
from tflite_export.card import Card
from tflite_export.checks import Check, at_most
from tflite_export.converter import carrying, require_same_outputs
from tflite_export.evidence import Evidence
from tflite_export.flatbuffer import alone
from tflite_export.interchange.executorch_file import ExecutorchModel, write_executorch
from tflite_export.interchange.onnx_file import OnnxModel, write_onnx
from tflite_export.interchange.tflite_metadata import Description, described, read_labels
from tflite_export.interpreter import TfliteModel
from tflite_export.parity import require_logits

FILES = {
    "classifier": "model_classifier.tflite",
    "log-mel": "model_log_mel.tflite",
    "onnx": "model.onnx",
    "executorch": "model.pte",
}
SIGNATURES = {"classifier": "waveform", "log-mel": "log_mel"}
EXTRAS = {"onnx": "onnx", "executorch": "executorch"}
"""Kind to the extra of fedspeech that it needs."""


def make_interchange(
    kind: str, network: Network, card: Card, convert: Callable[[], bytes]
) -> bytes:
    """Makes the bytes of one file.

    Args:
      kind: one of `FILES`.
      network: with the adapter merged.
      card: of the file.
      convert: gives the float file of both signatures, before it has a card.

    Raises:
      MissingExtra: if an extra is not installed.
      ExportRefused: if card or metadata change an output.
    """
    if kind == "onnx":
        return write_onnx(network, card)
    if kind == "executorch":
        return write_executorch(network, card)
    plain = alone(convert(), SIGNATURES[kind])
    content = described(carrying(plain, card), _description(kind, network, card))
    require_same_outputs(plain, content, "metadata")
    return content


def metadata_checks(model: TfliteModel, labels: tuple[str, ...]) -> Iterator[Check]:
    """The label file behind a model, which other tools read instead of the card."""
    found = read_labels(model.content)
    different = sum(one != other for one, other in zip(found, labels, strict=False))
    different += abs(len(found) - len(labels))
    yield at_most("labels of the metadata that differ", different, 0, f"{len(labels)} labels")


def whole_checks(model: OnnxModel | ExecutorchModel, evidence: Evidence) -> Iterator[Check]:
    """Every logit of the probes, by the runtime of the file, against torch's."""
    found = model.run_each("waveform", evidence.probes)
    yield from require_logits("waveform", evidence.logits, found, speech=len(evidence.speech))


def _description(kind: str, network: Network, card: Card) -> Description:
    samples = kind == "classifier"
    takes = (
        f"{network.heard_samples} samples, full scale 1: one clip after its left context."
        if samples
        else f"{network.heard_frames} frames of {network.frontend.num_mels} log-mel energies, not "
        "standardized: one clip after its left context. The card has the front end as a program."
    )
    return Description(
        name=card.task.title,
        description=f"{card.task.title} of stage {card.stage}; the entry {CARD_ENTRY} of the "
        "file's metadata is its card: accuracy, privacy, licenses.",
        version=str(card.adapter["sha256"])[:12],
        license=", ".join(f"{name}: {said}" for name, said in card.data_licenses.items()),
        labels=card.labels,
        rate_hz=network.frontend.rate_hz if samples else None,
        input=takes,
        output=card.task.output,
    )
