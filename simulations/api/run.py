"""A run from Python: started, resumed or opened again, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.privacy.guarantee import Guarantee
from simulations.api.records import Records
from simulations.api.scenarios import runnable
from simulations.api.shown import Page
from simulations.console import preformatted
from simulations.progress import RunProgress, progress_for
from simulations.results.environment import Engine
from simulations.results.run_folder import RunFolder, read
from simulations.results.summary import Summary
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import Scenario

if TYPE_CHECKING:
    from simulations.artifacts.exporting import Export
    from simulations.callbacks.callback import Callback
    from simulations.report.comparison import Comparison
    from simulations.setup.definition import Experiment


@dataclass(frozen=True, eq=False)
class Promise:
    """What a phone is promised by a run: both epsilons, and everything that belongs to them.

    Attributes:
      figures: of the ledger as the run left it.
    """

    figures: Guarantee

    @property
    def epsilon_release(self) -> float:
        """Epsilon against readers of every published model, at `delta`."""
        return self.figures.epsilon_release

    @property
    def epsilon_server(self) -> float:
        """Epsilon against the server, at `delta`."""
        return self.figures.epsilon_server

    @property
    def delta(self) -> float:
        """Delta of both."""
        return self.figures.delta

    def record(self) -> dict[str, Any]:
        """All figures as plain data; infinities are the string "Infinity"."""
        return self.figures.to_record()

    def __str__(self) -> str:
        """Both epsilons, against whom, and who must be honest, in words."""
        from fedspeech.privacy.phrasing import paragraphs

        return paragraphs(self.figures)

    def __repr__(self) -> str:
        """The two epsilons, whole: rounded to the nearest, half of them would be too small."""
        return (
            f"Promise(epsilon_release={self.epsilon_release!r}, "
            f"epsilon_server={self.epsilon_server!r}, delta={self.delta!r})"
        )

    def _repr_html_(self) -> str:
        return preformatted(str(self))


class Run:
    """A run folder, also of a run that was cut short.

        >>> import fedspeech as fs
        >>> run = fs.load_run("runs/quick")
        >>> len(run.rounds), run.rounds[0]["round"], run.guarantee.epsilon_release < 60
        (8, 1, True)
        >>> 0.5 < run.metrics.where(section="accuracy", model="federated")[0]["value"] < 1
        True
        >>> run.report().path.name
        'report.html'

    Every property reads the folder as it is now. In a notebook a run shows what came of it.

    Attributes:
      path: the folder.
      experiment: what was run, where this program made it of objects in its memory; else None.
    """

    def __init__(self, path: Path, experiment: Experiment | None = None) -> None:
        """Names the folder; `load_run` checks that it is one."""
        self.path = path
        self.experiment = experiment

    @property
    def scenario(self) -> Scenario:
        """Every setting of the run."""
        return read_scenario(str(RunFolder(self.path).scenario))

    @property
    def summary(self) -> Summary:
        """What came of the run, as summary.json has it.

        Raises:
          FedspeechError: if the run was killed before it could write one.
        """
        summary = read(self.path).summary
        if summary is None:
            raise FedspeechError(
                f"{self.path} has no summary.json: its run was killed before it could end; "
                "resume it first"
            )
        return summary

    @property
    def complete(self) -> bool:
        """Whether every stage was gone through."""
        return self.summary.status == "complete"

    @property
    def metrics(self) -> Records:
        """Every figure of the models: accuracy, errors, listening, by model and by segment.

        Columns: section, metric, model ("base", "federated", "personalized", "control"), variant,
        segment, group (a value of the segment), value, unit ("share" is 0 to 1), low, high (ends
        of the interval), phones, counted, by_chance, lower_is_better, headline, visibility
        ("public", "server" or "simulation_only": nobody outside a simulation could know it).
        """
        return Records(
            {
                "section": section.key,
                "metric": metric.name,
                "model": metric.model,
                "variant": metric.variant or None,
                "segment": metric.segment.name if metric.segment else None,
                "group": metric.segment.value if metric.segment else None,
                "value": metric.value,
                "unit": metric.unit,
                "low": metric.interval.low if metric.interval else None,
                "high": metric.interval.high if metric.interval else None,
                "phones": metric.phones,
                "counted": metric.counted,
                "by_chance": metric.by_chance,
                "lower_is_better": metric.lower_is_better,
                "headline": metric.headline,
                "visibility": metric.visibility,
            }
            for section in self.summary.sections
            for metric in section.metrics
        )

    @property
    def rounds(self) -> Records:
        """One row per finished round, from 1.

        Columns: round, status, reason, epsilon_release and epsilon_server by the end of the round;
        cohort, reporting, signal_to_noise, clip_norm and validation figures as the server sees
        them; held_out_accuracy, share_clipped and true_wraps as only a simulation can; seconds of
        wall time; bytes_up and bytes_down of one phone.
        """
        return Records(
            {
                "round": row.round,
                "status": row.status,
                "reason": row.reason,
                "epsilon_release": row.guarantee.epsilon_release,
                "epsilon_server": row.guarantee.epsilon_server,
                **dict(row.server),
                "held_out_accuracy": row.simulation_only.held_out_accuracy,
                "share_clipped": row.simulation_only.share_clipped,
                "true_wraps": row.simulation_only.true_wraps,
                "seconds": row.seconds,
                "bytes_up": row.bytes_up,
                "bytes_down": row.bytes_down,
            }
            for row in read(self.path).rows
        )

    @property
    def guarantee(self) -> Promise:
        """What the phones are promised, by the ledger as the run left it."""
        return Promise(self.summary.guarantee)

    @property
    def adapter(self) -> Path:
        """The folder of the adapter that ships: weights, configuration, model card."""
        return RunFolder(self.path).adapter

    def report(
        self,
        *,
        publish: bool = False,
        policy: str | Path | None = None,
        key: str | Path | None = None,
    ) -> Page:
        """Writes the report and returns it; in a notebook it shows inline.

        Args:
          publish: for everybody: leave out what only the operator may see, and write what passes
            every rule of the gate (docs/sharing.md) or nothing.
          policy: of the gate, a TOML file; None: the defaults of the public tier.
          key: an Ed25519 key that signs a manifest beside the page; None: there is none beside it.

        Raises:
          ArgumentRefused: if a policy or a key is given for the operator's page.
          FedspeechError: if a file of the run is damaged, or it cannot be published.
          GateRefused: naming the rules that a page for everybody breaks.
        """
        from fedspeech.rollout.signing import PrivateKey
        from fedspeech.sharing.policy import Policy
        from simulations.report.publishing import Gate
        from simulations.report.writing import write_report

        if (policy or key) and not publish:
            raise ArgumentRefused("`policy` and `key` are of a page for everybody: set `publish`")
        gate = Gate(key=PrivateKey.load(Path(key)) if key else None)
        if policy:
            gate = replace(gate, policy=Policy.load(Path(policy)))
        return Page(write_report(self.path, publish, gate))

    def export(
        self,
        out: str | Path | None = None,
        *,
        adapter: str = "global",
        formats: Sequence[str] = (),
        corpus: str | Path | None = None,
        calibration: str | Path | None = None,
        listening_hours: float | None = None,
        progress: bool | RunProgress | None = None,
    ) -> Export:
        """Exports the adapter for phones, each file checked against the trained model.

        Args:
          out: folder; None: `export` in the run folder.
          adapter: "global", or a held-out phone: its own adapter.
          formats: such as ["float", "int8", "cc"]; empty: all of them.
          corpus: where the run's recordings lie now; None: where they lay.
          calibration: folder of recordings that the integer files are calibrated on.
          listening_hours: synthesized hours on which the detection recipes of streaming files are
            chosen; None: as many as the scenario says.
          progress: False: nothing is shown.

        Raises:
          PartlyRefused: naming the checks that failed; `error.export` holds what passed.
          FedspeechError: if the folder lacks a part.
        """
        from simulations.artifacts.exporting import export_run

        return export_run(
            self.path, path_of(out), adapter=adapter, formats=tuple(formats),
            corpus=path_of(corpus), calibration_audio=path_of(calibration),
            listening_hours=listening_hours,
            progress=progress_for(progress), experiment=self.experiment,
        )  # fmt: skip

    def resume(self, **options: Any) -> Run:
        """Goes on with the run; see `resume`."""
        return resume(self, **options)

    def compare(self, other: Run | str | Path) -> Comparison:
        """How another run differs from this one; see `compare`."""
        return compare(self, other)

    def __fspath__(self) -> str:
        """The folder."""
        return str(self.path)

    def __repr__(self) -> str:
        """The folder and how far the run came."""
        summary = read(self.path).summary
        how = "killed" if summary is None else summary.status
        return f"Run({str(self.path)!r}, {how})"

    def __str__(self) -> str:
        """What came of the run, at which price, and where to look."""
        from simulations.run.closing import closing_words

        return closing_words(self.summary, RunFolder(self.path).report)

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def simulate(
    what: Experiment | Scenario | str | Path = "default",
    *,
    callbacks: Sequence[Callback] = (),
    seed: int | None = None,
    out: str | Path | None = None,
    progress: bool | RunProgress | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
    engine: Engine = "inprocess",
    ledger: str | Path | None = None,
) -> Run:
    """Runs an experiment: federated rounds, personalization, export, report.

    A product at an earlier stage than 4 (docs/stages.md) runs no rounds: its base is evaluated.

        >>> import fedspeech as fs
        >>> run = fs.simulate("quick", out="runs/quick", progress=False)        # doctest: +SKIP
        >>> fs.simulate("quick", out="runs/quick")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: runs/quick holds a complete run; choose another folder ...

    Args:
      what: an experiment, a scenario, the name of a shipped one, or a .toml file.
      callbacks: told of rounds and stages, beside the loggers that the scenario names
        (docs/callbacks.md).
      seed: of speakers, cohorts, training and seeded noise; None: as it says.
      out: a new or empty folder; None: runs/NAME-DATE below the current folder.
      progress: True or None: shown in the terminal or the notebook; False: only logged, by the
        logger "fedspeech".
      workers: processes; None: one per core. Results do not depend on it.
      cache: where features are kept; None: $FEDSPEECH_CACHE, else the user's cache.
      device: "cpu", "cuda", "cuda:NUMBER" or "mps" for encoder passes and cohorts; None: the CPU,
        the only one on which bits repeat.
      engine: "inprocess", "flower" (Flower's simulation engine, on Ray) or "deployment" (SuperLink
        and SuperNodes over TLS on this machine). Results do not depend on it.
      ledger: the population's privacy ledger, shared with its other runs; None: one for this run.

    Returns:
      The run; Ctrl-C leaves a folder that `resume` goes on with.

    Raises:
      NoRoundRan: if not one round was completed.
      ScenarioError, CorpusError, FedspeechError: naming what cannot be used.
    """
    from fedspeech.models.compute import computing_on
    from simulations.run.runner import simulate as run

    chosen = runnable(what, seed)
    with computing_on(device):
        path = run(
            chosen, out=path_of(out), workers=workers, cache=path_of(cache), engine=engine,
            ledger=path_of(ledger), callbacks=callbacks, progress=progress_for(progress),
        )  # fmt: skip
    return Run(path, None if isinstance(chosen, Scenario) else chosen)


def resume(
    run: Run | str | Path,
    *,
    experiment: Experiment | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool | RunProgress | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
) -> Run:
    """Goes on with a run that was killed, interrupted or out of disk.

        >>> import fedspeech as fs
        >>> fs.resume("runs/quick", progress=False)
        Traceback (most recent call last):
        ...
        fedspeech.errors.FedspeechError: the run in runs/quick is complete; there is nothing to ...

    Args:
      run: the run, or its folder.
      experiment: handed over again, where the run's speech was in a program's memory.
      callbacks: handed over again.
      progress: as in `simulate`.
      workers: processes; None: one per core.
      cache: where features are kept; None: the user's cache.
      device: as in `simulate`.

    Raises:
      FedspeechError: if there is nothing to go on with, or what the run stood on has changed.
    """
    from fedspeech.models.compute import computing_on
    from simulations.run.resume import resume as go_on

    experiment = experiment or (run.experiment if isinstance(run, Run) else None)
    with computing_on(device):
        path = go_on(
            Path(run), workers=workers, cache=path_of(cache), experiment=experiment,
            callbacks=callbacks, progress=progress_for(progress),
        )  # fmt: skip
    return Run(path, experiment)


def load_run(path: str | Path, *, experiment: Experiment | None = None) -> Run:
    """Opens a run folder.

        >>> import fedspeech as fs
        >>> fs.load_run("no such folder")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: no run folder at no such folder

    Args:
      path: the folder.
      experiment: handed over again, where the run's speech was in a program's memory.

    Raises:
      FedspeechError: if it is no run folder, or a file in it is damaged; the message names which.
    """
    read(Path(path))
    return Run(Path(path), experiment)


def compare(first: Run | str | Path, second: Run | str | Path) -> Comparison:
    """How two runs differ: settings, figures with their intervals, epsilons.

    `print(comparison)` shows it as text; `figures` and `settings` hold the rows.

        >>> import fedspeech as fs
        >>> fs.compare("runs/quick", "runs/quick").settings
        ()

    Args:
      first: a run, or its folder.
      second: another one.

    Raises:
      FedspeechError: if one is no run folder.
    """
    from simulations.report.comparison import comparison

    return comparison(Path(first), Path(second))


def path_of(given: str | os.PathLike[str] | None) -> Path | None:
    """A path where one was given."""
    return None if given is None else Path(given)
