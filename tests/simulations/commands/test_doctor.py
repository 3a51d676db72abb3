"""The doctor passes a healthy machine, and names what is wrong without stopping."""

import functools
import io
import sys

import pytest
from rich.console import Console

from simulations.api import doctor
from tflite_export import converter


@pytest.fixture
def examine(monkeypatch, tmp_path):
    """Runs the doctor over light checks; returns its verdict and what it printed."""
    monkeypatch.setenv("FEDSPEECH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "LIBRARIES", ("numpy",))
    monkeypatch.setattr(doctor, "_file", lambda: "left out, since TensorFlow takes its time")

    def run():
        out = io.StringIO()
        found = doctor.doctor(lambda finding: finding.print(Console(file=out, width=200)))
        return found.healthy, out.getvalue()

    return run


@pytest.mark.slow
def test_a_healthy_machine_passes_every_check(examine):
    healthy, printed = examine()
    assert healthy, printed
    assert "wrong" not in printed
    for name in ("python", "cores and memory", "disk", "numpy", "base in the package",
                 "one clip, heard", "one private round", "one file, converted"):  # fmt: skip
        assert f"ok    {name}: " in printed


@pytest.mark.slow
def test_what_is_wrong_is_named_and_the_rest_is_checked_all_the_same(examine, monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("no_such_library",))
    monkeypatch.setattr(doctor, "MINIMUM_FREE_BYTES", 10**18)
    healthy, printed = examine()
    assert not healthy
    assert "wrong no_such_library: No module named 'no_such_library'" in printed
    assert "wrong disk: expected 1000000000 GB free, got" in printed
    assert "ok    one private round" in printed


@pytest.mark.slow
def test_an_extra_that_is_not_installed_is_absent_and_not_wrong(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    healthy, printed = examine()
    assert healthy, printed
    assert "absent [plots]: drawing plots needs plotly: pip install 'fedspeech[plots]'" in printed
    assert "ok    [tflite]: LiteRT installed" in printed


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_wrong(examine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDSPEECH_CACHE", str(tmp_path / "file" / "cache"))
    healthy, printed = examine()
    assert not healthy
    assert "wrong disk" in printed


@pytest.mark.slow
def test_a_conversion_that_dies_is_wrong_and_the_doctor_lives(monkeypatch):
    died = functools.partial(converter.Converter, "dying_converter")
    monkeypatch.setattr(converter, "Converter", died)
    monkeypatch.setattr(doctor, "LIBRARIES", ())
    found = doctor.doctor()
    assert not found.healthy
    assert (
        "wrong one file, converted: conversion: the process that converts died of SIGSEGV"
        in str(found)
    )


@pytest.mark.export
def test_a_conversion_is_tried_and_its_file_compared_with_torch():
    assert "KB, " in doctor._file()
