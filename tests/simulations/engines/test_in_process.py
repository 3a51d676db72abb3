import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedspeech.errors import FedspeechError
from simulations.engines.in_process import InProcessGrid

APP = "counting_app:app"


def ask(grid, kind, content=None):
    messages = [Message(content or RecordDict(), node_id, kind) for node_id in grid.get_node_ids()]
    return list(grid.send_and_receive(messages))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_flowers_own_fedavg_runs_unchanged(workers):
    with InProcessGrid(APP, num_nodes=5, workers=workers) as grid:
        result = FedAvg(min_available_nodes=5).start(
            grid=grid, initial_arrays=ArrayRecord([np.zeros(3, np.float32)]), num_rounds=3
        )
    # Partitions 0..4 add 1..5, so every round adds 3 on average; state counts the calls. Replies
    # come in any order, and Flower adds float32 in the order in which they come.
    np.testing.assert_allclose(result.arrays.to_numpy_ndarrays()[0], np.full(3, 9.0), rtol=1e-6)
    calls = [result.train_metrics_clientapp[r]["calls"] for r in (1, 2, 3)]
    assert calls == pytest.approx([1, 2, 3])
    assert result.evaluate_metrics_clientapp[3]["mean"] == pytest.approx(9.0)


def test_an_exception_of_the_app_reaches_the_server_as_an_error_reply():
    with InProcessGrid(APP, num_nodes=2) as grid:
        replies = ask(grid, "query.fail")
    assert all(reply.has_error() for reply in replies)
    assert "the app broke" in replies[0].error.reason


def test_one_grid_at_a_time():
    with (
        InProcessGrid(APP, num_nodes=1),
        pytest.raises(RuntimeError, match="one InProcessGrid at a time"),
    ):
        InProcessGrid(APP, num_nodes=1)
    InProcessGrid(APP, num_nodes=1).close()


def test_an_unknown_node_is_refused():
    with InProcessGrid(APP, num_nodes=1) as grid, pytest.raises(ValueError, match="no node 99"):
        grid.push_messages([Message(RecordDict(), 99, "query.fail")])


@pytest.mark.slow
def test_a_dead_worker_is_said_and_not_waited_for():
    """It dies over its message; the next time it is dead before it is handed one."""
    with InProcessGrid(APP, num_nodes=2, workers=2) as grid:
        for _ in range(2):
            with pytest.raises(FedspeechError, match=r"worker process died.* stays charged"):
                ask(grid, "query.die")


@pytest.mark.parametrize(("nodes", "workers"), [(0, 1), (2, 0)])
def test_a_grid_without_nodes_or_workers_is_refused(nodes, workers):
    with pytest.raises(ValueError, match=f"at least one node and worker, got {nodes}, {workers}"):
        InProcessGrid(APP, num_nodes=nodes, workers=workers)


def test_workers_need_the_app_by_its_path_and_the_path_must_name_an_app():
    from counting_app import app

    with pytest.raises(ValueError, match="give the app as module:attribute"):
        InProcessGrid(app, num_nodes=2, workers=2)
    with pytest.raises(ValueError, match="must be a flwr ClientApp, got module"):
        InProcessGrid("counting_app:np", num_nodes=1)
    InProcessGrid(app, num_nodes=1).close()  # a refused grid is not left open


def test_a_reply_is_pulled_once():
    with InProcessGrid(APP, num_nodes=2) as grid:
        ids = grid.push_messages(
            [Message(RecordDict(), node, "query.fail") for node in grid.get_node_ids()]
        )
        assert len(grid.pull_messages(ids)) == 2
        assert not grid.pull_messages(ids)


@pytest.mark.slow
def test_what_breaks_off_a_grid_kills_its_workers_and_frees_the_process():
    import multiprocessing

    def work_until_interrupted():
        with InProcessGrid(APP, num_nodes=2, workers=2) as grid:
            ask(grid, "query.fail")
            assert len(multiprocessing.active_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_until_interrupted()
    assert not multiprocessing.active_children()
    InProcessGrid(APP, num_nodes=1).close()
