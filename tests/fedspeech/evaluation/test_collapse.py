"""Noise is blamed only where the server sees both: more noise than signal, and a worse model."""

import numpy as np
import pytest

from fedspeech.evaluation.collapse import noise_drowned
from fedspeech.seeds import stream


@pytest.mark.parametrize(
    ("ratio", "after", "clips", "drowned"),
    [
        (0.3, 0.80, 672, True),
        (0.3, 0.95, 672, False),  # a point and a half on so few clips is chance
        (0.3, 0.95, 100_000, True),
        (1.2, 0.80, 672, False),  # worse, but not for noise
        (0.3, 0.99, 672, False),
        (0.3, 0.80, 0, False),
    ],
)
def test_both_conditions_are_needed(ratio, after, clips, drowned):
    assert noise_drowned(ratio, 0.964, after, clips) is drowned


def test_chance_alone_is_hardly_ever_called_collapse():
    # Two independent models equally good: three deviations one way are 0.135 % of cases.
    rng = stream(0, "collapse")
    shares = rng.binomial(672, 0.9, (20_000, 2)) / 672
    called = np.mean([noise_drowned(0.0, before, after, 672) for before, after in shares])
    assert called < 0.004  # the binomial's tail is a little heavier; error under 1e-6
