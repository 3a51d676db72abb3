"""Which direction of a clip's spectrum tells speakers apart, learned from public speakers.

    space = SpeakerSpace.fit(frames, speakers)     # public clips, before phones are shipped
    space.place(frames)                            # (n, k), rows of length 1

Linear discriminant analysis (Fisher 1936; the form with a within-class covariance that is shrunk to
its mean, Ledoit and Wolf 2004, so that few clips suffice) over three statistics of a clip's log-mel
frames: mean and spread of its louder half, and mean change from frame to frame. The level is taken
out of the mean. The quiet frames are left out: they tell rooms and microphones apart, which the
voices of a household share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require

Frames: TypeAlias = NDArray[np.float32]
Places: TypeAlias = NDArray[np.float64]

_LOUD = 0.5
_PER_BAND = 3  # statistics
_SHRINKAGE = 0.1
_MOST_DIRECTIONS = 32


@dataclass(frozen=True, eq=False)
class SpeakerSpace:
    """A projection that ships with the base; it holds nothing of a phone's owner.

    Attributes:
      center: mean statistic of public clips, shape (d,).
      scale: its spread, shape (d,).
      directions: shape (d, k).
      threshold: cosine at or above which a clip counts as the owner's.
    """

    center: Places
    scale: Places
    directions: Places
    threshold: float

    @classmethod
    def fit(cls, frames: Frames, speakers: NDArray[np.int64], *, enrolled: int = 3) -> SpeakerSpace:
        """Learns directions and a threshold from clips of public speakers.

        The threshold is where as large a share of others passes as of owners is refused, on
        speakers who do not shape the directions: every third is left out while it is chosen.

        Args:
          frames: log-mel, shape (n, frames, mels).
          speakers: who speaks, shape (n,).
          enrolled: clips from which a voiceprint is made.

        Raises:
          ValueError: if fewer than six speakers have more clips than are enrolled.
        """
        several = [one for one in np.unique(speakers) if (speakers == one).sum() > enrolled]
        require(len(several) >= 6, "six speakers must have more clips than are enrolled",
                speakers=len(several), enrolled=enrolled)  # fmt: skip
        statistics = _statistics(frames)
        judging = np.isin(speakers, several[::3])
        trial = cls(*_discriminants(statistics[~judging], speakers[~judging]), 0.0)
        threshold = _threshold(trial.project(statistics[judging]), speakers[judging], enrolled)
        return cls(*_discriminants(statistics, speakers), threshold)

    def place(self, frames: Frames) -> Places:
        """Where clips (n, frames, mels) lie, shape (n, k), each of length 1.

        Raises:
          ValueError: if a frame is not finite or the shape is another one than was fit.
        """
        mels = len(self.center) // _PER_BAND
        good = frames.ndim == 3 and frames.shape[2] == mels and frames.shape[1] > 1
        require(good and bool(np.isfinite(frames).all()),
                f"expected finite frames (n, 2 or more, {mels})", shape=frames.shape)  # fmt: skip
        return self.project(_statistics(frames))

    def project(self, statistics: Places) -> Places:
        """Statistics (n, d) as places (n, k)."""
        return _unit(((statistics - self.center) / self.scale) @ self.directions)


def _statistics(frames: Frames) -> Places:
    """Of each clip, shape (n, 3 mels)."""
    order = np.argsort(frames.mean(axis=2), axis=1)
    ordered = np.take_along_axis(frames, order[..., np.newaxis], axis=1).astype(np.float64)
    count = frames.shape[1]
    loud = ordered[:, count - max(1, int(_LOUD * count)) :]
    change = np.abs(np.diff(frames.astype(np.float64), axis=1)).mean(axis=1)
    mean = loud.mean(axis=1)
    return np.concatenate(
        [mean - mean.mean(axis=1, keepdims=True), loud.std(axis=1), change], axis=1
    )


def _discriminants(
    statistics: Places, speakers: NDArray[np.int64]
) -> tuple[Places, Places, Places]:
    """Center, scale and directions in which speakers differ most against their own spread."""
    center, scale = statistics.mean(axis=0), statistics.std(axis=0) + 1e-6
    standard = (statistics - center) / scale
    names, index = np.unique(speakers, return_inverse=True)
    counts = np.bincount(index)
    means = np.zeros((len(names), standard.shape[1]))
    np.add.at(means, index, standard)
    means /= counts[:, np.newaxis]
    inner = standard - means[index]
    within = inner.T @ inner / max(len(standard) - len(names), 1)
    size = len(within)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.trace(within) / size * np.eye(size)
    root = np.linalg.cholesky(np.linalg.inv(within))
    _, vectors = np.linalg.eigh(root.T @ np.cov(means[counts > 1].T) @ root)
    keep = min(_MOST_DIRECTIONS, int((counts > 1).sum()) - 1)
    return center, scale, root @ vectors[:, ::-1][:, :keep]


def _threshold(places: Places, speakers: NDArray[np.int64], enrolled: int) -> float:
    """Where misses of owners and passes of others are equally frequent."""
    names = np.unique(speakers)
    rows = [np.flatnonzero(speakers == one) for one in names]
    prints = _unit(np.stack([places[own[:enrolled]].mean(axis=0) for own in rows]))
    asked = np.concatenate([own[enrolled:] for own in rows])
    cosines, owns = places[asked] @ prints.T, speakers[asked, np.newaxis] == names
    mine, others = np.sort(cosines[owns]), np.sort(cosines[~owns])
    missed = np.searchsorted(mine, others) / len(mine)
    passed = 1 - np.arange(len(others)) / len(others)
    return float(others[np.argmin(np.abs(missed - passed))])


def _unit(rows: Places) -> Places:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
