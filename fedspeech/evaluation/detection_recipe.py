"""The detection recipe of a file: smoothing, cooldown, and a threshold for every word.

    recipe = choose(heard, spoken, hop_ms=20, rate=0.5, streams="2 synthesized hours, ...")
    recipe.rules, recipe.threshold          # what `detections` takes
    recipe.to_json(labels)                  # what stands in the card

Each of k words may be accepted falsely at `rate / k` an hour. For each smoothing a word has a
threshold that keeps to that; the smoothing and the cooldown that find most words are taken.
All of it is chosen on public streams: a recipe is published, and no epsilon covers a choice made on
a phone's recordings. The counts in it are of the streams that chose it, so they flatter it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.evaluation.streaming import (
    THRESHOLDS,
    Keyword,
    ListeningRules,
    OperatingPoint,
    best_words,
    detections,
    hops_in,
    probabilities,
    smoothed,
)

FloatArray = NDArray[np.floating]

SMOOTHING_MS = (100, 200, 400, 600)
COOLDOWN_MS = (1_000, 2_000)


@dataclass(frozen=True, kw_only=True)
class DetectionRecipe:
    """How a file's scores become detections.

    Attributes:
      rules: smoothing, cooldown, and each word's offset from the threshold.
      threshold: the highest of the words' thresholds.
      hop_ms: milliseconds of a hop.
      rate: false accepts per hour that were asked for, all words together.
      found: errors on the streams that chose it.
      streams: what these were.
    """

    rules: ListeningRules
    threshold: float
    hop_ms: float
    rate: float
    found: OperatingPoint
    streams: str

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Of each word, as smoothed probabilities."""
        levels = special.logit(self.threshold) + np.asarray(self.rules.offsets)
        return tuple(float(value) for value in special.expit(levels))

    def to_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """Returns JSON values; `labels` begin with the target words."""
        found = self.found
        return {
            "smoothing_hops": self.rules.smoothing_hops,
            "cooldown_hops": self.rules.cooldown_hops,
            "hop_ms": self.hop_ms,
            # Shortened where no hop can tell: of a probability near 1, its distance from 1 counts.
            "thresholds": dict(zip(labels, (round(t, 9) for t in self.thresholds), strict=False)),
            "false_accepts_per_hour_asked_for": self.rate,
            "chosen_on": self.streams,
            "false_accepts": found.false_accepts,
            "hours": found.hours,
            "false_accepts_per_hour_interval": found.false_accepts_interval,
            "rejected": found.rejected,
            "keywords": found.keywords,
            "frr_interval": found.frr_interval,
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> DetectionRecipe:
        """Inverts `to_json`.

        Raises:
          KeyError, TypeError, ValueError: if the values are no recipe.
        """
        levels = special.logit(np.array([float(t) for t in values["thresholds"].values()]))
        if not len(levels) or not np.isfinite(levels).all():
            raise ValueError("every threshold must be above 0 and below 1")
        highest = float(levels.max())
        return cls(
            rules=ListeningRules(
                smoothing_hops=values["smoothing_hops"],
                cooldown_hops=values["cooldown_hops"],
                patience_hops=ListeningRules.every(float(values["hop_ms"])).patience_hops,
                offsets=tuple(float(level - highest) for level in levels),
            ),
            threshold=float(special.expit(highest)),
            hop_ms=float(values["hop_ms"]),
            rate=float(values["false_accepts_per_hour_asked_for"]),
            streams=str(values["chosen_on"]),
            found=OperatingPoint(
                threshold=float(special.expit(highest)),
                false_accepts=int(values["false_accepts"]),
                hours=float(values["hours"]),
                rejected=int(values["rejected"]),
                keywords=int(values["keywords"]),
            ),
        )


def choose(
    heard: Sequence[FloatArray],
    spoken: Sequence[tuple[FloatArray, Sequence[Keyword]]],
    *,
    hop_ms: float,
    rate: float,
    streams: str,
) -> DetectionRecipe | None:
    """Chooses the recipe with the fewest false rejects among those that keep to the rate.

    Where the rate allows less than one false accept of a word in all hours, none is allowed.
    None: no threshold keeps to it, because probabilities of other sounds reach 1.

    Args:
      heard: logits (hops, c) of streams without a target word.
      spoken: logits of streams with target words, and where these are.
      hop_ms: milliseconds of a hop.
      rate: false accepts per hour, all words together.
      streams: what these streams are, for the card.

    Raises:
      ValueError: if there is no stream without a target word, or the rate is not positive.
    """
    hours = sum(len(logits) for logits in heard) * hop_ms / 3_600_000
    if not hours or not rate > 0:
        raise ValueError(f"a rate above 0 on more than 0 hours, got rate={rate}, hours={hours}")
    heard_shares = [probabilities(logits) for logits in heard]
    spoken_shares = [(probabilities(logits), keywords) for logits, keywords in spoken]
    best: DetectionRecipe | None = None
    cooldowns = [hops_in(duration, hop_ms) for duration in COOLDOWN_MS]
    # Long hops round several durations to one number of them.
    for smoothing in sorted({hops_in(duration, hop_ms) for duration in SMOOTHING_MS}):
        means = [smoothed(shares, smoothing) for shares in heard_shares]
        levels = _levels(means, rate * hours, cooldowns[0])
        words = [(smoothed(shares, smoothing), marks) for shares, marks in spoken_shares]
        for cooldown in cooldowns:
            rules = ListeningRules(
                patience_hops=ListeningRules.every(hop_ms).patience_hops,
                smoothing_hops=smoothing,
                cooldown_hops=cooldown,
                offsets=tuple(float(level - levels.max()) for level in levels),
            )
            threshold = float(special.expit(levels.max()))
            found = _counted(means, words, rules, threshold, hours)
            if found.false_accepts > rate * hours + 1e-9:
                continue
            if best is None or found.rejected < best.found.rejected:
                best = DetectionRecipe(
                    rules=rules, threshold=threshold, hop_ms=hop_ms, rate=rate, found=found,
                    streams=streams,
                )  # fmt: skip
    return best


def _levels(means: Sequence[FloatArray], allowed: float, cooldown: int) -> FloatArray:
    """Each word's threshold, in log-odds, that keeps to its part of the allowed false accepts.

    By bisection over `THRESHOLDS`. The count need not fall with the threshold, because of the
    cooldown, so a lower one may keep to it too; the one that is found does, unless it is the last.
    """
    num_words = means[0].shape[1] - NUM_NEGATIVE_LABELS
    levels = np.empty(num_words)
    for word in range(num_words):
        # What ever reaches the lowest threshold is all that counts.
        scores = [mean[:, word] for mean in means if mean[:, word].max() >= THRESHOLDS[0]]
        too_low, kept = -1, len(THRESHOLDS) - 1
        while kept - too_low > 1:
            middle = (too_low + kept) // 2
            level = THRESHOLDS[[middle]]
            count = sum(int(detections(one, level, cooldown).sum()) for one in scores)
            if count > allowed / num_words + 1e-9:
                too_low = middle
            else:
                kept = middle
        levels[word] = special.logit(THRESHOLDS[kept])
    return levels


def _counted(
    means: Sequence[FloatArray],
    words: Sequence[tuple[FloatArray, Sequence[Keyword]]],
    rules: ListeningRules,
    threshold: float,
    hours: float,
) -> OperatingPoint:
    """Errors at one threshold, of smoothed probabilities."""
    # As far below as offsets and log-odds round.
    level = np.array([threshold - 1e-9])
    accepts = sum(
        int(detections(best_words(scores, rules)[1], level, rules.cooldown_hops).sum())
        for scores in means
    )
    found, said = 0, 0
    for scores, keywords in words:
        labels, best = best_words(scores, rules)
        (marks,) = detections(best, level, rules.cooldown_hops)
        for keyword in keywords:
            during = slice(keyword.first_hop, keyword.last_hop + rules.patience_hops + 1)
            found += int((marks[during] & (labels[during] == keyword.label)).any())
            said += 1
    return OperatingPoint(
        threshold=threshold, false_accepts=accepts, hours=hours, rejected=said - found,
        keywords=said,
    )  # fmt: skip
