"""Promises of the files that install and describe the project."""

import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from sources import copy_sources, sources
from tiny_experiment import TINY

ROOT = Path(__file__).parents[1]
PACKAGES = ("fedspeech", "clients", "server", "simulations", "tflite_export")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_constraints_are_public_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin), pin


ALONE = {"audit", "world", "tensorboard", "mlflow", "wandb", "onnx", "executorch"}
"""Each brings packages that nothing else uses; their tests skip where they are not installed."""


def test_constraints_pin_every_direct_dependency_of_what_developers_install():
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    extras = PYPROJECT["project"]["optional-dependencies"]
    developers = itertools.chain(*(extras[name] for name in extras if name not in ALONE))
    for requirement in (*PYPROJECT["project"]["dependencies"], *developers):
        name = re.split(r"[\[=<>;~! ]", requirement)[0].lower()
        # Extras name one another; tensorflow is the other name of tensorflow-cpu, elsewhere.
        if name not in ("fedspeech", "tensorflow"):
            assert name in pinned, name


def extras_behind(name):
    """An extra and every extra of the project that it takes."""
    found = {name}
    for requirement in PYPROJECT["project"]["optional-dependencies"][name]:
        if taken := re.fullmatch(r"fedspeech\[(.+)\]", requirement):
            for inner in taken[1].split(","):
                found |= extras_behind(inner)
    return found


def test_no_test_is_named_after_bytes(request):
    held = [
        item.name
        for item in request.session.items
        for value in getattr(getattr(item, "callspec", None), "params", {}).values()
        if isinstance(value, bytes) and len(value) > 8 and repr(value)[2:-1] in item.name
    ]
    assert not held  # gzip's header holds the second: two workers collected two names


def test_the_extra_of_developers_takes_every_other_that_installs_everywhere_and_serves_several():
    # The wheel behind speech-embedding asks for glibc 2.35 or macOS 15; its tests skip without it.
    every = set(PYPROJECT["project"]["optional-dependencies"])
    assert extras_behind("dev") == every - ALONE - {"speech-embedding"}


def test_tests_meet_triton_where_torch_brings_it():
    (triton,) = (
        requirement
        for requirement in PYPROJECT["project"]["optional-dependencies"]["dev"]
        if requirement.startswith("triton")
    )
    assert triton.endswith("sys_platform == 'linux' and platform_machine == 'x86_64'")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the tracked files, so that no build folder is left or believed."""
    folder = tmp_path_factory.mktemp("wheel")
    copy_sources(folder / "source", but=("tests", "docs"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, folder / "source"], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_holds_the_packages_and_their_data_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(PACKAGES)
    ours = {str(name) for name in sources() if name.parts[0] in PACKAGES}
    assert ours <= set(names), ours - set(names)
    assert "fedspeech/py.typed" in ours
    assert "simulations/scenario/shipped/default.toml" in ours


@pytest.mark.slow
def test_simulate_runs_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "PYTHONSAFEPATH": "1",
        "FEDSPEECH_CACHE": str(tmp_path / "cache"),
    }
    where = "import fedspeech, simulations; print(fedspeech.__file__, simulations.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=empty, env=environment, check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    assert found.count(str(site)) == 2
    command = "import sys; from simulations.cli import main; sys.exit(main())"
    changes = [part for change in (*TINY, "export.at_end=true") for part in ("--set", change)]
    run = subprocess.run(
        [sys.executable, "-c", command, "simulate", "-s", "quick", *changes, "--workers", "1"],
        cwd=empty, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    (folder,) = (empty / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert (folder / "report.html").stat().st_size > 100_000
    assert (folder / summary["export"]["file"]).is_file()
    assert [path.name for path in empty.iterdir()] == ["runs"]
