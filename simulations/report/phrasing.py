"""The guarantee in plain words, the terms a reader may not know, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.work_policy import WorkPolicy
from fedspeech.evaluation.collapse import DRAWS
from fedspeech.evaluation.metric import ERROR, Unit
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import (
    READER,
    RELATIONS,
    only_said,
    rounded_up,
    scientific_up,
    sum_words,
    tier,
)
from simulations.results.account import Account
from simulations.results.summary import Summary


@dataclass(frozen=True)
class Promise:
    """One epsilon in words.

    Attributes:
      says: what that observer sees and cannot tell.
    """

    symbol: str
    value: str
    against: str
    says: str
    relation: str
    finite: bool


def promises(guarantee: Guarantee) -> tuple[Promise, Promise]:
    """Returns what holds against readers of the published models, and against the server."""
    unit = guarantee.unit
    release, server = guarantee.epsilon_release, guarantee.epsilon_server
    return (
        Promise(
            symbol="epsilon_release",
            value=epsilon(release),
            against="Against whoever reads the published models",
            says=f"This reader {READER} {_odds(release, unit)}",
            relation=_relation(guarantee.relation_release, unit),
            finite=math.isfinite(release),
        ),
        Promise(
            symbol="epsilon_server",
            value=epsilon(server),
            against="Against the server",
            says=(
                "It knows who takes part and sees "
                + (
                    "each phone’s vector. "
                    if guarantee.mechanism == "local"
                    else "each round’s sum. "
                )
                + "Priced for a phone that joins as often as it may, in "
                + f"{min(guarantee.max_participations, guarantee.rounds)} rounds. "
                + _odds(server, unit)
            ),
            relation=_relation(guarantee.relation_server, unit),
            finite=math.isfinite(server),
        ),
    )


def caveats(account: Account) -> tuple[str, ...]:
    """Returns what else must be read beside the two epsilons."""
    guarantee = account.guarantee
    if guarantee.mechanism == "none":
        return ()
    found = [sum_words(guarantee.mechanism, guarantee.secure_aggregation, guarantee.threat_model)]
    if guarantee.reason and math.isfinite(guarantee.epsilon_release):
        found.append(f"The first figure protects {only_said(guarantee.unit, guarantee.reason)}")
    elif guarantee.reason:
        found.append(f"No figure can be stated against readers, because {guarantee.reason}")
    found.append(
        "Cohort members see the cohort list: the first figure does not hold against them. "
        "Personalized adapters stay on their phone and are covered by neither figure. "
        + (
            "Both figures are of this run alone: another run on the same speakers adds its own."
            if account.runs_charged == 1
            else f"Both figures cover all {account.runs_charged} runs that this population’s "
            "ledger was charged for so far."
        )
    )
    return tuple(found)


def collapse(summary: Summary) -> str:
    """Says that noise drowned what phones taught, and what to change; "" where it did not.

    Where held-out phones got better, whatever public speakers lost, there is no collapse.
    """
    found, errors = summary.utility, summary.section(ERROR).by_model()
    if found is None or not found.collapsed or found.by_noise is None:
        return ""
    if errors and errors["federated"].value <= errors["base"].value:
        return ""
    return (
        f"Utility collapse: noise drowned what the phones taught. Over {summary.rounds} rounds the "
        f"sums held {found.signal_to_noise:.1f} times as much signal as noise. Accuracy on "
        f"public validation speakers went from {percent(found.base)} to "
        f"{percent(found.federated)} (tested at three standard errors); steps of the same lengths "
        f"with noise alone bring it to {percent(found.by_noise)} (median of {DRAWS} draws, nearly "
        "all of which cost at least half of the fall). What helps, first what costs no privacy: "
        "more phones per round (a larger population, or a higher participation probability at its "
        "price), fewer "
        "trained parameters (a smaller adapter), a lower server learning rate, a lower clip norm "
        "at the same learning rate, fewer rounds; then a smaller noise multiplier, which costs "
        "epsilon. fedspeech tune searches clip norm and noise."
    )


def price(guarantee: Guarantee, rounds: Literal["charged", "planned"]) -> str:
    """Both epsilons in one line, with everything but whom to trust."""
    how = {
        "ideal": " (the secure sum is simulated)",
        "masked": f" (masked, made for a {guarantee.threat_model} server)",
    }[guarantee.secure_aggregation]
    if guarantee.mechanism == "local":
        how = ""
    return (
        f"epsilon {epsilon(guarantee.epsilon_release)} against readers of the published models "
        f"({guarantee.relation_release}; {tier(guarantee.epsilon_release)}), "
        f"{epsilon(guarantee.epsilon_server)} against the server{how} "
        f"({guarantee.relation_server}; {tier(guarantee.epsilon_server)}); "
        f"delta {scientific_up(guarantee.delta, 1)}, unit one {guarantee.unit}, {guarantee.rounds} "
        f"rounds {rounds}, {guarantee.accountant}"
    )


def epsilon(value: float) -> str:
    """Writes an epsilon, rounded up so that print never promises more than was proven."""
    if math.isinf(value):
        return "∞"
    return f"{Decimal(rounded_up(value, 2 if value < 10 else 1)):,}"


def delta(value: float) -> str:
    """Writes a delta as a power of ten and as odds, neither below what was proven."""
    if value == 0:
        return "0"
    mantissa, _, exponent = scientific_up(value, 1).partition("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{power} (1 in {math.floor(1 / value):,})"


def sentence(text: str) -> str:
    """Writes a text with a capital and a full stop."""
    return capital(text).rstrip(".") + "."


def capital(text: str) -> str:
    """Writes a text with a capital."""
    return text[:1].upper() + text[1:]


def percent(share: float) -> str:
    """Writes a share as per cent with one decimal."""
    return f"{100 * share:.1f} %"


def value(number: float, unit: Unit) -> str:
    """Writes a figure in its unit."""
    match unit:
        case "share":
            return percent(number)
        case "probability":
            return f"{number:.4f}"
        case "number":
            return f"{number:.3f}"


def change(difference: float, unit: Unit) -> str:
    """Writes a difference in its unit, shares as points."""
    if unit == "share":
        return points(difference)
    text = f"{difference:+.3f}"
    return ("±0.0" if float(text) == 0 else text).replace("-", "−")


def points(difference: float) -> str:
    """Writes a difference of shares as signed percentage points."""
    text = f"{100 * difference:+.1f}"
    return ("±0.0" if float(text) == 0 else text).replace("-", "−")


def size(num_bytes: float) -> str:
    """Writes a number of bytes with the decimal unit that suits it."""
    if num_bytes < 1000:
        return f"{num_bytes:,.0f} B"
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:,.1f} kB"
    return f"{num_bytes / 1e6:,.1f} MB"


def drawn(phones: int, voices: int) -> str:
    """What it means that a population is drawn from fewer voices."""
    return (
        f"{phones:,} phones drawn from {voices:,} voices, a random half of a voice's clips on "
        "each: the promise is to a phone, and a voice is on many"
    )


def duration(seconds: float) -> str:
    """Writes seconds, with minutes where there are any."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def policy(settings: Mapping[str, Any]) -> str:
    """What phones of a scenario require before they work, agree to and hold, in a sentence.

    Args:
      settings: the scenario's, under dotted names; what is not set is at its default.
    """
    key = "device.policy."
    asked = [
        words
        for name, words in (("charging", "charged"), ("wifi", "on wifi"), ("idle", "idle"))
        if settings.get(key + name, True)
    ]
    battery = settings.get(key + "least_battery", WorkPolicy.least_battery)
    when = ", ".join(asked) or "at any time"
    said = f"A phone works {when}, at {battery:.0%} of its battery or more"
    rate = settings.get("device.consent_rate", 1.0)
    revoked = settings.get("device.revoked_a_day", 0.0)
    said += f"; {percent(rate)} of the users agree"
    if revoked:
        said += f", and {percent(revoked)} of those take it back each day"
    if (captures := settings.get("device.captures_a_day")) is not None:
        days = settings.get("device.clip_days", PhoneRules.clip_days)
        said += f"; it keeps a clip {captures:g} times a day for {days:g} days"
    return said + "."


def _odds(value: float, unit: str) -> str:
    if math.isinf(value):
        return f"Nothing is promised: they may learn everything one {unit} contributed."
    if value > 20:
        return f"So large an ε is no protection to speak of for one {unit}."
    factor = math.exp(value)
    most = f"{math.ceil(100 * factor) / 100:,.2f}" if value < 3 else f"{math.ceil(factor):,}"
    return (
        f"Any one {unit} changes the odds of what they see at most by a factor of {most} (e to "
        "the ε)."
    )


def _relation(relation: str, unit: str) -> str:
    meaning = RELATIONS.get(relation)
    return f"{relation}: {meaning.format(unit=unit)}" if meaning else relation
