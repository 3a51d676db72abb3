"""The split of a phone's utterances into shots for personalization and clips for evaluation."""

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
      own: the shots that the phone adapts on.
      judged: the clips for evaluation; they share no clip with `own`.
    """

    own: tuple[Utterance, ...] = field(repr=False)
    judged: tuple[Utterance, ...] = field(repr=False)


def split_shots(
    phone: Phone,
    targets: Collection[str],
    utterances_per_word: int,
    *,
    seed: int,
    reserve: int | None = None,
) -> Shots:
    """Splits a phone's clips into shots of target words and clips for evaluation.

    The seed draws an order of each target word's clips: the first `utterances_per_word` are shots,
    those up to `reserve` (by default the same number) are unused, the others evaluate. So with one
    `reserve` the shots of 1, 2, ... per word are nested and evaluated on the same clips. At least
    one clip of each word evaluates; clips of other words and of silence always do.

    Raises:
      ValueError: unless 0 <= utterances_per_word <= reserve.
    """
    reserve = utterances_per_word if reserve is None else reserve
    if not 0 <= utterances_per_word <= reserve:
        raise ValueError(
            "expected 0 <= utterances_per_word <= reserve, got "
            f"utterances_per_word={utterances_per_word}, reserve={reserve}"
        )
    by_word: dict[str, list[str]] = {}
    for utterance in phone.utterances:
        by_word.setdefault(utterance.word, []).append(utterance.utterance_id)
    own: set[str] = set()
    reserved: set[str] = set()
    # Each word has a stream of its own and sorted names, so neither the order of this set nor that
    # of files matters.
    for word in set(targets) & set(by_word):
        names = sorted(by_word[word])
        stream(seed, "takes", phone.phone_id, word).shuffle(names)
        kept = min(reserve, len(names) - 1)  # one clip of each word evaluates
        own.update(names[: min(utterances_per_word, kept)])
        reserved.update(names[:kept])
    return _shots(phone, own, reserved)


def split_sentences(phone: Phone, sentences: int, *, seed: int, reserve: int) -> Shots:
    """Splits a phone's sentences into shots and sentences for evaluation.

    The seed draws one order: the first `sentences` are shots, those up to `reserve` are unused, the
    others evaluate; so shots are nested and evaluated on the same sentences.

    Raises:
      ValueError: unless 0 <= sentences <= reserve and at least one sentence evaluates.
    """
    names = sorted(clip.utterance_id for clip in phone.utterances)
    if not 0 <= sentences <= reserve < len(names):
        raise ValueError(
            f"expected 0 <= sentences <= reserve < {len(names)} of the phone, got "
            f"sentences={sentences}, reserve={reserve}"
        )
    stream(seed, "takes", phone.phone_id).shuffle(names)
    return _shots(phone, names[:sentences], names[:reserve])


def _shots(phone: Phone, own: Collection[str], reserved: Collection[str]) -> Shots:
    """The shots of these ids, and the clips that are not reserved, in the order of the phone."""
    return Shots(
        own=tuple(clip for clip in phone.utterances if clip.utterance_id in own),
        judged=tuple(clip for clip in phone.utterances if clip.utterance_id not in reserved),
    )
