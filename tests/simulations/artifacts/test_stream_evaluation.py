"""Recordings are counted one by one, by what was recorded, however their folder is arranged."""

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_experiment import tiny_experiment

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.layouts import layout_of
from fedspeech.errors import CorpusError, ExportRefused
from fedspeech.evaluation.streaming import DEFAULT_THRESHOLD, ListeningRules
from simulations.artifacts import stream_evaluation
from simulations.commands.listen import listen

RULES = ListeningRules()
SPEC = FrontendSpec()
SECOND = SPEC.rate_hz


class LouderThanBefore:
    """Listens like a streaming file: a hop's answer depends on the hops that it remembers.

    It answers the target `yes` to every sound louder than a threshold and, as a file does that was
    not reset, goes on answering so for a while.
    """

    labels = ("yes", "no", "_unknown_", "_silence_")
    spec = SPEC

    def __init__(self):
        self.reset()

    def reset(self):
        self.ringing = 0

    def feed(self, samples):
        hops = samples[: len(samples) // 320 * 320].reshape(-1, 320)
        rows = []
        for hop in hops:
            self.ringing = 4 if np.abs(hop).max() > 0.1 else max(0, self.ringing - 1)
            rows.append([9.0, 0, 0, 0] if self.ringing else [0, 0, 0, 9.0])
        return np.array(rows, dtype=np.float32)


def tone(seconds, loudness, pitch_hz=440.0):
    t = np.arange(int(seconds * SECOND)) / SECOND
    return (loudness * np.sin(2 * np.pi * pitch_hz * t)).astype(np.float32)


def write(path, sound):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, SECOND)


def count(folder):
    return stream_evaluation._in_folder(LouderThanBefore(), folder, RULES)[0]


def test_what_was_heard_in_one_recording_is_forgotten_before_the_next(tmp_path):
    write(tmp_path / "a.wav", tone(0.8, 0.5))
    write(tmp_path / "b.wav", tone(30, 0.01, 300))
    alone = tmp_path / "alone"
    write(alone / "a.wav", tone(0.8, 0.5))
    assert count(tmp_path).at(0.5).false_accepts == count(alone).at(0.5).false_accepts == 1

    noises = tmp_path / "noises"
    for name in ("a.wav", "b.wav"):
        noises.mkdir(exist_ok=True)
        shutil.copy(tmp_path / name, noises / name)
    (noises / "manifest.csv").write_text("file,kind\na.wav,tap\nb.wav,fan\n")
    assert layout_of(noises) == "noise"
    assert count(noises).at(0.5).false_accepts == 1


def test_a_bad_recording_is_left_out_and_named_and_the_others_are_listened_to(tmp_path):
    write(tmp_path / "a.wav", tone(0.8, 0.5))
    (tmp_path / "b.wav").write_text("text")
    counts, unread = stream_evaluation._in_folder(LouderThanBefore(), tmp_path, RULES)
    assert counts.at(0.5).false_accepts == 1
    assert len(unread) == 1
    assert "b.wav cannot be listened to: not a readable sound file" in unread[0]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(CorpusError, match=r"nothing in .* can be listened to, for instance"):
        count(tmp_path)


@pytest.fixture
def words():
    """Six clips of words by three people: two targets and one other word each."""
    return {
        (word, speaker): np.pad(tone(0.8, 0.5, 300 + 37 * row + 11 * len(word)), (0, 3_200))
        for row, speaker in enumerate(("ann", "bob", "eve"))
        for word in ("yes", "lamp")
    }


def manifest(folder, words, place):
    rows = ["file,speaker,word"]
    for (word, speaker), sound in words.items():
        file = place.format(word=word, speaker=speaker)
        write(folder / file, sound)
        rows.append(f"{file},{speaker},{word}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_the_same_keywords_count_alike_in_every_layout(tmp_path, words):
    beside, below, commands = (tmp_path / name for name in ("beside", "below", "commands"))
    manifest(beside, words, "{word}_{speaker}.wav")
    manifest(below, words, "{speaker}/{word}.wav")
    for (word, speaker), sound in words.items():
        write(commands / word / f"{speaker}_nohash_0.wav", sound)
    found = [count(folder).at(0.5) for folder in (beside, below, commands)]
    assert [layout_of(folder) for folder in (beside, below, commands)] == [
        "manifest", "manifest", "Speech Commands",
    ]  # fmt: skip
    assert {point.keywords for point in found} == {3}
    assert {point.rejected for point in found} == {0}
    assert {point.false_accepts for point in found} == {3}, "the lamps"
    assert len({point.hours for point in found}) == 1


def test_only_what_was_recorded_counts_as_time(tmp_path, words):
    manifest(tmp_path, words, "{word}_{speaker}.wav")
    found = count(tmp_path)
    assert found.hours == pytest.approx(3 / 3600)  # three lamps of one second
    assert found.silent_hours == pytest.approx(3 * 50 * 0.02 / 3600)
    assert found.at(0.5).false_accepts_per_hour == pytest.approx(3600)


@pytest.mark.slow
def test_the_silence_that_was_added_is_stated_apart(tmp_path, words, monkeypatch):
    manifest(tmp_path, words, "{word}_{speaker}.wav")
    monkeypatch.setattr(stream_evaluation, "_listener", lambda _: LouderThanBefore())
    asked = {
        "folder": tmp_path, "hours": None, "threshold": 0.8, "rules": RULES, "seed": 0,
        "out": tmp_path / "det.svg",
    }  # fmt: skip
    rates = stream_evaluation.evaluate(tmp_path / "model_streaming.tflite", **asked)
    said = " ".join(str(rates).split())
    assert "hours of digital silence were added after recordings" in said
    assert "threshold 0.8022 (the next that is counted to 0.8)" in said
    found = rates.record()
    assert found["hours"] == pytest.approx(3 / 3600)
    assert found["added_silent_hours"] == pytest.approx(3 / 3600)


def test_a_file_that_cannot_listen_names_the_one_beside_it(tmp_path, monkeypatch):
    whole_clips = SimpleNamespace(signatures={"waveform": None, "log_mel": None})
    monkeypatch.setattr("tflite_export.interpreter.TfliteModel", lambda _: whole_clips)
    for name in ("model_float.tflite", "model_streaming.tflite"):
        (tmp_path / name).write_bytes(bytes(8))
    with pytest.raises(ExportRefused, match=r"whole clips; beside it lies .*model_streaming\.tfl"):
        stream_evaluation._listener(tmp_path / "model_float.tflite")
    (tmp_path / "model_streaming.tflite").unlink()
    with pytest.raises(ExportRefused, match="--formats streaming"):
        stream_evaluation._listener(tmp_path / "model_float.tflite")


def test_a_file_listens_at_the_quiet_threshold_that_its_run_names(tmp_path, example, monkeypatch):
    """At the threshold that reports are counted at, files have accepted 500 times an hour."""
    assert inspect.signature(listen).parameters["threshold"].default is None
    file = tmp_path / "export" / "model_streaming.tflite"
    file.parent.mkdir()
    file.write_bytes(b"")
    assert stream_evaluation.threshold_of(file) == DEFAULT_THRESHOLD, "it lies in no run"
    (tmp_path / "job.json").write_text("{}")
    summary = example.summary()
    monkeypatch.setattr(stream_evaluation, "read", lambda _: SimpleNamespace(summary=summary))
    assert stream_evaluation.threshold_of(file) == summary.listening.quiet_threshold == 0.9876
    quiet = summary.listening.model_copy(update={"quiet_threshold": None})
    summary = summary.model_copy(update={"listening": quiet})
    assert stream_evaluation.threshold_of(file) == DEFAULT_THRESHOLD


@pytest.mark.slow
def test_a_run_counts_held_out_keywords_after_their_left_context(monkeypatch):
    built = tiny_experiment()
    heard = []

    class Recording(LouderThanBefore):
        labels = built.task.labels.labels

        def feed(self, samples):
            heard.append(samples)
            return super().feed(samples)

    monkeypatch.setattr(stream_evaluation, "_listener", lambda _: Recording())
    monkeypatch.setattr(stream_evaluation, "RUN_SECONDS", 12.0)
    found = stream_evaluation.streaming_rates(Path("x.tflite"), built.base, built.speakers, seed=1)
    assert 0 < found.keywords <= stream_evaluation.RUN_KEYWORDS
    assert found.hours == pytest.approx(12 / 3600)
    assert found.false_accepts == 0, "so the quieter threshold is the lowest that is counted"
    assert found.quiet_threshold < found.threshold
    assert found.quiet_rejected <= found.rejected
    keywords, scenes = heard[: found.keywords], heard[found.keywords :]
    assert len(scenes) == 1
    for sound in keywords:
        assert len(sound) == built.base.heard_samples + 40 * 320
        assert not sound[-40 * 320 :].any(), "digital silence, in which a detection may still come"
    assert found.rejected < found.keywords, "the fake takes every sound for one of the targets"
