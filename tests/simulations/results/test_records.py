"""What a run leaves on disk reads back as it was, or says what is wrong."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedspeech.privacy.guarantee import Guarantee
from simulations.results import records
from simulations.results.records import (
    Confusion,
    DetCurve,
    Interval,
    PhoneAccuracies,
    Record,
    RoundRow,
    Summary,
)

GUARANTEE = Guarantee(
    epsilon_release=1.0, epsilon_server=2.0, delta=1e-6, unit="phone",
    relation_release="add/remove", relation_server="zero-out", amplified=True, accountant="RDP",
    rounds=1, quota=1, trust="the server", failure_probability=0.0, mechanism="distributed",
    secure_aggregation="ideal", server="lying", reason="",
)  # fmt: skip
DOCUMENT = Path(__file__).parents[3] / "docs" / "results.md"
RECORDS = [
    found
    for found in vars(records).values()
    if isinstance(found, type) and issubclass(found, Record) and found is not Record
]


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
    with pytest.raises(ValidationError, match="a record of a guarantee does not fit"):
        RoundRow(**(values | {"guarantee": {field: value}}))
    with pytest.raises(ValidationError, match="a guarantee is a table of figures"):
        RoundRow(**(values | {"guarantee": value}))


def test_records_cannot_be_changed(example):
    with pytest.raises(ValidationError, match="frozen"):
        example.summary().rounds = 41


def test_complete_summary_needs_all_four_accuracies(example):
    whole = example.summary()
    for missing in ("federated", "personalized", "control"):
        accuracy = whole.accuracy.model_copy(update={missing: None})
        with pytest.raises(ValidationError, match="a complete summary needs"):
            example.summary(accuracy=accuracy)
    assert example.summary(status="partial", accuracy=None).accuracy is None


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="2 by 2"):
        Confusion(model="base", labels=("a", "b"), counts=((1, 2),))
    with pytest.raises(ValidationError, match="as long"):
        DetCurve(far=(0.1,), frr=(0.1, 0.2))
    with pytest.raises(ValidationError, match="one entry per phone"):
        PhoneAccuracies(base=(1.0,), federated=(1.0,), personalized=(1.0,), clips=(3, 4))
    with pytest.raises(ValidationError, match="low must not exceed high"):
        Interval(low=0.6, high=0.5)


def test_account_of_a_summary_is_what_it_was_given(example):
    assert example.summary().account() == example.account(1.0)


def test_every_figure_of_the_summary_that_has_an_eye_exists():
    assert set(records.EYES) <= set(Summary.model_fields)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_document_names_every_field(record):
    section = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(f"`{record.__name__}`"))
    own = set(record.model_fields) - set(record.__base__.model_fields)
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == own
