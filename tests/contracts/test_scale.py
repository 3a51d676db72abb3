"""A round costs what its cohort costs, whatever the population; and five hundred leave no trace."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_job import make_job, with_plan
from whole_runs import run_in_grid, run_reference

from clients.durable_state import DurableState
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from fedspeech.training.virtual_phones import VirtualPhones
from server.rounds import run_rounds
from simulations.engines.in_process import InProcessGrid

MILLION = 1_000_000


def million_phones(folder, cohort, rounds, **plan):
    """A job of a million phones drawn from 60 voices; returns its path, the job and its arrays."""
    path, job, _ = make_job(folder)
    job = dataclasses.replace(
        with_plan(
            job, population=MILLION, participation_probability=cohort / MILLION, rounds=rounds,
            max_participations=2, min_cohort=int(0.5 * cohort), min_reporting=int(0.4 * cohort),
            delta=1 / (10 * MILLION), **plan,
        ),
        virtual_phones=VirtualPhones(seed=5, share=0.5),
        durable_state=str(folder / "memory"),
    )  # fmt: skip
    job.save(path)
    return path, job, job.load_arrays()


def test_a_million_phones_give_the_same_integers_here_and_over_messages(tmp_path):
    path, job, arrays = million_phones(tmp_path, cohort=40, rounds=2, dropout_rate=0.06)
    totals, _ = run_reference(job, arrays, tmp_path / "reference.jsonl")
    records, _ = run_in_grid(path, job, arrays, tmp_path / "l.jsonl")
    for record, total in zip(records, totals, strict=True):
        np.testing.assert_array_equal(record.total, total)
    kept = sum(
        len(DurableState(tmp_path / "memory", shard).read()) for shard in range(job.num_shards)
    )
    assert kept < 10_000  # bytes: of those who sent, not of a million


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
@pytest.mark.parametrize("sums", ["ideal", "masked"])
def test_memory_stays_flat_over_five_hundred_rounds(tmp_path, sums):
    """Resident memory, mean over the last hundred rounds against the first hundred."""
    path, job, arrays = million_phones(
        tmp_path, cohort=60, rounds=500, secure_aggregation=sums, epsilon_budget=1e6
    )
    resident = []

    def on_round(record, state):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * os.sysconf("SC_PAGE_SIZE"))

    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}, 1) as grid:
        run_rounds(grid, job, ledger, ServerState.initial(job, arrays), on_round)
    first, last = np.mean(resident[:100]), np.mean(resident[-100:])
    assert len(resident) == 500
    assert last <= 1.02 * first, f"{first / 1e6:.1f} MB, then {last / 1e6:.1f} MB"
