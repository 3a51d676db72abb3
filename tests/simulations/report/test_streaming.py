"""Where a file accepts much falsely, a run says so at once, and what fewer false accepts cost."""

from simulations.report.streaming import listening_line, listening_rows
from simulations.results.exported import Listening

FOUND = Listening(
    file="model_streaming.tflite", threshold=0.8, keywords=64, rejected=16, hours=0.1,
    false_accepts=12, quiet_rate=10.0, quiet_threshold=0.9931, quiet_rejected=48,
)  # fmt: skip


def test_the_last_lines_name_the_threshold_that_is_quiet_and_what_it_misses():
    said = listening_line(FOUND)
    assert "falsely 120 times an hour at threshold 0.80, and misses 25.0 %" in said
    assert "at most 10 times: threshold 0.9931, which misses 75.0 %" in said
    none = FOUND.model_copy(update={"quiet_threshold": None, "quiet_rejected": None})
    assert listening_line(none).endswith("at most 10 times: no threshold")


def test_a_run_of_an_earlier_version_says_nothing_of_a_quieter_threshold():
    earlier = Listening(file="x", threshold=0.8, keywords=0, rejected=0, hours=0.1, false_accepts=0)
    assert listening_line(earlier).endswith("0 times an hour at threshold 0.80")
    assert [name for name, _ in listening_rows(earlier)] == ["threshold", "false accepts per hour"]
    assert list(listening_rows(None)) == []
