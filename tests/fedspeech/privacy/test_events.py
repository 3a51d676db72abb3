import json

import pytest

from fedspeech.privacy.events import (
    CappedPoisson,
    CorrelatedGaussian,
    DiscreteGaussianSum,
    Gaussian,
    Joint,
    NonPrivate,
    PoissonSampled,
    Presence,
    Replaced,
    RoundCost,
    SkellamSum,
    WithoutReplacement,
    cost_from_record,
    cost_to_record,
    from_record,
    to_record,
)

SUM = DiscreteGaussianSum(sensitivity=10.5, stddev=3.25, shares=7, dimension=16)
SAMPLED = PoissonSampled(probability=0.1, event=SUM)


GAUSSIAN = Gaussian(noise_multiplier=2.0)
BIT = DiscreteGaussianSum(sensitivity=1.0, stddev=2.5, shares=7, dimension=1)
JOINT = Joint(parts=(SUM, BIT))
SKELLAM = SkellamSum(sensitivity=9.0, stddev=4.0, shares=7, dimension=16)


@pytest.mark.parametrize(
    "event",
    [
        NonPrivate(), SUM, SAMPLED, GAUSSIAN, JOINT, SKELLAM, Presence(event=SUM),
        Presence(event=JOINT), PoissonSampled(probability=0.2, event=JOINT),
        Replaced(event=SKELLAM), PoissonSampled(probability=0.2, event=GAUSSIAN),
        WithoutReplacement(population=9, cohort=3, event=SKELLAM),
        CappedPoisson(population=9, probability=0.2, cap=4, event=GAUSSIAN),
        CorrelatedGaussian(
            noise_multiplier=2.0, coefficients=(1 << 20, 1 << 19), min_separation=3, rounds=9
        ),
    ],
)  # fmt: skip
def test_an_event_survives_json(event):
    assert from_record(json.loads(json.dumps(to_record(event)))) == event


def test_a_cost_survives_json():
    cost = RoundCost(
        release=SAMPLED, release_relation="add/remove", sampled=True, given=JOINT, server=SUM,
        server_relation="zero-out", probability=0.1, max_participations=3, planned=9,
        minimum_failure=1e-9,
        sampler_failure=1e-30,
    )  # fmt: skip
    assert cost_from_record(json.loads(json.dumps(cost_to_record(cost)))) == cost


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "Laplace", "noise_multiplier": 1.0},
        {"kind": "NonPrivate", "extra": 1},
        {"kind": "PoissonSampled", "probability": 0.1, "event": {"kind": "NonPrivate"}},
        {"kind": "PoissonSampled", "probability": 0.1, "event": to_record(SAMPLED)},
        {"kind": "PoissonSampled", "probability": 0.1},
        {
            "kind": "CappedPoisson",
            "population": 9,
            "probability": 0.1,
            "cap": 3,
            "event": to_record(SUM),
        },
        {"kind": "DiscreteGaussianSum", "stddev": 1.0},
        {"kind": "Joint"},
        {"kind": "Joint", "parts": [to_record(SUM), to_record(SKELLAM)]},
        {"kind": "Joint", "parts": [to_record(GAUSSIAN)]},
        {"kind": "Presence", "event": to_record(Joint(parts=(SKELLAM, SKELLAM)))},
    ],
)
def test_an_event_that_is_not_known_is_refused(record):
    with pytest.raises(ValueError, match=r"event|joint|Skellam"):
        from_record(record)


def test_a_cost_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="record of RoundCost"):
        cost_from_record({"release": to_record(SAMPLED)})
