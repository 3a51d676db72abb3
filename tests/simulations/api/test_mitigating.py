"""A risk policy from Python and from the command line: the table, and the price beside it."""

import json

import pytest
from typer.testing import CliRunner

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.cli import app

pytestmark = pytest.mark.slow  # plans are priced and users simulated, again and again

POLICY = {
    "intents": {"high": ["stop"], "medium": ["on"]},
    "high": {"confirm": True},
    "medium": {"idle_threshold": 0.7},
}


@pytest.fixture(scope="module")
def found():
    return fs.mitigate(POLICY, "quick", phones=300)


def test_retraining_is_priced_by_the_scenario_s_plan(found):
    assert found.retraining.epsilon_release == fs.budget("quick").epsilon_release
    assert f"epsilon {found.retraining.epsilon_release:.1f} " in " ".join(str(found).split())


def test_the_table_compares_each_measure_with_none(found):
    record = found.record()
    assert [row["risk"] for row in record["effects"]] == ["low", *["medium"] * 2, *["high"] * 2]
    for before, after in ((1, 2), (3, 4)):
        rows = record["effects"]
        assert rows[before]["measures"] == []
        assert rows[after]["false_accepts"] < rows[before]["false_accepts"]
    assert "100%" in str(found)


def test_the_same_seed_gives_the_same_table(found):
    assert fs.mitigate(POLICY, "quick", phones=300).record() == found.record()
    assert fs.mitigate(POLICY, "quick", phones=300, seed=9).record() != found.record()


def test_what_the_product_lacks_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="open the door"):
        fs.mitigate({"intents": {"high": ["open the door"]}}, "quick", phones=1)
    with pytest.raises(ArgumentRefused, match="phones"):
        fs.mitigate(POLICY, "quick", phones=0)
    broken = tmp_path / "policy.toml"
    broken.write_text("[high")
    for file in (broken, tmp_path / "none.toml"):
        with pytest.raises(ScenarioError, match=file.name):
            fs.mitigate(file, "quick", phones=1)


def test_the_command_prints_what_the_function_returns(found, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[intents]\nhigh = ["stop"]\nmedium = ["on"]\n[high]\nconfirm = true\n'
                      "[medium]\nidle_threshold = 0.7\n")  # fmt: skip
    done = CliRunner().invoke(
        app, ["mitigate", str(policy), "--scenario", "quick", "--phones", "300", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == found.record()
