"""What a run made worse is said first, of words and of sentences; a good run says nothing."""

import pytest

from simulations.report.setbacks import setbacks, worse
from simulations.results.records import Headline, ShareWorse
from simulations.run.runner import closing_words


def changed(summary, **parts):
    """A summary whose records have other values."""
    return summary.model_copy(
        update={
            name: getattr(summary, name).model_copy(update=values) for name, values in parts.items()
        }
    )


def test_a_run_that_gains_at_every_stage_has_no_setback(example):
    assert setbacks(example.summary()) == ()


def test_a_federated_stage_without_gain_is_said_and_the_base_is_named(example):
    choice = {"base": 0.20, "federated": 0.20, "chosen": "base"}
    (said,) = setbacks(changed(example.summary(), stage_choice=choice))
    assert said.startswith("Training together gained nothing")
    assert "20.0 %" in said
    (of_one,) = setbacks(changed(example.summary(), stage_choice=choice | {"speakers": 1}))
    assert "on 1 public validation speaker: base" in of_one
    assert "The base is what phones personalize from and what is exported." in said


@pytest.mark.parametrize("measure", ["false rejects at 5 % false accepts", "word error rate"])
def test_a_worse_stage_is_the_first_line_of_the_console(example, tmp_path, measure):
    bad = example.summary(
        headline=Headline(
            measure=measure,
            base=0.127,
            federated=0.247,
            personalized=0.232,
            control=0.222,
            counted=300,
        )
    )
    first, second, *_ = closing_words(bad, tmp_path / "report.html").splitlines()
    assert first == (
        f"Training together made it worse: {measure} rose from 12.7 % (base) to 24.7 % (federated) "
        "on phones never trained on."
    )
    assert second.startswith("The run ends worse than it began: ")


@pytest.mark.parametrize("best_round", [0, 8])
def test_the_console_says_that_the_exported_file_is_the_base(example, tmp_path, best_round):
    said = closing_words(example.summary(best_round=best_round), tmp_path / "report.html")
    assert "file for the phone: " in said
    assert ("(the base: nothing that phones trained is in it)" in said) == (best_round == 0)


def test_personalizing_is_held_against_the_stage_that_phones_start_from(example):
    worse_than_base = {"federated": 0.5, "personalized": 0.3}
    choice = {"federated": 0.5, "chosen": "base"}
    said = " ".join(
        setbacks(changed(example.summary(), headline=worse_than_base, stage_choice=choice))
    )
    assert (
        "Personalizing made it worse: false rejects at 5 % false accepts rose from 29.0 %" in said
    )


def test_most_phones_worse_is_said(example):
    said = setbacks(changed(example.summary(), share_worse={"share": 0.73}))
    assert said == (
        "After personalizing 73.0 % of phones make more mistakes than before (by luck alone 21.0 "
        "%).",
    )


def test_no_share_is_printed_where_nothing_changed():
    found = ShareWorse(share=0.0, expected_by_chance=0.0, phones=10, changed=0)
    assert "%" not in worse(found)
