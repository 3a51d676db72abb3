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
    (schema.AdaptiveClippingSettings, AdaptiveClipping),
    (schema.PersonalizationSettings, Guard),
    (schema.PrivacySettings, PlanConfig),
)


@pytest.mark.parametrize(("settings", "kind"), PAIRS, ids=[kind.__name__ for _, kind in PAIRS])
def test_the_library_has_no_other_default(settings, kind):
    fields = {field.name: field for field in dataclasses.fields(kind)}
    shared = [key for key in settings.model_fields if key in fields]
    assert shared
    for key in shared:
        field = fields[key]
        if field.default is dataclasses.MISSING:
            continue
        expected = settings.model_fields[key].default
        assert field.default == expected, key
