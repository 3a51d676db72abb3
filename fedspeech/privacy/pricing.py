"""What terms cost: two epsilons, each by every accountant that has a price, and what they stand on.

    terms = Terms(mechanism="central", participation="poisson", population=10**9, cohort=1000,
                  rounds=500, noise_multiplier=1.0)
    found = price(terms)
    print(found.release.epsilon, found.release.relation, found.server.epsilon)

Bad events (a phone's quota runs out, one phone decides whether a round takes place, a cap is
reached, samplers miss their ideals) have a total mass B, and the delta that is printed covers them:
each accountant is asked at delta - e^epsilon B. Where e^epsilon B would exceed a tenth of delta, no
sampling is counted on: what a phone said is protected, not that it took part (zero-out), at as many
rounds as it may join, and the figure is never below the one that was withdrawn.

Doubts, and the safe side that was taken:

- `limited` participation with noise on phones is priced as presence against absence, the missing
  noise included, also where only zero-out can be claimed of it in the end. With Skellam noise what
  its absence tells is not derived, so only zero-out is claimed.
- `limited` add/remove needs a model of the other phones: the schedule is public, and each of them
  answers but for `dropout_rate`. A floor that one phone may decide counts as a bad event.
- A sum of continuous Gaussians on a computer is not continuous. The prices of `central` and
  `local` are those of the ideal law, and the assumptions say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedspeech.privacy import accountant, textbook
from fedspeech.privacy.bad_events import SHARE_OF_DELTA
from fedspeech.privacy.events import Event, Gaussian, NonPrivate, PoissonSampled
from fedspeech.privacy.terms import DEFAULT_DIMENSION, Terms
from fedspeech.privacy.textbook import EpsilonAt


@dataclass(frozen=True, kw_only=True)
class View:
    """What one adversary's view costs a phone.

    Attributes:
      epsilons: by accountant, those that are bounds: "rdp" and, where the noise does not depend on
        who takes part, "pld".
      checks: by accountant, those that only stand beside: "analytic", "prv", "opacus_rdp".
      relation: neighbouring relation: "add/remove", "replace", "zero-out" or "none".
      participations: rounds of a phone that are paid for; all rounds where sampling is counted on.
      amplified: whether sampling is counted on.
      bad_event_mass: of events outside the argument, all rounds, included in delta.
      reason: why the relation is weaker than participation would give; empty if it is not.
    """

    epsilons: Mapping[str, float]
    checks: Mapping[str, float]
    relation: str
    participations: int
    amplified: bool
    bad_event_mass: float
    reason: str = ""

    @property
    def claim(self) -> str:
        """The accountant whose bound is the smallest."""
        return min(self.epsilons, key=lambda name: self.epsilons[name])

    @property
    def epsilon(self) -> float:
        """The smallest bound."""
        return self.epsilons[self.claim]


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
    return Price(terms=terms, release=release(terms, cross_check=cross_check), server=server(terms))


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
    event, relation = terms.server
    if terms.mechanism == "central":
        event = terms.given
        relation = "none" if isinstance(event, NonPrivate) else "zero-out"
    mass = 2 * terms.rounds * terms.tail_mass
    return _view(event, joined, relation, mass, terms.target_delta, joined)


def server(terms: Terms) -> View:
    """Prices the view of the server, which knows who took part: no sampling."""
    event, relation = terms.server
    mass = 2 * terms.rounds * terms.tail_mass
    k = terms.participations
    return _view(event, k, relation, mass, terms.target_delta, k)


def release(terms: Terms, *, cross_check: bool = False) -> View:
    """Prices the view of a reader of the models; zero-out where bad events do not fit.

    Args:
      terms: of taking part.
      cross_check: also ask Opacus.

    Raises:
      ValueError: if a cohort cap with noise on phones is reached too often to be a bad event.
    """
    delta = terms.target_delta
    event, count, relation = terms.release
    amplified = terms.participation != "limited" and relation != "none"
    cap_mass = terms.rounds * terms.cap_mass
    floors = terms.participations if terms.participation == "limited" else terms.rounds
    # A quota that runs out parts both worlds from the argument under "replace", one otherwise.
    quota_mass = (2 if relation == "replace" else 1) * terms.quota_mass
    mass = 2 * terms.rounds * terms.tail_mass + quota_mass + cap_mass
    if relation != "zero-out":
        mass += floors * terms.floor_mass
    if relation == "none":
        mass = 0.0
    paid = terms.rounds if amplified else count
    prices = _accountants(event, count)
    epsilons = _charged(prices, mass, delta)
    if relation == "none":
        epsilons = {"rdp": math.inf, "pld": math.inf}
    if epsilons:
        checks = _checks(terms, event, count, delta, cross_check)
        reason = ""
        if relation == "zero-out":
            reason = "what an absent phone's missing Skellam noise tells is not derived"
        return View(
            epsilons=epsilons, checks=checks, relation=relation, participations=paid,
            amplified=amplified, bad_event_mass=mass, reason=reason,
        )  # fmt: skip
    withdrawn = min((at((1 - SHARE_OF_DELTA) * delta) for at in prices.values()), default=math.inf)
    if cap_mass > 0 and math.isfinite(withdrawn) and not _fits(withdrawn, cap_mass, delta):
        raise ValueError(
            "cohort_cap with noise on phones must hardly ever be reached: its probability over all "
            f"rounds is {cap_mass:.1e}, and e^epsilon times that exceeds a tenth of delta; raise "
            f"the cap or leave it out, got cohort_cap={terms.cohort_cap}"
        )
    if math.isinf(withdrawn):
        reason = "there are too few honest shares for a bound against the missing noise of a phone"
    else:
        reason = (
            f"events outside the argument (a phone's quota, one phone deciding a round) have mass "
            f"{mass:.1e}, and e^epsilon times that exceeds a tenth of delta"
        )
    return _zero_out(terms, withdrawn, reason)


def _zero_out(terms: Terms, withdrawn: float, reason: str) -> View:
    """Protects what a phone said, at all rounds it may join, and never for less."""
    k = terms.participations
    mass = 2 * terms.rounds * terms.tail_mass
    plain = _view(terms.given, k, "zero-out", mass, terms.target_delta, k)
    at_least = withdrawn if math.isfinite(withdrawn) else 0.0
    return View(
        epsilons={name: max(value, at_least) for name, value in plain.epsilons.items()},
        checks={}, relation="zero-out", participations=k, amplified=False, bad_event_mass=mass,
        reason=reason,
    )  # fmt: skip


def _view(
    event: Event, count: int, relation: str, mass: float, delta: float, participations: int
) -> View:
    """Prices a view that counts on no sampling."""
    if isinstance(event, NonPrivate):
        return View(
            epsilons={"rdp": math.inf, "pld": math.inf}, checks={}, relation="none",
            participations=participations, amplified=False, bad_event_mass=0.0,
        )  # fmt: skip
    epsilons, reason = _charged(_accountants(event, count), mass, delta), ""
    if not epsilons:
        epsilons = {"rdp": math.inf}
        reason = f"there is no bound at delta = {delta:.3g}, with bad events of mass {mass:.1e}"
    return View(
        epsilons=epsilons, checks=_exact(event, count, delta), relation=relation,
        participations=participations, amplified=False, bad_event_mass=mass, reason=reason,
    )  # fmt: skip


def _exact(event: Event, count: int, delta: float) -> dict[str, float]:
    """The analytic epsilon of a plain Gaussian; nothing for others or beyond floating point."""
    exact = textbook.analytic(event, count)
    found = math.inf if exact is None else exact(delta)
    return {"analytic": found} if math.isfinite(found) else {}


def _accountants(event: Event, count: int) -> dict[str, EpsilonAt]:
    """Every accountant that has a bound on this event, as a function of delta."""
    found: dict[str, EpsilonAt] = {}
    renyi = textbook.rdp(event, count)
    if renyi is None:
        curve = count * accountant.rdp(event)
        if not math.isinf(curve.min()):
            found["rdp"] = lambda delta: accountant.epsilon(curve, delta)
    else:
        found["rdp"] = renyi
    distribution = textbook.pld(event, count)
    if distribution is not None:
        found["pld"] = distribution
    return found


def _charged(prices: Mapping[str, EpsilonAt], mass: float, delta: float) -> dict[str, float]:
    """Epsilons at delta with bad events inside; those where they do not fit are left out.

    With eps' the answer at .9 delta and e^eps' B <= delta / 10, the answer at delta - e^eps' B is
    at most eps', so that its own e^eps B is covered.
    """
    found = {}
    for name, at in prices.items():
        if mass == 0:
            found[name] = at(delta)
            continue
        above = at((1 - SHARE_OF_DELTA) * delta)
        if math.isfinite(above) and _fits(above, mass, delta):
            found[name] = at(delta - math.exp(above + math.log(mass)))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _fits(epsilon: float, mass: float, delta: float) -> bool:
    """Whether e^epsilon * mass stays within its share of delta, without overflow."""
    return mass == 0 or epsilon + math.log(mass) <= math.log(SHARE_OF_DELTA * delta)


def _checks(
    terms: Terms, event: Event, count: int, delta: float, cross_check: bool
) -> dict[str, float]:
    """What stands beside the claim: at the full delta, bad events left out."""
    found = _exact(event, count, delta)
    if cross_check and isinstance(event, PoissonSampled) and isinstance(event.event, Gaussian):
        found |= accountant.opacus_checks(
            probability=event.probability,
            noise_multiplier=event.event.noise_multiplier,
            rounds=count,
            delta=delta,
        )
    return found


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
        "poisson": "; each phone tosses its own coin in secret",
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
        lines[0] += f", {terms.coordinates:,} as it travels." if terms.in_ring else "."
        if terms.participation == "poisson" or (
            terms.participation == "limited" and terms.mechanism != "skellam"
        ):
            lines.append(
                "A phone that stays away withholds its noise too; what the variance of the sum "
                "tells of that is in the price."
            )
    if terms.in_ring and terms.noise_multiplier > 0:
        ring = terms.ring
        lines.append(
            f"Integers mod 2^{ring.bits}; rounding raises the sensitivity by "
            f"{100 * (ring.sensitivity / ring.norm - 1):.2f} %; noise of one phone has stddev "
            f"{ring.stddev:.4g} in integer units."
        )
        lines.append(
            "The server sees sums only: the secure sum is taken as ideal, and the chance that its "
            "protocol fails is not in epsilon_server."
        )
    if terms.mechanism == "skellam":
        lines.append("Skellam noise is drawn exactly; the error of a sampler is not in the price.")
    if terms.mechanism in ("central", "local"):
        lines.append(
            "The noise is a real Gaussian; that computers draw it with finitely many digits is not "
            "in the price."
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
