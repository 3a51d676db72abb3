"""The project's own files: what a clean clone holds, also where there is no git."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_OURS = {"__pycache__", "build", "dist", "runs", "venv"}


def sources():
    """Yields paths below the project's folder."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        yield from (Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())
        return
    for folder, inside, files in os.walk(ROOT):
        inside[:] = [name for name in inside if name not in NOT_OURS and name[0] != "."]
        yield from ((Path(folder) / name).relative_to(ROOT) for name in files)


def copy_sources(target, but=()):
    """Copies them, except what lies in the folders `but`."""
    for name in sources():
        if name.parts[0] not in but:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
