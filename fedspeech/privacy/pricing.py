"""What terms cost: two epsilons, each by every accountant that has a price, and what they stand on.

    terms = Terms(mechanism="central", participation="poisson", population=10**9, cohort=1000,
                  rounds=500, noise_multiplier=1.0)
    found = price(terms)
    print(found.release.epsilon, found.release.relation, found.server.epsilon)

`fedspeech.privacy.views` composes and charges bad events, here as for runs.

Doubts, and the safe side that was taken:

- `limited` participation with noise on phones is priced as presence against absence, the missing
  noise included, also where only zero-out can be claimed of it in the end. With Skellam noise what
  its absence tells is not derived, so only zero-out is claimed.
- `limited` add/remove needs a model of the other phones: the schedule is public, and each of them
  answers but for `dropout_rate`. A floor that one phone may decide counts as a bad event.
- A vector that phones clip in floating point and round to integers is a little longer than its clip
  norm. With noise on phones that is in the price; with `central` noise the multiplier given here is
  taken to be over the norm as it is after rounding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fedspeech.privacy import accountant, views
from fedspeech.privacy.events import Gaussian, NonPrivate, PoissonSampled
from fedspeech.privacy.terms import DEFAULT_DIMENSION, Terms
from fedspeech.privacy.views import View


@dataclass(frozen=True, kw_only=True)
class Price:
    """What terms cost.

    Attributes:
      terms: that were priced.
      release: the view of somebody who reads every published model.
      server: the view of the server.
    """

    terms: Terms
    release: View
    server: View


def price(terms: Terms, *, cross_check: bool = False) -> Price:
    """Prices all rounds of some terms.

    Args:
      terms: of taking part.
      cross_check: also ask Opacus, which takes seconds to import.

    Raises:
      ValueError: if a cohort cap with noise on phones is reached too often to be a bad event.
    """
    rounds, delta = [(terms.cost, terms.rounds)], terms.target_delta
    release = views.release(rounds, delta)
    if cross_check and release.relation != "zero-out":
        release = dataclasses.replace(release, checks={**release.checks, **_opacus(terms)})
    return Price(terms=terms, release=release, server=views.server(rounds, delta))


def spent(terms: Terms, joined: int) -> View:
    """Prices what a phone has spent that joined `joined` rounds: nothing is left to chance.

    Against the server; under `central`, where the server has everything, against a reader of the
    models who knows in which rounds it was.

    Args:
      terms: of taking part.
      joined: rounds in which the phone sent anything.

    Raises:
      ValueError: if it joined no round, or more than it may.
    """
    if not 1 <= joined <= terms.participations:
        raise ValueError(
            f"joined must be from 1 to the rounds that a phone may join "
            f"({terms.participations}), got joined={joined}"
        )
    cost = dataclasses.replace(terms.cost, quota=joined)
    if terms.mechanism == "central" and not isinstance(cost.given, NonPrivate):
        cost = dataclasses.replace(cost, server=cost.given, server_relation="zero-out")
    return views.server([(cost, terms.rounds)], terms.target_delta)


def _opacus(terms: Terms) -> dict[str, float]:
    """What Opacus says, at the full delta with bad events left out: beside the claim, never it."""
    event = terms.cost.release
    if not (isinstance(event, PoissonSampled) and isinstance(event.event, Gaussian)):
        return {}
    return accountant.opacus_checks(
        probability=event.probability,
        noise_multiplier=event.event.noise_multiplier,
        rounds=terms.rounds,
        delta=terms.target_delta,
    )


def assumptions(found: Price) -> list[str]:
    """Returns everything the two epsilons stand on, one sentence each."""
    terms = found.terms
    return [
        *_about_participation(terms),
        *_about_noise(terms),
        *_about_floors(terms),
        "Readers of the models see no cohort size, survivor count, identity, timing or reason of "
        "an abort, and are neither the server nor members of a cohort.",
        "One phone is one user with all its rounds; a person with two phones spends twice.",
        "Every release to this population is in this account: training, statistics, evaluation, "
        "tuning, failed rounds.",
    ]


def warnings(found: Price) -> list[str]:
    """Returns what a reader must not overlook."""
    terms, lines = found.terms, []
    if terms.noise_multiplier == 0:
        lines.append("No noise is added: epsilon is infinite against everybody.")
    if terms.target_delta * 10 * terms.population > 1 + 1e-9:
        lines.append(
            f"delta = {terms.target_delta:.3g} is above 1 / (10 population) = "
            f"{1 / (10 * terms.population):.3g}: a plan with it is refused."
        )
    if found.server.reason:
        lines.append(f"epsilon_server is infinite: {found.server.reason}.")
    if found.release.reason:
        lines.append(
            "epsilon_release protects what a phone said, not that it took part (zero-out), "
            f"because {found.release.reason}."
        )
    return lines


def trust(terms: Terms) -> dict[str, str]:
    """Returns who must be honest for each epsilon."""
    shares = (
        f"at least {terms.honest:,} of the phones in every sum add their noise and tell nobody "
        f"what it was (no sum of fewer than {terms.floor or 1:,} answers is opened, at most "
        f"{terms.colluders:,} phones collude)"
    )
    secret = {
        "poisson": "; each phone tosses its own coin in secret" + _who_is_there(terms),
        "fixed_size": "; whoever draws the cohorts draws uniformly and tells nobody",
        "limited": "",
    }[terms.participation]
    counts = "; each phone counts the rounds it joined"
    match terms.mechanism:
        case "central":
            return {
                "release": f"the server, which adds the noise{secret}",
                "server": "nothing protects from it",
            }
        case "local":
            return {
                "release": shares + secret,
                "server": f"nobody but the phone itself{counts}",
            }
    return {"release": shares + secret, "server": shares + counts}


def _who_is_there(terms: Terms) -> str:
    if terms.availability == 1:
        return ""
    return (
        f"; at least {terms.availability:.1%} of the population is there whenever a round begins, "
        "whatever its data"
    )


def _about_participation(terms: Terms) -> list[str]:
    q, n = terms.participation_probability, terms.expected_cohort
    said = {
        "poisson": f"Every phone joins each round by a coin of its own with probability {q:.4g} "
        f"(expected cohort {n:,.12g}), whatever it holds and whatever happened before.",
        "fixed_size": f"Every cohort is a uniformly random set of {round(n):,} of "
        f"{terms.population:,} phones, drawn afresh each round.",
        "limited": f"Anybody may know who takes part; no phone joins more than "
        f"{terms.participations:,} of {terms.rounds:,} rounds, and none joins because another does "
        "or does not.",
    }[terms.participation]
    lines = [said]
    if terms.availability < 1:
        lines.append(
            f"At least {terms.availability:.1%} of the population is there whenever a round "
            "begins, each phone for itself and whatever its data; some more often than others, and "
            "everybody may know which. Cohort and floor count the fewest. Being away buys nothing: "
            "a phone joins with at most the probability of its coin, and only the coin amplifies."
        )
    if terms.participation != "limited" and terms.participations < terms.rounds:
        given = "" if terms.max_participations is not None else " (chosen here)"
        lines.append(
            f"A phone stops for good after {terms.participations:,} rounds{given}; its chance of "
            f"being stopped, {terms.quota_mass:.1e}, is a bad event."
        )
    return lines


def _about_noise(terms: Terms) -> list[str]:
    lines = []
    if terms.on_phones:
        given = terms.dimension
        lines.append(
            f"A delta has {given:,} coordinates"
            if given
            else f"The number of coordinates was not given: {DEFAULT_DIMENSION:,} are assumed"
        )
        lines[0] += f", {terms.coordinates:,} as it travels."
        if terms.participation == "poisson" or (
            terms.participation == "limited" and terms.mechanism != "skellam"
        ):
            lines.append(
                "A phone that stays away withholds its noise too; what the variance of the sum "
                "tells of that is in the price."
            )
    if terms.on_phones and terms.noise_multiplier > 0:
        ring = terms.ring
        lines.append(
            f"Integers mod 2^{ring.bits}; rounding raises the sensitivity by "
            f"{100 * (ring.sensitivity / ring.norm - 1):.2f} %; noise of one phone has stddev "
            f"{ring.stddev:.4g} in integer units."
        )
        if terms.mechanism != "local":
            lines.append(
                "The server sees sums only: the secure sum is taken as ideal, and the chance that "
                "its protocol fails is not in epsilon_server."
            )
    if terms.mechanism == "central":
        lines.append(
            "The server adds a Gaussian that is rounded to the grid on which phones send integers: "
            "a rounded Gaussian mechanism, so prices of the continuous one hold. The multiplier is "
            "over the norm of a vector after rounding."
        )
    if terms.mechanism == "local":
        lines.append("The server may see each phone's noisy vector: no secure sum is assumed.")
    if terms.participation == "fixed_size" and terms.on_phones:
        lines.append("All phones are equally likely to drop out.")
    return lines


def _about_floors(terms: Terms) -> list[str]:
    lines = []
    if terms.floor is not None:
        given = "" if terms.min_survivors is not None else " (chosen here)"
        lines.append(
            f"No sum of fewer than {terms.floor:,} answers is opened{given}; rounds below that are "
            "abandoned, charged, and never drawn again."
        )
        lines.append(
            f"{terms.dropout_rate:.0%} of a roster drops out, each phone for itself and whatever "
            "its data; that one phone decides a round is a bad event of probability "
            f"{terms.floor_mass:.1e} per round."
        )
    else:
        lines.append("Every round takes place, however few phones come.")
    if terms.cohort_cap is not None:
        lines.append(
            f"Of more than {terms.cohort_cap:,} that come, a random {terms.cohort_cap:,} are let "
            + ("in (priced)." if not terms.on_phones else "in (a bad event).")
        )
    return lines
