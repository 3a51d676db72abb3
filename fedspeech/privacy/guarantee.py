"""Two epsilons and everything that must stand next to them.

An epsilon without its adversary, unit, relation, delta, accountant, rounds and trust assumption is
a defect, so there is no way to obtain one alone: pricing gives a `Guarantee`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedspeech.privacy import accountant
from fedspeech.privacy.bad_events import SHARE_OF_DELTA, quota_mass
from fedspeech.privacy.events import RoundCost

Unit = Literal["user", "phone"]


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What a phone is promised, against whom, and on what condition.

    Attributes:
      epsilon_release: against somebody who reads every published model.
      epsilon_server: against the server, which knows who took part; simulated under "ideal".
      delta: of both, bad events included.
      unit: whose whole contribution is protected.
      relation_release: neighbouring relation of `epsilon_release`: "add/remove" with amplification
        by sampling, "zero-out" without, or "none".
      relation_server: "zero-out" (what a phone said, not that it took part) or "none".
      accountant: how it was computed.
      rounds: rounds charged, failed ones included.
      quota: participations at which a phone is priced at most when no sampling is counted on.
      trust: who must be honest, in words.
      bad_event_mass: probability of what the accountant's argument leaves out, all rounds.
      secure_aggregation: how sums were taken: "masked" or "ideal".
      server: whom the masked protocol was made to withstand: "lying" or "curious".
      reason: why no add/remove epsilon can be stated; empty if it can.
    """

    epsilon_release: float
    epsilon_server: float
    delta: float
    unit: Unit
    relation_release: str
    relation_server: str
    accountant: str
    rounds: int
    quota: int
    trust: str
    bad_event_mass: float
    secure_aggregation: str
    server: str
    reason: str

    def words(self) -> str:
        """Returns the paragraphs that open a report."""
        if math.isinf(self.epsilon_release):
            return (
                "NO PRIVACY GUARANTEE. No noise was added: epsilon is infinite against everybody. "
                f"The {self.unit}s of this run are protected by clipping alone, which is no "
                "protection. Use it only to compare accuracy."
            )
        sampled = self.relation_release == "add/remove"
        what = (
            f"whether one {self.unit} of the population ever took part (add/remove; the size of "
            "the population is public), counting on the secrecy of who took part in which round."
            if sampled
            else f"what one {self.unit} said, not that it took part (zero-out), counting on no "
            f"sampling, because {self.reason}"
        )
        release = (
            "Readers of the published models: epsilon_release = "
            f"{_rounded_up(self.epsilon_release)} at "
            f"delta = {self.delta:.2e} over {self.rounds} rounds. It protects {what} This reader "
            "sees every published model, and no cohort size, survivor count, identity, timing or "
            "reason of an abort, and is neither the server nor a member of a cohort."
        )
        server = (
            f"The server: epsilon_server = {_rounded_up(self.epsilon_server)} at "
            f"delta = {self.delta:.2e}, "
            f"for a {self.unit} that takes part {min(self.rounds, self.quota)} times, the most "
            "that its quota allows. It protects what was said, not that somebody took part "
            "(zero-out). The server knows who takes part and sees the sum of each round, never a "
            f"single contribution. {sum_words(self.secure_aggregation, self.server)}"
        )
        trust = (
            f"Who must be honest: {self.trust} Unit: one {self.unit}, that is one device with all "
            f"its rounds, not one speaker of several. Accountant: {self.accountant}; probability "
            f"of events outside its argument: {self.bad_event_mass:.1e}, included in delta."
        )
        return "\n\n".join([release, server, trust])


def sum_words(secure_aggregation: str, server: str) -> str:
    """How sums were taken, and what that is worth in a simulation."""
    if secure_aggregation == "ideal":
        return (
            "The secure sum is simulated here (ideal), so this figure says what the protocol "
            "would give, not what this process kept from itself."
        )
    kind = {
        "lying": "a server that lies and chooses who drops out",
        "curious": "an honest but curious server, not for one that lies or chooses who drops out",
    }[server]
    return (
        f"Sums were taken by the masked protocol, with parameters for {kind}. A simulator plays "
        "both sides, so the protocol ran, and kept nothing from this machine."
    )


def price(
    spent: Sequence[tuple[RoundCost, int]],
    *,
    delta: float,
    unit: Unit,
    trust: str,
    secure_aggregation: str,
    server: str,
) -> Guarantee:
    """Composes rounds, of one plan or of several, into a guarantee.

    Both epsilons hold at `delta` with bad events inside: the accountant is asked at
    delta - e^eps' B, where eps' is its answer at 0.9 delta, so that the parts sum to at most delta.
    If e^eps' B exceeds delta / 10, no add/remove epsilon is stated and the release is priced like
    the server's view: zero-out at the quota, no amplification, and never a smaller number than the
    one withdrawn.

    A masking graph that does not protect is drawn with a probability `graph_mass` that delta pays
    for as it is, without e^epsilon: the graph is fixed before a phone sends anything that depends
    on its speech, so with such graphs set aside each other one gives (epsilon, delta), and setting
    them aside changes any probability by at most their mass, the same in both worlds.

    Args:
      spent: the cost of a round and the number of such rounds, failed ones included.
      delta: of the whole.
      unit: of privacy.
      trust: who must be honest, in words.
      secure_aggregation: how sums were taken.
      server: whom the masked protocol was made to withstand.

    Raises:
      ValueError: if a number of rounds is negative or delta is not in (0, 1).
    """
    if any(rounds < 0 for _, rounds in spent):
        raise ValueError(f"rounds must not be negative, got {[rounds for _, rounds in spent]}")
    release = np.zeros(accountant.ORDERS.shape)
    given_participation = np.zeros(accountant.ORDERS.shape)
    release_mass = server_mass = graph_mass = 0.0
    for cost, rounds in spent:
        if rounds == 0:
            continue
        release = release + rounds * accountant.rdp(cost.release)
        participations = min(rounds, cost.quota)
        given_participation = given_participation + participations * accountant.rdp(cost.server)
        # In both worlds the samplers are off their ideals, hence twice.
        server_mass += 2 * rounds * cost.tail_mass
        release_mass += quota_mass(rounds, cost.probability, cost.quota) + rounds * cost.floor_mass
        graph_mass += rounds * cost.graph_mass
    release_mass += server_mass

    epsilon_server = math.inf
    if graph_mass <= SHARE_OF_DELTA * delta:
        epsilon_server = _epsilon(given_participation, server_mass, delta - graph_mass)
    withdrawn = accountant.epsilon(release, (1 - SHARE_OF_DELTA) * delta)
    private = math.isfinite(epsilon_server)
    sampled = private and math.isfinite(withdrawn) and _fits(withdrawn, release_mass, delta)
    reason = ""
    if sampled:
        epsilon_release = _epsilon(release, release_mass, delta)
    elif private and math.isinf(withdrawn):
        epsilon_release = epsilon_server
        reason = "there are too few honest shares for a bound with sampling."
    else:
        epsilon_release = max(epsilon_server, withdrawn)
        reason = (
            f"events outside the argument have mass {release_mass:.1e}, and e^epsilon times that "
            "exceeds a tenth of delta."
        )
    relation_server = "zero-out" if private else "none"
    return Guarantee(
        epsilon_release=epsilon_release,
        epsilon_server=epsilon_server,
        delta=delta,
        unit=unit,
        relation_release="add/remove" if sampled else relation_server,
        relation_server=relation_server,
        accountant=accountant.NAME,
        rounds=sum(rounds for _, rounds in spent),
        quota=sum(cost.quota for cost, _ in spent),
        trust=trust,
        bad_event_mass=release_mass if sampled else server_mass,
        secure_aggregation=secure_aggregation,
        server=server,
        reason=reason if private else "no noise was added.",
    )


def _rounded_up(epsilon: float) -> str:
    """Writes an epsilon with three decimals, never smaller than it is."""
    return f"{math.ceil(round(epsilon * 1000, 6)) / 1000:.3f}"


def _fits(epsilon: float, mass: float, delta: float) -> bool:
    """Whether e^epsilon * mass stays within its share of delta, without overflow."""
    return mass == 0 or epsilon + math.log(mass) <= math.log(SHARE_OF_DELTA * delta)


def _epsilon(curve: accountant.FloatArray, mass: float, delta: float) -> float:
    """Epsilon at delta with bad events inside; infinite if they do not fit."""
    above = accountant.epsilon(curve, (1 - SHARE_OF_DELTA) * delta)
    if math.isinf(above) or not _fits(above, mass, delta):
        return math.inf
    return accountant.epsilon(curve, delta - math.exp(above) * mass)
