"""Examples and tutorials: short scripts and pages, and the notebooks that are made of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks import EXAMPLES, SHELL, TUTORIALS, cells, cells_of_page, notebook, notebooks
from run_cells import run_cells
from sources import ROOT

SCRIPTS = sorted(EXAMPLES.glob("*.py"))
PAGES = sorted(TUTORIALS.glob("*.md"))


def test_there_are_examples_of_each_kind():
    names = {script.stem for script in SCRIPTS}
    assert names >= {"own_data", "own_model", "own_query", "wake_word"}


def test_every_notebook_says_what_its_script_or_page_says():
    """Written by `python tests/support/notebooks.py`."""
    for path, text in notebooks():
        assert path.read_text("utf-8") == text, path.name
    assert {*TUTORIALS.glob("*.ipynb")} == {page.with_suffix(".ipynb") for page in PAGES}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_its_cells_are_code(script):
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 80
    code = [cell.text for cell in cells(text) if cell.kind == "code"]
    assert code
    compile("\n".join(code), str(script), "exec")


def test_a_page_has_a_cell_for_each_block_that_runs():
    page = "# A\n\nsay\n\n```sh\nls\n```\n\n```text\na\n```\n\n```toml\nx\n```\n```python\n1\n```\n"
    found = [(cell.kind, cell.text, cell.prints) for cell in cells_of_page(page)]
    assert found == [
        ("markdown", "# A\n\nsay", ""),
        ("code", f"{SHELL}ls", "a\n"),
        ("markdown", "```toml\nx\n```", ""),
        ("code", "1", ""),
    ]


def run(command, folder):
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
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
    """What it defines is in no file, as in a kernel."""
    run([ROOT / "tests" / "support" / "run_cells.py", script.with_suffix(".ipynb")], tmp_path)


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_tutorial_runs_as_written_and_prints_what_it_says(page, tmp_path):
    run([ROOT / "tests" / "support" / "run_cells.py", page.with_suffix(".ipynb")], tmp_path)


def test_a_cell_that_prints_something_else_is_noticed(tmp_path):
    book, page = tmp_path / "a.ipynb", "```sh\necho one\n```\n\n```text\n{}\n```\n"
    for said, right in (("one", True), ("o...", True), ("two", False)):
        book.write_text(notebook(cells_of_page(page.format(said))), "utf-8")
        if right:
            run_cells(book, {})
        else:
            with pytest.raises(AssertionError, match="stored:\ntwo"):
                run_cells(book, {})


@pytest.mark.parametrize(
    ("said", "near"), [("77.1 %", True), ("1.0%", True), ("4.0%", False), ("1 1.0%", False)]
)
def test_figures_of_a_trained_model_are_taken_nearly_where_a_page_says_so(said, near, tmp_path):
    """Processors round sums differently; an epsilon is the same on all of them."""
    printed = said if said.startswith("77") else "1.4%"
    page = f"```sh\necho '{printed}'\n```\n\n```text near\n{said}\n```\n"
    book = tmp_path / "a.ipynb"
    book.write_text(notebook(cells_of_page(page)), "utf-8")
    if near:
        run_cells(book, {})
    else:
        with pytest.raises(AssertionError, match="stored:"):
            run_cells(book, {})
    book.write_text(notebook(cells_of_page(page.replace("text near", "text"))), "utf-8")
    if said != printed:
        with pytest.raises(AssertionError, match="stored:"):
            run_cells(book, {})


@pytest.mark.slow
def test_a_script_with_code_of_its_own_runs(tmp_path):
    """A class in a file is hashed with the file, one that was typed by its functions."""
    assert "is epsilon against readers" in run([EXAMPLES / "own_query.py"], tmp_path)
