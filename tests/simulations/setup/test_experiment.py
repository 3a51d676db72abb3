"""From scenario to experiment: nobody is in two groups, and the base alone sets the scales."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_experiment import cache, tiny_experiment, tiny_scenario

from fedspeech import own_code
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.partition import by_group
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.models.adapters import HeadAdapter
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.population import PopulationArrays
from fedspeech.synthesis.lexicon import HELD_OUT_WORDS
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.dataset import LocalDataset
from simulations.scenario.objects import adapter_settings
from simulations.scenario.reading import read_scenario
from simulations.setup import definition, experiment
from simulations.setup.bases import layout_of
from simulations.setup.definition import Experiment
from simulations.setup.embedding import PARITY_CLIPS
from simulations.setup.experiment import build_experiment, negatives_of_phones
from simulations.setup.planning import plan_of
from simulations.setup.speakers import embedded_spec, open_speakers
from tflite_export.evidence import repeated


def groups(partition):
    return {
        name: {phone.speaker_id for phone in getattr(partition, name)}
        for name in ("public", "validation", "federated", "held_out")
    }


def embedded(scenario):
    """The corpus behind an embedded scenario."""
    return SyntheticCorpus(
        embedded_spec(scenario, scenario.corpus, Vocabulary(scenario.vocabulary))
    )


def test_phones_have_all_accents_and_train_on_no_held_out_word():
    # Of 60 phones, one in five of whom is plain, all are of other accents once in 650,000 times.
    corpus = embedded(read_scenario("quick", ["corpus.held_out_phones=60"]))
    accents = {
        name: {corpus.speakers[speaker].segments["accent"] for speaker in members}
        for name, members in corpus.groups.items()
    }
    assert accents["public"] == {"plain"}
    assert accents["federated"] == accents["held_out"] == set(ACCENTS)
    trained = {u.word for u in corpus.utterances if u.speaker_id[:2] in ("pu", "fe")}
    tested = {u.word for u in corpus.utterances if u.speaker_id[:2] == "he"}
    assert not trained & set(HELD_OUT_WORDS)
    assert set(HELD_OUT_WORDS) <= tested


@pytest.mark.slow
def test_no_speaker_stands_in_two_groups_or_taught_the_base():
    built = tiny_experiment()
    found = groups(built.partition)
    assert len(set().union(*found.values())) == sum(map(len, found.values()))
    for name in ("validation", "federated", "held_out"):
        assert not found[name] & set(built.base.speakers)
    assert len(built.partition.federated) == built.job.plan.population == 12


@pytest.mark.slow
def test_whoever_taught_the_base_becomes_public_and_no_phone(monkeypatch):
    scenario = tiny_scenario()
    partition = by_group(embedded(scenario), seed=scenario.seed)
    teachers = (partition.federated[3].speaker_id, partition.held_out[0].speaker_id)
    honest = Base.load(default_base_path())
    monkeypatch.setattr(
        definition, "layout_of",
        lambda *_: dataclasses.replace(honest, speakers=(*honest.speakers, *teachers)),
    )  # fmt: skip
    built = build_experiment(
        scenario, cache=cache(), simulation_only=None, workers=1, progress=lambda done, total: None
    )
    found = groups(built.partition)
    assert set(teachers) <= found["public"]
    assert not set(teachers) & (found["federated"] | found["held_out"])
    assert built.job.plan.population == 11
    assert len(built.held_out) == 2


def test_features_are_standardized_by_the_bases_constants_alone():
    """A clip's embedding is what the base computes of it alone, whoever else is in the corpus."""
    built, scenario = tiny_experiment(), tiny_scenario()
    corpus = embedded(scenario)
    arrays = built.job.load_arrays()
    assert built.base.sha256 == Base.load(default_base_path()).sha256
    validation = [clip for phone in built.partition.validation for clip in phone.utterances]
    own = list(built.partition.federated[5].utterances)
    start = arrays.offsets[5]
    for clips, kept in (
        (validation[:8], arrays.validation.embeddings),
        (own, arrays.embeddings[start : start + len(own)]),
    ):
        for clip, embedding in zip(clips, kept, strict=False):
            alone = built.base.encoder_output(built.base.heard(corpus, [clip]))
            np.testing.assert_allclose(
                built.adapter.embed(alone).numpy()[0], embedding, rtol=1e-4, atol=1e-4
            )


def test_a_phone_holds_its_own_clips_and_the_public_background():
    built = tiny_experiment()
    arrays = built.job.load_arrays()
    for index, phone in enumerate(built.partition.federated):
        labels = [built.task.labels.label(clip.word) for clip in phone.utterances]
        held = arrays.phone(index).labels
        np.testing.assert_array_equal(held, [*labels, *arrays.background.labels])
    assert set(arrays.background.labels) <= {10, 11}


def test_phones_have_different_hard_negatives_and_all_of_them_together():
    hard = LocalDataset(np.arange(11, dtype=np.float32)[:, None], np.full(11, 10))
    others = LocalDataset(-1 - np.arange(7, dtype=np.float32)[:, None], np.full(7, 11))
    background, offsets = negatives_of_phones(hard, others, 5)
    arrays = dataclasses.replace(
        PopulationArrays.without_clips(8), background=background, background_offsets=offsets
    )
    held = [arrays.phone(index) for index in range(8)]
    assert [list(phone.labels) for phone in held] == [[10] * 3 + [11] * 2] * 8
    assert {*held[0].embeddings.ravel()} == {0, 1, 2, -1, -2}
    assert {*np.concatenate([phone.embeddings[:3].ravel() for phone in held])} == {*range(9)}
    np.testing.assert_array_equal(held[3].embeddings, held[0].embeddings)  # three groups
    same, nothing = negatives_of_phones(hard.first(0), others, 5)
    np.testing.assert_array_equal(same.embeddings, others.embeddings[:5])
    assert not nothing.size


def test_own_takes_nest_and_nobody_is_judged_by_what_it_adapted_on():
    for phone in tiny_experiment().held_out:
        rows = {count: {e.tobytes() for e in own.embeddings} for count, own in phone.own.items()}
        assert rows[1] < rows[2]
        assert len(phone.own[2].labels) == 20
        assert not rows[2] & {e.tobytes() for e in phone.judged.embeddings}
        assert set(phone.judged.labels) == set(range(12))


def test_background_held_back_and_validation_share_no_speaker_and_no_clip():
    built = tiny_experiment()
    kept = [built.training_negatives, built.guard_negatives, built.job.load_arrays().validation]
    rows = [{embedding.tobytes() for embedding in clips.embeddings} for clips in kept]
    assert len(set().union(*rows)) == sum(map(len, rows))


@pytest.mark.slow
def test_parity_clips_are_public_speech():
    built = tiny_experiment()
    speech = repeated(built.speech)
    assert speech.shape == (PARITY_CLIPS, built.base.heard_samples)
    assert len(np.unique(built.speech, axis=0)) == len(built.speech)
    assert (np.abs(built.speech).max(axis=1) > 0).all()


@pytest.fixture
def nothing_made(monkeypatch):
    """Fails a test that makes a base or computes an embedding."""
    for name in ("_base", "Embedder"):
        monkeypatch.setattr(experiment, name, lambda *_: pytest.fail("something was made"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["base.source=/nowhere/base.safetensors"], "base.source: there is no base at"),
        ([f'base.sha256="{"0" * 64}"'], "base.source: .*must have SHA-256 0000"),
        (['vocabulary=["yes","no"]'], "knows the words yes, no, up.* the scenario wants yes, no;"),
        (['vocabulary=["yes","zzyzx"]'], "no pronunciation for 'zzyzx'"),
        (["privacy.min_cohort_share=0.9"], "privacy: min_cohort must be at most 75%"),
        (["privacy.noise_multiplier=0"], "privacy: noise_multiplier must be positive"),
        (['base.source="synthetic"', 'vocabulary=["yes","zzyzx"]'], "no pronunciation for 'zzyzx'"),
        (['base.source="synthetic"', "privacy.delta=0.5"], "privacy: delta must be"),
        (['base.source="synthetic"', "simulation.faults.silent=0.7", "simulation.faults.late=0.7"],
         "faults must be shares that add up to at most 1"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_together_are_refused_first(changes, words, nothing_made):
    with pytest.raises(FedspeechError, match=words):
        build_experiment(
            tiny_scenario(*changes), cache=cache(), simulation_only=None, workers=1,
            progress=lambda done, total: None,
        )  # fmt: skip


def test_a_plan_that_nobody_accepts_is_refused_first(nothing_made):
    """With the plan that the run would obey; a ledger asks so whether it can pay."""
    asked = []

    def accept(plan):
        asked.append(plan)
        raise FedspeechError("not with me")

    with pytest.raises(FedspeechError, match="not with me"):
        build_experiment(
            tiny_scenario(), cache=cache(), simulation_only=None, workers=1,
            progress=lambda done, total: None, accept=accept,
        )  # fmt: skip
    sizes = Experiment.from_scenario(tiny_scenario()).sizes
    assert asked == [plan_of(tiny_scenario().privacy, sizes).plan]


def test_a_file_that_is_no_base_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(ScenarioError, match=r"base.source: .*x.safetensors: not a fedspeech base"):
        build_experiment(
            tiny_scenario(f'base.source="{tmp_path}/x.safetensors"'), cache=cache(),
            simulation_only=None,
            workers=1, progress=lambda done, total: None,
        )  # fmt: skip


@pytest.mark.slow
def test_a_million_phones_are_drawn_from_the_voices_that_are_spoken():
    changes = ("corpus.federated_phones=1000000", "corpus.voices=12",
               "privacy.max_participations=1", "privacy.rounds=1",
               "privacy.participation_probability=0.0001")  # fmt: skip
    built = build_experiment(
        tiny_scenario(*changes),
        cache=cache(),
        simulation_only=None,
        workers=1,
        progress=lambda *_: None,
    )
    arrays, plan = built.job.load_arrays(), built.job.plan
    assert (plan.population, plan.unit, len(arrays.offsets) - 1) == (1_000_000, "phone", 12)
    spoken = np.diff(arrays.offsets)
    held = [len(arrays.phone(phone)) - len(arrays.background) for phone in (0, 999_999)]
    assert set(held) <= set(spoken // 2) | set(-(-spoken // 2))
    assert len(built.partition.federated) == 12


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["default", "asr-default"])
def test_those_who_validate_speak_with_the_accents_of_the_phones(scenario):
    read = read_scenario(scenario, ["corpus.validation_speakers=40"])
    voices = open_speakers(read, layout_of(read))

    def accents(phones):
        return {phone.segments["accent"] for phone in phones}

    assert accents(voices.partition.validation) == accents(voices.partition.held_out)
    assert len(accents(voices.partition.public)) == 1


def test_an_adapter_is_a_name_settings_of_factors_or_a_class(monkeypatch):
    monkeypatch.setattr(own_code, "_HANDED_OVER", {})
    assert adapter_settings(None) == {}
    assert adapter_settings("affine") == {"adapter": "affine"}
    lora = LoraSettings(rank=2, blocks=1)
    assert adapter_settings(lora) == {"adapter": "lora", "lora": lora}
    assert adapter_settings(OwnHead) == {"adapter": f"{__name__}:OwnHead"}
    for other in (OwnHead(64, 12), 3, dict):
        with pytest.raises(ScenarioError, match="adapter is a name, LoraSettings or a subclass of"):
            adapter_settings(other)
    experiment = Experiment(scenario="quick", adapter=lora)
    assert experiment.adapter.lora.rank == experiment.scenario.lora.rank == 2
    assert experiment.sizes.dimension == experiment.adapter.spec.size


class OwnHead(HeadAdapter):
    """Somebody's own."""


def test_a_phone_keeps_the_near_misses_that_wake_the_base_and_all_its_other_clips():
    words = ["yes", "yes~000", "yes~001", "lamp", "yes~002", "no"]
    clips = [SimpleNamespace(word=word) for word in words]
    phones = [SimpleNamespace(utterances=clips[:3]), SimpleNamespace(utterances=clips[3:])]
    adapter = HeadAdapter(num_features=2, num_labels=4)
    # The first feature says "yes", the second "unknown".
    initial = {
        "head_weight": np.array([[9, 0], [0, 0], [0, 9], [0, 0]], np.float32),
        "head_bias": np.zeros(4, np.float32),
    }
    heard = np.array([[0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [0, 1]], np.float32)
    whole = LocalDataset(heard, np.arange(6))
    base = SimpleNamespace(vocabulary=Vocabulary(("yes", "no")))
    found, sizes = experiment._federated(Embedding(whole, base, adapter), None, phones, initial)
    assert found.labels.tolist() == [0, 1, 3, 4, 5], "yes~001 woke nobody, so nobody canceled it"
    assert sizes == [2, 3]
    plain = [SimpleNamespace(utterances=[clip for clip in clips if "~" not in clip.word])]
    few = LocalDataset(heard[:3], np.arange(3))
    found, sizes = experiment._federated(Embedding(few, base, adapter), None, plain, initial)
    assert found is few, "without near misses the very arrays of before"
    assert sizes == [3]


class Embedding:
    """Knows what every clip sounds like."""

    def __init__(self, examples, base, adapter):
        self.examples, self.base, self.adapter = examples, base, adapter

    def __call__(self, corpus, clips):
        assert len(clips) == len(self.examples)
        return self.examples
