"""An adapter is read out of a file by where the public one stands, and else refused."""

import numpy as np
import pytest

from fedspeech.audits.model_file import read_adapter
from fedspeech.vectors import ParameterSpec

SPEC = ParameterSpec((("weight", (2, 3)), ("bias", (2,))))
PUBLIC, OWN = (np.arange(8, dtype=np.float32) + start for start in (1, 100))


def file(adapter, head=b"graph and encoder"):
    parts = SPEC.unflatten(adapter)
    return head + parts["bias"].tobytes() + b"between" + parts["weight"].tobytes() + b"end"


def test_it_reads_what_is_in_the_file_bit_for_bit():
    np.testing.assert_array_equal(read_adapter(file(OWN), file(PUBLIC), PUBLIC, SPEC), OWN)


def test_a_file_of_another_layout_is_refused():
    with pytest.raises(ValueError, match="bytes as in the public file"):
        read_adapter(file(OWN, b"other"), file(PUBLIC), PUBLIC, SPEC)


@pytest.mark.parametrize(("public_file", "times"), [(file(OWN), 0), (2 * file(PUBLIC), 2)])
def test_public_values_that_are_not_there_once_are_refused(public_file, times):
    with pytest.raises(ValueError, match=f"in its file {times} times"):
        read_adapter(public_file, public_file, PUBLIC, SPEC)
