"""Flower's own strategies: they run on the grid over any app, and get nothing from these phones."""

import math

import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAdam, FedAvg
from tiny_job import make_job

from clients.app import app as phones
from simulations.engines.in_process import InProcessGrid


@pytest.mark.parametrize(
    ("strategy", "first"),
    [
        (FedAvg, 2.0),
        # Its defaults are eta 0.1, beta_1 0.9, beta_2 0.99 and tau 1e-3. Both moments start at 0
        # and become 0.1 x 2 and 0.01 x 4; Flower corrects the step for that with the exponent
        # round + 1: eta sqrt(1 - beta_2^2) / (1 - beta_1^2) x m / (sqrt(v) + tau).
        (FedAdam, 0.1 * math.sqrt(1 - 0.99**2) / (1 - 0.9**2) * 0.2 / (0.2 + 1e-3)),
    ],
    ids=["FedAvg", "FedAdam"],
)
def test_a_stock_strategy_runs_on_the_grid_over_an_ordinary_app(strategy, first):
    """Partitions 0, 1 and 2 add 1, 2 and 3 to every weight: 2 on average."""
    models = []

    def seen(server_round, arrays):
        models.append(arrays.to_numpy_ndarrays()[0])

    with InProcessGrid("counting_app:app", num_nodes=3) as grid:
        result = strategy(min_available_nodes=3).start(
            grid=grid,
            initial_arrays=ArrayRecord([np.zeros(2, np.float32)]),
            num_rounds=3,
            evaluate_fn=seen,
        )
    means = [float(model.mean()) for model in models[1:]]
    assert len(means) == 3
    assert means == sorted(means)
    assert means[0] == pytest.approx(first, rel=1e-5)
    assert result.train_metrics_clientapp[3]["calls"] == pytest.approx(3)


@pytest.mark.parametrize("strategy", [FedAvg, FedAdam], ids=lambda kind: kind.__name__)
def test_a_stock_strategy_gets_no_update_of_a_phone_of_this_library(tmp_path, strategy):
    """It would average updates without clip, noise, mask or charge; every phone refuses it."""
    path, job, _ = make_job(tmp_path)
    replies = []

    class Watched(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            found = list(super().send_and_receive(messages, timeout=timeout))
            replies.extend(found)
            return found

    with Watched(phones, job.num_shards, {"job": str(path)}) as grid:
        initial = ArrayRecord([np.zeros(job.plan.dimension, np.float32)])
        strategy(min_available_nodes=3).start(grid=grid, initial_arrays=initial, num_rounds=1)
    assert len(replies) >= job.num_shards
    for reply in replies:
        assert reply.has_error()
        assert "records message and vectors, got" in reply.error.reason or (
            "No evaluate function registered" in reply.error.reason
        )


@pytest.mark.slow
def test_the_same_phones_answer_this_librarys_server(tmp_path):
    """Or the refusal above would prove nothing."""
    from whole_runs import run_in_grid

    path, job, arrays = make_job(tmp_path)
    records, _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl")
    assert records[0].status == "completed"
