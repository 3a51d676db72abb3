"""Pages of the site that are made and not written: commands, the Python interface, changes.

MkDocs calls the functions whose names begin with `on_`
(https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import fedspeech
from simulations.cli import app

ROOT = Path(__file__).parents[2]
MADE = {"commands.md": "Commands", "api.md": "Python", "changes.md": "Changes"}
OUTSIDE = {"../README.md": "index.md", "../CHANGELOG.md": "changes.md"}
"""Files beside the site that it has a page for."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives the made pages their places, at the end of the reference."""
    reference = next(part["Reference"] for part in config.nav if "Reference" in part)
    reference += [{title: page} for page, title in MADE.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the made pages."""
    texts = (commands(), interface(), (ROOT / "CHANGELOG.md").read_text("utf-8"))
    for page, text in zip(MADE, texts, strict=True):
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leaves the name of a file of the project, to which a site has no link."""
    for outside, inside in OUTSIDE.items():
        markdown = markdown.replace(f"]({outside}", f"]({inside}")
    if page.file.src_uri == "changes.md":  # as seen from the root of the project
        markdown = markdown.replace("](docs/", "](")
    above = "../" * (1 + page.file.src_uri.count("/"))
    return re.sub(rf"\[([^\]]+)\]\({re.escape(above)}[a-zA-Z][^)]*\)", r"\1", markdown)


def commands() -> str:
    """Every command and what its `--help` says, as Markdown."""
    lines = ["# Commands", "", "What `fedspeech COMMAND --help` says, of every command.", ""]
    for path, command in _commands(typer.main.get_command(app), ()):
        context = click.Context(command, info_name=" ".join(path))
        lines += [f"## {' '.join(path)}", "", inspect.cleandoc(command.help or ""), ""]
        lines += [*_table(command, context), ""]
    return "\n".join(lines)


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Commands that do something, each with its path, in the order of the command line."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, found in inner.items():
        if not found.hidden:
            yield from _commands(found, (*path, name))


def _table(command: click.Command, context: click.Context) -> Iterator[str]:
    rows = [
        (parameter.human_readable_name, "") if record is None else record
        for parameter in command.params
        if not getattr(parameter, "hidden", False)
        for record in [parameter.get_help_record(context)]
    ]
    if rows:
        yield from ("| argument or option | what it says |", "|---|---|")
    for row in rows:
        name, says = (re.sub(r"\s+", " ", text).replace("|", "\\|") for text in row)
        yield f"| `{name}` | {says} |"


def interface() -> str:
    """Every public name of `fedspeech` by its docstring, as Markdown for mkdocstrings."""
    lines = ["# Python", "", "All names of `import fedspeech as fs`. [Their use](python.md)", ""]
    for name in sorted(fedspeech.PUBLIC, key=str.lower):
        place = fedspeech.PUBLIC[name].replace(":", ".")
        lines += [f"::: {place}", "    options:", f"      heading: fs.{name}", ""]
    return "\n".join(lines)
