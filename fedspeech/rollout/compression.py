"""Adapter files made small for the way to a phone, and restored bit for bit.

    packed = pack(new, parent)
    unpack(packed, parent, len(new)) == new

A safetensors file is text (its header, with the card) and then 32-bit values. The text is deflated
with the parent's text as dictionary: of a card that says almost the same, almost nothing is left.
Of the values, which are floats, only the difference to the parent's is kept, taken between integers
that are ordered as the floats are. So a small step is a small integer, also across zero, and the
step back is exact, which a difference of floats would not be. Its bytes are sorted by weight, so
that the high ones, mostly zero, stand together; low ones are noise that no method makes smaller.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

_WORDS = NDArray[np.uint32]
_LENGTH_BYTES = 4
_WINDOW_BITS = -15  # deflate without a header or checksum: hashes stand outside
_DICTIONARY_BYTES = 2**15  # deflate looks no further back
_SIGN = np.uint32(1 << 31)


def pack(content: bytes, parent: bytes | None = None) -> bytes:
    """Returns an adapter file in fewer bytes, alone or as the difference to its parent."""
    text, values = _split(content)
    parent_text, parent_values = _split(parent or b"")
    packed = _deflate(text, parent_text)
    words, rest = _words(values)
    start, _ = _words(parent_values)
    difference = _folded(_ordered(words) - _fitted(start, len(words)))
    planes = difference.view(np.uint8).reshape(-1, 4).T.tobytes()
    return len(packed).to_bytes(_LENGTH_BYTES, "little") + packed + _deflate(planes + rest, b"")


def unpack(packed: bytes, parent: bytes | None, num_bytes: int) -> bytes:
    """Restores what was packed, with the same parent.

    Args:
      packed: what `pack` gave.
      parent: the file that it was given, or None.
      num_bytes: length of the file; no more is ever held in memory.

    Raises:
      ValueError: if it is cut, longer or not of this form.
    """
    size = int.from_bytes(packed[:_LENGTH_BYTES], "little")
    body = packed[_LENGTH_BYTES:]
    if len(packed) < _LENGTH_BYTES or size > len(body):
        raise ValueError(f"a packed file of {len(packed)} bytes is cut")
    parent_text, parent_values = _split(parent or b"")
    text = _inflate(body[:size], parent_text, num_bytes)
    mixed = _inflate(body[size:], b"", num_bytes - len(text))
    if len(text) + len(mixed) != num_bytes:
        raise ValueError(f"expected {num_bytes} bytes, unpacked {len(text) + len(mixed)}")
    count = len(mixed) // 4
    planes = np.frombuffer(mixed, np.uint8, 4 * count).reshape(4, count)
    start, _ = _words(parent_values)
    difference = _unfolded(np.ascontiguousarray(planes.T).reshape(-1).view("<u4"))
    words = _unordered(difference + _fitted(start, count))
    return text + words.astype("<u4").tobytes() + mixed[4 * count :]


def _split(content: bytes) -> tuple[bytes, bytes]:
    """Text and values of a safetensors file; of any other bytes some first part and the rest."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[:end], content[end:]


def _words(values: bytes) -> tuple[_WORDS, bytes]:
    """32-bit words, and the bytes behind the last whole one."""
    count = len(values) // 4
    return np.frombuffer(values, "<u4", count).astype(np.uint32), values[4 * count :]


def _fitted(words: _WORDS, count: int) -> _WORDS:
    """The parent's ordered words, as many as are needed; zeros where it has none."""
    start = _ordered(words[:count])
    return np.concatenate([start, np.zeros(count - len(start), np.uint32)])


def _ordered(words: _WORDS) -> _WORDS:
    """Bits of floats as integers in the order of the floats; a bijection of 32 bits."""
    return np.where(words & _SIGN, ~words, words | _SIGN)


def _unordered(words: _WORDS) -> _WORDS:
    return np.where(words & _SIGN, words ^ _SIGN, ~words)


def _folded(difference: _WORDS) -> _WORDS:
    """Signed differences as 0, -1, 1, -2, 2, ...: small ones have zeros in their high bytes."""
    signed = difference.view(np.int32)
    return ((difference << np.uint32(1)) ^ (signed >> 31).view(np.uint32)).astype("<u4")


def _unfolded(folded: _WORDS) -> _WORDS:
    negative = (folded & np.uint32(1)).astype(bool)
    half = folded >> np.uint32(1)
    return np.where(negative, ~half, half)


def _deflate(data: bytes, dictionary: bytes) -> bytes:
    """Deflates by the better of two strategies; both are read alike."""
    found = []
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY):
        writer = zlib.compressobj(
            9, zlib.DEFLATED, _WINDOW_BITS, zlib.DEF_MEM_LEVEL, strategy,
            *([dictionary[-_DICTIONARY_BYTES:]] if dictionary else []),
        )  # fmt: skip
        found.append(writer.compress(data) + writer.flush())
    return min(found, key=len)


def _inflate(data: bytes, dictionary: bytes, most: int) -> bytes:
    """Reads a deflated stream that is whole, alone, and of at most so many bytes."""
    reader = zlib.decompressobj(
        _WINDOW_BITS, **({"zdict": dictionary[-_DICTIONARY_BYTES:]} if dictionary else {})
    )
    try:
        # One byte more than allowed: 0 would mean no limit.
        content = reader.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"a packed file is damaged: {error}") from error
    if len(content) > most:
        raise ValueError(f"a packed file holds more than the {most} bytes that are left for it")
    if not reader.eof or reader.unused_data:
        raise ValueError("a packed file is cut, or something stands behind its end")
    return content
