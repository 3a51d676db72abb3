"""Promises of the files that install and describe the project."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_constraints_are_public_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin), pin


def test_constraints_pin_every_direct_dependency():
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    for requirement in PYPROJECT["project"]["dependencies"]:
        name = re.split(r"[\[=<>;~! ]", requirement)[0].lower()
        if name != "tensorflow":  # the other name of tensorflow-cpu, elsewhere
            assert name in pinned, name


def test_every_package_folder_is_named_in_pyproject():
    named = set(PYPROJECT["tool"]["setuptools"]["packages"])
    tops = ("fedspeech", "clients", "server", "simulations", "tflite_export")
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in tops
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert named == found


@pytest.mark.slow
def test_a_wheel_holds_the_packages_and_their_data_and_no_tests(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"fedspeech", "clients", "server", "simulations", "tflite_export"}
    assert "fedspeech/models/default_base.safetensors" in names
    assert "simulations/scenarios/default.toml" in names
    assert "fedspeech/py.typed" in names
