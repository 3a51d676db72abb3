"""Who a phone is and what two phones can agree on: identities, one-use keys, sealed shares.

Ed25519 (RFC 8032) identities sign; X25519 (RFC 7748) with HKDF-SHA256 (RFC 5869) gives two phones a
key for one purpose; AES-256-GCM seals what only one of them may read. Every key seals one message,
so its nonce can be zero.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedspeech.errors import ScenarioError
from fedspeech.secagg.refusals import UnknownPhone, WeakKey
from fedspeech.seeds import canonical

KEY_BYTES = 32
SIGNATURE_BYTES = 64
TAG_BYTES = 16
_ZERO_NONCE = bytes(12)
_KEPT_PUBLICS = 1 << 14  # more than a cohort list has, and no more of a population that never ends
_SHA256 = hashes.SHA256()
_PROBE = X25519PrivateKey.generate()  # of no phone: to try public keys on


def hkdf(secret: bytes, info: bytes) -> bytes:
    """Derives 32 bytes for one purpose: HKDF-SHA256 without salt (RFC 5869)."""
    return HKDF(_SHA256, KEY_BYTES, None, info).derive(secret)


def public_key(private: X25519PrivateKey) -> bytes:
    """Returns the 32 bytes that others may see."""
    return private.public_key().public_bytes_raw()


def exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    """Computes the X25519 secret with another phone, 32 bytes.

    Raises:
      WeakKey: if the other key has low order, so that the secret is all zeros.
    """
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise WeakKey("a public key must not be of low order: no secret comes of it") from error


def is_weak(public: bytes) -> bool:
    """Whether a public key has low order: every secret with it is the same."""
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return True
    return False


def seal(key: bytes, plaintext: bytes, bound_to: bytes) -> bytes:
    """Encrypts the one message of a key, bound to its context; 16 bytes longer than the text."""
    return AESGCM(key).encrypt(_ZERO_NONCE, plaintext, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes | None:
    """Decrypts what `seal` made under the same key and context; None if it was not that."""
    try:
        return AESGCM(key).decrypt(_ZERO_NONCE, sealed, bound_to)
    except InvalidTag:
        return None


def verify(public: bytes, statement: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature over a statement is that of a public identity key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


class Secret(bytearray):
    """Bytes that can be overwritten, and that printing does not show."""

    def wipe(self) -> None:
        """Overwrites them."""
        self[:] = bytes(len(self))

    def __repr__(self) -> str:
        return f"Secret(<{len(self)} bytes>)"

    __str__ = __repr__


class Identity:
    """A phone's long-term signing key. Printing it shows nothing."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, statement: bytes) -> bytes:
        """Signs a statement, 64 bytes."""
        return self._key.sign(statement)

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()[:8]}...)"


class Directory(Protocol):
    """The identity keys of phones, certified by somebody who is not the server; never changes."""

    def __hash__(self) -> int: ...

    def public(self, phone: int) -> bytes:
        """Returns a phone's public identity key, 32 bytes.

        Raises:
          UnknownPhone: if nobody of that number was enrolled.
        """
        ...


class IdentityDirectory:
    """SIMULATED certification: whoever holds its secret is every phone and the whole directory.

    In a product each phone makes its own identity key, and an authority that is not the server
    vouches for it. Here one secret from the operating system, in a file of the user's own that is
    in no run folder and in no message, stands for that authority and for all phones' key stores.
    `purpose` sets this population apart from others, for instance a job's fingerprint; phones are
    numbered from 0.
    """

    def __init__(self, secret: bytes, purpose: bytes, phones: int) -> None:
        self._root = Secret(hkdf(secret, canonical("fedspeech enrolment", purpose)))
        self._phones = phones
        self._publics: dict[int, bytes] = {}

    @classmethod
    def open(cls, path: Path, purpose: bytes, phones: int) -> IdentityDirectory:
        """Reads the secret that `create` left; `ScenarioError` if there is none."""
        try:
            secret = path.read_bytes()
        except OSError as error:
            raise ScenarioError(
                f"no identities of phones at {path} ({error.strerror}); "
                "`fedspeech prepare` makes one"
            ) from error
        if len(secret) != KEY_BYTES:
            raise ScenarioError(
                f"the file of identities at {path} must have {KEY_BYTES} bytes, got {len(secret)}; "
                "delete it and prepare again"
            )
        return cls(secret, purpose, phones)

    @staticmethod
    def create(path: Path) -> None:
        """Writes a fresh secret that only its user can read, unless there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
            with contextlib.suppress(FileExistsError):  # somebody was first: theirs holds
                os.link(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def identity(self, phone: int) -> Identity:
        """Returns what a phone signs with; in a product it never leaves the phone."""
        if not 0 <= phone < self._phones:
            raise UnknownPhone(f"phone {phone} was never enrolled: there are {self._phones}")
        return Identity(hkdf(bytes(self._root), canonical("identity", phone)))

    def public(self, phone: int) -> bytes:
        """Returns a phone's public identity key, 32 bytes."""
        if phone not in self._publics:
            if len(self._publics) == _KEPT_PUBLICS:
                del self._publics[next(iter(self._publics))]  # it can be derived again
            self._publics[phone] = self.identity(phone).public
        return self._publics[phone]

    def __repr__(self) -> str:
        return f"IdentityDirectory({self._phones} phones, simulated)"
