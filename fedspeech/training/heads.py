"""A head behind a frozen encoder, fit on public speakers in closed form.

    features = PublicFeatures(pooled, labels, speakers, synthetic)     # (n, 2 f): mean and maximum
    fitted = fit_head(features, num_labels=11, seed=0)
    Base(encoder=..., pooling=fitted.pooling, head_weight=fitted.weight, ...)

With z the standardized features, S their second moment and r the regularization, the head is the
ridge regression W = E[y z'] (S + r I)^-1 of `ridge.target_scores`, and the projection
h = (S + r I)^(-1/2) z. So the head on h is E[y h'], and every direction of h has a variance of at
most 1: one learning rate, one clip norm, one noise and one pull fit all of them.

Every label weighs alike but unknown and silence, and within a label synthetic clips and recorded
ones have fixed shares however many there are. The regularization is chosen by cross-validation over
speakers: over clips it would be chosen for voices that were heard. Synthetic speakers are in every
fold's training data, and judge only where nobody is recorded.

Everything here is public: constants of it that reached phones from private clips would be in no
epsilon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.limits import Count, Positive, Share, check_limits
from fedspeech.models.pooling import Pooling
from fedspeech.seeds import stream
from fedspeech.training.ridge import target_scores

Matrix = NDArray[np.float64]

REGULARIZATIONS = (0.1, 0.3, 1.0, 3.0)
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class LabelWeights:
    """What labels and kinds of clips weigh in the fit; a target word weighs 1.

    Attributes:
      unknown: weight of unknown.
      silence: weight of silence.
      synthetic: share of synthetic clips in a label that also has recorded ones.

    Raises:
      ValueError: if a value is outside its range.
    """

    unknown: Positive = 1.5
    silence: Positive = 1.0
    synthetic: Share = 0.4

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)


@dataclass(frozen=True, eq=False)
class PublicFeatures:
    """Pooled features of public speakers. Printing them shows the shape only.

    Attributes:
      pooled: shape (n, f), before any projection.
      labels: shape (n,): target words, unknown, silence.
      speakers: of each clip.
      synthetic: shape (n,), whether the clip is synthesized.

    Raises:
      ValueError: if there are not as many of each, or a feature is not finite.
    """

    pooled: Matrix
    labels: NDArray[np.int64]
    speakers: Sequence[str]
    synthetic: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Checks lengths and values."""
        counts = {len(self.pooled), len(self.labels), len(self.speakers), len(self.synthetic)}
        if len(counts) != 1 or not len(self.pooled):
            raise ValueError(f"expected as many features, labels, speakers and kinds, got {counts}")
        if not np.isfinite(self.pooled).all():
            raise ValueError("features must be finite, got NaN or infinity")

    def __repr__(self) -> str:
        """Shows the shape only."""
        return f"PublicFeatures(shape={self.pooled.shape})"

    def take(self, rows: NDArray[np.int64]) -> PublicFeatures:
        """The clips at these rows."""
        speakers = [self.speakers[row] for row in rows]
        return PublicFeatures(self.pooled[rows], self.labels[rows], speakers, self.synthetic[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """A head with its projection.

    Attributes:
      weight: shape (c, f).
      bias: shape (c,).
      pooling: standardizes and whitens.
      regularization: the one chosen.
      held_out_words_right: share of target words right among target words, mean over public
        speakers on whom the head was not fit; NaN if nobody said one.
      held_out_right: share of clips right, unknown and silence counted, over the same speakers.
      half_words_right: as the first, of heads fit on half as many speakers: what more speakers are
        worth; NaN if there are fewer than four.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    pooling: Pooling
    regularization: float
    held_out_words_right: float
    held_out_right: float
    half_words_right: float


@dataclass(frozen=True, eq=False)
class _Moments:
    """Weighted moments of features and scores, from which any regularization's head follows.

    Attributes:
      mean: shape (f,).
      deviation: shape (f,).
      values: eigenvalues of the second moment of standardized features, shape (f,).
      vectors: its eigenvectors, shape (f, f).
      cross: E[z (y - mean y)'], shape (f, c).
      bias: mean of y, shape (c,).
    """

    mean: Matrix
    deviation: Matrix
    values: Matrix
    vectors: Matrix
    cross: Matrix
    bias: Matrix

    @classmethod
    def of(cls, features: PublicFeatures, num_labels: int, weights: LabelWeights) -> _Moments:
        """Computes the moments; the weights of all clips sum to 1."""
        clip = clip_weights(features, num_labels, weights)
        mean = clip @ features.pooled
        deviation = np.sqrt(clip @ (features.pooled - mean) ** 2)
        # A feature that never moves stays 0 whatever it is divided by.
        deviation = np.where(deviation > 0, deviation, 1.0)
        rows = (features.pooled - mean) / deviation
        values, vectors = np.linalg.eigh((rows * clip[:, np.newaxis]).T @ rows)
        scores = target_scores(features.labels, num_labels)
        bias = clip @ scores
        cross = (rows * clip[:, np.newaxis]).T @ (scores - bias)
        return cls(mean, deviation, np.maximum(values, 0), vectors, cross, bias)

    def whitening(self, regularization: float) -> Matrix:
        """(S + r I)^(-1/2), symmetric, (f, f)."""
        return (self.vectors / np.sqrt(self.values + regularization)) @ self.vectors.T

    def scores(self, pooled: Matrix, regularization: float) -> Matrix:
        """Scores of clips (n, f) by the head with one regularization, (n, c)."""
        inverse = (self.vectors / (self.values + regularization)) @ self.vectors.T
        scored: Matrix = ((pooled - self.mean) / self.deviation) @ (inverse @ self.cross)
        return scored + self.bias


def clip_weights(features: PublicFeatures, num_labels: int, weights: LabelWeights) -> Matrix:
    """What each clip weighs, shape (n,), in sum 1; a label without clips weighs nothing."""
    of_label = np.ones(num_labels)
    of_label[-NUM_NEGATIVE_LABELS:] = weights.unknown, weights.silence
    found = np.zeros(len(features.labels))
    for label in range(num_labels):
        kinds = [
            (features.labels == label) & (features.synthetic == synthetic)
            for synthetic in (True, False)
        ]
        both = all(kind.any() for kind in kinds)
        for kind, share in zip(kinds, (weights.synthetic, 1 - weights.synthetic), strict=True):
            found[kind] = of_label[label] * (share if both else 1.0) / max(kind.sum(), 1)
    weights_of_clips: Matrix = found / found.sum()
    return weights_of_clips


def fit_head(
    features: PublicFeatures,
    num_labels: int,
    *,
    seed: int,
    weights: LabelWeights | None = None,
    regularizations: Sequence[float] = REGULARIZATIONS,
    folds: Count = FOLDS,
) -> FittedHead:
    """Fits head and projection; the regularization has the least squared error across speakers.

    Raises:
      ValueError: if a label is outside its range, a target word has no clip, or there are fewer
        than two speakers.
    """
    weights = weights or LabelWeights()
    _check(features, num_labels, folds)
    held_out = list(_folds(features, folds, seed))
    losses = np.zeros(len(regularizations))
    for training, judged in held_out:
        moments = _Moments.of(features.take(training), num_labels, weights)
        part = features.take(judged)
        clip = clip_weights(part, num_labels, weights)
        losses += [
            clip @ _squared_error(moments.scores(part.pooled, value), part.labels)
            for value in regularizations
        ]
    chosen = float(regularizations[int(losses.argmin())])
    words, right = _judged(features, held_out, num_labels, weights, chosen)
    moments = _Moments.of(features, num_labels, weights)
    whitening = moments.whitening(chosen)
    return FittedHead(
        weight=(whitening @ moments.cross).T.astype(np.float32),
        bias=moments.bias.astype(np.float32),
        pooling=Pooling(
            mean=moments.mean.astype(np.float32),
            matrix=(whitening / moments.deviation[:, np.newaxis]).astype(np.float32),
        ),
        regularization=chosen,
        held_out_words_right=words,
        held_out_right=right,
        half_words_right=_half(features, held_out, num_labels, weights, chosen),
    )


Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def _check(features: PublicFeatures, num_labels: int, folds: int) -> None:
    """Refuses what cannot be fit; see `fit_head`."""
    if not 0 <= features.labels.min() <= features.labels.max() < num_labels:
        raise ValueError(f"labels must be in 0 to {num_labels - 1}, got {features.labels.max()}")
    missing = set(range(num_labels - NUM_NEGATIVE_LABELS)) - set(features.labels.tolist())
    if missing:
        raise ValueError(
            f"every target word needs a clip of a public speaker, label {min(missing)} has none"
        )
    if folds < 2 or len(set(features.speakers)) < 2:
        raise ValueError(
            "cross-validation over speakers needs two speakers and two folds, got "
            f"{len(set(features.speakers))} and folds={folds}"
        )


def _folds(features: PublicFeatures, count: int, seed: int) -> Iterator[Fold]:
    """Training rows and judged rows of each part of the speakers; see the module."""
    recorded = {
        name for name, made in zip(features.speakers, features.synthetic, strict=True) if not made
    }
    dealt = sorted(recorded) if len(recorded) > 1 else sorted(set(features.speakers))
    stream(seed, "folds of public speakers").shuffle(dealt)
    count = min(count, len(dealt))
    place = {name: index % count for index, name in enumerate(dealt)}
    places = np.array([place.get(name, -1) for name in features.speakers])
    for fold in range(count):
        yield np.flatnonzero(places != fold), np.flatnonzero(places == fold)


def _judged(
    features: PublicFeatures,
    folds: Sequence[Fold],
    num_labels: int,
    weights: LabelWeights,
    regularization: float,
) -> tuple[float, float]:
    """Share right among target words, and of all labels; each speaker counts once."""
    words: dict[str, list[bool]] = {}
    right: dict[str, list[bool]] = {}
    targets = num_labels - NUM_NEGATIVE_LABELS
    for training, judged in folds:
        part = features.take(judged)
        moments = _Moments.of(features.take(training), num_labels, weights)
        scores = moments.scores(part.pooled, regularization)
        for speaker, label, row in zip(part.speakers, part.labels, scores, strict=True):
            right.setdefault(speaker, []).append(bool(row.argmax() == label))
            if label < targets:
                words.setdefault(speaker, []).append(bool(row[:targets].argmax() == label))
    return _mean(words), _mean(right)


def _mean(by_speaker: dict[str, list[bool]]) -> float:
    """Mean over speakers of their shares."""
    return (
        float(np.mean([np.mean(found) for found in by_speaker.values()]))
        if by_speaker
        else (float("nan"))
    )


def _half(
    features: PublicFeatures,
    folds: Sequence[Fold],
    num_labels: int,
    weights: LabelWeights,
    regularization: float,
) -> float:
    """Target words right by heads fit on every other training speaker of each fold."""
    if len(folds) < 4:
        return float("nan")
    halved = []
    for training, judged in folds:
        names = sorted({features.speakers[row] for row in training})
        kept = set(names[::2])
        rows = np.array([row for row in training if features.speakers[row] in kept])
        if not set(range(num_labels - NUM_NEGATIVE_LABELS)) <= set(features.labels[rows].tolist()):
            return float("nan")
        halved.append((rows, judged))
    return _judged(features, halved, num_labels, weights, regularization)[0]


def _squared_error(scores: Matrix, labels: NDArray[np.int64]) -> Matrix:
    """Squared distance of each clip's scores from those to aim at, shape (n,)."""
    errors: Matrix = ((scores - target_scores(labels, scores.shape[1])) ** 2).sum(axis=1)
    return errors
