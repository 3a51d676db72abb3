"""What a phone adds to a query of counts, and what never depends on other phones."""

import numpy as np
import pytest
from counting import axis, phone, plan_for
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.population import PopulationArrays
from fedspeech.queries.axes import Axis, Condition
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.query import open_query
from fedspeech.seeds import Streams, stream

QUERY = Histogram(
    first_day=2,
    last_day=4,
    where=(Condition(name="b", place=2, codes=(0, 1)),),
    segments=(axis("s", 0, 2),),
    axes=(axis("a", 1, 3),),
    max_cells=2,
    max_per_cell=3,
)
NOTHING = np.zeros(QUERY.dimension, np.float32)


def added(query, *phones):
    """What phones add."""
    rngs = Streams(lambda number: stream(1, "own", number), range(len(phones)))
    return query.contributions(phones, NOTHING, rngs)


def test_a_phone_counts_its_events_of_the_window_that_fulfil_the_conditions():
    events = [(2, 0, 0), (4, 0, 1), (3, 2, 1), (1, 0, 0), (5, 0, 0), (3, 0, 2), (3, 7, 0)]
    found = added(QUERY, phone(events, [1]), phone(events, [5]), phone([], [0]))
    np.testing.assert_array_equal(found, [[0, 0, 0, 2, 0, 1], NOTHING, NOTHING])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 4), st.integers(-1, 4), st.integers(0, 2)), max_size=40),
    st.integers(1, 3),
    st.integers(1, 5),
)
def test_no_phone_adds_more_than_the_bound(events, max_cells, most):
    query = Histogram(axes=QUERY.axes, max_cells=max_cells, max_per_cell=most)
    (vector,) = added(query, phone(events))
    assert np.count_nonzero(vector) <= max_cells
    assert vector.max() <= most
    assert vector.min() >= 0
    assert np.linalg.norm(vector) <= query.l2_bound


def test_what_a_phone_adds_does_not_depend_on_who_else_is_asked():
    rng = np.random.default_rng(0)
    phones = [
        phone([(3, *rng.integers(0, 3, 2)) for _ in range(rng.integers(0, 30))], [index % 2])
        for index in range(40)
    ]
    together = added(QUERY, *phones)
    for index, single in enumerate(phones):
        alone = QUERY.counts(single, stream(1, "own", index), NOTHING)
        np.testing.assert_array_equal(together[index], alone)


def test_of_more_cells_than_it_may_fill_each_is_kept_as_often():
    """60 phones with three cells keep two each: 40 of each, false alarm about 1 in 10^4."""
    query = Histogram(axes=QUERY.axes, max_cells=2)
    kept = np.sum(added(query, *[phone([(0, 0), (0, 1), (0, 2)])] * 60), axis=0)
    assert kept.sum() == 120
    assert np.abs(kept - 40).max() < 4 * np.sqrt(60 * 2 / 9)


def test_settings_from_a_file_build_the_same_query():
    described = QUERY.described()
    described["settings"]["axes"] = [dict(described["settings"]["axes"][0])]
    assert open_query(described) == QUERY


def test_a_plan_that_clips_to_another_norm_is_refused():
    plan = plan_for(QUERY, population=100, clip_norm=1.0)
    with pytest.raises(ValueError, match=r"clip_norm must be the bound of the query, 4\.24264"):
        QUERY.expected_error(plan)


def test_values_are_merged_or_left_out_by_name():
    class Schema:
        def names(self, name):
            return ("none", "a", "b", "c")

        def code(self, name, value):
            return self.names(name).index(value)

        def place(self, name):
            return 3

    found = Axis.of(Schema(), "accent", leave_out=("none",), merged={"a or c": ("a", "c")})
    assert (found.names, found.cells) == (("a or c", "b"), (-1, 0, 1, 0))


def test_phones_of_a_population_count_as_each_alone():
    """Their events are taken from the arrays at once, also of phones that are not neighbors."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(0, 4, 40)
    events = rng.integers(0, 3, (int(lengths.sum()), 3)).astype(np.int16)
    held = PopulationArrays.without_clips(
        40,
        events=events,
        event_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        attributes=rng.integers(0, 2, (40, 1)).astype(np.int16),
    )
    query = Histogram(segments=(axis("s", 0, 2),), axes=(axis("a", 1, 3),), max_cells=1)
    phones = np.array([0, 1, 5, 7, 8, 9, 30, 39])
    alone = query.contributions(
        [held.phone(phone) for phone in phones.tolist()],
        NOTHING,
        Streams(lambda phone: stream(1, phone), phones.tolist()),
    )
    together = query.contributions_of(
        held, phones, NOTHING, Streams(lambda phone: stream(1, phone), phones.tolist())
    )
    np.testing.assert_array_equal(together, alone)
    assert np.sum(alone) > 0
