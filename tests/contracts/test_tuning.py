"""A trial of a tuning is a run of `fedspeech simulate`, bit for bit, and luck is shared."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_experiment import TINY, cache, tiny_experiment, tiny_scenario

from fedspeech.privacy.participation import PoissonParticipation
from server.state import load_checkpoint
from simulations.evaluation.evaluator import Evaluator
from simulations.run.runner import simulate
from simulations.scenario.reading import read_scenario
from simulations.tuning.results import Tuning
from simulations.tuning.space import Setting
from simulations.tuning.trial import Panel, run_trial
from simulations.tuning.tuner import Request, _ground, tune

COMMAND = [sys.executable, "-c", "from simulations.cli import main; main()", "tune"]
CLIPS, NOISES = (0.05, 0.1, 0.2), (0.5, 1.0, 4.0)
OTHER = Setting(clip_norm=0.05, noise_multiplier=1.5, server_learning_rate=0.7, local_epochs=1)


def adapter_of_simulate(folder, scenario):
    """SHA-256 of the adapter that a whole run ends with, sums masked."""
    assert scenario.privacy.secure_aggregation == "masked"
    simulate(scenario, out=folder, workers=1, cache=cache())
    adapter = load_checkpoint(folder / "checkpoints" / "last.safetensors").state.model
    return hashlib.sha256(adapter.tobytes()).hexdigest(), adapter


def never(curve):
    return False


@pytest.mark.slow
def test_a_trial_ends_with_the_adapter_of_simulate_under_the_same_settings(tmp_path):
    scenario = OTHER.scenario(tiny_scenario())
    expected, adapter = adapter_of_simulate(tmp_path / "run", scenario)
    job = OTHER.job(tiny_experiment().job)
    job = dataclasses.replace(job, plan=dataclasses.replace(job.plan, secure_aggregation="ideal"))
    panel = Panel.of_held_out_phones(tiny_experiment(), tiny_experiment().evaluation())
    found = run_trial(job, panel, never, None)
    assert found.adapter_sha256 == expected
    judge = Evaluator(tiny_experiment(), scenario)
    assert np.mean(found.accuracies) == pytest.approx(judge.held_out_accuracy(adapter), abs=1e-12)
    public = Panel.of_public_speakers(tiny_experiment(), panel.task)
    clips = np.array([len(own) for own in public.clips])
    assert (public.accuracies(adapter) * clips).sum() / clips.sum() == pytest.approx(
        judge.validation(adapter)["validation_accuracy"], abs=1e-12
    )


@pytest.mark.slow
def test_the_trial_at_the_scenarios_own_setting_repeats_its_run(tmp_path):
    expected, _ = adapter_of_simulate(tmp_path / "run", tiny_scenario())
    ground = _ground(tiny_scenario(), tiny_experiment(), "synthetic")
    own = Setting.of(tiny_scenario()).job(ground.job)
    assert run_trial(own, ground.panel, never, None).adapter_sha256 == expected


@pytest.mark.slow
def test_trials_share_cohorts_and_noise_keys_where_nobody_pays_and_nothing_where_somebody_does():
    built = tiny_experiment()
    free, charged = (
        _ground(tiny_scenario("seed=1"), built, population)
        for population in ("synthetic", "charged")
    )
    jobs = [setting.job(free.job) for setting in (Setting.of(tiny_scenario()), OTHER)]
    keys = [job.entropy().keystream("noise", b"rid", 0, 7).bytes(8) for job in jobs]
    assert keys[0] == keys[1]
    assert jobs[0].round_key(1).round_id == jobs[1].round_key(1).round_id
    # The tiny plan has everybody take part; half of them tell a schedule from another.
    half = PoissonParticipation(population=400, probability=0.5)
    cohorts = [half.cohort(job.entropy().keystream("cohort", 0)) for job in jobs]
    np.testing.assert_array_equal(*cohorts)
    assert charged.job.noise_entropy == "os"
    assert not charged.job.repeats
    assert charged.job.plan == built.job.plan
    fresh = [charged.job.entropy().keystream("noise", b"rid", 0, 7).bytes(8) for _ in range(2)]
    assert fresh[0] != fresh[1]
    assert charged.panel.visibility == "server"


def arguments(folder, *more):
    settings = [part for change in TINY for part in ("--set", change)]
    return [
        "--scenario", "quick", *settings, "--cache", str(cache()), "--out", str(folder),
        "--clip-norm", ",".join(map(str, CLIPS)), "--noise-multiplier",
        ",".join(map(str, NOISES)), "--seeds", "2", *more,
    ]  # fmt: skip


def start(folder, *more):
    return subprocess.Popen(
        [*COMMAND, *arguments(folder, *more)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )  # fmt: skip


def results(folder):
    """Everything but time."""
    found = Tuning.model_validate_json((folder / "results.json").read_text())
    return found.model_copy(update={"seconds": 0.0, "cpu_seconds": 0.0})


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("grid", marks=pytest.mark.slow),
        pytest.param("pareto", marks=pytest.mark.soak),
    ],
)
def test_a_killed_search_goes_on_and_ends_as_if_nothing_had_happened(tmp_path, capsys, mode):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process, seen = start(killed, "--mode", mode, "--trials", "14", "--workers", "2"), 0
    for line in process.stdout:
        seen += line.startswith("trial ")
        if seen == 4:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert seen == 4
    assert not (killed / "results.json").exists()

    def go_on(folder):
        request = Request(mode=mode, clip_norm=CLIPS, noise_multiplier=NOISES, seeds=2, trials=14)
        tune(tiny_scenario(), request, out=folder, workers=1, cache=cache())
        return sum(line.startswith("trial ") for line in capsys.readouterr().out.splitlines())

    repeated, uninterrupted = go_on(killed), go_on(whole)
    assert repeated <= uninterrupted - 4
    assert results(killed) == results(whole)
    assert not (killed / "trials").exists()
    assert (killed / "recommended.toml").read_text() == (whole / "recommended.toml").read_text()


@pytest.mark.slow
def test_a_recommended_scenario_runs_as_it_is(tmp_path):
    scenario = tiny_scenario()
    folder = tune(
        scenario,
        Request(mode="grid", clip_norm=(0.05, 0.2), noise_multiplier=(1.0,), seeds=1),
        out=tmp_path / "tune",
        workers=1,
        cache=cache(),
    )
    ready = read_scenario(str(folder / "recommended.toml"))
    found = results(folder)
    chosen = found.trial(found.recommended.number)
    assert Setting.of(ready) == Setting(
        clip_norm=chosen.clip_norm,
        noise_multiplier=chosen.noise_multiplier,
        server_learning_rate=chosen.server_learning_rate,
        local_epochs=chosen.local_epochs,
    )
    run = simulate(ready, out=tmp_path / "run", workers=1, cache=cache())
    summary = json.loads((run / "summary.json").read_text())
    assert summary["guarantee"]["epsilon_release"] == pytest.approx(
        chosen.guarantee.epsilon_release
    )
