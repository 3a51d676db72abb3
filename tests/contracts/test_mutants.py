"""Each of the faults in `support/mutants.py`, planted into a copy of the code, fails its test."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS, document

ROOT = Path(__file__).parents[2]
COPIED = ("fedspeech", "clients", "server", "simulations", "tflite_export", "tests")
FAILED = 1  # pytest's status where tests ran and failed; not that of a file that does not import


def test_every_mutant_still_has_the_one_place_that_it_changes():
    for mutant in MUTANTS:
        assert (ROOT / mutant.file).read_text().count(mutant.before) == 1, mutant.fault
        assert mutant.after != mutant.before, mutant.fault


def test_every_mutant_has_a_default_test_that_is_there():
    for mutant in MUTANTS:
        file, _, name = mutant.test.partition("::")
        name = name.partition("[")[0]
        found = re.search(rf"((?:^@.*\n)*)^def {name}\(", (ROOT / file).read_text(), re.M)
        assert found, mutant.test
        assert "pytest.mark.slow" not in found[1], mutant.test


def test_mutants_are_many_and_each_is_listed_once():
    assert len(MUTANTS) >= 40
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS)
    page = (ROOT / "docs" / "mutants.md").read_text()
    assert page == document(), "python tests/support/mutants.py > docs/mutants.md writes it"


@pytest.mark.soak
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_a_mutant_is_killed_by_its_test(tmp_path, mutant):
    for folder in COPIED:
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    place = tmp_path / mutant.file
    place.write_text(place.read_text().replace(mutant.before, mutant.after))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == FAILED, f"it survived: {mutant.fault}\n{ran.stdout[-2000:]}"
