"""The audit of a plan: what it prints, what it refuses, what it ends with."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner

import fedspeech as fs
from fedspeech.audits import canaries, many_canaries
from fedspeech.audits.games import Finding
from fedspeech.audits.lower_bounds import LowerBound
from simulations.cli import app

BOUND = LowerBound(epsilon=1.23456, confidence=0.99, observations=10, reach=5.0, says="so often")
FOUND = Finding(
    game="a game", observer="server", rounds=1, runs=10, relation="zero-out", claimed=3.00001,
    delta=1e-5, bound=BOUND,
)  # fmt: skip


CANARIES = ("canaries",)


@pytest.fixture
def played(monkeypatch):
    """Games that find what the test says, without a round."""
    findings = [FOUND]

    def play(plan, observer, entropy, *, runs, confidence, tell):
        tell(runs)
        return findings[-1]

    for game in (canaries, many_canaries):
        monkeypatch.setattr(game, "play", play)
    return findings


def test_claims_are_rounded_up_and_bounds_down(played):
    said = str(fs.audit("quick", attacks=CANARIES, runs=100, progress=False))
    assert "3.001" in said
    assert "1.234" in said
    assert "stands" in said
    assert "is not privacy" in said


def test_a_disproven_claim_ends_with_an_error(played):
    played.append(dataclasses.replace(FOUND, bound=dataclasses.replace(BOUND, epsilon=3.1)))
    found = CliRunner().invoke(
        app, ["audit", "-s", "quick", "--attacks", "canaries", "--runs", "100"]
    )
    assert found.exit_code == 3
    assert found.stdout.index("CLAIM VIOLATED") < found.stdout.index("DISPROVEN")
    assert "DISPROVEN" in found.output


def test_json_is_one_object_and_nothing_else(played):
    found = CliRunner().invoke(
        app, ["audit", "-s", "quick", "--attacks", "canaries", "--runs", "100", "--json"]
    )
    assert json.loads(found.stdout)["findings"][0]["claimed"] == 3.00001


def test_too_few_runs_are_said_to_prove_little(played):
    played.append(dataclasses.replace(FOUND, bound=dataclasses.replace(BOUND, reach=2.0)))
    assert "So few runs could show 2.000 at most" in str(
        fs.audit("quick", attacks=CANARIES, runs=100, progress=False)
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"runs": 99}, "`runs` must be 100"),
        ({"confidence": 1.0}, "`confidence` must be"),
        ({"confidence": float("nan")}, "`confidence` must be"),
        ({"rounds": 9}, "`rounds` must be 1 to 8"),
        ({"rounds": 0}, "`rounds` must be 1 to 8"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, said):
    with pytest.raises(fs.ArgumentRefused, match=said):
        fs.audit("quick", **settings)


def test_an_unknown_attack_is_refused_with_those_that_there_are():
    with pytest.raises(fs.ArgumentRefused, match=r"canaries, speaker, link.*got 'speakers'"):
        fs.audit("quick", attacks=["speakers"])


@pytest.mark.parametrize("arguments", [[], ["a-run", "-s", "quick"]])
def test_a_run_or_a_scenario_is_asked_for(arguments):
    with pytest.raises(fs.ScenarioError, match="one of them"):
        CliRunner().invoke(
            app, ["audit", *arguments], catch_exceptions=False, standalone_mode=False
        )


@pytest.mark.slow
def test_quick_stands():
    found = fs.audit("quick", attacks=CANARIES, runs=100, seed=1, progress=False)
    assert not found.broken
    assert {finding.observer for finding in found.findings} == {"release", "server"}
    assert found.record()["findings"][0]["bound"]["confidence"] == 0.99
