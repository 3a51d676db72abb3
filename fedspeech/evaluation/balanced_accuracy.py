"""How often a property of a speaker is guessed rightly, each value of it counting alike.

    balanced_accuracy_metric(scores, truth, speakers, rng=stream(1, "bootstrap"))

Plain accuracy of a property that most speakers share is high for whoever always says that value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.roc import RESAMPLES, draw, share_interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def balanced_accuracy_metric(
    scores: FloatArray, truth: IntArray, speakers: IntArray, rng: np.random.Generator
) -> Metric:
    """Mean over values of the share of trials of the value that were guessed rightly.

    Where several values share the highest score, each is guessed equally often. The interval is
    bootstrapped over speakers, drawn with all their trials within each value, so that no value is
    without a speaker.

    Args:
      scores: higher for the more likely value, shape (trials, values).
      truth: column of the true value, shape (trials,).
      speakers: who each trial is of, shape (trials,); a speaker has one value.
      rng: of the bootstrap.

    Raises:
      ValueError: if shapes do not fit, a score is not finite, a column is out of range, or fewer
        than two values occur.
    """
    fits = scores.ndim == 2 and truth.shape == speakers.shape == scores.shape[:1]
    if not fits or not np.isfinite(scores).all():
        raise ValueError(
            "expected finite scores (trials, values), a true value and a speaker of each trial, "
            f"got shapes {scores.shape}, {truth.shape} and {speakers.shape}"
        )
    values = np.unique(truth)
    if len(values) < 2 or values[0] < 0 or values[-1] >= scores.shape[1]:
        raise ValueError(f"expected at least two values below {scores.shape[1]}, got {values}")
    best = scores == scores.max(axis=1, keepdims=True)
    right = best[np.arange(len(truth)), truth] / best.sum(axis=1)
    found, drawn = [], []
    for value in values:
        hits, counts = _by_speaker(right[truth == value], speakers[truth == value])
        weights = np.stack([draw(len(hits), rng) for _ in range(RESAMPLES)])
        found.append(hits.sum() / counts.sum())
        drawn.append((weights @ hits) / (weights @ counts))
    return Metric(
        name="balanced accuracy",
        value=float(np.mean(found)),
        by_chance=1 / len(values),
        phones=len(np.unique(speakers)),
        counted=len(truth),
        interval=share_interval(np.mean(drawn, axis=0), len(np.unique(speakers))),
    )


def _by_speaker(right: FloatArray, speakers: IntArray) -> tuple[FloatArray, FloatArray]:
    """Right guesses and trials of each speaker, shape (speakers,) each."""
    owner = np.unique(speakers, return_inverse=True)[1]
    return _summed(owner, right), _summed(owner, np.ones(len(owner)))


def _summed(owner: IntArray, values: FloatArray) -> FloatArray:
    return np.asarray(np.bincount(owner, values), dtype=np.float64)
