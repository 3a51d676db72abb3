"""What names a node imports, and what of the code behind them both sides compare."""

import importlib
import linecache
import sys
import types

import pytest

from fedspeech import own_code
from fedspeech.errors import ScenarioError
from fedspeech.own_code import CodeKind, address_of, hand_over, is_handed_over, source_of
from fedspeech.queries.training import AdapterTraining

KIND = CodeKind(noun="a rule", group="fedspeech.rules", room="fedspeech.aggregation")


@pytest.fixture(autouse=True)
def nothing_handed_over(monkeypatch):
    monkeypatch.setattr(own_code, "_HANDED_OVER", {})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of two modules, of which one is declared."""
    home = tmp_path / "their_rules"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "rules.py").write_text("from their_rules.steps import step\nclass Rule: ...\n")
    (home / "steps.py").write_text("def step(): ...\n")
    info = tmp_path / "their_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedspeech.rules]\nmine = their_rules.rules:Rule\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield home
    for name in [name for name in sys.modules if name.startswith("their_rules")]:
        del sys.modules[name]


def test_a_declared_name_is_imported_and_no_other_of_its_package(package):
    assert KIND.find("their_rules.rules:Rule").__name__ == "Rule"
    for other in ("their_rules.steps:step", "their_rules.rules:step", "their_rules.rules"):
        with pytest.raises(ScenarioError, match=r"a rule must be .* declared as an entry point"):
            KIND.find(other)


def test_a_name_of_another_group_is_not_declared(package):
    queries = CodeKind(noun="a query", group="fedspeech.queries", room="fedspeech.queries")
    with pytest.raises(ScenarioError, match="entry point of the group fedspeech"):
        queries.find("their_rules.rules:Rule")


def test_only_the_room_of_a_kind_needs_no_entry_point():
    assert KIND.find("fedspeech.aggregation.optimizers:FedOpt")
    for other in ("fedspeech.seeds:NoiseEntropy", "fedspeech.aggregationish:X", "os:system", ""):
        with pytest.raises(ScenarioError, match="a rule must be of fedspeech"):
            KIND.find(other)


@pytest.mark.parametrize(
    "address",
    [
        "fedspeech.aggregation.optimizers:np.save",
        "fedspeech.aggregation.optimizers:np.lib.format.os.system",
        "fedspeech.aggregation.optimizers:dataclass",
        "fedspeech.aggregation.optimizers:Literal",
        "fedspeech.aggregation.optimizers:FedOpt.init.__globals__",
        "fedspeech.aggregation.optimizers:__builtins__",
        "fedspeech.aggregation.optimizers:check_limits",  # of this package, and of another module
    ],
)
def test_no_name_leads_through_a_module_of_ours_to_what_it_imports(address):
    """A job file would otherwise call anything that Python can call."""
    with pytest.raises(ScenarioError, match=r"must be of fedspeech|cannot be imported"):
        KIND.find(address)


def test_a_kind_without_a_room_imports_what_is_declared_alone(package):
    bare = CodeKind(noun="a rule", group="fedspeech.rules")
    assert bare.find("their_rules.rules:Rule").__name__ == "Rule"
    for other in ("fedspeech.aggregation.optimizers:FedOpt", ".x:y", "os:system", ":"):
        with pytest.raises(ScenarioError, match="a rule must be declared as an entry point"):
            bare.find(other)


def test_the_source_is_that_of_the_whole_package(package):
    """A rule that stays the same while what it calls changes is another rule."""
    before = source_of([KIND.find("their_rules.rules:Rule")])
    (package / "steps.py").write_text("def step(): return 1\n")
    assert source_of([KIND.find("their_rules.rules:Rule")]) != before


def test_code_of_this_package_has_no_source_of_its_own_to_compare():
    assert source_of([AdapterTraining]) == b""


class Mine:
    """A rule of a program that declares nothing."""


def test_what_a_program_hands_over_is_found_in_its_process_alone():
    address = address_of(Mine)
    with pytest.raises(ScenarioError, match="entry point"):
        KIND.find(address)
    assert hand_over(Mine) == address
    assert KIND.find(address) is Mine
    assert is_handed_over(Mine)
    own_code._HANDED_OVER.clear()  # another process
    with pytest.raises(ScenarioError, match="entry point"):
        KIND.find(address)


def test_what_has_no_address_is_not_handed_over():
    class Local: ...

    for nameless in (Local, lambda: None):
        with pytest.raises(ScenarioError, match="must stand at the top level of a module"):
            hand_over(nameless)


def test_source_typed_into_a_notebook_is_compared_function_by_function(monkeypatch):
    """The module of a notebook has no file; its cells are in Python's cache of lines."""

    def typed(cell, text):
        linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
        module = types.ModuleType("a_notebook")
        monkeypatch.setitem(sys.modules, "a_notebook", module)
        exec(compile(text, cell, "exec"), vars(module))
        return module.Rule

    text = "class Rule:\n    def apply(self, state, mean):\n        return state + mean\n"
    first, second = (typed("<cell 1>", text), typed("<cell 2>", text.replace("+", "-")))
    sources = [source_of([rule]) for rule in (first, second)]
    assert b"state + mean" in sources[0]
    assert sources[0] != sources[1]
    frozen = "from dataclasses import dataclass\n@dataclass(frozen=True)\n" + text
    assert source_of([typed("<cell 3>", frozen)]) == sources[0]
