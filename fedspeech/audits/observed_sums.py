"""What an observer has of each round, as near to the sum of its phones as it can work out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import ServerOptimizer
from fedspeech.audits.transcript import Transcript
from fedspeech.privacy.plan import PrivacyPlan


def observed(transcript: Transcript, optimizer: ServerOptimizer) -> NDArray[np.float64]:
    """The observations of a transcript, with the server's rule and one's own part taken off.

    The server has sums or single contributions. Readers work sums out of two releases, and a member
    of the cohort takes what it sent itself off them.

    Returns:
      Shape (trials, d), a row for each of `Transcript.observations`.
    """
    if transcript.observer in ("server", "recipient"):
        return transcript.observations
    rows = released_sums(transcript.releases, optimizer, transcript.plan)
    for row, seen in zip(rows, transcript.rounds, strict=False):
        if seen.own is not None:
            row -= seen.own
    return rows


def phones_in_row(transcript: Transcript, place: int) -> float:
    """Phones in each row of a round, without the observer's own, as far as it knows."""
    if transcript.single:
        return 1.0
    seen = transcript.rounds[place]
    count = len(seen.senders) or transcript.plan.expected_in_sum
    return float(count - (seen.own is not None))


def released_sums(
    releases: NDArray[np.float32], optimizer: ServerOptimizer, plan: PrivacyPlan
) -> NDArray[np.float64]:
    """The decoded sum of every round, as a reader works it out from releases, shape (rounds, d).

    A server rule is public. Where its step is a line in every coordinate of the mean (FedAvg, with
    momentum or without), two trial steps say which; where it is none, the steps themselves are what
    a reader has.
    """
    wide = releases.astype(np.float64)
    state, means = optimizer.init(releases[0]), []
    for after in wide[1:]:
        zero, one = (
            optimizer.apply(state, np.full(wide.shape[1], value)).parameters for value in (0.0, 1.0)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (after - zero) / (one - zero)
        if not np.isfinite(mean).all():
            return np.diff(wide, axis=0)
        state = optimizer.apply(state, mean)
        if not np.allclose(state.parameters, after, atol=1e-5):
            return np.diff(wide, axis=0)
        means.append(mean)
    return np.array(means).reshape(-1, wide.shape[1]) * plan.expected_cohort
