"""Options that several commands share, and the scenario that they describe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import click
import typer

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.console import Console
from simulations.scenario.renamed import new_value

if TYPE_CHECKING:
    from simulations.scenario.schema import Scenario

ScenarioOption = Annotated[
    str, typer.Option("--scenario", "-s", help="Name of a shipped scenario, or a .toml file.")
]
CorpusOption = Annotated[
    Path | None,
    typer.Option(help="Your recordings, in any layout of `fedspeech data list`."),
]
BaseOption = Annotated[
    Path | None,
    typer.Option(
        help="A file of `fedspeech pretrain`, a folder with base.toml, or speech-embedding."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key, for instance --set privacy.noise_multiplier=2."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME-DATE.")
]
SeedOption = Annotated[int | None, typer.Option(help="Overrides the scenario's seed.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
LedgerOption = Annotated[
    Path | None,
    typer.Option(
        help="The population's privacy ledger, shared with its other runs; default: one for "
        "this run alone.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Where synthesized features are kept; default ~/.cache/fedspeech."),
]


DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Computes encoder passes and cohorts on cpu, cuda, cuda:NUMBER or mps; default cpu, "
        "the only one on which bits repeat.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]


class _Choice(click.Choice[str]):
    """One of some words; a word that was replaced is refused by naming the new one."""

    def __init__(self, words: Sequence[str], key: str) -> None:
        super().__init__(words)
        self._key = key

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            new = new_value(self._key, value)
            said = f"is now {new!r}" if new else f"is not one of {', '.join(self.choices)}"
            self.fail(f"{value!r} {said}", param, ctx)
        return value


def choice(text: str, *words: str, key: str = "") -> Any:
    """An option with a help text that takes one of some words; `key`: as a scenario names it."""
    return typer.Option(click_type=_Choice(words, key), help=text)


def scenario_of(
    scenario: str,
    corpus: Path | None,
    base: Path | None,
    changes: list[str] | None,
    seed: int | None,
) -> Scenario:
    """Reads the scenario with the changes that options stand for."""
    extra = list(changes or [])
    if corpus is not None:
        if not hasattr(read(scenario, ()).corpus, "path"):
            raise ScenarioError(
                f"--corpus needs a scenario for recordings, such as real-commands, and {scenario} "
                "makes its own speech"
            )
        extra.append(f"corpus.path={json.dumps(str(corpus))}")
    if base is not None:
        extra.append(f"base.source={json.dumps(str(base))}")
    if seed is not None:
        extra.append(f"seed={seed}")
    return read(scenario, extra)


def read(name: str, changes: Sequence[str]) -> Scenario:
    """Reads a scenario; a file that is no text is named."""
    try:
        return fs.read_scenario(name, changes)
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{name} must be UTF-8 text: {error}") from error


def print_json(facts: Any) -> None:
    """Prints one JSON object."""
    print(json.dumps(facts, indent=2, allow_nan=False))  # noqa: T201


class Printable(Protocol):
    """What a function of the library found, for people and for programs."""

    def print(self, console: Console) -> None:
        """Prints it."""
        ...

    def record(self) -> Mapping[str, Any]:
        """The same as plain data."""
        ...


def show(found: Printable, as_json: bool) -> None:
    """Prints what was found, as text or as one JSON object."""
    if as_json:
        print_json(found.record())
    else:
        found.print(Console())


def in_options(error: ArgumentRefused, names: Mapping[str, str] | None = None) -> str:
    """What is wrong with arguments, said with the options that bear their names.

    Args:
      error: whose message has names of arguments in backticks.
      names: argument to option, where the two differ.
    """
    return re.sub(r"`(\w+)`", lambda found: option_of(found[1], names), str(error))


@contextmanager
def said_in_options(names: Mapping[str, str] | None = None) -> Iterator[None]:
    """Decorates a command whose function refuses arguments: it says so with its options.

    Args:
      names: argument to option, where the two differ.

    Raises:
      ScenarioError: in the place of an `ArgumentRefused`.
    """
    try:
        yield
    except ArgumentRefused as error:
        raise ScenarioError(in_options(error, names)) from None


def option_of(name: str, names: Mapping[str, str] | None = None) -> str:
    """The option of an argument."""
    return "--" + (names or {}).get(name, name).replace("_", "-")
