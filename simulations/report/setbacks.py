"""What a run made worse, in sentences: said before any figure, on the console and on the page.

Nothing here is a matter of taste: a stage whose error is larger than an earlier one's is said to be
worse, with both figures, and how many phones went which way stands beside what luck would give.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedspeech.evaluation.metric import ERROR, REGRESSION, VALIDATION, Metric, Model
from simulations.report import phrasing
from simulations.results.summary import Summary


def setbacks(summary: Summary) -> tuple[str, ...]:
    """Returns one sentence or two for each thing that became worse; empty if nothing did."""
    return (*_no_gain(summary), *_worse_stages(summary), *_worse_phones(summary))


def worse(found: Metric) -> str:
    """How many phones make more mistakes, beside chance; never a share of phones that all stayed.

    Where no example of any phone is answered otherwise than before, 0 % worse would read as praise.
    """
    if not found.counted:
        return "no example of any phone is answered otherwise than before"
    chance = (
        "" if found.by_chance is None else f" (by luck alone {phrasing.percent(found.by_chance)})"
    )
    return f"{phrasing.percent(found.value)} of phones make more mistakes than before{chance}"


def _no_gain(summary: Summary) -> Iterator[str]:
    """The federated stage did not beat its base on public validation speakers."""
    errors = summary.section(VALIDATION).by_model()
    if summary.start == "federated" or not errors:
        return
    base, federated = errors["base"], errors["federated"]
    yield (
        f"Training together gained nothing: {base.name} on {base.phones} public "
        f"validation speaker{'' if base.phones == 1 else 's'}: base "
        f"{phrasing.percent(base.value)}, after {summary.rounds} rounds "
        f"{phrasing.percent(federated.value)}. The base is what phones personalize from and what "
        "is exported."
    )


def _worse_stages(summary: Summary) -> Iterator[str]:
    """A later stage has a larger error than an earlier one, on held-out phones."""
    found = summary.section(ERROR).by_model()
    if not found:
        return
    yield from _rise(found, "Training together", "base", "federated")
    yield from _rise(found, "Personalizing", summary.start, "personalized")
    base, federated, last = (found[m].value for m in ("base", "federated", "personalized"))
    if summary.start == "federated" and last > base and federated > base:
        yield (
            f"The run ends worse than it began: {found['base'].name} {phrasing.percent(base)} "
            f"with the base, {phrasing.percent(last)} after personalizing."
        )


def _rise(found: dict[Model, Metric], what: str, before: Model, after: Model) -> Iterator[str]:
    """Two stages of which the later one is worse."""
    first, second = found[before], found[after]
    if second.value > first.value:
        yield (
            f"{what} made it worse: {first.name} rose from {phrasing.percent(first.value)} "
            f"({before}) to {phrasing.percent(second.value)} ({after}) on held-out phones."
        )


def _worse_phones(summary: Summary) -> Iterator[str]:
    """Most phones are worse off than a stage before."""
    found = summary.section(REGRESSION).by_model()
    for what, model in (("training together", "federated"), ("personalizing", "personalized")):
        if model in found and found[model].value > 0.5:
            yield f"After {what} {worse(found[model])}."
