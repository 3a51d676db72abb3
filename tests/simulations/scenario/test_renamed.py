"""Every word that is gone is refused by a sentence with the word that replaced it."""

import sys

import pytest

from fedspeech.errors import ScenarioError
from simulations import cli
from simulations.scenario.corpora import CORPORA
from simulations.scenario.reading import read_scenario
from simulations.scenario.renamed import KEYS, OPTIONS, VALUES
from simulations.scenario.schema import Scenario
from simulations.scenario.sections import keys_of

ROOMS = {
    "corpus.sentences_per_unseen_phone": "asr-quick",
    "corpus.unseen_speakers": "real-commands",
}


def exists(key):
    """Whether a scenario has a key."""
    section, _, last = key.rpartition(".")
    if section == "corpus":
        return any(last in keys_of(kind) for kind in CORPORA.values())
    home = Scenario.model_fields[section].annotation if section else Scenario
    return last in keys_of(home)


@pytest.mark.parametrize(("old", "new"), KEYS.items())
def test_a_key_that_is_gone_names_its_successor(old, new):
    assert exists(new)
    assert not exists(old)
    with pytest.raises(ScenarioError) as refused:
        read_scenario(ROOMS.get(old, "quick"), [f"{old}=1"])
    assert f"{old} is now {new}" in str(refused.value)


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [(key, old, new) for key, words in VALUES.items() for old, new in words.items()],
)
def test_a_value_that_is_gone_names_its_successor(key, old, new):
    assert read_scenario("quick", [f"{key}={new}"])
    with pytest.raises(ScenarioError, match=f"{key}: {old!r} is now {new!r}"):
        read_scenario("quick", [f"{key}={old}"])


def test_a_section_and_a_value_under_its_old_key_say_all_at_once(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[server]\noptimizer = "fedavg"\n[privacy]\nserver = "lying"\n')
    with pytest.raises(ScenarioError) as refused:
        read_scenario(str(file))
    assert "server is now server_optimizer" in str(refused.value)
    assert "privacy.server is now privacy.threat_model ('lying' is now 'malicious'" in str(
        refused.value
    )


def test_another_version_of_the_keys_is_refused():
    with pytest.raises(ScenarioError, match=r"schema = 1 and this version reads schema = 2"):
        read_scenario("quick", ["schema=1"])


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [(command, old, new) for command, words in OPTIONS.items() for old, new in words.items()],
)
def test_an_option_that_is_gone_names_its_successor(monkeypatch, capsys, command, old, new):
    for value in ([], ["1"]):
        monkeypatch.setattr(sys, "argv", ["fedspeech", *command.split(), old, *value])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        said = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
        assert stopped.value.code == 2
        if value or "requires an argument" not in said:
            assert f"{old} is now {new}" in said
    monkeypatch.setattr(sys, "argv", ["fedspeech", *command.split(), "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    helped = capsys.readouterr().out
    assert f"{old} " not in helped
    assert new[:20] in helped
