"""Boundary and front on functions whose answer is known, without a single round."""

import math

import numpy as np
import pytest

from fedspeech.seeds import stream
from simulations.scenario.schema import read_scenario
from simulations.tuning import modes
from simulations.tuning.search import Judged
from simulations.tuning.space import Space, log_spaced
from simulations.tuning.trial import Outcome


class Known:
    """A search whose trials answer from a formula, with noise that phones and settings have."""

    def __init__(self, space, accuracy, *, phones=40, seeds=3, spread=0.0):
        self.space, self._accuracy = space, accuracy
        self._phones, self._seeds, self._spread = phones, seeds, spread
        self.tried = {}

    def evaluate(self, settings, peers=None):
        for setting in settings:
            self.tried.setdefault(setting, self._judge(len(self.tried), setting))
        return [self.tried[setting] for setting in settings]

    def _judge(self, number, setting):
        outcomes = []
        for seed in range(self._seeds):
            skill = 0.1 * stream(seed, "skill").normal(size=self._phones)
            luck = self._spread * stream(seed, "luck", number).normal(size=self._phones)
            found = np.clip(self._accuracy(setting) + skill + luck, 0, 1)
            outcomes.append(
                Outcome(
                    accuracies=tuple(found),
                    curve={8: float(found.mean())},
                    completed=8,
                    adapter_sha256="",
                )
            )
        return Judged(number, setting, None, tuple(outcomes))


def cliff(edge):
    """Accuracy that rises up to a clip norm and stays."""
    return lambda setting: 0.75 - 0.05 * max(0.0, math.log2(edge / setting.clip_norm))


CLIPS = log_spaced(0.003125, 0.4, 15)


def space(**axes):
    return Space.around(read_scenario("quick"), noise_multiplier=(1.0,), **axes)


@pytest.mark.parametrize("edge", [0.004, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("spread", [0.0, 0.02])
def test_the_boundary_is_found_within_one_step_of_a_fine_grid(edge, spread):
    search = Known(space(clip_norm=CLIPS), cliff(edge), spread=spread)
    within = 0.01
    fine = [clip for clip in CLIPS if 0.05 * math.log2(max(1.0, edge / clip)) <= within]
    judged, found = modes.boundary(search, within, seed=1)
    step = CLIPS[1] / CLIPS[0]
    assert max(found.clip_norm / fine[0], fine[0] / found.clip_norm) <= 1.01 * step
    if not spread:  # then no luck can move it
        assert found.clip_norm == fine[0]
    assert len(judged) <= 5 + 3 < len(CLIPS)
    assert found.below is None or found.below < found.clip_norm <= found.keeps
    assert found.loses is None or found.loses < found.clip_norm


def test_a_range_that_loses_nowhere_says_so():
    search = Known(space(clip_norm=CLIPS), cliff(0.001))
    judged, found = modes.boundary(search, 0.005, seed=1)
    assert found.clip_norm == CLIPS[0]
    assert found.below is None
    assert len(judged) == 5


def test_each_clip_norm_is_judged_at_its_best_rate():
    def accuracy(setting):  # every clip norm is as good, at a rate of its own
        return 0.75 - 0.1 * abs(math.log2(setting.server_learning_rate * setting.clip_norm / 0.1))

    clips, rates = (0.1, 0.2, 0.4), (0.25, 0.5, 1.0)
    search = Known(space(clip_norm=clips, server_learning_rate=rates), accuracy)
    _, found = modes.boundary(search, 0.005, seed=1)
    assert found.clip_norm == 0.1
    assert len(search.tried) == 9
