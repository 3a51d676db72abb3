"""A run folder is taken to its end from wherever its run stopped."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from killed import in_child
from tiny_experiment import cache, tiny_scenario

from fedspeech.errors import FedspeechError
from simulations.engines import carrying
from simulations.engines.in_process import InProcessGrid
from simulations.results.run_folder import RunFolder, read, read_environment
from simulations.run import runner
from simulations.run.resume import resume
from simulations.run.runner import simulate
from simulations.scenario.writing import to_toml


def run(folder, *changes):
    return simulate(tiny_scenario(*changes), out=folder, workers=1, cache=cache())


def go_on(folder):
    return resume(folder, workers=1, cache=cache())


def left(path):
    """Adapter, ledger, rows and summary of a run, without what a clock says."""
    results, folder = read(path), RunFolder(path)
    rows = [row.model_dump(exclude={"seconds"}) for row in results.rows]
    summary = results.summary.model_dump(exclude={"seconds", "cpu_seconds"})
    adapter = (folder.adapter / "adapter_model.safetensors").read_bytes()
    return adapter, folder.ledger.read_bytes(), folder.checkpoint.read_bytes(), rows, summary


def stop_in_round(monkeypatch, number, error=KeyboardInterrupt):
    """Stops a run once its round has summed and before it is kept."""
    real = runner.Run._on_round

    def on_round(self, record, state):
        if record.round == number:
            monkeypatch.setattr(runner.Run, "_on_round", real)
            raise error
        real(self, record, state)

    monkeypatch.setattr(runner.Run, "_on_round", on_round)


FULL = OSError(28, "No space left on device")


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), pytest.param(FULL, marks=pytest.mark.slow)],
    ids=["ctrl-c", "full"],
)
def test_an_interrupted_seeded_ends_as_if_nothing_had_been(tmp_path, monkeypatch, capsys, error):
    run(tmp_path / "whole")
    stop_in_round(monkeypatch, 1, error)
    with pytest.raises(type(error)):
        run(tmp_path / "run")
    assert read(tmp_path / "run").summary.status == "partial"
    go_on(tmp_path / "run")
    assert "goes on with round 2 of 2" in capsys.readouterr().out
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    assert not (tmp_path / "run" / "phones").exists()
    with pytest.raises(FedspeechError, match="is complete; there is nothing to resume"):
        go_on(tmp_path / "run")


@pytest.mark.slow
def test_a_run_goes_on_with_another_cache_whose_identities_are_others(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    stop_in_round(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    shutil.copytree(cache(), tmp_path / "cache")
    (tmp_path / "cache" / "identities.key").unlink()
    resume(tmp_path / "run", workers=1, cache=tmp_path / "cache")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.slow
def test_on_other_code_an_interrupted_round_has_failed_and_says_so(tmp_path, monkeypatch, capsys):
    stop_in_round(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before = read_environment(folder.path)
    folder.write_environment(before.model_copy(update={"source_sha256": "0" * 64}))
    go_on(folder.path)
    assert "source_sha256: not what the run began with" in capsys.readouterr().out
    results = read(folder.path)
    assert [row.status for row in results.rows] == ["abandoned", "completed"]
    assert "it stays charged" in results.rows[0].reason
    assert results.summary.guarantee.rounds == 2


def test_a_run_still_going_on_is_not_resumed(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_scenario(to_toml(tiny_scenario()))
    with folder.hold(), pytest.raises(FedspeechError, match="still going on in another process"):
        go_on(folder.path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FedspeechError, match=r"holds no run to go on with: it has no scenario"):
        go_on(tmp_path)


@pytest.mark.slow
def test_a_scenario_that_was_edited_is_refused(tmp_path, monkeypatch):
    stop_in_round(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.write_scenario(to_toml(tiny_scenario("privacy.noise_multiplier=0.9")))
    with pytest.raises(FedspeechError, match="its scenario now makes another job"):
        go_on(folder.path)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("ideal", marks=pytest.mark.slow),
        pytest.param("masked", marks=pytest.mark.soak),
    ],
)
def test_killed_at_random_moments_a_run_ends_with_the_same_bits(tmp_path, way):
    """Twenty kills over as many lives of a few runs; each run ends as the uninterrupted one."""
    changes = (
        "privacy.rounds=6", "privacy.max_participations=6", f"privacy.secure_aggregation={way}",
        "privacy.participation_probability=1.0",
    )  # fmt: skip
    began = time.monotonic()
    run(tmp_path / "whole", *changes)
    lasted, expected = time.monotonic() - began, left(tmp_path / "whole")
    moments, kills = random.Random(7), 0
    for number in itertools.count():
        folder = tmp_path / f"run-{number}"
        work, arguments = run, (folder, *changes)
        while (status := in_child(work, *arguments, after_s=moments.random() * lasted)) != 0:
            if status == 70:  # killed when all was done: refused, nothing to resume
                assert RunFolder(folder).report.exists()
                break
            assert status == -9
            kills += 1
            if (folder / "scenario.toml").exists():
                work, arguments = go_on, (folder,)
            elif folder.exists():
                shutil.rmtree(folder)
        assert left(folder) == expected
        shutil.rmtree(folder)
        if kills >= 20:
            return


@pytest.mark.slow
def test_a_worker_that_is_killed_stops_the_run_with_the_reason_and_resume_takes_it_to_the_end(
    tmp_path, monkeypatch
):
    """Two workers; the bits are those of one process that nothing happened to."""
    changes = (
        "corpus.federated_phones=24", "privacy.rounds=4", "privacy.max_participations=4",
        "privacy.participation_probability=1.0",
    )  # fmt: skip
    run(tmp_path / "whole", *changes)
    monkeypatch.setattr(carrying, "PHONES_WORTH_WORKERS", 0)
    real = runner.Run._on_round

    def on_round(self, record, state):
        real(self, record, state)
        if record.round == 1:
            monkeypatch.setattr(runner.Run, "_on_round", real)
            (worker,) = InProcessGrid._open._pools[1]._processes
            os.kill(worker, signal.SIGKILL)

    monkeypatch.setattr(runner.Run, "_on_round", on_round)
    with pytest.raises(FedspeechError, match="a worker process died"):
        simulate(tiny_scenario(*changes), out=tmp_path / "run", workers=2, cache=cache())
    results = read(tmp_path / "run")
    assert (results.summary.status, results.summary.rounds) == ("partial", 2)
    assert "the round it was in stays charged" in results.summary.stopped
    resume(tmp_path / "run", workers=2, cache=cache())
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["flower", "deployment"])
def test_a_run_killed_behind_flower_is_taken_to_its_end_by_any_engine(tmp_path, engine):
    """Killed with SIGKILL after its first round; what Flower had finished meanwhile is kept."""
    run(tmp_path / "whole", "privacy.rounds=3", "privacy.max_participations=3")
    code = (
        "import sys; from tiny_experiment import tiny_scenario; from pathlib import Path\n"
        "from simulations.run.runner import simulate\n"
        "tiny = tiny_scenario('privacy.rounds=3', 'privacy.max_participations=3')\n"
        "simulate(tiny, out=Path(sys.argv[1]), workers=1,"
        " cache=Path(sys.argv[2]), engine=sys.argv[3])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run", cache(), engine], stdout=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    for line in child.stdout:
        if line.startswith("round "):
            break
    child.kill()
    child.wait()
    other = "inprocess" if engine == "flower" else None
    resume(tmp_path / "run", workers=1, cache=cache(), engine=other)
    assert left(tmp_path / "run") == left(tmp_path / "whole")
