"""What goes over the air: an adapter for many phones, or new keys, signed.

    8 bytes    what it is: FSUPD001, an update, or FSKEY001, new keys
    4 bytes    length of the header, little-endian
    header     JSON in its one canonical form
    64 bytes   Ed25519 signature over the 8 bytes and the header
    payload    of an update: the packed adapter file, whose hash stands in the header

A reader checks the signature before it reads the header, the payload's hash before it unpacks, and
the adapter file's hash before it reads that. So what is parsed was signed, whoever carried it. The
8 bytes are signed as well: no header of one kind passes for the other, and a key that signs other
things of the project signs none of these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedspeech.errors import UpdateRefused
from fedspeech.rollout.adapter_file import ADAPTER_LIMIT, AdapterFile
from fedspeech.rollout.checked_json import canonical_json, read_fields
from fedspeech.rollout.compression import pack, unpack
from fedspeech.rollout.signing import (
    SIGNATURE_BYTES,
    TRUST_FIELDS,
    PrivateKey,
    Trust,
    signed_by,
)
from fedspeech.rollout.version import Version

UPDATE, NEW_KEYS = b"FSUPD001", b"FSKEY001"
MAX_HEADER_BYTES = 4096
MAX_CONTENT_BYTES = 16 * 2**20
MAX_BUNDLE_BYTES = MAX_CONTENT_BYTES + 2**16
_HEADER_LENGTH_BYTES = 4
_SHA256 = re.compile("[0-9a-f]{64}")
_MODEL = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_FIELDS: dict[str, tuple[type, ...]] = {
    "model": (str,), "version": (str,), "base_sha256": (str,), "card_sha256": (str,),
    "content_sha256": (str,), "content_bytes": (int,), "payload_sha256": (str,),
    "payload_bytes": (int,), "parent_sha256": (str, type(None)), "expires_s": (int,),
    "phone": (str, type(None)), "seeded_noise": (bool,),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Update:
    """What the header of an update says.

    Attributes:
      model: name of the line of adapters; versions count in each.
      version: of the adapter.
      base_sha256: hash of the base that it belongs to, hex.
      card_sha256: hash of the card's text in the adapter file, hex.
      content_sha256, content_bytes: of the adapter file that a phone ends up with.
      payload_sha256, payload_bytes: of what follows the signature.
      parent_sha256: of the adapter file that the payload is the difference to; None: it is whole.
      expires_s: Unix time after which no phone takes it any more.
      phone: pseudonym of the one phone whose own adapter it is; None: it is for all.
      seeded_noise: whether the noise in it can be computed from a seed.

    Raises:
      ValueError: if a field is out of its range.
    """

    model: str
    version: Version
    base_sha256: str
    card_sha256: str
    content_sha256: str
    content_bytes: int
    payload_sha256: str
    payload_bytes: int
    parent_sha256: str | None
    expires_s: int
    phone: str | None
    seeded_noise: bool

    def __post_init__(self) -> None:
        """Checks the fields."""
        require_model(self.model)
        hashes = ("base_sha256", "card_sha256", "content_sha256", "payload_sha256")
        for name in (*hashes, *(["parent_sha256"] if self.parent_sha256 is not None else [])):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be 64 hex digits, got {getattr(self, name)!r}")
        if not 0 < self.content_bytes <= MAX_CONTENT_BYTES:
            raise ValueError(
                f"content_bytes must be 1 to {MAX_CONTENT_BYTES}, got {self.content_bytes}"
            )
        if self.version.number < 1:
            raise ValueError(f"versions count from 1 in every epoch, got {self.version}")

    def to_header(self) -> bytes:
        """The header's bytes."""
        return canonical_json({**dataclasses.asdict(self), "version": str(self.version)})

    @classmethod
    def from_header(cls, header: bytes) -> Update:
        """Reads a header's bytes.

        Raises:
          ValueError: if they are of another form.
        """
        fields = read_fields(header, _FIELDS)
        found = cls(**{**fields, "version": Version.parse(fields["version"])})
        if found.to_header() != header:
            raise ValueError("a header must be in its one canonical form")
        return found

    def unpack(self, payload: bytes, parents: Mapping[str, bytes]) -> bytes:
        """The adapter file, from a payload that was checked.

        Args:
          payload: as `read_update` gave it.
          parents: adapter files that are at hand, by their hashes.

        Raises:
          UpdateRefused: if the payload is the difference to another file, or does not give the file
            that the header names.
        """
        parent = None
        if self.parent_sha256 is not None and (parent := parents.get(self.parent_sha256)) is None:
            raise UpdateRefused(
                f"{self.model} {self.version} is the difference to the adapter file "
                f"{self.parent_sha256[:12]}, and there is none: ask for the whole"
            )
        try:
            content = unpack(payload, parent, self.content_bytes)
        except ValueError as error:
            raise UpdateRefused(f"{self.model} {self.version}: {error}") from error
        _require_hash(content, self.content_sha256, "the adapter file")
        return content

    def require(self, content: bytes) -> AdapterFile:
        """Holds an adapter file against what the header says of it, and against a phone's limits.

        Raises:
          UpdateRefused: naming what differs.
        """
        try:
            found = read_adapter(content)
        except ValueError as error:
            raise UpdateRefused(f"{self.model} {self.version}: {error}") from error
        card_sha256 = hashlib.sha256(found.card_text.encode()).hexdigest()
        for name, said, holds in (
            ("base", self.base_sha256, found.base_sha256),
            ("card", self.card_sha256, card_sha256),
            ("phone", self.phone, found.card["phone"]),
        ):
            if said != holds:
                raise UpdateRefused(
                    f"{self.model} {self.version} is signed for the {name} {said}, and the adapter "
                    f"file in it is of {holds}"
                )
        return found


def read_adapter(content: bytes) -> AdapterFile:
    """Reads an adapter file that may go to a phone.

    Raises:
      ValueError: if it is none, a value is not finite or above what the personal file restores, or
        its card is of another base or of another number of parameters.
    """
    found = AdapterFile.from_bytes(content)
    # NaN compares as false, so a comparison by "at most" finds it as well.
    if not (len(found.adapter) and (np.abs(found.adapter) <= ADAPTER_LIMIT).all()):
        raise ValueError(
            f"every value of an adapter must be finite and at most {ADAPTER_LIMIT:g} in size"
        )
    try:
        card = found.card
        said = card["base_sha256"], card["adapter"]["parameters"], card["phone"], card["stage"]
        _ = card["labels"], card["noise_notice"], card["privacy"]
        _ = card["metrics_visibility"], card["metrics"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the card of an adapter lacks {error}") from error
    holds = found.base_sha256, len(found.adapter)
    if said[:2] != holds:
        raise ValueError(
            f"the card is of base {said[0]} and {said[1]} parameters, the adapter of {holds[0]} "
            f"and {holds[1]}"
        )
    if (said[3] == "personal") != (said[2] is not None):
        raise ValueError(f"a card of stage {said[3]} names the phone {said[2]}")
    return found


def require_model(name: str) -> None:
    """Checks the name of a line of adapters.

    Raises:
      ValueError: if it is of another form.
    """
    if not _MODEL.fullmatch(name):
        raise ValueError(
            f"a model is named by 1 to 63 small letters, digits and hyphens, got {name!r}"
        )


def make_update(
    adapter: bytes,
    key: PrivateKey,
    *,
    model: str,
    version: Version,
    expires_s: int,
    parent: bytes | None = None,
    phone: str | None = None,
    seeded_noise: bool = False,
) -> bytes:
    """Signs an adapter file for phones, alone or as the difference to its parent.

    Accuracies that only a simulation can know are taken out of its card first: they are exact
    figures of the phones that judged.

    Args:
      adapter: content of an exported `adapter.safetensors`.
      key: the signing key.
      model: name of the line of adapters.
      version: above every version that was published.
      expires_s: Unix time after which no phone takes it.
      parent: the adapter file that phones hold; None: the whole.
      phone: names the one phone whose own adapter this is.
      seeded_noise: says that the noise may be one that can be computed from a seed.

    Raises:
      UpdateRefused: if the adapter is one that must not travel.
      ValueError: if the file is no such adapter, or the model has another form of name.
    """
    card = read_adapter(adapter).card
    if card["phone"] != phone:
        _refuse_personal(card["phone"], phone)
    if card["noise_notice"] and card["stage"] != "base" and not seeded_noise:
        raise UpdateRefused(
            f"this adapter must not be released: {card['noise_notice']}. Train with noise of the "
            'operating system (noise_entropy = "os"), or mark it as a trial of seeded noise'
        )
    content = for_release(adapter)
    parent = None if parent is None else for_release(parent)  # as it reached the phones
    found, payload = read_adapter(content), pack(content, parent)
    update = Update(
        model=model,
        version=version,
        base_sha256=found.base_sha256,
        card_sha256=hashlib.sha256(found.card_text.encode()).hexdigest(),
        content_sha256=hashlib.sha256(content).hexdigest(),
        content_bytes=len(content),
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        payload_bytes=len(payload),
        parent_sha256=None if parent is None else hashlib.sha256(parent).hexdigest(),
        expires_s=expires_s,
        phone=phone,
        seeded_noise=bool(card["noise_notice"]),
    )
    return framed(UPDATE, update.to_header(), key) + payload


def _refuse_personal(owner: str | None, given: str | None) -> None:
    if owner is None:
        raise UpdateRefused(f"this adapter is of all phones, and not of the phone {given}")
    raise UpdateRefused(
        f"this adapter is the own one of the phone {owner}, trained on one person's clips: it does "
        f"not travel. To send it back to that phone and to no other, name that phone, "
        f"got {given!r}"
    )


def for_release(adapter: bytes) -> bytes:
    """An adapter file without the accuracies that only a simulation can know."""
    found = AdapterFile.from_bytes(adapter)
    card = found.card
    if card["metrics_visibility"] == "public" or not card["metrics"]:
        return adapter
    text = json.dumps(card | {"metrics": []}, sort_keys=True, allow_nan=False)
    return dataclasses.replace(found, card_text=text).to_bytes()


def read_update(content: bytes, trust: Trust) -> tuple[Update, bytes]:
    """Checks signature and payload of an update; nothing is unpacked.

    Returns:
      The header, and the payload that it names.

    Raises:
      UpdateRefused: if it is cut, changed, or signed by another key.
    """
    header, payload = unframed(UPDATE, content, trust.signing, "the publisher's signing key")
    try:
        update = Update.from_header(header)
    except ValueError as error:
        raise UpdateRefused(f"the header of an update is not one: {error}") from error
    if len(payload) != update.payload_bytes:
        raise UpdateRefused(
            f"an update has {len(payload)} bytes of payload, of the {update.payload_bytes} signed"
        )
    _require_hash(payload, update.payload_sha256, "the payload")
    return update, payload


def make_new_keys(trust: Trust, recovery: PrivateKey) -> bytes:
    """Signs, by the recovery key that phones trust so far, which keys they trust from now on."""
    return framed(NEW_KEYS, canonical_json(dataclasses.asdict(trust)), recovery)


def read_new_keys(content: bytes, trust: Trust) -> Trust:
    """Checks a statement of new keys.

    Raises:
      UpdateRefused: if it is cut, changed, of an epoch that is over, or not signed by the recovery
        key.
    """
    header, rest = unframed(NEW_KEYS, content, trust.recovery, "the publisher's recovery key")
    try:
        found = Trust(**read_fields(header, TRUST_FIELDS))
        if rest or canonical_json(dataclasses.asdict(found)) != header:
            raise ValueError("it must be one canonical header and nothing more")
    except ValueError as error:
        raise UpdateRefused(f"a statement of new keys is not one: {error}") from error
    if found.epoch <= trust.epoch:
        raise UpdateRefused(
            f"these keys are of epoch {found.epoch}, and the phone trusts those of {trust.epoch}"
        )
    return found


def is_new_keys(content: bytes) -> bool:
    """Whether a bundle claims to be a statement of new keys."""
    return content.startswith(NEW_KEYS)


def claimed(content: bytes) -> tuple[Update | None, Trust | None]:
    """What a bundle says that it is, unchecked: an update or new keys; for whoever made it."""
    start = len(UPDATE) + _HEADER_LENGTH_BYTES
    header = content[start : start + int.from_bytes(content[len(UPDATE) : start], "little")]
    if is_new_keys(content):
        return None, Trust(**read_fields(header, TRUST_FIELDS))
    return Update.from_header(header), None


def framed(kind: bytes, header: bytes, key: PrivateKey) -> bytes:
    """A kind of 8 bytes, a header and its length, and the signature over kind and header."""
    length = len(header).to_bytes(_HEADER_LENGTH_BYTES, "little")
    return kind + length + header + key.sign(kind + header)


def unframed(kind: bytes, content: bytes, public: str, whose: str) -> tuple[bytes, bytes]:
    """Header and payload of a bundle of a kind, once the signature holds.

    Args:
      kind: its first 8 bytes.
      content: as it came.
      public: key that must have signed, hex.
      whose: that key, in words.

    Raises:
      UpdateRefused: if it is of another kind, cut, too long, or not signed by the key.
    """
    if len(content) > MAX_BUNDLE_BYTES:
        raise UpdateRefused(
            f"a bundle is at most {MAX_BUNDLE_BYTES} bytes long, got {len(content)}"
        )
    if not content.startswith(kind):
        raise UpdateRefused(f"expected a bundle that begins with {kind!r}, got {content[:8]!r}")
    start = len(kind) + _HEADER_LENGTH_BYTES
    length = int.from_bytes(content[len(kind) : start], "little")
    if length > MAX_HEADER_BYTES:
        raise UpdateRefused(
            f"the header of a bundle is at most {MAX_HEADER_BYTES} bytes long, got {length}"
        )
    end = start + length + SIGNATURE_BYTES
    if len(content) < end:
        raise UpdateRefused(f"a bundle is cut: {len(content)} bytes, of at least {end}")
    header, signature = content[start : start + length], content[start + length : end]
    if not signed_by(public, kind + header, signature):
        raise UpdateRefused(f"this bundle is not signed by {whose}, {public[:12]}..., or changed")
    return header, content[end:]


def _require_hash(content: bytes, sha256: str, what: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UpdateRefused(f"the SHA-256 of {what} is not the signed one, {sha256[:12]}...")


def to_record(update: Update) -> dict[str, Any]:
    """A header as plain data."""
    return dataclasses.asdict(update) | {"version": str(update.version)}
