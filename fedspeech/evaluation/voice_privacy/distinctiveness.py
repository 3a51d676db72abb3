"""Can voices still be told apart, and from whom they were? Similarity matrices of speakers.

    similarity = voice_similarity(ratios, speakers, speakers)
    d_diag(similarity)                        # 0: no voice differs from another
    gain_of_distinctiveness(original, anonymized)  # dB; 0: as distinct as before
    de_identification(original, crossed)      # 1: nothing links a voice to its original

Noe et al. 2020 (Interspeech, arXiv:2008.04962), "Speech pseudonymisation assessment using voice
similarity matrices".
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fedspeech.errors import require
from fedspeech.evaluation.voice_privacy.fields import codes

FloatArray = NDArray[np.float64]


def voice_similarity(ratios: FloatArray, speakers: Sequence[Hashable]) -> FloatArray:
    """The sigmoid of mean log-likelihood ratios, by speaker, shape (speakers, speakers).

    An utterance against itself, or against its own other version, does not count: it would be
    recognized by its recording.

    Args:
      ratios: of utterance i and utterance j, natural logarithm, shape (n, n).
      speakers: of each utterance; at least two speakers with two utterances each.

    Raises:
      ValueError: if shapes do not fit, a ratio is not finite, or speakers are too few.
    """
    size = len(speakers)
    require(ratios.shape == (size, size), "ratios must be of every two utterances",
            ratios=ratios.shape, speakers=size)  # fmt: skip
    require(bool(np.isfinite(ratios).all()), "ratios must be finite", shape=ratios.shape)
    owner = codes(speakers)
    member = (owner == np.arange(owner.max(initial=0) + 1)[:, None]).astype(np.float64)
    require(len(member) > 1 and member.sum(axis=1).min() > 1,
            "expected two speakers or more, of two utterances or more each",
            speakers=len(member))  # fmt: skip
    others = ~np.eye(size, dtype=bool)
    sums = member @ np.where(others, ratios, 0.0) @ member.T
    return np.asarray(expit(sums / (member @ others @ member.T)))


def d_diag(similarity: FloatArray, weights: FloatArray | None = None) -> float:
    """How far the diagonal stands out: |mean of it - mean of the rest|, 0 to 1 (Equation 3).

    Args:
      similarity: shape (speakers, speakers).
      weights: how often each speaker counts; None: once.

    Returns:
      NaN where fewer than two speakers count.
    """
    weights = np.ones(len(similarity)) if weights is None else weights
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0.0)  # copies of a speaker are no other speaker
    if not pairs.sum():
        return float("nan")
    own = weights @ np.diag(similarity) / weights.sum()
    return float(abs(own - (pairs * similarity).sum() / pairs.sum()))


def gain_of_distinctiveness(
    original: FloatArray, anonymized: FloatArray, weights: FloatArray | None = None
) -> float:
    """G_VD in dB: 10 log10 of `d_diag` after over before (Equation 4); below 0: voices merge.

    -100 dB and no less where nothing stands out any more.
    """
    before, after = d_diag(original, weights), d_diag(anonymized, weights)
    return float(10 * np.log10(max(after, 1e-10 * before) / before)) if before else float("nan")


def de_identification(
    original: FloatArray, crossed: FloatArray, weights: FloatArray | None = None
) -> float:
    """DeID: 1 - `d_diag` of originals against anonymized over that of originals (Equation 2).

    1: full; 0: as linked as before; below 0: more.
    """
    before = d_diag(original, weights)
    return float(1 - d_diag(crossed, weights) / before) if before else float("nan")
