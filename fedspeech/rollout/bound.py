"""Which version is rolled out and which one it replaces: by content, not by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from fedspeech.errors import RolloutRefused
from fedspeech.rollout.adapter_file import AdapterFile
from fedspeech.rollout.checked_json import canonical_json
from fedspeech.rollout.version import Version


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A version of an adapter, by content.

    Attributes:
      model: line of adapters.
      version: in that line.
      base_sha256: of the base, hex.
      adapter_sha256: of the adapter file, hex.
      parameters_sha256: of its values, float32, as a federated evaluation names an adapter; hex.
      card_sha256: of its card, hex.
      metrics_sha256: of the metrics in the card, hex.
    """

    model: str
    version: str
    base_sha256: str
    adapter_sha256: str
    parameters_sha256: str
    card_sha256: str
    metrics_sha256: str

    @classmethod
    def of(cls, model: str, version: Version, content: bytes) -> Bound:
        """What an adapter file is, as it was published.

        Raises:
          ValueError: if it is no adapter file.
        """
        found = AdapterFile.from_bytes(content)
        metrics = canonical_json({"metrics": found.card["metrics"]})
        return cls(
            model=model,
            version=str(version),
            base_sha256=found.base_sha256,
            adapter_sha256=_sha256(content),
            parameters_sha256=_sha256(np.ascontiguousarray(found.adapter, "<f4").tobytes()),
            card_sha256=_sha256(found.card_text.encode()),
            metrics_sha256=_sha256(metrics),
        )


def require_pair(release: Bound, control: Bound | None) -> None:
    """Refuses two versions between which no phone could change.

    Raises:
      RolloutRefused: if they are of other bases or models, or the new one is not above the old one.
    """
    if control is None:
        return
    for name in ("model", "base_sha256"):
        if getattr(release, name) != getattr(control, name):
            raise RolloutRefused(
                f"new and old version must be of one {name}, got {getattr(release, name)} and "
                f"{getattr(control, name)}"
            )
    if Version.parse(release.version) <= Version.parse(control.version):
        raise RolloutRefused(
            f"the new version must be above the old one, got {release.version} and "
            f"{control.version}"
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
