"""What an attack is: from a transcript and public knowledge to scores, and never to the truth.

Every secret is asked as the same question: which hypotheses does the attack believe, of each trial?
An attack answers with one score for each, higher for more belief; who plays the game knows the
truth, and compares (`simulations.audits.judge`).

    secret         a trial is                            a hypothesis is
    "speaker"      a row of `Transcript.observations`    a candidate of `Knowledge.candidates`
    "link"         a row of `Transcript.observations`    another row of them: the same speaker?
    "membership"   the whole transcript                  a candidate: did it take part?
    a trait        a row of `Transcript.observations`    a value, in the order of `Knowledge.values`
    "clip"         a row of `Transcript.observations`    a clip of `Knowledge.clips`: was it in it?
    "phrase"       the whole transcript                  a phrase of `Knowledge.phrases`

Files of attacks import neither `simulations` nor what holds the truth or plays rounds
(`tests/test_imports.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import ServerOptimizer
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import FloatVector

Secret = Literal[
    "speaker",
    "link",
    "membership",
    "accent",
    "sex",
    "age_band",
    "device",
    "noise",
    "clip",
    "phrase",
]
TRAITS: tuple[Secret, ...] = ("accent", "sex", "age_band", "device", "noise")

Auxiliary = Literal["public", "enrollment", "exact"]
"""What an attacker holds of those it attacks: nothing; other utterances of theirs than those that
were trained on; the very clips that were trained on."""

CLIPS: dict[Auxiliary, str] = {
    "exact": "the very clips of the candidates",
    "enrollment": "other clips of the candidates",
    "public": "no clip of the candidates",
}
"""The same in words."""

Contributions = Callable[
    [Sequence[LocalDataset], FloatVector, Sequence[np.random.Generator]], Sequence[FloatVector]
]
"""What phones with these clips contribute under a model, before any clip or noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownSpeaker:
    """A speaker of whom an attacker holds speech. Printing it shows the number of clips only.

    Attributes:
      clips: as the phone would hold them, without the public background set.
      traits: value of each trait that is known, such as {"accent": "2"}; empty for candidates.
    """

    clips: LocalDataset
    traits: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Shows the number of clips."""
        return f"KnownSpeaker({len(self.clips)} clips)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Knowledge:
    """What an attacker has besides a transcript: public, or stated by the attack.

    Attributes:
      base: the frozen base, which every phone has.
      adapter: the trained part; gives logits.
      training: settings of local training.
      optimizer: the server's rule; public.
      background: public clips that ship to every phone.
      speakers: labelled public speakers, none of whom is attacked.
      candidates: those who may be attacked, in the order of hypotheses; what `clips` they come
        with, `Attack.auxiliary` says. None for "public".
      contributions: what clips would contribute, by the code of the run.
      play: plays the run's own protocol, under its plan and in front of the same observer, on
        phones with these clips (attackers may rehearse); the seed fixes coins and noise.
      clips: the clips that a hypothesis of "clip" is one of; of "phrase", each phrase as public
        voices say it, in the order of `phrases`.
      phrases: the phrases that a hypothesis of "phrase" is one of.
    """

    base: Base
    adapter: Adapter
    training: LocalTraining
    optimizer: ServerOptimizer
    background: LocalDataset
    speakers: tuple[KnownSpeaker, ...]
    candidates: tuple[KnownSpeaker, ...] = ()
    contributions: Contributions
    play: Callable[[Sequence[LocalDataset], int], Transcript]
    clips: LocalDataset | None = None
    phrases: tuple[str, ...] = ()

    def values(self, trait: str) -> tuple[str, ...]:
        """Values of a trait among public speakers, sorted: the hypotheses about it."""
        return tuple(
            sorted({known.traits[trait] for known in self.speakers if trait in known.traits})
        )


def as_phones(known: Iterable[KnownSpeaker], background: LocalDataset) -> list[LocalDataset]:
    """What speakers would hold as phones: their clips, then the public background set."""
    return [one.clips.joined(background) for one in known]


@dataclass(frozen=True, kw_only=True, eq=False)
class Guess:
    """What an attack believes.

    Attributes:
      scores: shape (trials, hypotheses), float64; higher for more belief. Rows and columns as the
        secret says, see the module.
      shown: what else a person should look at, by name, such as features that were recovered.

    Raises:
      ValueError: if scores are no finite matrix.
    """

    scores: NDArray[np.float64]
    shown: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the scores."""
        if self.scores.ndim != 2 or not np.isfinite(self.scores).all():
            raise ValueError(f"scores must be a finite matrix, got shape {self.scores.shape}")


class Attack(Protocol):
    """One attack on one secret.

    Attributes:
      name: how tables call it, such as "weight cosine".
      secret: what it is after.
      observers: whose transcripts it can use.
      auxiliary: what it holds of those it attacks.
      knowledge: the same and all else that it has besides the transcript, in one sentence.
    """

    @property
    def name(self) -> str:
        """See the class."""
        ...

    @property
    def secret(self) -> Secret:
        """See the class."""
        ...

    @property
    def observers(self) -> tuple[Observer, ...]:
        """See the class."""
        ...

    @property
    def auxiliary(self) -> Auxiliary:
        """See the class."""
        ...

    @property
    def knowledge(self) -> str:
        """See the class."""
        ...

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every hypothesis of every trial.

        Raises:
          ValueError: if the transcript's observer is none of `observers`.
        """
        ...
