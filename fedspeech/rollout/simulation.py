"""Roll-outs of an update whose effect is known: how often each ends as it should.

    outcomes = simulate(plan, losses={"accent=scottish": 0.05}, seeds=range(200))
    outcomes.reached.mean(), outcomes.served.max()

Phones are drawn as groups: those of each stage that the stages before did not have. A group's mean
accuracy is drawn once and stays, as its phones do; every window draws who answers, their clips and
the noise. Groups are nested as stages are, so a stage that was lucky in its phones takes them
along. Sums over a group are normal; a test compares them with phones that are drawn one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.rollout.guardrails import Counts, FloatArray, judge
from fedspeech.rollout.plan import RolloutPlan, Stage
from fedspeech.seeds import stream


@dataclass(frozen=True)
class Outcomes:
    """How simulated roll-outs ended; shapes (seeds,).

    Attributes:
      served: share of the phones that had the new version at most.
      looks: windows that were counted.
      rolled_back: ended by a guardrail.
    """

    served: FloatArray
    looks: NDArray[np.int64]
    rolled_back: NDArray[np.bool_]

    @property
    def reached(self) -> NDArray[np.bool_]:
        """Everybody has the new version."""
        return np.asarray(self.served == 1)

    @property
    def paused(self) -> NDArray[np.bool_]:
        """Ended undecided, for somebody to look."""
        return ~self.reached & ~self.rolled_back


def simulate(
    plan: RolloutPlan,
    *,
    losses: Mapping[str, float] | None = None,
    seeds: Sequence[int] = range(200),
    missing: float = 0.0,
) -> Outcomes:
    """Carries a plan out once per seed, with an update of known effect.

    Args:
      plan: with segments that are large enough (`power.forecast`).
      losses: full name of a segment to the accuracy that the update costs it, as a share.
      seeds: of the phones, their clips and the noise.
      missing: chance that a cell of a window is withheld.

    Raises:
      ValueError: if a segment is not one of the plan.
    """
    unknown = set(losses or {}) - set(plan.cells)
    if unknown:
        raise ValueError(
            f"losses must be of {', '.join(plan.cells)}, got {', '.join(sorted(unknown))}"
        )
    lost = np.array([(losses or {}).get(name, 0.0) for name in plan.cells])
    groups = [_Groups(plan, lost, seed) for seed in seeds]
    served = np.full(len(groups), plan.stages[0].share)
    looks = np.zeros(len(groups), np.int64)
    rolled_back = np.zeros(len(groups), bool)
    going = np.arange(len(groups))
    for number, stage in enumerate(plan.watched):
        if not len(going):
            break
        counts = _stacked([groups[one].stage(number, stage, missing) for one in going])
        ends, harmed = _ends(counts, plan, stage)
        looks[going] += ends.clip(max=stage.windows)
        rolled_back[going] = harmed
        going = going[~harmed & (ends <= stage.windows)]
        served[going] = plan.stages[number + 1].share
    return Outcomes(served, looks, rolled_back)


def _ends(
    counts: Counts, plan: RolloutPlan, stage: Stage
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The look at which each roll-out's stage ends, from 1, and whether by harm.

    A stage that never ends has the number after its last look.
    """
    judged = judge(counts, plan, stage)
    harmed, cleared = judged.harmed.any(-1), judged.cleared.all(-1)
    over = harmed | cleared  # (looks, seeds)
    first = np.where(over.any(0), over.argmax(0), stage.windows)
    at_end = np.take_along_axis(harmed, first.clip(max=stage.windows - 1)[None], 0)[0]
    return first + 1, at_end & (first < stage.windows)


class _Groups:
    """The phones of one simulated population, by segment and by the stage that they join."""

    def __init__(self, plan: RolloutPlan, lost: FloatArray, seed: int) -> None:
        self._plan, self._lost = plan, lost
        self._rng = stream(seed, "roll-out")
        asked = plan.evaluation
        joins = np.diff([0.0, *(stage.share for stage in plan.stages)])
        cells = np.array(list(plan.cells.values()))
        self._phones = np.maximum(plan.phones * joins[:, None] * cells, 1e-9)  # (groups, segments)
        most = asked.accuracy * (1 - asked.accuracy)
        self._between = most if asked.phone_stddev is None else min(asked.phone_stddev**2, most)
        self._within = most - self._between
        lasting = np.sqrt(self._between / self._phones) * self._normal(self._phones.shape)
        self._accuracy = asked.accuracy + lasting

    def stage(self, number: int, stage: Stage, missing: float) -> Counts:
        """Counts of a stage's windows, (windows, segments); NaN where withheld."""
        table = np.stack([self._window(number) for _ in range(stage.windows)])
        if missing:
            withheld = self._rng.random((stage.windows, table.shape[-1])) < missing
            table[np.broadcast_to(withheld[:, None], table.shape)] = np.nan
        noise = np.full(table[:, 0].shape, self._plan.noise_stddev)
        return Counts(table[:, 0], table[:, 1], table[:, 2], table[:, 3], noise, noise)

    def _window(self, number: int) -> FloatArray:
        """Noisy correct clips and clips of both sides, shape (4, segments)."""
        asked = self._plan.evaluation
        q = asked.participation
        # Who answers is a fresh draw: a group's mean accuracy moves by what was left out.
        answering = np.maximum(
            q * self._phones + np.sqrt(q * (1 - q) * self._phones) * self._normal(), 0.0
        )
        moved = np.sqrt(self._between * (1 - q) / np.maximum(q * self._phones, 1.0))
        accuracy = self._accuracy + moved * self._normal()
        accuracy[: number + 1] -= self._lost
        clips = np.maximum(
            asked.clips * answering + np.sqrt(asked.clips * answering) * self._normal(), 0.0
        )
        correct = accuracy * clips + np.sqrt(self._within * clips) * self._normal()
        sides = [
            part[which].sum(0)
            for which in (slice(None, number + 1), slice(number + 1, None))
            for part in (correct, clips)
        ]
        counts = np.stack(sides)
        # Noise is in correct clips and in others; the clips are the sum of both.
        noise = self._plan.noise_stddev * self._normal(counts.shape)
        noise[1::2] += noise[::2]
        return np.asarray(counts + noise)

    def _normal(self, shape: tuple[int, ...] | None = None) -> FloatArray:
        return self._rng.standard_normal(self._phones.shape if shape is None else shape)


def _stacked(found: Sequence[Counts]) -> Counts:
    """Counts of many roll-outs side by side, (windows, seeds, segments)."""
    return Counts(
        *(
            np.stack([getattr(one, name) for one in found], axis=1)
            for name in (
                "correct", "total", "old_correct", "old_total", "noise_stddev", "old_noise_stddev",
            )
        )
    )  # fmt: skip
