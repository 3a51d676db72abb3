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

ADAPTER_LIMIT = 1e4
"""Largest size of an adapter's value that a file trains from; trained ones stay below 10."""

CHECKSUM_PRIME = 2**31 - 1

CARD_ENTRY = "fedspeech_card.json"
"""Name under which a file holds its card."""

MAX_HEADER_BYTES = 2**20
"""Longest header that is read: a card is some ten thousand bytes."""


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """What is in the file.

    Attributes:
      adapter: flat in the order of the adapter's spec, shape (d,), float32.
      base: hash of its base as `hash_words` gives it, shape (8,), int32.
      card_text: the card as the file holds it, JSON.
    """

    adapter: NDArray[np.float32]
    base: NDArray[np.int32]
    card_text: str

    @property
    def card(self) -> dict[str, Any]:
        """The card's values."""
        card: dict[str, Any] = json.loads(self.card_text)
        return card

    @property
    def base_sha256(self) -> str:
        """Hash of the base, hex."""
        return self.base.astype(">i4").tobytes().hex()

    def to_bytes(self) -> bytes:
        """Returns the bytes of the file."""
        arrays = {"adapter": self.adapter, "base": self.base, "checksum": checksum(self.adapter)}
        return bytes(safetensors_numpy.save(arrays, metadata={CARD_ENTRY: self.card_text}))

    @classmethod
    def from_bytes(cls, content: bytes) -> AdapterFile:
        """Reads the bytes of a file.

        Raises:
          ValueError: if they are no adapter file, an array is of other shape or type, or the
            checksum is not the adapter's.
        """
        length = int.from_bytes(content[:8], "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(
                f"not an exported adapter: its header is at most {MAX_HEADER_BYTES} bytes long, "
                f"got {length}"
            )
        try:
            arrays = safetensors_numpy.load(content)
            # safetensors' NumPy reader gives arrays only; the metadata is in the JSON header
            # before them.
            text = json.loads(content[8 : 8 + length])["__metadata__"][CARD_ENTRY]
            found = cls(arrays["adapter"], arrays["base"], text)
            claimed = arrays["checksum"]
            if not isinstance(found.card, dict):
                raise TypeError("its card is no object")
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"not an exported adapter: {error}") from error
        adapter, base = found.adapter, found.base
        if adapter.ndim != 1 or adapter.dtype != np.float32:
            raise ValueError(f"expected a flat float32 array, got {adapter.dtype} {adapter.shape}")
        if base.shape != (8,) or base.dtype != np.int32:
            raise ValueError(
                f"expected the base's hash as eight int32, got {base.dtype} {base.shape}"
            )
        # The same rule as `restore` has on the phone, for whoever reads the file before it gets
        # there.
        if not np.array_equal(claimed, checksum(adapter)):
            raise ValueError("the checksum is of other values: the file was changed")
        return found


def hash_words(sha256: str) -> NDArray[np.int32]:
    """A hex SHA-256 as eight big-endian 32-bit integers, the form in which graphs compare it."""
    return np.frombuffer(bytes.fromhex(sha256), dtype=">i4").astype(np.int32)


def checksum(adapter: NDArray[np.float32]) -> NDArray[np.int32]:
    """Tells a flipped bit or two values that changed places: shape (1,), int32.

    The sum of the bits of an adapter's values (d,), as signed 32-bit integers, times their places
    from 1, modulo the prime 2^31 - 1. It tells accidents; whoever means to change an adapter
    computes it anew.
    """
    bits = np.ascontiguousarray(adapter, dtype="<f4").view("<i4").astype(np.int64)
    # Each product is reduced before the sum, which stays in 64 bits then, as it must in the graph.
    parts = bits * np.arange(1, len(bits) + 1, dtype=np.int64) % CHECKSUM_PRIME
    return np.array([parts.sum() % CHECKSUM_PRIME], dtype=np.int32)
