"""What only a simulator sees of a round: files that shards left, their figures, virtual time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.virtual_time import CHECK_IN_S, TimeAxis
from fedspeech.job import Job
from server.rounds import RoundRecord
from simulations.results.rows import RoundRow, RoundTime
from simulations.results.summary import PhonesAtHour, RunTime


def _taken(job: Job, what: str, record: RoundRecord) -> list[dict[str, NDArray[Any]]]:
    """What each shard left of a round in `ClientShard`, one kind of it; the files are removed."""
    found = []
    for file in sorted(Path(job.simulation_only).glob(f"{what}-{record.round:05d}-shard-*.npz")):
        with np.load(file) as left:
            found.append(dict(left))
        # Exact figures of single phones, which no epsilon covers, stay no longer than needed.
        file.unlink()
    return found


def overflow_and_clipping(job: Job, record: RoundRecord) -> dict[str, Any]:
    """Coordinates of the sum that left the ring, and the share of deltas that were clipped."""
    shards = _taken(job, "round", record)
    if not shards:
        return {}
    # Only the sum before it is taken modulo the ring shows a wrap: afterwards a wrapped coordinate
    # looks like any other.
    exact = sum((left["exact_sum"] for left in shards), start=np.int64(0))
    lengths = np.concatenate([left["delta_norms"] for left in shards])
    half = job.plan.modulus // 2
    clip_norm = record.clip_norm or job.plan.clip_norm
    return {
        "true_wraps": int(((exact < -half) | (exact >= half)).sum()),
        "share_clipped": float((lengths > clip_norm).mean()) if len(lengths) else None,
    }


def round_time(job: Job, record: RoundRecord) -> RoundTime | None:
    """Times of a round's phones; None if shards left nothing, or there is no virtual time."""
    if job.time is None or not (shards := _taken(job, "times", record)):
        return None
    joined, sent = (np.concatenate([left[of] for left in shards]) for of in ("seconds", "sends"))
    answers, minimum, deadline_s = (
        np.sort(joined[sent]),
        job.plan.min_reporting,
        job.time.deadline_s,
    )
    missing = len(answers) < len(joined) or not len(joined)
    return RoundTime(
        called_h=job.time.called_h(record.round),
        called=sum(int(left["called"]) for left in shards),
        joined=len(joined),
        late=int((joined > deadline_s).sum()),
        trained=len(answers),
        phone_s_median=float(np.median(joined)) if len(joined) else None,
        phone_s_90=float(np.quantile(joined, 0.9)) if len(joined) else None,
        enough_s=CHECK_IN_S + float(answers[minimum - 1]) if len(answers) >= minimum else None,
        finished_s=CHECK_IN_S + (deadline_s if missing else float(answers[-1])),
    )


def run_time(rows: Sequence[RoundRow], job: Job) -> RunTime | None:
    """Sums up the rounds of a run; None if none was played in time."""
    rounds = [row.simulation_only.time for row in rows if row.simulation_only.time is not None]
    if job.time is None or not rounds:
        return None
    called, joined = (sum(getattr(one, name) for one in rounds) for name in ("called", "joined"))
    first, last = rounds[0], rounds[-1]
    days = (last.called_h - first.called_h) / 24 + last.finished_s / 86_400
    return RunTime(
        days=days,
        finish_s=float(np.median([one.finished_s for one in rounds])),
        enough_s=_median([one.enough_s for one in rounds]),
        phone_s=_median([one.phone_s_median for one in rounds]),
        share_away=1 - joined / called if called else 0.0,
        share_late=sum(one.late for one in rounds) / joined if joined else 0.0,
        over_selection=joined / len(rounds) / job.plan.min_reporting,
        converged_days=_converged_days(rows),
        bytes_in_all=sum(
            (row.bytes_up + row.bytes_down) * row.simulation_only.time.joined
            for row in rows
            if row.simulation_only.time is not None
        ),
        hours=_by_hour(job.time, job.plan.population, min(_WEEK, math.ceil(24 * days))),
    )


_WEEK = 7 * 24
_CONVERGED = 0.9
"""Share of the gain of the best round after which a run counts as converged."""


def _converged_days(rows: Sequence[RoundRow]) -> float | None:
    """Days from the first call to the first round that brought most of the best round's gain.

    What a run gains is counted from its first round, the earliest that is judged.
    """
    judged = [
        (time, accuracy)
        for row in rows
        if (time := row.simulation_only.time) is not None
        and (accuracy := row.simulation_only.held_out_accuracy) is not None
    ]
    if not judged:
        return None
    begun, start = judged[0]
    gain = max(accuracy for _, accuracy in judged) - start
    if gain <= 0:
        return None
    end = next(time for time, accuracy in judged if accuracy >= start + _CONVERGED * gain)
    return (end.called_h - begun.called_h) / 24 + end.finished_s / 86_400


def _by_hour(time: TimeAxis, population: int, hours: int) -> tuple[PhonesAtHour, ...]:
    """Phones of a population that could be asked, hour by hour from the first call."""
    first, found = time.called_h(0), []
    for hour in (first + number for number in range(hours + 1)):
        eligible = population * time.days.share(hour, time.rules.policy)
        share = time.share_consented_at(hour, population)
        found.append(
            PhonesAtHour(
                hour=hour,
                eligible=eligible,
                consented=round(share * population),
                both=share * eligible,
            )
        )
    return tuple(found)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
