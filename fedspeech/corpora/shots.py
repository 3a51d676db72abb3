"""A phone's own takes for personalizing, and the clips that it is judged by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fedspeech.corpora.corpus import Utterance
from fedspeech.corpora.partition import Phone
from fedspeech.seeds import stream


@dataclass(frozen=True)
class Shots:
    """One phone's clips for personalization.

    Attributes:
      own: what the phone adapts on: clips of target words.
      judged: what it is judged by; shares no clip with `own`.
    """

    own: tuple[Utterance, ...] = field(repr=False)
    judged: tuple[Utterance, ...] = field(repr=False)


def split_shots(
    phone: Phone,
    targets: Collection[str],
    takes_per_word: int,
    *,
    seed: int,
    reserve: int | None = None,
) -> Shots:
    """Splits a phone's clips into own takes and the clips that it is judged by.

    Of each target word the seed draws an order: the first `takes_per_word` are own, those up to
    `reserve` are laid aside, the others are judged. So with one `reserve` the own takes of
    1, 2, ... per word are nested and judged by the same clips. One clip of each word always remains
    to be judged. Clips of other words and of silence are judged, never trained on.

    Args:
      phone: whose clips.
      targets: target words.
      takes_per_word: own takes per target word, at least 0.
      seed: draws the order, by phone and word.
      reserve: clips per target word that are not judged, at least `takes_per_word`; equal to it
        if None.

    Raises:
      ValueError: if the numbers break these rules.
    """
    reserve = takes_per_word if reserve is None else reserve
    if not 0 <= takes_per_word <= reserve:
        raise ValueError(
            "expected 0 <= takes_per_word <= reserve, got "
            f"takes_per_word={takes_per_word}, reserve={reserve}"
        )
    by_word: dict[str, list[Utterance]] = {}
    for utterance in phone.utterances:
        by_word.setdefault(utterance.word, []).append(utterance)
    own: set[str] = set()
    aside: set[str] = set()
    for word in set(targets) & set(by_word):
        names = sorted(utterance.utterance_id for utterance in by_word[word])
        stream(seed, "takes", phone.phone_id, word).shuffle(names)
        kept = min(reserve, len(names) - 1)
        own.update(names[: min(takes_per_word, kept)])
        aside.update(names[:kept])
    return Shots(
        own=tuple(clip for clip in phone.utterances if clip.utterance_id in own),
        judged=tuple(clip for clip in phone.utterances if clip.utterance_id not in aside),
    )


def split_sentences(phone: Phone, sentences: int, *, seed: int, reserve: int) -> Shots:
    """Splits a phone's sentences into those it adapts on and those that it is judged by.

    The seed draws one order: the first `sentences` are own, those up to `reserve` are laid aside,
    the others are judged; so own sentences are nested and judged by the same others.

    Args:
      phone: whose sentences.
      sentences: how many are own.
      seed: draws the order, by phone.
      reserve: sentences that are not judged, at least `sentences`.

    Raises:
      ValueError: if the numbers break these rules or nothing would be left to judge by.
    """
    names = sorted(clip.utterance_id for clip in phone.utterances)
    if not 0 <= sentences <= reserve < len(names):
        raise ValueError(
            f"expected 0 <= sentences <= reserve < {len(names)} of the phone, got "
            f"sentences={sentences}, reserve={reserve}"
        )
    stream(seed, "takes", phone.phone_id).shuffle(names)
    own, aside = set(names[:sentences]), set(names[:reserve])
    return Shots(
        own=tuple(clip for clip in phone.utterances if clip.utterance_id in own),
        judged=tuple(clip for clip in phone.utterances if clip.utterance_id not in aside),
    )
