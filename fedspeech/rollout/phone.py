"""What a phone keeps of the adapters that reach it, and when it takes another one.

    phone = Phone.enroll(folder, adapter, trust, model="kitchen", now_s=...)
    phone.apply(bundle, now_s=...)
    phone.confirm()         # the app found that it works; or
    phone.rollback()

`phone.json` names the adapter in use and the last one before it that worked. Each lies in a file of
its own, which is written whole and never changed; then `phone.json` is replaced, in one step. A
kill at any point leaves the old adapter or the new one. Files that it does not name are removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspeech.errors import UpdateRefused
from fedspeech.files import hold, remove_made, write_text, write_whole
from fedspeech.rollout.adapter_file import AdapterFile
from fedspeech.rollout.bundle import (
    MAX_CONTENT_BYTES,
    Update,
    for_release,
    is_new_keys,
    read_adapter,
    read_new_keys,
    read_update,
    require_model,
)
from fedspeech.rollout.checked_json import read_fields
from fedspeech.rollout.signing import TRUST_FIELDS, Trust
from fedspeech.rollout.version import Version

STATE_FILE = "phone.json"
FORMAT = 1
_LOCK_FILE = "phone.lock"
_KEPT = re.compile("adapter-[0-9a-f]{64}[.]safetensors")
_INSTALLED: dict[str, tuple[type, ...]] = {"version": (str,), "sha256": (str,)}
_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,), "model": (str,), "base_sha256": (str,), "labels": (list,),
    "parameters": (int,), "phone": (str, type(None)), "trust": (dict,), "newest": (str,),
    "current": (dict,), "confirmed": (bool,), "previous": (dict, type(None)),
}  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """An adapter that a phone keeps.

    Attributes:
      version: of the bundle that brought it.
      sha256: hash of the adapter file, hex.
    """

    version: Version
    sha256: str

    @property
    def file(self) -> str:
        """Name of the adapter file in the phone's folder."""
        return f"adapter-{self.sha256}.safetensors"


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that a phone must remember, and nobody but the app may change.

    Attributes:
      model: line of adapters that it follows.
      base_sha256: hash of the base in the app, hex.
      labels: meaning of the outputs that the app counts on.
      parameters: size of the adapter that the app's model restores.
      phone: its pseudonym, for an adapter of its own user; None: it takes none.
      trust: keys of the publisher.
      newest: highest version that was ever taken; what is not above it is refused.
      current: the adapter in use.
      confirmed: whether the app said that it works.
      previous: the last one before it that worked; None: there is none to go back to.
    """

    model: str
    base_sha256: str
    labels: tuple[str, ...]
    parameters: int
    phone: str | None
    trust: Trust
    newest: Version
    current: Installed
    confirmed: bool
    previous: Installed | None

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values."""

        def installed(one: Installed) -> dict[str, str]:
            return {"version": str(one.version), "sha256": one.sha256}

        return {
            "format": FORMAT,
            "model": self.model,
            "base_sha256": self.base_sha256,
            "labels": list(self.labels),
            "parameters": self.parameters,
            "phone": self.phone,
            "trust": dataclasses.asdict(self.trust),
            "newest": str(self.newest),
            "current": installed(self.current),
            "confirmed": self.confirmed,
            "previous": installed(self.previous) if self.previous else None,
        }

    @classmethod
    def from_json(cls, content: bytes) -> State:
        """Reads what `to_json` gave.

        Raises:
          ValueError: if it is of another form.
        """

        def checked(values: Any, fields: dict[str, tuple[type, ...]]) -> dict[str, Any]:
            return read_fields(json.dumps(values).encode(), fields)

        def installed(values: Any) -> Installed:
            found = checked(values, _INSTALLED)
            return Installed(Version.parse(found["version"]), found["sha256"])

        fields = read_fields(content, _FIELDS)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}")
        previous = fields["previous"]
        return cls(
            **fields
            | {
                "labels": tuple(fields["labels"]),
                "trust": Trust(**checked(fields["trust"], TRUST_FIELDS)),
                "newest": Version.parse(fields["newest"]),
                "current": installed(fields["current"]),
                "previous": installed(previous) if previous else None,
            }
        )


class Phone:
    """A phone's folder. Use `Phone.enroll` once, then `Phone.open`."""

    def __init__(self, folder: Path, state: State) -> None:
        """Takes a state that was read or made."""
        self.folder, self.state = folder, state

    @classmethod
    def enroll(
        cls,
        folder: Path,
        adapter: bytes,
        trust: Trust,
        *,
        model: str,
        version: Version | None = None,
        phone: str | None = None,
    ) -> Phone:
        """Begins with the adapter that the app ships with; its base and labels are pinned.

        Args:
          folder: made here.
          adapter: content of an exported adapter file.
          trust: keys of the publisher.
          model: line of adapters to follow.
          version: that it was published as; None: before the first.
          phone: its pseudonym, if its own user's adapter may be sent back to it.

        Raises:
          ValueError: if the file is no adapter that a phone takes, or the name has another form.
          UpdateRefused: if there is a phone already, or the adapter is another phone's own.
        """
        require_model(model)
        content = for_release(adapter)
        found = read_adapter(content)
        if found.card["phone"] not in (None, phone):
            raise UpdateRefused(f"this adapter is the own one of the phone {found.card['phone']}")
        if (folder / STATE_FILE).exists():
            raise UpdateRefused(f"{folder} is a phone already; its state is what refuses replays")
        folder.mkdir(parents=True, exist_ok=True)
        version = version or Version(trust.epoch, 0)
        state = State(
            model=model,
            base_sha256=found.base_sha256,
            labels=tuple(found.card["labels"]),
            parameters=len(found.adapter),
            phone=phone,
            trust=trust,
            newest=version,
            current=Installed(version, hashlib.sha256(content).hexdigest()),
            confirmed=True,
            previous=None,
        )
        write_whole(folder / state.current.file, content)
        opened = cls(folder, state)
        opened._write(state)
        return opened

    @classmethod
    def open(cls, folder: Path) -> Phone:
        """Reads a phone's folder.

        Raises:
          UpdateRefused: if there is no phone, or what it remembers cannot be read.
        """
        file = folder / STATE_FILE
        try:
            return cls(folder, State.from_json(file.read_bytes()))
        except FileNotFoundError:
            raise UpdateRefused(f"{folder} is no phone's folder: it has no {STATE_FILE}") from None
        except (OSError, ValueError) as error:
            raise UpdateRefused(
                f"{file} cannot be read ({error}): without it replays would pass. The app must "
                "begin again with the adapter and the version that it shipped with"
            ) from error

    @property
    def adapter_file(self) -> Path:
        """The adapter file in use."""
        return self.folder / self.state.current.file

    def adapter(self) -> AdapterFile:
        """The adapter in use.

        Raises:
          UpdateRefused: if its file was changed since it was installed.
        """
        return self._read(self.state.current)[1]

    def apply(self, bundle: bytes, now_s: float) -> State:
        """Takes a bundle: another adapter, or other keys of the publisher.

        Args:
          bundle: as it came.
          now_s: Unix time.

        Raises:
          UpdateRefused: if it breaks a rule; nothing has changed then.
        """
        with self._alone():
            if is_new_keys(bundle):
                trust = read_new_keys(bundle, self.state.trust)
                return self._write(dataclasses.replace(self.state, trust=trust))
            update, payload = read_update(bundle, self.state.trust)
            self._require(update, now_s)
            content = update.unpack(payload, dict(self._at_hand()))
            self._require_fits(update, update.require(content))
            # What worked last is kept until the app says that something newer does.
            worked = self._good(self.state.current) if self.state.confirmed else None
            current = Installed(update.version, update.content_sha256)
            changed = dataclasses.replace(
                self.state,
                newest=update.version,
                current=current,
                confirmed=False,
                previous=worked or self._good(self.state.previous),
            )
            # The file before the name of it.
            write_whole(self.folder / current.file, content)
            return self._write(changed)

    def confirm(self) -> State:
        """Notes that the adapter in use works: from now on it is what a rollback goes back to.

        Raises:
          UpdateRefused: if its file was changed.
        """
        with self._alone():
            self._read(self.state.current)
            return self._write(dataclasses.replace(self.state, confirmed=True))

    def rollback(self) -> State:
        """Goes back to the last adapter that worked; what it leaves is never taken again.

        Raises:
          UpdateRefused: if there is none, or its file was changed.
        """
        with self._alone():
            previous = self.state.previous
            if previous is None:
                raise UpdateRefused(
                    f"{self.folder} has no adapter before {self.state.current.version}"
                )
            self._read(previous)
            return self._write(
                dataclasses.replace(self.state, current=previous, confirmed=True, previous=None)
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes out, and reads again what they may have changed."""
        held = hold(self.folder / _LOCK_FILE, wait_s=10)
        if held is None:
            raise UpdateRefused(f"another process is changing {self.folder}")
        with held:
            self.state = Phone.open(self.folder).state
            yield

    def _require(self, update: Update, now_s: float) -> None:
        """Holds a header against what the phone remembers."""
        state = self.state
        for name, said, own in (
            ("model", update.model, state.model),
            ("base", update.base_sha256, state.base_sha256),
            ("epoch", update.version.epoch, state.trust.epoch),
        ):
            if said != own:
                raise UpdateRefused(f"this update is for the {name} {said}, the phone has {own}")
        if update.version <= state.newest:
            raise UpdateRefused(
                f"version {update.version} is not above {state.newest}, which this phone has taken"
            )
        if now_s > update.expires_s:
            raise UpdateRefused(
                f"version {update.version} expired {(now_s - update.expires_s) / 86400:.1f} days "
                "ago: what hands it out is old"
            )
        if update.phone is not None and update.phone != state.phone:
            raise UpdateRefused(
                f"version {update.version} is the own adapter of the phone {update.phone}; it is "
                "taken there and nowhere else"
            )

    def _require_fits(self, update: Update, found: AdapterFile) -> None:
        """Holds an adapter against the model in the app."""
        state = self.state
        if len(found.adapter) != state.parameters:
            raise UpdateRefused(
                f"version {update.version} has {len(found.adapter)} parameters, the phone's model "
                f"restores {state.parameters}"
            )
        if tuple(found.card["labels"]) != state.labels:
            raise UpdateRefused(
                f"version {update.version} answers with the labels {found.card['labels']}, the app "
                f"counts on {list(state.labels)}"
            )

    def _at_hand(self) -> Iterator[tuple[str, bytes]]:
        """The adapter files that a difference may start from: whole ones alone."""
        for one in (self.state.current, self.state.previous):
            if one is not None and self._good(one):
                yield one.sha256, self._read(one)[0]

    def _good(self, one: Installed | None) -> Installed | None:
        """An adapter, if its file is as it was installed."""
        try:
            return one if one is not None and self._read(one) else None
        except UpdateRefused:
            return None

    def _read(self, one: Installed) -> tuple[bytes, AdapterFile]:
        file = self.folder / one.file
        try:
            if file.stat().st_size > MAX_CONTENT_BYTES:
                raise ValueError("it is longer than any adapter")
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != one.sha256:
                raise ValueError("its SHA-256 is another")
            return content, read_adapter(content)
        except (OSError, ValueError) as error:
            raise UpdateRefused(
                f"the adapter of version {one.version} in {self.folder} is damaged ({error}); roll "
                "back, or ask for the whole of a newer version"
            ) from error

    def _write(self, state: State) -> State:
        """Replaces what the phone remembers, then removes adapters that it does not name."""
        write_text(self.folder / STATE_FILE, json.dumps(state.to_json(), indent=2) + "\n")
        self.state = state
        named = {one.file for one in (state.current, state.previous) if one}
        stale = (path for path in self.folder.iterdir() if _KEPT.fullmatch(path.name))
        remove_made((path for path in list(stale) if path.name not in named), ())
        return state
