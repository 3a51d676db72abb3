"""The command that says what masks cost."""

import json
import subprocess
import sys

import pytest

FEDSPEECH = [sys.executable, "-c", "import sys; from simulations.cli import main; sys.exit(main())"]


def bench(*options):
    return subprocess.run(
        [*FEDSPEECH, "secagg", "bench", *options], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_bench_prints_what_a_masked_sum_costs_as_json():
    done = bench(
        "--phones", "12", "--dimension", "40", "--bits", "24", "--dropout", "0.25", "--json"
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert (cost["phones"], cost["dropped"], cost["reporting"]) == (12, 3, 11)
    assert (cost["neighbors"], cost["threshold"], cost["quorum"]) == (11, 7, 7)
    assert cost["cpu_seconds"] > 0
    assert cost["primitives_cpu_seconds"] == pytest.approx(sum(cost["primitives"].values()))
    assert cost["ratio"] == pytest.approx(cost["cpu_seconds"] / cost["primitives_cpu_seconds"])
    assert cost["bytes_per_phone"]["mask"]["sent"] == 40 * 3 + 64
    assert list(cost["bytes_per_phone"]) == ["advertise", "share", "mask", "agree", "unmask"]


@pytest.mark.slow
def test_bench_is_readable_and_compares_with_sharing_nothing():
    done = bench("--phones", "5", "--dimension", "8", "--dropout", "0", "--unshared")
    assert done.returncode == 0, done.stderr
    assert "5 phones, 0 vanish" in done.stdout
    assert "the sum of 5 reporting phones is exact" in done.stdout
    assert "with every computation where it is asked" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--threat-model", "kind"], "--threat-model must be malicious or semi_honest, got kind"),
        (["--threat-model", "lying"], "lying is now malicious"),
        (["--phones", "20", "--colluders", "19"], "no session of this kind"),
        (["--phones", "20", "--dropout", "0.9"], "no session of this kind"),
        (["--phones", "1"], "--phones"),
    ],
)
def test_bench_refuses_what_has_no_session(options, words):
    done = bench(*options)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
