"""Checks of a file: every check that its kind must pass, or a refusal that names the figure.

    verify(Path("model_int8.tflite"), family).checks

Needs no TensorFlow. What a file claims to be stands in its card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import hash_words
from tflite_export.adapter_file import read_adapter
from tflite_export.card import require_identity
from tflite_export.checks import AtWork, Check, at_most
from tflite_export.family import Family
from tflite_export.files import model_bytes, read_file
from tflite_export.flatbuffer import multiply_adds, read_card, require_builtins
from tflite_export.interchange.executorch_file import ExecutorchModel
from tflite_export.interchange.onnx_file import OnnxModel
from tflite_export.interpreter import Signature, TensorSpec, TfliteModel

# The types that every wrapper of LiteRT on phones knows as arrays of numbers.
_PHONE_TYPES = ("float32", "int32")

_OTHER_RUNTIMES: Mapping[str, type[OnnxModel] | type[ExecutorchModel]] = {
    ".onnx": OnnxModel,
    ".pte": ExecutorchModel,
}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was measured on a file that passed.

    Attributes:
      file: its name.
      kind: which of the family it is.
      sha256: of the file, hex.
      size_bytes: of the file.
      checks: what was measured.
      operators: builtin operator to count; empty for what is no model.
      multiply_adds: signature to products in one call; empty for what is no .tflite file.
      detection: recipe by which a file that listens does so; None: the file listens to no stream.
    """

    file: str
    kind: str
    sha256: str
    size_bytes: int
    checks: tuple[Check, ...]
    operators: Mapping[str, int]
    multiply_adds: Mapping[str, int]
    detection: Mapping[str, Any] | None = None

    def figure(self, name: str) -> float | None:
        """The figure of the first check whose name ends so, or None."""
        return next((check.figure for check in self.checks if check.name.endswith(name)), None)


def verify(file: Path, family: Family) -> Verification:
    """Checks a file of any kind, whoever made it, against the model of `family`.

    Raises:
      ExportRefused: if it cannot be read, carries no card or that of another model, needs an
        operator that is not a builtin, or fails a check of its kind; names the check and figure.
    """
    return verify_content(read_file(file), file.name, family)


def verify_content(
    content: bytes, name: str, family: Family, at_work: Callable[[str], None] = lambda _: None
) -> Verification:
    """Checks the bytes of a file; `name` tells by its ending how to read them.

    `at_work` is told what is measured next.
    """
    # No model, so nothing of what follows can be asked of it.
    if name.endswith(".safetensors"):
        return _verification(content, name, "adapter", _adapter_checks(content, family), {})
    if runtime := _OTHER_RUNTIMES.get(Path(name).suffix):
        other = runtime(content)
        require_identity(other.card, family.trained, family.task.name)
        kind, checks = str(other.card.get("file")), family.whole_checks(other)
        return _verification(content, name, kind, checks, other.operators())
    plain = model_bytes(content, name)
    model = TfliteModel(plain)
    card = read_card(plain)
    require_identity(card, family.trained, family.task.name)
    # Before any check of a kind: what a phone cannot run needs no further figure.
    operators = require_builtins(plain)
    kind = str(card.get("file"))
    if kind not in family.firmware:
        require_callable(model.signatures)
    try:
        checks = _told(family.checks(kind, model), at_work)
        return _verification(content, name, kind, checks, operators, multiply_adds(plain))
    except ValueError as error:  # a signature that is missing or takes other shapes
        raise ExportRefused(f"{kind}: {error}") from error


def _told(found: Iterable[Check | AtWork], at_work: Callable[[str], None]) -> Iterator[Check]:
    """The checks alone; what is at work is passed on."""
    for entry in found:
        if isinstance(entry, AtWork):
            at_work(entry)
        else:
            yield entry


def _verification(
    content: bytes,
    name: str,
    kind: str,
    checks: Iterable[Check],
    operators: Mapping[str, int],
    products: Mapping[str, int] | None = None,
) -> Verification:
    return Verification(
        file=name,
        kind=kind,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        checks=tuple(checks),
        operators=operators,
        multiply_adds=products or {},
    )


def _adapter_checks(content: bytes, family: Family) -> Iterator[Check]:
    """The adapter alone: card, base and every value."""
    found, trained = read_adapter(content), family.trained
    require_identity(found.card, trained, family.task.name)
    if not np.array_equal(found.base, hash_words(trained.base.sha256)):
        raise ExportRefused("adapter: its base is not the one that its card names")
    expected = trained.adapter.spec.flatten(trained.parameters)
    different = (
        (found.adapter != expected).sum() if found.adapter.shape == expected.shape else np.inf
    )
    yield at_most("adapter values that differ", float(different), 0, f"{len(expected)} values")


def require_callable(signatures: Mapping[str, Signature]) -> None:
    """Refuses signatures that the wrappers of LiteRT on phones cannot call.

    * Android (`NativeInterpreterWrapper.runSignature`, `TensorImpl`): the map of inputs must not be
      empty, no array may have a length of 0, and an array is compared with the tensor's whole
      shape, so a value without dimensions can be handed in or read in a buffer only.
    * Swift (`SignatureRunner`): data of exactly the tensor's bytes, of a type that it knows.
    * C: sizes in bytes, as the caller says.

    Raises:
      ExportRefused: naming the signature and the rule that it breaks.
    """
    for name, signature in signatures.items():
        for kind, side in (("input", signature.inputs), ("output", signature.outputs)):
            if not side:
                raise ExportRefused(
                    f"signature {name}: Android's runtime calls none without an {kind}"
                )
            for slot, spec in side.items():
                _require_slot(f"signature {name}, {kind} {slot}", spec)


def _require_slot(what: str, spec: TensorSpec) -> None:
    # A scalar has no array in Java.
    if not spec.shape or min(spec.shape) < 1:
        raise ExportRefused(
            f"{what}: a phone's arrays have at least one dimension, none of them empty, got shape "
            f"{spec.shape}"
        )
    if spec.dtype.name not in _PHONE_TYPES:
        types = " or ".join(_PHONE_TYPES)
        raise ExportRefused(f"{what}: must be of type {types}, got {spec.dtype}")
