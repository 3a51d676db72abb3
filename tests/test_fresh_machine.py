"""The README's commands where nothing is as it is here: an environment, a home and a locale anew.

What `make install` would download is taken from pip's own configuration and cache, as for a user.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sources import copy_sources

README = (Path(__file__).parents[1] / "README.md").read_text()


def commands():
    """The commands that the README gives to those who have no make."""
    return re.search(r"Without make, the same commands:\n\n```\n(.*?)```", README, re.DOTALL)[1]


def test_the_readme_gives_the_commands_of_the_makefile():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for part in ("--constraint constraints.txt --editable '.[dev]'", "simulate --scenario default"):
        assert part in commands()
        assert part in makefile


@pytest.mark.soak
def test_the_two_commands_run_on_a_machine_that_has_nothing_but_python(tmp_path):
    project = tmp_path / "project"
    copy_sources(project)
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    fresh = {
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
        "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin",
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
