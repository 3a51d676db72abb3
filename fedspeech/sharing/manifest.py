"""What an artifact says of itself, signed by whoever made it.

    manifest = Manifest.read(Path("summary.manifest.json").read_bytes())
    manifest.signed_by(trusted)

A manifest is a claim. The gate believes of it only what it can check: the hash, the signature, the
tensors, dates and epochs; the rest is there so that somebody can be asked.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from fedspeech.hash_chain import Head
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.rollout.checked_json import canonical_json
from fedspeech.rollout.signing import PrivateKey, signed_by

Tier = Literal["public", "partner", "internal"]
TIERS: tuple[Tier, ...] = get_args(Tier)
"""Whom an artifact is for, the widest first."""

Kind = Literal["summary", "table", "report", "adapter", "model", "card", "log", "text"]
SCHEMA = 1


class BadManifest(ValueError):
    """A manifest that is missing something or says something impossible."""


@dataclass(frozen=True, kw_only=True)
class PrivacyClaim:
    """What is promised of the people behind an artifact.

    Attributes:
      epsilon: at most so much is spent; None: nothing is promised.
      delta: probability outside the promise.
      mechanism: that adds the noise.
      relation: what neighboring populations differ in.
      ledger_head: NUMBER:SHA256 of the last row that is priced.
    """

    epsilon: float | None
    delta: float
    mechanism: str
    relation: str
    ledger_head: str

    @classmethod
    def of(cls, guarantee: Guarantee, ledger_head: str) -> PrivacyClaim | None:
        """What a guarantee promises whoever reads models; None: nothing, there is no noise."""
        if not math.isfinite(guarantee.epsilon_release):
            return None
        return cls(
            epsilon=guarantee.epsilon_release, delta=guarantee.delta,
            mechanism=guarantee.mechanism, relation=guarantee.relation_release,
            ledger_head=ledger_head,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor that an adapter is made of.

    Attributes:
      dtype: such as float32.
      shape: of the array.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where an artifact comes from and whom it is for.

    Attributes:
      kind: what it is.
      file: its name.
      sha256: of its bytes, hex.
      tier: the widest audience that it was made for.
      purpose: why it is shared, in words.
      expires: the last day of its use, ISO 8601.
      consent_epoch: revocations up to this epoch are in it.
      contributors: people behind its figures.
      plan_fingerprint: of the privacy plan, hex; "" where no plan has a part in it.
      parents: SHA-256 of what it was made from.
      steps: what was done to them, in order.
      claim: of privacy; None: no privacy is claimed.
      tensors: by name; of an adapter alone.
      norm_bound: length that the change of an adapter can have at most; None: no adapter.
      signer: public key, hex; "": unsigned.
      signature: over everything else, hex.
    """

    kind: Kind
    file: str
    sha256: str
    tier: Tier
    purpose: str
    expires: str
    consent_epoch: int
    contributors: int
    plan_fingerprint: str = ""
    parents: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    claim: PrivacyClaim | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    norm_bound: float | None = None
    signer: str = ""
    signature: str = ""

    def __post_init__(self) -> None:
        """Refuses what nobody could check."""
        _require("kind", self.kind, self.kind in get_args(Kind), f"one of {get_args(Kind)}")
        _require("tier", self.tier, self.tier in TIERS, f"one of {TIERS}")
        for name in ("sha256", "plan_fingerprint", "signer"):
            value = getattr(self, name)
            fits = re.fullmatch(r"[0-9a-f]{64}", str(value)) or (name != "sha256" and value == "")
            _require(name, value, bool(fits), "64 hex digits")
        for name in ("consent_epoch", "contributors"):
            value = getattr(self, name)
            _require(name, value, type(value) is int and value >= 0, "a whole number")
        _require("purpose", self.purpose, bool(str(self.purpose).strip()), "words")
        for parent in self.parents:
            _require("parents", parent, bool(re.fullmatch(r"[0-9a-f]{64}", parent)), "SHA-256")
        self.last_day()

    def last_day(self) -> datetime.date:
        """The last day of its use.

        Raises:
          BadManifest: if it is no date.
        """
        try:
            return datetime.date.fromisoformat(self.expires)
        except (ValueError, TypeError) as error:
            raise BadManifest(f"expires must be a date, got {self.expires!r}") from error

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """Reads a manifest.

        Raises:
          BadManifest: naming what is missing, unknown or of another form.
        """
        try:
            found = json.loads(content)
            if not isinstance(found, dict) or found.pop("schema", None) != SCHEMA:
                raise BadManifest(f"a manifest is an object with schema {SCHEMA}")
            if isinstance(claim := found.get("claim"), dict):
                found["claim"] = _claim(claim)
            found["tensors"] = {
                name: Tensor(dtype=row["dtype"], shape=tuple(row["shape"]))
                for name, row in found.get("tensors", {}).items()
            }
            for name in ("parents", "steps"):
                found[name] = tuple(found.get(name, ()))
            return cls(**found)
        except BadManifest:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadManifest(f"the manifest cannot be read: {str(error)[:200]}") from error

    def write(self) -> bytes:
        """As `read` reads it."""
        return json.dumps(self._record(), indent=2, sort_keys=True).encode() + b"\n"

    def sign(self, key: PrivateKey) -> Manifest:
        """The same, signed."""
        named = replace(self, signer=key.public, signature="")
        return replace(named, signature=key.sign(named._statement()).hex())

    def signed_by(self, trusted: Iterable[str]) -> bool:
        """Whether one of these public keys signed it."""
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            return False
        return self.signer in set(trusted) and signed_by(
            self.signer, replace(self, signature="")._statement(), signature
        )

    def of(self, content: bytes) -> bool:
        """Whether it speaks of these bytes."""
        return hashlib.sha256(content).hexdigest() == self.sha256

    def _statement(self) -> bytes:
        return b"fedspeech manifest\n" + canonical_json(self._record())

    def _record(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def _claim(found: Mapping[str, Any]) -> PrivacyClaim:
    claim = PrivacyClaim(**found)
    numbers = (claim.delta, *(() if claim.epsilon is None else (claim.epsilon,)))
    for value in numbers:
        fits = type(value) in {int, float} and math.isfinite(value) and value >= 0
        _require("epsilon and delta", value, fits, "finite numbers from 0")
    _require("delta", claim.delta, claim.delta < 1, "below 1")
    for name in ("mechanism", "relation"):
        value = getattr(claim, name)
        _require(name, value, isinstance(value, str) and bool(value.strip()), "words")
    try:
        Head.parse(claim.ledger_head)
    except (ValueError, AttributeError) as error:
        raise BadManifest(f"ledger_head: {error}") from error
    return claim


def _require(name: str, value: object, fits: bool, rule: str) -> None:
    if not fits:
        raise BadManifest(f"{name} must be {rule}, got {value!r}")
