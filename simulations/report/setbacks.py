"""What a run made worse, in sentences: said before any figure, on the console and on the page.

Nothing here is a matter of taste: a stage whose error is larger than an earlier one's is said to be
worse, with both figures, and how many phones went which way stands beside what luck would give.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulations.report import phrasing
from simulations.results.records import Headline, ShareWorse, Summary


def setbacks(summary: Summary) -> tuple[str, ...]:
    """Returns one sentence or two for each thing that became worse; empty if nothing did."""
    return (*_no_gain(summary), *_worse_stages(summary), *_worse_phones(summary))


def start(summary: Summary) -> str:
    """The stage from which phones personalized: "base" or "federated"."""
    return summary.stage_choice.chosen if summary.stage_choice else "federated"


def worse(found: ShareWorse) -> str:
    """How many phones make more mistakes, beside chance; never a share of phones that all stayed.

    Where no clip of any phone is answered otherwise than before, 0 % worse would read as praise.
    """
    if not found.changed:
        return "no clip of any phone is answered otherwise than before"
    return (
        f"{phrasing.percent(found.share)} of phones make more mistakes than before "
        f"(by luck alone {phrasing.percent(found.expected_by_chance)})"
    )


def _no_gain(summary: Summary) -> Iterator[str]:
    """The federated stage did not beat its base on public validation speakers."""
    choice = summary.stage_choice
    if choice is None or choice.chosen == "federated":
        return
    speakers = f"speaker{'' if choice.speakers == 1 else 's'}"
    yield (
        f"Training together gained nothing: {choice.measure} on {choice.speakers} public "
        f"validation {speakers}: base {phrasing.percent(choice.base)}, after {summary.rounds} "
        f"rounds {phrasing.percent(choice.federated)}. The base is what phones personalize from "
        "and what is exported."
    )


def _worse_stages(summary: Summary) -> Iterator[str]:
    """A later stage has a larger error than an earlier one, on phones never trained on."""
    found = summary.headline
    if found is None:
        return
    yield from _rise(found, "Training together", "base", "federated")
    yield from _rise(found, "Personalizing", start(summary), "personalized")
    if start(summary) == "federated" and found.federated <= found.base:
        return
    if start(summary) == "federated" and found.personalized > found.base:
        yield (
            f"The run ends worse than it began: {found.measure} {phrasing.percent(found.base)} "
            f"with the base, {phrasing.percent(found.personalized)} after personalizing."
        )


def _rise(found: Headline, what: str, before: str, after: str) -> Iterator[str]:
    """Two stages of which the later one is worse."""
    first, second = getattr(found, before), getattr(found, after)
    if second > first:
        yield (
            f"{what} made it worse: {found.measure} rose from {phrasing.percent(first)} ({before}) "
            f"to {phrasing.percent(second)} ({after}) on phones never trained on."
        )


def _worse_phones(summary: Summary) -> Iterator[str]:
    """Most phones are worse off than a stage before."""
    for what, found in (
        ("training together", summary.share_worse_federated),
        ("personalizing", summary.share_worse),
    ):
        if found and found.share > 0.5:
            yield f"After {what} {worse(found)}."
