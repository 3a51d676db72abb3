"""What of a run may leave the operator's desk.

`epsilon_release` is promised against somebody who "sees no cohort size, reporting phone count,
identity, timing or reason of an abort". A report that printed one of these would break the promise
that it prints, so they are taken out of the data before any page is made; a template cannot leak
what it never gets. Which abandoned rounds were charged tells at which stage they failed, so every
round that was begun is priced, and what was spent is said for the whole run and not round by round.
Noise drawn from a seed is worth nothing to whoever knows the seed: it goes too.

Figures of the model stay unless they are the server's own or of single phones
(`fedspeech.evaluation.metric.Section.publishable`): they come from public validation speakers and
from phones outside the population.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import tomli_w

from simulations.results.rows import RoundRow, ServerRound, SimulationRound
from simulations.results.run_folder import Results
from simulations.results.summary import Summary

LEFT_OUT = (
    "cohort sizes, reporting phones and ring warnings",
    "signal to noise",
    "at which stage and why a round was abandoned, or why the run stopped: every round that was "
    "begun is counted as charged, and no price is shown round by round",
    "clipping on the phones that trained",
    "every measurement of time, and bytes of single rounds",
    "accuracy phone by phone",
    "the seed and the command, from which seeded noise could be recomputed",
    "paths of the machine",
)


def published(results: Results) -> Results:
    """Returns the results without the operator's part.

    Args:
      results: of a run.
    """
    whole = results.summary or (results.rows[-1] if results.rows else None)
    spent = dict(whole.account()) if whole else {}
    return dataclasses.replace(
        results,
        rows=tuple(_row(row, spent) for row in results.rows),
        summary=_summary(results.summary) if results.summary else None,
        scenario=tomli_w.dumps(published_settings(tomllib.loads(results.scenario))),
    )


def _row(row: RoundRow, spent: dict[str, Any]) -> RoundRow:
    """A row with what published models and public speakers show, at the price of the whole run."""
    return row.model_copy(
        update={
            # One price in all rows: where it did not rise, a round was abandoned uncharged.
            **spent,
            "reason": None,
            "seconds": None,
            "bytes_up": 0,  # of a masked round they follow from its cohort
            "bytes_down": 0,
            "server": ServerRound(
                # It moves by noisy bits, whose cost is in both epsilons.
                clip_norm=row.server.clip_norm,
                validation_accuracy=row.server.validation_accuracy,
                validation_loss=row.server.validation_loss,
            ),
            "simulation_only": SimulationRound(
                held_out_accuracy=row.simulation_only.held_out_accuracy
            ),
        }
    )


def _summary(summary: Summary) -> Summary:
    """A summary without time, seed and single phones."""
    sections = (section.publishable() for section in summary.sections)
    return summary.model_copy(
        update={
            "seed": None,
            "command": "",
            "stopped": None,
            "sections": tuple(section for section in sections if section),
            "utility": None,
            "time": None,
            "seconds": {},
            "cpu_seconds": {},
        }
    )


def published_settings(table: dict[str, Any]) -> dict[str, Any]:
    """Settings without seeds, and without absolute paths."""
    kept: dict[str, Any] = {}
    for key, value in table.items():
        # By the word and not by a list, so that no seed of a later section slips through.
        if "seed" in key.lower():
            continue
        if isinstance(value, dict):
            kept[key] = published_settings(value)
        elif isinstance(value, str) and (
            # By the rules of both systems: a run may be published elsewhere than it was made.
            PurePosixPath(value).is_absolute()
            or PureWindowsPath(value).is_absolute()
            or value.startswith("~")
        ):
            kept[key] = "(a local path)"
        else:
            kept[key] = value
    return kept
