"""The command line. A command imports the heavy libraries that it needs, so help is fast."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import click
import typer
import typer.core

from fedspeech import __version__
from fedspeech.errors import ArgumentRefused, FedspeechError, NoRoundRan
from simulations.commands import (
    data,
    deploy,
    ota,
    phone,
    registry,
    rollout,
    scenarios,
    secagg,
    share,
    tokens,
)
from simulations.commands.analyze import analyze
from simulations.commands.anonymize import anonymize
from simulations.commands.audit import audit
from simulations.commands.budget import budget
from simulations.commands.compare import compare
from simulations.commands.doctor import doctor
from simulations.commands.evidence import evidence
from simulations.commands.export import export
from simulations.commands.jingles import jingles
from simulations.commands.ledger import ledger
from simulations.commands.listen import listen
from simulations.commands.mitigate import mitigate
from simulations.commands.options import in_options
from simulations.commands.prepare import prepare
from simulations.commands.pretrain import pretrain
from simulations.commands.redact import redact
from simulations.commands.report import report
from simulations.commands.resume import resume
from simulations.commands.simulate import simulate
from simulations.commands.tune import tune
from simulations.commands.voice_privacy import voice_privacy
from simulations.console import LOGGER, print_any_text
from simulations.scenario.renamed import OPTIONS

# Before anything imports them: one thread per worker, quiet libraries, no telemetry.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Simulate federated, on-device personalization of speech models, with honest privacy.\n\n"
    "[bold]fedspeech simulate[/bold] runs the whole way: simulated phones train a keyword adapter "
    "on their own speech, a Flower server sees protected sums only, phones never seen before "
    "personalize, and the adapter leaves as a TensorFlow Lite file beside a report that says which "
    "epsilon holds against whom.\n\n"
    "Start with [bold]fedspeech simulate --scenario quick[/bold] (half a minute).",
)

# In the order of the help.
for command in (
    simulate, resume, tune, prepare, pretrain, budget, analyze, audit, ledger, mitigate, jingles,
    export, evidence, listen, redact, anonymize, voice_privacy, report, compare, doctor,
):  # fmt: skip
    app.command()(command)
_GROUPS: tuple[tuple[str, str, Mapping[str, Callable[..., None]]], ...] = (
    ("scenarios", "List or show the scenarios that ship.",
     {"list": scenarios.list_shipped, "show": scenarios.show}),
    ("data", "List known corpora, or check a folder of speech.",
     {"list": data.list_known, "check": data.check}),
    ("secagg", "Secure aggregation: what masks cost.", {"bench": secagg.bench}),
    ("ota", "Adapters over the air: keys, signed bundles, what a phone takes.",
     {"keys": ota.keys, "make": ota.make, "verify": ota.verify, "enroll": ota.enroll,
      "apply": ota.apply, "confirm": ota.confirm, "rollback": ota.rollback,
      "rotate": ota.rotate}),
    ("registry", "Roll-out registry: what was published for phones, what each is handed.",
     {"begin": registry.begin, "publish": registry.publish, "list": registry.list_releases,
      "latest": registry.latest, "rotate": registry.rotate}),
    ("rollout", "Serve a version in stages, guarded by noisy counts of every segment.",
     {"plan": rollout.plan, "start": rollout.start, "look": rollout.look,
      "promote": rollout.promote, "pause": rollout.pause, "resume": rollout.resume,
      "rollback": rollout.rollback, "status": rollout.status, "page": rollout.page,
      "statement": rollout.statement, "hear": rollout.hear, "simulate": rollout.simulate}),
    ("phone", "What a phone holds, and what left it.", {"show": phone.show}),
    ("share", "Nothing leaves unread: hold files against the policy of an audience.",
     {"run": share.run, "check": share.check, "recheck": share.recheck,
      "read": share.read, "log": share.log, "pseudonymize": share.pseudonymize,
      "destroy": share.destroy}),
    ("tokens", "Speech as tokens whose first codebook keeps the words: train, encode, decode.",
     {"train": tokens.train, "encode": tokens.encode, "decode": tokens.decode}),
    ("deploy", "Deploy over TLS: run locally, make keys.",
     {"local": deploy.local, "keys": deploy.keys}),
)  # fmt: skip


class _RunGroup(typer.core.TyperGroup):
    """Takes what is no command for a run folder: `fedspeech share RUN` is `share run RUN`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and what is left of the words."""
        if "run" in self.commands and args and args[0] not in self.commands:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)


for group, text, members in _GROUPS:
    group_app = typer.Typer(cls=_RunGroup, no_args_is_help=True, help=text)
    for name, member in members.items():
        group_app.command(name)(member)
    app.add_typer(group_app, name=group)


EXIT_NO_ROUND = 3
EXIT_OUR_FAULT = 70  # EX_SOFTWARE of sysexits.h
DEBUG = "FEDSPEECH_DEBUG"


def main() -> None:
    """Entry point: whatever goes wrong is a sentence on stderr that says what may be done.

    The exit status is 1 for a refusal, 2 for options that cannot be read, 3 where a run is over and
    no round was completed, 70 for an error of fedspeech itself. Ctrl-C is 130 and SIGTERM 143;
    both leave a run folder in order.
    """
    signal.signal(signal.SIGTERM, _terminated)
    print_any_text()
    LOGGER.addHandler(_TO_STDERR)
    LOGGER.setLevel(logging.INFO)
    with _clear_errors():
        _command()(prog_name="fedspeech")


@functools.cache
def _command() -> click.Command:
    command = typer.main.get_command(app)
    _refuse_infinities(command)
    for path, options in OPTIONS.items():
        below = command
        for name in path.split():
            below = cast(click.Group, below).commands[name]
        _refuse_renamed(below, options)
    return command


def _refuse_renamed(command: click.Command, options: Mapping[str, str]) -> None:
    """Makes options that a command no longer has name the ones that replaced them."""
    by_name = {name: parameter for parameter in command.params for name in parameter.opts}
    for old, new in options.items():
        is_flag = cast(click.Option, by_name[new]).is_flag or None  # False: a value may be missing
        command.params.append(
            click.Option(
                [old], hidden=True, is_flag=is_flag, expose_value=False, is_eager=True,
                callback=functools.partial(_renamed, old, new),
            )
        )  # fmt: skip


def _renamed(
    old: str, new: str, _context: click.Context, _parameter: click.Parameter, value: Any
) -> None:
    if value not in (None, False):
        raise click.UsageError(f"{old} is now {new}")


def _refuse_infinities(command: click.Command) -> None:
    """Makes every option of a command that takes a number refuse NaN and infinity."""
    for parameter in command.params:
        if isinstance(parameter.type, click.types.FloatParamType) and parameter.callback is None:
            parameter.callback = _finite
    for below in getattr(command, "commands", {}).values():
        _refuse_infinities(below)


def _finite(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    # No range of click's stops NaN, which is neither below its low end nor above its high end.
    if isinstance(value, float) and not math.isfinite(value):
        raise click.BadParameter(f"expected a finite number, got {value}")
    return value


def _terminated(number: int, _: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: what it stops is put in order
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """Turns every error into one sentence, and an unforeseen one into what we need to mend it."""
    try:
        yield
    except NoRoundRan as error:
        _end(str(error), EXIT_NO_ROUND)
    except ArgumentRefused as error:
        _end(in_options(error), 1)
    except FedspeechError as error:
        _end(str(error), 1)
    except MemoryError:
        _end("the memory of this machine does not suffice; try fewer --workers or phones", 1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _end(f"{error.strerror or error}{where}", 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        _end(
            f"an error of fedspeech itself, not of yours: {type(error).__name__}: {error} "
            f"({Path(place.filename).name}, line {place.lineno}). {DEBUG}=1 in the environment "
            "prints where it comes from: please report that",
            EXIT_OUR_FAULT,
        )


def _end(message: str, status: int) -> NoReturn:
    print(f"fedspeech: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(status) from None


class _ToStderr(logging.Handler):
    """Shows what the library logs on stderr, without touching what a program reads."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"fedspeech: {record.getMessage()}", file=sys.stderr, flush=True)  # noqa: T201


_TO_STDERR = _ToStderr()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedspeech {__version__}")
        raise typer.Exit


@app.callback()
def fedspeech(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Holds the options that belong to no command; `_print_version` has acted on them."""
    del version


if __name__ == "__main__":
    main()
