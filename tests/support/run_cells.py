"""Runs the code cells of a notebook in order, as a kernel does, without one.

python tests/support/run_cells.py NOTEBOOK

What is typed into a notebook lives in a module without a file, and each cell is a source of its
own in Python's cache of lines. A cell whose output is stored has to print it; "..." stands for
anything, and numbers of a cell that is marked so need only be near.
"""

import contextlib
import doctest
import io
import json
import linecache
import re
import subprocess
import sys
from pathlib import Path

SHELL = "%%bash\n"
NUMBER = re.compile(r"(-?\d+\.\d+)(%?)")
ANYTHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_cells(path, namespace):
    """Executes them in a namespace.

    Raises:
      AssertionError: if a cell prints something else than is stored, or a command fails.
    """
    book = json.loads(Path(path).read_text("utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code):
        text, printed = "".join(cell["source"]), io.StringIO()
        with contextlib.redirect_stdout(printed):
            if text.startswith(SHELL):
                run_commands(text.removeprefix(SHELL))
            else:
                run_code(text, f"<cell {number}>", namespace)
        sys.stdout.write(printed.getvalue())
        stored = "".join(line for output in cell["outputs"] for line in output["text"])
        compare(stored, printed.getvalue(), near=cell["metadata"].get("near", False))


def run_code(text, name, namespace):
    """Executes a cell of Python."""
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), namespace)


def run_commands(text):
    """Runs a cell of the shell, which ends with the first command that fails."""
    command = ["bash", "-e", "-o", "pipefail", "-c", text]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, f"status {done.returncode} of\n{text}\n{done.stdout[-2000:]}"


def compare(stored, printed, *, near=False):
    """Holds what was printed against what is stored, line ends and runs of spaces apart.

    Near: a share may differ by 0.025, a percentage by 2.5 points.
    """
    if not stored:
        return
    difference = f"stored:\n{stored}\nprinted:\n{printed}"
    if near:
        for one, other in zip(NUMBER.finditer(stored), NUMBER.finditer(printed), strict=False):
            allowed = 2.5 if one[2] else 0.025
            assert abs(float(one[1]) - float(other[1])) <= allowed, difference
        stored, printed = (NUMBER.sub("#", text) for text in (stored, printed))
    # doctest's own comparison, for which "..." at the start of a line is no prompt.
    assert doctest.OutputChecker().check_output(stored, printed, ANYTHING), difference


if __name__ == "__main__":
    notebook = sys.argv[1]
    sys.argv[1:] = ["-f", "kernel.json"]
    del globals()["__file__"]
    run_cells(notebook, globals())
