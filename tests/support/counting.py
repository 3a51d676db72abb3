"""Phones with known events, and one release of a query over them with real noise."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.axes import Axis
from fedspeech.secagg.dropouts import share_answering
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy, Streams, stream
from fedspeech.training.dataset import LocalDataset


def axis(name, place, size):
    """An axis of so many codes, each a cell."""
    return Axis(
        name=name,
        place=place,
        names=tuple(f"{name} {code}" for code in range(size)),
        cells=tuple(range(size)),
    )


def phone(events, attributes=()):
    """A phone with events, rows of codes of which the first is the day."""
    rows = np.array(events, dtype=np.int16) if events else np.zeros((0, 0), np.int16)
    return LocalDataset(
        np.zeros((0, 1), np.float32),
        np.zeros(0, np.int64),
        events=rows,
        attributes=np.array(attributes, dtype=np.int16),
    )


def plan_for(query, *, population, **changes):
    """A plan whose clip norm is the query's bound."""
    probability = changes.get("participation_probability", 0.5)
    expected = population * probability
    settings = {
        "dimension": query.dimension,
        "clip_norm": query.l2_bound,
        "noise_multiplier": 1.0,
        "population": population,
        "participation_probability": probability,
        "rounds": query.rounds,
        "max_participations": query.rounds,
        "min_cohort": int(0.7 * expected),
        "min_reporting": int(0.6 * expected),
        "dropout_rate": 0.0,
        "secure_aggregation": "ideal",
        "delta": 1 / (10 * population),
        "epsilon_budget": 1000.0,
        "whole": query.whole,
    }
    return PrivacyPlan(**{**settings, **changes})


@dataclass
class Release:
    """Answers of a query, run again and again over the same phones with fresh coins and noise.

    What the round does is done here by the plan's own functions, without ledger and messages: so
    many runs need no job.
    """

    query: object
    plan: PrivacyPlan
    phones: list

    def run(self, seed):
        """The state after the rounds of one answer."""
        state = self.query.initial(None)
        entropy = NoiseEntropy.seeded(seed, "counting")
        for number in range(self.query.rounds):
            state = self.query.update(state, self.mean(state, entropy, seed, number))
        return state

    def contributions(self, model=None, phones=None, number=0):
        """What phones add, None: all of them. What a phone keeps is the same in every run."""
        phones = range(len(self.phones)) if phones is None else phones
        rngs = Streams(lambda index: stream(0, "own", number, index), phones)
        held = [self.phones[index] for index in phones]
        return self.query.contributions(held, model, rngs)

    def mean(self, state, entropy, seed, number):
        """The decoded mean of one round."""
        plan, coins = self.plan, stream(seed, "coins", number)
        asked = coins.random(len(self.phones)) < plan.participation_probability * plan.availability
        if plan.participation != "poisson":  # so many, whoever they are
            asked = coins.permutation(len(self.phones)) < plan.expected_cohort
        answering = share_answering(plan.dropout_rate, Stage.MASK)
        came = np.flatnonzero(asked & (coins.random(len(self.phones)) < answering))
        rotation = stream(seed, "rotation", number).bytes(16)
        model = state.parameters.astype(np.float32)
        vectors = self.contributions(model, came, number)
        encoded = [
            plan.privatize(
                vector,
                rotation_seed=rotation,
                rounding=entropy.keystream("rounding", number, int(index)),
                noise=entropy.keystream("noise", number, int(index)),
            )
            for index, vector in zip(came, vectors, strict=True)
        ]
        server = entropy.keystream("server", number) if plan.central else None
        return plan.decode(ring_sum(encoded, plan.bits), rotation_seed=rotation, noise=server).mean


def with_plan(release, **changes):
    """The same under a changed plan."""
    return dataclasses.replace(release, plan=dataclasses.replace(release.plan, **changes))
