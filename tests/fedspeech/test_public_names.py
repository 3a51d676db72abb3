"""What `import fedspeech as fs` offers: each name loads, is typed, documented, and shown."""

import ast
import doctest
import importlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_once import quick_run

import fedspeech as fs

ROOT = Path(__file__).parents[2]
NAMES = sorted(fs.PUBLIC)
ROUTINES = [name for name in NAMES if inspect.isroutine(getattr(fs, name))]


@pytest.mark.slow
def test_importing_costs_nothing_and_budget_needs_neither_torch_nor_tensorflow():
    code = (
        "import sys, fedspeech as fs\n"
        "assert not {'torch', 'numpy', 'pydantic', 'simulations'} & set(sys.modules)\n"
        "dir(fs); fs.FedspeechError\n"
        "fs.budget(mechanism='central', participation='poisson', population=10**5, cohort=1000,\n"
        "          rounds=10, noise_multiplier=1.0)\n"
        "print(sorted({'torch', 'tensorflow', 'ray', 'plotly', 'IPython'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_every_name_is_in_the_stub_under_the_same_place():
    tree = ast.parse((ROOT / "fedspeech" / "__init__.pyi").read_text())
    typed = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "collections.abc"
        for alias in node.names
    }
    assert typed == dict(fs.PUBLIC)
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert exported == NAMES


def test_no_name_hides_a_module():
    """`import fedspeech.round` sets an attribute of that name, whatever the facade says of it."""
    modules = {path.stem for path in (ROOT / "fedspeech").iterdir()}
    assert not modules & set(NAMES)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'simulat'; did you mean 'simulate'\?"):
        _ = fs.simulat
    assert not hasattr(fs, "_anything")
    assert set(NAMES) <= set(dir(fs))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_thing_at_its_place_and_says_what_it_is(name):
    module, _, attribute = fs.PUBLIC[name].partition(":")
    found = getattr(fs, name)
    assert found is getattr(importlib.import_module(module), attribute)
    assert (inspect.getdoc(found) or "").strip(), name


@pytest.mark.parametrize("name", ROUTINES)
def test_a_function_says_its_arguments_errors_and_an_example(name):
    """Of each argument the meaning, of each error the reason, and a line that can be typed."""
    function = getattr(fs, name)
    text = inspect.getdoc(function)
    parameters = inspect.signature(function).parameters
    described = text.partition("Args:")[2]
    for parameter in parameters:
        one = len(parameters) <= 2 and "Args:" not in text  # said in its first sentence
        assert one or f"{parameter}: " in described, f"{name}: {parameter}"
    assert ">>> " in text, name


def examples():
    """The examples of public names and of their methods, each once."""
    finder, seen = doctest.DocTestFinder(recurse=True, exclude_empty=True), set()
    for name in NAMES:
        found = getattr(fs, name)
        if inspect.isclass(found) or inspect.isroutine(found):
            for test in finder.find(found, name, module=inspect.getmodule(found), globs={}):
                if test.examples and test.docstring not in seen:
                    seen.add(test.docstring)
                    yield test


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which somebody has run `quick` and holds a recording of a street."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(quick_run(), folder / "runs" / "quick")
    rng = np.random.default_rng(1)
    soundfile.write(folder / "street.wav", rng.normal(0, 0.01, 32_000), 16_000)
    return folder


EXAMPLES = list(examples())
ON_A_RUN = [test for test in EXAMPLES if "runs/" in test.docstring]
FAST = [test for test in EXAMPLES if test not in ON_A_RUN]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run(example):
    said = []
    found = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not found.failed, "".join(said)


@pytest.mark.parametrize("example", FAST, ids=lambda test: test.name)
def test_an_example_does_what_it_shows(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(example)


@pytest.mark.export
@pytest.mark.parametrize("example", ON_A_RUN, ids=lambda test: test.name)
def test_an_example_on_a_run_does_what_it_shows(example, finished, monkeypatch):
    monkeypatch.chdir(finished)
    run(example)
