"""Where a phone keeps the keys that wrap all others: an interface, and a stand-in in software.

A key store makes AES-256 keys, names each by an alias, uses them on request and never shows them.

* Android: an entry of the Android Keystore (AES/GCM/NoPadding, in StrongBox where there is one),
  made by `KeyGenParameterSpec`, destroyed by `KeyStore.deleteEntry`.
* iOS: a Keychain item with `kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly`, made by
  `SecItemAdd`, destroyed by `SecItemDelete`.
* This simulator: `SoftwareKeyStore`, a file a key.

Hardware answers some tens of requests a second, so a store asks once when it opens and once for an
erasure, and never for a record.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedspeech.errors import KeyRefused, StoreFull
from fedspeech.files import sync_folder, write_whole

KEY_BYTES = 32
NONCE_BYTES = 12


class KeyStore(Protocol):
    """Wrapping keys of one device; none of them ever leaves it."""

    def create(self, prefix: str) -> str:
        """Makes a key, lasting when the call returns; its alias begins with the prefix."""
        ...

    def wrap(self, alias: str, key: bytes, bound_to: bytes) -> bytes:
        """Encrypts and authenticates a key; `bound_to` is authenticated with it."""
        ...

    def unwrap(self, alias: str, wrapped: bytes, bound_to: bytes) -> bytes:
        """Opens what `wrap` gave.

        Raises:
          KeyRefused: if there is no such key, or it is not the one that wrapped this.
        """
        ...

    def destroy(self, alias: str) -> None:
        """Destroys a key, for good when the call returns; nothing happens if there is none."""
        ...

    def aliases(self, prefix: str) -> set[str]:
        """Aliases that begin with a prefix."""
        ...


def seal(key: bytes, content: bytes, bound_to: bytes) -> bytes:
    """Encrypts with AES-256-GCM under a nonce of the operating system, which stands in front.

    Random nonces repeat neither after a restart nor in a copy, where a counter would. A key may
    seal 2^32 times (NIST SP 800-38D, section 8.3).
    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """Opens what `seal` gave.

    Raises:
      KeyRefused: if key, content or `bound_to` is not what it was.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise KeyRefused("a sealed content or its key is not what it was") from None


class SoftwareKeyStore:
    """A stand-in for hardware: one file a key. Whoever reads its folder has all keys.

    Args:
      folder: made if it is not there, for this user alone.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def create(self, prefix: str) -> str:
        """Makes a key; raises StoreFull where a file has no room, which hardware does not need."""
        alias = f"{prefix}-{secrets.token_hex(8)}"
        try:
            write_whole(self._file(alias), secrets.token_bytes(KEY_BYTES))
        except OSError as error:
            raise StoreFull(f"no key can be made: {error.strerror}") from None
        return alias

    def wrap(self, alias: str, key: bytes, bound_to: bytes) -> bytes:
        """Encrypts a key under another."""
        return seal(self._key(alias), key, bound_to)

    def unwrap(self, alias: str, wrapped: bytes, bound_to: bytes) -> bytes:
        """Opens what `wrap` gave."""
        return unseal(self._key(alias), wrapped, bound_to)

    def destroy(self, alias: str) -> None:
        """Overwrites a key's file and removes it.

        Flash keeps old copies of what is overwritten: this is where hardware is needed.
        """
        file = self._file(alias)
        if not file.exists():
            return
        with file.open("r+b", buffering=0) as opened:
            opened.write(bytes(KEY_BYTES))
            os.fsync(opened.fileno())
        file.unlink()
        sync_folder(self._folder)

    def aliases(self, prefix: str) -> set[str]:
        """Aliases that begin with a prefix."""
        return {file.stem for file in self._folder.glob(f"{prefix}-*.key")}

    def _file(self, alias: str) -> Path:
        return self._folder / f"{alias}.key"

    def _key(self, alias: str) -> bytes:
        try:
            return self._file(alias).read_bytes()
        except FileNotFoundError:
            raise KeyRefused(f"this device has no key {alias!r}") from None
