"""The map of the house: a folder imports only what stands above it, each library in few files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Library order, top first; a module imports only from entries above its own.
ORDER = (
    "errors", "files", "seeds", "vectors", "audio", "corpora", "models", "anonymization", "device",
    "training", "secagg", "privacy", "aggregation", "analytics", "evaluation", "attacks", "rollout",
    "messages", "job", "round",
)  # fmt: skip

SIBLINGS = {
    "fedspeech": {"fedspeech"},
    "clients": {"fedspeech", "clients"},
    "server": {"fedspeech", "server"},
    "tflite_export": {"fedspeech", "tflite_export"},
    "simulations": {"fedspeech", "clients", "server", "tflite_export", "simulations"},
}

FENCES = {
    "flwr": ("fedspeech/messages.py", "clients/app.py", "server/", "simulations/grid.py",
             "simulations/flower.py"),
    "tensorflow": ("tflite_export/",),
    "ai_edge_litert": ("tflite_export/",),
    "jiwer": ("fedspeech/evaluation/asr.py",),
    "opacus": ("fedspeech/privacy/accountant.py", "fedspeech/training/dp_sgd.py"),
    "cryptography": ("fedspeech/secagg/", "fedspeech/seeds.py", "fedspeech/device/store.py",
                     "fedspeech/rollout/", "simulations/certificates.py"),
    "torch": ("fedspeech/audio/", "fedspeech/models/", "fedspeech/training/",
              "fedspeech/anonymization/", "fedspeech/attacks/", "simulations/", "tflite_export/",
              "clients/"),
}  # fmt: skip

FILES = sorted(file for package in SIBLINGS for file in (ROOT / package).rglob("*.py"))


def imports(file):
    """Full names of the modules that a file imports, in functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the map"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_there_is_something_to_check():
    assert len(FILES) > 30


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_what_it_may(file):
    place = file.relative_to(ROOT)
    for name in imports(file):
        top, *rest = name.split(".")
        if top in SIBLINGS:
            assert top in SIBLINGS[place.parts[0]], f"{place} must not import {name}"
        for library, homes in FENCES.items():
            if top == library:
                assert str(place).startswith(homes), f"{place} must not import {library}"
        if place.parts[0] == top == "fedspeech" and rest and len(place.parts) > 1:
            own = place.parts[1].removesuffix(".py")
            if own == "__init__" or rest[0] not in ORDER:
                continue
            assert own in ORDER, f"{place} has no place in the order"
            assert ORDER.index(rest[0]) <= ORDER.index(own), f"{place} must not import {name}"
