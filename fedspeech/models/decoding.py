"""From logits of frames to transcripts: greedy, or by beam with model and list.

    greedy(logits, frames, alphabet)
    model = BigramLanguageModel.of(public_sentences)
    BeamDecoder(alphabet, model, {"people": ("arun", "vera")})(logits[0])

The language model is public. A phone's contextual biasing list (contacts, favorite places) is read
here and nowhere else: it is in no message and in no adapter, and nothing here prints it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet
from fedspeech.limits import Count, NotNegative, check_limits

FloatArray = NDArray[np.float32]

START = ""
"""What stands before the first word of a sentence."""

_NEW = "?"  # stands for every word that the language model has not seen
_NEVER = -math.inf
# The space, the apostrophe and 26 letters, as `Alphabet` has them.
_LOG_CHARACTERS = math.log(28)
_UNLIKELY = -7.5  # labels below this log-probability are not followed up in a frame


def greedy(
    logits: FloatArray, frames: Sequence[int] | NDArray[np.int64], alphabet: Alphabet
) -> list[str]:
    """Takes the likeliest label of every frame, merges repetitions and drops blanks.

    Of the logits, shape (n, w, c), so many frames of each sentence count. No transcript has a space
    at an end.
    """
    transcripts = []
    for labels, count in zip(np.argmax(logits, axis=2), frames, strict=True):
        heard = labels[:count]
        changes = np.ones(len(heard), dtype=bool)
        changes[1:] = heard[1:] != heard[:-1]
        transcripts.append(" ".join(alphabet.decode(heard[changes]).split()))
    return transcripts


@dataclass(frozen=True, eq=False)
class BigramLanguageModel:
    """A bigram model of public sentences; words that it has not seen are spelled at a price.

    P(w | v) = (n(v, w) + k P(w)) / (n(v) + k) with k = 2, P(w) = n(w) / (n + u) for known words; a
    word that is not known has u / (n + u) spread over all spellings, 1 / 28 a character (Witten and
    Bell 1991 give u the number of distinct words, as here).

    Attributes:
      words: how often each word was seen.
      pairs: how often each pair of neighbors was seen.
      names: how often a public name of each kind followed each word; "" for anywhere.
    """

    words: Mapping[str, int] = field(repr=False)
    pairs: Mapping[tuple[str, str], int] = field(repr=False)
    names: Mapping[tuple[str, str], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, sentences: Iterable[str], names: Mapping[str, Collection[str]] | None = None
    ) -> BigramLanguageModel:
        """Counts words and neighbors of public sentences.

        `names` are, by kind, words in whose place any other name of the kind may stand: people are
        called, places are driven to.
        """
        kind_of = {name: kind for kind, known in (names or {}).items() for name in known}
        words: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        after: Counter[tuple[str, str]] = Counter()
        for sentence in sentences:
            said = (START, *sentence.split())
            words.update(said)
            pairs.update(itertools.pairwise(said))
            for before, word in itertools.pairwise(said):
                if word in kind_of:
                    after.update(((kind_of[word], before), (kind_of[word], START)))
        return cls(words, pairs, after)

    @cached_property
    def _total(self) -> int:
        """Words seen and, once more, different ones."""
        return sum(self.words.values()) + len(self.words)

    @cached_property
    def _log_new(self) -> float:
        """Natural logarithm of the share of words that were not seen."""
        return math.log(max(1, len(self.words)) / max(1, self._total))

    def log_probability(self, previous: str, word: str) -> float:
        """Natural logarithm of P(word | previous)."""
        if word not in self.words:
            return self.log_probability_of_new(len(word))
        seen = self.pairs.get((previous, word), 0) + 2 * self.words[word] / self._total
        return math.log(seen / (self.words.get(previous, 0) + 2))

    def log_probability_of_new(self, characters: int) -> float:
        """The same of one spelling of a word that was not seen."""
        # One more for the space that ends a word: the probabilities of all spellings then add up to
        # less than 1, and without it to infinity.
        return self._log_new - _LOG_CHARACTERS * (characters + 1)

    def log_probability_of_name(self, previous: str, kind: str) -> float:
        """The same of any name of a kind, where public speakers say one of theirs."""
        seen = self.names.get((kind, previous), 0) if previous else 0
        share = (1 + self.names.get((kind, START), 0)) / self._total
        return math.log((seen + 2 * share) / (self.words.get(previous, 0) + 2))


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """How a beam is searched.

    Attributes:
      beam_width: number of prefixes kept.
      language_model_weight: weight of the bigram language model of public sentences.
      word_insertion_bonus: log-probability added for every word.
      contextual_bias: log-probability added per character of a name in the phone's contextual
        biasing list, where that is used.

    Raises:
      ValueError: if the width is not positive or a weight is negative.
    """

    beam_width: Count = 24
    language_model_weight: NotNegative = 0.9
    word_insertion_bonus: NotNegative = 1.0
    contextual_bias: NotNegative = 2.0

    def __post_init__(self) -> None:
        """Checks the values."""
        check_limits(self)


@dataclass(slots=True)
class _Prefix:
    """A transcript begun: log-probabilities of all paths that end in a blank, and of all others.

    `worth` is the score of the text by language model and list.
    """

    blank: float
    label: float
    worth: float


class BeamDecoder:
    """Prefix beam search (Hannun et al. 2014, arXiv:1408.2873, Algorithm 1) with word scores.

    A word that is not complete counts as the best word that it may become (Ortmanns et al. 1996:
    look-ahead), so a prefix is not kept for a word that the language model refuses at its end, nor
    dropped before it. The alphabet must have a space; the biasing list holds names by kind, as the
    language model knows kinds.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        language_model: BigramLanguageModel,
        biasing_list: Mapping[str, Collection[str]] | None = None,
        settings: BeamSettings | None = None,
    ) -> None:
        """Prepares the beginnings of known words."""
        self._alphabet, self._language_model = alphabet, language_model
        self._settings = BeamSettings() if settings is None else settings
        self._listed = {
            name: (kind, -math.log(len(names)))
            for kind, names in (biasing_list or {}).items()
            for name in names
        }
        self._listed_begun = _beginnings(self._listed)
        known = (
            word for word in language_model.words if word != START and word not in self._listed
        )
        self._begun = _beginnings(known)
        self._completed: dict[tuple[str, str], float] = {}
        self._promised: dict[tuple[str, str], float] = {}

    def __call__(self, logits: FloatArray) -> str:
        """Transcribes one sentence of logits (w, c), frames that count only."""
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        worth = self._worth()
        beam: dict[str, _Prefix] = {"": _Prefix(0.0, _NEVER, worth(""))}
        for frame in logs:
            labels = np.flatnonzero(frame[1:] > _UNLIKELY) + 1
            likely = [(self._alphabet.labels[i], float(frame[i])) for i in labels]
            beam = self._step(beam, float(frame[0]), likely, worth)
        best = max(beam, key=lambda text: self._ended(text, beam[text]))
        return " ".join(best.split())

    def _step(
        self,
        beam: dict[str, _Prefix],
        blank: float,
        likely: list[tuple[str, float]],
        worth: Callable[[str], float],
    ) -> dict[str, _Prefix]:
        """One frame: every prefix stays, or grows by one character."""
        found: dict[str, _Prefix] = {}
        for text, prefix in beam.items():
            total = _add(prefix.blank, prefix.label)
            stay = found.get(text)
            if stay is None:
                stay = found[text] = _Prefix(_NEVER, _NEVER, prefix.worth)
            stay.blank = _add(stay.blank, total + blank)
            last = text[-1:]
            for character, log in likely:
                # CTC merges a label with its repetition, so only paths that end in a blank spell
                # the same character anew; the others stay.
                if character == last:
                    stay.label = _add(stay.label, prefix.label + log)
                    gained = prefix.blank + log
                else:
                    gained = total + log
                if gained == _NEVER or (character == " " and last in ("", " ")):
                    continue
                grown = text + character
                longer = found.get(grown)
                if longer is None:
                    found[grown] = _Prefix(_NEVER, gained, worth(grown))
                else:
                    longer.label = _add(longer.label, gained)
        scores = [
            (_add(prefix.blank, prefix.label) + prefix.worth, text)
            for text, prefix in found.items()
        ]
        return {text: found[text] for _, text in heapq.nlargest(self._settings.beam_width, scores)}

    def _worth(self) -> Callable[[str], float]:
        """Score of a prefix by language model and list; many frames ask for the same prefix."""
        complete = cache(lambda text: self._complete(text.split()))

        @cache
        def worth(text: str) -> float:
            said, _, partial = text.rpartition(" ")
            return complete(said) + self._promise(said.rpartition(" ")[2], partial)

        return worth

    def _ended(self, text: str, prefix: _Prefix) -> float:
        """Score of a prefix as the whole sentence."""
        return _add(prefix.blank, prefix.label) + self._complete(text.split())

    def _complete(self, words: Sequence[str]) -> float:
        """Score of complete words that begin a sentence."""
        return sum(map(self._scored, (START, *words), words))

    def _scored(self, previous: str, word: str) -> float:
        """Score of a complete word after another."""
        if word not in self._listed and word not in self._language_model.words:
            return self._spelled(len(word))
        key = (previous if previous in self._language_model.words else _NEW, word)
        if key not in self._completed:
            settings = self._settings
            log = self._language_model.log_probability(previous, word)
            bonus = settings.word_insertion_bonus
            if word in self._listed:
                # One of the list, where public speakers say names of its kind: of these one is as
                # likely as another. And the list speaks for it.
                kind, share = self._listed[word]
                log = max(log, self._language_model.log_probability_of_name(previous, kind) + share)
                bonus += settings.contextual_bias * len(word)
            self._completed[key] = settings.language_model_weight * log + bonus
        return self._completed[key]

    def _spelled(self, characters: int) -> float:
        """Score of a word that nobody knows, complete or not."""
        log = self._language_model.log_probability_of_new(characters)
        return self._settings.language_model_weight * log + self._settings.word_insertion_bonus

    def _promise(self, previous: str, partial: str) -> float:
        """Score of a word that is not complete: the best that it may become.

        Of a name's bonus only what its characters have earned.
        """
        known, own = self._begun.get(partial), self._listed_begun.get(partial)
        if not known and not own:
            return self._spelled(len(partial))
        key = (previous if previous in self._language_model.words else _NEW, partial)
        if key not in self._promised:
            scores = [self._scored(previous, word) for word in known or ()]
            scores += [
                self._scored(previous, name)
                - self._settings.contextual_bias * (len(name) - len(partial))
                for name in own or ()
            ]
            self._promised[key] = max(self._spelled(len(partial)), *scores)
        return self._promised[key]


def _beginnings(words: Iterable[str]) -> dict[str, list[str]]:
    """The words that begin with each beginning, "" and the whole word among them."""
    begun: dict[str, list[str]] = {}
    for word in words:
        for end in range(len(word) + 1):
            begun.setdefault(word[:end], []).append(word)
    return begun


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
