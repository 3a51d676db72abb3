"""Parity of a file with the trained model, measured or refused.

A float file must give torch's logits; a file with fewer bits must give torch's predictions, and
lose no user's accuracy for it.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from tflite_export.arrays import FloatArray
from tflite_export.checks import Check, at_least, at_most
from tflite_export.evidence import HeldOut

MAX_LOGIT_DIFFERENCE = 1e-4
MAX_ACCURACY_DROP = 0.01
MAX_CHANCE = 0.05


def require_logits(
    name: str,
    expected: FloatArray,
    found: FloatArray,
    *,
    limit: float = MAX_LOGIT_DIFFERENCE,
    speech: int,
) -> tuple[Check, ...]:
    """Compares logits (n, c) of a signature with torch's; every prediction must be torch's.

    `speech` says how many of the inputs are speech.

    Raises:
      ExportRefused: if they are too far apart; names the check and the figure.
    """
    at_most(f"{name} logits of another shape", float(found.shape != expected.shape), 0, "the file")
    predicted = expected.argmax(axis=1)
    over = (
        f"{len(expected)} inputs, {speech} of them speech, to which torch gave "
        f"{len(np.unique(predicted))} different answers"
    )
    # In float64, where a difference of two float32 is exact.
    difference = np.abs(found.astype(np.float64) - expected).max()
    agreement = (found.argmax(axis=1) == predicted).mean()
    return (
        at_most(f"{name} logits, largest difference", difference, limit, over),
        at_least(f"{name} same answer", agreement, 1.0, over),
    )


def least_of_sample(least: float, count: int) -> float:
    """The least share that a sample of so many shows if `least` is true of all, less one in twenty.

    (count - q) / count, q the 95th percentile of Bin(count, 1 - least).
    """
    return (count - float(stats.binom.ppf(1 - MAX_CHANCE, count, 1 - least))) / count


def require_answers(
    name: str,
    expected: FloatArray,
    found: FloatArray,
    held_out: HeldOut,
    *,
    least_agreement: float,
    sampled: bool = False,
) -> tuple[Check, ...]:
    """Compares logits (n, c) with torch's on held-out people: agreement, accuracy, worst user.

    Clips are a sample of what people say. The limit is on what is true of all: a file is refused
    where so many lost predictions would come by chance less than once in twenty times. Of n clips
    that is more than the 95th percentile of Bin(n, 1 - least_agreement); of a user's n, more than a
    true drop of one point would cost one of so many users. `sampled` clips are of a larger set that
    was judged whole: chance is then allowed for in the accuracy lost as well, by that percentile.

    Raises:
      ExportRefused: if agreement or accuracy is lost; names the check and the figure.
    """
    predicted, others = expected.argmax(axis=1), found.argmax(axis=1)
    users, rows = np.unique(held_out.users, return_inverse=True)
    clips = np.bincount(rows)
    right, still = (
        np.bincount(rows, weights=given == held_out.labels) for given in (predicted, others)
    )
    lost = right - still
    # Shared out over the users (Bonferroni): with many of them, the worst looks bad by chance.
    allowed = stats.binom.ppf(1 - MAX_CHANCE / len(users), clips, MAX_ACCURACY_DROP)
    worst = int(np.argmax((lost - allowed) / clips))
    most_lost = MAX_ACCURACY_DROP
    if sampled:
        # As often as a true drop of one point would cost so many of the sample's clips.
        by_chance = float(stats.binom.ppf(1 - MAX_CHANCE, len(predicted), MAX_ACCURACY_DROP))
        most_lost = max(most_lost, by_chance / len(predicted))
    over = f"{len(predicted)} clips of {len(users)} held-out users of {held_out.source}"
    return (
        at_least(
            f"{name} agreement",
            (predicted == others).mean(),
            least_of_sample(least_agreement, len(predicted)),
            f"{over} ({least_agreement:.1%} of all, less what chance takes once in twenty)",
        ),
        at_most(f"{name} accuracy drop", (lost / clips).mean(), most_lost, over),
        at_most(
            f"{name} worst user's accuracy drop",
            lost[worst] / clips[worst],
            max(MAX_ACCURACY_DROP, float(allowed[worst] / clips[worst])),
            f"{clips[worst]} clips of the user nearest to the limit, of {len(users)}",
        ),
    )
