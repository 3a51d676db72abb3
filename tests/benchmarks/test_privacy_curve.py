"""The curve counts every held-out phone, or those of accents that the base never heard."""

import numpy as np
import pytest
from tiny_experiment import tiny_experiment, tiny_scenario

from benchmarks.privacy_curve import accuracy
from simulations.evaluation.evaluator import Evaluator


@pytest.mark.slow
def test_accuracies_are_means_over_the_phones_that_are_asked_for():
    built, scenario = tiny_experiment(), tiny_scenario()
    vector = built.job.load_arrays().initial
    by_phone = [clips.mean() for clips in Evaluator(built, scenario).correct(vector)]
    known = built.speakers.pretraining_accents
    heard = [phone.phone.segments["accent"] in known for phone in built.held_out]
    assert accuracy(built, scenario, vector, unheard=False) == pytest.approx(np.mean(by_phone))
    unheard = [share for share, known in zip(by_phone, heard, strict=True) if not known]
    assert accuracy(built, scenario, vector, unheard=True) == pytest.approx(np.mean(unheard))
