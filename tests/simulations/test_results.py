"""What a run leaves on disk reads back as it was, or says what is wrong."""

import json
import math
import os
import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedspeech.errors import FedspeechError
from simulations import results
from simulations.results import (
    Confusion,
    DetCurve,
    Environment,
    Interval,
    PhoneAccuracies,
    Record,
    RoundRow,
    RunFolder,
    Summary,
    capture_environment,
    read,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"
RECORDS = [
    found
    for found in vars(results).values()
    if isinstance(found, type) and issubclass(found, Record) and found is not Record
]


def test_row_and_summary_survive_the_disk(example):
    for record in (*example.rows(), example.summary()):
        assert type(record).model_validate_json(record.model_dump_json()) == record


@given(epsilon=st.floats(min_value=0, allow_nan=False))
def test_every_epsilon_survives_strict_json(epsilon):
    row = RoundRow(
        epsilon_release=epsilon, epsilon_server=math.inf, delta=1e-6, unit="phone",
        relation_release="add/remove", relation_server="zero-out", mode="central",
        secure_sum="ideal", trust="the server", accountant="RDP", noise_notice=None,
        round=1, status="completed", bytes_up=1, bytes_down=1,
    )  # fmt: skip
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
        RoundRow(**(values | {field: value}))


def test_records_cannot_be_changed(example):
    with pytest.raises(ValidationError, match="frozen"):
        example.summary().rounds = 41


def test_complete_summary_needs_all_four_accuracies(example):
    whole = example.summary()
    for missing in ("federated", "personalised", "control"):
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
        PhoneAccuracies(base=(1.0,), federated=(1.0,), personalised=(1.0,), clips=(3, 4))
    with pytest.raises(ValidationError, match="low must not exceed high"):
        Interval(low=0.6, high=0.5)


def test_guarantee_of_a_summary_is_what_it_was_given(example):
    assert example.summary().guarantee() == example.guarantee(1.0)


def test_whole_folder_reads_back(example, tmp_path):
    found = read(example.write(tmp_path / "run"))
    assert found.rows == tuple(example.rows())
    assert found.summary == example.summary()
    assert found.environment == example.environment()
    assert found.settings()["privacy.clip_norm"] == 0.1
    assert found.name == "run"
    assert not found.torn


def test_folder_holds_nothing_but_what_is_documented(example, tmp_path):
    names = {path.name for path in example.write(tmp_path / "run").iterdir()}
    assert names == {
        "scenario.toml", "metrics.jsonl", "summary.json", "environment.json",
        "checkpoints", "adapter", "export",
    }  # fmt: skip


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(FedspeechError, match="new or empty folder"):
        RunFolder.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FedspeechError, match="is a file"):
        RunFolder.create(tmp_path / "run")


def test_full_disk_is_refused_before_the_run(tmp_path):
    with pytest.raises(FedspeechError, match=r"needs .* MB of free disk, got"):
        RunFolder.create(tmp_path / "run", minimum_free_bytes=10**18)


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FedspeechError, match="must be writable"):
        RunFolder.create(tmp_path / "file" / "run")


def test_torn_last_line_is_left_out_and_said(example, tmp_path):
    run = example.write(tmp_path / "run")
    whole = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(whole[:-200])
    found = read(run)
    assert found.torn
    assert found.rows == tuple(example.rows()[:-1])


def test_row_after_a_torn_line_starts_its_own(example, tmp_path):
    rows = example.rows()
    run = example.write(tmp_path / "run", found_rows=rows[:3])
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"round": 4, "sta')
    RunFolder(run).append(rows[3])
    found = read(run)
    assert not found.torn
    assert found.rows == tuple(rows[:4])


def test_damaged_line_in_the_middle_is_an_error_with_its_number(example, tmp_path):
    run = example.write(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace('"round":5', '"round":0')
    (run / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(FedspeechError, match="line 5 is damaged: round"):
        read(run)


def test_row_is_on_disk_when_append_returns(example, tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run", minimum_free_bytes=0)
    synced = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(folder.metrics.stat().st_size)

    monkeypatch.setattr(os, "fsync", watched)
    folder.append(example.rows()[0])
    assert synced == [folder.metrics.stat().st_size]


def test_interrupted_write_leaves_the_old_summary(example, tmp_path, monkeypatch):
    run = example.write(tmp_path / "run")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(run).write_summary(example.summary(rounds=1))
    assert read(run).summary == example.summary()


def test_missing_and_foreign_folders_are_named(tmp_path):
    with pytest.raises(FedspeechError, match="no run folder at"):
        read(tmp_path / "nowhere")
    with pytest.raises(FedspeechError, match=r"neither metrics\.jsonl nor summary\.json"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "environment.json", "scenario.toml"])
def test_damaged_file_is_named(example, tmp_path, name):
    run = example.write(tmp_path / "run")
    (run / name).write_text('{"half": ')
    with pytest.raises(FedspeechError, match=f"{name} is damaged"):
        read(run)


def test_run_cut_short_before_its_summary_reads_back(example, tmp_path):
    run = example.write(tmp_path / "run", found_rows=example.rows()[:2])
    for name in ("summary.json", "environment.json", "scenario.toml"):
        (run / name).unlink()
    found = read(run)
    assert (len(found.rows), found.summary, found.environment, found.settings()) == (
        2, None, None, {},
    )  # fmt: skip


def test_environment_names_neither_host_nor_user_nor_path():
    text = capture_environment(torch_threads=1).model_dump_json()
    for private in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    found = Environment.model_validate_json(text)
    assert found.versions["numpy"]
    assert found.python == platform.python_version()


def test_every_figure_of_the_summary_that_has_an_eye_exists():
    assert set(results.EYES) <= set(Summary.model_fields)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_document_names_every_field(record):
    section = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(f"`{record.__name__}`"))
    own = set(record.model_fields) - set(record.__base__.model_fields)
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == own
