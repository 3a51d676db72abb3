"""A conversion has a process of its own, and what becomes of it is one sentence."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.interpreter import TfliteModel
from tflite_export.weights import network


@pytest.fixture
def blueprint(make_trained):
    arrays = network(make_trained("head"))
    return lambda graph: Blueprint(graph=graph, network=arrays, batch_clips=8)


def process_of(content):
    return int(re.search(rb"process (\d+)", content)[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ("keyword", "the process that converts died of SIGSEGV"),
        ("streaming", "was killed, as happens where memory runs out, at the float graph"),
        ("firmware", r"ended with status 1 \(ValueError: no graph is known for the adapter 'lora'"),
    ],
)
def test_a_process_that_dies_refuses_one_file_and_the_next_gets_a_new_one(blueprint, graph, words):
    with Converter("dying_converter") as converter:
        before = process_of(converter.convert(blueprint("personal")))
        with pytest.raises(ExportRefused, match=f"conversion: .*{words}") as refused:
            converter.convert(blueprint(graph))
        after = process_of(converter.convert(blueprint("personal")))
    assert repr(graph) in str(refused.value)
    assert "fedspeech doctor" in str(refused.value)
    assert before != after
    assert converter.cpu_seconds == 1.0


def test_one_process_serves_all_files_and_ends_with_the_export(blueprint):
    with Converter("dying_converter") as converter:
        served = {process_of(converter.convert(blueprint("personal"))) for _ in range(3)}
    (number,) = served
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_nothing_of_the_process_stays_among_temporary_files(blueprint):
    with Converter("dying_converter") as converter:
        left = Path(
            re.search(rb"leaves (.+)", converter.convert(blueprint("personal")))[1].decode()
        )
        assert left.exists()
    assert not left.exists()


def test_a_process_that_never_starts_is_a_refusal(blueprint):
    with (
        Converter("no_such_module") as converter,
        pytest.raises(ExportRefused, match=r"status 1 \(.*No module named no_such_module"),
    ):
        converter.convert(blueprint("keyword"))


def test_files_in_the_current_folder_are_not_taken_for_modules(blueprint, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    with Converter("dying_converter") as converter:
        assert b"holds []" in converter.convert(blueprint("personal"))


@pytest.mark.export
def test_a_file_is_made_beside_torch_and_triton(blueprint, clips):
    pytest.importorskip("triton", reason="torch brings it on Linux x86-64 only")
    with Converter() as converter:
        model = TfliteModel(converter.convert(blueprint("keyword")))
        again = TfliteModel(converter.convert(blueprint("keyword")))
    logits = model.run_each("waveform", clips[:4])
    np.testing.assert_array_equal(logits, again.run_each("waveform", clips[:4]))
    assert converter.cpu_seconds > 0
