"""What phones and server compute with, handed to them: agreement, signature checks, masks.

`Primitives` computes each thing where it is asked for, as a phone does. In a simulation both ends
of an edge live in one process, and a signature is checked by every phone there: `SharedPrimitives`
computes each such thing once. It belongs to a simulator of honest phones only. It remembers what
phones must forget, and it finds a secret again by the two public keys of an edge: the bytes are
those of `Primitives` as long as each phone names the public key of its own private key. A phone
that names another one, an alias of it included, plants what the other end reads. So a simulated
attack never shares what phones agree on.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedspeech.secagg import keys
from fedspeech.secagg.masks import Masks, Words, apply_mask

Edge = tuple[bytes, bytes]  # its two public keys, the smaller first
MAX_VERIFIED = 1 << 14  # checks worth remembering from one session to the next


@dataclass(frozen=True, eq=False)
class SignedStatements:
    """Statements with the signatures that are claimed for them.

    Attributes:
      publics: identity keys, from the checker's own directory.
      statements: what each key is said to have signed.
      signatures: one each, 64 bytes.
    """

    publics: Sequence[bytes]
    statements: Sequence[bytes]
    signatures: Sequence[bytes]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over everything, lengths included."""
        state = hashlib.sha256()
        for column in (self.publics, self.statements, self.signatures):
            state.update(len(column).to_bytes(8, "big"))
            state.update(np.array([len(entry) for entry in column], dtype=">u4").tobytes())
            state.update(b"".join(column))
        return state.digest()


class Primitives:
    """Each thing computed where it is asked for."""

    def agree(
        self,
        private: X25519PrivateKey,
        public: bytes,
        others: Sequence[bytes],
        infos: Sequence[bytes],
    ) -> list[bytes]:
        """Returns one 32-byte key per other phone, for the purpose that both ends' info names.

        Raises:
          WeakKey: if one of the keys has low order.
        """
        return [
            keys.hkdf(keys.exchange(private, other), info)
            for other, info in zip(others, infos, strict=True)
        ]

    def verify(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """Whether one signature holds."""
        return keys.verify(public, statement, signature)

    def verify_all(self, signed: SignedStatements) -> bool:
        """Whether every signature holds."""
        rows = zip(signed.publics, signed.statements, signed.signatures, strict=True)
        return all(self.verify(*row) for row in rows)

    def add_masks(self, vectors: Sequence[Words], masks: Sequence[Masks]) -> None:
        """Applies to each vector its masks, in place."""
        for vector, own in zip(vectors, masks, strict=True):
            for key, added in own:
                apply_mask(key, [(vector, added)])

    def forget(self) -> None:
        """Drops whatever is remembered of finished sessions; nothing here."""


class SharedPrimitives(Primitives):
    """Each thing computed once for all phones of this process; for simulations only."""

    def __init__(self) -> None:
        self._secrets: dict[Edge, bytes] = {}
        self._keys: dict[tuple[Edge, bytes], bytes] = {}
        self._verified: dict[bytes, tuple[bytes, bytes]] = {}  # who signed what, by signature
        self._verified_lists: set[bytes] = set()

    def agree(
        self,
        private: X25519PrivateKey,
        public: bytes,
        others: Sequence[bytes],
        infos: Sequence[bytes],
    ) -> list[bytes]:
        """As in `Primitives`; one exchange per edge, one derivation per edge and purpose."""
        known, secrets, agreed = self._keys, self._secrets, []
        for other, info in zip(others, infos, strict=True):
            edge = (public, other) if public < other else (other, public)
            key = known.get((edge, info))
            if key is None:
                secret = secrets.get(edge)
                if secret is None:
                    secret = secrets[edge] = keys.exchange(private, other)
                key = known[edge, info] = keys.hkdf(secret, info)
            agreed.append(key)
        return agreed

    def verify(self, public: bytes, statement: bytes, signature: bytes) -> bool:
        """As in `Primitives`; what held once is not computed again."""
        # All three must be as they were: a signature that held once says nothing of another
        # statement.
        if self._verified.get(signature) != (public, statement):
            if not keys.verify(public, statement, signature):
                return False
            self._verified[signature] = public, statement
        return True

    def verify_all(self, signed: SignedStatements) -> bool:
        """As in `Primitives`; a list that held once is not gone through again."""
        if signed.digest not in self._verified_lists:
            if not super().verify_all(signed):
                return False
            self._verified_lists.add(signed.digest)
        return True

    def add_masks(self, vectors: Sequence[Words], masks: Sequence[Masks]) -> None:
        """As in `Primitives`; the mask of an edge is expanded once for both of its ends."""
        targets: dict[bytes, list[tuple[Words, bool]]] = {}
        for vector, own in zip(vectors, masks, strict=True):
            for key, added in own:
                targets.setdefault(key, []).append((vector, added))
        for key, ends in targets.items():
            apply_mask(key, ends)

    def forget(self) -> None:
        """Drops the secrets of finished sessions, and checks when there are many."""
        self._secrets.clear()
        self._keys.clear()
        if len(self._verified) + len(self._verified_lists) > MAX_VERIFIED:
            self._verified.clear()
            self._verified_lists.clear()


@functools.cache
def shared_primitives() -> SharedPrimitives:
    """The ones that all simulated parties of this process share."""
    return SharedPrimitives()
