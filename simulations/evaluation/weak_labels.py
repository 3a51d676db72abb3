"""What phones gain by training on weak labels too, and how noisy these may be.

Every held-out phone adapts twice from the same model: on the clips that its user accepted or
corrected, and on those and the ones that were tried again, which count less. The share of retries
that tell another word than was meant is raised until the weak labels do harm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.user_rates import UserRates
from fedspeech.device.weak_labels import LabelWeights, Reaction, Reactions, reactions
from fedspeech.evaluation.metric import Axis, Chart, Curve, Interval, Metric, Section
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset

NOISE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of retries that tell another word than was meant."""

Gains = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""What `gains` returns."""

STRONG = LabelWeights(retry=0.0)
_DRAWS = 1_000

Accuracies = Callable[[Sequence[NDArray[np.int64]], Sequence[LocalDataset]], NDArray[np.float64]]
"""From the clips that each phone keeps, as places among its own, and these clips as they are
labeled and weighed, to the accuracy of each phone's adapter, shape (phones,)."""


def gains(
    own: Sequence[LocalDataset],
    answered: Sequence[NDArray[np.int64]],
    accuracies: Accuracies,
    *,
    words: int,
    rates: UserRates,
    weights: LabelWeights,
    seed: int,
) -> Gains:
    """Accuracies of phones that adapt on reactions.

    Args:
      own: clips of each phone, labeled by what was meant.
      answered: what the model answers to them before adapting.
      accuracies: of adapted phones.
      words: number of words; only clips of words are spoken to a phone.
      rates: of the users.
      weights: of clips.
      seed: of the reactions.

    Returns:
      On strong labels alone, shape (phones,); with weak ones, shape (noises, phones); number of
      accepted, corrected and retried clips of each phone, shape (3, phones).
    """

    def reacted(mistaken: float) -> list[Reactions]:
        return [
            reactions(clips.labels, found, words=words, rates=rates, mistaken=mistaken,
                      rng=stream(seed, "weak labels", phone))
            for phone, (clips, found) in enumerate(zip(own, answered, strict=True))
        ]  # fmt: skip

    def adapted(mistaken: float, weights: LabelWeights) -> NDArray[np.float64]:
        labeled = [one.labeled(weights) for one in reacted(mistaken)]
        kept = [clips for clips, _, _ in labeled]
        datasets = [
            replace(mine, embeddings=mine.embeddings[clips], labels=labels, weights=counts)
            for mine, (clips, labels, counts) in zip(own, labeled, strict=True)
        ]
        return accuracies(kept, datasets)

    seen = [one.kinds for one in reacted(0.0)]
    counts = [[(kinds == kind).sum() for kinds in seen] for kind in list(Reaction)[1:]]
    weak = np.stack([adapted(mistaken, weights) for mistaken in NOISE])
    return adapted(0.0, STRONG), weak, np.array(counts, dtype=np.int64)


def turns_negative(gain: NDArray[np.float64]) -> float:
    """The noise from which a gain is no gain, between two of `NOISE`; 1 where it always is one.

    Args:
      gain: shape (noises,).
    """
    for place, value in enumerate(gain):
        if value <= 0:
            if place == 0:
                return 0.0
            before, (low, high) = gain[place - 1], NOISE[place - 1 : place + 1]
            return float(low + (high - low) * before / (before - value))
    return 1.0


def weak_label_section(
    strong: NDArray[np.float64], weak: NDArray[np.float64], counts: NDArray[np.int64], seed: int
) -> Section:
    """The panel of a run: the gain by noise with intervals over phones, and where it ends."""
    gain, phones = weak - strong, len(strong)
    drawn = stream(seed, "weak labels", "bootstrap").integers(phones, size=(_DRAWS, phones))
    means = gain[:, drawn].mean(axis=2)  # (noises, draws)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    ends = [turns_negative(one) for one in means.T]
    end = Interval(low=float(np.quantile(ends, 0.025)), high=float(np.quantile(ends, 0.975)))
    curve = Curve(
        name="gain over strong labels alone", x=NOISE, y=tuple(gain.mean(axis=1).tolist()),
        model="personalized", low=tuple(low.tolist()), high=tuple(high.tolist()),
    )  # fmt: skip
    crossing = turns_negative(gain.mean(axis=1))
    chart = Chart(
        name="Weak labels",
        says="What retries, which count less, add to the accuracy of phones that adapt on what "
        "their users accepted or corrected, by the share of retries that tell another word than "
        "was meant. Bands are 95 %, bootstrap over phones.",
        x=Axis(name="retries that tell another word"),
        y=Axis(name="gain in accuracy"),
        curves=(curve,),
        marked=crossing,
    )
    accepted, corrected, retried = counts.mean(axis=1).tolist()
    metric = functools.partial(Metric, model="personalized", phones=phones)
    strongly = functools.partial(metric, variant="on strong labels")
    weakly = functools.partial(metric, variant="on weak ones too")
    clips, ends_at = "clips of a phone", "share of mistaken retries at which the gain ends"
    return Section(
        key="weak labels",
        title="Labels from users' reactions",
        on="own words of held-out phones, after adapting on clips by what their users did",
        says="Strong: commands that were accepted or corrected. Weak: what was tried again; its "
        "accuracy is that without a mistaken one.",
        metrics=(
            strongly(name="accuracy", value=float(strong.mean())),
            weakly(name="accuracy", value=float(weak[0].mean())),
            strongly(name=clips, value=accepted + corrected, unit="number"),
            weakly(name=clips, value=accepted + corrected + retried, unit="number"),
            weakly(name=ends_at, value=crossing, interval=end),
        ),
        charts=(chart,),
    )  # fmt: skip
