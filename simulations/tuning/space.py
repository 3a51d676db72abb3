"""What is searched: clip norms, noise multipliers and, where asked, server rates and local epochs.

A clip norm alone is swept at constant server learning rate x clip norm. A phone whose delta is
longer than the clip norm sends a vector of exactly that length, so at a constant rate half the clip
norm is half the step, and what looks like an effect of clipping is one of the rate.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.errors import ArgumentRefused, ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from simulations.results.record import Count, Positive, Record
from simulations.scenario.schema import Scenario

Axis = tuple[float, ...]

CLIP_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
NOISE_FACTORS = (0.5, 1.0, 2.0, 4.0, 8.0)
SCALED_STEPS = ("fedavg", "fedavgm")
"""Server optimizers whose step is proportional to the mean that they are given. FedAdam and FedYogi
divide by its size, so with them a smaller clip norm is no smaller step, and the rate stays."""


class Setting(Record):
    """One point of the search.

    Attributes:
      clip_norm: L2 bound on a delta.
      noise_multiplier: of the sum; 0 where the scenario adds no noise.
      server_learning_rate: of the server.
      local_epochs: of a phone.
    """

    clip_norm: Positive
    noise_multiplier: Positive
    server_learning_rate: Positive
    local_epochs: Count

    @classmethod
    def of(cls, scenario: Scenario) -> Setting:
        """The scenario's own."""
        return cls(
            clip_norm=scenario.privacy.clip_norm,
            noise_multiplier=scenario.privacy.noise_multiplier,
            server_learning_rate=scenario.server_optimizer.learning_rate,
            local_epochs=scenario.training.local_epochs,
        )

    def plan(self, plan: PrivacyPlan) -> PrivacyPlan:
        """A plan under this setting.

        Raises:
          ScenarioError: if the plan refuses it.
        """
        try:
            return dataclasses.replace(
                plan, clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier
            )
        except ValueError as error:
            raise ScenarioError(f"{self}: {error}") from error

    def job(self, job: Job) -> Job:
        """A job under this setting: what `fedspeech simulate` would run, to its last round."""
        query = AdapterTraining.of(job.query)
        optimizer = query.optimizer
        if isinstance(optimizer, FedOpt):  # an own rule has settings of its own
            optimizer = dataclasses.replace(optimizer, learning_rate=self.server_learning_rate)
        query = dataclasses.replace(
            query,
            optimizer=optimizer,
            training=dataclasses.replace(query.training, local_epochs=self.local_epochs),
        )
        # A trial is compared round by round with others, so it runs all of its rounds.
        return dataclasses.replace(job, plan=self.plan(job.plan), query=query, early_stopping=None)

    def scenario(self, scenario: Scenario) -> Scenario:
        """A scenario under this setting."""
        privacy = {"clip_norm": self.clip_norm, "noise_multiplier": self.noise_multiplier}
        return scenario.model_copy(
            update={
                "privacy": scenario.privacy.model_copy(update=privacy),
                "server_optimizer": dataclasses.replace(
                    scenario.server_optimizer, learning_rate=self.server_learning_rate
                ),
                "training": dataclasses.replace(scenario.training, local_epochs=self.local_epochs),
            }
        )

    def __str__(self) -> str:
        """Names and values, as a line of a report has them."""
        return (
            f"clip norm {self.clip_norm:g}, noise multiplier {self.noise_multiplier:g}, server "
            f"learning rate {self.server_learning_rate:g}, local epochs {self.local_epochs}"
        )


@dataclass(frozen=True, kw_only=True)
class Space:
    """Where to search, around a scenario's own setting: ascending values; None: not searched.

    Attributes:
      rate_follows_clip: keep server learning rate x clip norm constant.
    """

    own: Setting
    clip_norm: Axis
    noise_multiplier: Axis
    server_learning_rate: Axis | None
    local_epochs: tuple[int, ...] | None
    rate_follows_clip: bool

    @classmethod
    def around(
        cls,
        scenario: Scenario,
        *,
        clip_norm: Axis | None = None,
        noise_multiplier: Axis | None = None,
        server_learning_rate: Axis | None = None,
        local_epochs: Axis | None = None,
    ) -> Space:
        """The axes that were asked for, and sensible ones for clip and noise that were not.

        Raises:
          ScenarioError: if noise is asked of a scenario without any, clip norms of one that moves
            its own, or half an epoch.
        """
        own = Setting.of(scenario)
        private = scenario.privacy.mechanism != "none"
        if noise_multiplier is not None and not private:
            raise ScenarioError(
                'this scenario adds no noise (privacy.mechanism is "none"), so there is no noise '
                "multiplier to search; choose a scenario with privacy"
            )
        rule = scenario.server_optimizer.rule
        if server_learning_rate is not None and rule:
            raise ArgumentRefused(
                f"the server learning rate is no setting of the own rule {rule}: take "
                "`server_learning_rate` away; its settings stand in server_optimizer.settings"
            )
        if local_epochs is not None and any(value != int(value) for value in local_epochs):
            raise ArgumentRefused(f"`local_epochs` takes whole numbers, got {list(local_epochs)}")
        clips = tuple(tidy(own.clip_norm * factor) for factor in CLIP_FACTORS)
        if scenario.privacy.adaptive_clipping is not None:
            clips = (own.clip_norm,)
            if clip_norm is not None and clip_norm != clips:
                raise ScenarioError(
                    "privacy.adaptive_clipping moves the clip norm by itself, so there is no clip "
                    "norm to search; take it out of the scenario, or search the noise alone"
                )
        noise = tuple(tidy(own.noise_multiplier * factor) for factor in NOISE_FACTORS)
        return cls(
            own=own,
            clip_norm=clip_norm or clips,
            noise_multiplier=noise_multiplier or (noise if private else (0.0,)),
            server_learning_rate=server_learning_rate,
            local_epochs=tuple(sorted({int(e) for e in local_epochs})) if local_epochs else None,
            rate_follows_clip=(
                server_learning_rate is None
                and not rule
                and scenario.server_optimizer.optimizer in SCALED_STEPS
            ),
        )

    def at(
        self,
        clip_norm: float,
        noise_multiplier: float,
        server_learning_rate: float | None = None,
        local_epochs: int | None = None,
    ) -> Setting:
        """The setting at a point; what is not searched is the scenario's, or tied to the clip."""
        rate = self.own.server_learning_rate
        if server_learning_rate is not None:
            rate = server_learning_rate
        elif self.rate_follows_clip:
            rate = tidy(rate * self.own.clip_norm / clip_norm)
        return Setting(
            clip_norm=clip_norm,
            noise_multiplier=noise_multiplier,
            server_learning_rate=rate,
            local_epochs=self.own.local_epochs if local_epochs is None else local_epochs,
        )

    def settings(self) -> tuple[Setting, ...]:
        """Every combination of what is searched."""
        rates: tuple[float | None, ...] = self.server_learning_rate or (None,)
        epochs: tuple[int | None, ...] = self.local_epochs or (None,)
        points = itertools.product(self.clip_norm, self.noise_multiplier, rates, epochs)
        return tuple(self.at(*point) for point in points)

    def holds_own(self) -> bool:
        """Whether the scenario's own setting lies between the ends of what is searched."""
        axes = ((name, getattr(self, name)) for name in Setting.model_fields)
        return all(
            axis is None or axis[0] <= getattr(self.own, name) <= axis[-1] for name, axis in axes
        )

    @property
    def rule(self) -> str:
        """How the server learning rate goes with the clip norm, in words."""
        if self.server_learning_rate is not None:
            return "The server learning rate was set or searched on its own."
        if self.rate_follows_clip:
            product = self.own.server_learning_rate * self.own.clip_norm
            return (
                f"Server learning rate × clip norm was held at {product:g}: a clip norm tried at a "
                "constant rate would measure the rate."
            )
        return (
            "The server learning rate was held: the step of this server optimizer does not grow "
            "with the clip norm."
        )


def parse_axis(text: str, option: str) -> Axis:
    """Reads "LO:HI:STEPS" (log-spaced), "a,b,c" or one number.

    Raises:
      ScenarioError: naming the option and the rule.
    """
    try:
        if ":" in text:
            low, high, steps = text.split(":")
            values = log_spaced(float(low), float(high), int(steps))
        else:
            values = tuple(sorted({float(part) for part in text.split(",")}))
        if not values or not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError
    except (ValueError, OverflowError):
        raise ScenarioError(
            f"{option} takes LO:HI:STEPS (log-spaced, 0 < LO < HI, at least 2 steps), a list "
            f"a,b,c or one number, all positive, got {text!r}"
        ) from None
    return values


def log_spaced(low: float, high: float, steps: int) -> Axis:
    """Values at equal ratios, both ends among them.

    Raises:
      ValueError: unless 0 < low < high and steps >= 2.
    """
    if not 0 < low < high < math.inf or steps < 2:
        raise ValueError(f"expected 0 < low < high and steps >= 2, got {low}, {high}, {steps}")
    values = sorted({tidy(value) for value in np.geomspace(low, high, steps)})
    # Both ends as they were given, since four digits could move them out of the range.
    return (low, *values[1:-1], high)


def tidy(value: float) -> float:
    """Four digits: a number that somebody would write into a file."""
    return float(f"{value:.4g}")
