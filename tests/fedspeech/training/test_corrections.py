"""What a user says after a mistake becomes the label that was meant, or nothing."""

import pytest

from fedspeech.training.corrections import corrected


@pytest.mark.parametrize(
    ("heard", "said", "meant"),
    [
        ("call a room", "no i said arun not a room", "call arun"),
        ("call a room at home", "no i said arun", "call arun at home"),
        ("text wera", "i meant vera", "text vera"),
        ("drive to the rans", "no i said ranch", "drive to the ranch"),
        ("call arun", "no i said vera not oscar", None),  # nothing of the sort was written
        ("call arun", "what time is it", None),
        ("call arun", "no i said ", None),
        ("", "no i said arun", None),
    ],
)
def test_a_correction_takes_the_place_of_what_was_misheard(heard, said, meant):
    assert corrected(heard, said) == meant
