"""What canary games share: the promise that is attacked, and rounds played by the code of a run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.lower_bounds import LowerBound
from fedspeech.cohorts import called, group_of_each
from fedspeech.job import rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.privacy.correlated_noise import SECRET_BYTES, CorrelatedNoise
from fedspeech.privacy.factorization import GRID
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import privatize_phone
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import Keystream, Name, NoiseEntropy

Observer = Literal["release", "server"]
OBSERVERS: tuple[Observer, ...] = ("release", "server")
Tell = Callable[[int], None]

LENGTH = 10.0
"""Clip norms that a canary's vector is long before it is clipped."""


class NothingPromised(ValueError):
    """There is no claim to attack."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a game found beside what was promised.

    Attributes:
      game: which one, in words.
      observer: who watched.
      rounds: that were played in each run.
      runs: that were played, of either world where there are two.
      relation: what the worlds differed in.
      claimed: epsilon of the same plan and rounds, as priced.
      delta: of the claim.
      bound: what was proven.
    """

    game: str
    observer: Observer
    rounds: int
    runs: int
    relation: str
    claimed: float
    delta: float
    bound: LowerBound

    @property
    def broken(self) -> bool:
        """Whether the claim is disproven."""
        return self.bound.epsilon > self.claimed


@dataclass(frozen=True, kw_only=True)
class Game:
    """Rounds of a plan under one observer's eyes.

    Attributes:
      plan: whose rounds are played.
      observer: "release" reads decoded sums; "server" sees the fewest honest phones that the plan
        counts on, and who takes part.
      entropy: where the noise of phones and server comes from.

    Raises:
      NothingPromised: if the plan promises nothing against the observer.
    """

    plan: PrivacyPlan
    observer: Observer
    entropy: NoiseEntropy

    def __post_init__(self) -> None:
        """Refuses a game without a claim."""
        if self.relation == "none" or math.isinf(self.claimed):
            whom = "the server" if self.observer == "server" else "readers of the models"
            raise NothingPromised(f"this plan promises nothing against {whom}")

    @functools.cached_property
    def _guarantee(self) -> Guarantee:
        return self.plan.guarantee(self.plan.rounds)

    @property
    def relation(self) -> str:
        """What two neighboring worlds differ in."""
        found = self._guarantee
        return found.relation_release if self.observer == "release" else found.relation_server

    @property
    def claimed(self) -> float:
        """Epsilon of the plan against the observer, all rounds."""
        found = self._guarantee
        return found.epsilon_release if self.observer == "release" else found.epsilon_server

    @property
    def fewest(self) -> int:
        """Honest phones that are in every sum: counted by the rule under which a sum is opened."""
        return self.plan.min_reporting - self.plan.colluders

    def called(
        self, run: tuple[Name, ...], round_number: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Who is called to a round, sorted, and the group of every phone; see `group_of_each`."""
        secret = self.entropy.keystream("audit coins", *run, round_number)
        phones = called(self.plan, round_number, secret)
        return phones, group_of_each(self.plan, self.key(run, round_number), phones)

    @property
    def coin(self) -> float:
        """Probability, to the observer, that a phone takes part in a round; 1: it knows.

        A claim that protects what a phone says, and not that it takes part, holds against observers
        who know when it does.
        """
        hidden = self.observer == "release" and self._guarantee.amplified
        return self.plan.participation_probability if hidden else 1.0

    def finding(self, game: str, runs: int, bound: LowerBound) -> Finding:
        """What so many runs of a game have proven, beside the claim."""
        return Finding(
            game=game, observer=self.observer, rounds=self.plan.rounds, runs=runs,
            relation=self.relation, claimed=self.claimed, delta=self.plan.delta, bound=bound,
        )  # fmt: skip

    def decoded(
        self, run: tuple[Name, ...], round_number: int, contents: Mapping[int, NDArray[np.float32]]
    ) -> NDArray[np.float64]:
        """Plays one sum of a round: clip, noise, sum, decode; shape (dimension,), in clip norms.

        Args:
          run: names of the run, whose noise is its own.
          round_number: from 0.
          contents: what the phones in the sum say, by phone, shape (dimension,).
        """
        plan, key = self.plan, self.key(run, round_number)
        sent = [self.sent(key, phone, content) for phone, content in contents.items()]
        total = ring_sum([np.zeros(plan.vector_length, dtype=np.uint32), *sent], plan.bits)
        noise = self._server_noise(run, key)
        found = plan.decode(total, rotation_seed=rotation_seed(key), noise=noise)
        return np.asarray(found.mean * plan.expected_in_sum / plan.clip_norm, dtype=np.float64)

    def sent(self, key: RoundKey, phone: int, content: NDArray[np.float32]) -> NDArray[np.uint32]:
        """What a phone sends, shape (vector length,)."""
        return privatize_phone(self.plan, content, key, phone, self.entropy, self.plan.clip_norm)

    def key(self, run: tuple[Name, ...], round_number: int) -> RoundKey:
        """The key of a round of a run."""
        round_id = self.entropy.keystream("audit", *run, round_number).bytes(16)
        return RoundKey(round=round_number, attempt=0, round_id=round_id, context=bytes(32))

    def _server_noise(
        self, run: tuple[Name, ...], key: RoundKey
    ) -> Keystream | NDArray[np.int64] | None:
        """The server's noise of a round; None where it adds none."""
        if self.plan.factorization is not None:
            secret = self.entropy.keystream("audit rows", *run).bytes(SECRET_BYTES)
            return CorrelatedNoise(self.plan, secret).row(key.round)
        if self.plan.central:
            return self.entropy.keystream("server noise", key.round_id, key.attempt)
        return None

    def unit(self, place: int, length: float = 1.0) -> NDArray[np.float32]:
        """A vector along one coordinate; its length is in clip norms."""
        vector = np.zeros(self.plan.dimension, dtype=np.float32)
        vector[place] = length * self.plan.clip_norm
        return vector

    def variance(self, reporting: int) -> float:
        """Of the noise in a coordinate of a decoded sum, in clip norms squared."""
        unit = self.plan.scale * self.plan.clip_norm
        return (reporting * self.plan.stddev**2 + self.plan.server_stddev**2) / unit**2

    def strategy(self) -> NDArray[np.float64]:
        """What makes noise of rounds independent: C of `factorization`, (rounds, rounds)."""
        rounds = self.plan.rounds
        if self.plan.factorization is None:
            return np.eye(rounds)
        column = np.array(self.plan.factorization.coefficients[:rounds]) / GRID
        bands = [each * np.eye(rounds, k=-back) for back, each in enumerate(column)]
        return np.asarray(np.sum(bands, axis=0), dtype=np.float64)


class Attendance:
    """In which rounds one phone takes part, by its own memory, as the plan has it."""

    def __init__(self, plan: PrivacyPlan) -> None:
        """Starts before the first round."""
        self._plan = plan
        self._sent = 0
        self._last: int | None = None

    def joins(self, round_number: int) -> bool:
        """Whether the phone may join a round to which it is called; it joins if it may."""
        admitted = self.admits(round_number)
        if admitted:
            self.sends(round_number)
        return admitted

    def admits(self, round_number: int) -> bool:
        """Whether the phone may join a round to which it is called."""
        window, last = self._plan.window, self._last
        fresh = last is not None and last // window != round_number // window
        since = None if last is None else round_number - last
        return self._plan.admits(0 if fresh else self._sent, since)

    def sends(self, round_number: int) -> None:
        """The phone sends an input of a round, and counts it."""
        window, last = self._plan.window, self._last
        fresh = last is not None and last // window != round_number // window
        self._sent, self._last = (1 if fresh else self._sent + 1), round_number
