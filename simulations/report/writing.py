"""A run folder as one offline page.

write_report(Path("runs/quick"))                   # report.html, for the operator
write_report(Path("runs/quick"), publish=True)     # report-public.html, for everybody
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fedspeech.errors import FedspeechError
from fedspeech.files import write_text, write_whole
from fedspeech.job import Job
from fedspeech.sharing.manifest import PrivacyClaim
from simulations.report.page import render
from simulations.report.publishing import Behind, Gate
from simulations.results.redaction import published
from simulations.results.run_folder import Results, RunFolder, read
from simulations.results.spent import account, stated, with_account


def write_report(run_folder: Path, publish: bool = False, gate: Gate | None = None) -> Path:
    """Writes the report of a run, also of one that was cut short.

    With `publish` the operator's part (`redaction.LEFT_OUT`) is left out of `report-public.html`,
    which passes the gate or is not written. What was spent is what the run's ledger says by now,
    later runs on it included: a summary says what it held when the run ended, and anybody can have
    edited it.

    Args:
      run_folder: of the run.
      publish: whether the page is for everybody.
      gate: that such a page passes; None: that of the public, and no manifest is written.

    Raises:
      FedspeechError: if the folder is no run folder, a file in it is damaged, or it is to be
        published and has no ledger to ask.
      GateRefused: naming the rules that a page for everybody breaks; what lay there stays.
      LedgerDamaged: if the ledger is gone, does not check, or does not hold the run.
    """
    results = read(run_folder)
    folder = RunFolder(run_folder)
    if publish:
        # The price first: `published` then puts that of the whole run into every row.
        restated, behind = _restated(folder, results)
        return _publish(folder, published(restated), behind, gate or Gate())
    if folder.job.exists() and results.summary:  # else results alone, without their run
        ledger = account(folder, Job.load(folder.job), results.summary)
        summary = with_account(results.summary, ledger)
        results = dataclasses.replace(results, summary=summary)
    write_text(folder.report, render(results, for_publication=False))
    return folder.report


def _publish(folder: RunFolder, results: Results, behind: Behind, gate: Gate) -> Path:
    most, file = gate.policy_for(behind).most_numbers, folder.published_report
    page = render(results, for_publication=True, most_numbers=most)
    manifest = gate.passed(file.name, page, behind)
    write_text(file, page)
    if gate.key is not None:
        write_whole(file.with_name(f"{file.name}.manifest.json"), manifest.write())
    return file


def _restated(folder: RunFolder, results: Results) -> tuple[Results, Behind]:
    """The results with the price of every round that was begun, whether or not it was charged.

    And what stands behind them.

    Raises:
      FedspeechError: if the run's ledger is not there to ask.
    """
    if results.summary is None:
        raise FedspeechError(
            f"{folder.path} is not published: its run was killed, and which of its abandoned "
            f"rounds were charged would show; `fedspeech resume {folder.path}` ends it first"
        )
    if not folder.job.exists():
        raise FedspeechError(
            f"{folder.path} is not published: what was spent stands in the run's ledger, and "
            f"{folder.job.name}, which says whose rows to read, is not there; publish from the "
            "run's own folder"
        )
    job = Job.load(folder.job)
    ledger = account(folder, job, results.summary)
    spent = stated(ledger, results.rows, job)
    claim = PrivacyClaim.of(spent, str(ledger.head))
    whole = dataclasses.replace(results, summary=with_account(results.summary, ledger, spent))
    named = results.summary.minimum_segment_phones or 2
    return whole, Behind(job.plan.population, job.plan.fingerprint, claim, max(2, named))
