"""All rounds of a small job, by the reference round or over messages."""

from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, run_round
from server.rounds import run_rounds
from simulations.engines.in_process import InProcessGrid


def run_reference(job, arrays, ledger_path):
    """One round after the other in one place; returns the sums and the last state."""
    ledger = Ledger.open(ledger_path, job.plan, job.run_id, job.noise_entropy)
    state, totals = ServerState.initial(job, arrays), []
    for number in range(job.plan.rounds):
        state, total = run_round(job.query, state, job, arrays, ledger, number)
        totals.append(total)
    return totals, state


def run_through(grid, job, arrays, ledger):
    """Through an open grid, on an open ledger; returns records and the last state."""
    records = []
    state = run_rounds(
        grid, job, ledger, ServerState.initial(job, arrays), lambda r, s: records.append(r)
    )
    return records, state


def run_in_grid(path, job, arrays, ledger_path, workers=1, make_grid=InProcessGrid):
    """Through the phones' app, here or in worker processes; returns records and the last state."""
    ledger = Ledger.open(ledger_path, job.plan, job.run_id, job.noise_entropy)
    with make_grid("clients.app:app", job.num_shards, {"job": str(path)}, workers) as grid:
        return run_through(grid, job, arrays, ledger)
