import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.evaluation.statistics import Tally


@given(st.lists(st.lists(st.booleans(), max_size=9), max_size=6))
def test_merging_in_any_grouping_gives_the_mean_over_everything(shards):
    merged = sum((Tally.of(np.array(shard, dtype=bool)) for shard in shards), Tally())
    values = [value for shard in shards for value in shard]
    assert merged.count == len(values)
    assert merged.mean == (pytest.approx(np.mean(values)) if values else None)


def test_a_mean_of_means_would_be_another_number():
    merged = Tally.of([1.0]) + Tally.of([0.0, 0.0, 0.0])
    assert merged.mean == 0.25


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="takes finite values"):
        Tally.of([0.5, float("nan")])
