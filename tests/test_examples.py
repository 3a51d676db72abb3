"""The examples: short scripts that run, and the notebooks that are made of them."""

import json
import os
import subprocess
import sys

import pytest
from notebooks import EXAMPLES, cells, notebook
from sources import ROOT

SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def test_there_are_examples_of_each_kind():
    names = {script.stem for script in SCRIPTS}
    assert names >= {"own_data", "own_model", "own_query", "wake_word"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_its_notebook_says_the_same(script):
    """Written by `python tests/support/notebooks.py`."""
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 80
    assert script.with_suffix(".ipynb").read_text("utf-8") == notebook(text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_are_the_code_of_its_script(script):
    code = [text for kind, text in cells(script.read_text("utf-8")) if kind == "code"]
    assert code
    compile("\n".join(code), str(script), "exec")
    made = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))
    written = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in written] == code


def run(command, folder):
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "FEDSPEECH_CACHE": str(folder / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, text=True,
        capture_output=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_runs_cell_by_cell(script, tmp_path):
    """Its code is that of the script; what it defines is in no file, as in a kernel."""
    run([ROOT / "tests" / "support" / "run_cells.py", script.with_suffix(".ipynb")], tmp_path)


@pytest.mark.slow
def test_a_script_with_code_of_its_own_runs(tmp_path):
    """A class in a file is hashed with the file, one that was typed by its functions."""
    assert "is epsilon against readers" in run([EXAMPLES / "own_query.py"], tmp_path)
