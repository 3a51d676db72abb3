"""What became worse is said first, and how often the streaming file is wrong is said at once."""

import dataclasses

import pytest

from fedspeech.evaluation.metric import Interval, Metric, Section
from simulations.report.outcome import listening_line, listening_rows, setbacks, worse
from simulations.results.exported import Listening
from simulations.run.closing import closing_words

FOUND = Listening(
    file="model_streaming.tflite", threshold=0.8, keywords=64, rejected=16, hours=0.1,
    false_accepts=12, quiet_rate=10.0, quiet_threshold=0.9931, quiet_rejected=48,
)  # fmt: skip


def test_a_run_that_gains_at_every_stage_has_no_setback(example):
    assert setbacks(example.summary()) == ()


def test_a_federated_stage_without_gain_is_said_and_the_base_is_named(example):
    def started_from_base(speakers):
        choice = example.validation(base=0.20, federated=0.20, speakers=speakers)
        return example.changed_sections(example.summary(start="base"), choice)

    (said,) = setbacks(started_from_base(24))
    assert said.startswith("Training together gained nothing")
    assert "20.0 %" in said
    (of_one,) = setbacks(started_from_base(1))
    assert "on 1 public validation speaker: base" in of_one
    assert "The base is what phones personalize from and what is exported." in said


@pytest.mark.parametrize("measure", ["false rejects at 5 % false accepts", "word error rate"])
def test_a_worse_stage_is_the_first_line_of_the_console(example, tmp_path, measure):
    errors = example.errors(base=0.127, federated=0.247, personalized=0.232, control=0.222)
    named = tuple(dataclasses.replace(metric, name=measure) for metric in errors.metrics)
    bad = example.changed_sections(example.summary(), dataclasses.replace(errors, metrics=named))
    first, second, *_ = closing_words(bad, tmp_path / "report.html").splitlines()
    assert first == (
        f"Training together made it worse: {measure} rose from 12.7 % (base) to 24.7 % (federated) "
        "on held-out phones."
    )
    assert second.startswith("The run ends worse than it began: ")


@pytest.mark.parametrize("rounds", [0, 8])
def test_the_console_says_that_the_exported_file_is_the_base(example, tmp_path, rounds):
    said = closing_words(example.summary(adapter_rounds=rounds), tmp_path / "report.html")
    assert "file for the phone: " in said
    assert ("(the base: nothing that phones trained is in it)" in said) == (rounds == 0)


def test_personalizing_is_held_against_the_stage_that_phones_start_from(example):
    worse_than_base = example.errors(federated=0.5, personalized=0.3)
    found = example.changed_sections(
        example.summary(start="base"), worse_than_base, example.validation(federated=0.5)
    )
    said = " ".join(setbacks(found))
    assert (
        "Personalizing made it worse: false rejects at 5 % false accepts rose from 29.0 %" in said
    )


def told(low, high):
    """A section that says how far personalizing and its stage are apart."""
    interval = Interval(low=low, high=high)
    change = Metric(
        name="change", value=(low + high) / 2, model="personalized", variant="since federated",
        interval=interval,
    )  # fmt: skip
    return Section(key="change", title="", metrics=(change,))


def test_what_luck_may_have_done_is_called_neither_worse_nor_better(example):
    """A run that personalizing brings 0.2 points is not called worse where phones cannot tell."""
    raised = example.errors(federated=0.279, personalized=0.281)

    def said(low, high):
        found = example.changed_sections(example.summary(), raised, told(low, high))
        return " ".join(setbacks(found))

    assert "Personalizing changed nothing that 60 held-out phones can tell" in said(-0.02, 0.024)
    assert "27.9 % (federated), 28.1 % (personalized)" in said(-0.02, 0.024)
    assert "between -2.0 and +2.4 points" in said(-0.02, 0.024)
    assert "Personalizing made it worse: " in said(0.001, 0.024)
    assert "Personalizing" not in said(-0.02, -0.001)
    assert "made it worse" in " ".join(
        setbacks(example.changed_sections(example.summary(), raised))
    )


def test_most_phones_worse_is_said(example):
    worst = dataclasses.replace(
        example.summary().section("regression"), metrics=(example.worse_off(0.73, "personalized"),)
    )
    said = setbacks(example.changed_sections(example.summary(), worst))
    assert said == (
        "After personalizing 73.0 % of phones make more mistakes than before (by luck alone 21.0 "
        "%).",
    )


def test_no_share_is_printed_where_nothing_changed():
    found = Metric(name="phones worse off", value=0.0, by_chance=0.0, phones=10, counted=0)
    assert "%" not in worse(found)


def test_the_last_lines_name_the_threshold_that_is_quiet_and_what_it_misses():
    said = listening_line(FOUND)
    assert "falsely 120 times an hour at threshold 0.80, and misses 25.0 %" in said
    assert "at most 10 times: threshold 0.9931, which misses 75.0 %" in said
    none = FOUND.model_copy(update={"quiet_threshold": None, "quiet_rejected": None})
    assert listening_line(none).endswith("at most 10 times: no threshold")


def test_a_run_of_an_earlier_version_says_nothing_of_a_quieter_threshold():
    earlier = Listening(file="x", threshold=0.8, keywords=0, rejected=0, hours=0.1, false_accepts=0)
    assert listening_line(earlier).endswith("0 times an hour at threshold 0.80")
    assert [name for name, _ in listening_rows(earlier)] == ["threshold", "false accepts per hour"]
    assert list(listening_rows(None)) == []
