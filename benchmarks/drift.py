"""When does a personal adapter get worse than none? Voices, accents and microphones over a year.

    python -m benchmarks.drift [--phones 40] [--reset-after-days 90] [--json]

Held-out phones of the scenario `quick` personalize in month 0, each from its own two clips a word.
Then everybody changes, month by month. The accent fades: more and more words are spoken as the
people around speak them, in the accent that the base was trained on. Voice and microphone move from
what they were to what another speaker of the corpus has: length of the vocal tract, pitch, rate,
breath, band and slope. What is said is synthesized anew every month.

Every month the phones are judged by the base, by the adapter of month 0, and by one that is dropped
when `ResetPolicy` says so and learned again from two clips a word of that month. Two ways to learn:
that of the scenario, whose guard shrinks what is learned, and a strong one without a guard.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import Device
from fedspeech.corpora.corpus import Utterance
from fedspeech.corpora.synthetic import PRETRAINING_ACCENT, SyntheticCorpus, SyntheticSpec
from fedspeech.rollout.drift import ResetPolicy
from fedspeech.seeds import stream
from fedspeech.synthesis.render_plan import Take
from fedspeech.vectors import FloatVector
from simulations.evaluation.evaluator import Evaluator
from simulations.report.document import document
from simulations.report.figures import Figure, counts, figure, numbers
from simulations.scenario.reading import read_scenario
from simulations.scenario.schema import Scenario
from simulations.setup.embedding import Embedder, cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment, held_out_phones

MONTHS = 12
DAYS_A_MONTH = 30
_VOICE = (
    "tract_scale", "sibilant_scale", "pitch_hz", "pitch_swing_st", "rate", "breathiness", "tilt",
    "jitter", "clarity",
)  # fmt: skip
_DEVICE = ("low_hz", "high_hz", "slope_db", "resonance_hz", "resonance_db", "gain_db", "snr_db")
WAYS = {
    "guarded": (),
    "strong, no guard": ("personalization.learning_rate=1.0", "personalization.epochs=60"),
}


class AgedCorpus(SyntheticCorpus):
    """The same speakers, when so much of their change is behind them."""

    def __init__(self, spec: SyntheticSpec, changed: float) -> None:
        """`changed` is 0 to 1; each speaker moves toward the next one of the same group."""
        super().__init__(spec)
        self._changed = changed
        self._toward = {
            one: members[(place + 1) % len(members)]
            for members in self.groups.values()
            for place, one in enumerate(members)
        }
        self._first: dict[str, Utterance] = {}
        for clip in self.utterances:
            self._first.setdefault(clip.speaker_id, clip)

    def recipe(self, utterance: Utterance) -> tuple[Take, Device]:
        """The take in the voice of that time, on the device of that time."""
        take, device = super().recipe(utterance)
        other, other_device = super().recipe(self._first[self._toward[utterance.speaker_id]])
        voice = _between(take.voice, other.voice, _VOICE, self._changed)
        # A word is said one way or the other, and once it has changed it stays.
        if stream(self.spec.seed, "fading", utterance.utterance_id).random() < self._changed:
            voice = dataclasses.replace(voice, accent=PRETRAINING_ACCENT)
        worn = _between(device, other_device, _DEVICE, self._changed)
        return dataclasses.replace(take, voice=voice), worn

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of both speakers' fingerprints and of how much has changed."""
        other = super().fingerprint(self._first[self._toward[utterance.speaker_id]])
        text = f"aged 2 {super().fingerprint(utterance)} {other} {self._changed:.6f}"
        return hashlib.sha256(text.encode()).hexdigest()


def _between(one: Any, other: Any, names: Sequence[str], part: float) -> Any:
    """One voice or device with figures part of the way to another's."""
    moved = {name: (1 - part) * getattr(one, name) + part * getattr(other, name) for name in names}
    return dataclasses.replace(one, **moved)


@dataclass(frozen=True)
class Month:
    """Mean accuracy over phones, in percent.

    Attributes:
      month: since the adapters were learned.
      base: without any.
      first: with the adapter of month 0.
      reset: with one that is never older than the policy allows.
      worse: share of the phones whose first adapter is worse than the base, in percent.
    """

    month: int
    base: float
    first: float
    reset: float
    worse: float


def main() -> None:
    """Prints a row per month and way to learn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=40)
    parser.add_argument("--reset-after-days", type=int, default=90)
    parser.add_argument("--every", type=int, default=3, help="months between evaluations")
    parser.add_argument("--cache", type=Path, default=cache_folder())
    parser.add_argument("--page", type=Path, help="write the curves as one offline page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    policy = ResetPolicy(arguments.reset_after_days)
    found = {}
    for name, changes in WAYS.items():
        found[name] = measure(
            changes, policy, range(0, MONTHS + 1, arguments.every), arguments.phones,
            arguments.cache,
        )  # fmt: skip
        for row in found[name] if not arguments.json else ():
            print(
                f"{name:<18} month {row.month:>2}: base {row.base:.1f}, first {row.first:.1f}, "
                f"reset {row.reset:.1f} %; worse than the base {row.worse:.0f} % of phones",
                flush=True,
            )
    if arguments.json:
        json.dump(
            {name: [vars(row) for row in rows] for name, rows in found.items()}, sys.stdout,
            indent=1,
        )  # fmt: skip

    if arguments.page:
        arguments.page.write_text(page(found, arguments.phones), "utf-8")


def page(found: Mapping[str, Sequence[Month]], phones: int) -> str:
    """The curves as one offline page."""
    figures = [
        _figure(number, name, rows, phones) for number, (name, rows) in enumerate(found.items())
    ]
    context = {"title": "Adapters that age", "marks": (), "figures_shown": figures}
    return document("curves.html", figures, context)


def _figure(number: int, name: str, rows: Sequence[Month], phones: int) -> Figure:
    over = counts("month", [row.month for row in rows])
    (found,) = figure(
        f"drift-{number}",
        f"Personal adapters over a year: {name}",
        f"Mean accuracy of {phones} phones, by what answers.",
        [
            over,
            numbers("base", [row.base for row in rows], "base", dash="dot"),
            numbers("learned in month 0", [row.first for row in rows], "personalized"),
            numbers("reset", [row.reset for row in rows], "control", dash="dash"),
            numbers("phones worse than the base, %", [row.worse for row in rows]),
        ],
        visibility=("simulation_only",),
        y_title="accuracy, %",
        y={"range": [80, 100]},
    )
    return found


def measure(
    changes: Sequence[str], policy: ResetPolicy, months: Sequence[int], phones: int, cache: Path
) -> list[Month]:
    """Personalizes in month 0 and judges every month; the first of `months` is 0."""
    scenario = read_scenario(
        "quick", [f"corpus.held_out_phones={phones}", "corpus.federated_phones=40", *changes]
    )
    built = build_experiment(
        scenario, cache=cache, simulation_only=None, workers=1, progress=_nothing
    )
    base, shots = built.job.load_arrays().initial, scenario.personalization.headline_shots
    first: list[FloatVector] = []
    latest, learned, rows = first, 0, []
    for month in months:
        aged = _aged(built, scenario, month / MONTHS, cache)
        judge = Evaluator(aged, scenario)
        if not latest or policy.drops(learned * DAYS_A_MONTH, month * DAYS_A_MONTH):
            latest = judge.own_adapters(base, shots, guarded=not changes)
            learned = month
        first = first or latest

        def accuracies(vectors: Sequence[FloatVector]) -> NDArray[np.float64]:
            pairs = zip(vectors, aged.held_out, strict=True)  # noqa: B023 (called in this turn)
            return np.array([100 * judge.accuracy(*pair) for pair in pairs])  # noqa: B023

        plain, old = accuracies([base] * len(first)), accuracies(first)
        rows.append(
            Month(
                month=month,
                base=float(plain.mean()),
                first=float(old.mean()),
                reset=float(accuracies(latest).mean()),
                worse=float(100 * (old < plain).mean()),
            )
        )
    return rows


def _aged(
    built: BuiltExperiment, scenario: Scenario, changed: float, cache: Path
) -> BuiltExperiment:
    """The experiment with its held-out phones as they are by then."""
    assert isinstance(built.speakers.corpus, SyntheticCorpus)
    corpus = AgedCorpus(built.speakers.corpus.spec, changed)
    speakers = dataclasses.replace(built.speakers, corpus=corpus)
    embed = Embedder(built.base, built.adapter, cache, 1, _nothing)
    phones = held_out_phones(scenario, speakers, embed)
    return dataclasses.replace(built, speakers=speakers, held_out=phones)


def _nothing(done: int, of: int) -> None:
    """Shows no progress."""


if __name__ == "__main__":
    main()
