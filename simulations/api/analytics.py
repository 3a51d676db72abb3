"""Questions to the phones of a population, answered once, as noisy counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused
from simulations.api.run import path_of
from simulations.api.scenarios import experiment_of, require_part
from simulations.progress import RunProgress, progress_for
from simulations.results.environment import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulations.analytics.answer import Analysis
    from simulations.analytics.asked import Asked
    from simulations.scenario.schema import Scenario
    from simulations.setup.definition import Experiment


def analyze(
    plan: str | Path | Mapping[str, Any],
    what: Experiment | Scenario | str | Path,
    *,
    ledger: str | Path | None = None,
    out: str | Path | None = None,
    engine: Engine = "inprocess",
    workers: int | None = None,
    cache: str | Path | None = None,
    progress: bool | RunProgress | None = None,
) -> Analysis:
    """Asks the phones of a scenario what a plan file asks, once, and releases noisy counts.

        >>> import fedspeech as fs
        >>> fs.analyze("no plan", "quick")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ScenarioError: there is no plan 'no plan' ...

    Args:
      plan: a plan file, the name of a shipped one, or its keys.
      what: an experiment, a scenario, its name or file, whose phones are asked.
      ledger: the population's privacy ledger, shared with its training runs; None: the one that
        the plan file names, else one for this release alone, which nothing else is counted on.
      out: a new or empty folder; None: analytics/NAME-DATE below the current folder.
      engine: "inprocess", "flower" or "deployment", as in `simulate`. The integers are the same.
      workers: processes; None: one per core.
      cache: where arrays are kept; None: the user's cache.
      progress: as in `simulate`.

    Returns:
      The answer; its folder holds the plan, the scenario, the ledger and what was released.

    Raises:
      AlreadyReleased: if a day of the plan's window was asked about before.
      BudgetExhausted: if the ledger has no such epsilon left; nothing was sent.
      NoRoundRan: if too few phones came.
      ScenarioError: if the plan file cannot be used; names key, rule, value and way out.
    """
    from simulations.analytics.releasing import release

    return release(
        asked_of(plan, what), out=path_of(out), workers=workers, cache=path_of(cache),
        engine=engine, ledger=path_of(ledger), progress=progress_for(progress),
    )  # fmt: skip


def resume_analysis(
    path: str | Path,
    what: Experiment | Scenario | str | Path | None = None,
    *,
    engine: Engine = "inprocess",
    workers: int | None = None,
    cache: str | Path | None = None,
    progress: bool | RunProgress | None = None,
) -> Analysis:
    """Goes on with a release that was killed, under the charge that it has paid.

        >>> import fedspeech as fs
        >>> fs.resume_analysis("no such folder")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: no such folder holds no release to go on with: ...

    Args:
      path: the folder of the release.
      what: as for `analyze`, where a program handed over speech; None: as the folder says.
      engine: as for `analyze`.
      workers: likewise.
      cache: likewise.
      progress: likewise.

    Returns:
      The answer, the bits of a release that was never interrupted.

    Raises:
      ArgumentRefused: if the folder holds no release.
      FedspeechError: if it is complete, had not begun, or what it stood on has changed.
      NoRoundRan: if noise came from the operating system and a round was lost.
    """
    from simulations.analytics.answer import PLAN
    from simulations.analytics.releasing import SCENARIO, resume

    folder = Path(path)
    if not ((folder / PLAN).is_file() and (folder / SCENARIO).is_file()):
        rule = f"it has no {PLAN} and {SCENARIO}"
        raise ArgumentRefused(f"{folder} holds no release to go on with: {rule}")
    return resume(
        asked_of(folder / PLAN, what or folder / SCENARIO), folder, workers=workers,
        cache=path_of(cache), engine=engine, progress=progress_for(progress),
    )  # fmt: skip


def load_analysis(path: str | Path) -> Analysis:
    """Opens the folder of a release.

        >>> import fedspeech as fs
        >>> fs.load_analysis("no such folder")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: no such folder holds no release of counts: ...

    Args:
      path: the folder.

    Raises:
      ArgumentRefused: if there is none, or its file is damaged.
    """
    from simulations.analytics.answer import Analysis

    return Analysis.load(Path(path))


def asked_of(
    plan: str | Path | Mapping[str, Any], what: Experiment | Scenario | str | Path
) -> Asked:
    """Reads a plan file and prices it for the phones of a scenario."""
    from simulations.analytics.asked import asked, priced
    from simulations.analytics.clips import asked_for_words
    from simulations.analytics.evaluating import AskedToEvaluate, evaluation_of
    from simulations.analytics.plan_file import EVALUATION, WORDS, plan_from, read_plan

    file = read_plan(str(plan)) if isinstance(plan, str | Path) else plan_from(dict(plan), "plan")
    experiment = experiment_of(what)
    require_part(experiment, "analyze")
    if file.query == EVALUATION:
        query = evaluation_of(file, experiment)
        return AskedToEvaluate(experiment, priced(file, query, experiment))
    if file.query == WORDS:
        return asked_for_words(file, experiment)
    return asked(file, experiment)
