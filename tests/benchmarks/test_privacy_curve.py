"""The curve counts every held-out phone, or those of accents that the base never heard."""

import numpy as np
import pytest
from tiny_world import tiny_scenario, tiny_world

from benchmarks.privacy_curve import accuracy
from simulations.evaluation.evaluator import Evaluator


@pytest.mark.slow
def test_accuracies_are_means_over_the_phones_that_are_asked_for():
    world, scenario = tiny_world(), tiny_scenario()
    vector = world.job.load_arrays().initial
    by_phone = [clips.mean() for clips in Evaluator(world, scenario).correct(vector)]
    known = world.speakers.pretraining_accents
    heard = [phone.phone.segments["accent"] in known for phone in world.held_out]
    assert accuracy(world, scenario, vector, unheard=False) == pytest.approx(np.mean(by_phone))
    unheard = [share for share, known in zip(by_phone, heard, strict=True) if not known]
    assert accuracy(world, scenario, vector, unheard=True) == pytest.approx(np.mean(unheard))
