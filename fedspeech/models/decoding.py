"""From logits of windows to transcripts: greedy, or by beam with a prior and a phone's own list.

    greedy(logits, windows, alphabet)
    prior = WordPrior.of(public_sentences)
    BeamDecoder(alphabet, prior, own_list=("arun", "vera"))(logits[0])

The prior is public. A phone's own list (contacts, favourite places) is read here and nowhere else:
it is in no message and in no adapter, and nothing here prints it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet

FloatArray = NDArray[np.float32]

START = ""
"""What stands before the first word of a sentence."""

_NEVER = -math.inf
_UNLIKELY = -7.5  # labels below this log-probability are not followed up in a window


def greedy(
    logits: FloatArray, windows: Sequence[int] | NDArray[np.int64], alphabet: Alphabet
) -> list[str]:
    """Takes the likeliest label of every window, merges repetitions and drops blanks.

    Args:
      logits: shape (n, w, c).
      windows: how many windows of each sentence count, n of them.
      alphabet: meaning of the labels.

    Returns:
      n transcripts, without spaces at either end.
    """
    transcripts = []
    for answers, count in zip(np.argmax(logits, axis=2), windows, strict=True):
        heard = answers[:count]
        changes = np.ones(len(heard), dtype=bool)
        changes[1:] = heard[1:] != heard[:-1]
        transcripts.append(" ".join(alphabet.decode(heard[changes]).split()))
    return transcripts


@dataclass(frozen=True, eq=False)
class WordPrior:
    """A bigram model of public sentences; words that it has not seen are spelled at a price.

    P(w | v) = (n(v, w) + k P(w)) / (n(v) + k) with k = 2, P(w) = n(w) / (n + u) for known words; a
    word that is not known has u / (n + u) spread over all spellings, 1 / 28 a character (Witten and
    Bell 1991 give u the number of distinct words, as here).

    Attributes:
      words: how often each word was seen.
      pairs: how often each pair of neighbours was seen.
      names: how often one of the public names followed each word; "" for anywhere.
    """

    words: Mapping[str, int] = field(repr=False)
    pairs: Mapping[tuple[str, str], int] = field(repr=False)
    names: Mapping[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, sentences: Iterable[str], names: Collection[str] = ()) -> WordPrior:
        """Counts words and neighbours.

        Args:
          sentences: public ones.
          names: words among theirs in whose place any other name may stand.
        """
        words: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        after: Counter[str] = Counter()
        for sentence in sentences:
            said = (START, *sentence.split())
            words.update(said)
            pairs.update(itertools.pairwise(said))
            following = [before for before, word in itertools.pairwise(said) if word in names]
            after.update((*following, *[START] * len(following)))
        return cls(words, pairs, after)

    @cached_property
    def _total(self) -> int:
        """Words seen and, once more, different ones."""
        return sum(self.words.values()) + len(self.words)

    def log_probability(self, previous: str, word: str) -> float:
        """Natural logarithm of P(word | previous)."""
        if word not in self.words:
            new = math.log(max(1, len(self.words)) / max(1, self._total))
            return new - math.log(28) * (len(word) + 1)
        seen = self.pairs.get((previous, word), 0) + 2 * self.words[word] / self._total
        return math.log(seen / (self.words.get(previous, 0) + 2))

    def log_probability_of_name(self, previous: str) -> float:
        """The same of any name at all, where public speakers say one of theirs."""
        seen = self.names.get(previous, 0) if previous else 0
        share = (1 + self.names.get(START, 0)) / self._total
        return math.log((seen + 2 * share) / (self.words.get(previous, 0) + 2))


@dataclass(frozen=True, kw_only=True)
class BeamSettings:
    """How a beam is searched.

    Attributes:
      width: prefixes kept after each window.
      prior_weight: of the prior's log-probability.
      word_bonus: added for every word, against the prior's liking for few.
      list_bonus: added per character that follows a name of the own list, kept once the name ends.

    Raises:
      ValueError: if the width is not positive or a weight is negative.
    """

    width: int = 24
    prior_weight: float = 0.9
    word_bonus: float = 1.0
    list_bonus: float = 1.75

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.width < 1 or min(self.prior_weight, self.word_bonus, self.list_bonus) < 0:
            raise ValueError(f"width must be positive and no weight negative, got {self}")


@dataclass
class _Prefix:
    """A transcript begun: log-probabilities of ending in a blank or not, and what the prior says.

    Attributes:
      blank: of all paths that end in a blank.
      label: of all others.
      bias: prior and own list, over the words that are complete.
      partial: the same of the word that is not.
    """

    blank: float = _NEVER
    label: float = _NEVER
    bias: float = 0.0
    partial: float = 0.0

    def score(self) -> float:
        """What prefixes are ranked by."""
        return _add(self.blank, self.label) + self.bias + self.partial


class BeamDecoder:
    """Prefix beam search (Hannun et al. 2014, arXiv:1408.2873, Algorithm 1) with word scores.

    Args:
      alphabet: meaning of the labels; it must have a space.
      prior: of public sentences.
      own_list: names to listen for; empty for none.
      settings: widths and weights.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        prior: WordPrior,
        own_list: Collection[str] = (),
        settings: BeamSettings | None = None,
    ) -> None:
        """Prepares the beginnings of known words."""
        self._alphabet, self._prior = alphabet, prior
        self._settings = BeamSettings() if settings is None else settings
        self._own = frozenset(own_list)
        self._own_begun = {name[:end] for name in own_list for end in range(1, len(name) + 1)}
        self._begun = {word[:end] for word in prior.words for end in range(1, len(word) + 1)}
        self._completed: dict[tuple[str, str], float] = {}

    def __call__(self, logits: FloatArray) -> str:
        """Transcribes one sentence.

        Args:
          logits: shape (w, c), windows that count only.
        """
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        beam: dict[str, _Prefix] = {"": _Prefix(blank=0.0)}
        for window in logs:
            labels = np.flatnonzero(window[1:] > _UNLIKELY) + 1
            likely = [(self._alphabet.labels[i], float(window[i])) for i in labels]
            beam = self._step(beam, float(window[0]), likely)
        best = max(beam, key=lambda text: self._ended(text, beam[text]))
        return " ".join(best.split())

    def _step(
        self, beam: dict[str, _Prefix], blank: float, likely: list[tuple[str, float]]
    ) -> dict[str, _Prefix]:
        """One window: every prefix stays, or grows by one character."""
        found: dict[str, _Prefix] = {}
        for text, prefix in beam.items():
            total = _add(prefix.blank, prefix.label)
            stay = found.get(text)
            if stay is None:
                stay = found[text] = _Prefix(bias=prefix.bias, partial=prefix.partial)
            stay.blank = _add(stay.blank, total + blank)
            last = text[-1:]
            for character, log in likely:
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
                    longer = found[grown] = self._grow(grown, character, prefix)
                longer.label = _add(longer.label, gained)
        ranked = sorted(found, key=lambda text: found[text].score(), reverse=True)
        return {text: found[text] for text in ranked[: self._settings.width]}

    def _grow(self, text: str, character: str, prefix: _Prefix) -> _Prefix:
        """What prior and list say of a prefix that has just grown."""
        if character == " ":
            return _Prefix(bias=prefix.bias + self._word(text[:-1]))
        return _Prefix(bias=prefix.bias, partial=self._partial(text.rpartition(" ")[2]))

    def _ended(self, text: str, prefix: _Prefix) -> float:
        """Score of a prefix as the whole sentence."""
        last = 0.0 if text[-1:] in ("", " ") else self._word(text)
        return _add(prefix.blank, prefix.label) + prefix.bias + last

    def _word(self, text: str) -> float:
        """Score of the last word of a text, now that it is complete."""
        *before, word = text.split(" ")
        previous = before[-1] if before else START
        key = (previous, word)
        if key not in self._completed:
            settings = self._settings
            log = self._prior.log_probability(previous, word)
            if word in self._own:
                # One of the list, where public speakers say names; and the list speaks for it.
                named = self._prior.log_probability_of_name(previous) - math.log(len(self._own))
                log = max(log, named)
                log += settings.list_bonus * len(word) / max(settings.prior_weight, 1e-9)
            self._completed[key] = settings.prior_weight * log + settings.word_bonus
        return self._completed[key]

    def _partial(self, partial: str) -> float:
        """Score of a word that is not complete: what it will at least cost, or what it may win."""
        settings = self._settings
        if partial in self._own_begun:
            return settings.list_bonus * len(partial)
        if partial in self._begun:
            return 0.0
        return -settings.prior_weight * math.log(28) * len(partial)


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))
