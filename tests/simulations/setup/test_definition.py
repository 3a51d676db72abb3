"""An experiment of Python objects has the settings of a scenario, under the same rules."""

import numpy as np
import pytest
import soundfile
from tiny_experiment import tiny_scenario
from tones import ToneCorpus, Tones, tone_base

import fedspeech as fs
from fedspeech.corpora.corpus import SILENCE
from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base, default_base_path
from fedspeech.seeds import stream
from fedspeech.training.settings import LocalTraining

PLAN = {
    "participation_probability": 1.0, "rounds": 2, "noise_multiplier": 1.0, "dropout_rate": 0.0,
    "min_cohort_share": 0.5, "min_reporting_share": 0.4, "epsilon_budget": 1e6,
}  # fmt: skip


def rows(speakers=24, words=("yes", "no", "up"), takes=3):
    """Noise that nobody says, as somebody's rows; every clip has bytes of its own."""
    for number in range(speakers):
        for word in (*words, SILENCE):
            for take in range(takes):
                rng = stream(0, "rows", number, word, take)
                samples = rng.normal(0, 0.05, 16_000).astype(np.float32)
                yield {"audio": samples, "rate_hz": 16_000, "speaker": f"s{number}", "word": word}


@pytest.fixture(scope="module")
def corpus():
    return fs.Corpus.from_records(list(rows()), name="mine", license="CC0-1.0")


def test_a_scenario_alone_stays_as_it_is():
    scenario = tiny_scenario()
    assert fs.Experiment(scenario=scenario).scenario is scenario
    assert fs.Experiment.from_scenario(scenario).scenario is scenario


def test_a_mapping_changes_the_keys_that_it_has():
    start = tiny_scenario()
    changed = fs.Experiment(scenario=start, plan={"rounds": 3}, training={"negatives": 2}, seed=7)
    assert changed.scenario == tiny_scenario("privacy.rounds=3", "training.negatives=2", "seed=7")


def test_an_object_of_the_library_changes_the_keys_that_it_has():
    experiment = fs.Experiment(scenario=tiny_scenario(), training=LocalTraining(local_epochs=5))
    assert experiment.scenario.training.local_epochs == 5
    assert experiment.scenario.training.negatives == 6, "a key of the scenario alone stays"


def test_a_key_set_to_none_takes_its_default():
    start = tiny_scenario("privacy.cohort_cap=12")
    assert start.privacy.cohort_cap == 12
    changed = fs.Experiment(scenario=start, plan={"cohort_cap": None})
    assert changed.scenario.privacy.cohort_cap is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"plan": {"nosie_multiplier": 1}}, "did you mean privacy.noise_multiplier"),
        ({"plan": {"noise_multiplier": -1}}, "privacy.noise_multiplier: "),
        ({"adapter": "tail"}, "adapter"),
        ({"division": {"federated_speakers": 3}}, "unknown key corpus.federated_speakers"),
        ({"task": fs.Kws(["_silence_"])}, "plain lower case"),
        ({"task": Tones(), "base": tone_base()}, "needs an open corpus"),
        ({"scenario": "quik"}, "did you mean 'quick'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(arguments, words):
    with pytest.raises(ScenarioError, match=words):
        fs.Experiment(**{"scenario": tiny_scenario()} | arguments)


def test_words_that_the_base_lacks_ask_for_a_synthetic_one():
    experiment = fs.Experiment(scenario=tiny_scenario(), task=fs.Kws("stop"))
    assert experiment.scenario.vocabulary == ("stop",)
    assert experiment.scenario.base.source == "synthetic"
    assert fs.Experiment(scenario=tiny_scenario(), task=fs.Kws()).scenario == tiny_scenario()


def test_a_whole_plan_is_taken_if_it_is_the_experiments_own():
    scenario = tiny_scenario()
    plan = fs.Experiment(scenario=scenario).plan
    assert fs.Experiment(scenario=scenario, plan=plan).plan == plan
    with pytest.raises(ScenarioError, match="it has population=12 and not 14"):
        fs.Experiment(scenario=tiny_scenario("corpus.federated_phones=14"), plan=plan)


@pytest.mark.slow
def test_rows_of_a_program_are_divided_as_a_folder_is(corpus, tmp_path):
    """The same speakers in the same roles, and the settings but for the path."""
    lines = ["file,speaker,word"]
    for number, row in enumerate(rows()):
        soundfile.write(tmp_path / f"{number}.flac", row["audio"], 16_000)
        lines.append(f"{number}.flac,{row['speaker']},{row['word']}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    made = fs.Experiment(corpus=corpus, plan=PLAN, division={"public_speakers": 3})
    read = fs.Experiment(corpus=tmp_path, plan=PLAN, division={"public_speakers": 3})
    assert (made.scenario.corpus.kind, read.scenario.corpus.kind) == ("provided", "folder")
    same = {"corpus": read.scenario.corpus}
    assert made.scenario.model_copy(update=same) == read.scenario
    for group in ("federated", "held_out", "public", "validation"):
        phones = [getattr(one.speakers.partition, group) for one in (made, read)]
        names = [[phone.speaker_id for phone in group] for group in phones]
        assert names[0] == names[1]
        assert names[0]
    assert made.plan == read.plan
    assert not read.in_memory
    assert not any("memory" in words for words in read.notices)


@pytest.mark.slow
def test_speech_in_memory_is_said_to_be_there_alone(corpus):
    experiment = fs.Experiment(corpus=corpus, plan=PLAN)
    assert experiment.in_memory
    assert "no other can resume" in experiment.notices[0]
    with pytest.raises(ScenarioError, match=r"resume\(folder, experiment=...\)"):
        fs.Experiment(scenario=experiment.scenario)


def test_another_seed_draws_other_speakers_from_the_same_corpus(corpus):
    experiment = fs.Experiment(corpus=corpus, plan=PLAN)
    other = experiment.with_seed(5)
    assert other.scenario.seed == 5
    drawn = [
        {phone.speaker_id for phone in one.speakers.partition.held_out}
        for one in (experiment, other)
    ]
    assert drawn[0] != drawn[1]


def test_without_a_plan_so_few_phones_get_one_that_the_rules_accept():
    corpus = fs.Corpus.from_records(list(rows(speakers=6)), name="few")
    experiment = fs.Experiment(corpus=corpus)
    assert experiment.fitted
    assert experiment.plan.population == len(experiment.speakers.partition.federated)
    assert "privacy settings were changed to" in experiment.notices[1]
    noise = experiment.scenario.privacy.noise_multiplier
    assert noise >= fs.read_scenario("real-commands").privacy.noise_multiplier, "never less noise"
    with pytest.raises(ScenarioError, match="privacy: "):  # what is asked for is not changed
        _ = fs.Experiment(corpus=corpus, plan={"rounds": 25}).plan


def test_a_base_that_was_handed_over_is_named_by_its_hash(corpus):
    base = Base.load(default_base_path())
    experiment = fs.Experiment(scenario=tiny_scenario(), base=base)
    assert experiment.scenario.base.source == "provided"
    assert experiment.scenario.base.sha256 == base.sha256
    assert fs.Experiment(scenario=experiment.scenario, base=base).base is base
    with pytest.raises(ScenarioError, match=r'base.source = "RUN/base.safetensors"'):
        fs.Experiment(scenario=experiment.scenario)
    with pytest.raises(ScenarioError, match="the base that was handed over must have"):
        fs.Experiment(scenario=experiment.scenario, base=tone_base())


def test_a_task_of_ones_own_has_its_speakers_divided_by_rule():
    scenario = tiny_scenario().model_copy(update={"name": "tones"})
    experiment = fs.Experiment(
        scenario=scenario, task=Tones(), corpus=ToneCorpus(), base=tone_base(),
        division={"public_speakers": 4, "validation_speakers": 3, "federated_speakers": 12},
    )  # fmt: skip
    partition = experiment.speakers.partition
    assert [len(partition.public), len(partition.validation), len(partition.federated)] == [
        4,
        3,
        12,
    ]
    assert experiment.speakers.task.labels.labels == ("low", "high")
