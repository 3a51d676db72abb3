"""A run folder is written so that a kill loses at most a line, and read back whole."""

import os

import pytest

from fedspeech.errors import FedspeechError
from simulations.results.run_folder import RunFolder, read


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


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
def test_a_folder_of_another_schema_version_is_refused_with_the_way_out(example, tmp_path, name):
    run = example.write(tmp_path / "run")
    file = run / name
    written = file.read_text().replace('"schema_version":3', '"schema_version":1')
    written = written.replace('"schema_version": 3', '"schema_version": 1')
    file.write_text(written)
    with pytest.raises(FedspeechError) as told:
        read(run)
    for said in (name, "schema version 1", "reads version 3", "environment.json", "simulate"):
        assert said in str(told.value), said


def test_rows_of_before_there_was_a_version_are_version_one(example, tmp_path):
    run = example.write(tmp_path / "run")
    rows = (run / "metrics.jsonl").read_text().replace('"schema_version":3,', "")
    (run / "metrics.jsonl").write_text(rows)
    with pytest.raises(FedspeechError, match="has schema version 1, and this fedspeech reads"):
        read(run)
