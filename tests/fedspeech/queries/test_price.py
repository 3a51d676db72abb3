"""A query costs what a plan with its dimension, bound and rounds costs: nothing is priced twice."""

import pytest
from counting import axis, plan_for

import fedspeech as fs
from fedspeech.queries.heavy_hitters import HeavyHitters
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.quantile_search import SearchQuantiles

QUERIES = [
    Histogram(axes=(axis("a", 1, 6),), max_cells=3, max_per_cell=2),
    SearchQuantiles(axis=axis("a", 1, 8), quantiles=(0.25, 0.75)),
    HeavyHitters(max_length=4, beam=2, max_cells=3),
]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: type(query).__name__)
def test_the_price_of_a_query_is_that_of_the_budget(query):
    plan = plan_for(query, population=1000, noise_multiplier=4.0, whole=False)
    priced = fs.budget(
        mechanism="distributed", participation="poisson", population=1000, probability=0.5,
        rounds=query.rounds, max_participations=query.rounds, noise_multiplier=4.0,
        dimension=query.dimension, clip_norm=query.l2_bound, min_cohort=plan.min_cohort,
        min_reporting=plan.min_reporting, delta=plan.delta, dropout_rate=0.0,
        secure_aggregation="ideal", colluders=0,
    )  # fmt: skip
    own = plan.guarantee(query.rounds)
    assert priced.epsilon_release == own.epsilon_release
    assert priced.epsilon_server == own.epsilon_server
    assert own.epsilon_release < own.epsilon_server
