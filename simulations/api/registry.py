"""The roll-out registry: what was published for phones, and what each is handed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ScenarioError
from simulations.api.bundles import VALID_DAYS, Bundle, expires_s, in_words, read_file, written
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.rollout.registry import Registry


@dataclass(frozen=True, eq=False)
class RegistryReport(Printed):
    """What a registry has published.

    Attributes:
      registry: its folder and rows.
    """

    registry: Registry

    def record(self) -> dict[str, Any]:
        """Releases and keys as plain data."""
        return {
            "releases": [one.to_row() for one in self.registry.releases],
            "keys": [vars(one) for one in self.registry.trusts],
        }

    def __repr__(self) -> str:
        """How many releases."""
        return f"RegistryReport({str(self.registry.folder)!r}, {len(self.registry.releases)})"

    def print(self, console: Console) -> None:
        """Prints a line for each release."""
        rows = [
            (
                one.model, one.base_sha256[:12], str(one.version),
                str(one.bundles["whole"].size_bytes),
                ", ".join(
                    f"{name}: {stored.size_bytes}"
                    for name, stored in one.bundles.items() if name != "whole"
                ),
            )
            for one in self.registry.releases
        ]  # fmt: skip
        header = ("model", "base", "version", "whole, bytes", "difference to, bytes")
        console.print(table(header, rows, right=header[3:4]), soft_wrap=True)
        trust = self.registry.trust
        console.print(f"keys of epoch {trust.epoch}: signing {trust.signing}", soft_wrap=True)


def registry(folder: str | Path, *, trust: str | Path | None = None) -> RegistryReport:
    """Reads a registry and checks its rows, or begins one.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-registry")
        >>> fs.registry("published", trust=keys / "trust.json")
        RegistryReport('published', 0)

    Args:
      folder: of the registry.
      trust: public keys of its publisher, to begin a new one; None: it is there.

    Raises:
      RegistryDamaged: if a row was changed or cut.
      FedspeechError: if there is none, or one already.
    """
    from fedspeech.rollout.registry import Registry
    from fedspeech.rollout.signing import Trust

    if trust is None:
        return RegistryReport(Registry.open(Path(folder)))
    return RegistryReport(Registry.create(Path(folder), Trust.load(Path(trust))))


def registry_publish(
    folder: str | Path,
    adapter: str | Path,
    *,
    key: str | Path,
    model: str,
    valid_days: float = VALID_DAYS,
    seeded_noise: bool = False,
) -> RegistryReport:
    """Signs an adapter as the next version of a model, whole and as differences to the last three.

        >>> import fedspeech as fs
        >>> keys = fs.ota_keys("keys-of-publish")
        >>> found = fs.registry("releases", trust=keys / "trust.json")
        >>> fs.registry_publish("releases", "runs/quick/export/adapter.safetensors",
        ...                     model="kitchen", key=keys / "signing.pem", seeded_noise=True)
        RegistryReport('releases', 1)

    Args:
      folder: of the registry.
      adapter: an `adapter.safetensors` of `export`.
      key: the signing key.
      model: name of the line of adapters.
      valid_days: as in `ota_make`.
      seeded_noise: as in `ota_make`.

    Raises:
      FedspeechError: if it is another key, or the adapter must not travel.
      ArgumentRefused: if the file is no adapter, or the name of another form.
    """
    from fedspeech.rollout.registry import Registry
    from fedspeech.rollout.signing import PrivateKey

    found, signer = Registry.open(Path(folder)), PrivateKey.load(Path(key))
    in_words(
        lambda: found.publish(
            read_file(adapter),
            signer,
            expires_s=expires_s(valid_days),
            model=model,
            seeded_noise=seeded_noise,
        )
    )
    return RegistryReport(found)


def registry_rotate(folder: str | Path, statement: str | Path) -> RegistryReport:
    """Publishes a statement of new keys; what phones should get is published under them again.

        >>> import fedspeech as fs
        >>> old = fs.ota_keys("keys-before")
        >>> found = fs.registry("rotating", trust=old / "trust.json")
        >>> made = fs.ota_rotate("keys-after", "r.bundle", recovery=old / "recovery.pem",
        ...                      trust=old / "trust.json")
        >>> fs.registry_rotate("rotating", "r.bundle").registry.trust.epoch
        1

    Args:
      folder: of the registry.
      statement: what `ota_rotate` wrote.

    Raises:
      UpdateRefused: if phones would not take it.
    """
    from fedspeech.rollout.bundle import MAX_BUNDLE_BYTES
    from fedspeech.rollout.registry import Registry

    found = Registry.open(Path(folder))
    found.replace_keys(read_file(statement, MAX_BUNDLE_BYTES))
    return RegistryReport(found)


def registry_latest(
    folder: str | Path,
    out: str | Path,
    *,
    base: str | Path,
    have: str | None = None,
    epoch: int | None = None,
    model: str | None = None,
    most: str | None = None,
) -> Bundle | None:
    """Writes the bundle that a phone needs next: new keys, a difference, or a whole adapter.

        >>> import fedspeech as fs
        >>> keys, adapter = fs.ota_keys("keys-of-latest"), "runs/quick/export/adapter.safetensors"
        >>> found = fs.registry("handing-out", trust=keys / "trust.json")
        >>> found = fs.registry_publish("handing-out", adapter, model="kitchen",
        ...                             key=keys / "signing.pem", seeded_noise=True)
        >>> fs.registry_latest("handing-out", "d.bundle", base="runs/quick/base.safetensors")
        Bundle('kitchen', 0.1, whole)

    Args:
      folder: of the registry.
      out: where to; nothing is written where the phone has the newest.
      base: the phone's base, a file or its SHA-256.
      have: version in use on the phone, EPOCH.NUMBER; None: none.
      epoch: of the keys that the phone trusts; None: that of `have`.
      model: line of adapters; None: the only one of the base.
      most: version above which it gets none, EPOCH.NUMBER, for a phone that a roll-out has not
        come to; None: the newest.

    Returns:
      The bundle; None: the phone has the newest.

    Raises:
      RegistryDamaged: if a row or a bundle was changed.
      FedspeechError: if there is nothing for that base, or it has expired.
    """
    from fedspeech.rollout.registry import Registry
    from fedspeech.rollout.version import Version

    found = Registry.open(Path(folder))
    bundle = in_words(
        lambda: found.latest(
            _base_sha256(base),
            have=Version.parse(have) if have else None,
            epoch=epoch,
            model=model,
            most=Version.parse(most) if most else None,
            now_s=time.time(),
        )
    )
    return None if bundle is None else written(bundle, Path(out))


def _base_sha256(base: str | Path) -> str:
    """The hash that names a base, of its file or as it was given."""
    if len(str(base)) == 64 and not set(str(base)) - set("0123456789abcdef"):
        return str(base)
    from fedspeech.models.base import Base

    try:
        return Base.load(Path(base)).sha256
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{base} is no base, and no SHA-256 of one: {error}") from error
