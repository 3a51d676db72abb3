import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.evaluation.segments import OTHER, UNSTATED, Cell, cut

values = st.lists(st.sampled_from(["plain", "north", "south", None]), max_size=30)


@pytest.mark.slow
@given(values, st.integers(1, 8))
def test_every_phone_is_counted_once_and_no_shown_cell_is_small(stated, minimum):
    cells = cut(stated, minimum)
    stated_or_not = [value or UNSTATED for value in stated]
    assert sum(cell.num_phones for cell in cells) == len(stated)
    members = [member for cell in cells for member in cell.members]
    assert len(set(members)) == len(members)
    for cell in cells:
        assert cell.withheld == (cell.num_phones < minimum)
        assert len(cell.members) == (0 if cell.withheld else cell.num_phones)
        assert all(stated_or_not.count(value) < minimum for value in cell.merged)
        if not cell.merged:
            assert {stated_or_not[i] for i in cell.members} == {cell.value}


def test_small_cells_are_merged_and_a_small_pool_is_withheld():
    stated = ["a"] * 6 + ["b"] * 3 + ["c"] * 2 + ["d"] * 7
    assert cut(stated, 5) == (
        Cell("d", 7, tuple(range(11, 18))),
        Cell("a", 6, tuple(range(6))),
        Cell(OTHER, 5, tuple(range(6, 11)), merged=("b", "c")),
    )
    assert cut(stated[:9], 5)[1] == Cell(OTHER, 3, (), merged=("b",), withheld=True)


def test_the_minimum_must_be_positive():
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        cut(["a"], 0)
