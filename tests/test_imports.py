"""The map of the house: a folder imports only what stands above it, each library in few files."""

import ast
import functools
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Library order, top first; a module imports only from entries above its own.
ORDER = (
    "errors", "extras", "files", "limits", "faults", "hash_chain", "seeds", "own_code", "vectors",
    "audio",
    "synthesis", "corpora", "evaluation", "models", "anonymization", "device", "secagg",
    "privacy", "training", "tasks", "aggregation", "analytics", "rollout",
    "messages", "source", "population", "queries", "job", "cohorts", "round", "audits", "sharing",
)  # fmt: skip

# Order inside `fedspeech/privacy`; a module imports only from entries above its own.
PRIVACY = (
    "adaptive_clipping", "clipping", "encoding", "whole_counts", "mechanisms", "participation",
    "factorization", "events", "binomial_tails", "accountant", "dp_accounting_bridge",
    "adversary_views", "config", "sizing", "correlated_noise", "rules", "failure_probabilities",
    "round_cost", "codec", "examples", "guarantee", "phrasing", "plan", "release_window",
    "spending", "ledger", "filling", "pricing", "solving",
)  # fmt: skip

# Order inside `simulations`; a room imports only from rooms above its own. A report reads a run's
# folder alone, so it stands above the run, which writes it and prints its first lines at the end.
ROOMS = (
    "console", "scenario", "setup", "results", "callbacks", "evaluation", "engines", "report",
    "progress", "artifacts", "run", "evidence", "analytics", "tuning", "audits", "api", "commands",
    "cli",
)  # fmt: skip

SIBLINGS = {
    "fedspeech": {"fedspeech"},
    "clients": {"fedspeech", "clients"},
    "server": {"fedspeech", "server"},
    "tflite_export": {"fedspeech", "tflite_export"},
    "simulations": {"fedspeech", "clients", "server", "tflite_export", "simulations"},
}

# What runs in the process that holds TensorFlow, and in no other.
CONVERSION = (
    "convert", "guards", "keyword_graphs", "layers", "micro.graphs", "micro.wake_word", "personal",
    "sentence_graphs", "stream",
)  # fmt: skip

FENCES = {
    "flwr": ("fedspeech/messages.py", "clients/app.py", "clients/node.py", "server/",
             "simulations/engines/"),
    "tensorflow": tuple(f"tflite_export/{name.replace('.', '/')}.py" for name in CONVERSION),
    "tflite_micro": ("tflite_export/micro/runtime.py",),
    "ai_edge_litert": ("tflite_export/", "fedspeech/models/exported/tflite.py"),
    "executorch": ("tflite_export/interchange/executorch_file.py",),
    "onnx": ("tflite_export/interchange/onnx_file.py",),
    "onnxruntime": ("tflite_export/interchange/onnx_file.py",),
    "optuna": ("simulations/tuning/",),
    "phonenumbers": ("fedspeech/device/redaction/",),
    "plotly": ("simulations/report/document.py",),
    "ray": (),
    "mlflow": ("simulations/callbacks/mlflow.py",),
    "wandb": ("simulations/callbacks/wandb.py",),
    "jiwer": ("fedspeech/evaluation/asr.py",),
    "opacus": ("fedspeech/privacy/accountant.py", "fedspeech/training/dp_sgd.py"),
    "cryptography": ("fedspeech/secagg/", "fedspeech/seeds.py", "fedspeech/device/",
                     "fedspeech/rollout/", "simulations/engines/certificates.py"),
    "torch": ("fedspeech/audio/", "fedspeech/models/", "fedspeech/training/",
              "fedspeech/tasks/", "fedspeech/anonymization/", "fedspeech/audits/",
              "simulations/", "tflite_export/", "clients/"),
}  # fmt: skip

FILES = sorted(file for package in SIBLINGS for file in (ROOT / package).rglob("*.py"))
OURS = frozenset(FILES)


@functools.cache
def imports(file):
    """Full names of the modules that a file imports, in functions too."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the map"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


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


def test_the_plan_stands_on_layers():
    """Imports in functions and for type checkers count: they are how a circle would hide."""
    modules = {file.stem: file for file in FILES if file.parent == ROOT / "fedspeech" / "privacy"}
    assert set(modules) - {"__init__"} == set(PRIVACY)
    for place, name in enumerate(PRIVACY):
        for other in inner(modules[name]):
            if other.parent == modules[name].parent and other.stem != "__init__":
                assert PRIVACY.index(other.stem) < place, f"{name} must not import {other.stem}"


def test_a_room_of_simulations_imports_only_rooms_above():
    """A command is in nobody's way: what a room needs of another stands in a room."""
    home = ROOT / "simulations"
    places = {
        file: file.relative_to(home).parts[0].removesuffix(".py")
        for file in FILES
        if file.is_relative_to(home) and file != home / "__init__.py"
    }
    assert set(places.values()) == set(ROOMS)
    for file, room in places.items():
        for other in inner(file):
            if other in places:
                above = places[other]
                assert ROOMS.index(above) <= ROOMS.index(room), f"{file} must not import {above}"


@functools.cache
def inner(file):
    """Files of ours that a file names in its imports."""
    found = set()
    for name in imports(file):
        module = (ROOT / Path(*name.split("."))).with_suffix(".py")
        package = module.with_suffix("") / "__init__.py"
        found |= {place for place in (module, package) if place in OURS}
    return found - {file}


def test_no_import_leads_back_to_its_start():
    """A package's `__init__` counts only where the package itself is asked for a name."""
    graph = {file: sorted(inner(file)) for file in FILES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        way = " imports ".join(str(file.relative_to(ROOT)) for file in reversed(error.args[1]))
        pytest.fail(f"a circle: {way}")


def packages_behind(file, seen):
    """Full names of what a file of ours imports, and what that imports, and so on."""
    for name in imports(file):
        yield name
        module = (ROOT / Path(*name.split("."))).with_suffix(".py")
        inside = module if module.exists() else module.with_suffix("") / "__init__.py"
        if inside.exists() and inside not in seen:
            seen.add(inside)
            yield from packages_behind(inside, seen)


# Files of `fedspeech/audits` that play rounds: canaries grant an observer everything but one phone,
# and liars are phones of a round themselves.
GAMES = {"games", "canaries", "many_canaries", "poisoning", "__init__"}
TRUTH = ("round", "job", "population", "device", "corpora.synthetic", "corpora.recorded",
         "corpora.partition", "corpora.shots", "queries")  # fmt: skip


def test_attacks_get_a_transcript_and_import_neither_truth_nor_what_plays_rounds():
    home = ROOT / "fedspeech" / "audits"
    attacks = [file for file in FILES if file.parent == home and file.stem not in GAMES]
    assert {"attack", "transcript"} <= {file.stem for file in attacks}
    forbidden = (*(f"fedspeech.{name}" for name in TRUTH), "simulations", "server", "clients")
    for file in attacks:
        behind = set(packages_behind(file, set()))
        found = {name for name in behind if name.startswith(forbidden)}
        assert not found, f"{file.stem} is led to {sorted(found)[:3]}"


def test_what_converts_holds_no_torch_and_is_imported_by_nobody_else():
    homes = {ROOT / "tflite_export" / f"{name.replace('.', '/')}.py" for name in CONVERSION}
    fenced = {f"tflite_export.{name}" for name in CONVERSION} | {"tensorflow"}
    behind = set(packages_behind(ROOT / "tflite_export" / "convert.py", set()))
    assert fenced - {"tflite_export.convert"} <= behind
    assert not {name for name in behind if name.split(".")[0] in ("torch", "triton")}
    support = ROOT / "tests" / "support"
    children = {support / "broken_graphs.py", support / "wrong_graphs.py"}  # instead of convert.py
    for file in {*FILES, *(ROOT / "tests").rglob("*.py")} - homes - children:
        text = file.read_text(encoding="utf-8")
        if "tensorflow" in text or "tflite_export" in text:  # parsing all of them takes seconds
            assert not fenced & set(imports(file)), file


@pytest.mark.slow
def test_a_process_that_imports_everything_else_never_holds_tensorflow():
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in FILES
        if file.stem not in ("__init__", "__main__")
    ]
    others = [name for name in names if name.removeprefix("tflite_export.") not in CONVERSION]
    assert "simulations.cli" in others
    code = (
        "import importlib, sys\n"
        f"for name in {others}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'tensorflow', 'ai_edge_litert'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == "['ai_edge_litert', 'torch']\n", found.stderr


@pytest.mark.export
def test_the_process_that_converts_never_holds_torch():
    code = "import sys, tflite_export.convert; print({'torch', 'triton'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == "set()\n", found.stderr
