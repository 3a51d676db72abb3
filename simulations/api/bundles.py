"""Signed bundles as the functions that make, check and hand them out give them."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fedspeech.errors import ArgumentRefused, FedspeechError
from simulations.console import Console, Printed

if TYPE_CHECKING:
    from fedspeech.rollout.bundle import Update
    from fedspeech.rollout.signing import Trust

T = TypeVar("T")

DAY_S = 86_400
VALID_DAYS = 90.0
"""How long phones take a bundle, unless its publisher says otherwise."""


@dataclass(frozen=True, eq=False)
class Bundle(Printed):
    """A signed bundle: an adapter for phones, or new keys of the publisher.

    Attributes:
      size_bytes: of the file.
      file: where it was written; None: it was read.
      update: what is signed of an adapter; None: the bundle holds new keys.
      trust: the new keys; None: the bundle holds an adapter.
      card: of the adapter, where the whole of it is at hand.
    """

    size_bytes: int
    file: Path | None
    update: Update | None = None
    trust: Trust | None = None
    card: Mapping[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        """What is signed as plain data."""
        from fedspeech.rollout.bundle import to_record

        signed = to_record(self.update) if self.update else vars(self.trust)
        kind = "update" if self.update else "keys"
        return {
            "kind": kind,
            "size_bytes": self.size_bytes,
            **signed,
            "privacy": self.card["privacy"] if self.card else None,
        }

    def __repr__(self) -> str:
        """What it is."""
        if self.update is None:
            return f"Bundle(keys of epoch {self.trust.epoch if self.trust else '?'})"
        whole = "whole" if self.update.parent_sha256 is None else "difference"
        return f"Bundle({self.update.model!r}, {self.update.version}, {whole})"

    def print(self, console: Console) -> None:
        """Prints what is signed, and what protects the people in it."""
        for name, value in self._rows().items():
            # Hashes are to be copied: a table would cut them off.
            console.print(f"{name:<16} {value}", soft_wrap=True)
        if self.update and self.update.seeded_noise:
            console.print("its noise can be computed from a seed: a trial, and not for release")

    def _rows(self) -> dict[str, Any]:
        if self.update is None:
            return {name: value for name, value in self.record().items() if value is not None}
        update = self.update
        expires = datetime.datetime.fromtimestamp(update.expires_s, datetime.UTC)
        rows = {
            "model": update.model,
            "version": update.version,
            "base": update.base_sha256,
            "card": update.card_sha256,
            "adapter file": f"{update.content_sha256}, {update.content_bytes} bytes",
            "difference to": update.parent_sha256 or "nothing: it is whole",
            "bundle": f"{self.size_bytes} bytes",
            "expires": f"{expires:%Y-%m-%d %H:%M} UTC",
            "for": f"the phone {update.phone} alone" if update.phone else "all phones",
        }
        if self.card:
            privacy = self.card["privacy"]
            rows |= {
                "epsilon_release": privacy["epsilon_release"],
                "epsilon_server": privacy["epsilon_server"],
                "delta": privacy["delta"],
            }
        return rows


def written(content: bytes, out: Path) -> Bundle:
    """Writes a bundle that was just made or is handed on, and says what it claims."""
    from fedspeech.files import write_whole
    from fedspeech.rollout.bundle import claimed

    write_whole(out, content)
    update, trust = claimed(content)
    return Bundle(len(content), out, update, trust)


def expires_s(valid_days: float) -> int:
    """Unix time until which phones take what is signed now."""
    if not 0 < valid_days <= 3650:
        raise ArgumentRefused(f"`valid_days` must be above 0 and at most 3650, got {valid_days}")
    return int(time.time() + valid_days * DAY_S)


def read_file(file: str | Path, most: int | None = None) -> bytes:
    """Reads a file that somebody brought, if it is of a size that anything of the kind has."""
    from fedspeech.rollout.bundle import MAX_CONTENT_BYTES

    most = most or MAX_CONTENT_BYTES
    with Path(file).open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise FedspeechError(f"{file} must be at most {most} bytes long")
    return content


def in_words(work: Callable[[], T]) -> T:
    """Turns a value that the library refuses into words for whoever gave it."""
    try:
        return work()
    except ValueError as error:
        raise ArgumentRefused(str(error)) from error
