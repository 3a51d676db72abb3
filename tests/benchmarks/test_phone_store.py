"""The store is as fast as it promises: a ratio to SQLite alone, and rates with room to spare."""

import pytest

from benchmarks.phone_store import LEAST, measure


@pytest.mark.slow
def test_encryption_costs_a_factor_and_the_promised_rates_are_kept():
    found = measure(2000, 1024)
    for what in ("writes", "reads"):
        assert found[f"plain {what}"] / found[f"encrypted {what}"] < 20
        assert found[f"encrypted {what}"] > LEAST[f"encrypted {what}"]
