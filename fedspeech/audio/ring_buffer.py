"""The last seconds that a microphone heard, in memory alone, overwritten as it goes on.

heard = RingBuffer(seconds=4.0, rate_hz=16_000)
heard.write(block)                 # int16, as it comes from the microphone
heard.last(1.0)                    # a copy of the last second
heard.since(position)              # a copy of what came after that sample
heard.clear()
"""

from __future__ import annotations

from typing import Never

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require

Samples = NDArray[np.int16]


class RingBuffer:
    """A fixed number of seconds. It has no way to disk: it refuses to be pickled or copied."""

    def __init__(self, *, seconds: float, rate_hz: int) -> None:
        """Takes its memory, once.

        Raises:
          ValueError: if it would hold no sample, or more than a minute.
        """
        require(0 < seconds <= 60, "seconds must be in (0, 60]", seconds=seconds)
        require(rate_hz * seconds >= 1, "a buffer must hold a sample", rate_hz=rate_hz)
        self.rate_hz = rate_hz
        self._samples: Samples = np.zeros(round(seconds * rate_hz), dtype=np.int16)
        self._written = self._cleared = 0

    @property
    def written(self) -> int:
        """Samples that were ever written: the position behind the newest one."""
        return self._written

    @property
    def capacity(self) -> int:
        """Samples that fit."""
        return len(self._samples)

    def __len__(self) -> int:
        """Samples that are held."""
        return min(self._written - self._cleared, len(self._samples))

    def __repr__(self) -> str:
        return f"RingBuffer({len(self)} of {len(self._samples)} samples)"

    def __reduce__(self) -> Never:
        raise TypeError("raw audio stays in memory: a ring buffer is neither pickled nor copied")

    def write(self, block: Samples) -> None:
        """Takes the next samples, shape (n,); the oldest ones are overwritten.

        Raises:
          ValueError: if they are not int16 in one row.
        """
        right = block.dtype == np.int16 and block.ndim == 1
        require(right, "a block must be int16 of one dimension", dtype=block.dtype.name)
        skipped = max(0, len(block) - len(self._samples))
        block, self._written = block[skipped:], self._written + skipped
        place = self._written % len(self._samples)
        first = min(len(block), len(self._samples) - place)
        self._samples[place : place + first] = block[:first]
        self._samples[: len(block) - first] = block[first:]
        self._written += len(block)

    def last(self, seconds: float) -> Samples:
        """A copy of the last seconds, oldest sample first, shape (n,); its owner clears it.

        Raises:
          ValueError: if fewer are held.
        """
        wanted = round(seconds * self.rate_hz)
        held = len(self) / self.rate_hz
        require(0 < wanted <= len(self), f"seconds must be in (0, {held:g}]", seconds=seconds)
        return self.since(self._written - wanted)

    def since(self, position: int) -> Samples:
        """A copy of the samples from a position on, oldest first, shape (n,); its owner clears it.

        Args:
          position: counted like `written`.

        Raises:
          ValueError: if the sample there is overwritten, or was never written.
        """
        oldest = self._written - len(self)
        rule = f"position must be in [{oldest}, {self._written}]"
        require(oldest <= position <= self._written, rule, position=position)
        places = np.arange(position, self._written) % len(self._samples)
        return self._samples[places]

    def clear(self) -> None:
        """Overwrites everything with zeros; positions go on from there."""
        self._samples[:] = 0
        self._cleared = self._written
