"""A setting that a scenario and the library share has one default: the scenario's.

A second default would decide wherever somebody builds the object without a scenario, and nobody
would see that it is another.
"""

import dataclasses

import pytest

from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.config import PlanConfig
from fedspeech.training.personalize import Guard
from simulations.scenario import schema

PAIRS = (
    (schema.AdaptiveClippingSettings, AdaptiveClipping, {}),
    (schema.PersonalizationSettings, Guard, {}),
    (
        schema.PrivacySettings, PlanConfig,
        {
            "threat_model": "server", "max_participations": "max_participations",
            "participation_window": "participation_window",
        },
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "kind", "names"), PAIRS, ids=[kind.__name__ for _, kind, _ in PAIRS]
)
def test_the_library_has_no_other_default(settings, kind, names):
    fields = {field.name: field for field in dataclasses.fields(kind)}
    shared = [key for key in settings.model_fields if names.get(key, key) in fields]
    assert shared
    for key in shared:
        field = fields[names.get(key, key)]
        if field.default is dataclasses.MISSING:
            continue
        expected = settings.model_fields[key].default
        assert field.default == expected, key
