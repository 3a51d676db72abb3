"""The table of a real base says what summaries say, stage by stage."""

import pytest

from benchmarks.real_base import FIGURES, STAGES, table


def row(seed, shift=0.0):
    found = {f"{stage} {key}": 90.0 + shift for stage in STAGES for key in (*FIGURES, "worst")}
    found |= {f"{stage} error": 9.0 + shift for stage in STAGES}
    found |= {f"{stage} {what}": 5.0 for stage in STAGES[1:] for what in ("worse", "chance")}
    return found | {
        "seed": seed, "start": "federated", "phones": 75, "held_out": 36, "non_words": "600 clips",
        "measure": "false rejects at 5 % false accepts", "1 shots": 91.0, "2 shots": 92.0 + shift,
        "epsilon_release": 29.0, "relation_release": "zero-out", "epsilon_server": 29.0,
        "relation_server": "zero-out", "delta": 1e-3,
    }  # fmt: skip


def test_each_cell_is_a_mean_over_seeds():
    said = table({0.0: [row(1), row(2, 1.0)], 1.0: [row(1), row(2)]})
    assert "| z = 0 | z = 1 |" in said
    assert "90.5 / 90.5 / 90.5 / 90.5 | 90.0 / 90.0 / 90.0 / 90.0" in said
    assert "91.0 / 92.5 | 91.0 / 92.0" in said
    assert "29.0, zero-out" in said
    assert "75 phones federate, 36 are held out; 600 clips; delta 1.0e-03; seeds 1, 2." in said


@pytest.mark.parametrize("label", FIGURES.values())
def test_every_headline_stands_at_every_stage(label):
    assert f"| {label}: base, federated, personalized, control |" in table({0.0: [row(1)]})
