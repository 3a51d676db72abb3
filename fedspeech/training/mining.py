"""A small network over the frames of an encoder, fit for a stream by mining hard negatives.

    fitted = fit_listener(words, sounds, num_labels=3, seed=0)
    Base(encoder=..., pooling=fitted.pooling, head_weight=fitted.weight, ...)
    fitted.hard                                     # (n, w, f): windows to ship to phones

A detector that is right on clips still wakes many times in an hour of speech: of the tens of
thousands of windows of an hour a clip corpus holds none. So the network is fit on words and on
windows of streams in which nobody says one; then it scores all windows, those that it takes most
for a word join its negatives, and it goes on (bootstrapping; Sung and Poggio 1998, IEEE Trans.
PAMI 20, 39). In each step half of the negatives are drawn from these.

Where in its recording a word is, nobody says. At first its windows are those that end at most
320 ms after its sound does; after each mining, those around the one with the highest mean score of
three.

Everything here is public: constants of it that reached phones from private clips would be in no
epsilon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.limits import Count, Positive, Share, check_limits
from fedspeech.models.pooling import Pooling
from fedspeech.seeds import stream

FloatArray = NDArray[np.float32]

SHIPPED = 200
"""Hard negatives in a base's file."""

_WORDS_IN_STEP, _SOUNDS_IN_STEP = 128, 384
_BLOCK = 20_000  # windows scored at once
_EVENT_HOPS = 12  # about a second
_NOISE = 0.1  # added to standardized features in training
_REGULARIZATION = 1e-2  # of the whitening, over the mean variance


@dataclass(frozen=True, kw_only=True)
class Mining:
    """How the network is fit.

    Attributes:
      rounds: of mining.
      windows: that join the negatives in each round.
      steps: of AdamW before each round and after the last.
      widths: units of the two layers.
      dropout: after the first layer.
      synthetic: weight of a synthetic word; a recorded one weighs 1.

    Raises:
      ValueError: if a value is outside its range.
    """

    rounds: Count = 3
    windows: Count = 5_000
    steps: Count = 400
    widths: tuple[int, int] = (48, 32)
    dropout: Share = 0.2
    synthetic: Positive = 0.3

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)


@dataclass(frozen=True, eq=False)
class HeardWord:
    """A target word in sound that goes on around it.

    Attributes:
      windows: every window in which it may be found, one a hop, (hops, w, f).
      ends: of these, those that end with the word's sound or soon after it, (n,).
      label: of the word.
      synthetic: whether nobody said it.
    """

    windows: FloatArray
    ends: NDArray[np.int64]
    label: int
    synthetic: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedListener:
    """A network, its head, and the negatives that are hardest for it.

    Attributes:
      pooling: the network and a whitening of what it answers.
      weight: of the head, (c, g).
      bias: (c,).
      hard: windows without a word that score highest, hardest first, one of each event,
        (n, w, f).
    """

    pooling: Pooling
    weight: FloatArray
    bias: FloatArray
    hard: FloatArray


def fit_listener(
    words: Sequence[HeardWord],
    sounds: Sequence[FloatArray],
    num_labels: int,
    *,
    seed: int,
    mining: Mining | None = None,
) -> FittedListener:
    """Fits the network; the same words, sounds and seed give the same.

    Args:
      words: of public speakers.
      sounds: windows of streams without a word, one a hop, each (hops, w, f); views of frames that
        neighbors share take no more memory than these.
      num_labels: target words, unknown, silence.
      seed: of initial weights and draws.
      mining: sizes.

    Raises:
      ValueError: if a target word has no recording, or there is no sound without one.
    """
    mining = mining or Mining()
    unsaid = set(range(num_labels - NUM_NEGATIVE_LABELS)) - {word.label for word in words}
    if unsaid or not sum(map(len, sounds)):
        raise ValueError(
            "a listener is fit on every target word and on sound without one, got "
            f"{f'no word of label {min(unsaid)}' if unsaid else 'no such sound'}"
        )
    rng = stream(seed, "mining")
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    easy = _drawn(sounds, 4 * mining.windows, rng)
    network = _Network(easy, num_labels, mining, generator)
    places, hard = [word.ends for word in words], np.zeros(0, np.int64)
    for round_number in range(mining.rounds + 1):
        said, labels, weights = _said(words, places, mining.synthetic)
        network.train(said, labels, weights, easy, _at(sounds, hard))
        if round_number < mining.rounds:
            scores = np.concatenate([network.scores(sound) for sound in sounds])
            hard = np.union1d(hard, np.argsort(-scores, kind="stable")[: mining.windows])
            places = [
                word.ends if word.synthetic else _around_best(network.scores(word.windows))
                for word in words
            ]
    found = _at(sounds, hard)
    scores = network.scores(found)
    return network.fitted(said, weights, found, _one_of_each_event(hard, scores))


def _one_of_each_event(places: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of windows, hardest first, without those that are near a harder one in time."""
    rows, taken = [], np.zeros(places.max(initial=0) + 2 * _EVENT_HOPS, dtype=bool)
    for row in np.argsort(-scores, kind="stable"):
        if not taken[places[row]]:
            rows.append(row)
            taken[max(0, places[row] - _EVENT_HOPS) : places[row] + _EVENT_HOPS] = True
    return np.array(rows, dtype=np.int64)


def _around_best(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Four windows around the middle of the three that score highest together."""
    means = np.convolve(scores, np.ones(3) / 3, "same")
    best = int(means.argmax())
    return np.arange(max(0, best - 1), min(len(scores), best + 3))


def _said(
    words: Sequence[HeardWord], places: Sequence[NDArray[np.int64]], synthetic: float
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.float64]]:
    """Windows of all words, their labels, and weights: every label alike, every word of it too."""
    rows = np.concatenate([word.windows[place] for word, place in zip(words, places, strict=True)])
    counts = [len(place) for place in places]
    labels = np.repeat([word.label for word in words], counts)
    each = [
        (synthetic if word.synthetic else 1.0) / max(1, count)
        for word, count in zip(words, counts, strict=True)
    ]
    weights = np.repeat(each, counts)
    weights /= np.bincount(labels, weights)[labels]
    return rows, labels, weights / weights.sum()


def _drawn(sounds: Sequence[FloatArray], most: int, rng: np.random.Generator) -> FloatArray:
    """Windows of all sounds, drawn without regard to what they are."""
    count = sum(map(len, sounds))
    return _at(sounds, np.sort(rng.choice(count, min(count, most), replace=False)))


def _at(sounds: Sequence[FloatArray], places: NDArray[np.int64]) -> FloatArray:
    """Copies of the windows at places (n,) of all sounds one after another, (n, w, f)."""
    starts = np.cumsum([0, *map(len, sounds)])
    parts = [
        sound[places[(places >= start) & (places < start + len(sound))] - start]
        for sound, start in zip(sounds, starts, strict=False)
    ]
    return np.concatenate(parts)


class _Network:
    """Two layers with ReLU and a head, on standardized windows side by side."""

    def __init__(
        self, sounds: FloatArray, num_labels: int, mining: Mining, generator: torch.Generator
    ) -> None:
        flat = sounds.reshape(len(sounds), -1)
        self._mining, self._generator, self._labels = mining, generator, num_labels
        self._mean = torch.from_numpy(flat.mean(axis=0))
        self._deviation = torch.from_numpy(flat.std(axis=0) + 1e-2)
        sizes = (flat.shape[1], *mining.widths, num_labels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            self._layers = nn.ModuleList(
                nn.Linear(before, after) for before, after in pairwise(sizes)
            )
        self._optimizer = torch.optim.AdamW(self._layers.parameters(), 2e-3, weight_decay=1e-3)

    def train(
        self,
        said: FloatArray,
        labels: NDArray[np.int64],
        weights: NDArray[np.float64],
        easy: FloatArray,
        hard: FloatArray,
    ) -> None:
        """Takes steps; every negative of a stream is unknown."""
        words, answers = self._given(said), torch.from_numpy(labels)
        pools = [self._given(pool) for pool in (easy, hard) if len(pool)]
        unknown = self._labels - NUM_NEGATIVE_LABELS
        half = _SOUNDS_IN_STEP // len(pools)
        for _ in range(self._mining.steps):
            drawn = torch.multinomial(
                torch.from_numpy(weights), _WORDS_IN_STEP, replacement=True,
                generator=self._generator,
            )  # fmt: skip
            rows = [words[drawn], *(self._some(pool, half) for pool in pools)]
            given = torch.cat(rows)
            targets = torch.full((len(given),), unknown)
            targets[:_WORDS_IN_STEP] = answers[drawn]
            noise = torch.randn(given.shape, generator=self._generator)
            logits = self._forward(given + _NOISE * noise, drops=True)
            self._optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(logits, targets))
            self._optimizer.step()

    def scores(self, windows: FloatArray) -> NDArray[np.float32]:
        """How much each window (n, w, f) is taken for a target word: its best over unknown."""
        targets = self._labels - NUM_NEGATIVE_LABELS
        found = [np.zeros(0, np.float32)]
        with torch.inference_mode():
            for first in range(0, len(windows), _BLOCK):
                logits = self._forward(self._given(windows[first : first + _BLOCK]))
                others = logits[:, targets:].logsumexp(1)
                found.append((logits[:, :targets].amax(1) - others).numpy())
        return np.concatenate(found)

    def fitted(
        self,
        said: FloatArray,
        weights: NDArray[np.float64],
        hard: FloatArray,
        shipped: NDArray[np.int64],
    ) -> FittedListener:
        """The network with a whitening of words and hard negatives alike, and the same answers."""
        with torch.inference_mode():
            features = [
                self._hidden(self._given(rows)).numpy().astype(np.float64) for rows in (said, hard)
            ]
        share = np.concatenate([weights / 2, np.full(len(hard), 0.5 / len(hard))])
        rows = np.concatenate(features)
        mean = share @ rows
        moment = (rows - mean).T @ ((rows - mean) * share[:, np.newaxis])
        values, vectors = np.linalg.eigh(moment)
        scale = np.sqrt(np.maximum(values, 0) + _REGULARIZATION * max(values.mean(), 1e-12))
        first, second, head = self._layers
        weight, bias = _arrays(head)
        deviation, center = self._deviation.numpy(), self._mean.numpy()
        first_weight, first_bias = _arrays(first)
        first_weight = first_weight / deviation
        return FittedListener(
            pooling=Pooling(
                mean=mean.astype(np.float32),
                matrix=((vectors / scale) @ vectors.T).astype(np.float32),
                layers=(
                    (first_weight, first_bias - first_weight @ center),
                    _arrays(second),
                ),
            ),
            weight=(weight @ (vectors * scale) @ vectors.T).astype(np.float32),
            bias=(bias + weight @ mean).astype(np.float32),
            hard=hard[shipped],
        )

    def _given(self, windows: FloatArray) -> Tensor:
        flat = np.ascontiguousarray(windows, dtype=np.float32).reshape(len(windows), -1)
        return (torch.from_numpy(flat) - self._mean) / self._deviation

    def _some(self, pool: Tensor, count: int) -> Tensor:
        return pool[torch.randint(len(pool), (count,), generator=self._generator)]

    def _hidden(self, given: Tensor, *, drops: bool = False) -> Tensor:
        first, second, _ = self._layers
        hidden = torch.relu(first(given))
        if drops:
            kept = torch.rand(hidden.shape, generator=self._generator) >= self._mining.dropout
            hidden = hidden * kept / (1 - self._mining.dropout)
        return torch.relu(second(hidden))

    def _forward(self, given: Tensor, *, drops: bool = False) -> Tensor:
        head = self._layers[2]
        logits: Tensor = head(self._hidden(given, drops=drops))
        return logits


def _arrays(layer: nn.Module) -> tuple[FloatArray, FloatArray]:
    """Weight and bias of a linear layer."""
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
