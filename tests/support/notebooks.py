"""Notebooks of examples and tutorials, each written once, as a script or as a page.

python tests/support/notebooks.py        # writes examples/*.ipynb and docs/tutorials/*.ipynb

What stands behind `# %%` in a script becomes a cell. Of a page, each block of `sh` or `python`
does, and a block of `text` behind it is what the cell prints. `text near` says that its numbers are
of a trained model: processors round sums differently, and tests take them within two points.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TUTORIALS = ROOT / "docs" / "tutorials"
SHELL = "%%bash\n"  # IPython's mark of a cell for the shell
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```\n(?:\n```text( near)?\n(.*?)^```\n)?", re.M | re.S)


@dataclass(frozen=True)
class Cell:
    """One cell: its kind, its text, what a cell of code prints ("": nobody says), how nearly."""

    kind: str
    text: str
    prints: str = ""
    near: bool = False


def cells(script):
    """Yields the cells of a script; comment marks of text are taken off."""
    for part in script.split("# %%")[1:]:
        head, _, body = part.partition("\n")
        text = body.strip("\n")
        if head.strip() == "[markdown]":
            lines = (line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
            yield Cell("markdown", "\n".join(lines))
        else:
            yield Cell("code", text)


def cells_of_page(page):
    """Yields the cells of a page of Markdown."""
    place = 0
    for block in _BLOCK.finditer(page):
        if words := page[place : block.start()].strip("\n"):
            yield Cell("markdown", words)
        language, code, near, prints = block.groups()
        text = (SHELL if language == "sh" else "") + code.strip("\n")
        yield Cell("code", text, prints or "", bool(near))
        place = block.end()
    if words := page[place:].strip("\n"):
        yield Cell("markdown", words)


def notebook(found):
    """The notebook of some cells, as the text of its file."""
    made = []
    for number, one in enumerate(found):
        cell = {
            "cell_type": one.kind,
            "id": f"cell-{number}",
            "metadata": {"near": True} if one.near else {},
        }
        cell["source"] = one.text.splitlines(keepends=True)
        if one.kind == "code":
            cell |= {"execution_count": None, "outputs": _outputs(one.prints)}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _outputs(prints):
    lines = prints.splitlines(keepends=True)
    return [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []


def notebooks():
    """Yields the path of every notebook, and the text that belongs there."""
    for script in sorted(EXAMPLES.glob("*.py")):
        yield script.with_suffix(".ipynb"), notebook(cells(script.read_text("utf-8")))
    for page in sorted(TUTORIALS.glob("*.md")):
        yield page.with_suffix(".ipynb"), notebook(cells_of_page(page.read_text("utf-8")))


if __name__ == "__main__":
    for path, text in notebooks():
        path.write_text(text, "utf-8")
