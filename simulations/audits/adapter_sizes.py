"""The same phones with smaller and larger adapters, for the curve over the size of an update."""

from __future__ import annotations

import dataclasses
import math

from simulations.scenario.schema import Scenario

MOST_PHONES = 240
"""Phones of a synthetic population here: what is compared are adapters."""
_SLOW = "lora"  # trains inside the encoder, some hundred times slower than the others
_WITHOUT_NOISE = {
    "mechanism": "none", "noise_multiplier": 0.0, "epsilon_budget": math.inf, "colluders": 0,
    "secure_aggregation": "ideal", "groups": 1, "adaptive_clipping": None, "cohort_cap": None,
    "matrix_factorization": None,
}  # fmt: skip


def with_adapters(scenario: Scenario) -> tuple[Scenario, ...]:
    """The scenario with each built-in adapter that fits it, without noise, on few phones.

    None where the adapter is a user's own class or the phones exist in one program only.
    """
    corpus = scenario.corpus
    phones = getattr(corpus, "federated_phones", None)
    if ":" in scenario.adapter or not (phones or getattr(corpus, "path", "")):
        return ()
    if phones:
        corpus = corpus.model_copy(update={"federated_phones": min(MOST_PHONES, phones)})
    optimizer = dataclasses.replace(scenario.server_optimizer, robust_rule="mean")
    shared = {
        "corpus": corpus, "server_optimizer": optimizer,
        "privacy": scenario.privacy.model_copy(update=_WITHOUT_NOISE),
    }  # fmt: skip
    return tuple(
        scenario.model_copy(update={**shared, "adapter": name})
        for name in scenario.fitting_adapters
        if name != _SLOW
    )
