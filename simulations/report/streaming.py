"""How often the streaming file is wrong while it listens, on the console and on the page."""

from __future__ import annotations

from collections.abc import Iterator

from fedspeech.evaluation.streaming import poisson_interval, wilson_interval
from simulations.report import phrasing
from simulations.results.exported import Listening


def listening_line(found: Listening) -> str:
    """Both rates at the default threshold, and what fewer false accepts cost, in a sentence."""
    missed = f", and misses {_share(found.rejected, found)}" if found.keywords else ""
    said = (
        f"while it listens, the streaming file accepts something falsely "
        f"{found.false_accepts / found.hours:.0f} times an hour at threshold "
        f"{found.threshold:.2f}{missed}"
    )
    if not found.quiet_rate:
        return said
    return f"{said}; at most {found.quiet_rate:g} times: {_quiet(found)}"


def listening_rows(found: Listening | None) -> Iterator[tuple[str, str]]:
    """Rates of errors, with intervals of 95 %."""
    if found is None:
        return
    yield "threshold", f"{found.threshold:.2f}"
    if found.keywords:
        yield (
            "false rejects",
            f"{_share(found.rejected, found)} of {found.keywords:,} words of held-out phones",
        )
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
    return f"{threshold}, which misses {_share(found.quiet_rejected, found)}"


def _share(rejected: int, found: Listening) -> str:
    """A share of the keywords that were said, with its interval."""
    least, most = wilson_interval(rejected, found.keywords)
    share = phrasing.percent(rejected / found.keywords)
    return f"{share} ({phrasing.percent(least)} to {phrasing.percent(most)})"
