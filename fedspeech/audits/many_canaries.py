"""Many canaries in one run: many phones are watched at once, each for itself.

A run has as many canaries as its vectors have coordinates, or as it has phones. A coin says of each
whether it is included: it then says the clip norm along a coordinate of its own in every round that
it joins. One that is left out says nothing; where the neighboring relation is add/remove, it never
comes. The observer ranks the canaries by what the sums hold along their coordinates, and
`lower_bounds.one_run` turns the right guesses into a bound on the epsilon of the plan itself, at
its own dimension, after a run or a few. (Runs are of different phones: a phone is promised in all
of them together what it is promised in its own.)

This costs hundreds of times less than `canaries`, and sees less: what is wrong must show along a
canary's own coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.games import LENGTH, Attendance, Finding, Game, Observer, Tell
from fedspeech.audits.lower_bounds import one_run
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import NoiseEntropy

GAME = "many canaries, few runs"


@dataclass(frozen=True, kw_only=True)
class ManyCanaries(Game):
    """See the module."""

    @property
    def canaries(self) -> int:
        """How many phones of a run are watched: the first ones."""
        phones = self.fewest if self.observer == "server" else self.plan.population
        return min(phones, self.plan.dimension)

    def run(self, name: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Plays one run.

        Returns:
          A score of every canary, higher where it looks included, and whether it was; shape
          (canaries,) each.
        """
        canaries, plan = self.canaries, self.plan
        coins = self.entropy.keystream("audit included", name).uniform(canaries) < 0.5
        attendance = [Attendance(plan) for _ in range(canaries)]
        shape = (plan.rounds, canaries)
        residuals, variances, joined = np.zeros(shape), np.ones(shape), np.zeros(shape)
        for number in range(plan.rounds):
            contents: dict[int, NDArray[np.float32]] = {}
            phones, group = self._called(name, number)
            for phone in phones.tolist():
                watched = phone < canaries
                if watched and not attendance[phone].joins(number):
                    continue
                joined[number, phone if watched else 0] += watched
                if watched and not coins[phone] and self.relation == "add/remove":
                    continue
                length = LENGTH * float(watched and coins[phone])
                if watched and not coins[phone] and self.relation == "replace":
                    length = -LENGTH
                contents[phone] = self.unit(phone if watched else 0, length)
            # Each canary is looked for in the sum of its own group.
            for of in range(self.plan.groups):
                part = {phone: said for phone, said in contents.items() if group[phone] == of}
                own = np.flatnonzero(group[:canaries] == of)
                residuals[number, own] = self.decoded((name,), number, part)[own]
                variances[number, own] = self.variance(len(part))
        return self._scores(residuals, variances, joined), coins

    def _called(self, name: int, round_number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who is called to a round, and every phone's group; the server watches one sum."""
        if self.observer == "server":
            return np.arange(self.fewest), np.zeros(self.plan.population, dtype=np.int64)
        return self.called((name,), round_number)

    def _scores(
        self,
        residuals: NDArray[np.float64],
        variances: NDArray[np.float64],
        joined: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Log-likelihood ratio of every canary, noise and other canaries taken as Gaussian.

        Shapes: (rounds, canaries), each.
        """
        strategy = self.strategy()
        here = joined if self.coin == 1 else np.ones_like(joined)
        signal, seen = strategy @ here, strategy @ residuals
        spread = np.maximum(variances, 1e-9)  # where noise is off, any difference tells
        ratio = (2 * signal * seen - signal**2) / (2 * spread)
        if self.relation == "replace":
            ratio = 2 * signal * seen / spread
        if self.coin < 1:
            ratio = np.logaddexp(np.log(self.coin) + ratio, np.log1p(-self.coin))
        return np.asarray(ratio.sum(0), dtype=np.float64)


def play(
    plan: PrivacyPlan,
    observer: Observer,
    entropy: NoiseEntropy,
    *,
    runs: int,
    confidence: float = 0.99,
    tell: Tell | None = None,
) -> Finding:
    """Plays a plan for a bound.

    Args:
      plan: whose rounds are played, all of them.
      observer: who watches.
      entropy: where noise comes from.
      runs: of different phones.
      confidence: of the bound.
      tell: called with the number of runs that are over.

    Raises:
      NothingPromised: if the plan promises nothing against the observer.
      ValueError: if there are fewer than 10 canaries in all, or the confidence is no probability.
    """
    game = ManyCanaries(plan=plan, observer=observer, entropy=entropy)
    scores, coins = [], []
    for name in range(runs):
        seen, included = game.run(name)
        scores.append(seen)
        coins.append(included)
        if tell is not None:
            tell(name + 1)
    bound = one_run(
        np.concatenate(scores), np.concatenate(coins), delta=plan.delta, confidence=confidence
    )
    return game.finding(GAME, runs, bound)
