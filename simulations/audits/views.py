"""What each observer has under each protection: two runs that were played, shown in all ways.

    protection             noise   secure aggregation
    "nothing"              no      no
    "secure aggregation"   no      yes
    "DP"                   yes     no
    "both"                 yes     yes

The clip norm of the plan holds in all four: it bounds an update and hides nothing. Readers see sums
whatever the server saw, so secure aggregation changes nothing for them; nor for a member of
cohorts, nor for whoever gets a personalized adapter.
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
from simulations.audits.judge import NothingToAsk, Promised, Shown
from simulations.audits.playing import NOBODY, Played
from simulations.audits.subject import Subject, with_sums, without_noise

Protection = Literal["nothing", "secure aggregation", "DP", "both"]
PROTECTIONS: tuple[Protection, ...] = get_args(Protection)
WATCHERS: tuple[Observer, ...] = ("server", "reader", "cohort_member", "recipient")


MOST_SUMS = 1000  # of one size


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
    member = subject.member_of(played) if view.observer == "cohort_member" else None
    transcript = played.seen_by(view.observer, masked=view.masked, member=member)
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


def of_candidates(seen: Shown, subject: Subject) -> Shown:
    """Single contributions of those who may be attacked; sums as they are.

    An attack that scores an observation by itself, or pairs of them, loses nothing: of the others
    there is nothing to judge, and in a large population they are most of the work.
    """
    transcript = seen.transcript
    if not transcript.single or transcript.observer != "server":
        return seen
    kept = [np.isin(one.senders, subject.candidates) for one in transcript.rounds]
    rounds = tuple(
        replace(one, senders=one.senders[here], singles=one.singles[here])
        for one, here in zip(transcript.rounds, kept, strict=True)
        if one.singles is not None
    )
    return Shown(
        transcript=replace(transcript, rounds=rounds),
        behind=tuple(row for one in rounds for row in one.senders[:, np.newaxis]),
    )


def promised(plan: PrivacyPlan, view: View) -> float:
    """The epsilon that holds against a view, all rounds; infinite where none is promised.

    Without secure aggregation a phone's share of the noise protects it from the server only where
    each phone adds noise enough for itself (mechanism "local"). A personalized adapter is covered
    by nothing: what a phone learned by itself is in it. A member of cohorts knows who took part and
    its own share of the noise: it is one colluder of a plan that counts on one, and a reader whom
    the secrecy of who takes part does not hold off.
    """
    if not view.noisy or view.observer == "recipient":
        return math.inf
    guarantee = plan.guarantee(plan.rounds)
    if view.observer == "reader":
        return guarantee.epsilon_release
    if view.observer == "cohort_member":
        if plan.on_phones:
            known = plan.mechanism == "local" or plan.colluders > 0
            return guarantee.epsilon_server if known else math.inf
        told = guarantee.amplified or guarantee.relation_release == "add/remove"
        return math.inf if told else guarantee.epsilon_release
    return guarantee.epsilon_server if view.masked or plan.mechanism == "local" else math.inf


def promised_of_silence(plan: PrivacyPlan, view: View) -> Promised:
    """What the promise against a view says of a phone that is there and contributes its noise only.

    Zero-out and replace say it as they are. Add/remove is of a phone that takes its share of the
    noise along: to be silent is to go, and to come back with nothing to say, two steps (group
    privacy: Dwork and Roth 2014, Theorem 2.2).
    """
    epsilon, delta = promised(plan, view), plan.delta
    if math.isinf(epsilon):
        return Promised(epsilon=epsilon, delta=delta)
    gone = plan.guarantee(plan.rounds).relation_release == "add/remove"
    if view.observer == "reader" and gone and plan.on_phones:
        return Promised(epsilon=2 * epsilon, delta=min(1.0, (1 + math.exp(epsilon)) * delta))
    return Promised(epsilon=epsilon, delta=delta)


def in_sums_of(played: Played, size: int, rng: np.random.Generator) -> Shown:
    """What a server would see of smaller sums: each round's phones in random groups of one size.

    Args:
      played: without noise.
      size: phones in a sum; phones that fill no group are left out, and all beyond `MOST_SUMS`.
      rng: draws the groups.

    Raises:
      NothingToAsk: if no round has so many phones.
    """
    rounds: list[SeenRound] = []
    behind = []
    most = max(1, MOST_SUMS // max(1, len(played.rounds)))
    for one in played.rounds:
        order = rng.permutation(len(one.reporting))[: most * size]
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
