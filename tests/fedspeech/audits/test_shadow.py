"""Shadow runs follow the rounds of a plan, and releases give away their sums."""

import dataclasses

import numpy as np
import pytest
from attacked_runs import INITIAL, PLAN, played, speakers, with_noise
from tiny_job import TRAINING

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.audits.observed_sums import released_sums
from fedspeech.audits.shadow import ShadowRuns, clipped, noise_stddev
from fedspeech.seeds import stream


def shadow(plan, query=TRAINING):
    return ShadowRuns(
        plan=plan,
        contributions=query.contributions,
        optimizer=query.optimizer,
        initial=INITIAL,
    )


def test_without_coins_and_noise_a_shadow_run_is_the_run():
    """Up to the rounding of integers; with one batch there is nothing to shuffle."""
    plan = dataclasses.replace(PLAN, participation_probability=1.0)
    whole = dataclasses.replace(TRAINING.training, batch_size=16)
    query = dataclasses.replace(TRAINING, training=whole)
    phones = speakers(plan.population, seed=1)
    real = played(plan, phones, seed=1, query=query).releases
    found = shadow(plan, query).releases(phones, stream(1, "shadow"))
    assert np.allclose(found, real, atol=1e-4)
    assert np.abs(real[-1] - real[0]).max() > 0.05


def test_noise_has_the_size_of_the_plan():
    plan = with_noise(3.0, rounds=1, max_participations=1)
    nobody = [shadow(plan).releases([], stream(seed, "none"))[-1] for seed in range(3)]
    assert not np.any(nobody), "absent phones withhold their noise"
    phones = speakers(plan.population, seed=2)
    step = played(plan, phones, seed=3).rounds[0]
    own = clipped(
        TRAINING.contributions(
            [phones[phone] for phone in step.senders], INITIAL, [stream(0, "x")] * len(step.senders)
        ),
        plan.clip_norm,
    )
    # 52 coordinates: the deviation of their root mean square is a tenth; five of them.
    ratio = (step.total - own.sum(0)).std() / noise_stddev(plan, len(step.senders))
    assert 0.5 < ratio < 1.5


def test_a_phone_joins_at_most_as_often_as_the_plan_lets_it():
    plan = dataclasses.replace(PLAN, participation_probability=1.0, max_participations=2)
    releases = shadow(plan).releases(speakers(20, seed=1), stream(1, "limit"))
    sums = released_sums(releases, TRAINING.optimizer, plan)
    assert np.abs(sums[:2]).max() > 0.01
    assert np.abs(sums[2:]).max() < 1e-3


@pytest.mark.parametrize("rule", ["fedavg", "fedavgm"])
def test_readers_work_sums_out_from_releases(rule):
    optimizer = FedOpt(optimizer=rule, learning_rate=0.7, momentum=0.8)
    query = dataclasses.replace(TRAINING, optimizer=optimizer)
    seen = played(PLAN, speakers(20, seed=4), seed=4, query=query)
    found = released_sums(seen.releases, optimizer, PLAN)
    assert np.allclose(found, [each.total for each in seen.rounds], atol=1e-4)


def test_of_a_rule_that_is_no_line_readers_have_the_steps():
    optimizer = FedOpt(optimizer="fedadam", learning_rate=0.01)
    query = dataclasses.replace(TRAINING, optimizer=optimizer)
    releases = played(PLAN, speakers(20, seed=5), seed=5, query=query).releases
    assert np.array_equal(
        released_sums(releases, optimizer, PLAN), np.diff(releases.astype(np.float64), axis=0)
    )


def test_what_is_not_finite_counts_as_nothing():
    rows = clipped([np.array([3.0, 4.0]), np.array([np.nan, 1.0]), np.array([0.1, 0.0])], 1.0)
    assert rows == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0.1, 0]]))
