"""docs/mobile.md against the files: names, shapes, types, and what its snippets call."""

import re
from pathlib import Path

import pytest

from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import network

DOCUMENT = (Path(__file__).parents[2] / "docs" / "mobile.md").read_text()
LETTERS = {"c": 12, "d": 780, "e": 64, "n": 16}
SLOT = re.compile(r"`(\w+)` (float32|int32) \(([^)]*)\)")


def rows():
    """(files, signature, inputs cell, outputs cell) of the table of signatures."""
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `model_") and len(cells) == 4:
            yield re.findall(r"`(\w+)`", cells[0]), cells[1].strip("`"), cells[2], cells[3]


def slots(cell):
    """Name to (type, shape) of one cell."""
    return {
        name: (kind, tuple(LETTERS.get(part) or int(part) for part in shape.split(", ")))
        for name, kind, shape in SLOT.findall(cell)
    }


def documented():
    """(file, signature) to its inputs and outputs."""
    found = {}
    for files, signature, inputs, outputs in rows():
        for file in files:
            taken = slots(inputs)
            if inputs.startswith("as `train`"):
                taken = found[file, "train"][0] | taken
            found[file, signature] = taken, slots(outputs)
    return found


@pytest.fixture(scope="module")
def signatures(shipped):
    """(file, signature) to its inputs and outputs, as the files have them."""
    arrays = network(shipped)
    merged = arrays.merged()
    personal = Blueprint(
        graph="personal", network=arrays, base_sha256=shipped.base.sha256, batch_clips=16
    )
    blueprints = {
        "model_float": Blueprint(graph="keyword", network=merged),
        "model_streaming": Blueprint(graph="streaming", network=merged),
        "model_personal": personal,
    }
    with Converter() as converter:
        contents = {file: converter.convert(drawn) for file, drawn in blueprints.items()}
    return {
        (file, name): tuple(
            {key: (slot.dtype.name, slot.shape) for key, slot in side.items()}
            for side in (signature.inputs, signature.outputs)
        )
        for file, content in contents.items()
        for name, signature in TfliteModel(content).signatures.items()
    }


@pytest.mark.export
def test_the_table_is_what_the_files_say(signatures):
    table = documented()
    assert {key: table[key] for key in signatures} == signatures
    same = {
        "model_fp16": "model_float", "model_dynamic": "model_float", "model_int8": "model_float",
        "model_streaming_int8": "model_streaming",
    }  # fmt: skip
    for file, signature in set(table) - set(signatures):
        assert table[file, signature] == signatures[same[file], signature]


def snippets():
    return re.findall(r"```(kotlin|swift|c)\n(.*?)```", DOCUMENT, flags=re.DOTALL)


def test_every_language_loads_runs_swaps_and_trains():
    assert [language for language, _ in snippets()] == ["kotlin", "swift", "c"]
    for _, code in snippets():
        assert {"train", "restore"} <= set(re.findall(r'"(\w+)"', code))
    for language, first in (("kotlin", "infer"), ("swift", "hop"), ("c", "hop")):
        assert f'"{first}"' in dict(snippets())[language]


@pytest.mark.parametrize(("language", "code"), snippets(), ids=lambda value: value[:6].strip())
def test_snippets_use_names_of_the_table_only(language, code):
    table = documented()
    names = {signature for _, signature in table}
    names |= {name for sides in table.values() for side in sides for name in side}
    quoted = set(re.findall(r'"(\w+)"', code)) - {"data_offsets"}
    assert quoted <= names, language
    # All inputs of a training step are there wherever one is taken.
    assert set(table["model_personal", "train"][0]) <= quoted
