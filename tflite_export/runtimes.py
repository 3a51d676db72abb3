"""What the wrappers of LiteRT on phones accept, beyond what the interpreter itself can run.

* Android (`NativeInterpreterWrapper.runSignature`, `TensorImpl`): the map of inputs must not be
  empty, no array may have a length of 0, and an array is compared with the tensor's whole shape, so
  a value without dimensions can be handed in or read in a buffer only.
* Swift (`SignatureRunner`): data of exactly the tensor's bytes, of a type that it knows.
* C: sizes in bytes, as the caller says.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedspeech.errors import ExportRefused
from tflite_export.interpreter import Signature, TensorSpec

TYPES = ("float32", "int32")
"""Known to every wrapper as arrays of numbers."""


def require_callable(signatures: Mapping[str, Signature]) -> None:
    """Refuses signatures that an app cannot call.

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
    """Refuses one input or output."""
    # See the rules at the top: a scalar has no array in Java.
    if not spec.shape or min(spec.shape) < 1:
        raise ExportRefused(
            f"{what}: a phone's arrays have at least one dimension, none of them empty, got shape "
            f"{spec.shape}"
        )
    if spec.dtype.name not in TYPES:
        raise ExportRefused(f"{what}: must be of type {' or '.join(TYPES)}, got {spec.dtype}")
