"""Defenses that live with secure aggregation: rules over sums of groups, and a step's rejection.

Under masks nobody sees, clips or tests a single vector: a phone that lies sends what the ring
holds, without clip and without noise. What is left to the server are sums. With the phones of a
round dealt to G groups, each summed by itself, a rule over the G sums bounds what attackers in few
of the groups can do:

| rule | per coordinate | holds while attackers sit in at most |
|---|---|---|
| mean | the mean | no group |
| median | the middle one (Yin et al. 2018, arXiv:1803.01498) | fewer than G / 2 groups |
| trimmed_mean | the mean without the k largest and k smallest, k = max(1, G // 4) (likewise) | k |

"Holds" is a bound, not a cure: each coordinate stays within the range of the honest groups' values,
which full noise in every group has made wide. One attacker makes a whole group an attacker's. So
attackers of a share s, who sit in almost all groups as soon as s times the cohort is above G, are
not held by any of these rules; `Defense.chance_beyond` says how likely that is.

Everything here is computed from decoded sums, noise included, and from public clips: it costs no
epsilon beyond that of the sums.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.limits import NotNegative, check_limits
from fedspeech.privacy.sizing import PlanSizing

RobustRule = Literal["mean", "median", "trimmed_mean"]
HOPELESS = 0.5
"""A rule that attackers are beyond in at least this share of rounds is refused."""
_DRAWS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Defense:
    """What stands between the decoded sums of a round and the server's step.

    Attributes:
      rule: over the means of a round's groups.
      max_loss_rise: nats by which a step may raise the loss on public validation clips before it is
        rejected; None: every step is taken.

    Raises:
      ValueError: if there is no such rule, or a number is out of range.
    """

    rule: RobustRule = "mean"
    max_loss_rise: NotNegative | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)

    def check(self, plan: PlanSizing) -> None:
        """Refuses a plan under which the rule has nothing to read, or no hope.

        Raises:
          ValueError: naming the rule and the plan's values.
        """
        if self.rule == "mean":
            return
        require(
            plan.groups > 1,
            f"{self.rule} reads several sums: single updates stay under their masks, so "
            "privacy.groups must be from 3 on",
            groups=plan.groups,
        )
        chance = self.chance_beyond(plan, plan.colluders)
        require(
            chance < HOPELESS,
            f"{self.rule} over {plan.groups} groups holds against attackers in at most "
            f"{self.tolerated(plan.groups)} of them, and colluders who all come sit in more with "
            f"probability {chance:.2g} a round: it would promise what it cannot keep",
            colluders=plan.colluders,
        )

    def combined(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """One mean of those of the groups, shape (groups, d) to (d,)."""
        ordered = np.sort(means, axis=0)
        cut = self._cut(len(means))
        kept: NDArray[np.float64] = ordered[cut : len(means) - cut].mean(axis=0)
        return kept

    def accepts(self, before: float, after: float) -> bool:
        """Whether a step is taken that moves the public loss so, in nats."""
        return self.max_loss_rise is None or after <= before + self.max_loss_rise

    def tolerated(self, groups: int) -> int:
        """Groups with attackers that leave each coordinate within the honest groups' range."""
        return (groups - 1) // 2 if self.rule == "median" else self._cut(groups)

    def _cut(self, groups: int) -> int:
        """Values that are dropped at either end."""
        cuts = {"mean": 0, "median": (groups - 1) // 2, "trimmed_mean": max(1, groups // 4)}
        return cuts[self.rule] if groups > 1 else 0

    def noise_factor(self, groups: int) -> float:
        """Stddev of the rule over that of the mean, of independent Gaussians of one variance."""
        return _noise_factor(groups, self._cut(groups))

    def chance_beyond(self, plan: PlanSizing, attackers: int) -> float:
        """Probability that attackers sit in more groups of a round than the rule tolerates.

        They are dealt like all others, and all of them come, whatever their coins: no one checks
        those. Where all phones that are called come, so many attackers are among them.
        """
        pack = plan.population
        if plan.participation != "poisson":
            pack = round(plan.expected_cohort)
        return reached(pack, plan.groups, min(attackers, pack), self.tolerated(plan.groups))


def reached(pack: int, groups: int, attackers: int, tolerated: int) -> float:
    """Probability that `attackers` of a pack, dealt to equal groups, sit in more than so many.

    Exact by inclusion and exclusion: the chance that all of them sit in k given groups is
    C(k pack / G, attackers) / C(pack, attackers), sizes rounded down.
    """
    if attackers <= tolerated:
        return 0.0
    # P[at most t groups] <= C(G, t) (t / G)^a.
    few = math.log(math.comb(groups, tolerated)) if tolerated else 0.0
    if not tolerated or few + attackers * math.log(tolerated / groups) < math.log(1e-12):
        return 1.0
    within = [
        Fraction(math.comb(k * (pack // groups), attackers), math.comb(pack, attackers))
        for k in range(tolerated + 1)
    ]
    below = Fraction(0)
    for k in range(1, tolerated + 1):
        exactly = sum((-1) ** (k - j) * math.comb(k, j) * within[j] for j in range(k + 1))
        below += math.comb(groups, k) * exactly
    return float(1 - below)


@functools.lru_cache(maxsize=32)
def _noise_factor(groups: int, cut: int) -> float:
    """By simulation from a seed of its own, within 1 %."""
    if cut == 0:
        return 1.0
    draws = np.sort(np.random.default_rng(0).normal(size=(_DRAWS, groups)), axis=1)
    return float(draws[:, cut : groups - cut].mean(axis=1).std() * math.sqrt(groups))
