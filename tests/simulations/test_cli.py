"""The command line: fast help, and for whatever a user does wrong one clear message."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fedspeech.errors import ScenarioError

COMMANDS = (
    [], ["budget"], ["simulate"], ["prepare"], ["pretrain"], ["export"], ["report"], ["compare"],
    ["doctor"], ["resume"], ["deploy"], ["deploy", "local"],
    ["data"], ["data", "list"], ["data", "check"], ["scenarios"], ["scenarios", "list"],
    ["scenarios", "show"],
)  # fmt: skip


@pytest.fixture
def fedspeech(monkeypatch, tmp_path, capfd):
    """Runs the command in an empty folder; returns exit status, stdout and stderr."""
    from simulations import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDSPEECH_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedspeech", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return stopped.value.code or 0, out, err

    return run


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(fedspeech, command):
    status, out, _ = fedspeech(*command, "--help")
    assert status == 0
    assert "Usage: fedspeech" in out
    assert len(out.splitlines()) > 5


@pytest.mark.parametrize(
    ("command", "called"),
    [
        (["simulate"], "runner.simulate"),
        (["deploy", "local"], "runner.simulate"),
        (["prepare", "--out", "job"], "preparing.prepare"),
    ],
)
def test_whatever_charges_a_population_takes_its_ledger(fedspeech, monkeypatch, command, called):
    """Also where noise is real: there one population, one ledger is what counts."""
    given = {}
    monkeypatch.setattr(f"simulations.run.{called}", lambda scenario, **named: given.update(named))
    status, _, _ = fedspeech(*command, "--scenario", "quick", "--ledger", "population.jsonl")
    assert (status, given["ledger"]) == (0, Path("population.jsonl"))


@pytest.mark.slow
def test_help_and_a_refused_scenario_import_nothing_heavy():
    code = (
        "import sys; from simulations import cli\n"
        "for arguments in (['--help'], ['simulate', '--set', 'sed=1']):\n"
        "    sys.argv = ['fedspeech', *arguments]\n"
        "    try: cli.main()\n"
        "    except SystemExit: pass\n"
        "print(sorted({'torch', 'tensorflow', 'ray', 'flwr', 'opacus'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "unknown key sed; did you mean seed?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["simulate", "--workers", "0"], 2, "0 is not in the range x>=1"),
        (["simulate", "--seed", "x"], 2, "'x' is not a valid integer"),
        (["simulate", "-s", "quik"], 1, "there is no scenario 'quik'; did you mean 'quick'?"),
        (["simulate", "-s", "missing.toml"], 1, "there is no scenario file missing.toml"),
        (["simulate", "-s", "latin.toml"], 1, "latin.toml must be UTF-8 text"),
        (["simulate", "-s", "quick", "--set", "privacy.round=3"], 1, "did you mean privacy.rounds"),
        (["simulate", "-s", "quick", "--set", "privacy.rounds=0"], 1, "privacy.rounds: "),
        (["simulate", "-s", "quick", "--corpus", "speech"], 1, "quick makes its own speech"),
        (["simulate", "-s", "quick", "--set", "privacy.clip_norm=inf"], 1, "a finite number"),
        (["listen", "x", "--synthetic-hours", "nan"], 2, "expected a finite number, got nan"),
        (["tune", "--max-accuracy-drop-points", "nan"], 2, "expected a finite number, got nan"),
        (["simulate", "-s", "[/b].toml"], 1, "there is no scenario file [/b].toml"),
        (["scenarios", "show", "latin.toml"], 1, "latin.toml must be UTF-8 text"),
        (["report", "nowhere"], 1, "no run folder at nowhere"),
        (["report", "empty"], 1, "empty is no run folder"),
        (["compare", "nowhere", "empty"], 1, "no run folder at nowhere"),
        (["data", "check", "nowhere"], 1, "no such folder: nowhere"),
        (["data", "check", "empty"], 1, "no layout of a corpus"),
        (["data", "check", "latin.toml"], 1, "expected a folder"),
        (["bogus"], 2, "No such command 'bogus'"),
    ],
)
def test_a_mistake_gets_one_clear_message(fedspeech, tmp_path, arguments, status, words):
    (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
    (tmp_path / "empty").mkdir()
    found, _, err = fedspeech(*arguments)
    assert found == status
    assert words in " ".join(err.replace("\u2502", " ").split())
    assert not (tmp_path / "runs").exists()


def test_lists_name_every_scenario_and_corpus(fedspeech):
    assert all(name in fedspeech("scenarios", "list")[1] for name in ("quick", "no-privacy"))
    assert "Speech Commands" in fedspeech("data", "list")[1]


def test_a_shown_scenario_can_be_run_from_its_own_text(fedspeech, tmp_path):
    _, shown, _ = fedspeech("scenarios", "show", "quick", "--set", "privacy.rounds=5")
    (tmp_path / "mine.toml").write_text(shown)
    assert fedspeech("scenarios", "show", "mine.toml")[1] == shown
    assert "rounds = 5" in shown


def test_a_scenario_that_an_editor_of_windows_saved_is_read(fedspeech, tmp_path):
    _, shown, _ = fedspeech("scenarios", "show", "quick")
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf" + shown.encode())
    assert fedspeech("scenarios", "show", "mine.toml")[1] == shown


def test_an_error_of_our_own_is_a_sentence_with_its_place_and_a_status_of_its_own(
    fedspeech, monkeypatch
):
    def broken():
        return 1 / 0

    monkeypatch.setattr("simulations.scenario.reading.scenario_names", broken)
    status, _, err = fedspeech("scenarios", "list")
    assert status == 70
    assert "ZeroDivisionError: division by zero (test_cli.py, line " in err
    assert "FEDSPEECH_DEBUG=1" in err


def test_the_cache_is_absolute_and_asks_for_a_home_only_where_none_is_named(monkeypatch, tmp_path):
    from simulations.setup.embedding import cache_folder

    monkeypatch.chdir(tmp_path)
    assert cache_folder(Path("mine")) == tmp_path / "mine"
    monkeypatch.setenv("FEDSPEECH_CACHE", "yours")
    assert cache_folder() == tmp_path / "yours"
    monkeypatch.delenv("FEDSPEECH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where there is no home
    with pytest.raises(ScenarioError, match=r"no home folder .*`cache`"):
        cache_folder()


def test_paths_of_a_scenario_hold_in_every_folder(monkeypatch, tmp_path):
    from simulations.scenario.reading import read_scenario

    monkeypatch.chdir(tmp_path)
    changes = ["corpus.path=mine", "corpus.noise=rooms", "base.source=b.safetensors"]
    changes.append("corpus.held_out_speakers=list.txt")
    moved = read_scenario("real-commands", changes).with_absolute_paths()
    assert moved.corpus.held_out_speakers == f"{tmp_path}/list.txt"
    assert (moved.corpus.path, moved.corpus.noise) == (f"{tmp_path}/mine", f"{tmp_path}/rooms")
    assert moved.base.source == f"{tmp_path}/b.safetensors"
    assert read_scenario("quick").with_absolute_paths() == read_scenario("quick")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_text_that_standard_output_lacks_or_nobody_reads_costs_nothing(encoding):
    code = (
        "import sys; from simulations import console\n"
        "console.print_any_text(); out = console.Console()\n"
        "for number in range(20_000): out.print(f'{number} zoë [/b]')\n"
        "print('went on', file=sys.stderr)"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" | head -n 1', sys.executable, code],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    word = "zo\\xeb" if encoding == "ascii" else "zoë"
    assert done.stdout.decode() == f"0 {word} [/b]\n"
    assert done.stderr == b"went on\n"


def test_the_version_is_that_of_the_package(fedspeech):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert fedspeech("--version") == (0, f"fedspeech {project['version']}\n", "")


def test_the_command_line_runs_as_a_module_too():
    command = [sys.executable, "-m", "simulations.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("fedspeech ")
