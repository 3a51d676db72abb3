"""What a guess is worth: scores beside the truth, which no attack has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import TRAITS, Guess, Secret
from fedspeech.audits.claims import ClaimCheck, check
from fedspeech.audits.transcript import Transcript
from fedspeech.evaluation.balanced_accuracy import balanced_accuracy_metric
from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.roc import detection_metrics
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics
from simulations.audits.subject import Subject


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A transcript, and the phones behind each of its observations.

    Attributes:
      transcript: what the attack gets.
      behind: phones in each observation, in order, shape (n,) each.
    """

    transcript: Transcript
    behind: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, kw_only=True)
class Promised:
    """What is promised against a view, of worlds in which a phone is silent: zero-out neighbors."""

    epsilon: float
    delta: float


class NothingToAsk(ValueError):
    """The observer has nothing of which this secret could be asked."""


def judged(
    secret: Secret, guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    """The figures of a guess, the one that tables show first; `rng` is of intervals.

    Raises:
      NothingToAsk: if there are not two kinds of answers to tell apart.
    """
    if secret == "speaker":
        return _speaker(guess, subject, shown, rng)
    if secret == "link":
        return _link(guess, subject, shown, rng)
    if secret == "membership":
        return _membership(guess, subject, shown, rng)
    if secret == "clip":
        return _clip(guess, subject, shown, rng)
    if secret in TRAITS:
        return _trait(secret, guess, subject, shown, rng)
    raise NothingToAsk(f"nothing of {secret!r} was hidden in this scenario")


FEWEST_COINS = 20


def checked(
    secret: Secret, guess: Guess, subject: Subject, promise: Promised, confidence: float
) -> ClaimCheck | None:
    """What an attack on membership proves about the epsilon that is promised against it.

    Candidates are absent by fair coins and add their noise: neighbors by zero-out, all of one run.

    Returns:
      None where nothing is promised, or the secret or so few candidates are no such game.
    """
    coins = np.array([phone not in subject.absent for phone in subject.candidates])
    if secret != "membership" or math.isinf(promise.epsilon) or len(coins) < FEWEST_COINS:
        return None
    return check(
        guess.scores[0], coins, claimed=promise.epsilon, delta=promise.delta, confidence=confidence
    )


def beats_chance(metric: Metric) -> bool:
    """Whether a figure is better for the attacker than chance with its whole 95 % interval."""
    if metric.interval is None or metric.by_chance is None:
        return False
    if metric.lower_is_better:
        return metric.interval.high < metric.by_chance
    return metric.interval.low > metric.by_chance


def _speaker(
    guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    there = np.array([phone not in subject.absent for phone in subject.candidates])
    truth = np.stack([np.isin(subject.candidates, phones) & there for phones in shown.behind])
    asked = truth.any(axis=1)
    if not asked.any():
        raise NothingToAsk("no candidate is behind an observation")
    return linking_metrics(Trials(guess.scores[asked], truth[asked]), rng)


def _link(
    guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    rows, phones = _single(subject, shown)
    rounds = shown.transcript.observed_in[rows]
    truth = phones[:, np.newaxis] == phones
    apart = rounds[:, np.newaxis] != rounds
    if not (truth & apart).any() or not (~truth & apart).any():
        raise NothingToAsk("no phone is seen in two rounds")
    scores = guess.scores[np.ix_(rows, rows)]
    return linking_metrics(Trials(scores, truth, counted=apart, speakers=phones), rng)


def _membership(
    guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    took_part = np.unique(np.concatenate(shown.behind)) if shown.behind else np.zeros(0, int)
    members = np.array(
        [phone in took_part and phone not in subject.absent for phone in subject.candidates]
    )
    return _told(guess.scores[0], members, rng)


def _clip(
    guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    """By clips of phones that are there: those trained on, and others of the same phones."""
    _, phones, trained = subject.asked
    scores, known = np.zeros(len(phones)), np.zeros(len(phones), dtype=bool)
    for column, phone in enumerate(phones):
        rows = [row for row, behind in enumerate(shown.behind) if phone in behind]
        known[column] = bool(rows)
        if rows:
            scores[column] = guess.scores[rows, column].mean()
    return _told(scores[known], trained[known], rng)


def _told(
    scores: NDArray[np.float64], true: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Metric, ...]:
    if true.all() or not true.any():
        raise NothingToAsk("all hypotheses have one answer")
    return detection_metrics(scores[true], scores[~true], rng)


def _trait(
    secret: Secret, guess: Guess, subject: Subject, shown: Shown, rng: np.random.Generator
) -> tuple[Metric, ...]:
    rows, phones = _single(subject, shown)
    values = _values(subject, secret)
    true = np.array([_place(values, subject.traits[phone].get(secret)) for phone in phones])
    known = true >= 0
    if len(np.unique(true[known])) < 2:
        raise NothingToAsk(f"fewer than two values of {secret} are known of the phones")
    scores = guess.scores[rows][known]
    return (balanced_accuracy_metric(scores, true[known], phones[known], rng),)


def _values(subject: Subject, secret: Secret) -> tuple[str, ...]:
    """As `Knowledge.values` has them."""
    return tuple(
        sorted({known.traits[secret] for known in subject.public if secret in known.traits})
    )


def _place(values: tuple[str, ...], value: str | None) -> int:
    return values.index(value) if value in values else -1


def _single(subject: Subject, shown: Shown) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Observations of one candidate that is there, and which phone it is.

    Raises:
      NothingToAsk: if the observer has sums alone.
    """
    if not shown.transcript.single:
        raise NothingToAsk("a sum of many phones is of no single one")
    there = set(subject.candidates.tolist()) - subject.absent
    rows = [row for row, phones in enumerate(shown.behind) if int(phones[0]) in there]
    if not rows:
        raise NothingToAsk("no candidate is behind an observation")
    return np.array(rows), np.array([int(shown.behind[row][0]) for row in rows])
