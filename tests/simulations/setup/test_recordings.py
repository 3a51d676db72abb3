"""Recordings as phones: no clip and no speaker has two roles; whoever is judged trains nobody."""

import dataclasses
import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_experiment import cache

from fedspeech.corpora.corpus import SILENCE, Speaker, Utterance, Vocabulary
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.models.base import Base, default_base_path
from fedspeech.tasks import kws
from fedspeech.tasks.kws import WordRoles, word_roles
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.reading import read_scenario
from simulations.setup.experiment import build_experiment
from simulations.setup.recordings import made_public, split_speakers, usable
from simulations.setup.speakers import open_speakers

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = ("bed", "bird", "cat", "dog", "happy", "house")


def corpus(plan):
    """Speakers and clips without any sound: speaker to the words that it says."""
    clips = tuple(
        Utterance(f"{name}-{number}", name, word)
        for name, words in plan.items()
        for number, word in enumerate(words)
    )
    return SimpleNamespace(
        name="fake", utterances=clips, speakers={name: Speaker(name) for name in plan}
    )


def speakers(phones):
    return {phone.speaker_id for phone in phones}


GROUPS = ("public", "validation", "federated", "held_out")
EVEN = {f"s{number:02}": ["a", "b", "c", "d", "e", "f"] * 2 for number in range(20)}


def test_speakers_are_spared_for_the_public_and_for_choosing():
    partition = split_speakers(corpus(EVEN), FolderCorpus(path="x"), seed=1)
    sizes = [
        len(getattr(partition, name)) for name in ("public", "validation", "federated", "held_out")
    ]
    assert sizes == [3, 2, 9, 6]
    few = split_speakers(corpus(dict(list(EVEN.items())[:5])), FolderCorpus(path="x"), seed=1)
    assert (len(few.public), len(few.validation), len(few.federated)) == (0, 0, 3)


def test_numbers_that_are_asked_for_are_kept():
    settings = FolderCorpus(
        path="x", federated_speakers=8, public_speakers=4, validation_speakers=3
    )
    partition = split_speakers(corpus(EVEN), settings, seed=1)
    sizes = [
        len(getattr(partition, name)) for name in ("public", "validation", "federated", "held_out")
    ]
    assert sizes == [4, 3, 8, 5]
    with pytest.raises(CorpusError, match=r"nobody is left to federate.*public_speakers=14"):
        split_speakers(corpus(EVEN), FolderCorpus(path="x", public_speakers=14), seed=1)


def test_official_testing_speakers_are_held_out_and_validation_speakers_choose():
    """Lists are published, so neither is drawn; public speakers are, of the others."""
    plan = {f"s{number:02}": ["a", "b", "c", "d"] * 2 for number in range(30)}
    listed = corpus(plan | {"lone": ["a"]})
    listed.official = {
        "s03": "testing", "s07": "testing", "s11": "validation", "s12": "validation",
        "s13": "validation", "s14": "training", "lone": "testing", "elsewhere": "testing",
    }  # fmt: skip
    for seed in (1, 2):
        partition = split_speakers(listed, FolderCorpus(path="x"), seed=seed)
        assert speakers(partition.held_out) == {"s03", "s07"}
        assert speakers(partition.validation) == {"s11", "s12", "s13"}
        assert len(partition.public) == 4
        assert len(partition.federated) == 30 - 2 - 3 - 4
    drawn = split_speakers(listed, FolderCorpus(path="x", official_split=False), seed=1)
    assert speakers(drawn.held_out) != {"s03", "s07"}
    asked = split_speakers(listed, FolderCorpus(path="x", validation_speakers=1), seed=1)
    assert len(asked.validation) == 1
    assert speakers(asked.held_out) == {"s03", "s07"}
    named = split_speakers(listed, FolderCorpus(path="x", federated_speakers=8), seed=1)
    assert len(named.federated) == 8
    listed.official = {"s03": "testing", "lone": "testing"}  # one of them has clips for a phone
    assert speakers(split_speakers(listed, FolderCorpus(path="x"), seed=1).held_out) != {"s03"}


def test_held_out_speakers_can_be_named(tmp_path):
    names = tmp_path / "test_list.txt"
    names.write_text("\ufeffs03\ns07\n\n", encoding="utf-8")
    settings = FolderCorpus(path="x", held_out_speakers=str(names))
    for seed in (1, 2):
        assert speakers(split_speakers(corpus(EVEN), settings, seed).held_out) == {"s03", "s07"}
    names.write_text("s03\nnobody\n")
    with pytest.raises(CorpusError, match="it has no nobody"):
        split_speakers(corpus(EVEN), settings, seed=1)
    with pytest.raises(CorpusError, match="must name speakers, one a line"):
        split_speakers(
            corpus(EVEN), FolderCorpus(path="x", held_out_speakers=str(tmp_path / "none")), seed=1
        )


def test_whoever_taught_the_base_neither_federates_nor_chooses_nor_judges():
    plan = {f"s{number:02}": ["a", "b"] for number in range(40)}
    taught = [f"s{number:02}" for number in range(10)]
    partition = split_speakers(
        corpus(plan), FolderCorpus(path="x"), seed=1, pretraining_speakers=taught
    )
    assert set(taught) <= speakers(partition.public)
    for group in (partition.validation, partition.federated, partition.held_out):
        assert group
        assert not speakers(group) & set(taught)
    late = made_public(partition, speakers(partition.validation))
    assert not late.validation


def held_out(words):
    return split_speakers(
        corpus({f"s{n}": list(words) * 2 for n in range(4)}), FolderCorpus(path="x"), seed=1
    ).held_out


def test_some_words_of_a_corpus_are_no_targets_unless_it_has_few():
    nine = word_roles(held_out("abcdefghi"), (), seed=1)
    assert nine.targets == tuple("abcdef")
    assert nine.training == nine.evaluation == set("ghi")  # too few to hold words back
    assert "in training said by other speakers" in nine.words
    assert word_roles(held_out("abcde"), (), seed=1).targets == tuple("abcde")
    assert "the recordings have no other word" in word_roles(held_out("abcde"), (), seed=1).words
    assert len(word_roles(held_out("abcdefghijklmnopqrstuvwxyz"), (), seed=1).targets) == 12


def test_words_that_judge_never_train_where_there_are_enough_others():
    roles = word_roles(held_out("abcdefghi"), ("a", "b"), seed=1)
    assert len(roles.evaluation) == 2
    assert not roles.evaluation & roles.training
    assert len(roles.training) <= 2  # of a phone's own takes there are no more than of targets
    plan = {f"s{number:02}": list("abcdefghi") * 2 for number in range(20)}
    partition = usable(roles, split_speakers(corpus(plan), FolderCorpus(path="x"), seed=1))
    for phone in partition.federated:
        assert not {clip.word for clip in phone.utterances} & roles.evaluation
    assert roles.evaluation <= {clip.word for clip in partition.held_out[0].utterances}
    assert "none of them in training" in roles.words


def test_words_are_counted_on_phones_that_never_train():
    plan = {**EVEN, "s00": ["only"] * 30}
    settings = FolderCorpus(path="x", federated_speakers=8)
    for seed in range(20):
        partition = split_speakers(corpus(plan), settings, seed)
        if "s00" in speakers(partition.federated):
            assert "only" not in word_roles(partition.held_out, (), seed).targets
            break
    else:
        raise AssertionError("the speaker never federates")


def test_a_phone_without_a_target_word_is_not_judged():
    roles = WordRoles(("a", "b"), frozenset("c"), frozenset("c"))
    plan = {**{name: ["a", "b", "c"] for name in EVEN}, "s05": ["c", "c", "c"]}
    partition = usable(roles, split_speakers(corpus(plan), FolderCorpus(path="x"), seed=1))
    where = [group for group in ("held_out", "validation") for phone in getattr(partition, group)
             if phone.speaker_id == "s05"]  # fmt: skip
    assert not where


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixteen speakers of ten target words and six others, all of it noise."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    lines = ["file,speaker,word"]
    for number in range(16):
        for word in (*TEN, *OTHERS):
            for take in range(2):
                name = f"s{number:02}_{word}_{take}.wav"
                soundfile.write(root / name, 0.1 * rng.standard_normal(8_000), 16_000)
                lines.append(f"{name},s{number:02},{word}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def scenario(folder, *changes):
    words = json.dumps(list(TEN))
    return read_scenario(
        "real-commands",
        (
            f"corpus.path={folder}", f"vocabulary={words}", "base.source=shipped",
            "privacy.secure_aggregation=ideal", "personalization.shots=[1]",
            "personalization.headline_shots=1", *changes,
        ),
    )  # fmt: skip


def experiment_of(found):
    return build_experiment(
        found, cache=cache(), simulation_only=None, workers=1, progress=lambda *_: None
    )


@pytest.fixture(scope="module")
def built(folder):
    return experiment_of(
        scenario(folder, "corpus.public_speakers=4", "corpus.validation_speakers=2")
    )


def rows(clips):
    return {embedding.tobytes() for embedding in clips.embeddings}


@pytest.mark.slow
def test_no_clip_has_two_roles(built):
    arrays = built.job.load_arrays()
    own = set().union(*(rows(phone.own[1]) for phone in built.held_out))
    judged = set().union(*(rows(phone.judged) for phone in built.held_out))
    federated = {embedding.tobytes() for embedding in arrays.embeddings}
    public = [built.training_negatives, built.guard_negatives, arrays.validation]
    groups = [federated, *map(rows, public), own, judged]
    assert all(groups)
    assert len(set().union(*groups)) == sum(map(len, groups))
    assert built.validates
    assert not len(built.evaluation_negatives)  # the corpus has other words of its own


@pytest.mark.slow
def test_other_words_train_and_judge_and_are_never_the_same_words(built):
    unknown = len(TEN)
    arrays = built.job.load_arrays()
    roles = built.task.roles
    assert len(roles.evaluation) == 2
    for phone in built.partition.federated:
        words = Counter(clip.word for clip in phone.utterances)
        assert set(words) & roles.training
        assert not set(words) & roles.evaluation
    assert (arrays.labels == unknown).sum() == len(built.partition.federated) * 2 * 4
    for phone in built.held_out:
        assert (phone.own[1].labels == unknown).sum() == 4  # one take of each word that trains
        assert (phone.judged.labels == unknown).sum() == 2 * len(roles.evaluation)
    assert built.task.negatives == "2 recorded other words, none of them in training"


@pytest.mark.slow
def test_what_ships_to_phones_is_public_and_moves_no_epsilon(built, folder):
    recorded = {f"s{number:02}" for number in range(16)}
    shipped = [clip for phone in built.speakers.public for clip in phone.utterances]
    private = speakers(built.partition.federated) | speakers(built.partition.held_out)
    assert {clip.speaker_id for clip in shipped} & recorded == speakers(built.partition.public)
    assert not {clip.speaker_id for clip in shipped} & private
    without = experiment_of(
        scenario(
            folder,
            "corpus.public_speakers=4",
            "corpus.validation_speakers=2",
            "training.negatives=0",
        )
    )
    assert without.job.plan == built.job.plan


def public_clips(voices, base):
    return voices.task.public_clips(voices.public, voices.recorded, base.speakers, seed=1)


@pytest.mark.slow
def test_two_thirds_of_what_ships_first_are_recorded_words(built, monkeypatch):
    monkeypatch.setattr(kws, "ENOUGH_REAL_NEGATIVES", 8)
    training, guard = public_clips(built.speakers, built.base)

    def kind(clip):
        if clip.word == SILENCE:
            return "silence"
        return "real" if clip.speaker_id[1:].isdigit() else "made"

    kinds = [kind(clip) for clip in training[:6]]
    assert kinds == ["real", "real", "silence", "real", "real", "made"]
    assert not {clip.speaker_id for clip in training} & {clip.speaker_id for clip in guard}


@pytest.mark.slow
def test_the_words_of_a_base_may_stand_in_another_order(folder):
    base = Base.load(default_base_path())
    turned = scenario(folder, f"vocabulary={json.dumps(list(TEN[::-1]))}")
    assert open_speakers(turned, base).task.labels == base.vocabulary
    named_by_nobody = scenario(folder, "vocabulary=[]")
    assert open_speakers(named_by_nobody, base).task.labels == base.vocabulary


def test_speakers_who_taught_the_base_do_not_guard(folder):
    base = Base.load(default_base_path())
    base = dataclasses.replace(base, speakers=("s00", "s01", "s02"))
    voices = open_speakers(scenario(folder), base)
    training, guard = public_clips(voices, base)
    assert {"s00", "s01", "s02"} <= {clip.speaker_id for clip in training}
    assert not {"s00", "s01", "s02"} & {clip.speaker_id for clip in guard}


def test_who_guards_does_not_train_even_where_everybody_taught_the_base(folder, monkeypatch):
    monkeypatch.setattr(kws, "ENOUGH_REAL_NEGATIVES", 1)
    taught = ("s00", "s01", "s02")
    base = dataclasses.replace(Base.load(default_base_path()), speakers=taught)
    voices = open_speakers(scenario(folder), base)
    phones = [phone for phone in voices.public if phone.speaker_id in taught]
    training, guard = voices.task.public_clips(phones, voices.recorded, taught, seed=1)
    assert training
    assert guard
    assert not {clip.speaker_id for clip in training} & {clip.speaker_id for clip in guard}


PERSIAN = ("بله", "نه", "می‌خواهم", "برو")
TRANSLATED = dict(zip(TEN, PERSIAN, strict=False))


@pytest.fixture(scope="module")
def opened(folder):
    """The folder's corpus, opened once: a scenario that names the folder takes it as it is."""
    return open_corpus(folder)


@pytest.fixture(scope="module")
def base():
    return Base.load(default_base_path())


def test_a_base_of_recordings_asks_for_no_sounds_of_any_word(folder, base):
    rows = [
        {"audio": str(clip), "speaker": clip.name.split("_")[0], "word": TRANSLATED[word]}
        for clip in sorted(folder.glob("*_0.wav"))
        if (word := clip.name.split("_")[1]) in TRANSLATED
    ]
    words = RecordedCorpus.from_records(rows)
    real = dataclasses.replace(
        base, vocabulary=Vocabulary(PERSIAN), head_weight=base.head_weight[:6],
        head_bias=base.head_bias[:6],
    )  # fmt: skip
    asked = read_scenario("real-commands", (f"corpus.path={folder}", "base.source=a file"))
    voices = open_speakers(asked, real, corpus=words)
    assert voices.task.labels.targets == PERSIAN
    assert {clip.word for phone in voices.partition.federated for clip in phone.utterances} == {
        *PERSIAN
    }
    assert voices.public  # unknown words and silence of the synthesizer
    made = read_scenario("real-commands", (f"corpus.path={folder}", "base.source=synthetic"))
    with pytest.raises(ValueError, match="no pronunciation for 'برو'"):
        open_speakers(made, real, made=True, corpus=words)


@pytest.mark.parametrize(
    ("change", "people", "said"),
    [
        ("corpus.devices_per_speaker=3", 1, "each speaker has 3 simulated phones"),
        ('corpus.phones_by="dirichlet"', 2, "no epsilon of this run covers a person"),
        ('corpus.phones_by="pathological"', 2, "no epsilon of this run covers a person"),
    ],
)
def test_phones_that_are_no_people_change_the_unit_and_are_said(
    folder, opened, base, change, people, said
):
    voices = open_speakers(scenario(folder, change), base, corpus=opened)
    assert voices.partition.unit == "phone"
    assert said in voices.notes[-1]
    assert max(len(phone.people) for phone in voices.partition.federated) >= people
    assert max(len(phone.people) for phone in voices.partition.held_out) == 1


def test_people_need_no_note(folder, opened, base):
    voices = open_speakers(scenario(folder), base, corpus=opened)
    assert voices.partition.unit == "user"
    assert not voices.notes


def test_clips_that_are_mixed_stay_where_their_speakers_may_be(folder, opened, base):
    known = dataclasses.replace(base, speakers=("s00", "s01"))
    mixing = scenario(folder, 'corpus.phones_by="dirichlet"')
    mixed = open_speakers(mixing, known, corpus=opened).partition
    private = {person for phone in mixed.federated for person in phone.people}
    assert not private & {"s00", "s01"}
    assert not private & {person for phone in mixed.held_out for person in phone.people}


def test_what_a_phone_is_must_be_one_thing(folder, opened, base):
    with pytest.raises(ScenarioError, match=r'devices_per_speaker .* needs phones_by = "speaker"'):
        scenario(folder, "corpus.devices_per_speaker=3", 'corpus.phones_by="device"')
    by_device = scenario(folder, 'corpus.phones_by="device"')
    with pytest.raises(CorpusError, match="need a column `device`"):
        open_speakers(by_device, base, corpus=opened)
    many = scenario(folder, 'corpus.phones_by="pathological"', "corpus.mixed_phones=900")
    with pytest.raises(ScenarioError, match=r"corpus\.phones_by: .* fewer words per phone"):
        open_speakers(many, base, corpus=opened)
