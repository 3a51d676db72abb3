"""Adapters over the air: a publisher's keys and bundles, and what a phone does with them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.api.bundles import VALID_DAYS, Bundle, expires_s, in_words, read_file, written
from simulations.console import Console, Printed

if TYPE_CHECKING:
    from fedspeech.rollout.phone import Phone

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PhoneReport(Printed):
    """What a phone keeps after a change.

    Attributes:
      phone: its folder and state.
    """

    phone: Phone

    @property
    def adapter_file(self) -> Path:
        """The adapter file in use, whose arrays the app restores."""
        return self.phone.adapter_file

    @property
    def version(self) -> str:
        """Version in use."""
        return str(self.phone.state.current.version)

    def record(self) -> dict[str, Any]:
        """What the phone remembers as plain data, and the adapter file in use."""
        return {**self.phone.state.to_json(), "adapter_file": str(self.adapter_file)}

    def __repr__(self) -> str:
        """Version in use."""
        return f"PhoneReport({str(self.phone.folder)!r}, version {self.version})"

    def print(self, console: Console) -> None:
        """Prints what is in use and what a rollback goes back to."""
        state = self.phone.state
        before = state.previous.version if state.previous else "none"
        console.print(
            f"in use: version {self.version} of {state.model}, {self.adapter_file}", soft_wrap=True
        )
        console.print(
            f"{'confirmed' if state.confirmed else 'not confirmed yet'}; to go back to: {before}; "
            f"nothing up to {state.newest} is taken again; keys of epoch {state.trust.epoch}",
            soft_wrap=True,
        )


def ota_keys(folder: str | Path) -> Path:
    """Makes the two keys of a publisher, and the file with their public halves for the app.

        >>> import fedspeech as fs
        >>> sorted(path.name for path in fs.ota_keys("keys").iterdir())
        ['recovery.pem', 'signing.pem', 'trust.json']

    Args:
      folder: a new one, for this user alone.

    Raises:
      ScenarioError: if the folder is there.
    """
    from fedspeech.rollout.signing import make_keys

    _new_folder(folder, lambda: make_keys(Path(folder), 0))
    return Path(folder)


def ota_make(
    adapter: str | Path,
    out: str | Path,
    *,
    key: str | Path,
    model: str,
    version: str,
    delta_from: str | Path | None = None,
    valid_days: float = VALID_DAYS,
    phone: str | None = None,
    seeded_noise: bool = False,
) -> Bundle:
    """Signs an exported adapter for phones, whole or as the difference to the one before.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-make")
        >>> fs.ota_make("runs/quick/export/adapter.safetensors", "a.bundle", model="kitchen",
        ...             version="0.1", key=keys / "signing.pem", seeded_noise=True)
        Bundle('kitchen', 0.1, whole)

    Args:
      adapter: an `adapter.safetensors` of `export`.
      out: the bundle.
      key: the signing key.
      model: name of the line of adapters: small letters, digits and hyphens.
      version: EPOCH.NUMBER, above every one before; the epoch is that of the keys, from 0.
      delta_from: the adapter file that phones have now; None: the whole.
      valid_days: for how long phones take it.
      phone: the one phone whose user's own adapter this is; such a one goes nowhere else.
      seeded_noise: marks a trial, whose noise can be computed from the seed of its run.

    Raises:
      UpdateRefused: if the adapter is one that must not travel.
      ArgumentRefused: if a file is no adapter, or a name or version of another form.
    """
    from fedspeech.rollout.bundle import make_update
    from fedspeech.rollout.signing import PrivateKey
    from fedspeech.rollout.version import Version

    content = in_words(
        lambda: make_update(
            read_file(adapter),
            PrivateKey.load(Path(key)),
            model=model,
            version=Version.parse(version),
            expires_s=expires_s(valid_days),
            parent=None if delta_from is None else read_file(delta_from),
            phone=phone,
            seeded_noise=seeded_noise,
        )
    )
    return written(content, Path(out))


def ota_rotate(
    keys: str | Path, out: str | Path, *, recovery: str | Path, trust: str | Path
) -> Bundle:
    """Makes new keys and the statement, signed by the recovery key, that phones trust them now.

        >>> import fedspeech as fs
        >>> old = fs.ota_keys("old-keys")
        >>> fs.ota_rotate("new-keys", "keys.bundle", recovery=old / "recovery.pem",
        ...               trust=old / "trust.json")
        Bundle(keys of epoch 1)

    Args:
      keys: a new folder for the new keys.
      out: the statement, a bundle that `ota_apply` takes.
      recovery: the recovery key that phones trust so far.
      trust: the public keys that phones trust so far.

    Raises:
      UpdateRefused: if that is not the recovery key that phones trust.
      ScenarioError: if the folder is there.
    """
    from fedspeech.rollout.bundle import make_new_keys, read_new_keys
    from fedspeech.rollout.signing import PrivateKey, Trust, make_keys

    before, signer = Trust.load(Path(trust)), PrivateKey.load(Path(recovery))
    if signer.public != before.recovery:
        raise ArgumentRefused(f"`recovery` is not the key that `trust` names: {before.recovery}")
    new = _new_folder(keys, lambda: make_keys(Path(keys), before.epoch + 1))
    content = make_new_keys(new, signer)
    read_new_keys(content, before)
    return written(content, Path(out))


def ota_verify(
    bundle: str | Path, *, trust: str | Path, delta_from: str | Path | None = None
) -> Bundle:
    """Checks a bundle as a phone does: signature, hashes, adapter and card.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-verify")
        >>> made = fs.ota_make("runs/quick/export/adapter.safetensors", "b.bundle", version="0.1",
        ...                    model="kitchen", key=keys / "signing.pem", seeded_noise=True)
        >>> fs.ota_verify("b.bundle", trust=keys / "trust.json").update.version == \
made.update.version
        True

    Args:
      bundle: as it came.
      trust: public keys of the publisher.
      delta_from: the adapter file that a difference starts from; None: it is not unpacked.

    Raises:
      UpdateRefused: naming the rule that it breaks.
    """
    from fedspeech.rollout.bundle import (
        MAX_BUNDLE_BYTES,
        for_release,
        is_new_keys,
        read_new_keys,
        read_update,
    )
    from fedspeech.rollout.signing import Trust

    content, trusted = read_file(bundle, MAX_BUNDLE_BYTES), Trust.load(Path(trust))
    if is_new_keys(content):
        return Bundle(len(content), None, trust=read_new_keys(content, trusted))
    update, payload = read_update(content, trusted)
    if update.parent_sha256 is not None and delta_from is None:
        return Bundle(len(content), None, update)
    parents = {}
    if delta_from is not None:
        parent = in_words(lambda: for_release(read_file(delta_from)))
        parents = {hashlib.sha256(parent).hexdigest(): parent}
    card = update.require(update.unpack(payload, parents)).card
    return Bundle(len(content), None, update, card=card)


def ota_enroll(
    folder: str | Path,
    adapter: str | Path,
    *,
    trust: str | Path,
    model: str,
    version: str | None = None,
    phone: str | None = None,
) -> PhoneReport:
    """Makes the folder of a phone, with the adapter and public keys that its app ships with.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-enroll")
        >>> fs.ota_enroll("phone", "runs/quick/export/adapter.safetensors", model="kitchen",
        ...               trust=keys / "trust.json")
        PhoneReport('phone', version 0.0)

    Args:
      folder: a new one.
      adapter: an `adapter.safetensors` of `export`; its base, labels and size are pinned.
      trust: public keys of the publisher.
      model: line of adapters to follow.
      version: that it was published as; None: before the first.
      phone: its pseudonym, if its own user's adapter may be sent back to it.

    Raises:
      UpdateRefused: if there is a phone, or the adapter is another phone's own.
      ArgumentRefused: if the file is no adapter, or a name or version of another form.
    """
    from fedspeech.rollout.phone import Phone
    from fedspeech.rollout.signing import Trust
    from fedspeech.rollout.version import Version

    return in_words(
        lambda: PhoneReport(
            Phone.enroll(
                Path(folder),
                read_file(adapter),
                Trust.load(Path(trust)),
                model=model,
                version=Version.parse(version) if version else None,
                phone=phone,
            )
        )
    )


def ota_apply(bundle: str | Path, folder: str | Path) -> PhoneReport:
    """Hands a bundle to a phone, which takes it whole or refuses it and keeps what it has.

        >>> import fedspeech as fs
        >>> keys, adapter = fs.ota_keys("keys-of-apply"), "runs/quick/export/adapter.safetensors"
        >>> phone = fs.ota_enroll("taking", adapter, model="kitchen", trust=keys / "trust.json")
        >>> made = fs.ota_make(adapter, "c.bundle", model="kitchen", version="0.1",
        ...                    key=keys / "signing.pem", seeded_noise=True)
        >>> fs.ota_apply("c.bundle", "taking")
        PhoneReport('taking', version 0.1)

    Args:
      bundle: as it came.
      folder: the phone's.

    Raises:
      UpdateRefused: naming the rule that it breaks.
    """
    from fedspeech.rollout.bundle import MAX_BUNDLE_BYTES
    from fedspeech.rollout.phone import Phone

    phone = Phone.open(Path(folder))
    phone.apply(read_file(bundle, MAX_BUNDLE_BYTES), time.time())
    return PhoneReport(phone)


def ota_confirm(folder: str | Path) -> PhoneReport:
    """Notes that the adapter in use works on this phone; a later rollback comes back to it.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-confirm")
        >>> phone = fs.ota_enroll("working", "runs/quick/export/adapter.safetensors",
        ...                       model="kitchen", trust=keys / "trust.json")
        >>> fs.ota_confirm("working").record()["confirmed"]
        True

    Args:
      folder: the phone's.

    Raises:
      UpdateRefused: if the adapter's file was changed.
    """
    from fedspeech.rollout.phone import Phone

    phone = Phone.open(Path(folder))
    phone.confirm()
    return PhoneReport(phone)


def ota_rollback(folder: str | Path) -> PhoneReport:
    """Goes back to the last adapter that worked; the version that it leaves is never taken again.

        >>> import fedspeech as fs
        >>> fs.ota_rollback("phone")                                            # doctest: +SKIP
        PhoneReport('phone', version 0.1)

    Args:
      folder: the phone's.

    Raises:
      UpdateRefused: if there is none to go back to.
    """
    from fedspeech.rollout.phone import Phone

    phone = Phone.open(Path(folder))
    phone.rollback()
    return PhoneReport(phone)


def _new_folder(folder: str | Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except FileExistsError:
        raise ScenarioError(f"keys go into a new folder, and {folder} is there") from None
