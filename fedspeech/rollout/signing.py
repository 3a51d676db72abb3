"""Ed25519 keys of whoever publishes adapters, and the two public halves that phones trust.

A signing key signs bundles and is at hand whenever one is published. A recovery key signs one
thing, the statement that other keys are trusted from now on, and lies where no network reaches.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedspeech.errors import FedspeechError, UpdateRefused
from fedspeech.files import sync_folder, write_text
from fedspeech.rollout.checked_json import read_fields
from fedspeech.rollout.version import Version

SIGNING_FILE = "signing.pem"
RECOVERY_FILE = "recovery.pem"
TRUST_FILE = "trust.json"
SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class Trust:
    """Public keys that a phone trusts; nothing in it is secret.

    Attributes:
      epoch: how often the keys were replaced.
      signing: of whoever signs bundles, 64 hex digits.
      recovery: of whoever may replace both, 64 hex digits.

    Raises:
      ValueError: if a field is of another form, or one key has both offices.
    """

    epoch: int
    signing: str
    recovery: str

    def __post_init__(self) -> None:
        """Checks the fields."""
        Version(self.epoch, 0)
        for name in ("signing", "recovery"):
            value = getattr(self, name)
            if len(value) != 64 or set(value) - set("0123456789abcdef"):
                raise ValueError(f"{name} must be a public key of 64 hex digits, got {value!r}")
        if self.signing == self.recovery:
            raise ValueError(
                "one key must not both sign bundles and replace keys: who steals it keeps the phone"
            )

    def save(self, file: Path) -> None:
        """Writes the public keys, for the app to ship with."""
        write_text(file, json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, file: Path) -> Trust:
        """Reads public keys.

        Raises:
          UpdateRefused: if the file holds none.
        """
        try:
            return cls(**read_fields(file.read_bytes(), TRUST_FIELDS))
        except (OSError, ValueError) as error:
            raise UpdateRefused(f"{file} holds no public keys of a publisher: {error}") from error


TRUST_FIELDS: dict[str, tuple[type, ...]] = {
    "epoch": (int,), "signing": (str,), "recovery": (str,),
}  # fmt: skip


class PrivateKey:
    """An Ed25519 private key. Printing it shows the public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw().hex()

    @classmethod
    def of_the_moment(cls) -> PrivateKey:
        """A key that is written nowhere, for what is signed and checked in one go."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def create(cls, file: Path) -> PrivateKey:
        """Makes a key and writes it to a new file, for this user alone (PKCS 8, PEM).

        Raises:
          FileExistsError: if there is such a file.
        """
        key = Ed25519PrivateKey.generate()
        content = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        # Never readable by others, not even for a moment; never over another key.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        sync_folder(file.parent)
        return cls(key)

    @classmethod
    def load(cls, file: Path) -> PrivateKey:
        """Reads a key.

        Raises:
          FedspeechError: if the file holds none, or others than its user may read it.
        """
        try:
            content = file.read_bytes()
            open_to_others = os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077
            key = serialization.load_pem_private_key(content, password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise FedspeechError(f"{file} holds no private key: {error}") from error
        if open_to_others:
            raise FedspeechError(
                f"{file} is a private key that other users of this machine may read; "
                f"`chmod 600 {file}`, and take new keys if anybody may have read it"
            )
        if not isinstance(key, Ed25519PrivateKey):
            raise FedspeechError(f"{file} must hold an Ed25519 key, got {type(key).__name__}")
        return cls(key)

    def sign(self, statement: bytes) -> bytes:
        """Signs a statement, 64 bytes."""
        return self._key.sign(statement)

    def __repr__(self) -> str:
        """The public half."""
        return f"PrivateKey(public={self.public!r})"


def signed_by(public: str, statement: bytes, signature: bytes) -> bool:
    """Whether a signature over a statement is that of a public key (hex)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, statement)
    except (InvalidSignature, ValueError):
        return False
    return True


def make_keys(folder: Path, epoch: int) -> Trust:
    """Makes both keys in a new folder, for this user alone, and writes what phones trust.

    Raises:
      FileExistsError: if the folder is there.
    """
    folder.mkdir(mode=0o700, parents=True)
    trust = Trust(
        epoch,
        PrivateKey.create(folder / SIGNING_FILE).public,
        PrivateKey.create(folder / RECOVERY_FILE).public,
    )
    trust.save(folder / TRUST_FILE)
    return trust
