"""What is said of a guarantee, each sentence once: for console, ledger, card, budget and report.

Words about trust, relation, reasons and assumptions are part of the claim, so no page has its own.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

from fedspeech.privacy import binomial_tails
from fedspeech.privacy.adversary_views import View
from fedspeech.privacy.events import CorrelatedGaussian, RoundCost
from fedspeech.privacy.examples import ExampleGuarantee
from fedspeech.privacy.factorization import MOST_ROUNDS, advantage
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.sizing import PlanSizing
from fedspeech.secagg.graph import ThreatModel

NO_NOISE = (
    "No noise is added: epsilon is infinite against everybody. Clipping alone is no protection: "
    "what is learned may reveal what any one person said. Never publish a model trained like this "
    "on real recordings; use it only to compare accuracy."
)

READER = (
    "sees every published model, and no cohort size, reporting phone count, identity, timing or "
    "reason of "
    "an abort, is neither the server nor a member of a cohort, and is told nothing by either."
)

LARGEST_EXPONENT = 700.0  # whose exponential is a float

SERVER_ADDS_NOISE = "it adds the noise itself, to sums that it sees without"

RELATIONS = {
    "add/remove": (
        "compares one {unit} taking part with that {unit} never having taken part; the size of the "
        "population is public and the same"
    ),
    "zero-out": (
        "compares what one {unit} said with having said nothing; that it took part is not hidden"
    ),
    "replace": "compares one {unit} with another in its place",
}

_TRUST_IN_PROTOCOL: dict[ThreatModel, str] = {
    "malicious": "the server, which may lie, does not hold the directory of identities",
    "semi_honest": (
        "server and colluders keep the rules of the protocol and do not choose who drops out, and "
        "the server does not hold the directory of identities"
    ),
}


def trust(plan: PlanSizing) -> str:
    """Who must be honest, in one sentence."""
    noise = "the server adds the noise and shows nobody a sum without"
    if plan.factorization is not None:
        noise += ", nor the secret from which it draws that of all rounds"
    if plan.on_phones:
        against = "against the server nobody; against readers " if plan.mechanism == "local" else ""
        noise = (
            f"{against}{plan.honest:,} phones of every sum add their noise and tell nobody "
            f"({plan.min_reporting:,} answers open it, {plan.colluders:,} phones may collude)"
        )
    parts = [noise, _trust_in_participation(plan)]
    if plan.groups > 1:
        parts.append(
            f"a round has the sums of {plan.groups} groups, which the server sees, and these "
            "numbers hold of each of them"
        )
    if plan.availability < 1:
        parts.append(
            f"at least {plan.availability:.1%} of the population is there whenever a round "
            "begins, whatever its data"
        )
    if plan.secure_aggregation == "masked":
        parts.append(_TRUST_IN_PROTOCOL[plan.threat_model])
    return "; ".join(parts) + "."


def _trust_in_participation(plan: PlanSizing) -> str:
    if plan.drawn_by_server:
        return "whom the server draws, no reader learns from it or from a phone"
    if plan.participation == "round_robin":
        if plan.factorization is not None:
            apart = plan.factorization.min_separation
            return f"each phone counts its rounds and keeps {apart:,} from one to its next"
        return "each phone counts its rounds"
    return "each phone keeps its coin secret"


def paragraphs(guarantee: Guarantee) -> str:
    """Returns the paragraphs that open a report."""
    if guarantee.mechanism == "none":
        return f"NO PRIVACY GUARANTEE. {NO_NOISE}"
    trust = (
        f"Who must be honest: {guarantee.trust} Unit: one {guarantee.unit}, that is one device "
        f"with all its rounds, not one speaker of several. Accountant: {guarantee.accountant}; "
        "probability of events outside its argument: "
        f"{scientific_up(guarantee.failure_probability, 1)}, included in delta."
    )
    return "\n\n".join([_against_readers(guarantee), _against_server(guarantee), trust])


def _against_readers(guarantee: Guarantee) -> str:
    epsilon = guarantee.epsilon_release
    if math.isfinite(epsilon):
        return (
            f"Readers of the published models: epsilon_release = {rounded_up(epsilon)} at "
            f"delta = {scientific_up(guarantee.delta)} over {guarantee.rounds} rounds, "
            f"{judgment(epsilon)}. {_protects(guarantee)} This reader {READER}"
        )
    loud = "NO PRIVACY GUARANTEE. " if math.isinf(guarantee.epsilon_server) else ""
    return (
        f"{loud}Readers of the published models: no epsilon can be stated, because "
        f"{guarantee.reason or 'there is no bound.'}"
    )


def _against_server(guarantee: Guarantee) -> str:
    epsilon = guarantee.epsilon_server
    if math.isinf(epsilon):
        why = "no finite bound can be stated"
        if guarantee.mechanism in ("central", "matrix_factorization"):
            why = SERVER_ADDS_NOISE
        return f"The server: epsilon_server is infinite, because {why}. It has to be trusted."
    times = min(guarantee.rounds, guarantee.max_participations)
    return (
        f"The server: epsilon_server = {rounded_up(epsilon)} at "
        f"delta = {scientific_up(guarantee.delta)}, {judgment(epsilon)}, for a "
        f"{guarantee.unit} that takes part {times} times, the most that its participation limit "
        "allows. It protects what was said, not that somebody took part "
        f"({guarantee.relation_server}). "
        + sum_words(guarantee.mechanism, guarantee.secure_aggregation, guarantee.threat_model)
    )


def example_paragraph(found: ExampleGuarantee) -> str:
    """Returns the paragraph about single examples, apart from the figures of a phone."""
    what = "was there" if found.relation == "add/remove" else "said"
    whose = "Of this run alone: another adds its own."
    if found.runs > 1:
        whose = f"Of all {found.runs} runs that trained so; others hide no single example."
    return (
        "Example-level, apart from the figures above and never added to them: epsilon = "
        f"{rounded_up(found.epsilon)} at delta = {scientific_up(found.delta)} against whoever sees "
        "what a phone sends, the server included. Unit: one example, not one person, whose "
        f"examples share the voice. It protects {'whether' if what == 'was there' else 'what'} "
        f"one example of a phone {what} ({found.relation}), over {found.participations} rounds "
        f"with {found.steps} steps in all, the most that a phone takes part in. Gradients of "
        f"single examples are clipped to {_each(found.clip_norms)}, with noise of "
        f"{_each(found.noise_multipliers)} times that on each step. Accountant: "
        f"{found.accountant}. Who must be honest: the phone alone, which tells nobody its coins "
        f"and noise. {whose}"
    )


def _each(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


def _protects(guarantee: Guarantee) -> str:
    if guarantee.relation_release == "zero-out":
        return f"It protects {only_said(guarantee.unit, guarantee.reason)}"
    if guarantee.relation_release == "replace":
        return (
            f"It protects what one {guarantee.unit} said, against what another would have said in "
            "its place (replace), counting on the secrecy of who was drawn in which round."
        )
    what = (
        f"It protects whether one {guarantee.unit} of the population ever took part (add/remove; "
        "the size of the population is public), counting on "
    )
    if guarantee.amplified:
        return what + "the secrecy of who took part in which round."
    return (
        what
        + f"no sampling: a {guarantee.unit} joins at most {guarantee.max_participations} rounds."
    )


def only_said(unit: str, reason: str) -> str:
    """What is protected where no sampling is counted on, and why not more is."""
    return (
        f"what one {unit} said, not that it took part (zero-out), counting on no sampling, because "
        f"{reason}"
    )


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
    if epsilon > LARGEST_EXPONENT:
        return tier(epsilon)
    factor = math.exp(epsilon)
    # To one decimal or two digits, and up: to the nearest, "at most" would be wrong for half.
    step = 0.1 if factor < 100 else 10.0 ** (math.floor(math.log10(factor)) - 1)
    most = math.ceil(factor / step) * step
    odds = f"{most:,.1f}" if factor < 100 else f"{most:,.0f}" if most < 1e6 else f"{most:.1e}"
    return f"{tier(epsilon)} (the odds of a guess change by a factor of {odds} at most)"


def sum_words(mechanism: str, secure_aggregation: str, threat_model: str) -> str:
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
        "malicious": "a server that lies and chooses who drops out",
        "semi_honest": "a semi-honest server, not for one that lies or chooses who drops out",
    }[threat_model]
    return seen + (
        f"Sums were taken by the masked protocol, with parameters for {kind}. A simulator plays "
        "both sides, so the protocol ran, and kept nothing from this machine."
    )


def assumptions(plan: PlanSizing, cost: RoundCost, assumed: frozenset[str]) -> list[str]:
    """Everything that a plan's two epsilons stand on, one sentence each.

    Fields that nobody gave are named in `assumed`.
    """
    return [
        *_about_participation(plan, assumed),
        *_about_noise(plan, cost, assumed),
        *_about_minimums(plan, cost, assumed),
        f"A reader of the models {READER}",
        "One phone is one user with all its rounds; a person with two phones spends twice.",
        "Every release to this population is in this account: training, statistics, evaluation, "
        "tuning, failed rounds.",
    ]


def warnings(plan: PlanSizing, release: View, server: View) -> list[str]:
    """Returns what a reader must not overlook."""
    if plan.mechanism == "none":
        return [NO_NOISE]
    names: dict[str, list[str]] = {}
    for name, view in (("epsilon_release", release), ("epsilon_server", server)):
        if view.reason and math.isinf(view.epsilon):
            names.setdefault(view.reason, []).append(name)
    lines = [
        f"{' and '.join(infinite)} {'is' if len(infinite) == 1 else 'are'} infinite: {reason}."
        for reason, infinite in names.items()
    ]
    if release.reason and math.isfinite(release.epsilon):
        lines.append(f"epsilon_release protects {only_said(plan.unit, release.reason)}.")
    return lines


def _about_participation(plan: PlanSizing, assumed: frozenset[str]) -> list[str]:
    q, n = plan.participation_probability, plan.expected_cohort
    said = {
        "poisson": f"Every phone joins each round by a coin of its own with probability {q:.4g} "
        f"(expected cohort {n:,.12g}), whatever it holds and whatever happened before.",
        "fixed_size": f"Every cohort is a uniformly random set of {round(n):,} of "
        f"{plan.population:,} phones, drawn afresh each round.",
        "round_robin": "Anybody may know who takes part; no phone joins more than "
        f"{plan.participations:,} of {plan.rounds:,} rounds, and none joins because another does "
        "or does not.",
    }[plan.participation]
    lines = [said]
    if plan.availability < 1:
        lines.append(
            f"At least {plan.availability:.1%} of the population is there whenever a round "
            "begins, each phone for itself and whatever its data; some more often than others, and "
            "everybody may know which. Cohort and minimum count the fewest. Being away buys "
            "nothing: a phone joins with at most the probability of its coin, and only the coin "
            "amplifies."
        )
    if plan.groups > 1:
        lines.append(
            f"Phones are dealt to {plan.groups} groups by a public seed, whoever comes; a phone is "
            "in one of their sums, and each sum has the noise of a whole round. All colluders may "
            "be in one group."
        )
    if plan.participation != "round_robin" and plan.participations < plan.rounds:
        given = " (chosen here)" if "max_participations" in assumed else ""
        stopped = binomial_tails.max_participations_failure(plan.rounds, q, plan.participations)
        lines.append(
            f"A phone stops for good after {plan.participations:,} rounds{given}; its chance of "
            f"being stopped, {stopped:.1e}, is a bad event."
        )
    return lines


def _about_noise(plan: PlanSizing, cost: RoundCost, assumed: frozenset[str]) -> list[str]:
    if plan.central:
        return [
            "The server adds a Gaussian that is rounded to the grid on which phones send integers: "
            "a rounded Gaussian mechanism, so prices of the continuous one hold. The multiplier is "
            "over the norm of a vector after rounding.",
            *_about_correlation(plan, cost, assumed),
        ]
    if not plan.on_phones:
        return []
    known, ring = f"A delta has {plan.dimension:,} coordinates", plan.ring
    if "dimension" in assumed:
        known = f"The number of coordinates was not given: {plan.dimension:,} are assumed"
    lines = [f"{known}, {plan.padded_dimension:,} as it travels."]
    if plan.participation == "poisson" or (
        plan.participation == "round_robin" and plan.mechanism != "skellam"
    ):
        lines.append(
            "A phone that stays away withholds its noise too; what the variance of the sum "
            "tells of that is in the price."
        )
    rounding = (
        "counts are whole and are not rounded"
        if plan.whole
        else f"rounding raises the sensitivity by {100 * (ring.sensitivity / ring.norm - 1):.2f} %"
    )
    lines.append(
        f"Integers mod 2^{ring.bits}; {rounding}; noise of one phone has stddev "
        f"{plan.stddev:.4g} in integer units."
    )
    if plan.mechanism == "local":
        lines.append("The server may see each phone's noisy vector: no secure sum is assumed.")
    elif plan.secure_aggregation == "masked":
        lines.append(
            "The server sees masked sums only. That a masking graph does not protect is "
            f"counted in epsilon_server, {cost.graph_failure:.1e} a round."
        )
    else:
        lines.append(
            "The server sees sums only: the secure sum is taken as ideal, and the chance that "
            "its protocol fails is not in epsilon_server."
        )
    if plan.participation == "fixed_size":
        lines.append("All phones are equally likely to drop out.")
    return lines


def _about_correlation(plan: PlanSizing, cost: RoundCost, assumed: frozenset[str]) -> list[str]:
    """What noise that is correlated over rounds costs, and what it brings."""
    event, how = cost.given, plan.factorization
    if how is None or not isinstance(event, CorrelatedGaussian):
        return []
    filled = " and ".join(name for name in ("min_separation", "bands") if name in assumed)
    chosen = f" ({filled} chosen here)" if filled else ""
    lines = [
        f"Noise of a round takes back noise of the {how.bands - 1:,} before it: the strategy is "
        f"the square root of the sums of all rounds (momentum {how.momentum:g}), cut to "
        f"{how.bands:,} bands{chosen}. All rounds together are one event: a phone that joins at "
        f"most {plan.participations:,} rounds, any two at least {how.min_separation:,} apart, "
        f"moves it by {event.norm(plan.participations):.4g} clip norms."
    ]
    if plan.rounds <= MOST_ROUNDS:
        times = advantage(
            event.coefficients, plan.rounds, how.momentum, how.min_separation, plan.participations
        )
        lines.append(
            f"Independent noise of the same epsilon would leave {times:.3g} times as much noise in "
            "the model (root mean square over all rounds; for a server that steps with this "
            "momentum, whatever its learning rate)."
        )
    return lines


def _about_minimums(plan: PlanSizing, cost: RoundCost, assumed: frozenset[str]) -> list[str]:
    given = " (chosen here)" if "min_reporting" in assumed else ""
    parts = "" if plan.groups == 1 else f" in each of its {plan.groups} groups"
    lines = [
        f"No round begins with fewer than {plan.min_cohort:,} phones{parts} and no sum of fewer "
        f"than {plan.min_reporting:,} answers is opened{given}; rounds below that are abandoned, "
        "and never drawn again.",
        f"{plan.dropout_rate:.0%} of those who would come drop out, each for itself and whatever "
        "its data; that one phone decides a round is a bad event of probability "
        f"{scientific_up(cost.minimum_failure, 1)} per round.",
    ]
    if plan.cohort_cap is not None:
        lines.append(
            f"Of more than {plan.cohort_cap:,} that come, a random {plan.cohort_cap:,} are let "
            + ("in (a bad event)." if plan.on_phones else "in (priced).")
        )
    return lines


def rounded_up(value: float, digits: int = 3) -> str:
    """Writes an epsilon, or noise, with so many decimals: read back, it is never below `value`.

    Exact in the decimals by which Python writes a float, so that 1.1 is no "1.101".
    """
    if math.isinf(value):
        return "infinite"
    shortest = Decimal(repr(float(value)))
    return str(shortest.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING))


def scientific_up(value: float, digits: int = 2) -> str:
    """Writes a delta, or another probability, as "1.00e-05": read back, it is never below `value`.

    Exact in the decimals by which Python writes a float; `digits` stand behind the point.
    """
    shortest = Decimal(repr(float(value)))
    last = Decimal(1).scaleb(shortest.adjusted() - digits)
    return f"{float(shortest.quantize(last, rounding=ROUND_CEILING)):.{digits}e}"
