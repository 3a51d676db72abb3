import math
import re

import numpy as np
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


def test_a_share_that_equals_its_limit_passes_however_either_was_computed():
    two_of_three = 2 / 3
    assert at_least("agreement", two_of_three, 1 - 1 / 3, "3 clips").passed
    assert at_most("drop", 1 - 2 / 3, 1 / 3, "3 clips").passed


def test_a_refusal_never_names_the_same_number_twice():
    for figure in (0.6666, 0.66666, 0.66666599, np.nextafter(0.666666, 0) - 1e-11):
        with pytest.raises(ExportRefused) as refused:
            at_least("agreement", figure, 0.666666, "clips")
        limit, found = re.search("at least (.*) allowed .* got (.*)", str(refused.value)).groups()
        assert limit != found
