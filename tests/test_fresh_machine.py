"""The README's commands where nothing is as it is here: an environment, a home and a locale anew.

What `make install` would download is taken from pip's own configuration and cache, as for a user.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from sources import copy_sources

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
