"""Plots over virtual time: accuracy as days pass, seconds and bytes of a phone, ends of rounds."""

from __future__ import annotations

from simulations.report import phrasing
from simulations.report.figures import Figure, axes, hundredfold, line, number, percent, whole
from simulations.results.records import RoundRow, RoundTime
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
        f"joined for each that the floor on survivors needs. {ASSUMED}"
    )


def virtual_time(results: Results) -> list[Figure]:
    """Three plots; none if nothing was played in time."""
    played = [(row, row.simulator.time) for row in results.rows if row.simulator.time is not None]
    if not played:
        return []
    rows, times = [row for row, _ in played], [time for _, time in played]
    return [_accuracy(rows, times), _of_a_phone(rows, times), _rounds(rows, times)]


def _accuracy(rows: list[RoundRow], times: list[RoundTime]) -> Figure:
    """Accuracy where it was reached in time."""
    first = times[0].called_h
    days = [(time.called_h - first) / 24 + time.finished_s / 86_400 for time in times]
    unseen = [row.simulator.unseen_accuracy for row in rows]
    trace = line(rows, "phones never trained on", hundredfold(unseen), "personalized")
    trace |= {"x": days, "hovertemplate": "day %{x:.3g}: %{y:.4~g} %<extra></extra>"}
    return Figure(
        key="accuracy-in-time",
        title="Accuracy as days pass",
        eyes=("simulator",),
        says="After each round, at the virtual time at which it ended.",
        header=("round", "day", "phones never trained on"),
        table=tuple(
            (str(row.round), f"{day:.3g}", percent(share))
            for row, day, share in zip(rows, days, unseen, strict=True)
        ),
        traces=[trace],
        layout=axes("virtual days since the first call", "% correct"),
    )


def _of_a_phone(rows: list[RoundRow], times: list[RoundTime]) -> Figure:
    """Seconds and bytes of one phone, by round."""
    traces = [
        line(rows, "half of the phones", [time.phone_s_median for time in times], "federated"),
        line(rows, "nine in ten", [time.phone_s_90 for time in times], "personalized", dash="dash"),
    ]
    return Figure(
        key="of-a-phone",
        title="Seconds and bytes of a phone",
        eyes=("simulator",),
        says="Seconds in which phones that joined had trained and sent; bytes are in the table.",
        header=("round", "half", "nine in ten", "sent", "received"),
        table=tuple(
            (
                str(row.round),
                number(time.phone_s_median),
                number(time.phone_s_90),
                phrasing.size(row.bytes_up),
                phrasing.size(row.bytes_down),
            )
            for row, time in zip(rows, times, strict=True)
        ),
        traces=[trace for trace in traces if trace],
        layout=axes("round", "seconds", y={"rangemode": "tozero"}),
    )


def _rounds(rows: list[RoundRow], times: list[RoundTime]) -> Figure:
    """When rounds were over, and who did not come."""
    traces = [
        line(rows, "over", [time.finished_s for time in times], "federated"),
        line(
            rows, "enough answers", [time.enough_s for time in times], "personalized", dash="dash"
        ),
    ]
    return Figure(
        key="end-of-a-round",
        title="Time to finish a round",
        eyes=("simulator",),
        says=(
            "Seconds from the call. A round is over at its deadline, or before it if nobody is "
            "missing; dashed: when the floor on survivors was reached."
        ),
        header=("round", "hour", "coin said yes", "joined", "late", "enough", "over"),
        table=tuple(
            (
                str(row.round),
                f"{time.called_h % 24:.3g}",
                whole(time.called),
                whole(time.joined),
                whole(time.late),
                number(time.enough_s),
                number(time.finished_s),
            )
            for row, time in zip(rows, times, strict=True)
        ),
        traces=[trace for trace in traces if trace],
        layout=axes("round", "seconds", y={"rangemode": "tozero"}),
    )
