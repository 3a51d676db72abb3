r"""The table of a real base: every stage over three seeds, several noises, one to three examples.

    python -m benchmarks.real_base DATA/speech_commands_v1_subset \
        --other-words DATA/dspspeech20_english_a --public 60 --validation 15 --out runs/real-base

Runs the scenario `real-commands` behind Google's speech embedding (extra `speech-embedding`), once
per seed and noise multiplier. Speakers are apart in four roles: public (head, projection,
negatives, clip norm, server rate), validation (which stage ships), federated and held-out. With
`--public 0` the head is fit on the synthesizer's target words alone, and all other light speakers
federate. Settings were chosen on the same corpora (docs/real-speech.md). Means over seeds, in per
cent.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedspeech.corpora.layouts import open_corpus
from fedspeech.evaluation.metric import ACCURACY, ERROR, REGRESSION, SHOTS, WORST_DECILE
from fedspeech.extras import require
from fedspeech.privacy.phrasing import scientific_up
from simulations.results.run_folder import read
from simulations.results.summary import Summary
from simulations.run.runner import simulate
from simulations.scenario.reading import read_scenario

Row = dict[str, Any]
STAGES = ("base", "federated", "personalized", "control")
WORDS, ALL, FOUND, ACCEPTED = "words", "all", "found", "accepted"
FIGURES = {
    WORDS: "accuracy among target words",
    ALL: "accuracy with unknown and silence",
    FOUND: "target words found at the operating point",
    ACCEPTED: "false accepts at the operating point",
}


def main() -> None:
    """Runs every seed and noise and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of recordings; all of its words count")
    parser.add_argument("--other-words", type=Path, required=True, help="recordings of no target")
    parser.add_argument("--public", type=int, default=60, help="public speakers")
    parser.add_argument("--validation", type=int, default=15, help="public speakers who choose")
    parser.add_argument("--federated", type=int, help="speakers who federate; default: the light")
    parser.add_argument("--noises", type=float, nargs="+", default=[0.0, 1.0, 3.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", dest="changes", action="append", default=[], help="as simulate's")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--cache", type=Path, help="default: the user's cache")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    require("speech-embedding")
    with tempfile.TemporaryDirectory() as scratch:
        runs = given.out or Path(scratch)
        columns = {
            noise: [
                measure(
                    changes_of(given, seed, noise),
                    out=runs / f"{given.corpus.name}-public-{given.public}-z{noise:g}-seed-{seed}",
                    cache=given.cache,
                    workers=given.workers,
                )
                for seed in given.seeds
            ]
            for noise in given.noises
        }
    print(json.dumps(columns, indent=1) if given.json else table(columns))


def changes_of(given: argparse.Namespace, seed: int, noise: float) -> list[str]:
    """What differs from the scenario."""
    words = sorted({clip.word for clip in open_corpus(given.corpus).utterances} - {"_silence_"})
    changes = {
        "vocabulary": words,
        "corpus.path": str(given.corpus),
        "corpus.other_words": str(given.other_words),
        "corpus.public_speakers": given.public,
        "corpus.validation_speakers": given.validation,
        "seed": seed,
    }
    if given.federated:
        changes["corpus.federated_speakers"] = given.federated
    # Noise of zero is no mechanism: its epsilon is infinite, and a plan says so.
    privacy = {"noise_multiplier": noise} if noise else {"mechanism": "none"}
    changes |= {f"privacy.{key}": value for key, value in privacy.items()}
    return [*(f"{key}={json.dumps(value)}" for key, value in changes.items()), *given.changes]


def measure(changes: Sequence[str], *, out: Path, cache: Path | None, workers: int) -> Row:
    """Runs the scenario once, quietly, and returns its figures; a run that is there is read."""
    if not (out / "summary.json").exists():
        with contextlib.redirect_stdout(io.StringIO()):
            simulate(read_scenario("real-commands", changes), out=out, workers=workers, cache=cache)
    return figures(read(out).summary)


def figures(summary: Summary) -> Row:
    """The figures of one complete run, shares in per cent.

    Raises:
      ValueError: if the run did not finish.
    """
    if summary.status != "complete":
        raise ValueError(f"the run of seed {summary.seed} is partial: {summary.stopped}")
    row: Row = {"seed": summary.seed, "start": summary.start, "phones": summary.phones}
    for key, section, name in (
        (WORDS, "target_accuracy", FIGURES[WORDS]),
        (ALL, ACCURACY, summary.section(ACCURACY).names[0]),
        (FOUND, "operating_points", "target words found"),
        (ACCEPTED, "operating_points", "false accepts"),
        ("worst", ACCURACY, WORST_DECILE),
    ):
        found = summary.section(section).by_model(name)
        row |= {f"{stage} {key}": 100 * found[stage].value for stage in STAGES}
    error = summary.section(ERROR)
    row |= {f"{stage} error": 100 * error.by_model()[stage].value for stage in STAGES}
    row["non_words"], row["measure"] = error.on, error.names[0]
    row |= _by_shots(summary)
    worse = summary.section(REGRESSION).by_model()
    for stage in ("federated", "personalized", "control"):
        row[f"{stage} worse"] = 100 * worse[stage].value
        row[f"{stage} chance"] = 100 * (worse[stage].by_chance or 0.0)
    row["held_out"] = worse["personalized"].phones
    for name in ("epsilon_release", "relation_release", "epsilon_server", "relation_server"):
        row[name] = getattr(summary.guarantee, name)
    row["delta"] = summary.guarantee.delta
    return row


def _by_shots(summary: Summary) -> Row:
    """Accuracy with unknown and silence after adapting on 1, 2, ... own examples a word."""
    for chart in summary.section(SHOTS).charts:
        for curve in chart.curves:
            if chart.name.startswith("Accuracy") and curve.name == "own examples":
                return {
                    f"{shots:g} shots": 100 * value
                    for shots, value in zip(curve.x, curve.y, strict=True)
                    if shots
                }
    raise ValueError("the run has no curve over shots")


def table(columns: Mapping[float, Sequence[Row]]) -> str:
    """Returns Markdown: a column per noise multiplier, a line per figure."""
    rows = list(columns.values())
    shots = [name for name in rows[0][0] if name.endswith(" shots")]
    lines = [
        _line("", [f"z = {noise:g}" for noise in columns]),
        _line("---", ["---"] * len(columns)),
    ]

    def add(label: str, *names: str) -> None:
        cells = [" / ".join(_mean(column, name) for name in names) for column in rows]
        lines.append(_line(label, cells))

    for key, label in FIGURES.items():
        add(f"{label}: {', '.join(STAGES)}", *(f"{stage} {key}" for stage in STAGES))
    add(f"{rows[0][0]['measure']}: {', '.join(STAGES)}", *(f"{stage} error" for stage in STAGES))
    add("worst tenth of phones, unknown and silence counted", *(f"{s} worst" for s in STAGES))
    add("with unknown and silence after 1, 2, 3 own examples a word", *shots)
    for stage in ("federated", "personalized"):
        add(f"phones worse off {stage} / by chance", f"{stage} worse", f"{stage} chance")
    for name in ("release", "server"):
        cells = [
            f"{_mean(column, f'epsilon_{name}')}, {column[0][f'relation_{name}']}"
            for column in rows
        ]
        lines.append(_line(f"epsilon_{name}", cells))
    lines.append(_line("stage that ships", [", ".join(r["start"] for r in c) for c in rows]))
    first = rows[0][0]
    notes = (
        f"{first['phones']} phones federate, {first['held_out']} are held out; "
        f"{first['non_words']}; delta {scientific_up(first['delta'], 1)}; seeds "
        f"{', '.join(str(row['seed']) for row in rows[0])}."
    )
    return "\n".join([*lines, "", notes])


def _mean(column: Sequence[Row], name: str) -> str:
    return f"{sum(row[name] for row in column) / len(column):.1f}"


def _line(label: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([label, *cells]) + " |"


if __name__ == "__main__":
    main()
