"""What one round releases: a mechanism crossed with a kind of participation, as one `RoundCost`.

| participation | relation | counts on chance | an absent phone's missing noise |
|---|---|---|---|
| poisson | add/remove | yes | priced (`PoissonSampled`) |
| fixed_size | replace | yes | nothing is missing: another phone stands in its place |
| limited | add/remove | no | priced (`Presence`); Skellam: not derived, so zero-out is claimed |

| mechanism | noise | the server sees |
|---|---|---|
| distributed, skellam | a share on each phone, enough together | the sum, noisy |
| local | enough on each phone | each phone's vector, noisy |
| central | on the server | everything |
"""

from __future__ import annotations

from typing import Any, Literal

from fedspeech.privacy.events import (
    NO_SKELLAM_COIN,
    CappedPoisson,
    Event,
    Gaussian,
    GivenParticipation,
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

Mechanism = Literal["distributed", "skellam", "central", "local", "none"]
Participation = Literal["poisson", "fixed_size", "limited"]

MECHANISMS: tuple[Mechanism, ...] = ("distributed", "skellam", "central", "local", "none")
PARTICIPATIONS: tuple[Participation, ...] = ("poisson", "fixed_size", "limited")


def round_cost(
    *,
    mechanism: Mechanism,
    participation: Participation,
    given: GivenParticipation | NonPrivate,
    alone: GivenParticipation | NonPrivate,
    population: int,
    probability: float,
    cohort_cap: int | None,
    **counted: Any,
) -> RoundCost:
    """Makes the one description of a round that every accountant, ledger and report reads.

    Args:
      mechanism: where noise is added.
      participation: how phones come.
      given: the published sum to a phone that took part, under zero-out.
      alone: one phone's own vector, likewise; read for "local".
      population: phones to draw from.
      probability: of one phone taking part; 1 where nobody counts on chance.
      cohort_cap: most phones that are let in; none for no cap.
      **counted: quota and probabilities of bad events, as `RoundCost` names them.

    Raises:
      ValueError: for Skellam noise under a coin.
    """
    release, relation = _release(participation, given, population, probability, cohort_cap)
    server: Event = given
    server_relation: Relation = "zero-out"
    if isinstance(given, NonPrivate) or mechanism == "central":
        server, server_relation = NonPrivate(), "none"
    elif mechanism == "local":
        assert not isinstance(alone, NonPrivate)
        server, server_relation = Replaced(event=alone), "replace"
    return RoundCost(
        release=release,
        release_relation=relation,
        sampled=participation != "limited" and relation != "none",
        given=given,
        server=server,
        server_relation=server_relation,
        probability=probability,
        **counted,
    )


def _release(
    participation: Participation,
    given: GivenParticipation | NonPrivate,
    population: int,
    probability: float,
    cohort_cap: int | None,
) -> tuple[Event, Relation]:
    """One round to a reader of the models, and the relation."""
    if isinstance(given, NonPrivate):
        return given, "none"
    if participation == "fixed_size":
        cohort = round(population * probability)
        drawn = WithoutReplacement(population=population, cohort=cohort, event=given)
        return drawn, "replace"
    if participation == "limited":
        if is_skellam(given):
            return given, "zero-out"
        assert not isinstance(given, SkellamSum)
        return (given if isinstance(given, Gaussian) else Presence(event=given)), "add/remove"
    if cohort_cap is not None and isinstance(given, Gaussian):
        capped = CappedPoisson(
            population=population, probability=probability, cap=cohort_cap, event=given
        )
        return capped, "add/remove"
    if isinstance(given, SkellamSum):
        raise ValueError(NO_SKELLAM_COIN)
    return PoissonSampled(probability=probability, event=given), "add/remove"
