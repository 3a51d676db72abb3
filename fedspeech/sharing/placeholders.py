"""Placeholders for people: the same person has the same one within a release, and in no other.

    key = ReleaseKey.create(Path("release-3.key"))
    key.replaced("Ann Lee said less than Bo", ["Ann Lee", "Bo"])

A placeholder is a keyed hash (HMAC-SHA256, RFC 2104) of a name without case, accents and
separators. Whoever has the key can hash every name of a list and look; so it stays with the owner,
and once it is destroyed nobody can, the owner included. Files with placeholders are still rows of
people: they are for one's own house, and a hash without a key would not even be that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from fedspeech.errors import FedspeechError
from fedspeech.files import sync_folder
from fedspeech.sharing.people_rules import spelled_together

_LETTERS = "abcdefghijkmnpqrstuvwxyz"
LENGTH = 12
"""Letters of a placeholder; 24^12 is about 2^55, so 10,000 people collide once in 7e8 releases."""


class ReleaseKey:
    """The key of one release."""

    def __init__(self, path: Path, secret: bytes) -> None:
        """Takes a key that lies in a file; `create` and `load` are the ways in."""
        self.path = path
        self._secret = secret

    @classmethod
    def create(cls, path: Path) -> ReleaseKey:
        """Makes a key that nobody has seen, in a file that its owner alone may read.

        Raises:
          FedspeechError: if something lies there.
        """
        secret = secrets.token_bytes(32)
        try:
            place = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise FedspeechError(f"{path}: {error.strerror}") from error
        with os.fdopen(place, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        return cls(path, secret)

    @classmethod
    def load(cls, path: Path) -> ReleaseKey:
        """Reads a key.

        Raises:
          FedspeechError: if it is not there, was destroyed, or is none.
        """
        try:
            secret = path.read_bytes()
        except OSError as error:
            raise FedspeechError(f"{path}: {error.strerror}") from error
        if len(secret) != 32 or not any(secret):
            raise FedspeechError(f"{path} is no key of a release, which has 32 bytes")
        return cls(path, secret)

    @property
    def name(self) -> str:
        """What the access log calls the key: a hash that tells nothing of it."""
        return hashlib.sha256(b"fedspeech release key\n" + self._secret).hexdigest()[:16]

    def placeholder(self, identity: str) -> str:
        """The placeholder of a person in this release, such as `person-kdmxwqpahbtc`."""
        digest = hmac.digest(self._secret, spelled_together(identity).encode(), "sha256")
        number = int.from_bytes(digest[:16])
        letters = []
        for _ in range(LENGTH):
            number, letter = divmod(number, len(_LETTERS))
            letters.append(_LETTERS[letter])
        return "person-" + "".join(letters)

    def replaced(self, text: str, identities: Sequence[str]) -> str:
        """A text with a placeholder for everybody in it, longer names first.

        Cases and separators may differ from the registry's. Other spellings, such as hidden
        characters, are left: the gate finds them.
        """
        for identity in sorted(set(identities), key=len, reverse=True):
            words = [re.escape(word) for word in re.findall(r"\d+|[^\W\d_]+", identity)]
            if words:
                pattern = r"(?<![^\W_])" + r"[\W_]*".join(words) + r"(?![^\W_])"
                text = re.sub(pattern, self.placeholder(identity), text, flags=re.IGNORECASE)
        return text

    def destroy(self) -> None:
        """Overwrites and removes the file; copies elsewhere are for their owner to remove."""
        with self.path.open("r+b") as file:
            file.write(bytes(len(self._secret)))
            file.flush()
            os.fsync(file.fileno())
        self.path.unlink()
        sync_folder(self.path.parent)
        self._secret = b""
