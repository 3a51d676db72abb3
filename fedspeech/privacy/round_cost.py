"""What one round releases: a mechanism crossed with a kind of participation, as one `RoundCost`.

| participation | relation | counts on chance | an absent phone's missing noise |
|---|---|---|---|
| poisson | add/remove | yes | priced (`PoissonSampled`) |
| fixed_size | replace | yes | nothing is missing: another phone stands in its place |
| round_robin | add/remove | no | priced (`Presence`); Skellam: not derived, zero-out is claimed |

| mechanism | noise | the server sees |
|---|---|---|
| distributed, skellam | a share on each phone, enough together | the sum, noisy |
| local | enough on each phone | each phone's vector, noisy |
| central | on the server | everything |
| matrix_factorization | on the server, correlated over rounds | everything |
"""

from __future__ import annotations

from fedspeech.privacy import failure_probabilities
from fedspeech.privacy.events import (
    NO_SKELLAM_COIN,
    CappedPoisson,
    CorrelatedGaussian,
    DiscreteGaussianSum,
    Event,
    Gaussian,
    GivenParticipation,
    Joint,
    NonPrivate,
    PoissonSampled,
    Presence,
    Relation,
    Replaced,
    RoundCost,
    SkellamSum,
    WithoutReplacement,
    is_skellam,
)
from fedspeech.privacy.sizing import PlanSizing


def round_cost(plan: PlanSizing) -> RoundCost:
    """Makes the one description of a round that every accountant, ledger and report reads.

    Raises:
      ValueError: for Skellam noise under a coin.
    """
    given = _event(plan, plan.honest)
    round_robin = plan.participation == "round_robin"
    probability = 1.0 if round_robin else plan.participation_probability
    release, relation = _release(plan, given)
    server: Event = given
    server_relation: Relation = "zero-out"
    if isinstance(given, NonPrivate) or plan.central:
        server, server_relation = NonPrivate(), "none"
    elif plan.mechanism == "local":
        # Each vector arrives by itself, so one share must hide it from every other that could have
        # come.
        alone = _event(plan, 1)
        assert not isinstance(alone, NonPrivate | CorrelatedGaussian)
        server, server_relation = Replaced(event=alone), "replace"
    return RoundCost(
        release=release,
        release_relation=relation,
        sampled=not round_robin and relation != "none",
        given=given,
        server=server,
        server_relation=server_relation,
        probability=probability,
        max_participations=plan.participations,
        planned=plan.rounds,
        **failure_probabilities.totals(plan),
    )


def _event(plan: PlanSizing, shares: int) -> GivenParticipation | CorrelatedGaussian | NonPrivate:
    """The published sum with so many honest shares, to a phone that took part, under zero-out."""
    if plan.mechanism == "none":
        return NonPrivate()
    if plan.factorization is not None:
        return CorrelatedGaussian(
            noise_multiplier=plan.noise_multiplier,
            coefficients=plan.factorization.coefficients,
            min_separation=plan.factorization.min_separation,
            rounds=plan.rounds,
        )
    if plan.central:
        return Gaussian(noise_multiplier=plan.noise_multiplier)
    kind = SkellamSum if plan.mechanism == "skellam" else DiscreteGaussianSum
    vector = kind(
        sensitivity=plan.sensitivity,
        stddev=plan.stddev,
        shares=shares,
        dimension=plan.padded_dimension,
    )
    if plan.adaptive_clipping is None:
        return vector
    # A bit is plus or minus half of the scale and silence is 0, so a phone moves the sum by a half.
    bit = kind(sensitivity=plan.bit_scale / 2, stddev=plan.bit_stddev, shares=shares, dimension=1)
    return Joint(parts=(vector, bit))


def _release(
    plan: PlanSizing, given: GivenParticipation | CorrelatedGaussian | NonPrivate
) -> tuple[Event, Relation]:
    """One round to a reader of the models, and the relation."""
    population, probability = plan.population, plan.participation_probability
    if isinstance(given, NonPrivate):
        return given, "none"
    if isinstance(given, CorrelatedGaussian):  # the rules admit round-robin participation alone
        return given, "add/remove"
    if plan.participation == "fixed_size":
        cohort = round(population * probability)
        drawn = WithoutReplacement(population=population, cohort=cohort, event=given)
        return drawn, "replace"
    if plan.participation == "round_robin":
        if is_skellam(given):
            return given, "zero-out"
        assert not isinstance(given, SkellamSum)
        return (given if isinstance(given, Gaussian) else Presence(event=given)), "add/remove"
    if plan.cohort_cap is not None and isinstance(given, Gaussian):
        capped = CappedPoisson(
            population=population, probability=probability, cap=plan.cohort_cap, event=given
        )
        return capped, "add/remove"
    if isinstance(given, SkellamSum):
        raise ValueError(NO_SKELLAM_COIN)
    return PoissonSampled(probability=probability, event=given), "add/remove"
