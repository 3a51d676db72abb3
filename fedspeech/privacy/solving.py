"""Terms that an epsilon asks for: a search over prices, with no formula of its own.

Whatever the search assumed, the answer has been priced by the terms that it belongs to, so it meets
epsilon. What the terms left open (floor, quota) is chosen anew for every candidate, as `price` does
for the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from fedspeech.privacy import views
from fedspeech.privacy.pricing import Price, price
from fedspeech.privacy.ring_fit import RING_BITS
from fedspeech.privacy.terms import MAX_POPULATION, MAX_ROUNDS, Terms

Unknown = Literal["noise", "rounds", "cohort", "bits"]
Against = Literal["release", "server"]

UNKNOWNS = ("noise", "rounds", "cohort", "bits")
_MAX_NOISE = 1e5
_MIN_NOISE = 0.05
_TOLERANCE = 1e-4


def solve(
    terms: Callable[..., Terms],
    unknown: Unknown,
    epsilon: float,
    *,
    against: Against = "release",
) -> Price:
    """Returns the price of the best terms that cost at most `epsilon`.

    The smallest noise, to a relative 1e-4; the most rounds; the largest cohort; the narrowest ring.

    Args:
      terms: makes them from the unknown's value: `functools.partial(Terms, ...)` of all the rest.
      unknown: what to find: `noise_multiplier`, `rounds`, `cohort` or `bits` of `Terms`.
      epsilon: bound.
      against: which of the two epsilons it bounds.

    Raises:
      ValueError: if epsilon is no bound, or nothing meets it; the message says how close it gets.
    """
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"epsilon must be positive and finite, got epsilon={epsilon}")
    search = _Search(terms, epsilon, against)
    match unknown:
        case "noise":
            return price(search.noise())
        case "rounds":
            return price(search.rounds())
        case "cohort":
            return price(search.cohort())
        case "bits":
            return price(search.bits())
    raise ValueError(f"unknown must be one of {UNKNOWNS}, got unknown={unknown!r}")


class _Search:
    """One question, and how near the candidates came that did not meet it."""

    def __init__(self, terms: Callable[..., Terms], epsilon: float, against: Against) -> None:
        self._terms = terms
        self._epsilon = epsilon
        self._against = against
        self._nearest = math.inf
        self._refusal = ""

    def noise(self) -> Terms:
        """Smallest noise: doubles until it is enough, then bisects the logarithm."""
        low, high, found = 0.0, 1.0, self._noise(1.0)
        while found is None:
            low, high = high, 2 * high
            if high > _MAX_NOISE:
                raise self._failure("no noise is enough")
            found = self._noise(high)
        while low == 0:
            if high / 2 < _MIN_NOISE:
                return found
            smaller = self._noise(high / 2)
            if smaller is None:
                low = high / 2
            else:
                high, found = high / 2, smaller
        while high > low * (1 + _TOLERANCE):
            middle = math.sqrt(low * high)
            candidate = self._noise(middle)
            if candidate is None:
                low = middle
            else:
                high, found = middle, candidate
        return found

    def rounds(self) -> Terms:
        """Most rounds: doubles while they are affordable, then bisects."""
        return self._largest(self._rounds, MAX_ROUNDS, "not even one round is affordable")

    def cohort(self) -> Terms:
        """Largest cohort. Noise on phones tells more of a small one, so small ones may fail too."""
        found, low, high, size = None, 0, 0, 1
        while size <= MAX_POPULATION:  # larger than the population is refused by the terms
            larger = size + (size + 1) // 2
            candidate = self._cohort(size)
            if candidate is not None:
                found, low, high = candidate, size, larger
            elif found is not None and size > 2 * high:
                break
            size = larger
        if found is None:
            raise self._failure("no cohort is affordable")
        while high - low > 1:
            middle = (low + high) // 2
            candidate = self._cohort(middle)
            if candidate is None:
                high = middle
            else:
                low, found = middle, candidate
        return found

    def bits(self) -> Terms:
        """Narrowest ring."""
        for width in RING_BITS:
            found = self._meets(bits=width)
            if found is not None:
                return found
        raise self._failure("no ring is wide enough")

    def _largest(self, at: Callable[[int], Terms | None], highest: int, refusal: str) -> Terms:
        """Largest integer that is met, of those where being met ends at one point."""
        found = at(1)
        if found is None:
            raise self._failure(refusal)
        low, high = 1, 2
        while high <= highest:
            candidate = at(high)
            if candidate is None:
                break
            low, found, high = high, candidate, 2 * high
        high = min(high, highest + 1)
        while high - low > 1:
            middle = (low + high) // 2
            candidate = at(middle)
            if candidate is None:
                high = middle
            else:
                low, found = middle, candidate
        return found

    def _noise(self, value: float) -> Terms | None:
        return self._meets(noise_multiplier=value)

    def _rounds(self, value: int) -> Terms | None:
        return self._meets(rounds=value)

    def _cohort(self, value: int) -> Terms | None:
        return self._meets(cohort=value)

    def _meets(self, **changes: Any) -> Terms | None:
        """Prices a candidate; nothing if it costs too much or breaks a rule."""
        try:
            candidate = self._terms(**changes)
            look = views.release if self._against == "release" else views.server
            view = look([(candidate.cost, candidate.rounds)], candidate.target_delta)
        except ValueError as error:
            self._refusal = str(error)
            return None
        self._nearest = min(self._nearest, view.epsilon)
        return candidate if view.epsilon <= self._epsilon else None

    def _failure(self, what: str) -> ValueError:
        """Says why there is no answer."""
        if math.isinf(self._nearest) and self._refusal:
            return ValueError(f"{what} for epsilon={self._epsilon}: {self._refusal}")
        return ValueError(
            f"{what} for epsilon={self._epsilon}: the nearest epsilon_{self._against} is "
            f"{self._nearest:.4g}"
        )
