"""A comparison shows what changed and warns where two runs are no match."""

import dataclasses
import io
import math

import pytest
from rich.console import Console

from fedspeech.errors import FedspeechError
from fedspeech.evaluation.metric import Metric, Section
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from simulations.report.comparison import comparison
from simulations.report.phrasing import epsilon
from simulations.results.run_folder import RunFolder


@pytest.fixture
def pair(example, tmp_path):
    def write(**changes):
        first = example.write(tmp_path / "first")
        scenario = changes.pop("scenario", example.scenario)
        second = example.write(
            tmp_path / "second", found_summary=example.summary(**changes), scenario=scenario
        )
        return first, second

    return write


def printed(comparison, width=160) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(comparison)
    return console.file.getvalue()


def test_run_compared_with_itself_differs_in_nothing(pair):
    found = comparison(*pair())
    assert found.warnings == ()
    assert found.settings == ()
    changes = {line.change.split(" ± ")[0] for line in found.figures}
    assert changes <= {"", "±0.0", "+0.00", "+0"}
    assert "no setting differs" in printed(found)


def test_difference_of_means_carries_an_interval(pair, example):
    accuracy = example.summary().section("accuracy")
    federated = accuracy.by_model()["federated"]
    better = tuple(
        dataclasses.replace(metric, value=metric.value + 0.031) if metric == federated else metric
        for metric in accuracy.metrics
    )
    changed = example.changed_sections(
        example.summary(), dataclasses.replace(accuracy, metrics=better)
    )
    found = comparison(*pair(sections=changed.sections))
    line = next(
        line for line in found.figures if line.name == "federated, accuracy with non-words counted"
    )
    interval = federated.interval
    half = math.sqrt(2) * 100 * (interval.high - interval.low) / 2
    assert line.change == f"+3.1 ± {half:.1f}"


def test_a_metric_that_nobody_foresaw_is_compared(pair, example):
    def tones(value):
        metric = Metric(name="tones told apart", value=value, model="base", unit="number")
        return Section(key="tones", title="Tones", metrics=(metric,))

    first, second = pair()
    for run, value in ((first, 0.25), (second, 0.5)):
        with_tones = example.changed_sections(example.summary(), tones(value))
        RunFolder(run).write_summary(with_tones)
    line = next(line for line in comparison(first, second).figures if "tones" in line.name)
    assert (line.name, line.first, line.second, line.change) == (
        "base, tones told apart", "0.250", "0.500", "+0.250",
    )  # fmt: skip


def test_changed_settings_are_listed_with_both_values(pair, example):
    changed = (
        example.scenario.replace("clip_norm = 0.1", "clip_norm = 0.3") + "max_participations = 9\n"
    )
    found = comparison(*pair(scenario=changed))
    listed = {line.name: (line.first, line.second) for line in found.settings}
    assert listed == {"privacy.clip_norm": ("0.1", "0.3"), "privacy.max_participations": ("–", "9")}
    assert "privacy.clip_norm" in printed(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"corpus": "other"}, "different corpus"),
        ({"seed": 8}, "different seed"),
        ({"unit": "speaker"}, "different unit"),
        ({"delta": 1e-6}, "different delta"),
        ({"mechanism": "central"}, "different mechanism"),
        ({"relation_release": "replace"}, "different relation_release"),
        ({"shots": 3}, "different shots"),
        ({"status": "partial", "rounds": 12}, "second is partial: 12 of 40 rounds"),
    ],
)
def test_unlike_runs_are_warned_of(pair, changes, warning):
    found = comparison(*pair(**changes))
    assert [w for w in found.warnings if w.startswith(warning)]
    assert warning in printed(found)


def test_infinite_epsilon_is_compared_without_arithmetic(pair):
    found = comparison(*pair(epsilon_release=math.inf))
    line = next(line for line in found.figures if line.name == "epsilon_release")
    assert (line.first, line.second, line.change) == ("0.94", "∞", "")


def test_markup_in_a_setting_is_text(pair):
    found = comparison(*pair(scenario='name = "[red]x[/nothing]"\n'))
    assert "[red]x[/nothing]" in printed(found)


def test_run_without_summary_cannot_be_compared(pair):
    first, second = pair()
    (second / "summary.json").unlink()
    with pytest.raises(FedspeechError, match=r"needs summary\.json, and second has none"):
        comparison(first, second)


def test_eighty_columns_tell_two_runs_of_one_scenario_apart_and_cut_nothing(example, tmp_path):
    names = ("quick-20261129-201455", "quick-20261129-201530")
    longer = example.scenario.replace("clip_norm = 0.1", "clip_norm = 0.12345678901234567")
    first = example.write(tmp_path / names[0])
    second = example.write(
        tmp_path / names[1], scenario=longer + 'base.source = "' + "x" * 90 + '"'
    )
    text = printed(comparison(first, second), width=80)
    assert f"A: {names[0]}\nB: {names[1]}\n" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80


def charged(path, *rounds, noise=3.0):
    """A ledger that so many runs charged, each for so many rounds."""
    plan = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
        mechanism="distributed", participation="poisson", dimension=600, clip_norm=0.1,
        noise_multiplier=noise, population=3000, participation_probability=0.1, rounds=40,
        max_participations=15,
        min_cohort=215, min_reporting=215, delta=1 / 30_000, epsilon_budget=1e6,
    )  # fmt: skip
    for run, count in enumerate(rounds):
        ledger = Ledger.open(path, plan, f"run {run}", "seeded")
        for number in range(count):
            ledger.charge(number, 0, bytes([run, number]) * 8)
    return Ledger.inspect(path).guarantee()


def test_runs_that_share_a_ledger_are_told_its_total(pair, tmp_path):
    first, second = pair()
    total = charged(tmp_path / "population.jsonl", 2, 3)
    for run in (first, second):
        (run / "ledger.jsonl").symlink_to(tmp_path / "population.jsonl")
    (said,) = comparison(first, second).warnings
    assert said.startswith("first and second charge the ledger population.jsonl, which 2 runs")
    assert f"{epsilon(total.epsilon_release)} against readers" in said
    assert f"{epsilon(total.epsilon_server)} against the server (zero-out)" in said
    assert "5 rounds in all" in said


def test_a_run_that_others_charge_with_is_told_apart_from_one_that_is_alone(pair, tmp_path):
    first, second = pair()
    charged(first / "ledger.jsonl", 2)
    assert "share" not in " ".join(comparison(first, second).warnings)
    charged(tmp_path / "population.jsonl", 1, 1)
    (second / "ledger.jsonl").symlink_to(tmp_path / "population.jsonl")
    (said,) = [words for words in comparison(first, second).warnings if "share" in words]
    assert said.startswith("second charges the ledger population.jsonl, which 2 runs share")
    (tmp_path / "population.jsonl").unlink()
    (_, said) = comparison(first, second).warnings
    assert said.startswith("what second spent cannot be read from their ledger: no ledger at")
