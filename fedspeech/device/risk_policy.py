"""What a phone asks before it acts on an intent: a policy by risk, and what it does to users.

    policy = RiskPolicy.read(document, words)   # a TOML file: docs/mitigations.md
    measured(policy, users)              # false accepts that act, and commands that no longer do

A false accept of "play" is a nuisance, one of "call" or "unlock" does harm. A policy costs no
privacy: phones follow it by themselves, and nobody learns anything. Training a better model costs
an epsilon, takes weeks and may fail; so a policy comes first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.simulated_user import Moments, SimulatedUsers
from fedspeech.errors import ScenarioError
from fedspeech.limits import Share, check_limits
from fedspeech.seeds import stream

Risk = Literal["low", "medium", "high"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high")
MEASURES = ("idle_threshold", "unlock", "confirm")

INTERACTING = {True: 0.55, False: 0.08}
"""Share of moments in which the user is looking at the phone or spoke to it in the last minute:
where the phone was meant, and where sound woke it by mistake. Assumptions, likewise the next."""

UNLOCKED = {True: 0.75, False: 0.2}
"""Share of moments in which the phone is unlocked, or unlocks by the owner's face or watch."""

CONFIRMED_BY_MISTAKE = 0.04
"""Share of questions that other sound answers with a yes."""

NOT_CONFIRMED = 0.03
"""Share of questions that users who meant it leave without an answer."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What a phone asks before it acts.

    Attributes:
      confirm: a question, which the user answers.
      unlock: a phone that is unlocked; who meant it unlocks it.
      idle_threshold: score that is needed while the user does not interact with the phone; 0: the
        detector's own.
    """

    confirm: bool = False
    unlock: bool = False
    idle_threshold: Share = 0.0

    def __post_init__(self) -> None:
        """Checks the threshold."""
        check_limits(self)
        if self.idle_threshold == 1:
            raise ValueError("idle_threshold must be below 1, which no score exceeds")

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what it asks."""
        return tuple(name for name in MEASURES if getattr(self, name))

    def only(self, measure: str) -> Guard:
        """The guard with one measure; "": with none."""
        return Guard(**{measure: getattr(self, measure)}) if measure else Guard()


@dataclass(frozen=True, kw_only=True)
class RiskPolicy:
    """Intents by risk, and what phones ask before they act.

    Attributes:
      risks: of each word or intent of the product, in its order.
      guards: by risk.
    """

    risks: tuple[Risk, ...]
    guards: Mapping[Risk, Guard]

    @classmethod
    def read(cls, document: Mapping[str, Any], words: Sequence[str]) -> RiskPolicy:
        """Reads a policy: `[intents] high = [...], medium = [...]`, then a guard for each risk.

        An intent that is not named is of low risk.

        Raises:
          ScenarioError: naming an unknown key, intent or value.
        """
        _known("a risk policy", document, ("intents", *RISKS))
        named: Mapping[str, Sequence[str]] = document.get("intents", {})
        _known("[intents]", named, RISKS)
        risks: dict[str, Risk] = dict.fromkeys(words, "low")
        seen: set[str] = set()
        for risk in RISKS:
            for intent in named.get(risk, ()):
                if intent not in risks or intent in seen:
                    raise ScenarioError(
                        f"[intents] of a risk policy names each of {', '.join(words)} at most "
                        f"once, got {intent!r} under {risk}"
                    )
                seen.add(intent)
                risks[intent] = risk
        return cls(
            risks=tuple(risks[word] for word in words),
            guards={risk: _guard(risk, document.get(risk, {})) for risk in RISKS},
        )


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a guard does to the intents of one risk, counted over simulated phones and days.

    Attributes:
      risk: of the intents.
      measures: that are in force; empty: none, for comparison.
      intents: how many have this risk.
      phone_days: phones times days.
      false_accepts: that the phones act on.
      accepted: commands that were meant and that the detector accepts.
      acted_on: of these, those that the phone acts on.
      extra_steps: of these, those for which the user unlocked or confirmed.
    """

    risk: Risk
    measures: tuple[str, ...]
    intents: int
    phone_days: int
    false_accepts: int = 0
    accepted: int = 0
    acted_on: int = 0
    extra_steps: int = 0

    @property
    def per_1000_phone_days(self) -> float:
        """False accepts that are acted on, per 1,000 phones and day."""
        return 1000 * self.false_accepts / self.phone_days

    @property
    def lost(self) -> float:
        """Share of meant and accepted commands that the phone does not act on; 0 without any."""
        return 1 - self.acted_on / self.accepted if self.accepted else 0.0

    @property
    def slowed(self) -> float:
        """Share of meant and accepted commands for which the user does one thing more."""
        return self.extra_steps / self.accepted if self.accepted else 0.0


def measured(policy: RiskPolicy, users: SimulatedUsers) -> tuple[Effect, ...]:
    """Counts what each measure of a policy does alone, and all of a risk's together.

    Every measure meets the same moments with the same draws, so that differences are its own.

    Returns:
      By risk that has intents: none, each measure alone, all of them where there are several.
    """
    effects = list(_compared(policy, users.phones * users.rates.days))
    for block in users.blocks():
        for place, moments in enumerate(users.moments(block)):
            accepted = users.accepted(block, moments)
            drawn = _Drawn(moments, stream(users.seed, "risk policy", block, place))
            for number, effect in enumerate(effects):
                effects[number] = _counted(policy, effect, moments, accepted, drawn)
    return tuple(effects)


class _Drawn:
    """What is drawn for each moment, whatever the policy."""

    def __init__(self, moments: Moments, rng: np.random.Generator) -> None:
        size, meant = len(moments.cell), moments.meant
        self.interacting = rng.random(size) < INTERACTING[meant]
        self.unlocked = rng.random(size) < UNLOCKED[meant]
        yes = 1 - NOT_CONFIRMED if meant else CONFIRMED_BY_MISTAKE
        self.confirmed = rng.random(size) < yes


def _compared(policy: RiskPolicy, phone_days: int) -> Iterator[Effect]:
    """What is counted, with nothing counted yet."""
    for risk in RISKS:
        intents = policy.risks.count(risk)
        if not intents:
            continue
        measures = policy.guards[risk].measures
        together = [measures] if len(measures) > 1 else []
        for some in [(), *((one,) for one in measures), *together]:
            yield Effect(risk=risk, measures=some, intents=intents, phone_days=phone_days)


def _counted(
    policy: RiskPolicy,
    effect: Effect,
    moments: Moments,
    accepted: NDArray[np.bool_],
    drawn: _Drawn,
) -> Effect:
    """The effect with one more group of moments."""
    risky = np.array([False, *(risk == effect.risk for risk in policy.risks)])
    begun = accepted & risky[moments.word]
    acts, extra = begun.copy(), np.zeros_like(begun)
    guard = policy.guards[effect.risk]
    if "idle_threshold" in effect.measures:
        needed = math.log(guard.idle_threshold / (1 - guard.idle_threshold))
        acts &= drawn.interacting | (moments.logit >= needed)
    if "unlock" in effect.measures:
        # Whoever meant it unlocks the phone, which is a step more; nobody does for other sound.
        extra |= acts & ~drawn.unlocked
        if not moments.meant:
            acts &= drawn.unlocked
    if "confirm" in effect.measures:
        extra |= acts
        acts &= drawn.confirmed
    if not moments.meant:
        return dataclasses.replace(effect, false_accepts=effect.false_accepts + int(acts.sum()))
    return dataclasses.replace(
        effect,
        accepted=effect.accepted + int(begun.sum()),
        acted_on=effect.acted_on + int(acts.sum()),
        extra_steps=effect.extra_steps + int(extra.sum()),
    )


def _guard(risk: Risk, keys: Mapping[str, Any]) -> Guard:
    _known(f"[{risk}]", keys, MEASURES)
    for name, value in keys.items():
        fits = isinstance(value, bool) == (name != "idle_threshold")
        if not fits or not isinstance(value, int | float):
            kind = "a number" if name == "idle_threshold" else "true or false"
            raise ScenarioError(
                f"{name} in [{risk}] of a risk policy must be {kind}, got {value!r}"
            )
    try:
        return Guard(**keys)
    except ValueError as error:
        raise ScenarioError(f"[{risk}] of a risk policy: {error}") from error


def _known(what: str, keys: Mapping[str, Any], names: Sequence[str]) -> None:
    if strange := sorted(set(keys) - set(names)):
        raise ScenarioError(f"{what} has the keys {', '.join(names)}, got {strange[0]!r}")
