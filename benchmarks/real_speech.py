r"""The table of real speech: base, federated, personalized and control over several seeds.

    python -m benchmarks.real_speech DATA/speech_commands_v1_subset DATA/dspspeech20_english_a \
        --noise DATA/background_noise --out runs/real-speech

Runs the scenario `real-commands`, with its defaults, once per corpus and seed, and prints one
column per corpus: the mean over seeds, then the smallest and the largest. With --out the run
folders stay; each holds its report.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import Heavy, default_rule
from fedspeech.evaluation.metric import ACCURACY, ERROR, MODELS, REGRESSION
from fedspeech.privacy.phrasing import scientific_up
from simulations.results.run_folder import read
from simulations.results.summary import Summary
from simulations.run.runner import simulate
from simulations.scenario.reading import read_scenario

Row = dict[str, Any]
NAMES = {
    "base": "base",
    "federated": "federated",
    "personalized": "personalized, {shots} own clips per word",
    "control": "control, {shots} clips per word of another phone",
}
LINES = (
    # figure, what the table calls it, format, unit
    *((f"{m}_error", f"**{{measure}}, {NAMES[m]}**", ".1f", " %") for m in MODELS),
    *((f"{m}_accepts", f"false accepts at its threshold, {m}", ".1f", " %") for m in MODELS),
    *((f"{m}_found", f"target words found at its threshold, {m}", ".1f", " %") for m in MODELS),
    *((f"{m}_target", f"accuracy among target words, {m}", ".1f", " %") for m in MODELS),
    *((f"{m}_all", f"accuracy with non-words counted, {m}", ".1f", " %") for m in MODELS),
    ("worse", "phones made worse by personalizing", ".0f", " %"),
    ("worse_by_chance", "the same, expected by chance", ".0f", " %"),
    ("worse_federated", "phones made worse by training together", ".0f", " %"),
    ("worse_without_guard", "phones made worse without the guard", ".0f", " %"),
    ("epsilon_release", "epsilon_release", ".1f", ""),
    ("epsilon_server", "epsilon_server", ".1f", ""),
    ("minutes", "minutes of a run", ".1f", ""),
)


def main() -> None:
    """Runs every corpus and seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path, nargs="+", help="folders of recordings")
    parser.add_argument("--noise", type=Path, help="folder of background noise")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="as simulate's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--cache", type=Path, help="default: the user's cache")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.out or Path(scratch)
        columns = [
            [
                measure(
                    folder,
                    seed,
                    noise=arguments.noise,
                    changes=arguments.changes,
                    out=runs / f"{folder.name}-seed-{seed}",
                    cache=arguments.cache,
                    workers=arguments.workers,
                )
                for seed in arguments.seeds
            ]
            for folder in arguments.corpora
        ]
    print(json.dumps(columns, indent=1) if arguments.json else table(columns))


def measure(
    folder: Path,
    seed: int,
    *,
    noise: Path | None,
    out: Path,
    cache: Path | None,
    workers: int,
    changes: Sequence[str] = (),
) -> Row:
    """Runs `real-commands` once, quietly, and returns its figures."""
    # Named, since the scenario takes another base where an extra is installed.
    base = 'base.source="synthetic"'
    changes = [f"corpus.path={json.dumps(str(folder))}", f"seed={seed}", base, *changes]
    if noise:
        changes.append(f"corpus.noise={json.dumps(str(noise))}")
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run = simulate(
            read_scenario("real-commands", changes), out=out, workers=workers, cache=cache
        )
    minutes = (time.perf_counter() - began) / 60
    same = isinstance(default_rule(open_corpus(folder)), Heavy)
    return {**figures(read(run).summary), "minutes": minutes, "same_held_out": same}


def figures(summary: Summary) -> Row:
    """The figures of one complete run, shares in percent.

    Raises:
      ValueError: if the run did not finish.
    """
    if summary.status != "complete":
        raise ValueError(f"the run of seed {summary.seed} is partial: {summary.stopped}")
    error = summary.section(ERROR)
    worse = summary.section(REGRESSION)
    unguarded = next(metric for metric in worse.whole if metric.variant == "without guard")
    personalized = worse.by_model()["personalized"]
    percent = {
        "worse": personalized.value,
        "worse_by_chance": personalized.by_chance,
        "worse_federated": worse.by_model()["federated"].value,
        "worse_without_guard": unguarded.value,
    }
    for suffix, section, name in (
        ("error", error, ""),
        ("accepts", summary.section("operating_points"), "false accepts"),
        ("found", summary.section("operating_points"), "target words found"),
        ("target", summary.section("target_accuracy"), ""),
        ("all", summary.section(ACCURACY), ""),
    ):
        found = section.by_model(name)
        percent |= {f"{model}_{suffix}": metric.value for model, metric in found.items()}
    promised = "epsilon_release relation_release epsilon_server relation_server delta unit"
    return {
        **{name: 100 * share for name, share in percent.items()},
        **{name: getattr(summary, name) for name in ("corpus", "seed", "rounds")},
        **{name: getattr(summary.guarantee, name) for name in promised.split()},
        "shots": summary.shots,
        "measure": error.names[0],
        "non_words": error.on,
        "shipped": summary.start,
        "federated_phones": summary.phones,
        "held_out_phones": summary.section(ACCURACY).by_model()["base"].phones,
    }


def table(columns: Sequence[Sequence[Row]]) -> str:
    """Returns Markdown: a column per corpus, a line per figure, caveats underneath.

    Args:
      columns: per corpus, what `measure` returned for each seed.
    """
    heads = [column[0] for column in columns]
    lines = [
        _line("phones never trained on, mean over them", [row["corpus"] for row in heads]),
        _line("---", ["---"] * len(heads)),
        _line(
            "phones: federate / held-out",
            [f"{row['federated_phones']} / {row['held_out_phones']}" for row in heads],
        ),
    ]
    for name, label, form, unit in LINES:
        cells = [_spread([row[name] for row in column], form, unit) for column in columns]
        if name.startswith("epsilon"):  # an epsilon says nothing without its relation
            relation = name.replace("epsilon", "relation")
            cells = [
                f"{cell}, {'/'.join(sorted({row[relation] for row in column}))}"
                for cell, column in zip(cells, columns, strict=True)
            ]
        lines.append(_line(label.format(**heads[0]), cells))
    shipped = [", ".join(row["shipped"] for row in column) for column in columns]
    lines.append(_line("stage that ships, by public validation speakers", shipped))
    lines.append(_line("non-words", [row["non_words"] for row in heads]))
    lines.append(
        _line("delta; unit", [f"{scientific_up(row['delta'], 1)}; {row['unit']}" for row in heads])
    )
    lines.append(_line("rounds", [row["rounds"] for row in heads]))
    seeds = ", ".join(str(row["seed"]) for row in columns[0])
    notes = [
        f"Mean over seeds {seeds} (smallest to largest). Noise is reproducible from the seed: a "
        "seeded noise. The first run of a vocabulary also makes its base.",
        *(
            f"The held-out phones of {row['corpus']} are the same "
            f"{row['held_out_phones']} speakers at every seed; the spread says nothing of other "
            "speakers."
            if row["same_held_out"]
            else f"Every seed of {row['corpus']} draws another split of the same speakers."
            for row in heads
        ),
    ]
    return "\n".join([*lines, "", *notes])


def _spread(values: Sequence[float], form: str, unit: str) -> str:
    """Mean, then smallest to largest if there are several."""
    mean = f"{sum(values) / len(values):{form}}{unit}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):{form}} to {max(values):{form}})"


def _line(label: str, cells: Sequence[object]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join([label, *map(str, cells)]) + " |"


if __name__ == "__main__":
    main()
