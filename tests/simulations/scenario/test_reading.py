import math

import pytest

from fedspeech.errors import ScenarioError
from simulations.scenario.reading import read_scenario, scenario_names
from simulations.scenario.schema import Scenario
from simulations.scenario.sections import is_section, keys_of
from simulations.scenario.writing import to_toml


def test_every_shipped_scenario_reads_and_survives_a_round_trip(tmp_path):
    assert {"quick", "default", "real-commands", "no-privacy"} <= set(scenario_names())
    for name in scenario_names():
        scenario = read_scenario(name)
        assert scenario.name == name
        assert scenario.description
        file = tmp_path / f"{name}.toml"
        file.write_text(to_toml(scenario))
        assert read_scenario(str(file)) == scenario


def test_an_unknown_key_names_its_path_and_the_nearest_valid_key():
    with pytest.raises(
        ScenarioError, match=r"unknown key privacy\.clip_norn; did you mean privacy"
    ):
        read_scenario("default", ["privacy.clip_norn=1"])
    with pytest.raises(
        ScenarioError, match=r"unknown key training\.optimiser; did you mean training\.optimizer"
    ):
        read_scenario("default", ["training.optimiser=adam"])
    with pytest.raises(
        ScenarioError, match=r"unknown key training\.example_privacy\.clip; did .*clip_norm"
    ):
        read_scenario("default", ["training.example_privacy.clip=1"])
    with pytest.raises(ScenarioError, match=r"unknown key sed; did you mean seed"):
        read_scenario("default", ["sed=1"])
    with pytest.raises(
        ScenarioError, match=r"unknown key corpus\.held_out_phone; .*held_out_phones"
    ):
        read_scenario("default", ["corpus.held_out_phone=3"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("privacy.clip_norm=-1", "privacy.clip_norm: .*greater than 0, got -1"),
        ("privacy.clip_norm=nan", "privacy.clip_norm"),
        ("privacy.rounds=many", "privacy.rounds: .*integer, got 'many'"),
        ("privacy.participation_probability=1.5", "less than or equal to 1, got 1.5"),
        (
            "adapter=tail",
            "adapter is one of head, .* frame_bottleneck, or module:Class, got 'tail'",
        ),
        ("training.learning_rate=-1", "training.learning_rate: .*greater than 0, got -1"),
        ("training.optimizer=lion", "training.optimizer: .*'sgd' or 'adam', got 'lion'"),
        (
            "time.every_h=0.01",
            r"time: a round takes .*deadline_s=20\) and 1 may be open .*: every_h must be .*0\.01$",
        ),
        ("simulation.faults={late=0.6,nan=0.6}", "simulation.faults: .*add up to at most 1, got"),
        ("seed", "a changed setting is section.key=value, got 'seed'"),
        ("seed.x=1", "'seed' is a value, not a section"),
        ("corpus.federated_phones=200000", "above 100,000 federated_phones set voices"),
        ("corpus.voices=3001", "voices must be at most federated_phones=3000, got voices=3001"),
        ('vocabulary=["yes","yes"]', "1 to 40 distinct target words"),
        ("vocabulary=[]", "1 to 40 distinct target words"),
    ],
)
def test_a_bad_value_names_key_rule_and_value(change, words):
    changes = ["seed=1", change]
    with pytest.raises(ScenarioError, match=words):
        read_scenario("default", changes)


def test_a_misspelt_scenario_names_the_nearest_and_all_of_them():
    with pytest.raises(ScenarioError, match=r"did you mean 'default'\?.*no-privacy"):
        read_scenario("defalt")
    with pytest.raises(ScenarioError, match=r"no scenario file missing\.toml"):
        read_scenario("missing.toml")


def test_a_file_that_is_no_toml_is_named(tmp_path):
    file = tmp_path / "broken.toml"
    file.write_text("name = ")
    with pytest.raises(ScenarioError, match=r"broken\.toml is not valid TOML"):
        read_scenario(str(file))


def test_set_takes_toml_values_and_bare_words():
    scenario = read_scenario("default", ["adapter=head", "seed=7", "personalization.shots=[2,4]"])
    assert (scenario.adapter, scenario.seed) == ("head", 7)
    assert scenario.personalization.shots == (2, 4)


def test_a_scenario_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Scenario(name="x").seed = 2


def test_an_adapter_of_words_does_not_recognize_sentences():
    with pytest.raises(ScenarioError, match="adapter head does not recognize sentences; take fr"):
        read_scenario("asr-quick", ["adapter=head"])
    with pytest.raises(ScenarioError, match="adapter frame_affine does not recognize words"):
        read_scenario("quick", ["adapter=frame_affine"])
    with pytest.raises(ScenarioError, match="example_privacy clips gradients of words, not of"):
        read_scenario("asr-quick", ["training.example_privacy={noise_multiplier=1.0}"])
    assert read_scenario("asr-an4").task == "asr"
    assert read_scenario("real-commands").task == "kws"


def test_no_scenario_adds_noise_that_no_epsilon_counts():
    """Noise is sized for the fewest reporting phones; that of the others buys nothing."""
    for name in scenario_names():
        path = ["corpus.path=x"] if name in ("real-commands", "asr-an4", "asr-joined") else []
        privacy = read_scenario(name, path).privacy
        answers = 1 - privacy.dropout_rate
        assert math.sqrt(answers / privacy.min_reporting_share) < 1.25, name


def test_a_scenario_is_written_with_every_key_and_read_back_the_same(tmp_path):
    changes = ['lexicon.lamp="L AE1 M P"', "privacy.adaptive_clipping.target_quantile=0.5"]
    for name in scenario_names():
        path = ["corpus.path=x"] if name in ("real-commands", "asr-an4", "asr-joined") else []
        scenario = read_scenario(name, [*changes, *path])
        text = to_toml(scenario)
        (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        assert read_scenario(str(tmp_path / "mine.toml")) == scenario
        sections = [type(value) for _, value in scenario if is_section(type(value))]
        assert len(sections) >= 8
        for section in (Scenario, *sections):
            fields = keys_of(section)
            assert all((field.alias or key) in text for key, field in fields.items())
        assert "# cohort_cap is not set" in text or scenario.privacy.cohort_cap


def test_a_rule_of_single_updates_is_refused_with_its_reason():
    with pytest.raises(ScenarioError, match="compares the distances between updates") as refused:
        read_scenario("quick", ["server_optimizer.optimizer=krum"])
    assert "no single update" in str(refused.value)


def test_own_code_is_written_and_read_back_with_its_settings(tmp_path):
    scenario = read_scenario(
        "quick",
        ['server_optimizer.rule="a.b:C"', "server_optimizer.settings={rate=0.5, steps=[1, 2]}"],
    )
    file = tmp_path / "own.toml"
    file.write_text(to_toml(scenario))
    assert read_scenario(str(file)).server_optimizer == scenario.server_optimizer
    with pytest.raises(ScenarioError, match="settings must stand beside a rule"):
        read_scenario("quick", ["server_optimizer.settings={rate=0.5}"])


def test_nothing_is_promised_of_single_examples_beside_an_own_trainer():
    changes = ['training.trainer="a.b:c"', "training.example_privacy={noise_multiplier=1.0}"]
    with pytest.raises(ScenarioError, match="cannot be promised of an own trainer"):
        read_scenario("quick", changes)


@pytest.fixture
def installed(monkeypatch):
    """Says whether extras are installed."""

    def are(there):
        said = "" if there else "the base speech-embedding needs pyopen-wakeword"
        monkeypatch.setattr("simulations.scenario.reading.lacking", lambda extra: said)

    return are


def test_a_scenario_suits_the_extra_that_is_installed_and_says_so(installed):
    installed(True)
    real = read_scenario("real-commands")
    assert (real.base.source, real.adapter) == ("speech-embedding", "head")
    assert (real.personalization.rule, real.privacy.sizing) == ("ridge", "public")
    assert real.privacy.rounds == 25  # keys that the variant does not name stay
    assert "with the extra speech-embedding, which is installed" in real.description


def test_a_scenario_without_the_extra_is_as_it_was_and_says_why(installed):
    installed(False)
    real = read_scenario("real-commands")
    assert (real.base.source, real.adapter) == ("synthetic", "affine")
    assert (real.personalization.rule, real.privacy.sizing) == ("sgd", "scenario")
    assert "needs pyopen-wakeword" in real.description


def test_a_base_that_is_named_keeps_the_settings_of_any_base(installed):
    installed(True)
    real = read_scenario("real-commands", ['base.source="mine.safetensors"'])
    assert (real.base.source, real.adapter) == ("mine.safetensors", "affine")
    assert real.personalization.rule == "sgd"


def test_the_base_of_the_extra_may_be_named(installed):
    installed(True)
    named = read_scenario("real-commands", ['base.source="speech-embedding"'])
    assert named == read_scenario("real-commands")


def test_what_is_set_wins_over_what_suits_an_extra(installed):
    installed(True)
    real = read_scenario("real-commands", ["personalization.rule=sgd"])
    assert (real.base.source, real.personalization.rule) == ("speech-embedding", "sgd")


def test_a_variant_for_no_extra_is_refused(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[where_installed.torch.base]\nsource = "shipped"\n')
    with pytest.raises(ScenarioError, match="where_installed names an extra"):
        read_scenario(str(file))
