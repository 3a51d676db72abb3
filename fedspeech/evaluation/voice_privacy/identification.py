"""Whose is it of so many: linking, singling out, ranks of repeated tests, retrieval.

    named = Named(scores, probes=("ann", "bo"), candidates=("ann", "bo", "cy"))
    named.linked(), named.ranks(), named.average_precision()

Scores have shape (probes, candidates) and are higher where the attack is surer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from fedspeech.errors import require
from fedspeech.evaluation.voice_privacy.fields import codes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

TESTS = 100
UTTERANCES = 45


@dataclass(frozen=True, eq=False)
class Named:
    """Scores of probes against candidates, and whose each is.

    Attributes:
      scores: shape (probes, candidates).
      probes: speaker of each probe.
      candidates: speaker of each candidate; one speaker may have several.

    Raises:
      ValueError: if shapes do not fit, a score is not finite, or a probe's speaker is nobody of the
        candidates or all of them.
    """

    scores: FloatArray
    probes: Sequence[Hashable]
    candidates: Sequence[Hashable]

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        shape = (len(self.probes), len(self.candidates))
        if self.scores.shape != shape or not np.isfinite(self.scores).all():
            raise ValueError(f"scores must be finite, of shape {shape}, got {self.scores.shape}")
        mine = self.truth.sum(axis=1)
        lost = np.flatnonzero((mine == 0) | (mine == shape[1]))
        require(
            not lost.size,
            "every probe needs a candidate of its speaker and one of another",
            probe=int(lost[0]) if lost.size else None,
        )

    @cached_property
    def truth(self) -> BoolArray:
        """Whether a candidate is of the probe's speaker, shape (probes, candidates)."""
        order = list(dict.fromkeys([*self.probes, *self.candidates]))
        probes, candidates = codes(self.probes, order), codes(self.candidates, order)
        return np.asarray(probes[:, None] == candidates)

    @cached_property
    def beaters(self) -> tuple[FloatArray, FloatArray]:
        """Other candidates above the best of the probe's own, and level with it; (probes,) each."""
        mine = np.where(self.truth, self.scores, -np.inf).max(axis=1)[:, None]
        above = ((self.scores > mine) & ~self.truth).sum(axis=1)
        level = ((self.scores == mine) & ~self.truth).sum(axis=1)
        return above.astype(np.float64), level.astype(np.float64)

    def ranks(self) -> FloatArray:
        """Rank of the best own candidate among itself and those of others, from 1, ties halved."""
        above, level = self.beaters
        return np.asarray(1 + above + level / 2)

    def linked(self, candidates: int | None = None) -> FloatArray:
        """Probability that each probe is linked to its speaker among so many candidates.

        The own one must be above all others (Vauquier et al. 2025, Interspeech, "Legally validated
        evaluation framework for voice anonymization"; linkability of Opinion 05/2014 of the Article
        29 Working Party). Over every draw of `candidates - 1` of the others without replacement,
        exactly. Ties are shared: each of those level with the own one is as likely to be named.
        The authors give a tie to the attacker, who then wins wherever all scores are equal.

        Raises:
          ValueError: if there are fewer candidates.
        """
        above, level = self.beaters
        others = (~self.truth).sum(axis=1)
        if candidates is None or candidates - 1 == int(others.min()) == int(others.max()):
            return np.asarray((above == 0) / (1 + level))
        require(2 <= candidates <= int(others.min()) + 1, "candidates must be 2 to those there are",
                candidates=candidates, there=int(others.min()) + 1)  # fmt: skip
        drawn = candidates - 1
        found = np.zeros(len(above))
        for row, (beat, ties, pool) in enumerate(zip(above, level, others, strict=True)):
            for kept in range(min(int(ties), drawn) + 1):
                ways = (_log_choose(ties, kept) + _log_choose(pool - beat - ties, drawn - kept)
                        - _log_choose(pool, drawn))  # fmt: skip
                found[row] += np.exp(ways) / (1 + kept)
        return found

    def average_precision(self) -> FloatArray:
        """Average precision of each probe's list of candidates, best first, shape (probes,).

        Candidates with equal scores stand on one place: precision there counts all of them.
        """
        found = np.zeros(len(self.scores))
        for row, (scores, mine) in enumerate(zip(self.scores, self.truth, strict=True)):
            order = np.argsort(-scores, kind="stable")
            last = np.append(np.diff(scores[order]) != 0, True)
            hits = np.cumsum(mine[order])[last]
            precision = hits / (np.flatnonzero(last) + 1)
            found[row] = float((np.diff(hits, prepend=0) * precision).sum() / hits[-1])
        return found


def _log_choose(total: float, chosen: float) -> float:
    if chosen > total:
        return -np.inf
    return float(gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1))


def singled_out(tests: FloatArray, calibration: FloatArray) -> BoolArray:
    """Whether each attacker's predicate holds for exactly one of N test records.

    A predicate is that a record scores above a threshold, which is set so that it holds for one in
    N of records that are not tested: midway between the M-th and the next of M N calibration scores
    (Vauquier et al. 2025; predicate singling out of Cohen and Nissim 2020, arXiv:1904.06009). It
    matters not whose the record is. A predicate that knows nothing isolates with probability
    (1 - 1 / N)^(N - 1), which falls to 1/e.

    Args:
      tests: scores of each attacker's predicate, shape (attackers, N), one record a speaker.
      calibration: likewise of other records of the same speakers, shape (attackers, M N).

    Raises:
      ValueError: if shapes do not fit, a score is not finite, or there is one speaker.
    """
    attackers, speakers = tests.shape
    passing = calibration.shape[1] // speakers if speakers else 0
    require(
        speakers > 1 and len(calibration) == attackers and passing > 0
        and calibration.shape[1] == passing * speakers,
        "calibration must hold the same number of scores of every tested speaker, 2 or more",
        tests=tests.shape, calibration=calibration.shape,
    )  # fmt: skip
    require(bool(np.isfinite(tests).all() and np.isfinite(calibration).all()),
            "scores must be finite", tests=tests.shape)  # fmt: skip
    ordered = -np.sort(-calibration, axis=1)
    thresholds = (ordered[:, passing - 1] + ordered[:, passing]) / 2
    found: BoolArray = (tests > thresholds[:, None]).sum(axis=1) == 1
    return found


def rank_tests(
    embeddings: FloatArray,
    speakers: Sequence[Hashable],
    rng: np.random.Generator,
    *,
    tests: int = TESTS,
    utterances: int = UTTERANCES,
) -> Named:
    """Repeated tests of every speaker against all: one utterance against the mean of others.

    In each of L tests, at most 45 utterances of every speaker are drawn; the first is the probe and
    the mean of the rest, at length 1, the speaker's candidate; cosines are the scores. Ranks of L
    tests of one speaker are averaged by whoever reads them (Tura-Vecino et al. 2025,
    arXiv:2505.13085, Equation 2, has L = 100 and 45 utterances).

    Args:
      embeddings: shape (n, d), of any length but 0.
      speakers: whose each is; two utterances each at least.
      rng: of the draws.
      tests: L.
      utterances: drawn of each speaker and test, probe included.

    Returns:
      Probes of all tests, by test; scores of other tests' candidates do not enter, so candidates
      are columns of the own test. Shape (tests * speakers, speakers).

    Raises:
      ValueError: if an embedding is zero or not finite, or a speaker has one utterance.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    require(bool(np.isfinite(lengths).all() and (lengths > 0).all()),
            "embeddings must be finite and not zero", shape=embeddings.shape)  # fmt: skip
    require(tests > 0 and utterances > 1, "tests must be positive and utterances at least 2",
            tests=tests, utterances=utterances)  # fmt: skip
    unit = embeddings / lengths
    names = list(dict.fromkeys(speakers))
    owner = codes(speakers)
    places = [np.flatnonzero(owner == place) for place in range(len(names))]
    fewest = min(map(len, places))
    require(fewest > 1, "every speaker needs two utterances", fewest=fewest)
    rows = []
    for _ in range(tests):
        drawn = [rng.permutation(own)[:utterances] for own in places]
        probes = np.stack([unit[own[0]] for own in drawn])
        means = np.stack([unit[own[1:]].mean(axis=0) for own in drawn])
        rows.append(probes @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T)
    return Named(np.concatenate(rows), names * tests, names)
