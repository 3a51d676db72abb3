"""What a run leaves on disk reads back as it was, or says what is wrong."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from results_document import DOCUMENT, SCRIPT, document

from fedspeech.evaluation.metric import Curve, Interval, Matrix, Metric, Texts
from fedspeech.privacy.guarantee import Guarantee
from simulations.results.rows import RoundRow
from simulations.results.summary import VISIBILITY, Summary

GUARANTEE = Guarantee(
    epsilon_release=1.0, epsilon_server=2.0, delta=1e-6, unit="phone",
    relation_release="add/remove", relation_server="zero-out", amplified=True, accountant="RDP",
    rounds=1, max_participations=1, trust="the server", failure_probability=0.0,
    mechanism="distributed",
    secure_aggregation="ideal", threat_model="malicious", reason="",
)  # fmt: skip


def test_row_and_summary_survive_the_disk(example):
    for record in (*example.rows(), example.summary()):
        assert type(record).model_validate_json(record.model_dump_json()) == record


@given(epsilon=st.floats(min_value=0, allow_nan=False))
def test_every_epsilon_survives_strict_json(epsilon):
    promised = dataclasses.replace(
        GUARANTEE, epsilon_release=epsilon, epsilon_server=math.inf, mechanism="central"
    )
    row = RoundRow(
        guarantee=promised, noise_notice=None, round=1, status="completed", bytes_up=1, bytes_down=1
    )
    text = row.model_dump_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert RoundRow.model_validate_json(text) == row


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon_release", math.nan), ("epsilon_server", -1.0), ("delta", 1.5), ("surprise", 1)],
)
def test_what_is_no_guarantee_is_refused(example, field, value):
    values = example.rows()[0].model_dump()
    with pytest.raises(ValidationError, match=field):
        RoundRow(**(values | {"guarantee": values["guarantee"] | {field: value}}))
    with pytest.raises(ValidationError, match="a record of Guarantee does not fit"):
        RoundRow(**(values | {"guarantee": {field: value}}))
    with pytest.raises(ValidationError, match="a guarantee is a table of figures"):
        RoundRow(**(values | {"guarantee": value}))


def test_records_cannot_be_changed(example):
    with pytest.raises(ValidationError, match="frozen"):
        example.summary().rounds = 41


def test_complete_summary_needs_all_four_accuracies(example):
    whole = example.summary()
    accuracy = whole.section("accuracy")
    for missing in ("federated", "personalized", "control"):
        kept = tuple(metric for metric in accuracy.metrics if metric.model != missing)
        changed = example.changed_sections(whole, dataclasses.replace(accuracy, metrics=kept))
        with pytest.raises(ValidationError, match="a complete summary needs"):
            example.summary(sections=changed.sections)
    assert example.summary(status="partial", sections=()).section("accuracy").whole == ()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 by 2"):
        Matrix(name="", says="", labels=("a", "b"), counts=((1, 2),))
    with pytest.raises(ValueError, match="as long"):
        Curve(name="", x=(0.1,), y=(0.1, 0.2))
    with pytest.raises(ValueError, match="as long"):
        Curve(name="", x=(0.1,), y=(0.1,), low=(0.1,))
    with pytest.raises(ValueError, match="low must not exceed high"):
        Interval(low=0.6, high=0.5)
    with pytest.raises(ValueError, match="must be finite"):
        Metric(name="accuracy", value=math.nan)
    with pytest.raises(ValueError, match="must have 2 texts"):
        Texts(name="", header=("a", "b"), rows=(("one",),))


def test_a_section_with_an_unknown_key_is_refused(example):
    written = json.loads(example.summary().model_dump_json())
    written["sections"][0]["metrics"][0]["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        Summary.model_validate_json(json.dumps(written))


def test_account_of_a_summary_is_what_it_was_given(example):
    assert example.summary().account() == example.account(1.0)


def test_every_field_of_the_summary_that_has_a_visibility_exists():
    assert set(VISIBILITY) <= set(Summary.model_fields)


def test_the_document_is_what_the_types_say():
    assert DOCUMENT.read_text() == document(), f"run `python {SCRIPT}`"
