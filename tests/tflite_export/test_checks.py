import math

import pytest

from fedspeech.errors import ExportRefused
from tflite_export.checks import at_least, at_most


def test_a_limit_that_is_just_kept_passes_and_says_so():
    check = at_most("drop", 0.01, 0.01, "5 users")
    assert check.passed
    assert (check.figure, check.rule, check.limit, check.over) == (0.01, "at most", 0.01, "5 users")
    assert at_least("agreement", 0.99, 0.99, "5 users").passed


@pytest.mark.parametrize(
    ("check", "figure", "limit"),
    [
        (at_most, 0.011, 0.01),
        (at_least, 0.98, 0.99),
        (at_most, math.nan, 1),
        (at_least, math.nan, 0),
    ],
)
def test_a_limit_that_is_broken_names_check_limit_and_figure(check, figure, limit):
    with pytest.raises(ExportRefused, match=f"drop: {check.__name__.replace('_', ' ')} {limit:g} "):
        check("drop", figure, limit, "5 users")
