"""What a user's reactions tell a phone of its own clips: few labels are sure, more are not.

    found = reactions(meant, answered, words=10, rates=UserRates(), mistaken=0.2, rng=rng)
    clips, labels, weights = found.labeled(LabelWeights())

A command that nobody objects to is labeled by its answer. A user whose command was taken for
another may correct it: then the phone knows what was meant. One who was not heard may try again
within seconds: then the phone takes what it hears now for what was meant before, and is wrong where
somebody else spoke or the user gave up and asked for another thing. A cancel and a time out label
nothing. How often which of them happens by accent and noise follows from what the recognizer
answers to that user's clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.user_rates import UserRates
from fedspeech.limits import Share, check_limits

Labels = NDArray[np.int64]


class Reaction(IntEnum):
    """What followed a command, as far as it labels the command's clip."""

    NONE = 0
    ACCEPTED = 1
    CORRECTION = 2
    RETRY = 3


@dataclass(frozen=True, kw_only=True)
class LabelWeights:
    """How much training counts a clip by what labeled it.

    Attributes:
      accepted: a command that nobody objected to, labeled by its answer.
      correction: strong and rare.
      retry: weak and noisy; 0 leaves such clips out.
    """

    accepted: Share = 1.0
    correction: Share = 1.0
    retry: Share = 0.5

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_limits(self)


@dataclass(frozen=True, eq=False)
class Reactions:
    """What a phone remembers of its clips.

    Attributes:
      kinds: `Reaction` to each clip, shape (n,), int8.
      told: label that the reaction gives it, shape (n,), int64; -1: none.
    """

    kinds: NDArray[np.int8]
    told: Labels

    def labeled(self, weights: LabelWeights) -> tuple[Labels, Labels, NDArray[np.float32]]:
        """Places of the clips that count, their labels and their weights, each of shape (m,)."""
        by_kind = [0.0, weights.accepted, weights.correction, weights.retry]
        counts = np.array(by_kind, dtype=np.float32)[self.kinds]
        clips = np.flatnonzero(counts).astype(np.int64)
        return clips, self.told[clips], counts[clips]


def reactions(
    meant: Labels,
    answered: Labels,
    *,
    words: int,
    rates: UserRates,
    mistaken: float,
    rng: np.random.Generator,
) -> Reactions:
    """Draws how a user reacts to answers.

    Args:
      meant: words that the user said, shape (n,), below `words`.
      answered: labels that the recognizer gave, shape (n,); from `words` on it heard no word.
      words: number of words.
      rates: `corrected_share` of the confusions and `retried_share` of the rejects are used.
      mistaken: share of the retries that tell another word than was meant.
      rng: of this phone; draws are the same whatever `mistaken` is.
    """
    chance, wrong = rng.random(len(meant)), rng.random(len(meant))
    other = (meant + rng.integers(1, max(words, 2), len(meant))) % words
    rejected = answered >= words
    corrected = ~rejected & (answered != meant) & (chance < rates.corrected_share)
    retried = rejected & (chance < rates.retried_share)
    which = [answered == meant, corrected, retried]
    kinds = np.select(which, list(Reaction)[1:], Reaction.NONE)
    told = np.select(which, [answered, meant, np.where(wrong < mistaken, other, meant)], -1)
    return Reactions(kinds.astype(np.int8), told.astype(np.int64))
