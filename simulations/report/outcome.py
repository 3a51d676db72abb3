"""What a run brought and what it made worse, in sentences, on the console and on the page.

Nothing here is a matter of taste: a stage whose error is larger than an earlier one's is said to be
worse, with both figures, where the interval of the difference leaves out zero; where it holds zero,
that nothing can be told. How many phones went which way stands beside what luck would give.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedspeech.evaluation.metric import (
    CHANGE,
    ERROR,
    REGRESSION,
    VALIDATION,
    Interval,
    Metric,
    Model,
    Section,
    since,
)
from fedspeech.evaluation.streaming import binomial_interval, poisson_interval
from simulations.report.phrasing import percent, value
from simulations.results.exported import Listening
from simulations.results.summary import Summary


def headline_lines(summary: Summary) -> Iterator[str]:
    """The headline metrics of every section that has some, models and variants side by side."""
    return (line for section in summary.sections if (line := _headline(section)))


def _headline(section: Section) -> str:
    """Metrics of a section by model, several of one model with a stroke between them."""
    found = [metric for metric in section.whole if metric.headline]
    if not found:
        return ""
    names = dict.fromkeys(metric.name for metric in found)
    values: dict[str, dict[str, str]] = {}
    for metric in found:
        values.setdefault(metric.whose, {})[metric.name] = value(metric.value, metric.unit)
    on = f" ({section.on})" if section.on else ""
    said = ", ".join(
        f"{whose} {' / '.join(of.get(name, '–') for name in names)}".strip()
        for whose, of in values.items()
    )
    return f"{' / '.join(names)}{on}: {said}"


def setbacks(summary: Summary) -> tuple[str, ...]:
    """Returns one sentence or two for each thing that became worse; empty if nothing did."""
    return (*_no_gain(summary), *_worse_stages(summary), *_worse_phones(summary))


def worse(found: Metric) -> str:
    """How many phones make more mistakes, beside chance; never a share of phones that all stayed.

    Where no example of any phone is answered otherwise than before, 0 % worse would read as praise.
    """
    if not found.counted:
        return "no example of any phone is answered otherwise than before"
    chance = "" if found.by_chance is None else f" (by luck alone {percent(found.by_chance)})"
    return f"{percent(found.value)} of phones make more mistakes than before{chance}"


def _no_gain(summary: Summary) -> Iterator[str]:
    """The federated stage did not beat its base on public validation speakers."""
    errors = summary.section(VALIDATION).by_model()
    if summary.start == "federated" or not errors or not summary.rounds_planned:
        return
    base, federated = errors["base"], errors["federated"]
    yield (
        f"Training together gained nothing: {base.name} on {base.phones} public validation "
        f"speaker{'' if base.phones == 1 else 's'}: base {percent(base.value)}, after "
        f"{summary.rounds} rounds {percent(federated.value)}. The base is what phones personalize "
        "from and what is exported."
    )


def _worse_stages(summary: Summary) -> Iterator[str]:
    """A later stage has a larger error than an earlier one, on held-out phones, or may have."""
    found = summary.section(ERROR).by_model()
    if "personalized" in found:
        yield from _held_against(summary, "Personalizing", summary.start, "personalized")
    if "federated" not in found:
        return
    yield from _held_against(summary, "Training together", "base", "federated")
    base, federated, last = (found[m].value for m in ("base", "federated", "personalized"))
    ends_worse = last > base and _change(summary, "base", "personalized").low > 0
    if summary.start == "federated" and federated > base and ends_worse:
        yield (
            f"The run ends worse than it began: {found['base'].name} {percent(base)} with the "
            f"base, {percent(last)} after personalizing."
        )


def _held_against(summary: Summary, what: str, before: Model, after: Model) -> Iterator[str]:
    """Two stages of which the later one is worse, or no better as far as these phones tell."""
    found = summary.section(ERROR).by_model()
    first, second, change = found[before], found[after], _change(summary, before, after)
    if change.low > 0:
        yield (
            f"{what} made it worse: {first.name} rose from {percent(first.value)} ({before}) to "
            f"{percent(second.value)} ({after}) on held-out phones."
        )
    elif change.high >= 0 and (summary.rounds_planned or after != "federated"):
        yield (
            f"{what} changed nothing that {second.phones} held-out phones can tell: {first.name} "
            f"{percent(first.value)} ({before}), {percent(second.value)} ({after}); the difference "
            f"is between {100 * change.low:+.1f} and {100 * change.high:+.1f} points."
        )


def _change(summary: Summary, before: Model, after: Model) -> Interval:
    """The interval of a difference of errors; of a summary without one, the difference itself."""
    for metric in summary.section(CHANGE).metrics:
        if metric.interval and (metric.model, metric.variant) == (after, since(before)):
            return metric.interval
    found = summary.section(ERROR).by_model()
    value = found[after].value - found[before].value
    return Interval(low=value, high=value)


def _worse_phones(summary: Summary) -> Iterator[str]:
    """Most phones are worse off than a stage before."""
    found = summary.section(REGRESSION).by_model()
    for what, model in (("training together", "federated"), ("personalizing", "personalized")):
        if model in found and found[model].value > 0.5:
            yield f"After {what} {worse(found[model])}."


def listening_line(found: Listening) -> str:
    """Both error rates of the streaming file, and what fewer false accepts cost, in a sentence."""
    missed = f", and misses {_missed(found.rejected, found)}" if found.keywords else ""
    said = (
        "while it listens, the streaming file accepts something falsely "
        f"{found.false_accepts / found.hours:.0f} times an hour at threshold "
        f"{found.threshold:.2f}{missed}"
    )
    if not found.quiet_rate:
        return said
    return f"{said}; at most {found.quiet_rate:g} times: {_quiet(found)}"


def listening_rows(found: Listening | None) -> Iterator[tuple[str, str]]:
    """Error rates of the streaming file, with intervals of 95 %."""
    if found is None:
        return
    yield "threshold", f"{found.threshold:.2f}"
    if found.keywords:
        missed = _missed(found.rejected, found)
        yield "false rejects", f"{missed} of {found.keywords:,} words of held-out phones"
    low, high = poisson_interval(found.false_accepts, found.hours)
    yield (
        "false accepts per hour",
        f"{found.false_accepts / found.hours:.0f} ({low:.0f} to {high:.0f}), in "
        f"{found.hours:.2f} synthesized hours without a target word",
    )
    if found.quiet_rate:
        yield f"at most {found.quiet_rate:g} false accepts per hour", _quiet(found)


def _quiet(found: Listening) -> str:
    """The threshold that lets few false accepts pass, and what it misses."""
    if found.quiet_threshold is None:
        return "no threshold"
    threshold = f"threshold {found.quiet_threshold:.4f}"
    if not found.keywords or found.quiet_rejected is None:
        return threshold
    return f"{threshold}, which misses {_missed(found.quiet_rejected, found)}"


def _missed(rejected: int, found: Listening) -> str:
    """A share of the keywords that were said, with its interval."""
    low, high = binomial_interval(rejected, found.keywords)
    return f"{percent(rejected / found.keywords)} ({percent(low)} to {percent(high)})"
