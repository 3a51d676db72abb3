"""What a roll-out is to do: its stages, its guardrails, and whom it counts on.

plan = RolloutPlan.from_toml(text)
plan.stages[0].share, plan.segments, plan.noise_stddev
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedspeech.errors import ScenarioError, require
from fedspeech.privacy.accountant import epsilon, rdp
from fedspeech.privacy.events import Gaussian
from fedspeech.rollout.checked_json import canonical_json

EVERYBODY = "everybody"
"""The segment of a roll-out that asks for none."""


def percent(share: float) -> str:
    """A share as text, such as "12.5 %"."""
    return f"{100 * share:g} %"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a roll-out.

    Attributes:
      share: of the phones that take the new version.
      margin: the loss of accuracy in a segment, as a share, that must not pass this stage; unused
        where everybody has the new version, for nobody is left to compare with.
      windows: looks that the stage has at most.

    Raises:
      ValueError: if one is out of range.
    """

    share: float
    margin: float = 0.05
    windows: int = 7

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(0 < self.share <= 1, "share must be above 0 and at most 1", share=self.share)
        require(0 < self.margin < 1, "margin must be above 0 and below 1", margin=self.margin)
        require(1 <= self.windows <= 366, "windows must be 1 to 366", windows=self.windows)

    @property
    def share_ppm(self) -> int:
        """The share in millionths, as phones compare it."""
        return round(self.share * 1_000_000)


STAGES = (
    Stage(share=0.01, margin=0.05),
    Stage(share=0.1, margin=0.03),
    Stage(share=0.5, margin=0.02),
    Stage(share=1.0),
)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The federated evaluation that the guardrails read, in every window.

    Attributes:
      epsilon: of all windows of the roll-out together, for a phone that answers in every one;
        infinite: no noise.
      delta: of the same.
      clips_per_phone: clips that one phone counts in one window at most.
      clips: that it counts on average.
      answers: how often a phone answers in one window. 1: it counts for the version that it
        serves, in one release of both groups. 2: in a release of each version, as `fedspeech
        analyze` asks; both are paid for.
      participation: share of the phones that answer in a window.
      accuracy: to expect of the present version.
      phone_stddev: how much phones differ in accuracy, as a standard deviation; None: the most that
        is possible, sqrt(p (1 - p)) (Bhatia and Davis 2000, Amer. Math. Monthly 107:353).
      k_min: clips counted below which a cell is withheld.

    Raises:
      ValueError: if one is out of range.
    """

    epsilon: float = 4.0
    delta: float = 1e-6
    clips_per_phone: int = 20
    clips: float = 10.0
    answers: int = 1
    participation: float = 1.0
    accuracy: float = 0.9
    phone_stddev: float | None = None
    k_min: int = 100

    def __post_init__(self) -> None:
        """Checks the ranges."""
        require(self.epsilon > 0, "epsilon must be positive", epsilon=self.epsilon)
        require(0 < self.delta < 1, "delta must be in (0, 1)", delta=self.delta)
        require(
            0 < self.clips <= self.clips_per_phone,
            "clips must be above 0 and at most clips_per_phone",
            clips=self.clips,
            clips_per_phone=self.clips_per_phone,
        )
        require(self.answers in (1, 2), "answers must be 1 or 2", answers=self.answers)
        require(
            0 < self.participation <= 1,
            "participation must be above 0 and at most 1",
            participation=self.participation,
        )
        require(0 < self.accuracy < 1, "accuracy must be in (0, 1)", accuracy=self.accuracy)
        require(
            self.phone_stddev is None or 0 <= self.phone_stddev <= 0.5,
            "phone_stddev must be 0 to 0.5",
            phone_stddev=self.phone_stddev,
        )
        require(self.k_min >= 1, "k_min must be at least 1", k_min=self.k_min)


@dataclass(frozen=True, kw_only=True)
class RolloutPlan:
    """Everything that is fixed before the first phone takes a new version.

    Attributes:
      phones: in the population.
      segments: name of an attribute to the share of the phones with each value; each sums to 1.
      stages: ascending shares; the last is everybody.
      alpha: chance that a harmless update is rolled back, over all stages, segments and looks.
      beta: chance that a stage passes an update that costs a segment the stage's margin.
      tolerance: loss of accuracy, as a share, that is no harm.
      evaluation: where the counts come from.
      reset_after_days: age at which a phone drops its own personal adapter; None: never.

    Raises:
      ValueError: if one is out of range.
    """

    phones: int
    segments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    stages: tuple[Stage, ...] = STAGES
    alpha: float = 0.02
    beta: float = 0.1
    tolerance: float = 0.0
    evaluation: Evaluation = Evaluation()
    reset_after_days: int | None = None

    def __post_init__(self) -> None:
        """Checks the fields against one another."""
        require(self.phones >= 1, "phones must be at least 1", phones=self.phones)
        require(0 < self.alpha < 0.5, "alpha must be above 0 and below 0.5", alpha=self.alpha)
        require(0 < self.beta < 0.5, "beta must be above 0 and below 0.5", beta=self.beta)
        shares = [stage.share for stage in self.stages]
        require(
            shares == sorted(set(shares)) and shares[-1:] == [1.0],
            "shares of stages must rise and end with 1",
            shares=shares,
        )
        watched = [stage.margin for stage in self.watched]
        require(
            0 <= self.tolerance < min(watched, default=1.0),
            "tolerance must be at least 0 and below every margin",
            tolerance=self.tolerance,
        )
        for name, values in self.segments.items():
            require(
                len(values) > 0
                and all(share > 0 for share in values.values())
                and math.isclose(sum(values.values()), 1, abs_tol=1e-6),
                f"shares of the segment {name!r} must be positive and sum to 1",
                values=dict(values),
            )
        require(
            self.reset_after_days is None or self.reset_after_days >= 1,
            "reset_after_days must be at least 1",
            reset_after_days=self.reset_after_days,
        )

    @property
    def watched(self) -> tuple[Stage, ...]:
        """Stages in which somebody keeps the old version, so that there is a comparison."""
        return tuple(stage for stage in self.stages if stage.share < 1)

    @property
    def cells(self) -> dict[str, float]:
        """Every segment's full name, such as "accent=scottish", to its share of the phones."""
        found = {
            f"{name}={value}": share
            for name, values in self.segments.items()
            for value, share in values.items()
        }
        return found or {EVERYBODY: 1.0}

    @property
    def noise_stddev(self) -> float:
        """Standard deviation of the noise in correct clips, and in others, in clips.

        A phone adds at most `clips_per_phone` clips, each to the correct ones or to the others, in
        one cell of each attribute: an L2 norm of clips_per_phone sqrt(attributes).
        """
        norm = self.evaluation.clips_per_phone * math.sqrt(max(1, len(self.segments)))
        windows = sum(stage.windows for stage in self.watched)
        releases = windows * self.evaluation.answers
        return norm * _noise_multiplier(self.evaluation.epsilon, self.evaluation.delta, releases)

    @property
    def sha256(self) -> str:
        """Fingerprint of the plan, hex."""
        return hashlib.sha256(canonical_json(self.to_record())).hexdigest()

    def to_record(self) -> dict[str, Any]:
        """The plan as plain values, from which `from_record` builds the same one."""
        record = dataclasses.asdict(self)
        if math.isinf(self.evaluation.epsilon):
            record["evaluation"]["epsilon"] = "inf"  # JSON has no infinity
        return record | {"stages": list(record["stages"])}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RolloutPlan:
        """Builds a plan from plain values.

        Raises:
          ScenarioError: if a key is unknown or a value is of another type.
          ValueError: if a value is out of range.
        """
        _require_known(record, cls, "a roll-out plan")
        made: dict[str, Any] = dict(record)
        if "stages" in made:
            made["stages"] = tuple(_made(Stage, one, "a stage") for one in made["stages"])
        if "evaluation" in made:
            made["evaluation"] = _made(Evaluation, made["evaluation"], "[evaluation]")
        plan: RolloutPlan = _made(cls, made, "a roll-out plan")
        return plan

    @classmethod
    def from_toml(cls, text: str) -> RolloutPlan:
        """Reads a plan file.

        Raises:
          ScenarioError: if it is no TOML, or a key is unknown.
          ValueError: if a value is out of range.
        """
        try:
            return cls.from_record(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError(f"a roll-out plan is a TOML file: {error}") from error


def _made(kind: Any, record: Mapping[str, Any], where: str) -> Any:
    _require_known(record, kind, where)
    try:
        return kind(**{name: _number(value) for name, value in record.items()})
    except TypeError as error:
        raise ScenarioError(f"{where}: {error}") from error


def _number(value: Any) -> Any:
    return math.inf if value == "inf" else value


def _require_known(record: Mapping[str, Any], kind: Any, where: str) -> None:
    known = {one.name for one in dataclasses.fields(kind)}
    if unknown := sorted(set(record) - known):
        raise ScenarioError(
            f"{where} has the keys {', '.join(sorted(known))}, got {', '.join(unknown)}"
        )


@functools.lru_cache(maxsize=256)
def _noise_multiplier(target: float, delta: float, releases: int) -> float:
    """The smallest multiplier, to 1e-3, of so many Gaussian releases within a budget."""
    if math.isinf(target) or releases == 0:
        return 0.0

    def price(multiplier: float) -> float:
        return epsilon(releases * rdp(Gaussian(noise_multiplier=multiplier)), delta)

    low, high = 0.05, 1.0
    while price(high) > target:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if price(middle) <= target else (middle, high)
    return high
