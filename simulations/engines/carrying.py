"""Which engine carries the messages of a job."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from fedspeech.job import Job
from fedspeech.own_code import is_handed_over
from simulations.engines.deployment import Deployment
from simulations.engines.flower import SuperLink
from simulations.engines.in_process import InProcess
from simulations.results.environment import Engine

PHONES_WORTH_WORKERS = 2000  # trained over all rounds: what one process does while others start


def carrier(
    engine: Engine, job: Job, path: Path, workers: int
) -> AbstractContextManager[InProcess | SuperLink]:
    """What carries the messages of the rounds; the bits are the same whatever does.

    Args:
      engine: as whoever runs the job names it.
      job: read from `path`.
      path: of `job.json`; what an engine needs for itself stands beside it while it runs.
      workers: processes.
    """
    place = path.parent / "flower"
    match engine:
        case "flower":
            return SuperLink(place, federation=_federation(job, workers))
        case "deployment":
            return Deployment(place, path)
    # A run that is over before workers have started needs none.
    trained = job.plan.rounds * job.plan.expected_cohort
    here = trained < PHONES_WORTH_WORKERS or any(map(is_handed_over, job.query.brought()))
    return nullcontext(InProcess(1 if here else workers))  # workers end with the rounds


def _federation(job: Job, workers: int) -> str:
    """What Flower's simulation engine is told: a node per shard, Ray's cores."""
    federation = f"num-supernodes={job.num_shards} client-resources-num-cpus=1"
    if "RAY_ADDRESS" not in os.environ:  # a cluster that is there has the cores that it has
        federation += f" init-args-num-cpus={workers}"
    return federation
