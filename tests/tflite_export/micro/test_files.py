"""The file for microcontrollers, run in TensorFlow Lite Micro, and its negative controls."""

import dataclasses
import json
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("tflite_micro", reason="wheels for Linux x86-64 alone: pip install '.[micro]'")

from fedspeech.errors import ExportRefused
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.evaluation.streaming import ListeningRules, OperatingPoint
from fedspeech.seeds import stream
from tflite_export.converter import Converter
from tflite_export.files import from_c_array
from tflite_export.flatbuffer import card_bytes, float_weights, operators
from tflite_export.keywords import FILES, MICRO_ARRAY, KeywordFamily
from tflite_export.micro.listening import MicroListener
from tflite_export.micro.runtime import MicroModel, measured
from tflite_export.micro.sources import SOURCES
from tflite_export.publishing import export_family
from tflite_export.verification import verify, verify_content

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def card(shipped, make_card):
    return make_card(shipped)


@pytest.fixture(scope="module")
def exported(keywords, card, tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro")
    found = export_family(keywords, card, ["micro"], folder=folder)
    assert found.refused == {}
    return found


@pytest.fixture(scope="module")
def content(exported):
    return (exported.folder / FILES["micro"]).read_bytes()


@pytest.fixture
def make_broken(keywords, card):
    """Name of a fault -> the file that a graph with it makes."""

    def make(broken):
        with pytest.MonkeyPatch.context() as patch, Converter("broken_graphs") as converter:
            patch.setenv("BROKEN_GRAPH", broken)
            return keywords.make("micro", card, converter)

    return make


def test_the_file_passes_in_both_runtimes_and_its_sources_stand_beside_it(exported, keywords):
    (found,) = exported.verified
    figures = {check.name: check.figure for check in found.checks}
    assert figures["restart, outputs changed"] == figures["forgetting, outputs changed"] == 0
    assert figures["arena of just that size, outputs changed"] == 0
    assert figures["listening, same answer"] >= 0.95
    assert {"LiteRT agreement", "TFLM agreement"} <= set(figures)
    names = {path.name for path in exported.folder.iterdir()}
    assert {FILES["micro"], MICRO_ARRAY, *SOURCES} <= names
    assert verify(exported.folder / FILES["micro"], keywords) == found


def test_all_state_and_arithmetic_are_integers(content, shipped):
    assert float_weights(content) == shipped.parameters["head_weight"].size
    counts = operators(content)
    assert counts["DEQUANTIZE"] == 1, "of the mean, before the head"
    assert "QUANTIZE" not in counts
    assert not set(counts) & {"RFFT2D", "LOG", "GATHER", "SPACE_TO_BATCH_ND"}


def test_the_card_says_what_the_board_needs(exported, content):
    entry = json.loads((exported.folder / "card.json").read_text())["files"][FILES["micro"]]
    assert entry["arena_bytes"] == measured(content).arena_bytes
    assert entry["multiply_adds_per_second"] > 1e6
    assert entry["operators"] == operators(content)
    assert "on a microcontroller" in (exported.folder / "card.md").read_text()


def test_the_array_in_c_is_the_file(exported, content):
    assert from_c_array((exported.folder / MICRO_ARRAY).read_text()) == content
    assert card_bytes(content) < 12_000


def test_the_golden_vectors_of_the_file_pass(exported, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    program = tmp_path / "golden"
    sources = [exported.folder / name for name in ("front_end.c", "front_end_test.c")]
    subprocess.run(["gcc", "-std=c99", "-O2", *sources, "-lm", "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0


def test_a_stream_in_blocks_is_heard_as_the_whole_and_a_reset_forgets(content, card):
    listener = MicroListener(content)
    assert listener.labels == card.labels
    assert listener.spec.hop_ms == 80
    sound = stream(0, "stream for a board").normal(0, 0.1, 40_000).astype(np.float32)
    whole = listener.feed(sound)
    listener.reset()
    blocks = np.split(sound, [100, 1_280, 1_281, 20_000])
    np.testing.assert_array_equal(np.concatenate([listener.feed(b) for b in blocks]), whole)
    assert whole.shape == (40_000 // 1_280, len(card.labels))


def test_the_listener_has_the_recipe_that_the_card_says(keywords, card, tmp_path):
    offsets = (0, -1, *[0] * (len(card.labels) - 4))
    rules = ListeningRules(smoothing_hops=2, cooldown_hops=11, offsets=offsets)
    found = OperatingPoint(threshold=0.9, false_accepts=0, hours=1, rejected=0, keywords=1)
    recipe = DetectionRecipe(
        rules=rules, threshold=0.9, hop_ms=80, rate=0.5, found=found, streams="none"
    )
    written = recipe.to_json(card.labels)
    export_family(keywords, card, ["micro"], folder=tmp_path, detection=lambda _: written)
    files = json.loads((tmp_path / "card.json").read_text())["files"]
    assert files[FILES["micro"]]["detection"]["cooldown_hops"] == 11
    assert "kCooldown = 11;" in (tmp_path / "listener.h").read_text()
    assert "1.19722" in (tmp_path / "listener.cc").read_text()  # logit(0.9) - 1


def test_a_smaller_arena_or_a_torn_file_is_refused(content):
    least = measured(content).arena_bytes
    MicroModel(content, least)
    with pytest.raises(ExportRefused, match="TensorFlow Lite Micro refuses"):
        MicroModel(content, least - 16)


def test_an_input_of_another_shape_or_type_is_refused(content):
    model = MicroModel(content)
    shape, *_ = model.input
    for wrong in (np.zeros(shape, np.float32), np.zeros((*shape, 1), np.int8)):
        with pytest.raises(ValueError, match="expected"):
            model.run(wrong)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("a_microcontroller_that_begins_in_zeros", "start, largest difference"),
        ("a_microcontroller_that_hears_the_first_of_every_stride", "agreement"),
        (
            "a_microcontroller_that_remembers_half_a_clip",
            "largest difference of a logit from torch",
        ),
        ("a_microcontroller_that_forgets_the_oldest_of_thirteen", "the oldest call in reach"),
    ],
)
def test_a_stream_with_a_fault_is_refused(make_broken, keywords, fault, check):
    with pytest.raises(ExportRefused, match=check):
        verify_content(make_broken(fault), FILES["micro"], keywords)


def test_calibration_on_noise_is_refused(evidence, calibration, card, tmp_path):
    rng = np.random.default_rng(0)
    noise = (0.01 * rng.standard_normal(calibration.waveforms.shape)).astype(np.float32)
    family = KeywordFamily(evidence, lambda: dataclasses.replace(calibration, waveforms=noise))
    with pytest.raises(ExportRefused, match=r"agreement|accuracy"):
        export_family(family, card, ["micro"], folder=tmp_path / "x")


def test_without_its_interpreter_the_file_is_refused_and_the_others_are_made(
    keywords, card, tmp_path, monkeypatch
):
    monkeypatch.setattr("tflite_export.family.lacking", lambda name: f"{name} is not here")
    found = export_family(keywords, card, ["micro", "adapter"], folder=tmp_path)
    assert found.refused == {"micro": "micro: micro is not here"}
    assert [entry.kind for entry in found.verified] == ["adapter"]
