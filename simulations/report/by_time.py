"""Plots over virtual time: accuracy as days pass, seconds and bytes of a phone, ends of rounds."""

from __future__ import annotations

from simulations.report import phrasing
from simulations.report.by_round import TO_ZERO, rounds
from simulations.report.figures import Column, Figure, counts, figure, numbers, share
from simulations.results.rows import RoundRow, RoundTime
from simulations.results.run_folder import Results

ASSUMED = (
    "Virtual seconds: by published network speeds and stated assumptions about phones "
    "(fedspeech.device.virtual_time), never by this machine."
)


def note(results: Results) -> str:
    """The run in virtual time, in one paragraph."""
    time = results.summary.time if results.summary else None
    if time is None:
        return ASSUMED
    spent = "" if time.phone_s is None else f", {phrasing.duration(time.phone_s)} of a phone"
    return (
        f"{time.days:.3g} virtual days; {phrasing.duration(time.finish_s)} a round{spent}. Of the "
        f"phones whose coin said yes {phrasing.percent(time.share_away)} were away; of those who "
        f"joined {phrasing.percent(time.share_late)} were late. {time.over_selection:.2f} phones "
        f"joined for each that the minimum of reporting phones needs. {ASSUMED}"
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
    found = (_accuracy(rows, times), _of_a_phone(rows, times), _end_of_a_round(rows, times))
    return [one for one in found if one]


def _accuracy(rows: list[RoundRow], times: list[RoundTime]) -> Figure | None:
    """Accuracy where it was reached in time."""
    first = times[0].called_h
    days = numbers(
        "day", [(time.called_h - first) / 24 + time.finished_s / 86_400 for time in times]
    )
    held_out = [row.simulation_only.held_out_accuracy for row in rows]
    return figure(
        "accuracy-in-time",
        "Accuracy as days pass",
        "After each round, at the virtual time at which it ended.",
        (rounds(rows), days, share("held-out phones", held_out, "personalized")),
        visibility=("simulation_only",),
        over=days,
        x_title="virtual days since the first call",
        y_title="% correct",
    )


def _of_a_phone(rows: list[RoundRow], times: list[RoundTime]) -> Figure | None:
    """Seconds and bytes of one phone, by round."""
    return figure(
        "of-a-phone",
        "Seconds and bytes of a phone",
        "Seconds in which phones that joined had trained and sent; bytes are in the table.",
        (
            rounds(rows),
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


def _end_of_a_round(rows: list[RoundRow], times: list[RoundTime]) -> Figure | None:
    """When rounds were over, and who did not come."""
    return figure(
        "end-of-a-round",
        "Time to finish a round",
        "Seconds from the call. A round is over at its deadline, or before it if nobody is "
        "missing; dashed: when the minimum of reporting phones was reached.",
        (
            rounds(rows),
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
