"""Runs the code cells of a notebook in order, as a kernel does, without one.

python tests/support/run_cells.py NOTEBOOK

What is typed into a notebook lives in a module without a file, and each cell is a source of its own
in Python's cache of lines.
"""

import json
import linecache
import sys
from pathlib import Path


def run_cells(path, namespace):
    """Executes them in a namespace."""
    book = json.loads(Path(path).read_text("utf-8"))
    texts = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    for number, text in enumerate(texts):
        name = f"<cell {number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), namespace)


if __name__ == "__main__":
    notebook = sys.argv[1]
    sys.argv[1:] = ["-f", "kernel.json"]
    del globals()["__file__"]
    run_cells(notebook, globals())
