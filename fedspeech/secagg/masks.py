"""Masks: keystreams added to ring vectors, and taken off again.

A mask is the AES-256-CTR keystream (NIST SP 800-38A) of a key that is used for nothing else, read
as little-endian words: 16 bits wide where the ring has at most 16, else 32. Words wrap by
themselves; `cut` reduces them to the ring.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Words = NDArray[np.unsignedinteger[Any]]
Masks = Sequence[tuple[bytes, bool]]  # key, and whether its mask is added or taken off

_BLOCK_BYTES = 1 << 18  # stays in a core's own cache
_ZEROS = memoryview(bytes(_BLOCK_BYTES))
# With one buffer for all threads, one mask in fifty is wrong.
_OWN = threading.local()  # a buffer per thread, written once per block of every mask
# From zero, because a key is expanded into one mask and no other.
_COUNTER = modes.CTR(bytes(16))


def word_type(bits: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Returns the words in which vectors of a ring travel and are masked."""
    if not 1 <= bits <= 32:
        raise ValueError(f"bits must be in 1..32, got bits={bits}")
    return np.dtype(np.uint16 if bits <= 16 else np.uint32)


def cut(words: Words, bits: int) -> Words:
    """Reduces words mod 2^bits, in place, and returns them."""
    if bits < 8 * words.itemsize:
        np.bitwise_and(words, words.dtype.type(2**bits - 1), out=words)
    return words


def packed_bytes(dimension: int, bits: int) -> int:
    """How long a row of `pack` is: for each word the bytes that hold `bits`."""
    return dimension * -(-bits // 8)


def pack(words: Words, bits: int) -> NDArray[np.uint8]:
    """Writes words, shape (m, d), as little-endian bytes, without those that the ring lacks.

    Returns:
      Shape (m, d * width), uint8, width the bytes that hold `bits`.
    """
    width = packed_bytes(1, bits)
    flat = words.astype(words.dtype.newbyteorder("<")).view(np.uint8)
    table = flat.reshape(*words.shape, words.itemsize)[..., :width]
    return np.ascontiguousarray(table).reshape(words.shape[0], words.shape[1] * width)


def unpack(packed: NDArray[np.uint8], bits: int) -> Words:
    """Inverts `pack`, shape (m, d)."""
    kind, width = word_type(bits), packed_bytes(1, bits)
    count, num_bytes = packed.shape
    if num_bytes % width:
        raise ValueError(f"a row must have a multiple of {width} bytes, got {num_bytes}")
    wide = np.zeros((count, num_bytes // width, kind.itemsize), np.uint8)
    wide[..., :width] = packed.reshape(count, num_bytes // width, width)
    words: Words = wide.view(kind.newbyteorder("<"))[..., 0].astype(kind)
    return words


def apply_mask(key: bytes, targets: Sequence[tuple[Words, bool]]) -> None:
    """Adds one mask to some vectors and takes it off others, in place; expanded once for all."""
    first = targets[0][0]
    buffer = _own_buffer()
    start = 0
    for num_bytes in expand(key, first.nbytes, buffer):
        block = np.frombuffer(buffer, first.dtype, num_bytes // first.itemsize)
        if sys.byteorder == "big":
            block = block.byteswap()
        stop = start + block.size
        for vector, added in targets:
            part = vector[start:stop]
            (np.add if added else np.subtract)(part, block, part)
        start = stop


def _own_buffer() -> bytearray:
    try:
        buffer: bytearray = _OWN.buffer
    except AttributeError:
        buffer = _OWN.buffer = bytearray(_BLOCK_BYTES)
    return buffer


def expand(key: bytes, num_bytes: int, buffer: bytearray) -> Iterator[int]:
    """Writes a keystream into a buffer, block after block, and yields their sizes in bytes.

    The buffer has 2^18 bytes; whoever reads it does so before the next block overwrites it.
    """
    if len(key) != 32:
        raise ValueError(f"a mask's key must have 32 bytes, got {len(key)}")
    encryptor = Cipher(algorithms.AES(key), _COUNTER).encryptor()
    for start in range(0, num_bytes, _BLOCK_BYTES):
        size = min(_BLOCK_BYTES, num_bytes - start)
        encryptor.update_into(_ZEROS if size == _BLOCK_BYTES else _ZEROS[:size], buffer)
        yield size


def keystream(key: bytes, size: int, bits: int) -> Words:
    """Returns one mask as words, shape (size,); for tests and explanations."""
    words: Words = np.zeros(size, dtype=word_type(bits))
    apply_mask(key, [(words, True)])
    return words
