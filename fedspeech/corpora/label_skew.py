"""Clips of many speakers mixed onto phones with unequal words, for comparison with papers.

    mixed = with_label_skew(partition, Dirichlet(alpha=0.5), phones=100, seed=1)

Papers without speakers divide a pool of examples so that phones differ in their labels. Here only
federated speakers are mixed: who is held-out stays apart, so figures are of voices never heard. But
a phone is no person then: a speaker's clips lie on many phones, the privacy unit is one phone, and
no epsilon of such a run covers a person (`Partition.unit_note` says so).

Both rules are those of Flower Datasets (`DirichletPartitioner`, `PathologicalPartitioner`); with
one generator they give the same parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.partition import (
    MIN_CLIPS,
    Partition,
    Phone,
    in_order,
    joined_notes,
    pseudonym,
    utterances_of,
)
from fedspeech.limits import Count, Positive, check_limits
from fedspeech.seeds import stream

_TRIES = 100  # draws until every phone has enough clips

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Dirichlet:
    """Shares of each word over phones are drawn from a symmetric Dirichlet distribution.

    (Yurochkin et al. 2019, arXiv:1905.12022, as Flower Datasets has it. Hsu et al. 2019,
    arXiv:1909.06335, draw a phone's shares over words instead; for many clips a word and one alpha
    both make phones of few words as alpha falls, but their parts are not the same.)

    Attributes:
      alpha: concentration: 100 is nearly even, 0.1 leaves a phone one or two words.
      balanced: whether a phone that has more than the mean number of clips gets none of the words
        that are divided after it.
    """

    alpha: Positive
    balanced: bool = True

    def __post_init__(self) -> None:
        """Checks the concentration."""
        check_limits(self)

    def parts(
        self, labels: Sequence[str], phones: int, rng: np.random.Generator, least: int
    ) -> list[Indices]:
        """Divides clips, so that every phone has at least `least` of them.

        Raises:
          ValueError: if no draw of a hundred does.
        """
        words = np.asarray(labels)
        for _ in range(_TRIES):
            parts = self._draw(words, phones, rng)
            if min(map(len, parts)) >= least:
                return parts
        raise ValueError(
            f"no division of {len(labels)} clips by alpha={self.alpha:g} leaves each of {phones} "
            f"phones {least} clips: fewer phones, or a larger alpha"
        )

    def _draw(
        self, words: NDArray[np.str_], phones: int, rng: np.random.Generator
    ) -> list[Indices]:
        owner = np.empty(len(words), dtype=np.int64)
        held = np.zeros(phones, dtype=np.int64)
        for word in np.unique(words):
            places = np.flatnonzero(words == word)
            shares = rng.dirichlet(np.full(phones, self.alpha))
            if self.balanced:
                full = held > len(words) / phones
                shares[full] = 0
                if not shares.any():  # a small alpha gave all of the word to full phones
                    shares[~full] = 1
                shares = shares / np.cumsum(shares)[-1]  # added one by one, as Flower does
            cuts = (np.cumsum(shares) * len(places)).astype(np.int64)[:-1]
            counts = np.diff(cuts, prepend=0, append=len(places))
            owner[places] = np.repeat(np.arange(phones), counts)
            held += counts
        return [np.flatnonzero(owner == phone) for phone in range(phones)]

    def __str__(self) -> str:
        return f"by a Dirichlet draw over words, alpha {self.alpha:g}"


@dataclass(frozen=True)
class Pathological:
    """Each phone has a number of words, drawn for each, and an equal share of their clips.

    (McMahan et al. 2017, arXiv:1602.05629, section 3, in the form of Flower Datasets.)

    Attributes:
      words_per_phone: different words on a phone.
    """

    words_per_phone: Count

    def __post_init__(self) -> None:
        """Checks the number."""
        check_limits(self)

    def parts(
        self, labels: Sequence[str], phones: int, rng: np.random.Generator, least: int
    ) -> list[Indices]:
        """Divides clips; those of a word that no phone draws stay unused.

        Raises:
          ValueError: if there are fewer words than asked for, a word is on more phones than it has
            clips, or a phone would have fewer than `least` clips.
        """
        words = np.asarray(labels)
        known = np.unique(words)
        if len(known) < self.words_per_phone:
            raise ValueError(f"{self.words_per_phone} words per phone of {len(known)} words in all")
        drawn = [
            set(rng.choice(known, size=self.words_per_phone, replace=False)) for _ in range(phones)
        ]
        parts: list[Indices] = [np.empty(0, dtype=np.int64) for _ in range(phones)]
        for word in known:
            takers = [phone for phone, its in enumerate(drawn) if word in its]
            places = np.flatnonzero(words == word)
            if len(takers) > len(places):
                raise ValueError(
                    f"{len(takers)} phones drew a word of {len(places)} clips: fewer phones, or "
                    "fewer words per phone"
                )
            for phone, piece in zip(
                takers, np.array_split(places, max(len(takers), 1)), strict=False
            ):
                parts[phone] = np.concatenate((parts[phone], piece))
        if min(map(len, parts)) < least:
            raise ValueError(f"a phone would have fewer than {least} clips: fewer phones")
        return parts

    def __str__(self) -> str:
        return f"so that a phone has {self.words_per_phone} words"


LabelSkew = Dirichlet | Pathological


def with_label_skew(
    partition: Partition, rule: LabelSkew, *, phones: int, seed: int, min_clips: int = MIN_CLIPS
) -> Partition:
    """Mixes the clips of all federated speakers onto so many phones; the other groups stay.

    Raises:
      ValueError: if the clips do not suffice for the rule.
    """
    clips = utterances_of(partition.federated)
    rng = stream(seed, "label skew")
    parts = rule.parts([clip.word for clip in clips], phones, rng, min_clips)
    mixed = []
    for number, part in enumerate(parts):
        name = pseudonym(seed, "label skew", number)
        # In the order of the corpus: the order of words would be the rule's, and tell of it.
        own = tuple(clips[index] for index in sorted(part))
        mixed.append(Phone(phone_id=name, speaker_id=name, segments={}, utterances=own))
    speakers = len({person for phone in partition.federated for person in phone.people})
    return replace(
        partition,
        federated=in_order(mixed),
        unit="phone",
        unit_note=joined_notes(
            partition.unit_note,
            f"the clips of {speakers} speakers are mixed onto {phones} phones {rule}, as "
            "papers do for comparison: a phone is no person, one person's clips lie on many "
            "phones, the privacy unit is one such phone, and no epsilon of this run covers a "
            "person",
        ),
    )
