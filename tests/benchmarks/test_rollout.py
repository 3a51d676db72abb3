"""The curves of roll-outs: a row says what was simulated, and the page shows every row."""

import math

import pytest

from benchmarks.rollout import line, measure, page


@pytest.mark.slow
def test_a_row_tells_harm_from_no_harm_and_the_page_shows_it():
    row = measure(4_000_000, math.inf, range(3))
    assert row["stopped_early"] == row["harmless_reached_everybody"] == 1
    assert row["smallest_loss_found_at_first"] < 0.02
    assert "4,000,000 phones: finds 1." in line(row)
    found = page([row], 3)
    assert "4,000,000" in found
    assert "100.0%" in found
