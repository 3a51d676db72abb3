"""Plans that an epsilon asks for: a search over prices, with no formula of its own.

Whatever the search assumed, the answer has been priced by the plan that it belongs to, so it meets
epsilon. What was not given (minimum, participation limit) is filled in anew for every candidate, as
for the answer.

Epsilon falls with noise and rises with rounds, but for small steps where a minimum or the ring
changes; of cohorts the middle ones are the cheapest, since a small one hides no missing noise and a
large one is drawn too often. A search therefore looks beyond the point where it first fails, and
says so where something else than epsilon ended it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from fedspeech.errors import require
from fedspeech.privacy import adversary_views
from fedspeech.privacy.events import (
    CappedPoisson,
    Event,
    Gaussian,
    PoissonSampled,
    Replaced,
    RoundCost,
    WithoutReplacement,
)
from fedspeech.privacy.filling import MAX_POPULATION, MAX_ROUNDS, Filled
from fedspeech.privacy.pricing import Price, price
from fedspeech.privacy.sizing import RING_BITS

Unknown = Literal["noise", "rounds", "cohort", "bits"]
Against = Literal["release", "server"]

UNKNOWNS = get_args(Unknown)
_MAX_NOISE = 1e5
_MIN_NOISE = 1e-3
_TOLERANCE = 1e-4
_BEYOND = 24  # candidates tried beyond the first that fails
_SMALLEST_GROWTH = 32  # of cohorts that are tried: the narrowest window seen is a fifth of its size


_FAILURES = ("minimum_failure", "cap_failure", "sampler_failure", "graph_failure")
_NEVER = 1e-30  # a probability that changes no digit of an epsilon


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The best plan that costs at most an epsilon, and what else ended the search, or ""."""

    price: Price
    limit: str


def solve(
    make: Callable[..., Filled],
    unknown: Unknown,
    epsilon: float,
    *,
    against: Against = "release",
) -> Solution:
    """Returns the best plan that costs at most `epsilon`.

    The smallest noise, to a relative 1e-4; the most rounds; the largest cohort; the narrowest ring.
    The plan comes from `make`, which takes the unknown under its name in `fill`:
    `functools.partial(fill, ...)` of all the rest.

    Raises:
      ValueError: if epsilon is no bound, or nothing meets it; the message says how close it gets.
    """
    fits = math.isfinite(epsilon) and epsilon > 0
    require(fits, "epsilon must be positive and finite", epsilon=epsilon)
    require(unknown in UNKNOWNS, f"unknown must be one of {UNKNOWNS}", unknown=unknown)
    search = _Search(make, epsilon, against)
    match unknown:
        case "noise":
            return search.noise()
        case "rounds":
            return search.rounds()
        case "cohort":
            return search.cohort()
        case "bits":
            return search.bits()


class _Search:
    """One question, and how near the candidates came that did not meet it."""

    def __init__(self, make: Callable[..., Filled], epsilon: float, against: Against) -> None:
        self._make, self._epsilon, self._against = make, epsilon, against
        self._view = {"release": adversary_views.release, "server": adversary_views.server}[against]
        self._tried: dict[Any, float] = {}  # epsilon by value; infinite where a rule forbids it
        self._rules: dict[Any, str] = {}  # why a value is forbidden
        self._relations: dict[Any, str] = {}  # that an epsilon holds under
        self._name = ""

    def noise(self) -> Solution:
        """Smallest noise: doubles until it is enough, then halves, then closes in on the limit."""
        self._name = "noise_multiplier"
        enough = 1.0
        while not self._meets(enough):
            enough *= 2
            if enough > _MAX_NOISE:
                raise self._failure("no noise is enough")
        too_little = enough / 2
        while too_little >= _MIN_NOISE and self._meets(too_little):
            enough, too_little = too_little, too_little / 2
        while True:
            enough, too_little = self._closed_in(enough, too_little)
            beyond = [enough * (1 - 0.002 * step) for step in range(1, _BEYOND)]
            better = [
                value
                for value in beyond
                if value >= _MIN_NOISE
                and not self._costs_no_less(value, too_little)
                and self._meets(value)
            ]
            if not better:
                break
            enough, too_little = better[-1], better[-1] * 0.998
        if too_little < _MIN_NOISE:
            return self._solution(enough, f"less noise than {_MIN_NOISE:g} is not tried")
        return self._solution(enough, self._ended(enough, too_little, "less noise"))

    def _closed_in(self, enough: float, too_little: float) -> tuple[float, float]:
        """Noise that is enough, and noise that is not, a tolerance apart.

        A secant says where the limit is, and a point beside it, towards the end that is farther
        away, is tried: where the secant is right, the next one closes the gap. Where three of them
        did not halve it, the middle is tried.
        """
        left, before = 0, enough / too_little
        while enough > too_little * (1 + _TOLERANCE):
            limit = self._secant(enough, too_little) if left else None
            if limit is None:
                guess, left, before = math.sqrt(too_little * enough), 3, enough / too_little
            else:
                aside = 1 + _TOLERANCE / 3
                guess = limit / aside if enough * too_little < limit**2 else limit * aside
                left -= 1
            if self._meets(guess):
                enough = guess
            else:
                too_little = guess
            left = 3 if (enough / too_little) ** 2 < before else left
            before = enough / too_little if left == 3 else before
        return enough, too_little

    def _secant(self, enough: float, too_little: float) -> float | None:
        """Noise between both where epsilon would be met; None: nothing says where.

        The logarithm of epsilon is nearly linear in that of noise.
        """
        known = [(abs(math.log(found / self._epsilon)), noise, found)
                 for noise, found in self._tried.items() if 0 < found < math.inf]  # fmt: skip
        if len(known) < 2:
            return None
        (_, near, one), (_, far, other) = sorted(known)[:2]
        if one == other:
            return None
        share = math.log(self._epsilon / one) / math.log(other / one)
        found = near * (far / near) ** share
        return found if too_little < found < enough else None

    def _costs_no_less(self, less: float, failed: float) -> bool:
        """Whether the events say so: those of a plan that failed, with less noise and no more.

        Adding noise is post-processing, so a Gaussian never costs less with less noise where all
        else is the same and nothing fails less often. No accountant has to be asked then.
        """
        try:
            one, other = (self._make(**{self._name: value}).plan.cost for value in (less, failed))
        except ValueError:
            return False
        return less <= failed and _has_as_much_to_hide(one, other)

    def rounds(self) -> Solution:
        """Most rounds."""
        self._name = "rounds"
        if not self._meets(1):
            raise self._failure("not even one round is affordable")
        return self._largest(1, MAX_ROUNDS, f"more than {MAX_ROUNDS:,} rounds are not tried")

    def cohort(self) -> Solution:
        """Largest cohort.

        Sizes that grow by half come first. Where none of them is cheap enough, sizes that grow by a
        thirty-second follow: an add/remove epsilon may hold in a window of sizes only, outside of
        which the price jumps to that of zero-out. Then what lies around the cheapest is searched by
        thirds, as epsilon falls on its left and rises on its right.
        """
        self._name = "cohort"
        for growth in (2, _SMALLEST_GROWTH):
            sizes = self._sizes(growth)
            if any(found <= self._epsilon for found in self._tried.values()):
                break
        else:
            self._deepen(sizes)
        met = [size for size, found in self._tried.items() if found <= self._epsilon]
        if not met:
            raise self._failure("no cohort is affordable")
        return self._largest(max(met), MAX_POPULATION, "more are not tried")

    def _sizes(self, growth: int) -> list[int]:
        """Tries sizes that grow by one part in `growth`, up to the population."""
        sizes, size = [], 1
        while size <= MAX_POPULATION:
            sizes.append(size)
            self._meets(size)
            if self._rules.get(size, "").startswith("cohort must be"):
                break  # larger than the population
            size += -(-size // growth)
        return sizes

    def _deepen(self, sizes: list[int]) -> None:
        """Looks for the cheapest cohort between the sizes next to the cheapest one."""
        place = min(range(len(sizes)), key=lambda at: self._tried[sizes[at]])
        low, high = sizes[max(0, place - 1)], sizes[min(len(sizes) - 1, place + 1)]
        while high - low > _BEYOND:
            third = (high - low) // 3
            left, right = low + third, high - third
            self._meets(left)
            self._meets(right)
            if min(self._tried[left], self._tried[right]) <= self._epsilon:
                return
            low, high = (low, right) if self._tried[left] <= self._tried[right] else (left, high)
        for size in range(low, high + 1):
            self._meets(size)

    def bits(self) -> Solution:
        """Narrowest ring."""
        self._name = "ring_bits"
        for width in RING_BITS:
            if self._meets(width):
                return self._solution(width, "")
        raise self._failure("no ring is wide enough")

    def _largest(self, met: int, most: int, at_most: str) -> Solution:
        """Largest integer that is met: doubles steps from one that is, then bisects.

        Where `most`, the largest to try, is met, `at_most` says so.
        """
        while True:
            step = 1
            while met + step <= most and self._meets(met + step):
                met, step = met + step, 2 * step
            low, high = met, min(met + step, most + 1)
            while high - low > 1:
                middle = (low + high) // 2
                if self._meets(middle):
                    low = middle
                else:
                    high = middle
            beyond = [value for value in range(low + 1, low + _BEYOND) if value <= most]
            better = [value for value in beyond if self._meets(value)]
            met = low
            if not better:
                break
            met = better[-1]
        if met == most:
            return self._solution(met, at_most)
        return self._solution(met, self._ended(met, met + 1, "more"))

    def _meets(self, value: Any) -> bool:
        if value not in self._tried:
            self._tried[value] = math.inf
            try:
                plan = self._make(**{self._name: value}).plan
                view = self._view([(plan.cost, plan.rounds)], plan.delta)
                self._tried[value], self._relations[value] = view.epsilon, view.relation
            except ValueError as error:
                self._rules[value] = str(error)
        return self._tried[value] <= self._epsilon

    def _ended(self, met: Any, failed: Any, what: str) -> str:
        """Says what else than epsilon ended the search: a rule, or a weaker promise beyond."""
        self._meets(failed)
        if failed in self._rules:
            return f"{what} is refused: {self._rules[failed]}"
        relation = self._relations[failed]
        if relation == self._relations[met]:
            return ""
        return f"{what} would be {self._tried[failed]:.4g} and of relation {relation} only"

    def _solution(self, value: Any, limit: str) -> Solution:
        return Solution(price=price(self._make(**{self._name: value})), limit=limit)

    def _failure(self, what: str) -> ValueError:
        nearest = min(self._tried, key=lambda value: self._tried[value])
        epsilon = self._tried[nearest]
        if math.isinf(epsilon) and self._rules:
            rule = list(self._rules.values())[-1]
            return ValueError(f"{what} for epsilon={self._epsilon}: {rule}")
        return ValueError(
            f"{what} for epsilon={self._epsilon}: the nearest epsilon_{self._against} is "
            f"{epsilon:.4g}, at {self._name}={nearest:.6g} ({len(self._tried)} tried)"
        )


def _has_as_much_to_hide(one: RoundCost, other: RoundCost) -> bool:
    """Whether two costs differ in a Gaussian's noise alone, and the first fails no less often."""
    fails_no_less = all(
        getattr(one, name) >= getattr(other, name) or getattr(other, name) < _NEVER
        for name in _FAILURES
    )
    return fails_no_less and _noise_aside(one) == _noise_aside(other)


def _noise_aside(cost: RoundCost) -> RoundCost:
    """The cost with noise of 1 in the place of every Gaussian's, and nothing that fails."""
    return dataclasses.replace(
        cost,
        release=_of_noise_one(cost.release),
        given=_of_noise_one(cost.given),
        server=_of_noise_one(cost.server),
        minimum_failure=0.0,
        cap_failure=0.0,
        sampler_failure=0.0,
        graph_failure=0.0,
    )


def _of_noise_one(event: Event) -> Event:
    if isinstance(event, Gaussian):
        return Gaussian(noise_multiplier=1.0)
    if isinstance(event, PoissonSampled | WithoutReplacement | CappedPoisson | Replaced):
        inner = _of_noise_one(event.event)
        return dataclasses.replace(event, event=cast("Any", inner))
    return event
