"""Who takes part in a round, and in which of its sums."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.job import Job, group_seed
from fedspeech.messages import RoundKey
from fedspeech.privacy.participation import (
    PoissonParticipation,
    dealt,
    fixed_size_cohort,
    turns,
)
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import Keystream, canonical

MASKED_GROUPS = (
    "groups must be 1 with masked sums: over messages a round is one masked session, and groups "
    'need one each; set secure_aggregation to "ideal", which simulates them'
)
"""Why no engine runs such a plan; the reference round takes one masked sum for each group."""

Phones = Sequence[int] | NDArray[np.int64]


def draw_cohort(job: Job, key: RoundKey) -> NDArray[np.int64]:
    """Who takes part in a round, sorted, shape (cohort,).

    Coins are the phones' own. Where the server draws, the draw follows from the round's id, which
    it chose and no reader of the models sees.
    """
    if job.plan.drawn_by_server:
        secret = Keystream(hashlib.sha256(canonical("cohort", key.round_id, key.round)).digest())
    else:
        # Named by neither attempt nor id, so that under seeded noise a round has one toss.
        secret = job.entropy().keystream("cohort", key.round)
    return called(job.plan, key.round, secret)


def called(plan: PrivacyPlan, round_number: int, secret: Keystream) -> NDArray[np.int64]:
    """The phones that a plan calls for a round, sorted, shape (cohort,).

    Args:
      plan: says how they are drawn.
      round_number: from 0.
      secret: of this round, used for nothing else; turns are public and read nothing of it.
    """
    size = round(plan.expected_cohort)
    if plan.participation == "round_robin":
        return turns(round_number, population=plan.population, size=size)
    if plan.participation == "fixed_size":
        return fixed_size_cohort(secret, population=plan.population, size=size)
    return PoissonParticipation(
        population=plan.population, probability=plan.participation_probability, cap=plan.cohort_cap
    ).cohort(secret)


def groups_of(job: Job, key: RoundKey, phones: Phones) -> NDArray[np.int64]:
    """The group of each of some phones of a round, same shape; zeros where there is one sum.

    -1 of phones that are not dealt: what a list of the other side names may be no phone at all.
    """
    asked = np.asarray(phones, dtype=np.int64)
    if job.plan.groups == 1:
        return np.zeros(len(asked), dtype=np.int64)
    # By coins it is each shard that knows who is called, and everybody is dealt.
    called = asked if job.plan.participation == "poisson" else draw_cohort(job, key)
    known = (asked >= 0) & (asked < job.plan.population)
    every = group_of_each(job.plan, key, called)
    return np.where(known, every[np.where(known, asked, 0)], -1)


def group_of_each(plan: PrivacyPlan, key: RoundKey, called: NDArray[np.int64]) -> NDArray[np.int64]:
    """The group of every phone of the population in a round, shape (population,); -1: of none.

    By coins anybody may come, so everybody is dealt; else those who are called.
    """
    candidates = np.arange(plan.population) if plan.participation == "poisson" else called
    group = np.full(plan.population, -1, dtype=np.int64)
    group[candidates] = dealt(candidates, plan.groups, group_seed(key))
    return group


def too_few(job: Job, key: RoundKey, phones: Phones, did: str, minimum: int) -> str:
    """Why some phones are too few for a sum of each group, in words; "" if they are not."""
    groups = groups_of(job, key, phones)
    sizes = np.bincount(groups[groups >= 0], minlength=job.plan.groups)
    where = "" if len(sizes) == 1 else f" in group {int(sizes.argmin())}"
    if sizes.min() >= minimum:
        return ""
    return f"{sizes.min()} phones {did}{where}, the plan's minimum is {minimum}"
