"""A missing extra is one sentence that names it; nothing else is ever called a missing extra."""

import sys
import tomllib
from pathlib import Path

import pytest

from fedspeech.extras import EXTRAS, Extra, MissingExtra, importing, lacking, require

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture
def gone(monkeypatch):
    """Makes modules look as if they were not installed."""

    def hide(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)

    return hide


def test_every_extra_can_be_installed_by_its_name():
    assert set(EXTRAS) <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_without_any_one_of_its_modules_is_refused_in_a_sentence(gone, name):
    gone(EXTRAS[name].modules[-1])
    said = f"{EXTRAS[name].serves} needs {EXTRAS[name].brings}: pip install 'fedspeech[{name}]'"
    assert lacking(name) == said
    with pytest.raises(MissingExtra) as refused:
        require(name)
    assert str(refused.value) == said


def test_an_extra_that_is_there_is_not_imported_by_being_asked_for(monkeypatch):
    monkeypatch.setitem(EXTRAS, "any", Extra("asking", "a module", ("xml.sax.saxutils",)))
    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    assert lacking("any") == ""
    require("any")
    assert "xml.sax.saxutils" not in sys.modules


def test_an_import_that_fails_names_the_extra(gone):
    gone("optuna")
    with pytest.raises(MissingExtra, match=r"needs Optuna: .*fedspeech\[tuning\]"):  # noqa: SIM117
        with importing("tuning"):
            import optuna  # noqa: F401


def test_what_another_package_lacks_is_no_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), importing("tuning"):
        import no_such_module  # noqa: F401
