"""The matrix of an audit: every attack on every view, each kept as soon as it is found.

folder/settings.json         the job and the code that the audit is of
folder/cells/VIEW.ATTACK.json   one `Cell`; what is there is not played again
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fedspeech.audits.attack import TRAITS, Attack, Guess
from fedspeech.errors import ArgumentRefused
from fedspeech.evaluation.metric import Metric
from fedspeech.files import write_text
from fedspeech.seeds import stream
from fedspeech.source import source_sha256
from simulations.audits.attacks import key_of
from simulations.audits.judge import NothingToAsk, Shown, checked, judged
from simulations.audits.playing import Played, play
from simulations.audits.results import Cell, ShownEpsilon
from simulations.audits.subject import Subject
from simulations.audits.views import View, of_candidates, plan_of, promised_of_silence, shown, views
from simulations.results.record import Record
from simulations.results.run_folder import check_place

RecordT = TypeVar("RecordT", bound=Record)
Done = Callable[[int, int, str], None]
_OF_ONE_PHONE = ("link", *TRAITS)  # secrets that a sum of many is not asked about


class Kept:
    """The folder of an audit: one audit and no other goes on in it."""

    def __init__(self, path: Path, subject: Subject) -> None:
        """Makes the folder, or checks that it is of the same audit.

        Raises:
          ArgumentRefused: if it holds another, or cannot be written to.
        """
        self.path = path
        check_place(path, "an audit's folder")
        (path / "cells").mkdir(exist_ok=True)
        own = {"job": subject.job.fingerprint, "code": source_sha256()}
        settings = path / "settings.json"
        if settings.exists() and json.loads(settings.read_text("utf-8")) != own:
            raise ArgumentRefused(
                f"{path} holds the audit of another plan, or by other code: choose another `out`, "
                "or remove it"
            )
        write_text(settings, json.dumps(own, indent=1) + "\n")

    def or_made(self, name: str, kind: type[RecordT], make: Callable[[], RecordT]) -> RecordT:
        """What was kept under a name, or else is made now, and kept."""
        place = self.path / "cells" / f"{name}.json"
        if place.exists():
            return kind.model_validate_json(place.read_bytes())
        found = make()
        write_text(place, found.model_dump_json(indent=1) + "\n")
        return found


def played_both(subject: Subject) -> dict[bool, Played]:
    """The run of a subject without noise, and with that of its plan where it has any."""
    plan = subject.job.plan
    kinds = (False, True) if plan.mechanism != "none" else (False,)
    return {
        noisy: play(subject.job_of(plan_of(plan, noisy)), subject.arrays, absent=subject.absent)
        for noisy in kinds
    }


def matrix(
    subject: Subject,
    runs: dict[bool, Played],
    attacks: Sequence[Attack],
    kept: Kept,
    done: Done,
) -> tuple[Cell, ...]:
    """Attacks every view by every attack that can use it.

    Args:
      subject: what is attacked.
      runs: of `played_both`.
      attacks: in the order of tables.
      kept: where cells are kept.
      done: called with the number of cells that are over, of all, and the next one.
    """
    pairs = [
        (view, attack)
        for view in views(subject.job.plan)
        for attack in attacks
        if view.observer in attack.observers
    ]
    # Of all checks together a sound plan fails one audit in a hundred.
    confidence = 1 - 0.01 / max(1, sum(attack.secret == "membership" for _, attack in pairs))
    cells: list[Cell] = []
    at: dict[View, Shown] = {}
    for place, (view, attack) in enumerate(pairs):
        done(place, len(pairs), f"{view.observer}, {view.protection}: {attack.name}")

        def found(view: View = view, attack: Attack = attack) -> Cell:
            if view not in at:
                at[view] = shown(view, subject, runs[view.noisy])
            return _cell(subject, runs[view.noisy], view, at[view], attack, confidence)

        cells.append(kept.or_made(f"{view.key}.{_file(attack)}", Cell, found))
    return tuple(cells)


def attacked(
    subject: Subject, played: Played, seen: Shown, attack: Attack, *, masked: bool, name: str
) -> tuple[Guess, tuple[Metric, ...]]:
    """What one attack believes of what it is shown (`asked`), and the figures of that.

    Raises:
      NothingToAsk: if the observer has nothing of which the secret could be asked.
    """
    transcript, seed = seen.transcript, subject.job.seed
    if attack.secret in _OF_ONE_PHONE and not transcript.single:
        raise NothingToAsk("it has sums of many phones, and nothing of a single one")
    knowledge = subject.knowledge(attack.auxiliary, played.plan, transcript.observer, masked=masked)
    guess = attack.guess(transcript, knowledge, stream(seed, "audit", name, "guess"))
    rng = stream(seed, "audit", name, "interval")
    return guess, judged(attack.secret, guess, subject, seen, rng)


def asked(seen: Shown, subject: Subject, attack: Attack) -> Shown:
    """What an attack is shown; who asks for the best of all observations is shown all."""
    return seen if attack.secret in ("membership", "phrase") else of_candidates(seen, subject)


def _cell(
    subject: Subject, played: Played, view: View, seen: Shown, attack: Attack, confidence: float
) -> Cell:
    began = time.perf_counter()
    told: dict[str, Any] = {}
    seen = asked(seen, subject, attack)
    try:
        name = f"{view.key} {key_of(attack)}"
        guess, told["metrics"] = attacked(
            subject, played, seen, attack, masked=view.masked, name=name
        )
        promise = promised_of_silence(subject.job.plan, view)
        if found := checked(attack.secret, guess, subject, promise, confidence):
            told["shown"] = ShownEpsilon(
                claimed=found.claimed, at_least=found.bound.epsilon, broken=found.broken,
                says=found.says,
            )  # fmt: skip
    except ValueError as error:  # an attack says so of what it cannot be used on
        told["unasked"] = str(error)
    return Cell(
        observer=view.observer,
        protections=(view.protection, *view.also),
        secret=attack.secret,
        attack=attack.name,
        knowledge=attack.knowledge,
        observations=len(seen.transcript.observations),
        seconds=time.perf_counter() - began,
        **told,
    )


def _file(attack: Attack) -> str:
    return key_of(attack).replace(":", ".")
