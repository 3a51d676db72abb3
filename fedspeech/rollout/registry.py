"""What was published for phones, and what each is handed: an append-only chain beside bundles.

    registry = Registry.create(folder, trust)
    registry.publish(adapter, key, model="kitchen", expires_s=...)
    registry.latest(base_sha256, have=Version(0, 3), now_s=...)

Rows of `registry.jsonl`, a chain of `fedspeech.hash_chain`:

| kind | meaning |
|---|---|
| `opened` | the registry began: public keys of its publisher |
| `release` | an adapter was published: model, base, version, and its bundles with their hashes |
| `keys` | other keys are trusted from here on: epoch, and the signed statement |
| `recovered` | a line torn by a kill was found; it handed nothing out |

The registry needs no key to hand things out, and nobody has to trust it: a phone checks what it
gets. The chain shows its owner what was published and that no row was changed or cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspeech.errors import FedspeechError, RegistryDamaged
from fedspeech.files import write_whole
from fedspeech.hash_chain import Head, KeptChain, Row
from fedspeech.rollout.bundle import (
    make_update,
    read_adapter,
    read_new_keys,
    read_update,
)
from fedspeech.rollout.signing import PrivateKey, Trust
from fedspeech.rollout.version import Version

CHAIN_FILE = "registry.jsonl"
BUNDLES = "bundles"
PARENTS = 3
"""Versions before a new one from which it is also published as a difference."""
_WHOLE = "whole"


@dataclass(frozen=True)
class StoredBundle:
    """A file of the registry.

    Attributes:
      file: its name.
      sha256: hash of its content, hex.
      size_bytes: of its content.
    """

    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Release:
    """An adapter that was published.

    Attributes:
      model: line of adapters.
      base_sha256: hash of the base that it belongs to, hex.
      version: within model and base.
      content_sha256: hash of the adapter file, hex.
      bundles: "whole", or the version that a difference starts from, to the file.
    """

    model: str
    base_sha256: str
    version: Version
    content_sha256: str
    bundles: dict[str, StoredBundle]

    def to_row(self) -> Row:
        """Its row."""
        return {"kind": "release", **dataclasses.asdict(self), "version": str(self.version)}

    @classmethod
    def of_row(cls, row: Row) -> Release:
        """Inverts `to_row`."""
        bundles = {name: StoredBundle(**stored) for name, stored in row["bundles"].items()}
        version = Version.parse(row["version"])
        return cls(
            model=row["model"], base_sha256=row["base_sha256"], version=version,
            content_sha256=row["content_sha256"], bundles=bundles,
        )  # fmt: skip


class Registry:
    """A registry's folder. Use `create` once, then `open`.

    Attributes:
      folder: where it is.
      trusts: keys of the publisher, from the first on.
      releases: in the order of publication.
    """

    def __init__(self, folder: Path) -> None:
        """Prepares an empty one."""
        self.folder = folder
        self.trusts: list[Trust] = []
        self.releases: list[Release] = []
        self._statements: dict[int, StoredBundle] = {}  # by the epoch that begins with it
        self._chain = KeptChain(
            folder / CHAIN_FILE,
            self._take,
            RegistryDamaged,
            "nothing is handed out until somebody has looked",
        )

    @classmethod
    def create(cls, folder: Path, trust: Trust) -> Registry:
        """Begins a registry for a publisher's keys.

        Raises:
          FedspeechError: if there is one.
        """
        (folder / BUNDLES).mkdir(parents=True, exist_ok=True)
        found = cls(folder)
        with found._chain.opened() as file:
            if found.trusts:
                raise FedspeechError(f"{folder} is a registry already")
            found._chain.add(file, {"kind": "opened", **dataclasses.asdict(trust)})
        return found

    @classmethod
    def open(cls, folder: Path) -> Registry:
        """Reads a registry.

        Raises:
          FedspeechError: if there is none.
          RegistryDamaged: if a row was changed or cut.
        """
        found = cls(folder)
        found._chain.take_all("registry", lambda: bool(found.trusts), "opened: create it again")
        return found

    @property
    def trust(self) -> Trust:
        """The publisher's keys now."""
        return self.trusts[-1]

    @property
    def head(self) -> Head | None:
        """The last row of the chain."""
        return self._chain.head

    def publish(self, adapter: bytes, key: PrivateKey, *, expires_s: int, **what: Any) -> Release:
        """Signs an adapter for every phone, whole and as differences to the last versions.

        Args:
          adapter: content of an exported adapter file.
          key: the signing key of the present epoch.
          expires_s: Unix time after which no phone takes it.
          what: `model` and `seeded_noise` of `bundle.make_update`.

        Raises:
          FedspeechError: if it is another key, or the adapter must not travel.
          ValueError: if the file is no such adapter.
        """
        base_sha256 = read_adapter(adapter).base_sha256
        with self._chain.opened() as file:
            if key.public != self.trust.signing:
                raise FedspeechError(
                    f"this registry is signed by {self.trust.signing[:12]}... since epoch "
                    f"{self.trust.epoch}, got the key {key.public[:12]}..."
                )
            before = self.line(base_sha256, what["model"])
            version = Version(self.trust.epoch, 1)
            if before and before[-1].version.epoch == version.epoch:
                version = Version(version.epoch, before[-1].version.number + 1)
            stem = f"{what['model']}-{base_sha256[:12]}-{version}"
            parents = {f"{one.version}": self.content(one) for one in before[-PARENTS:]}
            made = {
                name: make_update(
                    adapter, key, version=version, expires_s=expires_s, parent=parent, **what
                )
                for name, parent in {_WHOLE: None, **parents}.items()
            }
            whole = made[_WHOLE]
            bundles = {
                name: self._store(f"{stem}-{name if name == _WHOLE else f'from-{name}'}", content)
                for name, content in made.items()
                if name == _WHOLE or len(content) < len(whole)
            }
            release = Release(
                model=what["model"],
                base_sha256=base_sha256,
                version=version,
                content_sha256=read_update(whole, self.trust)[0].content_sha256,
                bundles=bundles,
            )
            self._chain.add(file, release.to_row())
        return release

    def replace_keys(self, statement: bytes) -> Trust:
        """Publishes that other keys are trusted from now on; adapters are to be published again.

        Args:
          statement: of new keys, signed by the recovery key that phones trust so far.

        Raises:
          UpdateRefused: if phones would not accept it.
        """
        with self._chain.opened() as file:
            trust = read_new_keys(statement, self.trust)
            stored = self._store(f"keys-{trust.epoch}", statement)
            row = {
                "kind": "keys",
                **dataclasses.asdict(trust),
                "bundle": dataclasses.asdict(stored),
            }
            self._chain.add(file, row)
        return trust

    def line(self, base_sha256: str, model: str | None = None) -> list[Release]:
        """What was published for a base, first to last.

        Raises:
          FedspeechError: if there are several models for it and none is named.
        """
        found = [one for one in self.releases if one.base_sha256 == base_sha256]
        if model is None and len({one.model for one in found}) > 1:
            raise FedspeechError(
                f"{self.folder} has {', '.join(sorted({one.model for one in found}))} for this "
                "base: name one"
            )
        return [one for one in found if model in (None, one.model)]

    def line_of(self, model: str, base_sha256: str | None = None) -> list[Release]:
        """What was published of a model, first to last.

        Raises:
          FedspeechError: if there is nothing, or there are several bases and none is named.
        """
        bases = {one.base_sha256 for one in self.releases if one.model == model}
        if base_sha256 is None and len(bases) == 1:
            base_sha256 = min(bases)
        if base_sha256 is None and bases:
            raise FedspeechError(
                f"{self.folder} has {model} for {len(bases)} bases: name one of "
                f"{', '.join(sorted(bases))}"
            )
        if not (line := self.line(base_sha256 or "", model)):
            raise FedspeechError(f"{self.folder} has published nothing for {model} of that base")
        return line

    def latest(
        self,
        base_sha256: str,
        *,
        have: Version | None,
        now_s: float,
        epoch: int | None = None,
        model: str | None = None,
        most: Version | None = None,
    ) -> bytes | None:
        """The bundle that a phone needs next: new keys, the difference to what it has or the whole.

        Args:
          base_sha256: hash of the phone's base, hex.
          have: version of the adapter in use; None: it has none of these.
          now_s: Unix time.
          epoch: of the keys that the phone trusts; None: that of `have`, else the present one.
          model: line of adapters; None: the only one for the base.
          most: version above which a phone gets none, for those that a roll-out has not come to.

        Returns:
          The bundle; None: the phone has the newest.

        Raises:
          FedspeechError: if nothing was published for the base, the newest has expired, or the
            phone is ahead of this registry.
          RegistryDamaged: if a bundle is not the one that was published.
        """
        line = [one for one in self.line(base_sha256, model) if most is None or one.version <= most]
        if not line:
            raise FedspeechError(
                f"{self.folder} has published nothing for {model or 'any model'} of the base "
                f"{base_sha256[:12]}..." + (f" up to {most}" if most else "")
            )
        if epoch is None:
            epoch = self.trust.epoch if have is None else have.epoch
        for later in sorted(self._statements):
            # In order: a statement is signed by the recovery key of the epoch before.
            if epoch < later:
                return self._read(self._statements[later])
        newest = line[-1]
        if newest.version.epoch != self.trust.epoch:
            raise FedspeechError(
                f"{newest.model} was not published under the keys of epoch {self.trust.epoch} yet"
            )
        if have == newest.version:
            return None
        if have is not None and have > newest.version:
            raise FedspeechError(
                f"a phone has version {have}, and the newest here is {newest.version}: rows of "
                "this registry are missing"
            )
        stored = newest.bundles.get(str(have)) or newest.bundles[_WHOLE]
        bundle = self._read(stored)
        expires_s = read_update(bundle, self.trust)[0].expires_s
        if now_s > expires_s:
            raise FedspeechError(
                f"version {newest.version} of {newest.model} has expired: publish it again"
            )
        return bundle

    def _take(self, row: Row) -> None:
        match row["kind"]:
            case "opened":
                self.trusts = [_trust(row)]
            case "keys":
                self.trusts.append(_trust(row))
                self._statements[row["epoch"]] = StoredBundle(**row["bundle"])
            case "release":
                self.releases.append(Release.of_row(row))
            case "recovered":
                pass
            case kind:
                raise RegistryDamaged(f"{self.folder} has a row of the unknown kind {kind!r}")

    def content(self, release: Release) -> bytes:
        """The adapter file of a release, from its whole bundle.

        Raises:
          RegistryDamaged: if the bundle is not the one that was published.
        """
        bundle = self._read(release.bundles[_WHOLE])
        trust = next(one for one in self.trusts if one.epoch == release.version.epoch)
        update, payload = read_update(bundle, trust)
        return update.unpack(payload, {})

    def _store(self, stem: str, content: bytes) -> StoredBundle:
        file = f"{stem}.bundle"
        write_whole(self.folder / BUNDLES / file, content)
        return StoredBundle(file, hashlib.sha256(content).hexdigest(), len(content))

    def _read(self, stored: StoredBundle) -> bytes:
        file = self.folder / BUNDLES / Path(stored.file).name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise RegistryDamaged(f"a published bundle is gone: {error}") from error
        if hashlib.sha256(content).hexdigest() != stored.sha256:
            raise RegistryDamaged(f"{file} is not the bundle that was published")
        return content


def _trust(row: Row) -> Trust:
    return Trust(row["epoch"], row["signing"], row["recovery"])
