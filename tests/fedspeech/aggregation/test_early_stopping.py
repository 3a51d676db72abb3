"""When no further round begins, as a function of public losses alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.aggregation.early_stopping import EarlyStopping


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([1.0], False),
        ([1.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([1.0, 0.9, 0.95, 0.91], True),
        ([1.0, 0.9, 0.95, 0.84], False),
        ([1.0, math.nan, math.inf], True),
        ([1.0, 0.95, 0.92, 0.89], False),  # each within min_delta of the one before, not of 1.0
    ],
)
def test_it_waits_for_a_new_lowest_loss(losses, stops):
    assert EarlyStopping(patience=2, min_delta=0.05).stops(losses) is stops


@settings(max_examples=25)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.integers(1, 6))
def test_it_stops_where_the_lowest_stands_patience_rounds_back(losses, patience):
    """An independent reading of the rule, for min_delta = 0."""
    found = EarlyStopping(patience=patience).stops(losses)
    assert found == (len(losses) - 1 - int(np.argmin(losses)) >= patience)


@pytest.mark.parametrize("values", [{"patience": 0}, {"min_delta": -0.1}])
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        EarlyStopping(**values)
