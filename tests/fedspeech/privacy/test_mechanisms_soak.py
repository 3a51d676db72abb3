"""Long counts of the noise sampler; `make soak`, by hand."""

import numpy as np
import pytest
from scipy import stats

from fedspeech.privacy.mechanisms import DiscreteGaussian
from fedspeech.seeds import Keystream

DRAWS_PER_BATCH, BATCHES = 2_000_000, 50


@pytest.mark.soak
def test_a_hundred_million_draws_have_the_discrete_gaussians_law():
    # Chi-square over the values with at least 50 expected draws; false alarm 1e-6.
    stddev = 2.5
    reach = np.arange(-40, 41)
    weights = np.exp(-(reach**2) / (2 * stddev**2))
    counts = np.zeros(reach.size)
    stream = Keystream(bytes(range(32)))
    for _ in range(BATCHES):
        drawn = DiscreteGaussian.of(stddev).draw(stream, DRAWS_PER_BATCH)
        counts += np.bincount(drawn - reach[0], minlength=reach.size)
    expected = weights / weights.sum() * DRAWS_PER_BATCH * BATCHES
    seen = expected >= 50
    statistic = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    assert stats.chi2.sf(statistic, seen.sum() - 1) > 1e-6
