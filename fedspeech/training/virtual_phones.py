"""Phones as recipes: what a phone holds follows from its number, and exists when it is called.

A population of millions cannot be spoken in advance, nor can a cohort of ten thousand be spoken in
a round. So a pool of voices is spoken once, with more clips than a phone holds, and each phone is
one of these voices with a random part of its clips. Phones that share a voice are different phones
to the simulation, with different clips; they are not different people. What such a run promises, it
promises to a phone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.seeds import stream


@dataclass(frozen=True, kw_only=True)
class VirtualPhones:
    """How phones are drawn from voices: `share` of a voice's clips are on one phone.

    Raises:
      ValueError: if the share is out of range.
    """

    seed: int
    share: float

    def __post_init__(self) -> None:
        """Checks the share."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got share={self.share}")

    def clips(self, phone: int, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns which clips of the pool a phone holds, in the pool's order.

        Voice v speaks clips offsets[v] to offsets[v + 1]; shape (voices + 1,).
        """
        rng = self._drawn(phone)
        voice = rng.integers(len(offsets) - 1)
        spoken = np.arange(offsets[voice], offsets[voice + 1])
        return np.sort(rng.choice(spoken, round(self.share * len(spoken)), replace=False))

    def voice(self, phone: int, voices: int) -> int:
        """Returns which of so many voices speaks to a phone."""
        return int(self._drawn(phone).integers(voices))

    def _drawn(self, phone: int) -> np.random.Generator:
        return stream(self.seed, "phone", phone)
