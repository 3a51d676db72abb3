"""Examples as notebooks: what stands behind `# %%` in a script becomes a cell.

python tests/support/notebooks.py        # writes examples/*.ipynb
"""

import json
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def cells(script):
    """Yields kind ("code" or "markdown") and text of each cell; comment marks are taken off."""
    for part in script.split("# %%")[1:]:
        head, _, body = part.partition("\n")
        text = body.strip("\n")
        if head.strip() == "[markdown]":
            lines = (line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
            yield "markdown", "\n".join(lines)
        else:
            yield "code", text


def notebook(script):
    """The notebook of a script, as the text of its file."""
    made = []
    for number, (kind, text) in enumerate(cells(script)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        cell["source"] = text.splitlines(keepends=True)
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for script in sorted(EXAMPLES.glob("*.py")):
        script.with_suffix(".ipynb").write_text(notebook(script.read_text("utf-8")), "utf-8")
