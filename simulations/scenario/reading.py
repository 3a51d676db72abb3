"""Reads a scenario; an unknown key is an error that names the nearest one, or the one it became."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedspeech.aggregation.single_updates import single_updates_refused
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.errors import ScenarioError
from fedspeech.extras import EXTRAS, lacking
from simulations.scenario.corpora import CORPORA
from simulations.scenario.renamed import KEYS, VALUES, new_value
from simulations.scenario.schema import SCHEMA, Scenario
from simulations.scenario.sections import keys_of, sections_in


def scenario_names() -> list[str]:
    """Names of the scenarios that ship with the package."""
    folder = resources.files("simulations.scenario") / "shipped"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".toml"))


def read_scenario(
    name_or_file: str, changes: Iterable[str] = (), *, extras: bool = True
) -> Scenario:
    """Reads a shipped scenario by name, or a TOML file, and applies `a.b=value` changes.

    Args:
      name_or_file: "default", or a path that ends in .toml.
      changes: what `--set` was given; values are TOML, bare words are taken as strings.
      extras: whether its sections for extras that are installed count; a page that is the same on
        every machine leaves them out.

    Raises:
      ScenarioError: naming the file, the key and the nearest valid one.
    """
    try:
        document = tomllib.loads(_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name_or_file} is not valid TOML: {error}") from error
    changes = tuple(changes)
    _suit_extras(document, changes, extras)
    for change in changes:
        _apply(document, change)
    return scenario_from(document, name_or_file)


def scenario_from(document: dict[str, Any], name: str) -> Scenario:
    """Checks a scenario that was read, or that a Python program describes.

    Args:
      document: sections and keys as a TOML file has them; a missing kind of corpus is filled in.
      name: of it, for messages.

    Raises:
      ScenarioError: naming the key and the nearest valid one.
    """
    if isinstance(corpus := document.get("corpus"), dict):
        # The kind decides which keys are valid, so it is settled before they are checked.
        corpus.setdefault("kind", "folder" if "path" in corpus else "embedded")
    try:
        scenario = Scenario.model_validate(document)
        if scenario.vocabulary or scenario.corpus.kind == "embedded":
            # Refused here, under the name of the file, and not once the run has begun.
            Vocabulary(scenario.vocabulary)
    except ValidationError as error:
        raise ScenarioError(_explain(name, error)) from error
    except ValueError as error:
        raise ScenarioError(f"{name}: vocabulary: {error}") from error
    return scenario


def _suit_extras(document: dict[str, Any], changes: Iterable[str], suit: bool) -> None:
    """Takes the sections that a scenario has for extras which are installed, and says so.

    `[where_installed.EXTRA.SECTION]` replaces keys of SECTION. Whoever names another base than that
    of these sections keeps the settings that were made for any base.

    Raises:
      ScenarioError: if there is no such extra.
    """
    variants = document.pop("where_installed", {})
    if unknown := sorted(set(variants) - set(EXTRAS)):
        raise ScenarioError(
            f"where_installed names an extra, one of {', '.join(EXTRAS)}, got {unknown[0]!r}"
        )
    named: dict[str, Any] = {}
    for change in changes:
        if change.partition("=")[0].strip() == "base.source":
            _apply(named, change)
    for extra, sections in variants.items():
        if named and named["base"] != sections.get("base"):
            continue
        if missing := lacking(extra) if suit else "it is left out":
            reason = f"without the extra {extra}: {missing}"
        else:
            reason = f"with the extra {extra}, which is installed"
            for section, value in sections.items():
                given = document.get(section)
                document[section] = {**given, **value} if isinstance(given, dict) else value
        document["description"] = f"{document.get('description', '')} This is {reason}.".strip()


def _text(name_or_file: str) -> str:
    """The text of a file, or of a scenario that ships.

    Raises:
      ScenarioError: if there is none, with the nearest name, or the file is no text.
    """
    if name_or_file.endswith(".toml"):
        path = Path(name_or_file)
        if not path.is_file():
            raise ScenarioError(f"there is no scenario file {name_or_file}")
        try:
            return path.read_text(encoding="utf-8-sig")  # editors of Windows begin with a mark
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{name_or_file} must be UTF-8 text: {error}") from error
    if name_or_file in scenario_names():
        file = resources.files("simulations.scenario") / "shipped" / f"{name_or_file}.toml"
        return file.read_text(encoding="utf-8")
    near = difflib.get_close_matches(name_or_file, scenario_names(), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ScenarioError(
        f"there is no scenario {name_or_file!r}{hint} "
        f"(shipped: {', '.join(scenario_names())}; or give a file that ends in .toml)"
    )


def _apply(document: dict[str, Any], change: str) -> None:
    """Applies one `a.b=value` to a TOML document."""
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ScenarioError(f"a changed setting is section.key=value, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in keys[:-1]:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ScenarioError(f"{path}: {key!r} is a value, not a section")
    document[keys[-1]] = value


def _explain(name: str, error: ValidationError) -> str:
    """Turns pydantic's findings into one line each: path, rule, value, nearest or new key."""
    lines = []
    for finding in error.errors():
        path = [str(part) for part in finding["loc"] if part not in CORPORA]
        where, given = ".".join(path), finding.get("input")
        if where == "schema":
            lines.append(
                f"it has schema = {given!r} and this version reads schema = {SCHEMA}; `fedspeech "
                "scenarios show` prints every key that it has"
            )
        elif finding["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            lines.append(_unknown(path, finding["loc"]))
        elif finding["type"] == "value_error":  # of several keys; it names them and their values
            rule = finding["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {rule}" if where else rule)
        elif where == "server_optimizer.optimizer" and (why := single_updates_refused(given)):
            lines.append(f"{where}: {why}")
        elif (new := new_value(where, given)) is not None:
            lines.append(f"{where}: {given!r} is now {new!r}")
        else:
            lines.append(f"{where}: {finding['msg']}, got {given!r:.60}")
    return f"{name} is not a valid scenario:\n  " + "\n  ".join(lines)


def _unknown(path: list[str], location: tuple[int | str, ...]) -> str:
    """What an unknown key is called now, or which known one is nearest."""
    where = ".".join(path)
    if new := KEYS.get(where):
        values = ", ".join(f"{old!r} is now {word!r}" for old, word in VALUES.get(new, {}).items())
        return f"{where} is now {new}" + (f" ({values})" if values else "")
    near = difflib.get_close_matches(path[-1], _keys_beside(path, location), 1)
    hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
    return f"unknown key {where}{hint}"


def _keys_beside(path: list[str], location: tuple[int | str, ...]) -> Iterable[str]:
    """Valid keys of the section in which an unknown key stands."""
    section: type[Any] = Scenario
    for part in path[:-1]:
        if part == "corpus":
            section = next((kind for name, kind in CORPORA.items() if name in location), section)
        else:
            section = next(sections_in(keys_of(section)[part]))
    return keys_of(section)
