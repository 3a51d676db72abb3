"""The command line. A command imports the heavy libraries that it needs, so help is fast."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import click
import typer

from fedspeech import __version__
from fedspeech.errors import FedspeechError, NoRoundRan, ProtocolAbort, ScenarioError
from simulations.console import print_any_text

if TYPE_CHECKING:
    from simulations.scenario.schema import Scenario
    from simulations.tuning.results import Mode

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
scenarios_app = typer.Typer(no_args_is_help=True, help="List or show the scenarios that ship.")
data_app = typer.Typer(
    no_args_is_help=True, help="List known corpora, or check a folder of speech."
)
secagg_app = typer.Typer(no_args_is_help=True, help="Secure aggregation: what masks cost.")
deploy_app = typer.Typer(no_args_is_help=True, help="Deploy over TLS: run locally, make keys.")
app.add_typer(scenarios_app, name="scenarios")
app.add_typer(data_app, name="data")
app.add_typer(secagg_app, name="secagg")
app.add_typer(deploy_app, name="deploy")


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
    with _clear_errors():
        _command()(prog_name="fedspeech")


@functools.cache
def _command() -> click.Command:
    """Everything below `fedspeech`."""
    command = typer.main.get_command(app)
    _refuse_infinities(command)
    return command


def _refuse_infinities(command: click.Command) -> None:
    """Makes every option of a command that takes a number refuse NaN and infinity."""
    for parameter in command.params:
        if isinstance(parameter.type, click.types.FloatParamType) and parameter.callback is None:
            parameter.callback = _finite
    for below in getattr(command, "commands", {}).values():
        _refuse_infinities(below)


def _finite(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
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


ScenarioOption = Annotated[
    str, typer.Option("--scenario", "-s", help="Name of a shipped scenario, or a .toml file.")
]
CorpusOption = Annotated[
    Path | None,
    typer.Option("--corpus", help="Your recordings: a manifest folder or Speech Commands layout."),
]
BaseOption = Annotated[
    Path | None, typer.Option("--base", help="A base made by `fedspeech pretrain`.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key, for instance --set privacy.noise_multiplier=2."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="Run folder; default runs/NAME-DATE.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Overrides the scenario's seed.")]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; default: one per core.")
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What carries the messages: inprocess, or flower (Flower's simulation engine, on Ray; "
        "RAY_ADDRESS names a cluster that is there). The bits are the same.",
    ),
]
LedgerOption = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        help="The population's privacy ledger, shared with its other runs; default: one for "
        "this run alone.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache", help="Where synthesized features are kept; default ~/.cache/fedspeech."
    ),
]


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


@app.command()
def simulate(
    scenario: ScenarioOption = "default",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    out: OutOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    engine: EngineOption = "inprocess",
    ledger: LedgerOption = None,
) -> None:
    """Run a scenario: federated rounds, personalization, export, report."""
    if engine not in ("inprocess", "flower"):
        raise typer.BadParameter(f"{engine!r} is not inprocess or flower", param_hint="--engine")
    resolved = _resolve(scenario, corpus, base, changes, seed)
    from simulations.run.runner import (
        simulate as run,
    )  # torch: seconds that a typing error need not wait

    run(
        resolved,
        out=out,
        workers=workers,
        cache=cache,
        engine="flower" if engine == "flower" else "inprocess",
        ledger=ledger,
    )


def _resolve(
    scenario: str,
    corpus: Path | None,
    base: Path | None,
    changes: list[str] | None,
    seed: int | None,
) -> Scenario:
    """Reads the scenario with the changes that options stand for."""
    extra = list(changes or [])
    if corpus is not None:
        if not hasattr(_read(scenario, ()).corpus, "path"):
            raise ScenarioError(
                f"--corpus needs a scenario for recordings, such as real-commands, and {scenario} "
                "makes its own speech"
            )
        extra.append(f"corpus.path={json.dumps(str(corpus))}")
    if base is not None:
        extra.append(f"base.source={json.dumps(str(base))}")
    if seed is not None:
        extra.append(f"seed={seed}")
    return _read(scenario, extra)


def _read(name: str, changes: Sequence[str]) -> Scenario:
    """Reads a scenario; a file that is no text is named."""
    from simulations.scenario.schema import read_scenario

    try:
        return read_scenario(name, changes)
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{name} must be UTF-8 text: {error}") from error


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    workers: WorkersOption = None,
    cache: CacheOption = None,
) -> None:
    """Go on with a run that was killed, interrupted or out of disk."""
    from simulations.run.resume import resume as go_on

    go_on(run, workers=workers, cache=cache)


@app.command()
def tune(
    mode: Annotated[
        str, typer.Option("--mode", help="grid, boundary (smallest clip norm) or pareto.")
    ] = "grid",
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    clip_norm: Annotated[
        str | None, typer.Option("--clip-norm", help="LO:HI:STEPS (log-spaced), or a,b,c.")
    ] = None,
    noise_multiplier: Annotated[
        str | None, typer.Option("--noise-multiplier", help="Likewise.")
    ] = None,
    server_learning_rate: Annotated[
        str | None,
        typer.Option(
            "--server-learning-rate",
            help="Likewise; without it, learning rate x clip norm stays constant.",
        ),
    ] = None,
    local_epochs: Annotated[
        str | None, typer.Option("--local-epochs", help="Likewise, whole numbers.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="How many; default 3, charged 1.")
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Of mode pareto.")] = 24,
    within: Annotated[
        float, typer.Option("--within", min=0, max=100, help="Points that privacy may cost.")
    ] = 0.5,
    population: Annotated[
        str | None,
        typer.Option("--population", help="public: declares the recordings of --corpus public."),
    ] = None,
    charge: Annotated[
        Path | None,
        typer.Option("--charge", help="Ledger of the population that pays for every trial."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder, or one to go on with; default runs/tune-NAME."),
    ] = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
) -> None:
    """Search clip norm and noise: a recommendation with its uncertainty, and a scenario to run."""
    if mode not in ("grid", "boundary", "pareto"):
        raise typer.BadParameter(
            f"{mode!r} is not one of grid, boundary, pareto", param_hint="--mode"
        )
    if population not in ("public", None):
        raise typer.BadParameter(f"{population!r} is not public", param_hint="--population")
    resolved = _resolve(scenario, corpus, base, changes, seed)
    from simulations.tuning.space import parse_axis
    from simulations.tuning.tuner import Request
    from simulations.tuning.tuner import tune as run

    axes = {
        name: parse_axis(text, f"--{name.replace('_', '-')}")
        for name, text in (
            ("clip_norm", clip_norm), ("noise_multiplier", noise_multiplier),
            ("server_learning_rate", server_learning_rate), ("local_epochs", local_epochs),
        )
        if text is not None
    }  # fmt: skip
    request = Request(
        mode=cast("Mode", mode), **axes, seeds=seeds, trials=trials, within=within / 100,
        public=population is not None, charge=charge,
    )  # fmt: skip
    run(resolved, request, out=out, workers=workers, cache=cache)


@app.command()
def prepare(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for job.json.")],
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    ledger: LedgerOption = None,
) -> None:
    """Write a scenario's job for `flwr run . -c 'job="OUT/job.json"'`."""
    resolved = _resolve(scenario, corpus, base, changes, seed)
    from simulations.run.runner import prepare as run

    run(resolved, out=out, workers=workers, cache=cache, ledger=ledger)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the base is written.")],
    words: Annotated[
        str, typer.Option("--words", help="Target words, separated by spaces or commas.")
    ] = "",
    corpus: CorpusOption = None,
    speakers: Annotated[
        str | None,
        typer.Option(
            "--speakers",
            help="With --corpus: a file that names the public speakers, or how many are drawn.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            help="With --corpus: a file that names the speakers by whom the base is judged; "
            "default: a tenth of the public ones.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of speakers and weights.")] = 0,
    cache: CacheOption = None,
    lexicon: Annotated[
        list[str] | None,
        typer.Option(
            "--lexicon", help='Say a word that is not built in: --lexicon "lamp=L AE1 M P".'
        ),
    ] = None,
    task: Annotated[str, typer.Option("--task", help="kws for words, asr for sentences.")] = "kws",
) -> None:
    """Make a base for words or sentences, from the synthesizer or a corpus's public speakers."""
    from simulations.commands.pretrain import make_base

    make_base(
        out, words=words, corpus=corpus, speakers=speakers, seed=seed, cache=cache, task=task,
        held_out=held_out, lexicon=dict(_spelled(entry) for entry in lexicon or ()),
    )  # fmt: skip


def _spelled(entry: str) -> tuple[str, str]:
    """Splits WORD=PHONEMES."""
    word, _, phonemes = entry.partition("=")
    if not word.strip() or not phonemes.strip():
        raise typer.BadParameter(f"expected WORD=PHONEMES, got {entry!r}", param_hint="--lexicon")
    return word.strip().lower(), phonemes.strip()


@app.command()
def budget(
    scenario: Annotated[
        str | None,
        typer.Option("--scenario", "-s", help="Price this scenario's plan: a name or a file."),
    ] = None,
    changes: SetOption = None,
    corpus: CorpusOption = None,
    mechanism: Annotated[
        str | None, typer.Option("--mechanism", help="central, distributed, skellam or local.")
    ] = None,
    participation: Annotated[
        str | None, typer.Option("--participation", help="poisson, fixed_size or limited.")
    ] = None,
    population: Annotated[int | None, typer.Option("--population", help="Eligible phones.")] = None,
    cohort: Annotated[
        float | None, typer.Option("--cohort", help="Phones per round, on average.")
    ] = None,
    probability: Annotated[
        float | None, typer.Option("--probability", help="Of one phone in one round, instead.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Planned.")] = None,
    noise: Annotated[
        float | None,
        typer.Option("--noise", help="Stddev over the clip norm: of the sum; local: of one phone."),
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="Default 1 / (10 population).")
    ] = None,
    dimension: Annotated[
        int | None, typer.Option("--dimension", help="Coordinates of a delta; default 16384.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option("--clip", help="Clip norm; noise is relative to it.")
    ] = None,
    bits: Annotated[
        int | None, typer.Option("--bits", help="Of the ring: 16, 24 or 32; default the smallest.")
    ] = None,
    cohort_cap: Annotated[
        int | None, typer.Option("--cohort-cap", help="More phones are turned away.")
    ] = None,
    min_cohort: Annotated[
        int | None, typer.Option("--min-cohort", help="No round of fewer phones takes place.")
    ] = None,
    min_survivors: Annotated[
        int | None,
        typer.Option("--min-survivors", help="Fewer answers are never opened; sizes the noise."),
    ] = None,
    colluders: Annotated[
        int | None,
        typer.Option("--colluders", help="Corrupt phones that may join a round, all of them."),
    ] = None,
    dropout_rate: Annotated[
        float | None, typer.Option("--dropout-rate", help="Share of a roster that never answers.")
    ] = None,
    availability: Annotated[
        float | None,
        typer.Option("--availability", help="Share there when the fewest are; poisson only."),
    ] = None,
    sums: Annotated[
        str | None,
        typer.Option("--secure-aggregation", help="masked or ideal; default as in a run."),
    ] = None,
    clip_quantile: Annotated[
        float | None,
        typer.Option("--clip-quantile", help="The clip norm adapts to this share of deltas."),
    ] = None,
    max_participations: Annotated[
        int | None, typer.Option("--max-participations", help="Rounds a phone joins at most.")
    ] = None,
    solve: Annotated[
        str | None, typer.Option("--solve", help="noise, rounds, cohort or bits, for --epsilon.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option("--epsilon", help="Bound to solve for.")] = None,
    against: Annotated[
        str, typer.Option("--against", help="Whose epsilon --epsilon bounds: release or server.")
    ] = "release",
    explain: Annotated[
        bool, typer.Option("--explain", help="Print everything that the figures stand on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Price a plan before anybody runs it: two epsilons, against whom, and what they stand on."""
    for name, value, choices in (
        ("mechanism", mechanism, ("central", "distributed", "skellam", "local", None)),
        ("participation", participation, ("poisson", "fixed_size", "limited", None)),
        ("secure-aggregation", sums, ("masked", "ideal", None)),
        ("solve", solve, ("noise", "rounds", "cohort", "bits", None)),
        ("against", against, ("release", "server")),
    ):
        if value not in choices:
            wanted = ", ".join(choice for choice in choices if choice)
            raise typer.BadParameter(f"{value!r} is not one of {wanted}", param_hint=f"--{name}")
    from simulations.commands.budget import budget as run

    fields = {
        "mechanism": mechanism, "participation": participation, "population": population,
        "cohort": cohort, "probability": probability, "rounds": rounds, "noise_multiplier": noise,
        "delta": delta, "dimension": dimension, "clip_norm": clip, "ring_bits": bits,
        "cohort_cap": cohort_cap, "min_cohort": min_cohort, "min_survivors": min_survivors,
        "colluders": colluders, "dropout_rate": dropout_rate, "quota": max_participations,
        "availability": availability, "secure_aggregation": sums, "clip_quantile": clip_quantile,
    }  # fmt: skip
    run(
        fields,
        scenario=None if scenario is None else _resolve(scenario, corpus, None, changes, None),
        solve=solve, epsilon=epsilon, against=against, explain=explain, as_json=as_json,
    )  # fmt: skip


@app.command()
def ledger(
    file: Annotated[Path, typer.Argument(help="A population's ledger, or a run folder.")],
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="A row that must be in it, NUMBER:SHA256 as an earlier call printed it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a ledger and print what its population has spent, run by run."""
    from simulations.commands.ledger import statement

    statement(file, head=head, as_json=as_json)


@app.command()
def export(
    run: Annotated[Path | None, typer.Argument(help="A run folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default RUN/export.")] = None,
    adapter: Annotated[
        str, typer.Option("--adapter", help="global, or an unseen phone: its own adapter.")
    ] = "global",
    formats: Annotated[
        str, typer.Option("--formats", help="Such as float,int8,cc; default: all of them.")
    ] = "",
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="Where the run's recordings lie now.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Recordings that the integer files are calibrated on."),
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="Check this file and print every figure.")
    ] = None,
    benchmark: Annotated[
        Path | None, typer.Option("--benchmark", help="Time this file against torch.")
    ] = None,
    rehearse: Annotated[
        Path | None,
        typer.Option("--rehearse", help="Train a round in this personal file; publish nothing."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Export a run's adapter for phones, in every format, checked; or check, time, train a file."""
    chosen = [option for option in (verify, benchmark, rehearse) if option]
    if len(chosen) > 1 or (run is None and not chosen):
        raise ScenarioError(
            "export takes a run folder, or one of --verify, --benchmark and --rehearse with a file"
        )
    from simulations.artifacts import exporting

    if verify:
        exporting.verify_file(verify, run, corpus)
    elif benchmark:
        from simulations.artifacts.benchmarking import benchmark_file

        benchmark_file(benchmark, run, as_json=as_json)
    elif rehearse:
        from simulations.artifacts.on_device_round import rehearse_round

        rehearse_round(rehearse, run, as_json=as_json)
    elif run:
        wanted = [name.strip() for name in formats.split(",") if name.strip()]
        exporting.export_run(
            run, out, adapter=adapter, formats=wanted, corpus=corpus, calibration_audio=calibration
        )


@app.command()
def listen(
    file: Annotated[Path, typer.Argument(help="An exported streaming file.")],
    wav: Annotated[Path | None, typer.Option("--wav", help="A recording to listen to.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--evaluate", help="Recordings to count errors on.")
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option("--synthetic-hours", help="Count errors on so many synthesized hours."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            help="Smoothed probability to detect at; default: the one at which the run of FILE "
            "counted at most 10 false accepts an hour, else 0.8.",
        ),
    ] = None,
    smoothing: Annotated[
        int, typer.Option("--smoothing", min=1, help="Hops of 20 ms to average over.")
    ] = 10,
    cooldown: Annotated[
        int, typer.Option("--cooldown", min=0, help="Hops without detection after one.")
    ] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of synthesized sound.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The DET curve; default det.svg beside FILE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Stream sound through an exported file: print detections, or false accepts per hour."""
    if sum(option is not None for option in (wav, folder, hours)) != 1:
        raise ScenarioError("listen takes one of --wav, --evaluate and --synthetic-hours")
    from fedspeech.evaluation.streaming import ListeningRules
    from simulations.artifacts import stream_evaluation

    rules = ListeningRules(smoothing_hops=smoothing, cooldown_hops=cooldown)
    if threshold is None:
        threshold = stream_evaluation.threshold_of(file)
    if wav:
        stream_evaluation.listen_to(file, wav, threshold, rules)
        return
    stream_evaluation.evaluate(
        file, folder=folder, hours=hours, threshold=threshold, rules=rules, seed=seed, out=out,
        as_json=as_json,
    )  # fmt: skip


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    publish: Annotated[
        bool, typer.Option("--publish", help="Leave out what only the operator may see.")
    ] = False,
) -> None:
    """Write a run's report as one offline HTML file."""
    from simulations.report import write_report

    typer.echo(str(write_report(run, publish=publish)))


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run folder.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Show how two runs differ: settings, accuracy, epsilons."""
    from simulations.commands.compare import compare as compare_runs
    from simulations.console import Console

    Console().print(compare_runs(first, second))


@app.command()
def doctor() -> None:
    """Check this machine: versions, cores, memory, disk, and one pass through every part."""
    from simulations.commands.doctor import examine

    raise typer.Exit(0 if examine() else 1)


@data_app.command("list")
def data_list() -> None:
    """List the corpora that fedspeech reads, with licence, size and layout."""
    from simulations.commands.data import render_list
    from simulations.console import Console

    render_list(Console())


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="A folder of recordings.")],
) -> None:
    """Read every recording in a folder and say what it is good for and what was left out."""
    from simulations.commands.data import check_folder, render_check
    from simulations.console import Console

    render_check(check_folder(folder), Console())


@deploy_app.command("local")
def deploy_local(
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="SuperNodes, a shard each.")] = 4,
    scenario: ScenarioOption = "quick",
    corpus: CorpusOption = None,
    base: BaseOption = None,
    changes: SetOption = None,
    out: OutOption = None,
    workers: WorkersOption = None,
    seed: SeedOption = None,
    cache: CacheOption = None,
    ledger: LedgerOption = None,
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal",
            help="Noise from the seed, so that the run can be repeated; every artefact says so.",
        ),
    ] = False,
) -> None:
    """Bring up SuperLink and SuperNodes on this machine, run a scenario, report, tear down.

    TLS and node authentication with certificates made on the spot; noise from the operating system.
    """
    noise = "rehearsal" if rehearsal else "os"
    settings = [*(changes or []), f"simulation.shards={nodes}", f"noise={noise}"]
    resolved = _resolve(scenario, corpus, base, settings, seed)
    from simulations.run.runner import simulate as run

    run(resolved, out=out, workers=workers, cache=cache, engine="deployment", ledger=ledger)


@deploy_app.command("keys")
def deploy_keys(
    folder: Annotated[Path, typer.Argument(help="A new folder, for this user alone.")],
    address: Annotated[str, typer.Option("--address", help="IP address of the SuperLink.")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="SuperNodes.")],
    valid_days: Annotated[int, typer.Option("--valid-days", min=1, help="Of certificates.")] = 365,
) -> None:
    """Make certificates and keys for a deployment on several machines."""
    from simulations.engines.certificates import Authority

    try:
        authority = Authority(folder, valid_days)
        authority.server(address)
    except FileExistsError:
        raise ScenarioError(f"keys go into a new folder, and {folder} is there") from None
    except ValueError as error:
        raise ScenarioError(f"--address: {error}") from None
    for number in range(nodes):
        authority.node(f"node-{number}")
    typer.echo(f"{folder}: ca.pem, server.pem, server.key, node-0 to node-{nodes - 1} with .pub")


@secagg_app.command("bench")
def secagg_bench(
    phones: Annotated[int, typer.Option("--phones", min=2, help="On the roster.")] = 100,
    dimension: Annotated[int, typer.Option("--dimension", min=1, help="Coordinates.")] = 10_000,
    bits: Annotated[int, typer.Option("--bits", min=1, max=32, help="Of the ring.")] = 16,
    dropout: Annotated[
        float, typer.Option("--dropout", min=0, max=0.99, help="Share that vanishes.")
    ] = 0.1,
    server: Annotated[
        str, typer.Option("--server", help="What the graph withstands: lying or curious.")
    ] = "lying",
    colluders: Annotated[
        int | None, typer.Option("--colluders", min=0, help="Default: a tenth of the phones.")
    ] = None,
    unshared: Annotated[
        bool, typer.Option("--unshared", help="Also without computing shared things once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run one masked sum on one core, and its primitives alone: CPU seconds, bytes, neighbors."""
    if server not in ("lying", "curious"):
        raise ScenarioError(f"--server must be lying or curious, got {server}")
    from simulations.commands.secagg import measure, show
    from simulations.console import Console

    try:
        cost = measure(
            phones=phones,
            dimension=dimension,
            bits=bits,
            dropout=dropout,
            server="lying" if server == "lying" else "curious",
            colluders=phones // 10 if colluders is None else colluders,
            unshared=unshared,
        )
    except (ValueError, ProtocolAbort) as error:
        raise ScenarioError(f"no session of this kind: {error}") from error
    if as_json:
        typer.echo(cost.model_dump_json(indent=1))
    else:
        show(cost, Console())


@scenarios_app.command("list")
def scenarios_list() -> None:
    """List the scenarios that ship with the package."""
    from rich.table import Table

    from simulations.console import Console
    from simulations.scenario.schema import read_scenario, scenario_names

    table = Table(box=None, pad_edge=False)
    table.add_column("scenario")
    table.add_column("what it is")
    for name in scenario_names():
        table.add_row(name, read_scenario(name).description)
    Console().print(table)


@scenarios_app.command("show")
def scenarios_show(
    name: Annotated[str, typer.Argument(help="A shipped scenario, or a .toml file.")],
    changes: SetOption = None,
) -> None:
    """Print a scenario with every key and default: a file to start from."""
    typer.echo(_read(name, changes or ()).to_toml(), nl=False)


if __name__ == "__main__":
    main()
