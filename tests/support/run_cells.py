"""Runs the code cells of a notebook in order, as a kernel does, without one.

python tests/support/run_cells.py NOTEBOOK

What is typed into a notebook lives in a module without a file, and each cell is a source of its
own in Python's cache of lines. A cell whose output is stored has to print it; "..." stands for
anything.
"""

import contextlib
import doctest
import io
import json
import linecache
import subprocess
import sys
from pathlib import Path

SHELL = "%%bash\n"
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
        compare("".join(line for output in cell["outputs"] for line in output["text"]), printed)


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


def compare(stored, printed):
    """Holds what was printed against what is stored, line ends and runs of spaces apart."""
    if not stored:
        return
    # doctest's own comparison, for which "..." at the start of a line is no prompt.
    same = doctest.OutputChecker().check_output(stored, printed.getvalue(), ANYTHING)
    assert same, f"stored:\n{stored}\nprinted:\n{printed.getvalue()}"


if __name__ == "__main__":
    notebook = sys.argv[1]
    sys.argv[1:] = ["-f", "kernel.json"]
    del globals()["__file__"]
    run_cells(notebook, globals())
