"""What a plan costs before anybody runs it, and which plan an epsilon buys."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedspeech.errors import ArgumentRefused
from simulations.console import LOGGER, Console, Printed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedspeech.privacy.filling import Filled
    from fedspeech.privacy.plan import PrivacyPlan
    from fedspeech.privacy.pricing import Price
    from fedspeech.queries.estimate import ExpectedError
    from simulations.scenario.schema import Scenario
    from simulations.setup.definition import Experiment

Unknown = Literal["noise", "rounds", "cohort", "bits"]
_UNKNOWNS = {
    "noise": "noise_multiplier", "rounds": "rounds", "cohort": "cohort", "bits": "ring_bits",
}  # fmt: skip
_NEEDED = ("mechanism", "noise_multiplier", "participation", "population", "rounds")


@dataclass(frozen=True, eq=False)
class Budget(Printed):
    """What a plan costs: both epsilons and everything without which they say nothing.

        >>> import fedspeech as fs
        >>> found = fs.budget(mechanism="central", participation="poisson", population=100_000,
        ...                   cohort=1000, rounds=100, noise_multiplier=1.0)
        >>> found.epsilon_release < 2 < found.epsilon_server
        True
        >>> found.plan.rounds
        100

    Attributes:
      price: the plan, what was assumed, and the views of both adversaries.
      solved: what was searched for; None: nothing.
      limit: what ended the search, if not epsilon.
      asked: of a plan file, what phones are asked, in words; "": no plan file was priced.
      expected: of a plan file, the error of one estimate.
    """

    price: Price
    solved: Unknown | None = None
    limit: str = ""
    asked: str = ""
    expected: ExpectedError | None = None

    @property
    def plan(self) -> PrivacyPlan:
        """The whole plan, as a run would obey it."""
        return self.price.plan

    @property
    def epsilon_release(self) -> float:
        """Epsilon against readers of every published model, at `delta`."""
        return self.price.release.epsilon

    @property
    def epsilon_server(self) -> float:
        """Epsilon against the server, at `delta`."""
        return self.price.server.epsilon

    @property
    def delta(self) -> float:
        """Delta of both."""
        return self.plan.delta

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything that is said of the plan, a line each."""
        return tuple(line for line in str(self).splitlines() if line)

    def record(self, explain: bool = False) -> dict[str, Any]:
        """Everything as plain data; infinities are the string "Infinity"."""
        from simulations.report import plan_price

        facts = plan_price.document(self.price, explain)
        if self.solved is not None:
            facts["solved"] = {"for": self.solved, "limit": self.limit}
        if self.expected is not None:
            facts["asked"] = self.asked
            facts["expected_error"] = dataclasses.asdict(self.expected)
        return facts

    def print(self, console: Console, *, explain: bool = False) -> None:
        """Prints it to a console; with `explain` also what the figures stand on."""
        from simulations.report import plan_price

        plan_price.print_price(self.price, console, (self.solved, self.limit), explain)
        if self.expected is not None:
            console.print(f"{self.asked}. {plan_price.error_to_expect(self.expected)}")

    def __repr__(self) -> str:
        """The two epsilons, whole: rounded to the nearest, half of them would be too small."""
        return (
            f"Budget(epsilon_release={self.epsilon_release!r}, "
            f"epsilon_server={self.epsilon_server!r}, delta={self.delta!r})"
        )


def budget(
    what: Experiment | Scenario | str | Path | None = None,
    /,
    *,
    plan: str | Path | Mapping[str, Any] | None = None,
    solve: Unknown | None = None,
    epsilon: float | None = None,
    against: Literal["release", "server"] = "release",
    cross_check: bool = False,
    clip_quantile: float | None = None,
    **fields: Any,
) -> Budget:
    """Prices a plan before anybody runs it: two epsilons, against whom, and what they stand on.

    The plan is made where runs make theirs, so a run costs what is returned here.

        >>> import fedspeech as fs
        >>> fs.budget(mechanism="central", participation="fixed_size", population=1000, rounds=10,
        ...           cohort=100, noise_multiplier=4.0)
        Budget(epsilon_release=..., epsilon_server=inf, delta=0.0001)
        >>> fs.budget("quick", solve="noise", epsilon=8.0).plan.noise_multiplier  # doctest: +SKIP
        2.1...

    Args:
      what: an experiment, a scenario, its name or file, whose plan is priced; None: the plan of
        `fields`.
      plan: a plan file, the name of a shipped one, or its keys: what one release of it costs the
        phones of `what`, and which error to expect (docs/plan-files.md); None: the training rounds
        of `what` are priced.
      solve: what to find for `epsilon`: "noise", "rounds", "cohort" or "bits".
      epsilon: the bound to solve for.
      against: whose epsilon is bounded.
      cross_check: price by Opacus too, which takes seconds.
      clip_quantile: the clip norm adapts to this share of deltas.
      **fields: of `fedspeech.privacy.filling.fill` and `PrivacyPlan`: mechanism, participation,
        population, cohort or probability, rounds, noise_multiplier, delta, dimension, clip_norm,
        colluders, dropout_rate, ...; for "matrix_factorization" also min_separation, bands and
        momentum; what is left out is filled in on the safe side and named.

    Raises:
      ArgumentRefused: if a rule is broken, or no plan reaches the epsilon; names in backticks are
        arguments.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        if (solve is None) != (epsilon is None):
            raise ValueError("`solve` and `epsilon` go together: one says what, the other how much")
        if plan is not None:
            return _of_plan_file(plan, what, given, solve)
        if what is None:
            make = _from_fields(given, solve, clip_quantile)
        else:
            make = _from_experiment(what, given)
        return _priced(make, solve, epsilon, against, cross_check=cross_check)
    except ValueError as error:
        raise ArgumentRefused(str(error)) from None


def _of_plan_file(
    plan: str | Path | Mapping[str, Any],
    what: Experiment | Scenario | str | Path | None,
    given: dict[str, Any],
    solve: str | None,
) -> Budget:
    """Prices one release; its noise is what the epsilon of the plan file asks for."""
    from simulations.api.analytics import asked_of

    if what is None:
        raise ValueError("`plan` needs a scenario, whose phones are asked: give `scenario`")
    for name in (*given, *(["solve"] if solve else [])):
        raise ValueError(f"`plan` says it all: change it there, and leave `{name}` out")
    release = asked_of(plan, what).release
    return Budget(release.price, "noise", release.limit, release.asked, release.expected)


def _from_fields(
    given: dict[str, Any], solve: str | None, clip_quantile: float | None
) -> Callable[..., Filled]:
    """What makes a plan from fields and what is solved for."""
    solved = _UNKNOWNS.get(solve or "")
    if solved in given:
        raise ValueError(f"`solve` {solve} finds it: leave `{solved}` out")
    for name in _NEEDED:
        if name not in given and name != solved:
            raise ValueError(f"`{name}` is needed, or `scenario`")
    if solved == "cohort":
        if "probability" in given:
            raise ValueError("`solve` cohort finds the probability too: leave `probability` out")
    elif "cohort" not in given and "probability" not in given:
        raise ValueError("`cohort` or `probability` is needed: how many phones join a round")
    if "cohort_cap" in given and given.get("mechanism") == "central":
        LOGGER.info(
            "a cohort cap is priced by mixing two loss distributions: this may take a while"
        )
    if clip_quantile is not None:
        from simulations.scenario.schema import AdaptiveClippingSettings
        from simulations.setup.planning import adaptive_clipping

        settings = AdaptiveClippingSettings(target_quantile=clip_quantile)
        given["adaptive_clipping"] = adaptive_clipping(settings, given.get("clip_norm", 1.0))
    from fedspeech.privacy.factorization import Factorization
    from fedspeech.privacy.filling import fill
    from fedspeech.privacy.plan import PrivacyPlan

    known = {"cohort", "probability"}
    for parts in (PrivacyPlan, Factorization):
        known |= {field.name for field in dataclasses.fields(parts)}
    for name in set(given) - known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"a plan has no field {name}{hint}")
    if given.get("noise_multiplier") == 0:
        given["mechanism"] = "none"
    return functools.partial(fill, **given)


def _from_experiment(
    what: Experiment | Scenario | str | Path, given: dict[str, Any]
) -> Callable[..., Filled]:
    from simulations.api.scenarios import experiment_of
    from simulations.setup.planning import maker

    for name in given:
        raise ValueError(f"`scenario` says it all: change it by `set`, and leave `{name}` out")
    experiment = experiment_of(what)
    return maker(experiment.scenario.privacy, experiment.sizes)


def _priced(
    make: Callable[..., Filled],
    unknown: Unknown | None,
    epsilon: float | None,
    against: Literal["release", "server"],
    *,
    cross_check: bool,
) -> Budget:
    """Prices, or solves and prices."""
    from fedspeech.privacy.pricing import price
    from fedspeech.privacy.solving import solve

    if unknown is None:
        return Budget(price(make(), cross_check=cross_check))
    assert epsilon is not None
    LOGGER.info("looking for %s: some dozens of prices, seconds to half a minute", unknown)
    found = solve(make, unknown, epsilon, against=against)
    return Budget(found.price, unknown, found.limit)
