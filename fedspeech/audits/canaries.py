"""One canary, many runs: one phone says the most that its plan lets it say; who notices?

Rounds of a plan are played by the functions that `fedspeech.round` runs: coins, clip, noise on
phones, sums in the ring, noise of the server, decoding. In one world the canary speaks, in the
other it is silent, replaced or absent, as the neighboring relation of the printed epsilon says. The
observer knows everything else, as differential privacy grants: who else takes part and what they
say, what the canary would say and in which rounds, and one more phone, whose noise it knows.

From many runs of either world follows a lower bound on epsilon (`lower_bounds.many_runs`). A bound
above the price of the same plan means that the code does not do what the accountant prices.

The canary's vector is ten clip norms long and changes its sign from round to round; the others' is
the clip norm in another direction. So a clip that is missing, a noise that is missing, halved or
used twice, a divisor that depends on who came, and a participation limit that nobody keeps all
show. What the observer computes of a run are the `FEATURES`; which of them tells the worlds apart
is learned from the runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.games import LENGTH, Attendance, Finding, Game, Observer, Tell
from fedspeech.audits.lower_bounds import many_runs
from fedspeech.job import rotation_seed
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import NoiseEntropy

GAME = "one canary, many runs"
DIMENSION = 4
"""Coordinates of a canary's plan: noise is drawn per coordinate, and a canary needs one."""
CANARY, KNOWN = 0, 1
"""The phone that is watched for, and one that the observer holds itself."""
FEATURES = (
    "log-likelihood ratio", "along the canary, by sign", "along the canary", "along the others",
    "own noise along the canary, by sign", "own noise along the canary", "length", "others",
)  # fmt: skip


def first(plan: PrivacyPlan, rounds: int) -> PrivacyPlan:
    """The first rounds of a plan; its price is its own."""
    if rounds == plan.rounds:
        return plan
    return replace(
        plan,
        rounds=rounds,
        participation_window=None,
        max_participations=min(plan.max_participations, rounds),
    )


def small(plan: PrivacyPlan, rounds: int) -> PrivacyPlan:
    """The first rounds of a plan in few coordinates; its price is its own."""
    return replace(first(plan, rounds), dimension=DIMENSION)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the observer holds of one round.

    Attributes:
      others: phones in the sum beside the canary.
      coin: probability, to the observer, that the canary is in it.
      residual: the decoded sum without the others' vectors, in clip norms, shape (d,).
      own_noise: noise of the phone that the observer holds, likewise.
    """

    others: int
    coin: float
    residual: NDArray[np.float64]
    own_noise: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OneCanary(Game):
    """See the module."""

    def run(self, name: int, *, speaks: bool) -> NDArray[np.float64]:
        """Plays one run and returns what the observer makes of it, shape (len(FEATURES),).

        Args:
          name: of the run; its noise and coins are its own in either world.
          speaks: whether the canary does.
        """
        return _features(self, list(self._rounds(name, speaks)))

    def _rounds(self, name: int, speaks: bool) -> Iterator[_Seen]:
        attendance, run = Attendance(self.plan), (name, int(speaks))
        for number in range(self.plan.rounds):
            others, is_called = self._called(run, number)
            joins = is_called and attendance.joins(number)
            contents = {phone: self.unit(1) for phone in range(KNOWN, KNOWN + others)}
            if joins and (speaks or self.relation != "add/remove"):
                contents[CANARY] = self.unit(0, LENGTH * self._content(number, speaks))
            coin = self.coin if self.coin < 1 else float(joins)
            residual = (
                self.decoded(run, number, contents) - others * self.unit(1) / self.plan.clip_norm
            )
            own = np.zeros(self.plan.dimension)
            if others and self.plan.on_phones:
                key = self.key(run, number)
                alone = self.sent(key, KNOWN, contents[KNOWN])
                found = self.plan.decode(alone, rotation_seed=rotation_seed(key))
                own = found.mean * self.plan.expected_in_sum / self.plan.clip_norm
                own -= self.unit(1) / self.plan.clip_norm
            yield _Seen(others, coin, residual, own)

    def _content(self, round_number: int, speaks: bool) -> float:
        """What the canary says along its direction."""
        if speaks:
            return _sign(round_number)
        return -_sign(round_number) if self.relation == "replace" else 0.0

    def _called(self, run: tuple[int, int], round_number: int) -> tuple[int, bool]:
        """How many others take part, and whether the canary is called."""
        if self.observer == "server":
            # The rest colludes: what it sent is known and taken off. One honest share is the
            # canary's own.
            return self.fewest - 1, True
        phones, group = self.called(run, round_number)
        phones = phones[group[phones] == max(0, group[CANARY])]  # the others' sums tell nothing
        here = bool(CANARY in phones)
        # Where no chance is counted on, the rounds are those that are worst for the phone.
        return len(phones) - here, here or self.coin == 1


def _sign(round_number: int) -> float:
    return 1.0 if round_number % 2 == 0 else -1.0


def _features(game: OneCanary, rounds: list[_Seen]) -> NDArray[np.float64]:
    """What the observer computes of a run; see `FEATURES`."""
    strategy = game.strategy()
    residuals = strategy @ np.stack([seen.residual for seen in rounds])
    own = np.stack([seen.own_noise for seen in rounds])
    spoken = [_sign(number) * (seen.coin > 0) for number, seen in enumerate(rounds)]
    signs = strategy @ np.array(spoken)
    ratio = sum(
        _log_ratio(game, seen, residual, sign)
        for seen, residual, sign in zip(rounds, residuals, signs, strict=True)
    )
    along = residuals[:, 0]
    return np.array(
        [
            ratio, signs @ along, along.sum(), residuals[:, 1].sum(), signs @ own[:, 0],
            own[:, 0].sum(), float((residuals**2).sum()), sum(seen.others for seen in rounds),
        ]
    )  # fmt: skip


def _log_ratio(game: OneCanary, seen: _Seen, residual: NDArray[np.float64], sign: float) -> float:
    """Log-likelihood of a residual with the canary over that without, noise taken as Gaussian.

    An absent phone withholds its noise too, where phones add it, so the variance tells as well.
    """
    absent = game.relation == "add/remove"
    with_canary, without = game.variance(seen.others + 1), game.variance(seen.others + (not absent))
    if seen.coin == 0 or min(with_canary, without) <= 0:
        return 0.0
    there = np.zeros_like(residual)
    there[0] = sign
    instead = -there if game.relation == "replace" else 0 * there
    spoken = _log_density(residual - there, with_canary)
    silent = _log_density(residual - instead, without)
    if seen.coin == 1:
        return spoken - silent
    stayed = _log_density(residual, game.variance(seen.others))
    ratios = [
        float(np.logaddexp(math.log(seen.coin) + one, math.log1p(-seen.coin) + stayed))
        for one in (spoken, stayed if absent else silent)
    ]
    return ratios[0] - ratios[1]


def _log_density(residual: NDArray[np.float64], variance: float) -> float:
    """Of a Gaussian of this variance in every coordinate, but for a constant."""
    return -0.5 * (float(residual @ residual) / variance + len(residual) * math.log(variance))


def play(
    plan: PrivacyPlan,
    observer: Observer,
    entropy: NoiseEntropy,
    *,
    runs: int,
    confidence: float = 0.99,
    tell: Tell | None = None,
) -> Finding:
    """Plays a plan of few coordinates often enough for a bound.

    Args:
      plan: that of `small`.
      observer: who watches.
      entropy: where noise comes from.
      runs: of either world.
      confidence: of the bound.
      tell: called with the number of runs that are over.

    Raises:
      NothingPromised: if the plan promises nothing against the observer.
      ValueError: if there are fewer than 30 runs, or the confidence is no probability.
    """
    game = OneCanary(plan=plan, observer=observer, entropy=entropy)
    seen: dict[bool, list[NDArray[np.float64]]] = {True: [], False: []}
    for name in range(runs):
        for speaks, rows in seen.items():
            rows.append(game.run(name, speaks=speaks))
        if tell is not None:
            tell(name + 1)
    worlds = np.stack(seen[True]), np.stack(seen[False])
    bound = many_runs(*worlds, delta=plan.delta, confidence=confidence)
    return game.finding(GAME, runs, bound)
