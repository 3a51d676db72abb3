"""Recordings are counted one by one, by what was recorded, however their folder is arranged."""

import hashlib
import inspect
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_experiment import tiny_experiment

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.layouts import layout_of
from fedspeech.errors import ArgumentRefused, CorpusError, ExportRefused
from fedspeech.evaluation.streaming import DEFAULT_THRESHOLD, ListeningRules
from simulations.artifacts import detection, listening, stream_evaluation
from simulations.artifacts.listening import Detecting, open_listener, recipe_of
from simulations.commands.listen import listen
from simulations.scenario.schema import ListeningSettings

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
    return stream_evaluation.in_folder(LouderThanBefore(), folder, RULES).counts


def test_what_was_heard_in_one_recording_is_forgotten_before_the_next(tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    write(alone / "a.wav", tone(0.8, 0.5))
    write(both / "a.wav", tone(0.8, 0.5))
    write(both / "b.wav", tone(30, 0.01, 300))
    assert count(both).at(0.5).false_accepts == count(alone).at(0.5).false_accepts == 1

    noises = tmp_path / "noises"
    for name in ("a.wav", "b.wav"):
        noises.mkdir(exist_ok=True)
        shutil.copy(both / name, noises / name)
    (noises / "manifest.csv").write_text("file,kind\na.wav,tap\nb.wav,fan\n")
    assert layout_of(noises) == "noise"
    assert count(noises).at(0.5).false_accepts == 1


def test_a_bad_recording_is_left_out_and_named_and_the_others_are_listened_to(tmp_path):
    write(tmp_path / "a.wav", tone(0.8, 0.5))
    (tmp_path / "b.wav").write_text("text")
    heard = stream_evaluation.in_folder(LouderThanBefore(), tmp_path, RULES)
    assert heard.counts.at(0.5).false_accepts == 1
    assert list(heard.parts) == ["a.wav"]
    assert len(heard.unread) == 1
    assert "b.wav cannot be listened to: not a readable sound file" in heard.unread[0]
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
    monkeypatch.setattr(stream_evaluation, "open_listener", lambda _: LouderThanBefore())
    asked = {
        "folder": tmp_path, "hours": None, "seed": 0, "out": tmp_path / "det.svg",
        "detecting": Detecting(rules=RULES, threshold=0.8, origin="asked for"),
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
        open_listener(tmp_path / "model_float.tflite")
    (tmp_path / "model_streaming.tflite").unlink()
    with pytest.raises(ExportRefused, match="--formats streaming"):
        open_listener(tmp_path / "model_float.tflite")


RECIPE = {
    "smoothing_hops": 5, "cooldown_hops": 100, "hop_ms": 20.0,
    "thresholds": {"yes": 0.9, "no": 0.5}, "false_accepts_per_hour_asked_for": 0.5,
    "chosen_on": "2 hours", "false_accepts": 1, "hours": 2.0, "rejected": 3, "keywords": 60,
}  # fmt: skip


def carded(folder, content=b"a model", recipe=RECIPE):
    """A file beside a card that has a recipe for it."""
    file = folder / "model_streaming.tflite"
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    files = {file.name: {"sha256": sha256, "detection": recipe}}
    (folder / "card.json").write_text(json.dumps({"files": files}))
    return file


def test_a_file_listens_by_the_recipe_of_the_card_beside_it(tmp_path):
    assert inspect.signature(listen).parameters["threshold"].default is None
    file = carded(tmp_path)
    found = Detecting.of(file, None, None, None)
    assert (found.rules.smoothing_hops, found.rules.cooldown_hops) == (5, 100)
    assert found.threshold == pytest.approx(0.9)
    assert found.rules.offsets == pytest.approx((0.0, -np.log(9)))
    assert "0.5 false accepts an hour" in found.origin
    longer = Detecting.of(file, None, 400, None)
    assert (longer.rules.smoothing_hops, longer.rules.offsets) == (20, found.rules.offsets)
    asked = Detecting.of(file, 0.7, None, None)
    assert (asked.threshold, asked.rules.offsets) == (0.7, ()), "for all words alike"
    with pytest.raises(ArgumentRefused, match="`smoothing_ms` must be a multiple of 20 ms, got 30"):
        Detecting.of(file, None, 30, None)


def test_a_recipe_of_other_bytes_is_no_recipe_of_this_file(tmp_path):
    file = carded(tmp_path)
    file.write_bytes(b"another model")
    found = Detecting.of(file, None, None, None)
    assert (found.threshold, found.rules) == (DEFAULT_THRESHOLD, RULES)
    assert "has no detection recipe" in found.origin
    for broken in (None, {}, {**RECIPE, "thresholds": {"yes": 2.0}}, {**RECIPE, "hop_ms": "x"}):
        assert recipe_of(carded(tmp_path, recipe=broken)) is None
    (tmp_path / "card.json").write_text("[]")
    assert recipe_of(file) is None


def test_a_long_recording_is_heard_in_blocks_with_its_detections_and_their_rate(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(listening, "open_listener", lambda _: LouderThanBefore())
    quiet = tone(9.9, 0.001)
    write(tmp_path / "a.wav", np.concatenate([quiet, tone(0.8, 0.5), quiet, tone(0.8, 0.5)]))
    detecting = Detecting.of(tmp_path / "no.tflite", 0.5, None, None)
    found = listening.listen_to(tmp_path / "no.tflite", tmp_path / "a.wav", detecting)
    assert [word for _, word, _ in found.heard] == ["yes", "yes"]
    # The first word lies over the seam of two blocks of ten seconds.
    assert [second for second, _, _ in found.heard] == pytest.approx([10.0, 20.7], abs=0.15)
    assert found.per_hour == pytest.approx(2 * 3600 / 21.4, rel=1e-3)
    told = found.record()
    assert told["per_hour_interval"][0] < told["per_hour"] < told["per_hour_interval"][1]
    assert told["detections"][0]["word"] == "yes"


@pytest.mark.slow
def test_a_run_counts_held_out_keywords_after_their_left_context(monkeypatch):
    built = tiny_experiment()
    heard = []

    class Recording(LouderThanBefore):
        labels = built.task.labels.labels

        def feed(self, samples):
            heard.append(samples)
            return super().feed(samples)

    monkeypatch.setattr(detection, "open_listener", lambda _: Recording())
    monkeypatch.setattr(detection, "RUN_SECONDS", 12.0)
    found = detection.streaming_rates(Path("x.tflite"), built.base, built.speakers, seed=1)
    assert 0 < found.keywords <= detection.RUN_KEYWORDS
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


@pytest.mark.slow
def test_a_recipe_is_chosen_on_public_streams_and_not_on_phones(monkeypatch):
    built = tiny_experiment()
    settings = ListeningSettings(hours=24 / 3600)
    streams = detection.PublicStreams(built.base, built.speakers, {}, settings, seed=1)
    phones = {clip.speaker_id for phone in built.partition.held_out for clip in phone.utterances}
    assert not phones & {clip.speaker_id for clip in streams._public}

    class Labelled(LouderThanBefore):
        labels = built.task.labels.labels

        def feed(self, samples):
            answers = super().feed(samples)
            return np.insert(answers, [2] * (len(self.labels) - 4), 0.0, axis=1)

    recipe = streams.chosen(Labelled())
    assert recipe.found.hours == pytest.approx(24 / 3600)
    assert recipe.found.false_accepts == 0
    assert len(recipe.thresholds) == len(built.task.labels.labels) - 2
    assert "0.00666667 synthesized hours" in recipe.streams
