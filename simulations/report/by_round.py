"""Plots over rounds: what training brought, what it spent, and what the operator watches."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simulations.report import phrasing
from simulations.report.figures import Figure, axes, hundredfold, line, number, percent, rule, whole
from simulations.results.records import RoundRow
from simulations.results.run_folder import Results


def progress(results: Results) -> list[Figure]:
    """Accuracy, loss, a clip norm that moves and both epsilons by round."""
    rows = [row for row in results.rows if row.status == "completed"]
    if not rows:
        return []
    found = [_accuracy_by_round(rows), _loss_by_round(rows)]
    if len({row.server.clip_norm for row in rows} - {None}) > 1:
        found.append(_clip_norm_by_round(rows))
    if len({row.guarantee.rounds for row in rows}) < len(rows):
        return [figure for figure in found if figure.traces]  # published: the whole run's price
    finite = [row for row in rows if math.isfinite(row.guarantee.epsilon_release)]
    if finite:
        found.append(
            _epsilon_by_round(
                finite,
                "epsilon_release",
                "ε against readers of the models",
                finite[-1].epsilon_budget,
            )
        )
    finite = [row for row in rows if math.isfinite(row.guarantee.epsilon_server)]
    if finite:
        found.append(_epsilon_by_round(finite, "epsilon_server", "ε against the server", None))
    return [figure for figure in found if figure.traces]


def operator(results: Results) -> list[Figure]:
    """What only the operator may see: cohorts, clipping, signal-to-noise."""
    rows = [row for row in results.rows if row.status != "refused"]
    cohort = [
        line(rows, "joined", [row.server.cohort for row in rows], "base"),
        line(rows, "in the sum", [row.server.survivors for row in rows], "federated"),
    ]
    clipped = [
        line(rows, "clipped", hundredfold([r.simulator.share_clipped for r in rows]), "control")
    ]
    ratio = [
        line(
            rows,
            "all rounds so far",
            [row.server.accumulated_signal_to_noise for row in rows],
            "federated",
        ),
        line(
            rows,
            "this round",
            [row.server.signal_to_noise for row in rows],
            "personalized",
            dash="dash",
        ),
    ]
    found = [
        Figure(
            key="cohort",
            title="Phones per round",
            eyes=("server",),
            says="Phones that joined, and those whose update is in the sum.",
            header=("round", "status", "joined", "in the sum", "ring warning"),
            table=tuple(
                (
                    str(row.round),
                    row.status,
                    whole(row.server.cohort),
                    whole(row.server.survivors),
                    "yes" if row.server.wrap_warning else "no",
                )
                for row in rows
            ),
            traces=[trace for trace in cohort if trace],
            layout=axes("round", "phones", y={"rangemode": "tozero"}),
        ),
        Figure(
            key="clipped",
            title="Deltas that were clipped",
            eyes=("simulator",),
            says=(
                "Share of phones whose change was longer than the clip norm. Near 0 the noise is "
                "larger than need be; near 100 the strongest learners are muted."
            ),
            header=("round", "share clipped", "true wraps"),
            table=tuple(
                (
                    str(row.round),
                    percent(row.simulator.share_clipped),
                    whole(row.simulator.true_wraps),
                )
                for row in rows
            ),
            traces=[trace for trace in clipped if trace],
            layout=axes("round", "% of phones", y={"range": [0, 102]}),
        ),
        Figure(
            key="signal",
            title="Signal to noise",
            eyes=("server",),
            says=(
                "Estimated length of what phones taught over the expected length of the noise, in "
                "the round’s mean and in the sum of all means. Under the line there is more noise "
                "than signal; 0 is nothing but noise."
            ),
            header=("round", "this round", "all rounds so far"),
            table=tuple(
                (
                    str(row.round),
                    number(row.server.signal_to_noise),
                    number(row.server.accumulated_signal_to_noise),
                )
                for row in rows
            ),
            traces=[trace for trace in ratio if trace],
            layout=axes("round", "ratio", y={"rangemode": "tozero"}) | {"shapes": [rule("y", 1)]},
        ),
    ]
    return [figure for figure in found if figure.traces]


def _accuracy_by_round(rows: Sequence[RoundRow]) -> Figure:
    """Public validation speakers and unseen phones, by round."""
    traces = [
        line(
            rows,
            "public validation",
            hundredfold([r.server.validation_accuracy for r in rows]),
            "federated",
        ),
        line(
            rows,
            "phones never trained on",
            hundredfold([r.simulator.unseen_accuracy for r in rows]),
            "personalized",
            dash="dash",
        ),
    ]
    return Figure(
        key="accuracy",
        title="Accuracy by round",
        eyes=("server", "simulator"),
        says=(
            "Solid: public validation speakers, which the server may decide on. "
            "Dashed: phones never trained on, which only the simulator sees."
        ),
        header=("round", "public validation", "phones never trained on"),
        table=tuple(
            (
                str(row.round),
                percent(row.server.validation_accuracy),
                percent(row.simulator.unseen_accuracy),
            )
            for row in rows
        ),
        traces=[trace for trace in traces if trace],
        layout=axes("round", "% correct"),
    )


def _loss_by_round(rows: Sequence[RoundRow]) -> Figure:
    """Public validation loss and, where known, training loss."""
    training = [row.simulator.mean_training_loss for row in rows]
    known = any(value is not None for value in training)
    traces = [
        line(rows, "public validation", [r.server.validation_loss for r in rows], "federated"),
        line(rows, "training, on phones", training, "personalized", dash="dash"),
    ]
    return Figure(
        key="loss",
        title="Loss by round",
        eyes=("server", "simulator") if known else ("server",),
        says="Cross-entropy in nats; lower is better."
        + (" Dashed: on the phones that trained, which only the simulator sees." if known else ""),
        header=("round", "public validation", *(("training",) if known else ())),
        table=tuple(
            (
                str(row.round),
                number(row.server.validation_loss),
                *((number(row.simulator.mean_training_loss),) if known else ()),
            )
            for row in rows
        ),
        traces=[trace for trace in traces if trace],
        layout=axes("round", "nats"),
    )


def _clip_norm_by_round(rows: Sequence[RoundRow]) -> Figure:
    """The clip norm, where it follows the deltas."""
    norms = [row.server.clip_norm for row in rows]
    trace = line(rows, "clip norm", norms, "federated")
    return Figure(
        key="clip_norm",
        title="Clip norm by round",
        eyes=("server",),
        says=(
            "What phones shortened their changes to. It follows the share of changes within it, "
            "which the server knows from noisy bits only; their cost is in both ε."
        ),
        header=("round", "clip norm"),
        table=tuple((str(row.round), number(norm)) for row, norm in zip(rows, norms, strict=True)),
        traces=[trace] if trace else [],
        layout=axes("round", "L2 norm", y={"rangemode": "tozero"}),
    )


def _epsilon_by_round(
    rows: Sequence[RoundRow], name: str, title: str, budget: float | None
) -> Figure:
    """One epsilon as it was spent, beside its budget."""
    spent = [float(getattr(row.guarantee, name)) for row in rows]
    role = "federated" if name == "epsilon_release" else "control"
    trace = line(rows, "spent", spent, role)
    layout = axes("round", "ε", y={"range": [0, 1.12 * max(*spent, budget or 0, 1e-9)]})
    if budget is not None and math.isfinite(budget):
        layout["shapes"] = [rule("y", budget)]
        layout["annotations"] = [
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
    return Figure(
        key=name.replace("_", "-"),
        title=title,
        eyes=("public",),
        says=f"Spent by the end of each round, {phrasing.epsilon(spent[-1])} in the end"
        + (f"; the run must stop at {phrasing.epsilon(budget)}." if budget is not None else "."),
        header=("round", "ε"),
        table=tuple(
            (str(row.round), phrasing.epsilon(value))
            for row, value in zip(rows, spent, strict=True)
        ),
        traces=[trace] if trace else [],
        layout=layout,
        height=240,
    )
