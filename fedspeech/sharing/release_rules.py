"""Rules about what several tables and releases tell together."""

from __future__ import annotations

from fedspeech.sharing.cells import Cell, Release, cells_of, isolated
from fedspeech.sharing.finding import Candidate, Found


def differencing(shared: Candidate) -> Found:
    """No group of fewer than `k_min` people follows from this and what was given away before."""
    earlier = [
        cells for sha256, cells in shared.policy.released
        if shared.manifest is None or sha256 != shared.manifest.sha256
    ]  # fmt: skip
    yield from isolated(earlier, counted(shared), shared.policy.k_min)


def counted(shared: Candidate) -> list[Release]:
    """Numbers of people that a file gives away, those behind figures without noise among them."""
    found = cells_of(shared.artifact)
    said = shared.manifest
    if said is not None and (said.claim is None or said.claim.epsilon is None):
        behind = Cell(frozenset((("contributors", "all"),)), said.contributors, "manifest")
        found.append((behind,))
    return found
