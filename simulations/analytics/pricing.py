"""What one release of a plan file costs: the noise that its epsilon asks for, and the error."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fedspeech.errors import ScenarioError
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.pricing import Price, price
from fedspeech.privacy.solving import solve
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.estimate import ExpectedError
from simulations.analytics.plan_file import PlanFile
from simulations.scenario.schema import PrivacySettings
from simulations.setup.planning import PlanSizes, maker


@dataclass(frozen=True, kw_only=True)
class PricedRelease:
    """A plan file, its query, and the plan that protects whoever answers.

    Attributes:
      file: as it was read.
      query: what phones are asked.
      price: the privacy plan, and the views of both adversaries.
      limit: what else than epsilon ended the search for noise; "": nothing.
    """

    file: PlanFile
    query: Analytics
    price: Price
    limit: str = ""

    @property
    def plan(self) -> PrivacyPlan:
        """The whole plan, as the release obeys it."""
        return self.price.plan

    @property
    def asked(self) -> str:
        """What phones are asked, in words: a quantile, for instance, by a tree or a search."""
        query = self.query
        took = "1 round" if query.rounds == 1 else f"{query.rounds} rounds"
        return (
            f"{type(query).__name__} in {took}, {query.dimension:,} coordinates, of a phone at "
            f"most {query.l2_bound:.4g} (L2)"
        )

    @property
    def expected(self) -> ExpectedError:
        """The error of one estimate, before anybody is asked."""
        return self.query.expected_error(self.plan)


def priced_release(
    file: PlanFile, query: Analytics, settings: PrivacySettings, sizes: PlanSizes
) -> PricedRelease:
    """Finds the least noise at which a release costs at most the epsilon of its plan file.

    Args:
      file: the plan file.
      query: what it asks.
      settings: of the scenario whose phones are asked.
      sizes: of that scenario.

    Raises:
      ScenarioError: if no noise is enough, or a rule of privacy is broken.
    """
    settings = _settings_of(file, query, settings)
    sizes = dataclasses.replace(sizes, dimension=query.dimension, momentum=0.0)
    if (settings.mechanism == "none") != math.isinf(file.epsilon):
        raise ScenarioError(
            f'{file.name}: epsilon must be inf where privacy.mechanism is "none", and finite '
            f"elsewhere, got epsilon={file.epsilon} with mechanism={settings.mechanism!r}"
        )
    try:
        cost, limit = _cheapest(file, query, settings, sizes)
        query = query.under(cost.plan, file.k_min)
        found = PricedRelease(file=file, query=query, price=cost, limit=limit)
        query.check_plan(found.plan)
        _ = found.expected  # a plan whose error nobody can state is refused
    except ScenarioError:
        raise
    except ValueError as error:
        raise ScenarioError(f"{file.name}: epsilon={file.epsilon}: {error}") from error
    return found


def _cheapest(
    file: PlanFile, query: Analytics, settings: PrivacySettings, sizes: PlanSizes
) -> tuple[Price, str]:
    """The plan with the least noise, and what else than epsilon ended the search.

    Whole numbers stay exact where the ring has room for all phones in one cell. Where it has not,
    or noise has to be wider for it, they are rotated and rounded like any other vector.
    """
    refused, found = None, []
    for whole in (True, False) if query.whole else (False,):
        make = maker(settings, dataclasses.replace(sizes, whole=whole))
        try:
            if settings.mechanism == "none":
                return price(make()), ""
            solved = solve(make, "noise", file.epsilon)
        except ValueError as error:
            refused = error
            continue
        if not solved.limit:
            return solved.price, ""
        found.append((solved.price, solved.limit))
    if not found:
        assert refused is not None
        raise refused
    return min(found, key=lambda one: one[0].plan.noise_multiplier)


def _settings_of(file: PlanFile, query: Analytics, settings: PrivacySettings) -> PrivacySettings:
    """The scenario's privacy settings, changed to those of the release."""
    asked = {name: value for name, value in vars(file.privacy).items() if value is not None}
    once = {
        "rounds": query.rounds,
        "max_participations": query.rounds,  # the answer takes so many of every phone
        "participation_window": None,
        "clip_norm": query.l2_bound,
        "delta": file.delta,
        "adaptive_clipping": None,
        "matrix_factorization": None,
        "cohort_cap": None,
        "groups": 1,
        "sizing": "scenario",
    }
    return settings.model_copy(update=once | asked)
