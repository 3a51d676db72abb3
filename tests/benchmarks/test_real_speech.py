"""The table says what the summaries say, with its spread and its caveats."""

import pytest

from benchmarks.real_speech import figures, table
from fedspeech.privacy.guarantee import Guarantee
from simulations.results.records import (
    Accuracies,
    Accuracy,
    Headline,
    OperatingPoint,
    ShareWorse,
    Summary,
)


def accuracy(mean: float, worst: float = 0.25) -> Accuracy:
    return Accuracy(mean=mean, worst_decile=worst, phones=8)


def worse(share: float) -> ShareWorse:
    return ShareWorse(share=share, expected_by_chance=0.5, phones=8, changed=8)


def accuracies(federated: float) -> Accuracies:
    return Accuracies(
        base=accuracy(0.5),
        federated=accuracy(federated),
        personalized=accuracy(0.875, 0.375),
        control=accuracy(0.5625),
    )


def summary(seed: int, federated: float) -> Summary:
    return Summary(
        scenario="real-commands",
        corpus="corpus",
        seed=seed,
        status="complete",
        rounds=4,
        rounds_planned=4,
        phones=12,
        clips_per_word=2,
        accuracy=accuracies(federated),
        target_accuracy=accuracies(0.875),
        headline=Headline(
            measure="false rejects at 5 % false accepts",
            base=0.5,
            federated=1 - federated,
            personalized=0.125,
            control=0.5,
            counted=40,
            non_words=16,
            non_words_are="other words",
        ),
        operating_points={
            name: OperatingPoint(threshold=0.9, target_words_found=0.75, false_accepts=accepts)
            for name, accepts in (
                ("base", 0.0625),
                ("federated", 0.25),
                ("personalized", 0.125),
                ("control", 0.25),
            )
        },
        share_worse=worse(0.125),
        share_worse_federated=worse(0.25),
        share_worse_without_guard=worse(0.375),
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
            quota=1,
            trust="",
            failure_probability=0.0,
            mechanism="distributed",
            secure_aggregation="ideal",
            server="lying",
            reason="",
        ),
        noise_notice=None,
    )


@pytest.fixture
def rows():
    extra = {"minutes": 1.5, "same_unseen": False}
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
    assert cells(text, "delta; unit") == ["8.3e-03; user"]


def test_speakers_that_no_seed_changes_are_said_to_be_the_same(rows):
    assert "another split" in table([rows])
    fixed = [row | {"same_unseen": True} for row in rows]
    text = table([rows, fixed])
    assert "the same 8 speakers at every seed" in text
    assert len(cells(text, "non-words")) == 2


def test_a_run_that_stopped_early_is_not_put_in_a_table():
    with pytest.raises(ValueError, match="seed 1 is partial: interrupted"):
        figures(summary(1, 0.5).model_copy(update={"status": "partial", "stopped": "interrupted"}))
