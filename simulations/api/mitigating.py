"""What a product can do before it trains again: a risk policy, measured on simulated users."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, ScenarioError
from fedspeech.files import read_at_most
from simulations.api.scenarios import experiment_of, runnable
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.device.risk_policy import Effect
    from fedspeech.privacy.guarantee import Guarantee
    from simulations.scenario.schema import Scenario
    from simulations.setup.definition import Experiment

MAX_POLICY_BYTES = 1 << 20
_HEADER = ("risk", "intents", "asked before acting", "false accepts", "left", "lost", "slowed")
_LEGEND = (
    "False accepts: on which phones act, per 1,000 phones and day; left: of those without "
    "measures. Lost, slowed: commands that users meant and on which the phone no longer acts, or "
    "for which users do one thing more."
)
_WORDS = {"idle_threshold": "idle score", "unlock": "unlocked", "confirm": "confirm"}


@dataclass(frozen=True, eq=False)
class Mitigations(Printed):
    """Effects of a risk policy, beside the price of training together.

    Attributes:
      effects: by risk; the first of each risk is without any measure.
      phones: how many were simulated.
      days: for how long.
      retraining: what all rounds of the scenario's plan would cost.
    """

    effects: tuple[Effect, ...]
    phones: int
    days: int
    retraining: Guarantee

    def record(self) -> dict[str, Any]:
        """The same as plain data; infinities are the string "Infinity"."""
        rows = [
            {
                "risk": one.risk, "intents": one.intents, "measures": list(one.measures),
                "false_accepts": one.false_accepts,
                "false_accepts_per_1000_phone_days": one.per_1000_phone_days,
                "meant_commands_lost": one.lost, "meant_commands_slowed": one.slowed,
            }
            for one in self.effects
        ]  # fmt: skip
        return {
            "phones": self.phones, "days": self.days, "effects": rows,
            "retraining": self.retraining.to_record(),
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints the table, and what retraining would have cost."""
        from simulations.report.phrasing import price

        rows = [self._row(effect) for effect in self.effects]
        console.print(table(_HEADER, rows, right=_HEADER[3:]))
        console.print(f"\n{_LEGEND}")
        console.print(
            f"{self.phones:,} simulated phones, {self.days} days. A policy costs no epsilon: "
            "phones follow it by themselves and send nothing."
        )
        console.print(f"Training together would cost: {price(self.retraining, 'planned')}.")

    def _row(self, effect: Effect) -> tuple[str, ...]:
        before = next(one for one in self.effects if one.risk == effect.risk).false_accepts
        return (
            effect.risk,
            f"{effect.intents}",
            " + ".join(_WORDS[measure] for measure in effect.measures) or "nothing",
            f"{effect.per_1000_phone_days:.2f}",
            f"{effect.false_accepts / before:.0%}" if before else "–",
            f"{effect.lost:.1%}",
            f"{effect.slowed:.1%}",
        )

    def __repr__(self) -> str:
        """How many effects of how many phones."""
        return f"Mitigations({len(self.effects)} effects, {self.phones} phones, {self.days} days)"


def mitigate(
    policy: Mapping[str, Any] | str | Path,
    what: Experiment | Scenario | str | Path = "default",
    *,
    phones: int = 20_000,
    seed: int | None = None,
) -> Mitigations:
    """Measures a risk policy on simulated users: fewer harmful false accepts, and at which cost.

        >>> import fedspeech as fs
        >>> policy = {"intents": {"high": ["stop"]}, "high": {"confirm": True}}
        >>> found = fs.mitigate(policy, "quick", phones=500)
        >>> found
        Mitigations(3 effects, 500 phones, 7 days)
        >>> found.effects[-1].false_accepts <= found.effects[-2].false_accepts
        True

    Args:
      policy: a TOML file, or its content (docs/mitigations.md).
      what: an experiment, a scenario, its name or file: whose users and words, and whose plan says
        what training together would cost. Without a section `telemetry`, users have its defaults.
      phones: how many are simulated, with the attributes of the experiment's federated speakers.
      seed: as in `simulate`.

    Raises:
      ScenarioError: naming what the policy says of no intent, risk or measure that there is.
      ArgumentRefused: if `phones` is below 1.
    """
    import numpy as np

    from fedspeech.device.risk_policy import RiskPolicy, measured
    from fedspeech.device.simulated_user import SimulatedUsers
    from fedspeech.device.user_rates import UserRates
    from simulations.setup.telemetry import schema_of, voice_attributes

    if phones < 1:
        raise ArgumentRefused(f"`phones` must be at least 1, got {phones}")
    experiment = experiment_of(runnable(what, seed))
    schema = schema_of(experiment)
    found = RiskPolicy.read(_document(policy), schema.column("answered").buckets)
    voices = voice_attributes(experiment, schema)
    attributes = voices[np.arange(phones) % len(voices)]
    rates = experiment.scenario.telemetry or UserRates()
    users = SimulatedUsers(schema, attributes, rates, experiment.scenario.seed)
    plan = experiment.plan
    return Mitigations(measured(found, users), phones, rates.days, plan.guarantee(plan.rounds))


def _document(policy: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """The content of a policy.

    Raises:
      ScenarioError: if the file cannot be read.
    """
    if isinstance(policy, Mapping):
        return policy
    try:
        return tomllib.loads(read_at_most(Path(policy), MAX_POLICY_BYTES).decode())
    except (OSError, ValueError) as error:  # also of another encoding, or no TOML
        raise ScenarioError(f"risk policy {policy}: {error}") from error
