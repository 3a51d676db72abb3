"""Stages of a company: what a product does with its phones, one step after the other.

    stage = 2        # in a scenario: inference, and counts that phones send; nothing is trained

| stage | adds | a phone sends |
|---|---|---|
| 1 | inference | nothing |
| 2 | analytics: telemetry is counted, adapters and thresholds are evaluated | noised counts |
| 3 | personalization on the phone | noised counts |
| 4 | federated training | noised counts, privatized deltas |

A part that comes later is refused by name. `fedspeech budget` prices any plan at any stage, since
it asks nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from fedspeech.errors import ScenarioError
from fedspeech.evaluation.metric import Model

Stage = Literal[1, 2, 3, 4]

NAMES: Mapping[Stage, str] = MappingProxyType(
    {
        1: "inference only",
        2: "inference and analytics",
        3: "analytics, and personalization on the phone",
        4: "federated training",
    }
)

ANALYTICS: Stage = 2
PERSONALIZATION: Stage = 3
TRAINING: Stage = 4

PARTS: Mapping[str, Stage] = MappingProxyType(
    {
        "analyze": ANALYTICS,
        "rollout": ANALYTICS,
        "personalize": PERSONALIZATION,
        "federated rounds": TRAINING,
        "tune": TRAINING,
        "prepare": TRAINING,
    }
)
"""Part of the tool to the stage from which it may be used. What stands nowhere here, such as export
and listen, may be used at every stage. A roll-out is guarded by counts of phones."""


def require_stage(name: str, stage: Stage, part: str) -> None:
    """Refuses a part that comes at a later stage than that of a scenario.

    Args:
      name: of the scenario.
      stage: of the scenario.
      part: a key of `PARTS`.

    Raises:
      ScenarioError: naming part, both stages and what there is instead.
    """
    needed = PARTS[part]
    if stage >= needed:
        return
    allowed = ["simulate without rounds", "export", "listen", "budget"]
    allowed += [other for other, first in PARTS.items() if first <= stage]
    raise ScenarioError(
        f"{part} comes with stage {needed} ({NAMES[needed]}), and {name} says stage = {stage} "
        f"({NAMES[stage]}), which has {', '.join(allowed)}. Once the product is there, set "
        f"stage = {needed}"
    )


def models_of(stage: Stage) -> tuple[Model, ...]:
    """Models that a product of a stage without federated rounds has."""
    return ("base", "personalized", "control") if stage >= PERSONALIZATION else ("base",)


def without_rounds(stage: Stage) -> str:
    """What a run says that may ask no phone to train."""
    personal = (
        "held-out phones personalize, each on its own"
        if stage >= PERSONALIZATION
        else "no phone adapts"
    )
    return (
        f"stage {stage}, {NAMES[stage]}: no federated round is run, {personal}, and the files for "
        "the phone are of the base"
    )
