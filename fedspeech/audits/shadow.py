"""Shadow runs: an attacker's own runs of the same training, on speakers whose clips it holds.

The rounds are those of `fedspeech.round` with a shortcut in the middle: contributions are clipped
to the plan's norm and summed as floats, and noise of the plan's size is drawn from a Gaussian. An
attacker's model of a run may be cheap, since it only says what to expect: hundreds of runs take as
long as one whose integers are masked and summed. The runs that are attacked have no shortcut.

Left out: drop-outs, the window of a participation limit, a clip norm that adapts, and that noise of
rounds may be correlated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import ServerOptimizer
from fedspeech.audits.attack import Contributions
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector


def clipped(vectors: Sequence[FloatVector], clip_norm: float) -> NDArray[np.float64]:
    """Contributions as a plan lets them count, shape (n, d); what is not finite is zeros."""
    rows = np.stack(vectors).astype(np.float64)
    rows[~np.isfinite(rows).all(axis=1)] = 0
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows * (clip_norm / np.maximum(norms, clip_norm)), dtype=np.float64)


def noise_stddev(plan: PrivacyPlan, reporting: float, sums: int = 1) -> float:
    """Standard deviation of the noise in a coordinate of the decoded sum of so many phones.

    Of several sums, one for each group, added up: the server noises each of them.
    """
    variance = max(0.0, reporting) * plan.stddev**2 + sums * plan.server_stddev**2
    return math.sqrt(variance) / plan.scale


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowRuns:
    """See the module.

    Attributes:
      plan: of the run that is attacked.
      contributions: what clips contribute under a model.
      optimizer: the server's.
      initial: the first release, shape (d,).
    """

    plan: PrivacyPlan
    contributions: Contributions
    optimizer: ServerOptimizer
    initial: FloatVector

    def releases(
        self, phones: Sequence[LocalDataset], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Plays one run on phones with these clips; models, shape (rounds + 1, d)."""
        state, found = self.optimizer.init(self.initial), [self.initial]
        taken = np.zeros(len(phones), dtype=np.int64)
        coin = min(1.0, self.plan.expected_cohort / self.plan.population)
        for _ in range(self.plan.rounds):
            joins = (rng.random(len(phones)) < coin) & (taken < self.plan.max_participations)
            taken += joins
            cohort = [phones[place] for place in np.flatnonzero(joins).tolist()]
            stddev = noise_stddev(self.plan, len(cohort), self.plan.groups)
            total = rng.normal(0, stddev, self.plan.dimension)
            if cohort:
                said = self.contributions(cohort, found[-1], [rng] * len(cohort))
                total += clipped(said, self.plan.clip_norm).sum(axis=0)
            state = self.optimizer.apply(state, total / self.plan.expected_cohort)
            found.append(state.parameters.astype(np.float32))
        return np.stack(found)
