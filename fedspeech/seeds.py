"""Where randomness comes from: named streams for the simulation, keystreams for privacy.

Two kinds, never mixed:

* `stream(seed, "batches", round, phone)`: a NumPy generator for everything whose randomness
  protects nobody (data, shuffling, initial weights). Streams with different names are independent.
* `NoiseEntropy`: 256-bit keys of ChaCha20 keystreams for everything that protects somebody
  (privacy noise, conditional rounding, participation coins). `NoiseEntropy.os()` asks the
  operating system; `NoiseEntropy.seeded(seed, run_id)` derives keys from a seed, so that a
  simulation can be repeated, and labels itself wherever an epsilon is printed.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

Name = str | int | bytes
NoiseSource = Literal["os", "seeded"]

SEEDED_NOISE_NOTICE = "seeded noise: reproducible from the seed, so not for release"


def canonical(*names: Name) -> bytes:
    """Encodes names so that no two different sequences share an encoding.

    Each name is tagged with its type and prefixed with its length.

    Raises:
      TypeError: for any other type; booleans and floats are refused, since they compare equal to
        integers that they are not.
    """
    parts: list[bytes] = []
    for name in names:
        if isinstance(name, str):
            tag, data = b"s", name.encode()
        elif isinstance(name, bytes):
            tag, data = b"b", name
        elif type(name) is int or (
            isinstance(name, (int, np.integer)) and not isinstance(name, bool)
        ):
            tag, data = b"i", b"%d" % name
        else:
            raise TypeError(f"a stream name must be str, int or bytes, got {type(name).__name__}")
        parts += (tag, len(data).to_bytes(8, "big"), data)
    return b"".join(parts)


def stream(seed: int, *names: Name) -> np.random.Generator:
    """Returns the generator named `names` under `seed`; the same names give the same stream.

    The 128-bit state of a PCG64DXSM comes from SHA-256 over seed and names, so streams of
    different names, or of the same name under different seeds, share nothing. Never for privacy
    noise, masks, keys or shares.
    """
    return streams(seed, *names[:-1])(*names[-1:])


def streams(seed: int, *names: Name) -> Callable[..., np.random.Generator]:
    """What opens the streams whose names begin alike: `streams(s, "a")(7)` is `stream(s, "a", 7)`.

    The common part is hashed once, which matters where a million phones draw.
    """
    begun = hashlib.sha256(canonical("fedspeech stream", seed, *names))

    def opened(*last: Name) -> np.random.Generator:
        whole = begun.copy()
        whole.update(canonical(*last))
        return np.random.Generator(np.random.PCG64DXSM(_seed_of(whole.digest())))

    return opened


def _seed_of(digest: bytes) -> int | NDArray[np.uint32]:
    """The number that a digest is, in the words that NumPy would split it into: half the time."""
    words = np.frombuffer(digest[::-1], dtype="<u4")
    return words if words[-1] else int.from_bytes(digest, "big")  # NumPy drops leading zeros


class Streams(Sequence[np.random.Generator]):
    """Generators that are opened when they are asked for: whoever draws nothing costs nothing."""

    def __init__(self, opened: Callable[[int], np.random.Generator], numbers: Sequence[int]):
        """Opens none; `opened` gives the stream of a number, `numbers` has one for each place."""
        self._opened, self._numbers = opened, numbers

    @overload
    def __getitem__(self, place: int) -> np.random.Generator: ...

    @overload
    def __getitem__(self, place: slice) -> Streams: ...

    def __getitem__(self, place: int | slice) -> np.random.Generator | Streams:
        """Opens the stream at a place, from its beginning."""
        if isinstance(place, slice):
            return Streams(self._opened, self._numbers[place])
        return self._opened(int(self._numbers[place]))

    def __len__(self) -> int:
        """Number of streams."""
        return len(self._numbers)


class Keystream:
    """An endless ChaCha20 keystream (RFC 8439) under a key that is used once.

    Printing it shows how much was read, never the key.
    """

    def __init__(self, key: bytes) -> None:
        """Starts the stream at block zero.

        Raises:
          ValueError: if the key is not 32 bytes long.
        """
        if len(key) != 32:
            raise ValueError(f"a keystream key must be 32 bytes, got {len(key)} bytes")
        self._encryptor = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._num_read = 0

    def bytes(self, num_bytes: int) -> bytes:
        """Returns the next `num_bytes` bytes."""
        self._num_read += num_bytes
        return self._encryptor.update(bytes(num_bytes))

    def uint64(self, num_words: int) -> NDArray[np.uint64]:
        """Returns the next `num_words` uniform 64-bit words, shape (num_words,)."""
        return np.frombuffer(self.bytes(8 * num_words), dtype="<u8")

    def uniform(self, num_values: int) -> NDArray[np.float64]:
        """Returns uniforms in [0, 1) with 53 random bits each, shape (num_values,)."""
        values = (self.uint64(num_values) >> np.uint64(11)).astype(np.float64)
        values *= 2.0**-53
        return values

    def __repr__(self) -> str:
        """Shows the position only."""
        return f"Keystream(<{self._num_read} bytes read>)"


_WORD = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)
_HALF = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
_DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)


class _BitGen(ctypes.Structure):
    """NumPy's `bitgen_t` (numpy/random/bitgen.h): a state and four functions of it."""

    _fields_ = (
        ("state", ctypes.c_void_p), ("next_uint64", _WORD), ("next_uint32", _HALF),
        ("next_double", _DOUBLE), ("next_raw", _WORD),
    )  # fmt: skip


class _KeystreamBits:
    """A keystream as a bit generator of NumPy, which asks for `lock` and `capsule`."""

    def __init__(self, keystream: Keystream) -> None:
        def word(_: object) -> int:
            return int.from_bytes(keystream.bytes(8), "little")

        def half(_: object) -> int:
            return int.from_bytes(keystream.bytes(4), "little")

        def double(_: object) -> float:
            return float(keystream.uniform(1)[0])

        self.lock = threading.Lock()
        # Kept here: NumPy holds this object, and the capsule holds an address only.
        self._bitgen = _BitGen(None, _WORD(word), _HALF(half), _DOUBLE(double), _WORD(word))
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        self.capsule = new(ctypes.addressof(self._bitgen), b"BitGenerator", None)


def secret_generator(keystream: Keystream) -> np.random.Generator:
    """A NumPy generator whose every word is read from a keystream.

    NumPy's own generators are made for statistics: their outputs tell their state, and with it what
    was drawn before and will be. No output of ChaCha20 tells another.
    """
    bits: Any = _KeystreamBits(keystream)
    return np.random.Generator(bits)


@dataclass(frozen=True, kw_only=True)
class NoiseEntropy:
    """The source of every keystream that protects somebody.

    Build one with `NoiseEntropy.os()` or `NoiseEntropy.seeded(seed, run_id)`.

    Attributes:
      source: "os" (unpredictable, not repeatable) or "seeded" (derived from a seed).
    """

    source: NoiseSource
    _key: bytes = field(default=b"", repr=False)

    @classmethod
    def os(cls) -> NoiseEntropy:
        """Keys from the operating system: the only choice in a deployment."""
        return cls(source="os")

    @classmethod
    def seeded(cls, seed: int, run_id: str) -> NoiseEntropy:
        """Keys from a seed: repeatable, and worth nothing against who knows the seed."""
        root = canonical("fedspeech seeded noise", seed, run_id)
        return cls(source="seeded", _key=hmac.digest(bytes(32), root, "sha256"))

    @property
    def notice(self) -> str | None:
        """What must be printed beside every epsilon, or None."""
        return SEEDED_NOISE_NOTICE if self.source == "seeded" else None

    def commitment(self, *names: Name) -> str:
        """Returns what fixes the keys of one use before any of them is drawn, hex; "" under `os`.

        A replay that is about other keys shows. Under `os` each phone draws its own key when it
        needs it: there is none to commit to.
        """
        if self.source == "os":
            return ""
        return self.keystream("commitment", *names).bytes(32).hex()

    def keystream(self, *names: Name) -> Keystream:
        """Opens the keystream of one use, for instance `"noise", rid, attempt, phone`.

        Under `os` each call gets a fresh key, whatever the names. Under `seeded` the key is
        HKDF-SHA256 (RFC 5869) of seed, run id and names; the caller must never use the same names
        for two purposes or two attempts.
        """
        if self.source == "os":
            return Keystream(os.urandom(32))
        # HKDF's extract step is done once, in `seeded`; 32 bytes are one block of its expand.
        return Keystream(hmac.digest(self._key, canonical(*names) + b"\x01", "sha256"))
