"""Clip norm and server learning rate from public speakers, before any phone takes part.

Public speakers train for one round as if they were phones. The clip norm is the median norm of
their deltas. The noise of T rounds then moves a score by

    server rate * z * C * sqrt(T) / cohort * E|h|

in standard deviations, E|h| the mean length of an embedding with a 1 after it (each parameter of a
score's row has that noise, and a score is the row's product with h). The server rate is the one at
which this is `SHARE_OF_MARGIN` of the median margin of the base on those speakers, at most the
scenario's own: with much noise the model learns more slowly instead of forgetting what it knew.

Nothing here reads a phone's clip, so none of it stands in an epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Provenance
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import FloatVector
from simulations.scenario.schema import PrivacySettings

SHARE_OF_MARGIN = 0.1
LEAST_SPEAKERS = 2


@dataclass(frozen=True, kw_only=True)
class PublicFigures:
    """What public speakers tell of a base.

    Attributes:
      speakers: how many there are.
      delta_norm: median norm of the delta of one of them in the first round.
      embedding_norm: mean length of an embedding with a 1 after it, E|h|.
      margins: of the score of a clip's label over the largest other one, shape (n,).
    """

    speakers: int
    delta_norm: float
    embedding_norm: float
    margins: NDArray[np.float64]

    @property
    def median_margin(self) -> float:
        """Of clips that are answered rightly."""
        return float(np.median(self.margins[self.margins > 0]))


@dataclass(frozen=True, kw_only=True)
class PublicSizing:
    """What the figures make of a plan.

    Attributes:
      clip_norm: of a delta.
      learning_rate: of the server.
      noise_of_score: standard deviation that the noise of all rounds adds to a score.
      answers_lost: share of clips that this noise alone turns from right to wrong, net.
      words_gained: expected rise of the share of target words right by as many speakers more as
        are in a round; None: the base does not say what half of its speakers were worth.
    """

    clip_norm: float
    learning_rate: float
    noise_of_score: float
    answers_lost: float
    words_gained: float | None

    @property
    def in_words(self) -> str:
        """One paragraph, before the run."""
        said = (
            f"From public speakers: clip norm {self.clip_norm:.3g}, server learning rate "
            f"{self.learning_rate:.3g}; the noise of all rounds moves a score by "
            f"{self.noise_of_score:.2g} (standard deviation), which turns "
            f"{100 * self.answers_lost:.1f} % of their answers wrong"
        )
        if self.words_gained is None:
            return said + "."
        said += (
            ". By what the base learned from the second half of its speakers, as many more as a "
            f"round has are worth {100 * self.words_gained:.1f} points"
        )
        if self.answers_lost > max(self.words_gained, 0.0):
            said += (
                ": less than the noise costs. More phones in a round, less noise, or no federated "
                "training at all would be better"
            )
        return said + "."


def public_figures(
    adapter: Adapter,
    initial: FloatVector,
    speakers: Sequence[LocalDataset],
    background: LocalDataset,
    training: LocalTraining,
    seed: int,
) -> PublicFigures:
    """Lets public speakers train for one round.

    Args:
      adapter: what phones train; its embeddings must be vectors.
      initial: where they start, shape (d,).
      speakers: clips of one public speaker each.
      background: clips that ship to every phone.
      training: what a phone does in a round.
      seed: of the run.

    Raises:
      ScenarioError: if there are too few speakers, or the base answers no clip of theirs rightly.
    """
    if len(speakers) < LEAST_SPEAKERS:
        raise ScenarioError(
            'privacy.sizing = "public" needs public speakers of the phones\' own corpus, at least '
            f"{LEAST_SPEAKERS}, got {len(speakers)}: set corpus.public_speakers, or "
            'privacy.sizing = "scenario"'
        )
    rngs = [stream(seed, "public sizing", number) for number in range(len(speakers))]
    deltas = train_cohort(
        adapter,
        adapter.spec.unflatten(initial),
        [clips.joined(background) for clips in speakers],
        training,
        rngs,
    )
    embeddings = np.concatenate([clips.embeddings for clips in speakers])
    labels = np.concatenate([clips.labels for clips in speakers])
    flat = embeddings.reshape(len(embeddings), -1).astype(np.float64)
    scores = score_clips(adapter, initial[np.newaxis], embeddings)[0].astype(np.float64)
    rows = np.arange(len(labels))
    own = scores[rows, labels].copy()
    scores[rows, labels] = -np.inf
    margins = own - scores.max(axis=1)
    if not (margins > 0).any():
        raise ScenarioError(
            'privacy.sizing = "public": the base answers no clip of a public speaker rightly'
        )
    return PublicFigures(
        speakers=len(speakers),
        delta_norm=float(np.median([np.linalg.norm(delta.vector) for delta in deltas])),
        embedding_norm=float(np.sqrt((flat**2).sum(axis=1) + 1).mean()),
        margins=margins,
    )


def sized(
    figures: PublicFigures,
    privacy: PrivacySettings,
    cohort: float,
    learning_rate: float,
    provenance: Provenance,
) -> PublicSizing:
    """Clip norm and rate for a plan, and what they cost.

    Args:
      figures: of public speakers.
      privacy: noise and rounds.
      cohort: expected number of phones in a round.
      learning_rate: of the scenario, the largest that is taken.
      provenance: of the base.

    Raises:
      ScenarioError: if the noise of rounds is not independent.
    """
    noise = _noise_of_sum(privacy, cohort)
    per_rate = noise * figures.delta_norm * math.sqrt(privacy.rounds) / cohort
    per_rate *= figures.embedding_norm
    rate = learning_rate
    if per_rate:
        rate = min(rate, SHARE_OF_MARGIN * figures.median_margin / per_rate)
    moved = rate * per_rate
    lost = 0.0
    if moved:
        # The margin is a difference of two scores, whose noises are independent.
        right = ndtr(figures.margins / (math.sqrt(2) * moved)).mean()
        lost = float((figures.margins > 0).mean() - right)
    return PublicSizing(
        clip_norm=figures.delta_norm,
        learning_rate=rate,
        noise_of_score=moved,
        answers_lost=lost,
        words_gained=_gain(provenance, cohort),
    )


def _noise_of_sum(privacy: PrivacySettings, cohort: float) -> float:
    """Standard deviation of the noise of one round's sum, over the clip norm.

    Raises:
      ScenarioError: if the noise of rounds is not independent, so that it does not add up as here.
    """
    match privacy.mechanism:
        case "none":
            return 0.0
        case "local":  # every phone adds enough for itself
            return privacy.noise_multiplier * math.sqrt(cohort)
        case "matrix_factorization":
            raise ScenarioError(
                'privacy.sizing = "public" adds up the noise of rounds as independent, and that '
                'of mechanism = "matrix_factorization" is not; set privacy.sizing = "scenario"'
            )
    return privacy.noise_multiplier


def _gain(provenance: Provenance, more: float) -> float | None:
    """Expected rise of words right by `more` speakers.

    Errors are taken to fall by one factor with every doubling of the speakers: the factor that the
    second half of the public ones was worth.
    """
    names = (
        "head_held_out_words_right", "head_held_out_words_right_of_half_the_speakers",
        "head_recorded_speakers",
    )  # fmt: skip
    if not all(name in provenance for name in names):
        return None
    right, half, speakers = (float(provenance[name]) for name in names)
    if half >= 1 or not speakers:
        return None
    factor = min(1.0, (1 - right) / (1 - half))
    doublings = math.log2((speakers + more) / speakers)
    return float((1 - right) * (1 - factor**doublings))
