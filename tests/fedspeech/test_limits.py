"""Limits in annotations are checked by name, rule and value."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le

from fedspeech.limits import Count, Decay, Fraction, NotNegative, Positive, check_limits


@dataclass(frozen=True, kw_only=True)
class Step:
    rule: Literal["plain", "fast"] = "plain"
    rate: Positive = 0.1
    penalty: NotNegative = 0.0
    decay: Decay = 0.9
    share: Fraction = 1.0
    steps: Count = 3
    cap: Count | None = None
    level: Annotated[float, Gt(-1.0), Le(2.0)] | None = None
    bits: Annotated[int, Ge(2)] = 2
    name: str = ""

    def __post_init__(self):
        check_limits(self)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rule": "slow"}, "rule must be plain or fast, got rule='slow'"),
        ({"rate": 0.0}, "rate must be positive and finite, got rate=0.0"),
        ({"rate": math.inf}, "rate must be positive and finite, got rate=inf"),
        ({"penalty": -0.5}, "penalty must be finite and not negative, got penalty=-0.5"),
        ({"penalty": math.nan}, "penalty must be finite and not negative, got penalty=nan"),
        ({"decay": 1.0}, "decay must be in [0, 1), got decay=1.0"),
        ({"share": 0.0}, "share must be in (0, 1], got share=0.0"),
        ({"share": math.nan}, "share must be in (0, 1], got share=nan"),
        ({"steps": 0}, "steps must be at least 1, got steps=0"),
        ({"cap": 0}, "cap must be at least 1 or None, got cap=0"),
        ({"level": -1.0}, "level must be in (-1, 2] or None, got level=-1.0"),
        ({"bits": 1}, "bits must be at least 2, got bits=1"),
        ({"steps": None}, "steps must be at least 1, got steps=None"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_rule_and_value(changes, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        Step(**changes)


def test_values_at_the_closed_ends_are_allowed():
    Step(rule="fast", penalty=0.0, decay=0.0, share=1.0, steps=1, cap=1, level=2.0, bits=2)
    Step(cap=None, level=None)


def test_limits_of_a_parent_hold_in_a_child():
    @dataclass(frozen=True, kw_only=True)
    class Longer(Step):
        more: Count = 1

    for changes in ({"more": 0}, {"rate": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
            Longer(**changes)
