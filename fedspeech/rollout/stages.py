"""Which phones take a new version first: each computes it from a keyed hash, and nobody has a list.

A phone draws HMAC-SHA256(key, what it is for, its secret) and takes the new version while the draw
is below the stage's share. The draw stays the same while the share grows, so stages are nested and
a phone never goes back to the old version as a roll-out goes on. Another roll-out has another key
and draws other phones.

The secret is made on the phone and never leaves it. So nobody else can compute a phone's draw, and
nobody can search for a key that puts one chosen phone in the first stage.

What a phone is told of a stage is signed by the publisher, as bundles are:

    8 bytes    FSSTAGE1
    4 bytes    length of the header, little-endian
    header     JSON in its one canonical form
    64 bytes   Ed25519 signature over the 8 bytes and the header

A phone remembers what it was told last (`Heard`), and refuses another key, a smaller share or an
older statement of the same roll-out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from fedspeech.errors import UpdateRefused
from fedspeech.rollout.bundle import framed, require_model, unframed
from fedspeech.rollout.checked_json import canonical_json, read_fields
from fedspeech.rollout.signing import PrivateKey, Trust
from fedspeech.rollout.version import Version
from fedspeech.seeds import canonical

STAGE = b"FSSTAGE1"
KEY_BYTES = 32
SECRET_BYTES = 32
MILLION = 1_000_000
_DRAW_BYTES = 8
_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "version": (str,), "key": (str,), "share_ppm": (int,), "number": (int,),
    "expires_s": (int,), "reset_after_days": (int, type(None)),
}  # fmt: skip


def draw(key: bytes, secret: bytes) -> int:
    """A phone's place in a roll-out, 0 to 2^64 - 1, uniform over phones.

    Raises:
      ValueError: if key or secret has another length.
    """
    for name, value, size in (("key", key, KEY_BYTES), ("secret", secret, SECRET_BYTES)):
        if len(value) != size:
            raise ValueError(f"{name} must be {size} bytes long, got {len(value)}")
    message = canonical("place in a roll-out", 1, secret)
    return int.from_bytes(hmac.digest(key, message, hashlib.sha256)[:_DRAW_BYTES], "big")


def takes(key: bytes, secret: bytes, share_ppm: int) -> bool:
    """Whether a phone takes the new version at a share in millionths."""
    return draw(key, secret) * MILLION < share_ppm << (8 * _DRAW_BYTES)


@dataclass(frozen=True, kw_only=True)
class StageStatement:
    """What a publisher tells every phone of a roll-out's stage, the same to all.

    Attributes:
      model: line of adapters.
      version: that is rolled out.
      key: of the keyed hash, 64 hex digits; one per roll-out.
      share_ppm: share of the phones that take the version, in millionths; 0: it was rolled back.
      number: of the statement within the roll-out; it rises.
      expires_s: Unix time after which no phone acts on it.
      reset_after_days: age at which a phone drops its own personal adapter; None: never.

    Raises:
      ValueError: if a field is out of its range.
    """

    model: str
    version: Version
    key: str
    share_ppm: int
    number: int
    expires_s: int
    reset_after_days: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields."""
        require_model(self.model)
        if not re.fullmatch("[0-9a-f]{64}", self.key):
            raise ValueError(f"key must be 64 hex digits, got {self.key!r}")
        if not 0 <= self.share_ppm <= MILLION:
            raise ValueError(f"share_ppm must be 0 to {MILLION}, got {self.share_ppm}")
        reset = self.reset_after_days
        if self.number < 0 or (reset is not None and reset < 1):
            raise ValueError(
                "number must be at least 0 and reset_after_days at least 1, got "
                f"{self.number} and {reset}"
            )

    def takes(self, secret: bytes) -> bool:
        """Whether the phone with this secret takes the version."""
        return takes(bytes.fromhex(self.key), secret, self.share_ppm)

    def signed(self, key: PrivateKey) -> bytes:
        """The statement as it travels."""
        return framed(STAGE, self.to_header(), key)

    def to_header(self) -> bytes:
        """The header's bytes."""
        return canonical_json({**dataclasses.asdict(self), "version": str(self.version)})

    @classmethod
    def from_header(cls, header: bytes) -> StageStatement:
        """Reads a header's bytes.

        Raises:
          ValueError: if they are of another form.
        """
        fields: dict[str, Any] = read_fields(header, _FIELDS)
        found = cls(**{**fields, "version": Version.parse(fields["version"])})
        if found.to_header() != header:
            raise ValueError("a header must be in its one canonical form")
        return found

    @classmethod
    def read(cls, content: bytes, trust: Trust) -> StageStatement:
        """Checks signature and form of a statement.

        Raises:
          UpdateRefused: if it is cut, changed, or signed by another key.
        """
        header, rest = unframed(STAGE, content, trust.signing, "the publisher's signing key")
        try:
            found = cls.from_header(header)
            if rest:
                raise ValueError("it must be one header and nothing more")
        except ValueError as error:
            raise UpdateRefused(f"a statement of a stage is not one: {error}") from error
        return found


@dataclass(frozen=True)
class Heard:
    """What a phone remembers of the roll-outs of its model: the last statement it acted on.

    Attributes:
      statement: None before the first.
    """

    statement: StageStatement | None = None

    def hear(self, content: bytes, trust: Trust, model: str, now_s: float) -> Heard:
        """Takes a statement, if it goes on from the last.

        Args:
          content: as it came.
          trust: the publisher's keys.
          model: line of adapters that the phone follows.
          now_s: Unix time.

        Raises:
          UpdateRefused: naming the rule; the phone goes on as before.
        """
        found, last = StageStatement.read(content, trust), self.statement
        if found.model != model:
            raise UpdateRefused(f"this stage is of the model {found.model}, the phone has {model}")
        if now_s > found.expires_s:
            raise UpdateRefused(
                f"the statement of {found.version} expired: whoever hands it out lags"
            )
        if last is not None:
            _require_goes_on(found, last)
        return Heard(found)


def _require_goes_on(found: StageStatement, last: StageStatement) -> None:
    if found.version < last.version:
        raise UpdateRefused(
            f"this stage is of version {found.version}, and the phone heard of {last.version}"
        )
    if found.version > last.version or found == last:
        return
    if found.key != last.key:
        raise UpdateRefused(
            f"version {found.version} came with another key of its stages: one roll-out has one"
        )
    if found.number <= last.number:
        raise UpdateRefused(
            f"statement {found.number} of {found.version} is not after {last.number}, which this "
            "phone has heard"
        )
    if 0 < found.share_ppm < last.share_ppm or (last.share_ppm == 0 < found.share_ppm):
        raise UpdateRefused(
            f"the share of {found.version} must not fall from {last.share_ppm} to "
            f"{found.share_ppm} millionths, but to 0"
        )
