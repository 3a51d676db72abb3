"""TensorBoard, MLflow and Weights and Biases, where they are installed: what each wrote to disk."""

import platform
import time

import pytest

from fedspeech.extras import MissingExtra
from simulations.callbacks.callback import Figure, RunEnd, RunInfo
from simulations.callbacks.configured import loggers
from simulations.callbacks.mlflow import MLflowLogger
from simulations.callbacks.tensorboard import TensorBoardLogger
from simulations.callbacks.wandb import WandbLogger
from simulations.scenario.reading import read_scenario

END = RunEnd(
    status="complete", stopped="budget reached", figures=[Figure("epsilon_release", 0.5, "public")]
)


def info(folder, known=0):
    return RunInfo(
        name="tiny", folder=folder, key="a1b2c3", rounds=4, known=known,
        settings={"privacy.rounds": 4}, released=False,
    )  # fmt: skip


def follow(logger, folder, rounds, known=0, end=True):
    logger.on_start(info(folder, known))
    for number in rounds:
        logger.on_round(number, [Figure("validation_loss", 1.0 / number, "public")])
    if end:
        logger.on_stage("personalize", [Figure("accuracy/words", 0.75, "simulation_only")])
        logger.on_end(END)


@pytest.mark.parametrize(
    ("key", "extra"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")]
)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, key, extra):
    monkeypatch.setattr("fedspeech.extras.find_spec", lambda name: None)
    scenario = read_scenario("quick", [f'callbacks.{key}="somewhere"'])
    with pytest.raises(MissingExtra, match=rf"pip install 'fedspeech\[{extra}\]'") as refused:
        list(loggers(scenario.callbacks))
    assert "\n" not in str(refused.value)


def test_a_scenario_without_loggers_has_none():
    assert list(loggers(read_scenario("quick").callbacks)) == []


@pytest.mark.slow
def test_tensorboard_holds_every_round_once(tmp_path):
    pytest.importorskip("tensorboard", reason="needs fedspeech[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    follow(TensorBoardLogger(), tmp_path, (1, 2, 3), end=False)
    follow(TensorBoardLogger(), tmp_path, (3, 4), known=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "public/validation_loss", "simulation/accuracy/words", "public/epsilon_release",
    }  # fmt: skip
    assert [event.step for event in events.Scalars("public/validation_loss")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_mlflow_holds_one_run_also_after_a_kill(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs fedspeech[mlflow]")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    follow(MLflowLogger(uri), tmp_path, (1, 2), end=False)
    follow(MLflowLogger(uri), tmp_path, (3,), known=2)
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("fedspeech").experiment_id
    (run,) = client.search_runs([experiment])
    history = client.get_metric_history(run.info.run_id, "public/validation_loss")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert run.data.params == {"privacy.rounds": "4"}
    assert run.data.metrics["simulation/accuracy/words"] == 0.75
    assert (run.info.status, run.data.tags["fedspeech.stopped"]) == ("FINISHED", "budget reached")
    assert not [tag for tag in run.data.tags if "user" in tag or "source" in tag]


@pytest.mark.slow
def test_wandb_works_without_a_network_and_sends_no_word_of_the_machine(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs fedspeech[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    follow(WandbLogger("fedspeech"), tmp_path, (1, 2))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    written, until = b"", time.monotonic() + 20
    while b"epsilon_release" not in written and time.monotonic() < until:  # another process writes
        time.sleep(0.2)
        written = b"".join(file.read_bytes() for file in folder.glob("*.wandb"))
    assert b"public/validation_loss" in written
    assert b"simulation/accuracy/words" in written
    assert f'"{platform.node()}"'.encode() not in written
    assert str(tmp_path).encode() not in written
    assert not [file for file in folder.rglob("*") if file.suffix in (".txt", ".py", ".patch")]
