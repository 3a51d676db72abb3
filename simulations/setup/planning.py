"""The privacy plan of a scenario, and the nearest settings that the rules accept."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedspeech.cohorts import MASKED_GROUPS
from fedspeech.errors import ScenarioError, require
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.filling import Filled, fill
from simulations.scenario.schema import AdaptiveClippingSettings, PrivacySettings


@dataclass(frozen=True, kw_only=True)
class PlanSizes:
    """The inputs of a plan from the other sections of a scenario.

    Attributes:
      population: phones that federate.
      dimension: coordinates of the adapter.
      unit: of privacy, "user" or "phone".
      availability: smallest share of the population that is available at any hour of the run.
      momentum: of the server's step.
      whole: whether phones contribute whole numbers.
    """

    population: int
    dimension: int
    unit: str
    availability: float
    momentum: float = 0.0
    whole: bool = False


def plan_of(settings: PrivacySettings, sizes: PlanSizes) -> Filled:
    """Makes the plan of a scenario and computes its guarantee: without one a plan cannot run.

    Raises:
      ScenarioError: naming the rule that is broken, and settings nearby that break none.
    """
    try:
        filled = _filled(settings, sizes)
        filled.plan.guarantee(filled.plan.rounds)
    except ValueError as error:
        raise ScenarioError(f"privacy: {error}{_way_out(settings, sizes)}") from error
    return filled


def maker(settings: PrivacySettings, sizes: PlanSizes) -> Callable[..., Filled]:
    """Returns a function that makes a scenario's plan, with settings changed by its arguments."""

    def make(**changes: Any) -> Filled:
        if not changes:
            return plan_of(settings, sizes)
        if (cohort := changes.pop("cohort", None)) is not None:
            if cohort > (there := sizes.population * sizes.availability):
                raise ValueError(f"cohort must be at most the {there:g} phones that are there")
            changes["participation_probability"] = min(1.0, cohort / there)
        return _filled(settings.model_copy(update=changes), sizes)

    return make


def _filled(settings: PrivacySettings, sizes: PlanSizes) -> Filled:
    """Makes a plan from settings whose minimums are shares of the expected cohort."""
    same = (
        "mechanism", "clip_norm", "rounds", "cohort_cap", "colluders", "dropout_rate", "delta",
        "ring_bits", "participation", "threat_model", "groups",
    )  # fmt: skip
    if settings.groups > 1 and settings.secure_aggregation == "masked":
        raise ValueError(MASKED_GROUPS)
    noisy = settings.mechanism != "none"
    cohort, reporting = _minimums(settings, sizes)
    return fill(
        **{name: getattr(settings, name) for name in same},
        noise_multiplier=settings.noise_multiplier if noisy else 0.0,
        population=sizes.population,
        probability=settings.participation_probability,
        max_participations=min(settings.max_participations, settings.rounds),
        participation_window=settings.participation_window,
        dimension=sizes.dimension,
        availability=sizes.availability,
        # Without noise epsilon is infinite, and a finite budget would refuse the first round.
        epsilon_budget=settings.epsilon_budget if noisy else math.inf,
        unit="phone" if sizes.unit == "phone" else "user",
        adaptive_clipping=adaptive_clipping(settings.adaptive_clipping, settings.clip_norm),
        # Vectors that are noisy by themselves need no mask.
        secure_aggregation="ideal"
        if settings.mechanism == "local"
        else settings.secure_aggregation,
        min_cohort=cohort,
        min_reporting=reporting,
        whole=sizes.whole,
        **_factorization(settings, sizes),
    )


def _factorization(settings: PrivacySettings, sizes: PlanSizes) -> dict[str, Any]:
    """How noise of rounds is correlated; what is not set is filled in as for `fedspeech budget`."""
    chosen = settings.matrix_factorization
    if settings.mechanism != "matrix_factorization":
        if chosen is not None and settings.mechanism != "none":
            raise ValueError(
                "[privacy.matrix_factorization] belongs to mechanism matrix_factorization, got "
                f"mechanism={settings.mechanism!r}"
            )
        return {}
    found = {} if chosen is None else chosen.model_dump(exclude_none=True)
    return {"momentum": sizes.momentum} | found


def _minimums(settings: PrivacySettings, sizes: PlanSizes) -> tuple[int, int]:
    """Minimums on cohort list and reporting phones, as shares of the cohort expected in a sum.

    Raises:
      ValueError: if more are to report than need to come.
    """
    require(
        settings.min_reporting_share <= settings.min_cohort_share,
        "min_reporting_share must be at most min_cohort_share: a cohort that may begin may report",
        min_reporting_share=settings.min_reporting_share,
        min_cohort_share=settings.min_cohort_share,
    )
    probability = settings.participation_probability
    # Nobody tosses a coin: whole phones are called, as `fedspeech.privacy.filling` counts.
    if settings.participation != "poisson":
        probability = max(1, round(sizes.population * probability)) / sizes.population
    expected = sizes.population * probability * sizes.availability / settings.groups
    # Plus 1e-9, since a product such as 0.7 * 90 lies just below 63 in floating point, and the
    # floor would lose a phone.
    cohort = max(1, math.floor(settings.min_cohort_share * expected + 1e-9))
    reporting = max(1, math.floor(settings.min_reporting_share * expected + 1e-9))
    return cohort, reporting


def adaptive_clipping(
    settings: AdaptiveClippingSettings | None, clip_norm: float
) -> AdaptiveClipping | None:
    """How the clip norm adapts from its first value on, or None."""
    if settings is None:
        return None
    fields = settings.model_dump()
    # Phones refuse a norm beyond these bounds, so no server can name an arbitrary one.
    fields["min_clip_norm"] = fields["min_clip_norm"] or clip_norm / 100
    fields["max_clip_norm"] = fields["max_clip_norm"] or clip_norm * 100
    return AdaptiveClipping(**fields)


# Settings near refused ones: pricing a plan takes milliseconds, which bounds the search.
_MOST_CHANGES = 3
_SMALL = 200  # larger populations than this are not enlarged
_MOST_PHONES = 10  # factor on the population, tried with the settings as they are
_MORE_PHONES = 6  # populations tried with other settings


def _way_out(settings: PrivacySettings, sizes: PlanSizes) -> str:
    """Settings near these that no rule refuses, and the population that these settings need."""
    found = []
    larger = range(sizes.population, sizes.population + _MORE_PHONES)
    for tried in larger if sizes.population <= _SMALL else larger[:1]:
        if changes := nearest_accepted(settings, dataclasses.replace(sizes, population=tried)):
            found.append(f"{tried:,} phones are accepted with {_keys(changes)}")
            break
    if sizes.population <= _SMALL:
        larger = range(sizes.population + 1, _MOST_PHONES * sizes.population + 1)
        for tried in larger:
            if _accepted(settings, dataclasses.replace(sizes, population=tried)):
                found.append(f"with these settings {tried:,} phones are")
                break
    return f". {'; '.join(found)}" if found else ""


def split_way_out(
    settings: PrivacySettings, sizes: PlanSizes, speakers: int, *, spares: bool
) -> str:
    """Sizes of groups of so few speakers, and settings, that no rule refuses, as scenario keys.

    `sizes` holds everything but the population; `spares` says whether there are to be public and
    validation speakers.
    """
    public, validation = (max(2, speakers // 4), max(1, speakers // 12)) if spares else (0, 0)
    federated = speakers - public - validation - max(2, speakers // 5)
    if federated < 1:
        return f"{speakers} speakers are too few for any division"
    changes = nearest_accepted(settings, dataclasses.replace(sizes, population=federated))
    if changes is None:
        return f"no division of {speakers} speakers leaves enough of them to federate"
    groups = (
        f"corpus.public_speakers={public}, corpus.validation_speakers={validation}, "
        f"corpus.federated_speakers={federated}"
    )
    return f"{speakers} speakers are accepted with {groups}" + (
        f", {_keys(changes)}" if changes else ""
    )


def _keys(changes: Mapping[str, float]) -> str:
    """Changed privacy settings as keys of a scenario, which options and arguments both take."""
    return ", ".join(f"privacy.{name}={value:g}" for name, value in changes.items())


def nearest_accepted(settings: PrivacySettings, sizes: PlanSizes) -> dict[str, float] | None:
    """The fewest changes of settings that make a plan, and of as many the smallest.

    Returns:
      Setting to value; empty if no rule refuses the settings as they are, None if nothing nearby
      makes a plan.
    """
    steps = {name: values for name, values in _nearer(settings).items() if values}
    for count in range(min(_MOST_CHANGES, len(steps)) + 1):
        tried = sorted(
            (
                dict(zip(names, at, strict=True))
                for names in itertools.combinations(steps, count)
                for at in itertools.product(*(range(len(steps[name])) for name in names))
            ),
            key=lambda places: sum(places.values()),
        )
        for places in tried:
            changes = {name: steps[name][place] for name, place in places.items()}
            if _accepted(settings.model_copy(update=changes), sizes):
                return changes
    return None


def _nearer(settings: PrivacySettings) -> dict[str, list[float]]:
    """Setting to values in the direction that rules ask for, the nearest first."""
    cohort, reporting = settings.min_cohort_share, settings.min_reporting_share
    probability, noise = settings.participation_probability, settings.noise_multiplier
    return {
        "participation_probability": [v for v in (0.1, 0.2, 0.3, 0.5, 0.8, 1.0) if v > probability],
        "min_cohort_share": [v for v in (0.7, 0.6, 0.5, 0.4) if v < cohort]
        + [v for v in (0.7, 0.8) if v > cohort],
        "min_reporting_share": [v for v in (0.5, 0.6, 0.7, 0.8, 0.9) if v > reporting]
        + [v for v in (0.6, 0.5, 0.4, 0.3) if v < reporting],
        "dropout_rate": [v for v in (0.02, 0.01, 0.0) if v < settings.dropout_rate],
        "colluders": [v for v in (5, 1, 0) if v < settings.colluders],
        "noise_multiplier": [v for v in (1.0, 2.0, 4.0, 8.0) if v > noise > 0],
    }


def _accepted(settings: PrivacySettings, sizes: PlanSizes) -> bool:
    """Whether no rule refuses the plan."""
    try:
        plan = _filled(settings, sizes).plan
        plan.guarantee(plan.rounds)
    except ValueError:
        return False
    return True
