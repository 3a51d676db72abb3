"""However a run ends, what it leaves can be read, and nothing goes on running."""

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed import in_child
from tiny_experiment import TINY, cache, tiny_experiment, tiny_scenario

import server.app
from fedspeech.errors import FedspeechError, LedgerDamaged, NoRoundRan, ScenarioError
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import rounded_up
from simulations.results.run_folder import RunFolder, read
from simulations.run import runner
from simulations.run.preparing import prepare
from simulations.run.resume import resume
from simulations.run.runner import _why, simulate
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.planning import plan_of

COMMAND = [sys.executable, "-c", "from simulations.cli import main; main()"]
ROUNDS = "privacy.rounds=200"  # more than are over before the signal comes


def start(folder, *changes, workers=1, store=None):
    """Starts a tiny run in a session of its own that hears Ctrl-C, as a terminal would.

    What a shell has put into the background does not hear it, these tests included.
    """
    settings = [part for change in (*TINY, *changes) for part in ("--set", change)]
    return subprocess.Popen(
        [*COMMAND, "simulate", "-s", "quick", "--out", "run", "--workers", str(workers),
         "--cache", str(store or cache()), *settings],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip


def wait_for(process, pattern):
    """Reads lines up to the first that matches."""
    for line in process.stdout:
        if re.search(pattern, line):
            return
    raise AssertionError(f"never said {pattern}")


def still_running(session, grace_s=5.0):
    """Processes of a session that are alive after a grace; the system's reaper needs a moment."""
    deadline = time.monotonic() + grace_s
    while (found := _alive(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _alive(session):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (FedspeechError("the floor is 3, got 2"), "the floor is 3, got 2"),
        (OSError(28, "No space left on device", "/home/me/run"), "No space left on device"),
        (RuntimeError("/home/me"), "an error of fedspeech itself (RuntimeError)"),
    ],
)
def test_a_summary_says_why_a_run_stopped_and_never_where(error, words):
    assert _why(error) == words


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, capsys):
    with pytest.raises(ScenarioError, match="give their folder, `corpus`"):
        simulate(read_scenario("real-commands"), out=tmp_path / "run", workers=1, cache=cache())
    assert not (tmp_path / "run").exists()
    assert "nothing was sent" in capsys.readouterr().out


def test_a_run_that_cannot_begin_removes_what_it_made_and_nothing_of_the_users(
    tmp_path, monkeypatch
):
    notes = tmp_path / "run" / "checkpoints" / "notes.txt"

    def interrupted(*_, **__):
        notes.write_text("dear")
        raise KeyboardInterrupt

    monkeypatch.setattr("simulations.run.preparing.build_experiment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache())
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [notes]
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("simulations.run.preparing.build_experiment", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate(tiny_scenario(), out=tmp_path / "empty", workers=1, cache=cache())
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_shared_ledger_outlives_a_run_that_cannot_begin(tmp_path, monkeypatch):
    (tmp_path / "population.jsonl").write_bytes(b"")
    monkeypatch.setattr("simulations.run.preparing.build_experiment", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate(
            tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache(),
            ledger=tmp_path / "population.jsonl",
        )  # fmt: skip
    assert (tmp_path / "population.jsonl").exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("start", [simulate, prepare])
def test_a_run_that_cannot_pay_a_round_is_refused_before_it_is_prepared(
    tmp_path, monkeypatch, start
):
    monkeypatch.setattr(
        "simulations.setup.experiment._base", lambda *_: pytest.fail("a base was made")
    )
    begun = functools.partial(start, out=tmp_path / "run", workers=1, cache=cache())
    with pytest.raises(NoRoundRan, match=r"no round can run: .*epsilon_budget=0.01.*[Rr]aise priv"):
        begun(tiny_scenario("privacy.epsilon_budget=0.01"))
    # A ledger of another population, of a file that is none, and one that is spent already.
    ledger = tmp_path / "population.jsonl"
    plan = plan_of(tiny_scenario().privacy, Experiment.from_scenario(tiny_scenario()).sizes).plan
    spent = Ledger.open(ledger, plan, "earlier", "os")
    for number in range(3):
        spent.charge(number, 0, bytes([number]) * 16)
    before, paid = ledger.read_bytes(), spent.guarantee().epsilon_release
    heads = sorted(Path(os.environ["FEDSPEECH_STATE"]).rglob("*"))
    with pytest.raises(NoRoundRan, match=f"epsilon_release from {rounded_up(paid, 4)} to"):
        begun(tiny_scenario(f"privacy.epsilon_budget={paid}"), ledger=ledger)
    with pytest.raises(ScenarioError, match="ledger of another population"):
        begun(tiny_scenario("corpus.federated_phones=13"), ledger=ledger)
    assert ledger.read_bytes() == before
    assert sorted(Path(os.environ["FEDSPEECH_STATE"]).rglob("*")) == heads
    ledger.write_bytes(before.replace(b"opened", b"0pened"))
    with pytest.raises(LedgerDamaged):
        begun(tiny_scenario(), ledger=ledger)
    assert not any((tmp_path / "run").glob("*"))


def test_an_engine_that_cannot_start_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 200)
    with pytest.raises(FedspeechError, match=r"RAY_TMPDIR=.* has 201"):
        simulate(
            tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache(), engine="flower"
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_a_run_in_which_no_round_ran_says_so_first_and_exports_nothing(
    tmp_path, capsys, monkeypatch
):
    # Another run may spend a shared budget while this one is prepared.
    monkeypatch.setattr(Ledger, "require_first_round", lambda *_: None)
    monkeypatch.setattr("simulations.run.runner.export_files", lambda *_: pytest.fail("exported"))
    with pytest.raises(NoRoundRan, match="budget reached before round 1"):
        simulate(
            tiny_scenario("privacy.epsilon_budget=0.01", "export.at_end=true"),
            out=tmp_path / "run", workers=1, cache=cache(),
        )  # fmt: skip
    printed = capsys.readouterr().out
    last = printed[printed.index("report: ") :].splitlines()[1:]
    assert last[0].startswith("no round ran to its end: budget reached before round 1")
    assert f"to go on: fedspeech resume {tmp_path / 'run'}" in last
    summary = read(tmp_path / "run").summary
    assert (summary.status, summary.rounds, summary.sections) == ("partial", 0, ())
    with pytest.raises(FedspeechError, match=r"holds a run that did not end: `fedspeech resume"):
        simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache())


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "collapsed"), [(1.0, False), (8.0, False), (20.0, True)])
def test_collapse_is_said_when_noise_drowns_quick_and_only_then(tmp_path, capsys, noise, collapsed):
    changes = [f"privacy.noise_multiplier={noise}", "privacy.secure_aggregation=ideal"]
    scenario = read_scenario("quick", ["export.at_end=false", *changes])
    folder = simulate(scenario, out=tmp_path / "run", workers=1, cache=cache())
    summary = read(folder).summary
    assert summary.utility.collapsed is collapsed
    for text in (capsys.readouterr().out, (folder / "report.html").read_text()):
        assert ("more phones per round" in text) is collapsed


@pytest.mark.soak
@pytest.mark.parametrize("noise", [3.0, 12.0])
def test_collapse_is_not_said_of_default(tmp_path, noise):
    changes = [f"privacy.noise_multiplier={noise}", "privacy.secure_aggregation=ideal"]
    folder = simulate(
        read_scenario("default", ["export.at_end=false", *changes]),
        out=tmp_path / "run",
        workers=1,
        cache=cache(),
    )
    assert read(folder).summary.utility.collapsed is False


@pytest.mark.parametrize("kind", ["full", "file"])
def test_a_place_that_is_taken_is_refused_and_left_alone(tmp_path, kind):
    out = tmp_path / "run"
    if kind == "full":
        out.mkdir()
        (out / "thesis.txt").write_text("dear")
    else:
        out.write_text("dear")
    with pytest.raises(FedspeechError, match=r"a run needs a (new or empty )?folder"):
        simulate(read_scenario("quick"), out=out, workers=1, cache=cache())
    assert ((out / "thesis.txt") if kind == "full" else out).read_text() == "dear"


def test_a_cache_that_is_no_folder_or_full_is_said_before_anything_is_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        FedspeechError, match=r"the cache \(`cache` or .* names another\) must be writable"
    ):
        simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=tmp_path / "file")
    assert not (tmp_path / "run").exists()
    usage = shutil.disk_usage(tmp_path)

    def full(path):
        free = 10 if Path(path).name == "cache" else usage.free
        return usage._replace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(
        FedspeechError, match=r"the cache \(.*\) needs 200 MB of free disk, got 0 MB"
    ):
        simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=tmp_path / "cache")


def test_a_whole_run_in_plain_lines(tmp_path, capsys):
    folder = simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache())
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    rounds = re.findall(
        r"round +\d/2  public +[\d.]+%  held-out +[\d.]+%  epsilon release [\d.,]+ server [\d.,]+"
        r"  signal to noise [\d.]+, so far [\d.]+  reporting phones \d+/\d+  [\d,]+ phones/s",
        printed,
    )
    assert len(rounds) == 2
    assert "so not for release" in printed
    results = read(folder)
    assert results.summary.status == "complete"
    assert [row.status for row in results.rows] == ["completed"] * 2
    assert (folder / "report.html").exists()
    assert not list((folder / "simulation_only").glob("*.npz"))
    for name in (
        "ledger.jsonl",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "adapter/README.md",
    ):
        assert "so not for release" in (folder / name).read_text(), name


@pytest.mark.slow
def test_a_run_whose_export_kills_it_leaves_summary_and_report_and_goes_on(tmp_path, monkeypatch):
    def run(export_files):
        monkeypatch.setattr(runner, "export_files", export_files)
        simulate(
            tiny_scenario("export.at_end=true"), out=tmp_path / "run", workers=1, cache=cache()
        )

    crash = in_child(run, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    assert crash == -signal.SIGKILL
    summary = read(tmp_path / "run").summary
    assert summary.status == "partial"
    assert summary.stopped == "the export had begun and had not ended"
    assert "personalized" in summary.section("accuracy").by_model()
    assert summary.stopped in (tmp_path / "run" / "report.html").read_text()
    resume(tmp_path / "run", workers=1, cache=cache())
    summary = read(tmp_path / "run").summary
    assert (summary.status, summary.stopped) == ("complete", None)


@pytest.mark.slow
def test_the_simulator_sees_what_was_clipped_and_what_wrapped(tmp_path):
    folder = simulate(
        tiny_scenario("privacy.rounds=1", "privacy.clip_norm=1e-3", "privacy.max_participations=1"),
        out=tmp_path / "run", workers=1, cache=cache(),
    )  # fmt: skip
    (row,) = read(folder).rows
    assert row.simulation_only.share_clipped == 1
    assert row.simulation_only.true_wraps == 0


@pytest.mark.slow
def test_a_spent_budget_ends_in_a_whole_report(tmp_path):
    plan = tiny_experiment().job.plan
    budget = (plan.guarantee(1).epsilon_release + plan.guarantee(2).epsilon_release) / 2
    folder = simulate(
        tiny_scenario(f"privacy.epsilon_budget={budget}"),
        out=tmp_path / "run", workers=1, cache=cache(),
    )  # fmt: skip
    results = read(folder)
    assert [row.status for row in results.rows] == ["completed", "refused"]
    assert results.summary.status == "complete"
    assert results.summary.stopped == "budget reached before round 2"
    assert results.summary.rounds == 1
    assert results.summary.guarantee.epsilon_release <= budget == results.summary.epsilon_budget
    assert "personalized" in results.summary.section("accuracy").by_model()
    assert (folder / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["personalize", "export"])
def test_what_stops_a_later_stage_leaves_all_earlier_ones_readable(tmp_path, monkeypatch, stage):
    def stop(*_, **__):
        raise KeyboardInterrupt

    place = (
        (runner.Evaluator, "personalization")
        if stage == "personalize"
        else (runner, "export_files")
    )
    monkeypatch.setattr(*place, stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(
            tiny_scenario("export.at_end=true"), out=tmp_path / "run", workers=1, cache=cache()
        )
    results = read(tmp_path / "run")
    assert (results.summary.status, results.summary.rounds) == ("partial", 2)
    assert results.summary.stopped == "interrupted"
    assert len(results.rows) == 2
    assert bool(results.summary.section("accuracy").whole) == (stage == "export")
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_the_run_with_its_name_in_the_summary(tmp_path, monkeypatch):
    real, written = server.app.save_checkpoint, []

    def full(path, checkpoint):
        written.append(path)
        if len(written) == 2:  # each says that its round is over
            raise OSError(28, "No space left on device", str(path))
        real(path, checkpoint)

    monkeypatch.setattr(server.app, "save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache())
    results = read(tmp_path / "run")
    assert (results.summary.status, results.summary.stopped) == (
        "partial", "No space left on device",
    )  # fmt: skip
    assert len(results.rows) == 2
    # The second sum was opened before the disk was full: it is charged though it is not kept.
    assert (
        results.summary.guarantee.epsilon_release
        == tiny_experiment().job.plan.guarantee(2).epsilon_release
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "stop"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGTERM)]
)
def test_what_stops_the_rounds_leaves_a_readable_folder_and_no_process(tmp_path, workers, stop):
    process = start(
        tmp_path,
        ROUNDS,
        "privacy.max_participations=200",
        "privacy.noise_multiplier=20",
        workers=workers,
    )
    wait_for(process, "round +3/")
    os.killpg(process.pid, stop)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + stop
    assert "Traceback" not in printed
    assert not still_running(process.pid)
    folder = RunFolder(tmp_path / "run")
    results = read(folder.path)
    assert (results.summary.status, results.summary.stopped) == (
        "partial", "interrupted" if stop == signal.SIGINT else "terminated",
    )  # fmt: skip
    assert results.summary.rounds == len(results.rows) >= 3
    charges = folder.ledger.read_text().count('"kind": "charge"')
    assert charges - len(results.rows) in (0, 1)  # the round in the air stays charged
    assert folder.report.exists()
    assert (folder.adapter / "adapter_model.safetensors").exists()


@pytest.mark.slow
def test_ctrl_c_during_prepare_leaves_neither_folder_nor_process(tmp_path):
    process = start(tmp_path, "corpus.federated_phones=3000", workers=2, store=tmp_path / "cache")
    wait_for(process, "prepare: 512 of")
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "Traceback" not in printed
    assert not still_running(process.pid)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_killed_run_can_be_reported_and_says_what_it_cannot_do(tmp_path):
    process = start(
        tmp_path, ROUNDS, "privacy.max_participations=200", "privacy.noise_multiplier=20"
    )
    wait_for(process, "round +3/")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    done = {
        command: subprocess.run(
            [*COMMAND, command, "run", *more], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        for command, more in {"report": (), "compare": ("run",), "export": ()}.items()
    }  # fmt: skip
    assert done["report"].returncode == 0
    assert done["compare"].returncode == done["export"].returncode == 1
    assert "run has none" in done["compare"].stderr
    assert "its run was killed before it could end" in done["export"].stderr
    assert len(read(tmp_path / "run").rows) >= 3


@pytest.mark.slow
def test_a_run_of_many_phones_in_time_tells_its_days_and_leaves_no_phones_times(tmp_path, capsys):
    settings = (
        *TINY, "corpus.federated_phones=4000", "corpus.voices=12", "time.every_h=12",
        "privacy.participation_probability=0.1", "privacy.max_participations=2",
    )  # fmt: skip
    run = simulate(read_scenario("quick", settings), out=tmp_path / "run", workers=1, cache=cache())
    found = read(run)
    times = [row.simulation_only.time for row in found.rows]
    assert [one.called_h for one in times] == [2.0, 14.0]
    for row, there in zip(found.rows, (0.395, 0.105), strict=True):
        assert row.status == "completed"
        joined = row.simulation_only.time.joined / row.simulation_only.time.called
        assert 0.2 * there < joined < 1.8 * there  # of 400: five deviations at least
    assert found.summary.voices == 12
    assert found.summary.time.days == pytest.approx(0.5, abs=0.02)
    assert not (run / "simulation_only").exists()
    assert "4,000 phones drawn from 12 voices" in capsys.readouterr().out
    assert "Time to finish a round" in (run / "report.html").read_text()
