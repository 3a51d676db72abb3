"""The adapter alone, in one file: for one base on the phone that serves many adapters.

A safetensors file of three arrays: `adapter`, flat in the order of the adapter's spec, `base`, the
hash of the base that it belongs to as eight 32-bit integers, and `checksum`, of the adapter: the
inputs of the signature `restore`, which refuses an adapter of another base and one whose bits have
changed. The card is its metadata.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from fedspeech.errors import ExportRefused
from tflite_export.arrays import checksum, hash_words
from tflite_export.card import Card
from tflite_export.flatbuffer import CARD_ENTRY
from tflite_export.weights import Trained


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """The adapter (d,), float32; its base as `arrays.hash_words`, (8,), int32; its card as JSON."""

    adapter: NDArray[np.float32]
    base: NDArray[np.int32]
    card: dict[str, Any]


def write_adapter(trained: Trained, card: Card) -> bytes:
    """Returns the bytes of the file."""
    adapter = trained.adapter.spec.flatten(trained.parameters)
    arrays = {
        "adapter": adapter,
        "base": hash_words(trained.base.sha256),
        "checksum": checksum(adapter),
    }
    text = json.dumps(card.to_json(), sort_keys=True, allow_nan=False)
    return bytes(safetensors_numpy.save(arrays, metadata={CARD_ENTRY: text}))


def read_adapter(content: bytes) -> AdapterFile:
    """Reads the bytes of a file.

    Raises:
      ExportRefused: if they are no adapter file, an array is of other shape or type, or the
        checksum is not the adapter's.
    """
    try:
        arrays = safetensors_numpy.load(content)
        # safetensors' NumPy reader gives arrays only; the metadata is in the JSON header before
        # them.
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        found = AdapterFile(arrays["adapter"], arrays["base"], json.loads(metadata[CARD_ENTRY]))
        claimed = arrays["checksum"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ExportRefused(f"adapter: not an exported adapter: {error}") from error
    adapter, base = found.adapter, found.base
    if adapter.ndim != 1 or adapter.dtype != np.float32:
        raise ExportRefused(
            f"adapter: expected a flat float32 array, got {adapter.dtype} {adapter.shape}"
        )
    if base.shape != (8,) or base.dtype != np.int32:
        raise ExportRefused(
            f"adapter: expected the base's hash as eight int32, got {base.dtype} {base.shape}"
        )
    # The same rule as `restore` has on the phone, for whoever reads the file before it gets there.
    if not np.array_equal(claimed, checksum(adapter)):
        raise ExportRefused("adapter: the checksum is of other values: the file was changed")
    return found
