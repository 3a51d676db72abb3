"""The table says what the summaries say, with its spread and its caveats."""

import dataclasses

import pytest

from benchmarks.real_speech import figures, table
from fedspeech.evaluation.metric import Metric, Section
from fedspeech.privacy.guarantee import Guarantee
from simulations.results.summary import Summary

MODELS = ("base", "federated", "personalized", "control")


def section(key: str, name: str, values: tuple[float, ...], on: str = "") -> Section:
    return Section(
        key=key,
        title=name,
        on=on,
        metrics=tuple(
            Metric(name=name, value=value, model=model, phones=8)
            for model, value in zip(MODELS, values, strict=True)
        ),
    )


def worse(model: str, rate: float, variant: str = "") -> Metric:
    return Metric(
        name="phones worse off", value=rate, model=model, variant=variant, by_chance=0.5, phones=8,
        counted=8,
    )  # fmt: skip


def operating_points() -> Section:
    found = section("operating_points", "target words found", (0.75,) * 4)
    accepted = section("", "false accepts", (0.0625, 0.25, 0.125, 0.25))
    return dataclasses.replace(found, metrics=found.metrics + accepted.metrics)


def summary(seed: int, federated: float) -> Summary:
    return Summary(
        scenario="real-commands",
        corpus="corpus",
        seed=seed,
        status="complete",
        rounds=4,
        rounds_planned=4,
        phones=12,
        shots=2,
        sections=(
            section(
                "error",
                "false rejects at 5 % false accepts",
                (0.5, 1 - federated, 0.125, 0.5),
                on="other words, 16 clips",
            ),
            section("accuracy", "accuracy with non-words counted", (0.5, federated, 0.875, 0.5625)),
            section("target_accuracy", "accuracy among target words", (0.5, 0.875, 0.875, 0.5625)),
            operating_points(),
            Section(
                key="regression",
                title="Phones worse off",
                metrics=(
                    worse("federated", 0.25),
                    worse("personalized", 0.125),
                    worse("personalized", 0.375, "without guard"),
                ),
            ),
        ),
        guarantee=Guarantee(
            epsilon_release=2458.0,
            epsilon_server=37.5,
            delta=1 / 120,
            unit="user",
            relation_release="add/remove",
            relation_server="zero-out",
            amplified=True,
            accountant="",
            rounds=1,
            max_participations=1,
            trust="",
            failure_probability=0.0,
            mechanism="distributed",
            secure_aggregation="ideal",
            threat_model="malicious",
            reason="",
        ),
        noise_notice=None,
    )


@pytest.fixture
def rows():
    extra = {"minutes": 1.5, "same_held_out": False}
    return [figures(summary(1, 0.625)) | extra, figures(summary(2, 0.75)) | extra]


def cells(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} |")]
    return line.strip("| ").split(" | ")[1:]


def test_each_figure_is_the_mean_over_seeds_with_its_extremes(rows):
    text = table([rows])
    measure = "false rejects at 5 % false accepts"
    assert cells(text, f"**{measure}, base**") == ["50.0 % (50.0 to 50.0)"]
    assert cells(text, f"**{measure}, federated**") == ["31.2 % (25.0 to 37.5)"]
    assert cells(text, "accuracy with non-words counted, federated") == ["68.8 % (62.5 to 75.0)"]
    assert cells(text, "accuracy among target words, federated") == ["87.5 % (87.5 to 87.5)"]
    assert cells(text, "false accepts at its threshold, federated") == ["25.0 % (25.0 to 25.0)"]
    assert cells(text, "phones made worse by personalizing") == ["12 % (12 to 12)"]
    assert cells(text, "the same, expected by chance") == ["50 % (50 to 50)"]
    assert cells(text, "phones made worse by training together") == ["25 % (25 to 25)"]
    assert cells(text, "stage that ships, by public validation speakers") == [
        "federated, federated"
    ]


def test_no_epsilon_stands_without_relation_delta_and_unit(rows):
    text = table([rows[:1]])
    assert cells(text, "epsilon_release") == ["2458.0, add/remove"]
    assert cells(text, "epsilon_server") == ["37.5, zero-out"]
    assert cells(text, "delta; unit") == ["8.4e-03; user"]


def test_speakers_that_no_seed_changes_are_said_to_be_the_same(rows):
    assert "another split" in table([rows])
    fixed = [row | {"same_held_out": True} for row in rows]
    text = table([rows, fixed])
    assert "the same 8 speakers at every seed" in text
    assert len(cells(text, "non-words")) == 2


def test_a_run_that_stopped_early_is_not_put_in_a_table():
    with pytest.raises(ValueError, match="seed 1 is partial: interrupted"):
        figures(summary(1, 0.5).model_copy(update={"status": "partial", "stopped": "interrupted"}))
