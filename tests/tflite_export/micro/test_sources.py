"""The front end in C against the one of training, and the C++ that ties it to the model."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fedspeech.audio.spec import FrontendSpec
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.evaluation.streaming import Detector, ListeningRules, OperatingPoint
from fedspeech.seeds import stream
from tflite_export.evidence import log_mel
from tflite_export.micro.sources import (
    MicroFile,
    micro_sources,
    number,
    resolver_calls,
)  # fmt: skip

ROOT = Path(__file__).parents[3]
SPEC = FrontendSpec()
SCALE, ZERO_POINT = 0.0722, 127
LABELS = ("yes", 'a "b"', "_unknown_", "_silence_")
# No number of it is a default, and the second word's threshold is the lower one.
RECIPE = DetectionRecipe(
    rules=ListeningRules(smoothing_hops=5, cooldown_hops=25, patience_hops=10, offsets=(0, -1.5)),
    threshold=0.7, hop_ms=80, rate=0.5, streams="none",
    found=OperatingPoint(threshold=0.7, false_accepts=0, hours=1, rejected=0, keywords=1),
)  # fmt: skip
LISTENING = """
#include <cstdio>
#include <vector>
// What detects is reached without an interpreter.
#define private public
#include "listener.cc"
tflite::MicroInterpreter::~MicroInterpreter() {}
int main() {
  static fedspeech::Listener listener;
  float logits[fedspeech::kNumLabels];
  while (fread(logits, sizeof logits, 1, stdin) == 1) {
    listener.Score(logits);
    printf("%d\\n", listener.Detected());
  }
}
"""
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wno-sign-conversion", "-Werror")


@pytest.fixture(scope="module")
def sources(make_file, tmp_path_factory):
    """Folder with every source of a stand-in for a model."""
    file = MicroFile(
        content=make_file(), frames=4, scale=SCALE, zero_point=ZERO_POINT, resource_variables=8,
        arena_bytes=22_336,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sources")
    for name, text in micro_sources(file, SPEC, LABELS, RECIPE).items():
        (folder / name).write_bytes(text)
    return folder


def compiled(folder, *arguments):
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    command = ["gcc", "-std=c99", "-O2", *WARNINGS, "front_end.c", *arguments, "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def front_end(sources):
    """Samples (n,), int16 -> log-mel and integers, both (hops, mels), by the C."""
    compiled(sources, "-shared", "-fPIC", "-o", "front_end.so")
    library = ctypes.CDLL(str(sources / "front_end.so"))

    def run(samples):
        state = ctypes.create_string_buffer(1 << 13)
        library.fedspeech_front_end_reset(state)
        hops = samples.astype(np.int16).reshape(-1, SPEC.hop_samples)
        values = np.zeros((len(hops), SPEC.num_mels), np.float32)
        integers = np.zeros(values.shape, np.int8)
        for hop, value, integer in zip(hops, values, integers, strict=True):
            library.fedspeech_front_end_hop(state, hop.ctypes, value.ctypes)
            library.fedspeech_quantize(value.ctypes, integer.ctypes)
        return values, integers

    return run


def sounds():
    rng, seconds = stream(0, "sounds for C"), np.arange(16_000) / 16_000
    glide = np.sin(2 * np.pi * (100 + 3_700 * seconds) * seconds)
    return {
        "silence": np.zeros(16_000),
        "loud noise": rng.uniform(-32_768, 32_767, 16_000),
        "hiss": rng.normal(0, 2, 16_000),
        "glide": 20_000 * glide,
        "square at full scale": np.where(glide > 0, 32_767, -32_768),
        "clicks": 30_000.0 * (rng.random(16_000) < 1e-3),
        "quiet tone": 3 * np.sin(2 * np.pi * 440 * seconds),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sounds())
def test_c_computes_the_features_of_training_within_one_step(front_end, name):
    samples = np.round(sounds()[name]).astype(np.int16)
    waveform = np.pad(samples, (SPEC.window_samples - SPEC.hop_samples, 0)) / np.float32(2**15)
    expected = log_mel(SPEC, waveform.astype(np.float32)[np.newaxis])[0]
    found, integers = front_end(samples)
    assert np.abs(found - expected).max() < 5e-3 * SCALE / 0.0722
    whole = np.clip(np.round(expected / np.float32(SCALE)) + ZERO_POINT, -128, 127)
    steps = np.abs(integers.astype(int) - whole)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.01


@pytest.mark.slow
def test_the_golden_vectors_run_and_tell_another_window_apart(sources, tmp_path):
    compiled(sources, "front_end_test.c", "-o", "front_end_test")
    done = subprocess.run([sources / "front_end_test"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("largest difference ")
    broken = tmp_path / "broken"
    shutil.copytree(sources, broken)
    code = (broken / "front_end.c").read_text()
    loop = "for (int i = 0; i < kept; i++) work[i] = (float)front_end->past[i]"
    assert loop in code
    (broken / "front_end.c").write_text(code.replace(loop, loop.replace("past[i]", "past[0]")))
    compiled(broken, "front_end_test.c", "-o", "front_end_test")
    assert subprocess.run([broken / "front_end_test"], capture_output=True, check=False).returncode


@pytest.mark.slow
def test_the_listener_compiles_against_the_runtime_that_it_names(sources):
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    # The runtime's own headers come in no package; these declare what the listener uses of them.
    stand_in = ROOT / "tests" / "support" / "tflm_headers"
    command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{stand_in}"]
    done = subprocess.run(
        [*command, "listener.cc"], cwd=sources, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_listener_detects_what_the_recipe_of_the_card_detects(sources, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    (tmp_path / "main.cc").write_text(LISTENING)
    headers = [f"-I{ROOT / 'tests' / 'support' / 'tflm_headers'}", f"-I{sources}"]
    # What is never called is dropped before it would be linked to the runtime.
    unlinked = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
    command = ["g++", "-std=c++17", *headers, "main.cc", "-o", "main", *unlinked]
    subprocess.run(command, cwd=tmp_path, check=True)
    rng = stream(0, "logits for C++")
    said = np.cumsum(rng.normal(0, 0.7, (2_000, 4)), axis=0)
    logits = (said - 0.9 * said.mean(axis=0)).astype(np.float32) / 4
    # Until as many answers as are averaged, the board is silent and Python is not.
    logits[: RECIPE.rules.smoothing_hops] = (-9, -9, 9, 9)
    done = subprocess.run(
        [tmp_path / "main"], input=logits.tobytes(), capture_output=True, check=True
    )
    found = np.array(done.stdout.split(), dtype=int)
    (marks,), words, _ = Detector(RECIPE.rules, np.array([RECIPE.threshold])).feed(logits)
    assert len(set(words[marks])) == 2, "each word is detected somewhere"
    np.testing.assert_array_equal(found, np.where(marks, words, -1))


def test_without_a_recipe_durations_and_threshold_are_the_defaults(make_file):
    file = MicroFile(
        content=make_file(), frames=4, scale=SCALE, zero_point=ZERO_POINT, resource_variables=8,
        arena_bytes=22_336,
    )  # fmt: skip
    written = micro_sources(file, SPEC, LABELS, None)
    assert b"kSmoothed = 3;" in written["listener.h"]
    assert b"kCooldown = 13;" in written["listener.h"]
    assert written["listener.cc"].count(b"1.38629436f") == 2  # the log-odds of 0.8
    assert b"no recipe in card.json" in written["listener.cc"]


def test_the_front_end_is_short_and_allocates_nothing(sources):
    code = (sources / "front_end.h").read_text() + (sources / "front_end.c").read_text()
    assert code.count("\n") <= 300
    assert not re.search(r"\b(malloc|calloc|realloc|free|alloca)\b", code)


def test_the_model_header_says_what_the_runtime_needs(sources):
    header = (sources / "model_micro.h").read_text()
    assert "kFramesPerCall = 4;" in header
    assert "kResourceVariables = 8;" in header
    assert "kArenaBytes = 22528;" in header
    assert '"a \\"b\\"",' in header


def test_every_operator_is_added_by_its_own_call(sources):
    names = {"CONV_2D": 1, "CALL_ONCE": 1, "FULLY_CONNECTED": 2, "DEPTHWISE_CONV_2D": 1}
    assert resolver_calls(names) == [
        "AddConv2D", "AddCallOnce", "AddFullyConnected", "AddDepthwiseConv2D"
    ]  # fmt: skip
    code = (sources / "listener.cc").read_text()
    assert "MicroMutableOpResolver<2>" in code
    assert "resolver->AddAdd()" in code
    assert "resolver->AddRelu()" in code


@pytest.mark.parametrize(
    ("value", "written"), [(1.0, "1.0f"), (-3.0, "-3.0f"), (1e-8, "1e-08f"), (0.1, "0.1f")]
)
def test_numbers_are_written_as_floats_of_c(value, written):
    assert number(value) == written
