"""From what shards left of a round to its figures in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedspeech.device.virtual_time import CHECK_IN_S
from fedspeech.job import Job
from fedspeech.privacy.plan import PrivacyPlan
from server.rounds import RoundRecord
from simulations.results.rows import RoundRow, RoundTime
from simulations.results.summary import RunTime


def round_time(job: Job, record: RoundRecord) -> RoundTime | None:
    """Collects what shards left of the times of a round; None if nothing, or there is no time."""
    files = sorted(Path(job.eye).glob(f"times-{record.round:05d}-shard-*.npz"))
    if job.time is None or not files:
        return None
    called, seconds, sends = 0, [], []
    for file in files:
        with np.load(file) as left:
            called += int(left["called"])
            seconds.append(left["seconds"])
            sends.append(left["sends"])
        file.unlink()
    joined, sent = np.concatenate(seconds), np.concatenate(sends)
    answers, floor, deadline_s = np.sort(joined[sent]), job.plan.min_survivors, job.time.deadline_s
    missing = len(answers) < len(joined) or not len(joined)
    return RoundTime(
        called_h=job.time.called_h(record.round),
        called=called,
        joined=len(joined),
        late=int((joined > deadline_s).sum()),
        phone_s_median=float(np.median(joined)) if len(joined) else None,
        phone_s_90=float(np.quantile(joined, 0.9)) if len(joined) else None,
        enough_s=CHECK_IN_S + float(answers[floor - 1]) if len(answers) >= floor else None,
        finished_s=CHECK_IN_S + (deadline_s if missing else float(answers[-1])),
    )


def run_time(rows: Sequence[RoundRow], plan: PrivacyPlan) -> RunTime | None:
    """Sums up the rounds of a run; None if none was played in time."""
    rounds = [row.simulation_only.time for row in rows if row.simulation_only.time is not None]
    if not rounds:
        return None
    called, joined = (sum(getattr(one, name) for one in rounds) for name in ("called", "joined"))
    first, last = rounds[0], rounds[-1]
    return RunTime(
        days=(last.called_h - first.called_h) / 24 + last.finished_s / 86_400,
        finish_s=float(np.median([one.finished_s for one in rounds])),
        enough_s=_median([one.enough_s for one in rounds]),
        phone_s=_median([one.phone_s_median for one in rounds]),
        share_away=1 - joined / called if called else 0.0,
        share_late=sum(one.late for one in rounds) / joined if joined else 0.0,
        over_selection=joined / len(rounds) / plan.min_survivors,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
