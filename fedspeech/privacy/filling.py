"""A whole plan from what somebody gave: the rest is filled in on the safe side, and named.

A run and `fedspeech budget` make their plan here, so there is one plan and one price.

    given = fill(mechanism="distributed", participation="poisson", population=10**6, cohort=2000,
                 rounds=300, noise_multiplier=1.5)
    print(given.plan.guarantee(300).epsilon_release, sorted(given.assumed))
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fedspeech.errors import is_integer, require
from fedspeech.privacy import binomial_tails
from fedspeech.privacy.config import Mechanism, Participation
from fedspeech.privacy.factorization import MAX_BANDS, Factorization
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.rules import MOST_GROUPS, check_availability
from fedspeech.privacy.sizing import MAX_MINIMUM
from fedspeech.secagg.dropouts import share_answering, share_gone
from fedspeech.secagg.protocol import Stage

DEFAULT_DIMENSION = 16_384  # above every adapter that ships; more coordinates never cost less
MAX_POPULATION = 10**12
MAX_ROUNDS = 10**7
MAX_COLLUDERS = 10**5
# What is filled in keeps what it may cost in bad events under this share of delta.
_SHARE_OF_DELTA = 1e-4


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A plan, and the names of those of its fields that nobody gave."""

    plan: PrivacyPlan
    assumed: frozenset[str]


def fill(
    *,
    mechanism: Mechanism,
    participation: Participation,
    population: int,
    rounds: int,
    noise_multiplier: float,
    cohort: float | None = None,
    probability: float | None = None,
    **given: Any,
) -> Filled:
    """Makes a plan; fields that are left out or None are filled in.

    Either the expected `cohort` or the `probability` of one phone in one round is given; all else
    are fields of `PrivacyPlan`, and of its `Factorization` where noise is correlated. The cohort is
    that of the fewest phones that are there; where nobody tosses a coin, a probability is rounded
    to whole phones.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """
    known: dict[str, Any] = {
        "mechanism": mechanism,
        "participation": participation,
        "population": population,
        "rounds": rounds,
        "noise_multiplier": noise_multiplier,
        **{name: value for name, value in given.items() if value is not None},
    }
    _check(known)
    known["participation_probability"] = _probability(known, cohort, probability)
    filled = {name: value for name, value in _simple(known).items() if name not in known}
    known |= filled
    filled |= _factorized(known)
    if "max_participations" not in known:
        filled["max_participations"] = known["max_participations"] = _max_participations(known)
    if "min_reporting" not in known:
        minimum = min(_minimum(known), known.get("min_cohort", population))
        filled["min_reporting"] = known["min_reporting"] = minimum
    if "min_cohort" not in known:
        filled["min_cohort"] = known["min_cohort"] = known["min_reporting"]
    return Filled(plan=PrivacyPlan(**known), assumed=frozenset(filled))


def _factorized(known: dict[str, Any]) -> dict[str, Any]:
    """Puts fields of a factorization in the place of its parts; returns those that were filled in.

    Phones are as far apart as their turns bring them, and noise is correlated as far as columns of
    the strategy do not overlap for one phone (`factorization`): more bands cost sensitivity.
    """
    names = [field.name for field in dataclasses.fields(Factorization)]
    given = {name: known.pop(name) for name in names if name in known}
    needed = known["mechanism"] == "matrix_factorization" or given  # else the rules refuse it
    if "factorization" in known or not needed:
        return {}
    cohort = max(1, round(known["population"] * known["participation_probability"]))
    filled: dict[str, Any] = {}
    if "min_separation" not in given:
        filled["min_separation"] = given["min_separation"] = known["population"] // cohort
    if "bands" not in given:
        bands = min(given["min_separation"], known["rounds"], MAX_BANDS)
        filled["bands"] = given["bands"] = bands
    known["factorization"] = Factorization(**given)
    return filled


def _check(known: dict[str, Any]) -> None:
    """Checks what the search for defaults needs, and that it ends."""
    for name, least, most in (
        ("population", 1, MAX_POPULATION),
        ("rounds", 1, MAX_ROUNDS),
        ("colluders", 0, MAX_COLLUDERS),
        ("groups", 1, MOST_GROUPS),  # divides before the plan can refuse it
    ):
        value = known.get(name, least)
        within = is_integer(value) and least <= value <= most
        require(within, f"{name} must be an integer from {least} to {most:,}", **{name: value})
    check_availability(known.get("availability", 1.0), known["participation"])


def _probability(known: dict[str, Any], cohort: float | None, probability: float | None) -> float:
    population, availability = known["population"], known.get("availability", 1.0)
    if (cohort is None) == (probability is None):
        raise ValueError(
            "give either cohort or probability, one of the two, got "
            f"cohort={cohort}, probability={probability}"
        )
    if cohort is not None:
        sizes = {"cohort": cohort, "population": population}
        require(0 < cohort <= population, "cohort must be in (0, population]", **sizes)
        there = population * availability
        rule = "cohort must be at most the phones that are there"
        require(cohort <= there, rule, **sizes, availability=availability)
        return float(min(1.0, cohort / there))
    assert probability is not None
    require(0 < probability <= 1, "probability must be in (0, 1]", probability=probability)
    if known["participation"] == "poisson":
        return probability
    return float(max(1, round(population * probability)) / population)


def _simple(known: dict[str, Any]) -> dict[str, Any]:
    return {
        "dimension": DEFAULT_DIMENSION,
        "clip_norm": 1.0,
        "delta": 1 / (10 * known["population"]),
        "epsilon_budget": math.inf,
        "colluders": 0,
        "dropout_rate": 0.0,
        "availability": 1.0,
        # Each vector is noisy by itself where noise is local, and needs no mask.
        "secure_aggregation": "ideal" if known["mechanism"] == "local" else "masked",
        "threat_model": "malicious",
    }


def _max_participations(known: dict[str, Any]) -> int:
    """Smallest number of rounds that a phone's coins hardly ever exceed; turns are certain.

    A server that adds the noise itself learns nothing less where phones come less often, so there a
    phone may come always.
    """
    rounds, probability = known["rounds"], known["participation_probability"]
    if known["participation"] == "round_robin":
        window = known.get("participation_window") or rounds
        # A product that should be whole may lie a last bit above it, and would cost a round more.
        return int(max(1, math.ceil(window * probability - 1e-9)))
    if known["mechanism"] in ("central", "matrix_factorization", "none"):
        return int(rounds)
    most = _SHARE_OF_DELTA * known["delta"]

    def rare(max_participations: int) -> bool:
        return bool(
            binomial_tails.max_participations_failure(rounds, probability, max_participations)
            <= most
        )

    return 1 + bisect.bisect_left(range(1, rounds), True, key=rare)


def _minimum(known: dict[str, Any]) -> int:
    """Largest minimum up to 75 % of those expected that one phone hardly ever decides."""
    rate, colluders = known["dropout_rate"], known["colluders"]
    probability, availability = known["participation_probability"], known["availability"]
    groups = known.get("groups", 1)
    expected = known["population"] * probability * availability / groups
    standing = expected * share_answering(rate, Stage.MASK)
    high = math.floor(MAX_MINIMUM * standing + 1e-9)
    if availability < 1:  # the whole tail counts, which has a bound below the mean only
        high = min(high, math.floor(standing) - colluders - 1)
    low = colluders + 1
    if known["secure_aggregation"] == "masked":
        # More than half of a cohort list and the colluders must be there in the end.
        low = max(2, low, math.floor(colluders / max(1e-9, 1 - 2 * share_gone(rate))) + 1)
    if known["participation"] == "fixed_size" or known["mechanism"] == "none":
        return int(max(high, 1))
    round_robin = known["participation"] == "round_robin"
    candidates = round(expected) if round_robin else known["population"] // groups
    most = _SHARE_OF_DELTA * known["delta"] / known["rounds"]

    def decided(minimum: int) -> bool:
        stages = (Stage.ADVERTISE, Stage.ACCEPT, Stage.MASK)
        failing = binomial_tails.minimum_failure(
            population=candidates,
            probability=1.0 if round_robin else probability,
            colluders=min(colluders, max(0, candidates - 1)),
            minimums=[(minimum, share_answering(rate, stage)) for stage in stages],
            availability=availability,
        )
        return bool(failing > most)

    high = max(high, 1)
    low = min(low, high)
    return int(low) + bisect.bisect_left(range(low + 1, high + 1), True, key=decided)
