"""What a plan adds where sums are masked: terms, minimums, bad graphs, whom to trust."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from fedspeech.privacy import binomial_tails, failure_probabilities, guarantee
from fedspeech.privacy.phrasing import paragraphs
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.protocol import MAX_SESSIONS, Stage

PLAN = PrivacyPlan(
    dimension=772, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=15, min_cohort=210,
    min_reporting=201,
    colluders=15, dropout_rate=0.04, delta=1 / 30_000, epsilon_budget=5.0,
    secure_aggregation="masked",
)  # fmt: skip


def change(**fields):
    return dataclasses.replace(PLAN, **fields)


def test_masks_cost_no_epsilon_that_two_digits_show():
    masked = change().guarantee(40)
    ideal = change(secure_aggregation="ideal").guarantee(40)
    assert masked.relation_release == ideal.relation_release == "add/remove"
    assert ideal.epsilon_release <= masked.epsilon_release <= ideal.epsilon_release + 0.005
    assert ideal.epsilon_server <= masked.epsilon_server <= ideal.epsilon_server + 1e-4


def test_bad_graphs_are_priced_per_draw_and_only_where_a_graph_is_drawn():
    assert PLAN.cost.graph_failure == MAX_SESSIONS * 2.0**-40
    semi_honest = MAX_SESSIONS * (
        2.0**-60 + 2.0**-61
    )  # the graph, and more drop-outs than it is for
    assert change(threat_model="semi_honest").cost.graph_failure == semi_honest
    assert change(secure_aggregation="ideal").cost.graph_failure == 0
    small = change(
        population=120, delta=1 / 1200, participation_probability=0.9, max_participations=40,
        min_cohort=70,
        min_reporting=60, epsilon_budget=1e6,
    )  # fmt: skip
    assert small.max_cohort <= 128
    assert small.cost.graph_failure == 0


def test_a_mass_of_bad_graphs_comes_off_the_servers_delta_as_it_is():
    """Without e^epsilon: the same epsilon as at a delta smaller by that mass."""
    cost = dataclasses.replace(PLAN.cost, sampler_failure=0.0, graph_failure=1e-8)
    without = dataclasses.replace(cost, graph_failure=0.0)
    found = guarantee.price([(cost, 40)], PLAN, trust="")
    smaller = dataclasses.replace(PLAN, delta=PLAN.delta - 40e-8)
    expected = guarantee.price([(without, 40)], smaller, trust="")
    assert found.epsilon_server == pytest.approx(expected.epsilon_server, rel=1e-9)
    assert found.epsilon_release == pytest.approx(
        guarantee.price([(without, 40)], PLAN, trust="").epsilon_release, rel=1e-9
    )
    heavy = dataclasses.replace(cost, graph_failure=PLAN.delta)
    assert math.isinf(guarantee.price([(heavy, 40)], PLAN, trust="").epsilon_server)


def test_minimums_are_those_of_cohort_list_sharers_and_senders():
    wide = change(dropout_rate=0.3, colluders=0, min_cohort=150, min_reporting=140)
    rates = [(150, 1 - 0.1), (140, 1 - 0.2), (140, 1 - 0.3)]
    minimums = binomial_tails.minimum_failure(
        population=3000, probability=0.1, colluders=0, minimums=rates
    )
    assert [share_answering(0.3, s) for s in (Stage.ADVERTISE, Stage.SHARE, Stage.MASK)] == [
        pytest.approx(rate) for _, rate in rates
    ]
    assert wide.cost.minimum_failure >= minimums


def test_each_minimum_of_a_masked_round_is_counted_with_phones_that_stand_there():
    wide = change(dropout_rate=0.3, colluders=0, min_cohort=150, min_reporting=140)
    minimums = {
        "the cohort list is below min_cohort": (150, Stage.ADVERTISE),
        "the cohort list of a session that restarts is below min_cohort": (150, Stage.ACCEPT),
        "fewer than min_reporting share": (140, Stage.SHARE),
        "fewer than min_reporting send": (140, Stage.MASK),
    }
    minimums = {
        name: (least, share_answering(0.3, stage)) for name, (least, stage) in minimums.items()
    }
    coming = {"population": 3000, "probability": 0.1, "colluders": 0}
    found = failure_probabilities.probabilities(wide)
    for name, minimum in minimums.items():
        assert found[name] == pytest.approx(
            binomial_tails.minimum_failure(**coming, minimums=[minimum])
        ), name
    together = binomial_tails.minimum_failure(**coming, minimums=list(minimums.values()))
    together += found["a masked round above its minimums lacks signatures or shares"]
    assert wide.cost.minimum_failure == pytest.approx(min(1.0, together))


def test_rounds_that_fail_for_want_of_answers_are_counted_at_least_as_often_as_they_happen():
    """60,000 simulated rounds of 40 phones; 5 standard errors."""
    plan = PrivacyPlan(
        dimension=50, clip_norm=1.0, noise_multiplier=2.0, population=80,
        participation_probability=0.5, rounds=1, max_participations=1, min_cohort=24,
        min_reporting=14,
        dropout_rate=0.21, delta=1 / 800, epsilon_budget=1e6, secure_aggregation="masked",
    )  # fmt: skip
    rng, rounds, failed = np.random.default_rng(1), 60_000, 0
    present = rng.random((rounds, 80)) < 0.5
    fate = rng.random((rounds, 80))
    shares = {stage: share_answering(0.21, stage) for stage in Stage}

    def count(stage):
        return (present & (fate < shares[stage])).sum(axis=1)

    cohort_list, signing, unmasking = (
        count(Stage.ADVERTISE),
        count(Stage.AGREE),
        count(Stage.UNMASK),
    )
    terms = plan.terms(bytes(16), 0)
    quorum = np.array([terms.quorum(n) if n else 1 for n in range(81)])[cohort_list]
    opened = (count(Stage.MASK) >= 14) & (cohort_list >= 24)
    failed = (opened & ((signing < quorum) | (unmasking - 1 < quorum))).mean()
    bound = failure_probabilities._unopened(plan)
    assert 0 < failed <= bound + 5 * math.sqrt(failed / rounds)


def test_colluders_may_keep_silent_at_the_end_and_leave_a_phone_with_too_few_answers():
    """The chance of one given phone in cohorts of 300: 15 of 299 others say nothing, the rest may.

    Four in ten cohort lists have 300 phones or fewer.
    """
    graph = PLAN.terms(bytes(16), 0).parameters(300)
    answering = share_answering(0.04, Stage.UNMASK) / share_answering(0.04, Stage.ADVERTISE)
    silent = np.arange(16)
    lacking = hypergeom.pmf(silent, 299, 15, graph.neighbors) @ binom.cdf(
        graph.threshold - 1, graph.neighbors - silent, answering
    )
    natural = binom.cdf(graph.threshold - 1, graph.neighbors, answering)
    assert lacking > 1000 * natural
    assert PLAN.cost.minimum_failure > 0.4 * lacking


def test_terms_are_the_plans_own():
    terms = PLAN.terms(b"r" * 16, 7)
    assert (terms.round, terms.dimension, terms.bits) == (7, 1024, PLAN.bits)
    assert (terms.min_cohort, terms.min_reporting, terms.colluders) == (210, 201, 15)
    assert (terms.dropped_share, terms.threat_model) == (PLAN.dropout_tolerance, "malicious")


def test_words_say_how_the_sum_was_taken_and_who_must_be_honest():
    words = paragraphs(PLAN.guarantee(40))
    assert "masked protocol, with parameters for a server that lies" in words
    assert "simulator plays both sides" in words
    assert "the server, which may lie, does not hold the directory of identities" in words
    semi_honest = paragraphs(change(threat_model="semi_honest").guarantee(40))
    assert "a semi-honest server, not for one that lies" in semi_honest
    assert "server and colluders keep the rules of the protocol" in semi_honest
    ideal = paragraphs(change(secure_aggregation="ideal").guarantee(40))
    assert "simulated here (ideal)" in ideal
    assert "directory" not in ideal


def test_bytes_of_a_phone_grow_with_the_protocol():
    ideal = change(secure_aggregation="ideal").bytes_per_phone(300)
    masked = PLAN.bytes_per_phone(300)
    assert ideal == (1024 * 2, 4 * 772)
    assert masked[0] > ideal[0] + 82 * 88
    assert masked[1] > ideal[1] + 300 * 168
    assert PLAN.bytes_per_phone(None) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"min_reporting": 1, "colluders": 0, "noise_multiplier": 60.0}, "min_reporting"),
        ({"dropout_rate": 0.36}, "dropout_rate=0.36"),
        ({"colluders": 195}, "colluders=195"),
    ],
)
def test_a_plan_without_a_protocol_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        change(**changes)
