"""Plots over rounds: what training brought, what it spent, and what the operator watches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulations.report import phrasing
from simulations.report.figures import Column, Figure, counts, figure, numbers, rule, share
from simulations.results.rows import RoundRow
from simulations.results.run_folder import Results

TO_ZERO = {"rangemode": "tozero"}


def progress(results: Results) -> list[Figure]:
    """Accuracy, loss, a clip norm that moves and both epsilons by round."""
    rows = [row for row in results.rows if row.status == "completed"]
    if not rows:
        return []
    found = [_accuracy_by_round(rows), _loss_by_round(rows)]
    if len({row.server.clip_norm for row in rows} - {None}) > 1:
        found.append(_clip_norm_by_round(rows))
    if len({row.guarantee.rounds for row in rows}) == len(rows):  # published: the whole run's price
        found += [
            _epsilon_by_round(
                [row for row in rows if math.isfinite(getattr(row.guarantee, name))],
                name,
                title,
                budget,
            )
            for name, title, budget in (
                ("epsilon_release", "ε against readers of the models", rows[-1].epsilon_budget),
                ("epsilon_server", "ε against the server", None),
            )
        ]
    return [one for one in found if one]


def rounds(rows: Sequence[RoundRow]) -> Column:
    """The column that figures over rounds begin with."""
    return Column("round", [row.round for row in rows])


def operator(results: Results) -> list[Figure]:
    """What only the operator may see: cohorts, clipping, signal-to-noise."""
    rows = [row for row in results.rows if row.status != "refused"]
    server, simulated = [row.server for row in rows], [row.simulation_only for row in rows]
    found = [
        figure(
            "cohort",
            "Phones per round",
            "Phones that joined, and those whose update is in the sum.",
            (
                rounds(rows),
                Column("status", [row.status for row in rows]),
                counts("joined", [row.cohort for row in server], "base"),
                counts("in the sum", [row.reporting for row in server], "federated"),
                Column("ring warning", ["yes" if row.wrap_warning else "no" for row in server]),
            ),
            visibility=("server",),
            y_title="phones",
            y=TO_ZERO,
        ),
        figure(
            "clipped",
            "Deltas that were clipped",
            "Share of phones whose change was longer than the clip norm. Near 0 the noise is "
            "larger than need be; near 100 the strongest learners are muted.",
            (
                rounds(rows),
                share("share clipped", [row.share_clipped for row in simulated], "control"),
                counts("true wraps", [row.true_wraps for row in simulated]),
            ),
            visibility=("simulation_only",),
            y_title="% of phones",
            y={"range": [0, 102]},
        ),
        figure(
            "signal",
            "Signal to noise",
            "Estimated length of what phones taught over the expected length of the noise, in "
            "the round’s mean and in the sum of all means. Under the line there is more noise "
            "than signal; 0 is nothing but noise.",
            (
                rounds(rows),
                numbers(
                    "this round", [row.signal_to_noise for row in server], "personalized",
                    dash="dash",
                ),
                numbers(
                    "all rounds so far",
                    [row.accumulated_signal_to_noise for row in server],
                    "federated",
                ),
            ),
            visibility=("server",),
            y_title="ratio",
            y=TO_ZERO,
        ),
    ]  # fmt: skip
    if found[-1]:
        found[-1].layout["shapes"] = [rule("y", 1)]
    return [one for one in found if one]


def _accuracy_by_round(rows: Sequence[RoundRow]) -> Figure | None:
    """Public validation speakers and held-out phones, by round."""
    held_out = [row.simulation_only.held_out_accuracy for row in rows]
    return figure(
        "accuracy",
        "Accuracy by round",
        "Solid: public validation speakers, which the server may decide on. Dashed: held-out "
        "phones, which only the simulation sees.",
        (
            rounds(rows),
            share(
                "public validation", [row.server.validation_accuracy for row in rows], "federated"
            ),
            share("held-out phones", held_out, "personalized", dash="dash"),
        ),
        visibility=("server", "simulation_only"),
        y_title="% correct",
    )


def _loss_by_round(rows: Sequence[RoundRow]) -> Figure | None:
    """Public validation loss."""
    losses = [row.server.validation_loss for row in rows]
    return figure(
        "loss",
        "Loss by round",
        "Cross-entropy in nats on public validation speakers; lower is better.",
        (rounds(rows), numbers("public validation", losses, "federated")),
        visibility=("server",),
        y_title="nats",
    )


def _clip_norm_by_round(rows: Sequence[RoundRow]) -> Figure | None:
    """The clip norm, where it follows the deltas."""
    return figure(
        "clip_norm",
        "Clip norm by round",
        "What phones shortened their changes to. It follows the share of changes within it, "
        "which the server knows from noisy bits only; their cost is in both ε.",
        (rounds(rows), numbers("clip norm", [row.server.clip_norm for row in rows], "federated")),
        visibility=("server",),
        y_title="L2 norm",
        y=TO_ZERO,
    )


def _epsilon_by_round(
    rows: Sequence[RoundRow], name: str, title: str, budget: float | None
) -> Figure | None:
    """One epsilon as it was spent, beside its budget; None where none is finite."""
    if not rows:
        return None
    spent = [float(getattr(row.guarantee, name)) for row in rows]
    role = "federated" if name == "epsilon_release" else "control"
    found = figure(
        name.replace("_", "-"),
        title,
        f"Spent by the end of each round, {phrasing.epsilon(spent[-1])} in the end"
        + (f"; the run must stop at {phrasing.epsilon(budget)}." if budget is not None else "."),
        (rounds(rows), Column("ε", spent, phrasing.epsilon, role)),
        visibility=("public",),
        y_title="ε",
        y={"range": [0, 1.12 * max(*spent, budget or 0, 1e-9)]},
        height=240,
    )
    if found and budget is not None and math.isfinite(budget):
        found.layout["shapes"] = [rule("y", budget)]
        found.layout["annotations"] = [
            {
                "xref": "paper",
                "x": 0,
                "xanchor": "left",
                "y": budget,
                "yanchor": "bottom",
                "showarrow": False,
                "text": f"budget {phrasing.epsilon(budget)}",
                "font": {"color": "@warn", "size": 12},
            }
        ]
    return found
