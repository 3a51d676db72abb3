"""A command parses options, calls one function of `fedspeech` and prints what it returns."""

import ast
import inspect
import re
from pathlib import Path

import click
import pytest
import typer

import fedspeech as fs
from simulations.cli import app

ROOT = Path(__file__).parents[3]
MODULES = sorted((ROOT / "simulations" / "commands").glob("[!_]*.py"))

# What a command may import of ours: the facade, its errors, and what reads options and prints.
OURS = (
    "fedspeech", "fedspeech.errors", "simulations.console", "simulations.commands.options",
    "simulations.scenario.renamed", "fedspeech.corpora.written",
)  # fmt: skip
PACKAGES = ("fedspeech", "clients", "server", "simulations", "tflite_export")
# Command to the public names that its body calls.
CALLS = {
    "simulate": {"simulate"}, "resume": {"resume", "resume_analysis"}, "tune": {"tune"},
    "prepare": {"prepare"},
    "analyze": {"analyze"}, "anonymize": {"anonymize"},
    "audit": {"audit"}, "budget": {"budget"}, "ledger": {"ledger"},
    "compare": {"compare"}, "doctor": {"doctor"},
    "report": {"load_run"}, "export": {"export", "verify", "benchmark", "dry_run_round"},
    "mitigate": {"mitigate"}, "redact": {"redact_lines"}, "jingles": {"find_jingles"},
    "listen": {"compare_kinds", "listen", "evaluate_listening"}, "pretrain": {"pretrain"},
    "scenarios list": {"scenarios"}, "scenarios show": {"to_toml"},
    "data list": {"known_corpora"}, "data check": {"check_folder"},
    "secagg bench": {"secagg_cost"}, "deploy local": {"simulate"},
    "deploy keys": {"deployment_keys"},
    "phone show": {"phone_show"},
    "tokens train": {"tokens_train"}, "tokens encode": {"tokens_encode"},
    "tokens decode": {"tokens_decode"},
    "evidence": {"evidence"},
    "voice-privacy": {"voice_privacy_file", "voice_privacy_metrics"},
    "share run": {"share"}, "share check": {"share_check"}, "share recheck": {"share_recheck"},
    "share read": {"share_read"}, "share log": {"share_log"},
    "share pseudonymize": {"share_pseudonymize"}, "share destroy": {"share_destroy"},
    "ota keys": {"ota_keys"}, "ota make": {"ota_make"}, "ota verify": {"ota_verify"},
    "ota enroll": {"ota_enroll"}, "ota apply": {"ota_apply"}, "ota confirm": {"ota_confirm"},
    "ota rollback": {"ota_rollback"}, "ota rotate": {"ota_rotate"},
    "registry begin": {"registry"}, "registry list": {"registry"},
    "registry publish": {"registry_publish"}, "registry rotate": {"registry_rotate"},
    "registry latest": {"registry_latest"},
    "rollout plan": {"rollout_forecast"}, "rollout start": {"rollout_start"},
    "rollout look": {"rollout_look"}, "rollout promote": {"rollout_promote"},
    "rollout pause": {"rollout_pause"}, "rollout resume": {"rollout_resume"},
    "rollout rollback": {"rollout_rollback"}, "rollout status": {"rollout_status"},
    "rollout page": {"rollout_page"}, "rollout statement": {"rollout_statement"},
    "rollout hear": {"rollout_hear"}, "rollout simulate": {"rollout_simulate"},
}  # fmt: skip


def commands():
    """Full name of every command to the function behind it."""
    for name, command in typer.main.get_command(app).commands.items():
        if isinstance(command, click.Group):
            for below, inner in command.commands.items():
                yield f"{name} {below}", inner.callback
        else:
            yield name, command.callback


FUNCTIONS = {name: inspect.unwrap(f) for name, f in commands()}


def imported(tree):
    """(module, name) of what is imported for more than types."""
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_command_imports_of_us_the_facade_and_what_prints(module):
    """Constants too, which its words name: they do nothing."""
    for place, name in imported(ast.parse(module.read_text())):
        if place.split(".")[0] in (
            "fedspeech",
            "simulations",
            "server",
            "clients",
            "tflite_export",
        ):
            assert place in OURS or name.isupper(), f"{module.name} must not import {place}.{name}"


def test_every_command_has_its_functions():
    assert set(FUNCTIONS) == set(CALLS)


@pytest.mark.parametrize("command", sorted(CALLS))
def test_a_command_calls_public_functions_and_no_other(command):
    function = FUNCTIONS[command]
    tree = ast.parse(Path(function.__code__.co_filename).read_text())
    (body,) = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__
    )
    called = {
        node.func.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "fs"
    }
    assert called == CALLS[command]
    assert called <= set(fs.PUBLIC)


def test_options_read_scenarios_by_the_facade_alone():
    tree = ast.parse((ROOT / "simulations" / "commands" / "options.py").read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "fs"
    }
    assert used == {"read_scenario"}


def texts(node):
    """Literal parts of what an expression says, joined."""
    return " ".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and
        isinstance(part.value, str)
    )  # fmt: skip


@pytest.mark.slow
def test_no_refusal_of_the_library_names_an_option():
    """Whoever calls a function has arguments; the command line puts options in their place."""
    found = []
    for folder in ("fedspeech", "simulations", "tflite_export", "clients", "server"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "commands" in file.parts or file.name == "cli.py":
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                # A whole command in backticks is one to type, whoever reads of it.
                said = re.sub(r"`[^`]*`", "", texts(node)) if isinstance(node, ast.Raise) else ""
                found += [f"{file.name}: {option}" for option in re.findall(r"--[a-z][\w-]*", said)]
    assert not found
