"""What a reader of a table of counts cannot find, whatever combination of figures is tried."""

import itertools

import numpy as np
import pytest
from counting import axis
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.queries.axes import Axis
from fedspeech.queries.estimate import Estimate
from fedspeech.queries.withholding import GIVES_AWAY, TOO_FEW, merged, withhold

K_MIN = 20.0


def table(counts):
    """Estimates of a table, the first axis as segment."""
    counts = np.asarray(counts, dtype=float)
    return [
        Estimate(of="phones", segment=(str(key[0]),), cell=tuple(map(str, key[1:])), value=count,
                 low=count - 1, high=count + 1, count=count, noise_stddev=1, sampling_stddev=0)
        for key, count in np.ndenumerate(counts)
    ]  # fmt: skip


def shown(counts, **options):
    """Which cells are shown, in the table's shape."""
    found = withhold(table(counts), K_MIN, **options)
    return np.array([one.value is not None for one in found]).reshape(np.shape(counts))


def figures(counts, visible):
    """What follows from shown cells and margins that are not small, shape (figures, cells).

    All combinations of margins with weights -1, 0 and 1: the attack knows no algebra.
    """
    counts = np.asarray(counts, dtype=float)
    numbers = np.indices(counts.shape).reshape(counts.ndim, -1)
    margins = []
    for fixed in itertools.product([False, True], repeat=counts.ndim):
        if not all(fixed):
            axes = np.flatnonzero(fixed)
            keys = {tuple(numbers[axes, place]) for place in range(counts.size)}
            margins += [(np.array(key) == numbers[axes].T).all(axis=1) for key in keys]
    rows = np.array([row for row in margins if row @ counts.reshape(-1) >= K_MIN], dtype=bool)
    rows = np.unique(rows.reshape(-1, counts.size) & ~visible.reshape(-1), axis=0)
    weights = np.array(list(itertools.product([-1, 0, 1], repeat=len(rows))))
    return weights @ rows


def test_a_cell_below_k_min_and_one_that_would_give_it_away_are_withheld():
    found = withhold(table([[5.0, 90.0, 40.0]]), K_MIN)
    assert [one.value for one in found] == [None, 90.0, None]
    assert [one.remark for one in found] == [TOO_FEW, "", GIVES_AWAY]
    assert (found[0].low, found[0].high, found[0].count) == (None, None, None)


def test_hidden_cells_that_add_up_to_less_than_k_min_take_one_more_along():
    assert shown([[5.0, 6.0, 90.0, 40.0]]).tolist() == [[False, False, True, False]]


def test_every_margin_of_a_table_is_protected():
    """By rows alone (0, 0) and (0, 1) would do; columns then give both away."""
    visible = shown([[5.0, 60.0, 70.0], [90.0, 80.0, 75.0], [99.0, 98.0, 97.0]])
    assert (~visible).sum() == 4
    assert (~visible).sum(axis=0).tolist() != [1, 1, 0]
    assert all(line.sum() != 1 for line in (*~visible, *(~visible).T))


def test_two_hidden_cells_in_every_line_are_not_enough():
    """Two blocks that only one hidden cell joins: the sums of the lines of a block give it."""
    counts = np.full((4, 4), 90.0)
    for key in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3), (1, 2)):
        counts[key] = 15.0
    visible = shown(counts)
    found = _combinations(~visible)
    alone = np.zeros((4, 4))
    alone[1, 2] = 1
    assert not (found == alone.reshape(-1)).all(axis=1).any()
    assert (~visible).sum() > 9


def _combinations(hidden):
    """Sums and differences of the hidden parts of all rows and columns."""
    numbers = np.indices(hidden.shape).reshape(2, -1)
    lines = np.concatenate(
        [numbers[0] == np.arange(4)[:, None], numbers[1] == np.arange(4)[:, None]]
    )
    weights = np.array(list(itertools.product([-1, 0, 1], repeat=8)))
    return weights @ (lines * hidden.reshape(-1))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=6, max_size=6))
def test_no_combination_of_figures_is_a_small_cell(numbers):
    counts = np.array(numbers, float).reshape(2, 3)
    visible = shown(counts)
    assert not visible[counts < K_MIN].any()
    assert not (np.count_nonzero(figures(counts, visible), axis=1) == 1).any()


def test_a_total_that_follows_from_other_totals_takes_no_cell_along():
    """Whoever has all totals but one has that one, whatever is shown of the cells."""
    counts = np.array([[9.0, 8.0, 11.0]] + [[300.0, 400.0, 500.0]] * 5 + [[-9.0, 3.0, 2.0]])
    visible = shown(counts)
    assert not visible[[0, 6]].any()
    assert np.count_nonzero(visible) == 4 * 3  # one more segment is hidden, and not all


def test_figures_of_the_same_events_are_withheld_by_their_count_alone():
    assert shown([[5.0, 5.0], [90.0, 90.0]], additive=False).tolist() == [
        [False, False], [True, True],
    ]  # fmt: skip


def test_nothing_is_withheld_where_nothing_is_small():
    assert shown([[20.0, 30.0]]).all()
    with pytest.raises(ValueError, match="k_min must be positive"):
        withhold([], 0)


def test_noisy_counts_alone_decide():
    """A negative noisy count is small, and what it would truly be is nowhere in the estimate."""
    assert not shown([[-3.0, 50.0, 60.0]])[0, 0]


def test_hundreds_of_cells_are_few_steps():
    counts = np.random.default_rng(0).integers(0, 200, (10, 10, 5))
    visible = shown(counts)
    assert 0 < (~visible).sum() < 250
    assert not visible[counts < K_MIN].any()


ACCENTS = Axis(name="accent", place=0, names=("a", "b", "c", "d"), cells=(-1, 0, 1, 2, 3))
SHARES = {"accent": {"a": 0.6, "b": 0.05, "c": 0.3, "d": 0.05}, "s": {"s 0": 0.5, "s 1": 0.5}}


def test_small_segments_are_merged_by_what_is_public():
    (found,) = merged([ACCENTS], SHARES, population=1000, least=80)
    assert (found.names, found.cells) == (("a", "b + d", "c"), (-1, 0, 1, 2, 1))
    assert merged([ACCENTS], SHARES, population=1000, least=50) == (ACCENTS,)


def test_combinations_of_two_attributes_are_large_enough():
    found = merged([ACCENTS, axis("s", 1, 2)], SHARES, population=1000, least=100)
    assert [one.names for one in found] == [("a", "b + d + c"), ("s 0", "s 1")]
    with pytest.raises(ValueError, match="population must hold"):
        merged([ACCENTS], SHARES, population=1000, least=2000)
    with pytest.raises(ValueError, match="shares of accent must name every value"):
        merged([ACCENTS], {}, population=1000, least=10)
