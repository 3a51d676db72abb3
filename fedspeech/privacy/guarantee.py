"""Two epsilons and everything that must stand next to them.

An epsilon without its adversary, unit, relation, delta, accountant, rounds and trust assumption is
a defect, so there is no way to obtain one alone: pricing gives a `Guarantee`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from fedspeech.privacy import adversary_views
from fedspeech.privacy.adversary_views import Spent
from fedspeech.privacy.config import Mechanism, Unit


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What a phone is promised, against whom, and on what condition.

    Attributes:
      epsilon_release: against somebody who reads every published model.
      epsilon_server: against the server, which knows who took part; simulated under "ideal".
      delta: of both, bad events included.
      unit: whose whole contribution is protected.
      relation_release: neighboring relation of `epsilon_release`: "add/remove", "replace",
        "zero-out" or "none".
      relation_server: "zero-out" (what a phone said, not that it took part), "replace" (likewise,
        against anything else it could have said) or "none".
      amplified: whether `epsilon_release` counts on the secrecy of who took part.
      accountant: how it was computed.
      rounds: rounds charged, failed ones included.
      quota: participations at which a phone is priced at most when no sampling is counted on.
      trust: who must be honest, in words.
      bad_event_mass: probability of what the accountant's argument leaves out, all rounds.
      secure_aggregation: how sums were taken: "masked" or "ideal".
      server: whom the masked protocol was made to withstand: "lying" or "curious".
      mechanism: where noise was added.
      reason: why the relation is weaker than participation would give; empty if it is not.
    """

    epsilon_release: float
    epsilon_server: float
    delta: float
    unit: Unit
    relation_release: str
    relation_server: str
    amplified: bool
    accountant: str
    rounds: int
    quota: int
    trust: str
    bad_event_mass: float
    mechanism: Mechanism
    secure_aggregation: str
    server: str
    reason: str

    def words(self) -> str:
        """Returns the paragraphs that open a report."""
        if self.mechanism == "none":
            return (
                "NO PRIVACY GUARANTEE. No noise was added: epsilon is infinite against everybody. "
                f"The {self.unit}s of this run are protected by clipping alone, which is no "
                "protection. Use it only to compare accuracy."
            )
        if math.isinf(self.epsilon_release):
            release = (
                "Readers of the published models: no epsilon can be stated, because "
                f"{self.reason or 'there is no bound.'}"
            )
            if math.isinf(self.epsilon_server):
                release = "NO PRIVACY GUARANTEE. " + release
        else:
            release = (
                "Readers of the published models: epsilon_release = "
                f"{rounded_up(self.epsilon_release)} at "
                f"delta = {self.delta:.2e} over {self.rounds} rounds, "
                f"{judgment(self.epsilon_release)}. {self._protects()} This reader "
                "sees every published model, and no cohort size, survivor count, identity, timing "
                "or reason of an abort, is neither the server nor a member of a cohort, and is "
                "told nothing by either."
            )
        if math.isinf(self.epsilon_server):
            why = "no finite bound can be stated"
            if self.mechanism == "central":
                why = "it adds the noise itself, to sums that it sees without"
            server = f"The server: epsilon_server is infinite, because {why}. It has to be trusted."
        else:
            server = (
                f"The server: epsilon_server = {rounded_up(self.epsilon_server)} at "
                f"delta = {self.delta:.2e}, {judgment(self.epsilon_server)}, "
                f"for a {self.unit} that takes part {min(self.rounds, self.quota)} times, the most "
                "that its quota allows. It protects what was said, not that somebody took part "
                f"({self.relation_server}). "
                + sum_words(self.mechanism, self.secure_aggregation, self.server)
            )
        trust = (
            f"Who must be honest: {self.trust} Unit: one {self.unit}, that is one device with all "
            f"its rounds, not one speaker of several. Accountant: {self.accountant}; probability "
            f"of events outside its argument: {self.bad_event_mass:.1e}, included in delta."
        )
        return "\n\n".join([release, server, trust])

    def _protects(self) -> str:
        """What the figure against readers is about."""
        if self.relation_release == "zero-out":
            return (
                f"It protects what one {self.unit} said, not that it took part (zero-out), "
                f"counting on no sampling, because {self.reason}"
            )
        if self.relation_release == "replace":
            return (
                f"It protects what one {self.unit} said, against what another would have said in "
                "its place (replace), counting on the secrecy of who was drawn in which round."
            )
        what = (
            f"It protects whether one {self.unit} of the population ever took part (add/remove; "
            "the size of the population is public), counting on "
        )
        if self.amplified:
            return what + "the secrecy of who took part in which round."
        return what + f"no sampling: a {self.unit} takes part {self.quota} times at most."


def tier(epsilon: float) -> str:
    """Says in a word or two what an epsilon is worth.

    The bounds are those of Ponomareva et al. 2023 (arXiv:2303.00654), section 5.2.1: up to 1
    "strong", up to 10 "reasonable", above "weak to no" formal protection.
    """
    if math.isinf(epsilon):
        return "no protection"
    return "strong" if epsilon <= 1 else "reasonable" if epsilon <= 10 else "weak by itself"


def judgment(epsilon: float) -> str:
    """Says what an epsilon is worth: its tier, and the factor that any guess may gain in odds."""
    if math.isinf(epsilon):
        return tier(epsilon)
    factor = math.exp(min(epsilon, 700.0))
    odds = f"{factor:,.1f}" if factor < 100 else f"{factor:.0e}"
    return f"{tier(epsilon)} (the odds of a guess change by a factor of {odds} at most)"


def sum_words(mechanism: str, secure_aggregation: str, server: str) -> str:
    """How sums were taken, and what that is worth in a simulation."""
    if mechanism == "local":
        return (
            "The server sees every vector; each is noisy enough by itself, and no secure sum is "
            "counted on."
        )
    seen = (
        "The server knows who takes part and sees the sum of each round, never a single "
        "contribution. "
    )
    if secure_aggregation == "ideal":
        return seen + (
            "The secure sum is simulated here (ideal), so this figure says what the protocol "
            "would give, not what this process kept from itself."
        )
    kind = {
        "lying": "a server that lies and chooses who drops out",
        "curious": "an honest but curious server, not for one that lies or chooses who drops out",
    }[server]
    return seen + (
        f"Sums were taken by the masked protocol, with parameters for {kind}. A simulator plays "
        "both sides, so the protocol ran, and kept nothing from this machine."
    )


def price(
    spent: Spent,
    *,
    delta: float,
    unit: Unit,
    trust: str,
    mechanism: Mechanism,
    secure_aggregation: str,
    server: str,
) -> Guarantee:
    """Composes rounds, of one plan or of several, into a guarantee.

    `fedspeech.privacy.adversary_views` says how; the release is never priced below what a phone
    that took part at its quota pays without any sampling.

    Args:
      spent: the cost of a round and the number of such rounds, failed ones included.
      delta: of the whole.
      unit: of privacy.
      trust: who must be honest, in words.
      mechanism: of the plan that asks.
      secure_aggregation: how sums were taken.
      server: whom the masked protocol was made to withstand.

    Raises:
      ValueError: if a number of rounds is negative or delta is not in (0, 1).
    """
    if any(rounds < 0 for _, rounds in spent):
        raise ValueError(f"rounds must not be negative, got {[rounds for _, rounds in spent]}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got delta={delta}")
    release, against_server = (
        adversary_views.release(spent, delta),
        adversary_views.server(spent, delta),
    )
    return Guarantee(
        epsilon_release=release.epsilon,
        epsilon_server=against_server.epsilon,
        delta=delta,
        unit=unit,
        relation_release=release.relation,
        relation_server=against_server.relation,
        amplified=release.amplified,
        accountant=_NAMES[release.claim],
        rounds=sum(rounds for _, rounds in spent),
        quota=sum(cost.quota for cost, rounds in spent if rounds)
        or max(cost.quota for cost, _ in spent),
        trust=trust,
        bad_event_mass=release.bad_event_mass,
        mechanism=mechanism,
        secure_aggregation=secure_aggregation,
        server=server,
        reason=_sentence(release.reason)
        if release.reason or mechanism != "none"
        else "no noise was added.",
    )


_NAMES = {
    "rdp": "Renyi divergences, the noise of absent phones included (dp-accounting)",
    "pld": "privacy loss distributions (dp-accounting)",
}


def _sentence(reason: str) -> str:
    return f"{reason}." if reason else ""


def rounded_up(value: float, digits: int = 3) -> str:
    """Writes an epsilon, or noise, with so many decimals: read back, it is never below `value`.

    Exact in the decimals by which Python writes a float, so that 1.1 is no "1.101".
    """
    if math.isinf(value):
        return "infinite"
    shortest = Decimal(repr(float(value)))
    return str(shortest.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING))
