"""Whoever waits sees what is waited for, in a terminal and without one."""

import io

from rich.console import Console

from simulations.progress import RunProgress


def test_every_file_of_an_export_is_named_before_it_is_made():
    out = io.StringIO()
    with RunProgress(Console(file=out, width=80)) as progress, progress.stage("export", 9):
        progress.file("model_float.tflite", 0, 9, "conversion")
        progress.file("model_float.tflite", 0, 9, "every logit")
        progress.file("model_int8.cc", 8, 9, "conversion")
    lines = out.getvalue().splitlines()
    assert lines[:3] == [
        "export ...",
        "  export: model_float.tflite, 1 of 9",
        "  export: model_int8.cc, 9 of 9",
    ]


def test_a_terminal_shows_file_and_check_beside_the_bar():
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True)
    with RunProgress(console) as progress, progress.stage("export", 9):
        progress.file("model_float.tflite", 3, 9, "every logit")
        progress._bars.refresh()
        assert "3/9" in out.getvalue()
        assert "model_float.tflite: every logit" in out.getvalue()


def test_every_part_of_a_stage_is_counted_from_its_own_beginning():
    out = io.StringIO()
    with RunProgress(Console(file=out, width=80)) as progress, progress.stage("pretrain"):
        for done in range(1, 9):
            progress.advance(done, 8, "features")
        for epoch in range(1, 5):
            progress.advance(epoch, 4, "training")
    lines = out.getvalue().splitlines()
    assert [line for line in lines if "features" in line] == [
        "  pretrain: features 1 of 8", "  pretrain: features 3 of 8", "  pretrain: features 5 of 8",
        "  pretrain: features 7 of 8",
    ]  # fmt: skip
    assert [line for line in lines if "training" in line] == [
        "  pretrain: training 1 of 4", "  pretrain: training 2 of 4", "  pretrain: training 3 of 4",
    ]  # fmt: skip
