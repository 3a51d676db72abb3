"""What each observer has under each protection: two runs that were played, shown in all ways.

    protection             noise   secure aggregation
    "nothing"              no      no
    "secure aggregation"   no      yes
    "DP"                   yes     no
    "both"                 yes     yes

The clip norm of the plan holds in all four: it bounds an update and hides nothing. Readers see sums
whatever the server saw, so secure aggregation changes nothing for them; nor for whoever gets a
personalized adapter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from fedspeech.audits.transcript import Observer, SeenRound, Transcript
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import stream
from simulations.audits.judge import NothingToAsk, Shown
from simulations.audits.playing import NOBODY, Played
from simulations.audits.subject import Subject, with_sums, without_noise

Protection = Literal["nothing", "secure aggregation", "DP", "both"]
PROTECTIONS: tuple[Protection, ...] = get_args(Protection)
WATCHERS: tuple[Observer, ...] = ("server", "reader", "recipient")


@dataclass(frozen=True, kw_only=True)
class View:
    """One observer under one protection; `also` is a protection that shows it the same."""

    observer: Observer
    protection: Protection
    also: tuple[Protection, ...] = ()

    @property
    def noisy(self) -> bool:
        """Whether the run has noise."""
        return self.protection in ("DP", "both")

    @property
    def masked(self) -> bool:
        """Whether single contributions stay hidden from the server."""
        return self.protection in ("secure aggregation", "both")

    @property
    def key(self) -> str:
        """For file names."""
        return f"{self.observer}-{self.protection.replace(' ', '-')}"


def views(plan: PrivacyPlan) -> Iterator[View]:
    """Every observer under every protection that the plan can have, the same view once."""
    promises = plan.mechanism != "none"
    for protection in PROTECTIONS[: 4 if promises else 2]:
        yield View(observer="server", protection=protection)
    for observer in WATCHERS[1:]:
        yield View(observer=observer, protection="nothing", also=("secure aggregation",))
        if promises:
            yield View(observer=observer, protection="DP", also=("both",))


def plan_of(plan: PrivacyPlan, noisy: bool) -> PrivacyPlan:
    """The plan that is played."""
    return with_sums(plan) if noisy else without_noise(plan)


def shown(view: View, subject: Subject, played: Played) -> Shown:
    """The transcript of a view of a run that was played, and who is behind it."""
    if view.observer == "recipient":
        return _personalized(subject, played)
    transcript = played.seen_by(view.observer, masked=view.masked)
    return Shown(transcript=transcript, behind=played.behind(transcript))


def _personalized(subject: Subject, played: Played) -> Shown:
    """Adapters that candidates adapted further on their own clips, one each, after the last round.

    By the gradient steps of `[personalization]`, without a guard; nothing is clipped and no noise
    is added.
    """
    phones = np.array([phone for phone in subject.candidates if phone not in subject.absent])
    last, arrays = played.releases[-1], subject.job.as_of(subject.arrays, len(played.rounds))
    rngs = [stream(subject.job.seed, "audit", "personalize", int(phone)) for phone in phones]
    found = subject.query_of("recipient").contributions(
        [arrays.phone(int(phone)) for phone in phones], last, rngs
    )
    seen = SeenRound(
        number=len(played.rounds), sent=last, senders=NOBODY,
        singles=np.stack(found).astype(np.float64),
    )  # fmt: skip
    transcript = Transcript(
        observer="recipient", plan=played.plan, releases=played.releases, rounds=(seen,)
    )
    return Shown(transcript=transcript, behind=tuple(phones[:, np.newaxis]))


def promised(plan: PrivacyPlan, view: View) -> float:
    """The epsilon that holds against a view, all rounds; infinite where none is promised.

    Without secure aggregation a phone's share of the noise protects it from the server only where
    each phone adds noise enough for itself (mechanism "local"). A personalized adapter is covered
    by nothing: what a phone learned by itself is in it.
    """
    if not view.noisy or view.observer == "recipient":
        return math.inf
    guarantee = plan.guarantee(plan.rounds)
    if view.observer == "reader":
        return guarantee.epsilon_release
    return guarantee.epsilon_server if view.masked or plan.mechanism == "local" else math.inf


def in_sums_of(played: Played, size: int, rng: np.random.Generator) -> Shown:
    """What a server would see of smaller sums: each round's phones in random groups of one size.

    Args:
      played: without noise.
      size: phones in a sum; phones that fill no group are left out.
      rng: draws the groups.

    Raises:
      NothingToAsk: if no round has so many phones.
    """
    rounds: list[SeenRound] = []
    behind = []
    for one in played.rounds:
        order = rng.permutation(len(one.reporting))
        for start in range(0, len(order) - size + 1, size):
            group = order[start : start + size]
            total = one.singles[group].astype(np.float64).sum(axis=0)
            phones = one.reporting[group]
            rounds.append(SeenRound(number=one.number, sent=one.sent, senders=phones, total=total))
            behind.append(phones)
    if not rounds:
        raise NothingToAsk(f"no round has {size} phones")
    plan = replace(
        played.plan, participation_probability=size / played.plan.population, min_cohort=1,
        min_reporting=1, colluders=0,
    )  # fmt: skip
    transcript = Transcript(
        observer="server", plan=plan, releases=played.releases, rounds=tuple(rounds)
    )
    return Shown(transcript=transcript, behind=tuple(behind))
