"""The README's commands where nothing is as it is here: an environment, a home and a locale anew.

What `make install` would download is taken from pip's own configuration and cache, as for a user.
Where no extra is installed is played by `tests/support/without_extras.py`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sources import copy_sources
from tiny_experiment import TINY

from fedspeech.extras import EXTRAS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHONS = ("3.11", "3.12", "3.13")


def commands():
    """The commands that the README gives to those who have no make."""
    return re.search(r"Without make, the same commands:\n\n```\n(.*?)```", README, re.DOTALL)[1]


def test_the_readme_gives_the_commands_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for part in ("--constraint constraints.txt --editable '.[dev]'", "simulate --scenario default"):
        assert part in commands()
        assert part in makefile


def interpreter(version):
    """The path of a Python of this version, or a skipped test."""
    name = shutil.which(f"python{version}")
    code = "import sys; print(sys.executable)"
    found = subprocess.run(
        [name or "false", "-c", code], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no Python {version} on this machine")
    return found.stdout.strip()


def test_every_python_that_may_install_it_is_tried():
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert allowed == f">={PYTHONS[0]},<3.{int(PYTHONS[-1].split('.')[1]) + 1}"


@pytest.mark.soak
@pytest.mark.parametrize("version", PYTHONS)
def test_the_two_commands_run_on_a_machine_that_has_nothing_but_python(tmp_path, version):
    project = tmp_path / "project"
    copy_sources(project)
    for folder in ("home", "tmp", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "python3").symlink_to(interpreter(version))
    fresh = {
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "LANG": "C",
        "LC_ALL": "C",
    }
    for line in commands().splitlines():
        done = subprocess.run(
            ["sh", "-c", line], cwd=project, env=fresh, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, line + done.stdout[-4_000:] + done.stderr[-4_000:]
        assert "BuildBackendWarning" not in done.stdout + done.stderr
    held = "import triton, torch, ai_edge_litert; print(triton.__version__)"
    subprocess.run([project / ".venv/bin/python", "-c", held], check=True)
    (report,) = (project / "runs").glob("default-*/report.html")
    assert report.stat().st_size > 100_000


def test_importing_the_package_imports_no_library():
    """The facade is light: what is heavy comes with the first name that needs it."""
    code = "import sys; before = {*sys.modules}; import fedspeech; print(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    tops = {name.partition(".")[0] for name in done.stdout.split()}
    assert tops - sys.stdlib_module_names <= {"fedspeech"}


def without_extras(folder, *arguments):
    """Runs the command line where no extra can be imported; returns what it did."""
    script = Path(__file__).parent / "support" / "without_extras.py"
    named = {"FEDSPEECH_CACHE": str(folder / "cache"), "COLUMNS": "500"}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **named, "PYTHONPATH": path}, check=False,
    )  # fmt: skip


def missing(name):
    """What the command line says of an extra that is not installed."""
    extra = EXTRAS[name]
    return f"{extra.serves} needs {extra.brings}: pip install 'fedspeech[{name}]'"


@pytest.mark.slow
def test_a_run_without_extras_says_first_what_it_will_not_write_and_goes_to_its_end(tmp_path):
    changes = [part for change in (*TINY, "export.at_end=true") for part in ("--set", change)]
    options = ("-s", "quick", *changes, "--workers", 1, "--out", "run")
    done = without_extras(tmp_path, "simulate", *options)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("rounds ...")
    assert f"No file for the phone will be made: {missing('export')}. " in before
    assert f"The report will hold tables and no plots: {missing('plots')}. " in before
    assert f"no file for the phone: {missing('export')}; afterwards fedspeech export run\n" in after
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["export"]) == ("complete", None)
    assert (summary["export_skipped"], summary["export_refused"]) == (missing("export"), None)
    report = (tmp_path / "run" / "report.html").read_text()
    for name in ("export", "plots"):
        assert missing(name) in report.replace("&#39;", "'")
    exported = without_extras(tmp_path, "export", "run")
    assert exported.stderr == f"fedspeech: {missing('export')}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("tune", "-s", "quick"), "tuning"),
        (("simulate", "-s", "quick", "--engine", "flower"), "ray"),
        (("export", "--verify", "run/export/model_float.tflite"), "tflite"),
        (("export", "--benchmark", "model_float.tflite"), "tflite"),
        (("export", "--dry-run-round", "model_personal.tflite"), "tflite"),
        (("listen", "model_streaming.tflite", "--threshold", "0.8", "--wav", "a.wav"), "tflite"),
    ],
)
def test_what_needs_an_extra_that_is_missing_names_it_in_one_line(tmp_path, arguments, extra):
    for file in ("model_float", "model_personal", "model_streaming"):
        (tmp_path / f"{file}.tflite").write_bytes(b"TFL3")
    done = without_extras(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (1, f"fedspeech: {missing(extra)}\n")
    assert {path.suffix for path in tmp_path.iterdir()} == {".tflite"}, "nothing was begun"


@pytest.mark.slow
def test_a_budget_is_priced_without_extras(tmp_path):
    done = without_extras(tmp_path, "budget", "--scenario", "quick", "--json")
    assert done.returncode == 0, done.stderr
    assert "epsilon_release" in done.stdout
