"""The schema of telemetry is closed: nothing that tells when, where or who can enter it."""

import json
from importlib import resources

import numpy as np
import pytest

from fedspeech.audio.channel import DEVICE_KINDS
from fedspeech.device.telemetry import NONE, UNSTATED, read_schema, telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.synthesis.voices import ACCENTS, AGE_BANDS, SEXES

FILE = json.loads(resources.files("fedspeech.device").joinpath("schema.json").read_text())
WORDS = ("yes", "no")
EVENT = {
    "day": 3, "event": "correction", "word_or_intent": "yes", "answered": "no",
    "score_bucket": "0.8 to 0.9", "snr_bucket": "5 to 10 dB", "environment": "speech",
    "day_part": "evening",
}  # fmt: skip


def with_column(where="columns", **column):
    changed = {**FILE, where: [*FILE[where], {"meaning": "words", **column}]}
    return json.dumps(changed).encode()


def with_values(name, values):
    columns = [
        {**column, "values": values} if column["name"] == name else column
        for column in FILE["columns"]
    ]
    return json.dumps({**FILE, "columns": columns}).encode()


def test_the_schema_is_this_and_nothing_more():
    """Whoever changes a line here adds to what phones remember of their users."""
    schema = telemetry_schema(WORDS)
    assert {column.name: (column.kind, column.codes) for column in schema.event_columns} == {
        "day": ("day", 32_768),
        "event": ("category", 7),
        "word_or_intent": ("word", 3),
        "answered": ("word", 3),
        "score_bucket": ("bucket", 11),
        "snr_bucket": ("bucket", 9),
        "environment": ("category", 7),
        "day_part": ("day_part", 4),
        "listening": ("duration", 5),
    }
    assert {column.name: column.codes for column in schema.attribute_columns} == {
        "accent": 7, "device": 7, "noise": 5, "sex": 4, "age_band": 6,
    }  # fmt: skip


def test_no_column_tells_an_hour_a_duration_a_place_or_a_person():
    """The kinds that there are: whole days, at most four parts of one, at most four durations."""
    schema = telemetry_schema(WORDS)
    kinds = [column.kind for column in schema.event_columns]
    assert kinds.count("day") == kinds.count("day_part") == kinds.count("duration") == 1
    for column in (*schema.event_columns, *schema.attribute_columns):
        if column.kind in ("day_part", "duration"):
            assert len(column.buckets) == 4
        if column.kind not in ("day", "word"):
            assert column.codes <= 17


@pytest.mark.parametrize(
    "column",
    [
        {"name": "timestamp", "kind": "day"},
        {"name": "hour", "kind": "category", "values": [str(hour) for hour in range(24)]},
        {"name": "hour", "kind": "bucket", "values": [str(hour) for hour in range(0, 24, 2)]},
        {"name": "latency", "kind": "duration", "values": ["1 s", "2 s"]},
        {"name": "place", "kind": "category", "values": ["home", "work"]},
        {"name": "phone_id", "kind": "word"},
        {"name": "transcript", "kind": "text"},
    ],
    ids=lambda column: f"{column['name']}-{column['kind']}",
)
@pytest.mark.parametrize("where", ["columns", "attributes"])
def test_a_schema_that_gains_a_column_is_refused_by_name(column, where):
    with pytest.raises(ScenarioError, match=column["name"]):
        read_schema(with_column(where, **column))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("day_part", [f"hour {hour}" for hour in range(24)]),
        ("listening", ["1 h", "2 h", "3 h", "4 h", "5 h"]),
        ("environment", [f"street {number}" for number in range(17)]),
        ("score_bucket", ["0", "0"]),
    ],
)
def test_a_column_that_grows_finer_than_its_kind_is_refused(name, values):
    with pytest.raises(ScenarioError, match=rf"at most \d+ distinct values, got \d+ of {name}"):
        read_schema(with_values(name, values))


def test_another_version_order_or_key_of_the_file_is_refused():
    with pytest.raises(ScenarioError, match="version 1, got 2"):
        read_schema(json.dumps({**FILE, "version": 2}).encode())
    with pytest.raises(ScenarioError, match="in this order"):
        read_schema(json.dumps({**FILE, "columns": FILE["columns"][::-1]}).encode())
    with pytest.raises(ScenarioError, match="comment"):
        read_schema(json.dumps({**FILE, "comment": ""}).encode())
    with pytest.raises(ScenarioError, match="unit"):
        read_schema(with_column(name="day", kind="day", unit="s"))


def test_an_event_survives_its_row():
    schema = telemetry_schema(WORDS)
    row = schema.encode(EVENT)
    assert row.dtype == np.int16
    assert schema.decode(row) == {**EVENT, "listening": NONE}
    assert row[schema.place("word_or_intent")] == schema.code("word_or_intent", "yes") == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"minute": 4}, "minute"),
        ({"environment": "kitchen in Lyon"}, "kitchen in Lyon"),
        ({"word_or_intent": "call my doctor"}, "call my doctor"),
        ({"day": "2026-01-05T10:14"}, "2026-01-05"),
        ({"day": 3.5}, "day"),
        ({"day": -1}, "day"),
        ({"day": True}, "day"),
    ],
)
def test_an_unknown_key_or_value_of_an_event_is_refused_by_name(change, named):
    with pytest.raises(ScenarioError, match=named):
        telemetry_schema(WORDS).encode({**EVENT, **change})


def test_a_key_without_a_code_for_none_must_be_there():
    event = dict(EVENT)
    del event["day_part"]
    with pytest.raises(ScenarioError, match="day_part"):
        telemetry_schema(WORDS).encode(event)


def test_rows_of_another_schema_are_refused_by_column():
    schema = telemetry_schema(WORDS)
    rows = np.stack([schema.encode(EVENT)] * 2)
    schema.check(rows)
    for code in (3, -1):
        bad = rows.copy()
        bad[1, schema.place("answered")] = code
        with pytest.raises(ScenarioError, match=f"answered .* got {code}"):
            schema.check(bad)
    with pytest.raises(ScenarioError, match=r"shape \(n, 9\)"):
        schema.check(rows[:, 1:])
    with pytest.raises(ScenarioError, match="int64"):
        schema.check(rows.astype(np.int64))
    schema.check(np.zeros((0, 9), dtype=np.int16))


def test_attributes_are_those_of_the_corpora():
    schema = telemetry_schema()
    assert schema.names("accent") == (UNSTATED, *ACCENTS, "other")
    assert schema.names("device") == (UNSTATED, *DEVICE_KINDS, "other")
    assert schema.names("sex") == (UNSTATED, *SEXES, "other")
    assert schema.names("age_band") == (UNSTATED, *AGE_BANDS, "other")
    row = schema.encode_attributes({"accent": "fronted", "noise": "noisy"})
    assert row.tolist() == [5, 0, 3, 0, 0]
    with pytest.raises(ScenarioError, match="postcode"):
        schema.encode_attributes({"postcode": "69001"})
    with pytest.raises(ScenarioError, match="scottish"):
        schema.encode_attributes({"accent": "scottish"})


def test_words_are_a_public_vocabulary_of_distinct_names():
    with pytest.raises(ScenarioError, match="distinct words"):
        telemetry_schema(("yes", "yes"))
    with pytest.raises(ScenarioError, match="1000 distinct"):
        telemetry_schema([str(number) for number in range(1_001)])
