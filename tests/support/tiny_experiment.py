"""The smallest experiment that a scenario builds for real: 12 phones, 3 held-out, the real base.

It ends without files for the phone, which would take most of its time.
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import Scenario
from simulations.setup.experiment import BuiltExperiment, build_experiment

TINY = (
    "corpus.federated_phones=12", "corpus.held_out_phones=3", "corpus.validation_speakers=2",
    "corpus.utterances_per_phone=5", "corpus.utterances_per_word=4",
    "privacy.participation_probability=1.0", "privacy.rounds=2", "privacy.noise_multiplier=1.0",
    "privacy.epsilon_budget=1e6",
    "privacy.min_cohort_share=0.5", "privacy.min_reporting_share=0.4",
    "personalization.shots=[1,2]", "adapter=head", "simulation.shards=2", "export.at_end=false",
)  # fmt: skip


def tiny_scenario(*changes: str) -> Scenario:
    """The scenario `quick`, made tiny, with further changes."""
    return read_scenario("quick", (*TINY, *changes))


@functools.cache
def cache() -> Path:
    """One cache for a whole test run, so that clips are synthesized once."""
    folder = Path(tempfile.mkdtemp(prefix="fedspeech-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def tiny_experiment() -> BuiltExperiment:
    """The experiment of `tiny_scenario()`, built once."""
    return build_experiment(
        tiny_scenario(),
        cache=cache(),
        simulation_only=None,
        workers=1,
        progress=lambda done, total: None,
    )
