"""Plots over rounds and over virtual time: what training brought, spent and took of phones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from simulations.report import phrasing
from simulations.report.figures import Column, Figure, counts, figure, numbers, share
from simulations.results.rows import RoundRow, RoundTime
from simulations.results.run_folder import Results
from simulations.results.summary import PhonesAtHour

TO_ZERO = {"rangemode": "tozero"}


def progress(results: Results) -> list[Figure]:
    """Accuracy, loss, a clip norm that moves and both epsilons by round."""
    rows = [row for row in results.rows if row.status == "completed"]
    if not rows:
        return []
    found = [*_accuracy_by_round(rows), *_loss_by_round(rows)]
    if len({row.server.clip_norm for row in rows} - {None}) > 1:
        found += _clip_norm_by_round(rows)
    if len({row.guarantee.rounds for row in rows}) == len(rows):  # published: the whole run's price
        budget = rows[-1].epsilon_budget
        found += _epsilon_by_round(
            rows, "epsilon_release", "ε against readers of the models", budget
        )
        found += _epsilon_by_round(rows, "epsilon_server", "ε against the server", None)
    return found


def _rounds(rows: Sequence[RoundRow]) -> Column:
    """The column that figures over rounds begin with."""
    return Column("round", [row.round for row in rows])


def operator(results: Results) -> list[Figure]:
    """What only the operator may see: cohorts, clipping, signal-to-noise."""
    rows = [row for row in results.rows if row.status != "refused"]
    server, simulated = [row.server for row in rows], [row.simulation_only for row in rows]
    return [
        *figure(
            "cohort",
            "Phones per round",
            "Phones that joined, and those whose update is in the sum.",
            (
                _rounds(rows),
                Column("status", [row.status for row in rows]),
                counts("joined", [row.cohort for row in server], "base"),
                counts("in the sum", [row.reporting for row in server], "federated"),
                Column("ring warning", ["yes" if row.wrap_warning else "no" for row in server]),
            ),
            visibility=("server",),
            y_title="phones",
            y=TO_ZERO,
        ),
        *figure(
            "clipped",
            "Deltas that were clipped",
            "Share of phones whose change was longer than the clip norm. Near 0 the noise is "
            "larger than need be; near 100 the strongest learners are muted.",
            (
                _rounds(rows),
                share("share clipped", [row.share_clipped for row in simulated], "control"),
                counts("true wraps", [row.true_wraps for row in simulated]),
            ),
            visibility=("simulation_only",),
            y_title="% of phones",
            y={"range": [0, 102]},
        ),
        *figure(
            "signal",
            "Signal to noise",
            "Estimated length of what phones taught over the expected length of the noise, in "
            "the round’s mean and in the sum of all means. Under the line there is more noise "
            "than signal; 0 is nothing but noise.",
            (
                _rounds(rows),
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
            rule_at=1,
        ),
    ]  # fmt: skip


def _accuracy_by_round(rows: Sequence[RoundRow]) -> list[Figure]:
    held_out = [row.simulation_only.held_out_accuracy for row in rows]
    return figure(
        "accuracy",
        "Accuracy by round",
        "Solid: public validation speakers, which the server may decide on. Dashed: held-out "
        "phones, which only the simulation sees.",
        (
            _rounds(rows),
            share(
                "public validation", [row.server.validation_accuracy for row in rows], "federated"
            ),
            share("held-out phones", held_out, "personalized", dash="dash"),
        ),
        visibility=("server", "simulation_only"),
        y_title="% correct",
    )


def _loss_by_round(rows: Sequence[RoundRow]) -> list[Figure]:
    losses = [row.server.validation_loss for row in rows]
    return figure(
        "loss",
        "Loss by round",
        "Cross-entropy in nats on public validation speakers; lower is better.",
        (_rounds(rows), numbers("public validation", losses, "federated")),
        visibility=("server",),
        y_title="nats",
    )


def _clip_norm_by_round(rows: Sequence[RoundRow]) -> list[Figure]:
    return figure(
        "clip_norm",
        "Clip norm by round",
        "What phones shortened their changes to. It follows the share of changes within it, "
        "which the server knows from noisy bits only; their cost is in both ε.",
        (_rounds(rows), numbers("clip norm", [row.server.clip_norm for row in rows], "federated")),
        visibility=("server",),
        y_title="L2 norm",
        y=TO_ZERO,
    )


def _epsilon_by_round(
    rows: Sequence[RoundRow], name: str, title: str, budget: float | None
) -> list[Figure]:
    """One epsilon as it was spent, beside its budget; none where none is finite."""
    rows = [row for row in rows if math.isfinite(getattr(row.guarantee, name))]
    if not rows:
        return []
    spent = [float(getattr(row.guarantee, name)) for row in rows]
    role = "federated" if name == "epsilon_release" else "control"
    stop = "" if budget is None else f"; the run must stop at {phrasing.epsilon(budget)}"
    stated = budget is not None and math.isfinite(budget)
    return figure(
        name.replace("_", "-"),
        title,
        f"Spent by the end of each round, {phrasing.epsilon(spent[-1])} in the end{stop}.",
        (_rounds(rows), Column("ε", spent, phrasing.epsilon, role)),
        visibility=("public",),
        y_title="ε",
        y={"range": [0, 1.12 * max(*spent, budget or 0, 1e-9)]},
        height=240,
        rule_at=budget if stated else None,
        rule_name=f"budget {phrasing.epsilon(budget or 0)}",
    )


def virtual_time(results: Results) -> list[Figure]:
    """Three plots; none if nothing was played in time."""
    played = [
        (row, row.simulation_only.time)
        for row in results.rows
        if row.simulation_only.time is not None
    ]
    if not played:
        return []
    rows, times = [row for row, _ in played], [time for _, time in played]
    hours = results.summary.time.hours if results.summary and results.summary.time else ()
    return [
        *_phones_by_hour(hours, times),
        *_accuracy_in_time(rows, times),
        *_of_a_phone(rows, times),
        *_ends(rows, times),
    ]


def _phones_by_hour(hours: Sequence[PhonesAtHour], times: list[RoundTime]) -> list[Figure]:
    """Who could be asked by hour, and who trained in the rounds of the same week."""
    if not hours:
        return []
    by_hour: dict[int, int] = {}
    for time in times:
        place = round(time.called_h - hours[0].hour)
        by_hour[place] = by_hour.get(place, 0) + time.trained
    trained = [by_hour.get(place) for place in range(len(hours))]
    return figure(
        "phones-by-hour",
        "Phones by hour",
        "Phones that the policy lets work, on average, phones whose user has agreed, both, and "
        "those that trained in a round of that hour (dots). The first week; the axis is "
        "logarithmic.",
        (
            numbers("day", [(one.hour - hours[0].hour) / 24 for one in hours]),
            counts("eligible", [round(one.eligible) for one in hours], "base"),
            counts("consented", [one.consented for one in hours], "control"),
            counts("both", [round(one.both) for one in hours], "federated"),
            replace(counts("trained", trained, "personalized"), dots=True),
        ),
        visibility=("simulation_only",),
        x_title="virtual days since the first call",
        y_title="phones",
        y={"type": "log", "tickformat": "~g", "dtick": "D2"},
    )


def _accuracy_in_time(rows: list[RoundRow], times: list[RoundTime]) -> list[Figure]:
    first = times[0].called_h
    days = numbers(
        "day", [(time.called_h - first) / 24 + time.finished_s / 86_400 for time in times]
    )
    held_out = [row.simulation_only.held_out_accuracy for row in rows]
    return figure(
        "accuracy-in-time",
        "Accuracy as days pass",
        "After each round, at the virtual time at which it ended.",
        (_rounds(rows), days, share("held-out phones", held_out, "personalized")),
        visibility=("simulation_only",),
        over=days,
        x_title="virtual days since the first call",
        y_title="% correct",
    )


def _of_a_phone(rows: list[RoundRow], times: list[RoundTime]) -> list[Figure]:
    return figure(
        "of-a-phone",
        "Seconds and bytes of a phone",
        "Seconds in which phones that joined had trained and sent; bytes are in the table.",
        (
            _rounds(rows),
            numbers("half of the phones", [time.phone_s_median for time in times], "federated"),
            numbers(
                "nine in ten", [time.phone_s_90 for time in times], "personalized", dash="dash"
            ),
            Column("sent", [row.bytes_up for row in rows], phrasing.size),
            Column("received", [row.bytes_down for row in rows], phrasing.size),
        ),
        visibility=("simulation_only",),
        y_title="seconds",
        y=TO_ZERO,
    )


def _ends(rows: list[RoundRow], times: list[RoundTime]) -> list[Figure]:
    return figure(
        "end-of-a-round",
        "Time to finish a round",
        "Seconds from the call. A round is over at its deadline, or before it if nobody is "
        "missing; dashed: when the minimum of reporting phones was reached.",
        (
            _rounds(rows),
            Column("hour", [f"{time.called_h % 24:.3g}" for time in times]),
            counts("coin said yes", [time.called for time in times]),
            counts("joined", [time.joined for time in times]),
            counts("late", [time.late for time in times]),
            numbers(
                "enough answers", [time.enough_s for time in times], "personalized", dash="dash"
            ),
            numbers("over", [time.finished_s for time in times], "federated"),
        ),
        visibility=("simulation_only",),
        y_title="seconds",
        y=TO_ZERO,
    )
