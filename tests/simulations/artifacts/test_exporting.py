"""What commands do with the files of a small run: make, verify, time, dry-run a round, listen."""

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from made_once import tiny_run
from tiny_experiment import cache, tiny_scenario

from fedspeech.errors import ArgumentRefused, ExportRefused, FedspeechError, ScenarioError
from fedspeech.evaluation.streaming import ListeningRules
from fedspeech.models.adapters.files import save_adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, sentence_base_path
from simulations.artifacts import (
    benchmarking,
    exporting,
    listening,
    on_device_round,
    stream_evaluation,
)
from simulations.artifacts.listening import Detecting
from simulations.artifacts.loaded_run import FinishedRun, card_of, held_out_clips, run_of
from simulations.results.run_folder import RunFolder, read
from simulations.run.runner import simulate
from tflite_export import publishing
from tflite_export.converter import Converter

FORMATS = ("float", "streaming", "personal", "adapter")

AT_HALF = Detecting(rules=ListeningRules(), threshold=0.5, origin="asked for")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run with everything that a run exports by itself."""
    return shutil.copytree(tiny_run(), tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(autouse=True)
def one_cache(monkeypatch):
    monkeypatch.setenv("FEDSPEECH_CACHE", str(cache()))


@pytest.mark.export
def test_a_run_exports_what_equals_its_model_and_its_summary_says_so(run):
    summary = read(run).summary
    assert tuple(found.kind for found in summary.export_family) == FORMATS
    assert summary.export.argmax_agreement == 1.0
    assert summary.export_refused is None
    for found in summary.export_family:
        assert (run / "export" / found.file).stat().st_size == found.size_bytes
    report = (run / "report.html").read_text()
    assert "model_personal.tflite" in report
    assert summary.listening.file == "model_streaming.tflite"
    assert summary.listening.hours == pytest.approx(0.1)
    assert "While it listens" in report


@pytest.mark.slow
def test_a_run_whose_conversions_die_is_whole_and_says_of_what(tmp_path, monkeypatch, capsys):
    dead = functools.partial(Converter, "no_such_module")
    monkeypatch.setattr(publishing, "Converter", dead)
    folder = simulate(
        tiny_scenario("export.at_end=true"), out=tmp_path / "run", workers=1, cache=cache()
    )
    summary = read(folder).summary
    assert (summary.status, summary.stopped, summary.export) == ("complete", None, None)
    made = [found.kind for found in summary.export_family if found.size_bytes]
    assert made == ["adapter"], "it needs no conversion"
    report = (folder / "report.html").read_text()
    for text in (summary.export_refused, capsys.readouterr().out, report):
        assert "the process that converts ended with status 1" in text


def test_a_run_of_a_task_without_files_says_so_in_its_summary():
    built = SimpleNamespace(task=SimpleNamespace(name="tones"), base=None)
    found = exporting.export_files(None, built, None, None, None, None)
    assert found["export"] is None
    assert found["export_family"] == ()
    assert "none of 'tones'" in found["export_refused"]


def test_recordings_cannot_calibrate_files_of_sentences():
    voices = SimpleNamespace(task=SimpleNamespace(name="asr"))
    base = Base.load(sentence_base_path())
    run = FinishedRun(folder=None, scenario=None, summary=None, base=base, voices=voices, job=None)
    with pytest.raises(ArgumentRefused, match=r"`calibration`: .* not on recordings; leave it out"):
        run.family(None, recordings=Path("recordings"))


@pytest.mark.export
@pytest.mark.parametrize(("moved", "stage"), [(0.0, "base"), (0.01, "federated")])
def test_a_run_that_ships_its_base_exports_files_that_say_so(run, tmp_path, moved, stage):
    trained, card = FinishedRun.open(run).trained()
    assert (card.stage == "base") == (read(run).summary.adapter_rounds == 0)
    copy, base, adapter = tmp_path / "run", trained.base, trained.adapter
    shutil.copytree(run, copy)
    start = adapter.initial(base.head_weight, base.head_bias)
    shape = AdapterShape.of(base, adapter.name, len(base.head_bias))
    save_adapter(
        RunFolder(copy).adapter, shape, {name: value + moved for name, value in start.items()},
        base_sha256=base.sha256, vocabulary=base.vocabulary, rounds=0,
    )  # fmt: skip
    export = exporting.export_run(copy, tmp_path / "files", formats=["adapter"])
    assert f"stage: {stage}, " in str(export)
    written = json.loads((tmp_path / "files" / "card.json").read_text())
    inside = card_of(tmp_path / "files" / "adapter.safetensors")
    assert written["stage"] == inside["stage"] == stage
    text = (tmp_path / "files" / "card.md").read_text()
    assert ("BASE: nothing that phones trained" in text) == (stage == "base")


@pytest.mark.export
def test_nothing_is_said_of_recordings_on_which_the_run_was_not_made(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    summary = json.loads((copy / "summary.json").read_text())
    assert summary["recordings_sha256"] == FinishedRun.open(run).voices.sha256
    summary["recordings_sha256"] = "1" * 64
    (copy / "summary.json").write_text(json.dumps(summary))
    for command in (
        lambda: exporting.export_run(copy, None, formats=["adapter"]),
        lambda: exporting.verify_file(copy / "export" / "model_float.tflite", None),
        lambda: on_device_round.check_round(copy / "export" / "model_personal.tflite", None),
        lambda: benchmarking.benchmark_file(copy / "export" / "model_float.tflite", None),
    ):
        with pytest.raises(FedspeechError, match="holds other recordings than"):
            command()


def test_what_spots_words_refuses_a_run_of_sentences():
    base = Base.load(sentence_base_path())
    run = FinishedRun(folder=None, scenario=None, summary=None, base=base, voices=None, job=None)
    with pytest.raises(ScenarioError, match="benchmark takes files that spot words"):
        run.require_words("benchmark")


@pytest.mark.export
@pytest.mark.parametrize("kind", ["float", "streaming", "personal"])
def test_every_file_verifies_from_the_folder_alone(run, kind):
    said = str(exporting.verify_file(run / "export" / f"model_{kind}.tflite", None))
    assert f"({kind}): passed" in said
    assert "builtin operators only" in said


@pytest.mark.export
def test_a_file_that_was_changed_does_not_verify(run, tmp_path):
    file = tmp_path / "model_float.tflite"
    content = bytearray((run / "export" / "model_float.tflite").read_bytes())
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(FedspeechError, match="lies in no run folder"):
        exporting.verify_file(file, None)
    with pytest.raises(ExportRefused, match="LiteRT cannot read"):
        exporting.verify_file(file, run)
    file.write_bytes(bytes(content) + b"\0")
    with pytest.raises(ExportRefused, match="SHA-256 that the card does not list"):
        exporting.verify_file(file, run)


@pytest.mark.export
def test_a_later_export_goes_into_summary_and_report(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "export" / "model_personal.tflite").write_bytes(b"not what was published")
    said = str(exporting.export_run(copy, None, formats=["fp16", "adapter"]))
    summary = read(copy).summary
    kinds = {found.kind: found for found in summary.export_family}
    assert set(kinds) == {"float", "fp16", "streaming", "adapter"}
    assert kinds["fp16"].accuracy_drop is not None
    assert summary.export == read(run).summary.export
    assert (copy / "export" / "model_streaming.tflite").exists(), "of the same model"
    assert not (copy / "export" / "model_personal.tflite").exists(), "changed since"
    assert "model_fp16.tflite" in (copy / "report.html").read_text()
    assert "model_fp16.tflite" in said


@pytest.mark.export
def test_a_phones_own_adapter_is_exported_apart_and_says_that_it_is_personal(run, capsys):
    phone = FinishedRun.open(run).voices.partition.held_out[0].phone_id
    exporting.export_run(run, None, adapter=phone, formats=["float", "adapter"])
    file = run / "export" / phone / "model_float.tflite"
    card = card_of(file)
    assert card["phone"] == phone
    assert card["notices"][0].startswith("PERSONAL")
    assert card["metrics"][0]["segment"] == "phone"
    assert card["adapter"] != card_of(run / "export" / "model_float.tflite")["adapter"]
    exporting.verify_file(file, None)
    summary = read(run).summary
    assert tuple(found.kind for found in summary.export_family) == FORMATS, "the run's own stays"
    with pytest.raises(ScenarioError, match="`adapter` is global or one of the 3 held-out phones"):
        exporting.export_run(run, None, adapter="nobody")


@pytest.mark.export
def test_benchmark_gives_a_table_and_json(run):
    found = benchmarking.benchmark_file(run / "export" / "model_streaming.tflite", None).record()
    assert json.dumps(found)
    (timing,) = found["timings"]
    assert timing["what"] == "hop"
    assert 0 < timing["p50_ms"] <= timing["p95_ms"]
    assert timing["real_time_factor"] == pytest.approx(timing["p95_ms"] / 20)
    assert found["size_bytes"] == (run / "export" / "model_streaming.tflite").stat().st_size
    timings = benchmarking.benchmark_file(run / "export" / "model_personal.tflite", None)
    assert "train, 16 clips" in str(timings)
    with pytest.raises(ExportRefused):
        benchmarking.benchmark_file(run / "export" / "adapter.safetensors", None)


@pytest.mark.export
def test_phones_of_the_run_train_in_the_file_and_give_torchs_deltas(run):
    found = on_device_round.check_round(run / "export" / "model_personal.tflite", None).record()
    assert found["largest_delta_difference"] <= 1e-5
    assert set(found) == {
        "largest_delta_difference", "integers_changed", "example_epsilon", "example_delta",
        "example_clip_norm", "example_noise_multiplier", "clip_norm",
    }, "nothing of a cohort: no size, no norm"  # fmt: skip
    assert found["integers_changed"] < 0.05
    assert 0 < found["example_epsilon"] < 100
    with pytest.raises(ExportRefused, match="signature train_dp"):
        on_device_round.check_round(run / "export" / "model_float.tflite", None)


@pytest.mark.export
def test_listening_prints_detections_with_times(run, tmp_path):
    phone = FinishedRun.open(run).voices
    clips = [clip for one in phone.partition.held_out for clip in one.utterances][:6]
    gap = np.zeros((len(clips), 16_000), np.float32)
    sound = np.concatenate([gap, phone.corpus.waveforms(clips)], axis=1).reshape(-1)
    soundfile.write(tmp_path / "words.wav", sound, 16_000)
    file = run / "export" / "model_streaming.tflite"
    heard = listening.listen_to(file, tmp_path / "words.wav", AT_HALF)
    lines = str(heard).splitlines()
    assert "detections in 12.00 s" in lines[-1]
    times = [float(line.split()[0]) for line in lines[:-1]]
    assert times
    assert times == sorted(times)
    assert 1.0 < times[0] <= 12.0
    with pytest.raises(
        ExportRefused, match=r"whole clips; beside it lies .*model_streaming\.tflite"
    ):
        listening.listen_to(run / "export" / "model_float.tflite", tmp_path / "words.wav", AT_HALF)


@pytest.mark.export
def test_errors_are_counted_on_synthesized_sound_and_on_folders(run, tmp_path):
    file = run / "export" / "model_streaming.tflite"

    def evaluate(**options):
        values = {"folder": None, "hours": None, "seed": 0}
        values |= {"out": tmp_path / "det.svg", "detecting": AT_HALF} | options
        return json.loads(json.dumps(stream_evaluation.evaluate(file, **values).record()))

    found = evaluate(hours=0.01)
    point = found["points"][0]
    assert point["hours"] == pytest.approx(0.01, abs=0.004)
    assert point["keywords"] == 6
    low, high = point["false_accepts_interval"]
    assert low <= point["false_accepts_per_hour"] <= high
    assert set(found["parts"]) <= {"speech", "near misses", "noise", "music"}
    assert sum(part["false_accepts"] for part in found["parts"].values()) == point["false_accepts"]
    assert (tmp_path / "det.svg").read_text().startswith("<svg")

    noise = tmp_path / "quiet"
    noise.mkdir()
    soundfile.write(noise / "room.wav", 1e-3 * np.random.default_rng(0).random(32_000), 16_000)
    point = evaluate(folder=noise)["points"][0]
    assert point["hours"] == pytest.approx(2 / 3600)
    assert point["keywords"] == 0
    with pytest.raises(ScenarioError, match="above 0"):
        evaluate(hours=0.0)


@pytest.mark.export
def test_what_cannot_be_listened_to_is_named(run, tmp_path):
    file = run / "export" / "model_streaming.tflite"
    (tmp_path / "torn.wav").write_bytes(b"RIFF")
    with pytest.raises(FedspeechError, match=r"torn\.wav cannot be listened to"):
        listening.listen_to(file, tmp_path / "torn.wav", AT_HALF)
    with pytest.raises(FedspeechError, match=r"absent\.wav cannot be listened to"):
        listening.listen_to(file, tmp_path / "absent.wav", AT_HALF)


@pytest.mark.export
def test_held_out_clips_are_of_every_held_out_phone_alike(run):
    finished = FinishedRun.open(run)
    base, voices = finished.base, finished.voices
    few = held_out_clips(base, voices, 6)
    names = {phone.phone_id for phone in voices.partition.held_out}
    assert set(few.users) == names
    assert len(few.labels) == 6
    whole = held_out_clips(base, voices)
    assert len(whole.labels) == sum(len(phone.utterances) for phone in voices.partition.held_out)
    assert run_of(run / "export" / "card.json") == run.resolve()
