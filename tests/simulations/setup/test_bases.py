"""What a scenario's base will be, before it is trained."""

import pytest

from fedspeech.errors import ScenarioError
from fedspeech.models.encoder_spec import ENCODERS, front_end_of
from simulations.scenario.reading import read_scenario
from simulations.setup.bases import layout_of

SYNTHETIC = "base.source='synthetic'"


@pytest.mark.parametrize("name", ENCODERS)
def test_the_layout_of_a_base_that_a_run_trains_has_the_encoder_that_is_asked_for(name):
    layout = layout_of(read_scenario("quick", [SYNTHETIC, f"base.encoder='{name}'"]))
    assert layout.built_in.spec == ENCODERS[name]
    assert layout.head_weight.shape == (12, ENCODERS[name].features)
    assert layout.built_in.frontend == front_end_of(name)
    shipped = layout_of(read_scenario("quick", []))
    if name != "esphome":  # whose frames follow twice as fast
        assert layout.encoder.context_samples == shipped.encoder.context_samples


@pytest.mark.parametrize(
    ("scenario", "settings", "words"),
    [
        ("quick", ["base.encoder='micro'"], "'shipped' has its own encoder"),
        ("quick", [SYNTHETIC, "base.encoder='huge'"], "encoder is one of standard, micro"),
        ("asr-default", [SYNTHETIC, "base.encoder='micro'"], "spots words, no sentences"),
    ],
)
def test_an_encoder_that_the_base_cannot_have_is_refused(scenario, settings, words):
    with pytest.raises(ScenarioError, match=words):
        read_scenario(scenario, settings)
