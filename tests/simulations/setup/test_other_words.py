"""Words that other people lend: each of them has one role, and a guard never taught the base."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedspeech.corpora.corpus import SILENCE, Speaker, Utterance, Vocabulary
from fedspeech.errors import CorpusError
from fedspeech.models.base import Base, default_base_path
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.schema import Scenario
from simulations.setup import other_words
from simulations.setup.heads import lesson_of
from simulations.setup.other_words import open_other_words
from simulations.setup.speakers import open_speakers

TARGETS = ("yes", "no", "go")


def corpus(plan, name="fake"):
    """Speakers and clips without any sound: speaker to the words that it says."""
    clips = tuple(
        Utterance(f"{speaker}-{number}", speaker, word)
        for speaker, words in plan.items()
        for number, word in enumerate(words)
    )
    return SimpleNamespace(
        name=name, license="none", skipped=(), utterances=clips,
        speakers={speaker: Speaker(speaker) for speaker in plan},
        fingerprint=lambda clip: clip.utterance_id.encode().hex().ljust(64, "0")[:64],
    )  # fmt: skip


@pytest.fixture
def lent(monkeypatch):
    """Twenty people who say eight words and one that is a target."""
    plan = {f"o{number:02}": ["cat", "dog", "tree", "bed", "yes"] * 4 for number in range(20)}
    monkeypatch.setattr(other_words, "open_corpus", lambda path: corpus(plan, "lent"))
    return plan


@pytest.fixture
def split(lent):
    own = {f"s{number:02}": [*TARGETS] * 4 for number in range(30)}
    scenario = Scenario(
        name="test",
        vocabulary=(),
        corpus=FolderCorpus(path="own", other_words="lent", public_speakers=6),
    )
    base = Base.load(default_base_path())
    return scenario, open_speakers(scenario, base, made=True, corpus=corpus(own, "own"))


def test_each_lender_has_one_role_and_says_no_target(lent):
    found = open_other_words("lent", TARGETS, seed=1)
    roles = [
        {phone.speaker_id for phone in found.public},
        {phone.speaker_id for phone in found.validation},
        {clip.speaker_id for clip in found.judging if clip.word != SILENCE},
    ]
    assert [len(role) for role in roles] == [10, 4, 6]
    assert len(set.union(*roles)) == 20
    assert found.words == {"cat", "dog", "tree", "bed"}
    said = {clip.word for phone in (*found.public, *found.validation) for clip in phone.utterances}
    assert "yes" not in said


def test_four_lenders_are_the_fewest(monkeypatch):
    for count, fits in ((4, True), (3, False)):
        plan = {f"o{number}": ["cat"] * 4 for number in range(count)}
        monkeypatch.setattr(other_words, "open_corpus", lambda path, plan=plan: corpus(plan))
        if fits:
            assert len(open_other_words("lent", TARGETS, seed=1).public) == 2
        else:
            with pytest.raises(CorpusError, match="at least 4 speakers"):
                open_other_words("lent", TARGETS, seed=1)


def test_held_out_phones_are_judged_on_lent_words_and_silence_and_adapt_on_none(split):
    _, speakers = split
    judges = set()
    for phone in speakers.partition.held_out:
        shots = speakers.task.split(phone, 2, seed=1, reserve=3)
        assert {clip.word for clip in shots.own} == set(TARGETS)
        lent = [clip for clip in shots.judged if clip.speaker_id.startswith("o")]
        assert len(lent) >= 8
        assert sum(clip.word == SILENCE for clip in shots.judged) >= 4
        judges |= {clip.speaker_id for clip in lent}
    groups = (speakers.public, speakers.partition.validation, speakers.partition.federated)
    for group in groups:
        assert not judges & {phone.speaker_id for phone in group}
    for phone in (*speakers.partition.federated, *speakers.partition.held_out):
        assert phone.people == {phone.speaker_id}
    for phone in speakers.partition.federated:
        assert {clip.speaker_id for clip in phone.utterances} == {phone.speaker_id}
    assert "of other people, in training said by yet others" in speakers.task.negatives


def test_whoever_guards_thresholds_never_taught_the_base(split):
    scenario, speakers = split
    lesson = lesson_of(speakers, Vocabulary(TARGETS), seed=scenario.seed, lexicon={})
    training, guard = speakers.task.public_clips(
        speakers.public, speakers.recorded, lesson.speakers, scenario.seed
    )
    guards = {clip.speaker_id for clip in guard}
    assert guards
    assert not guards & set(lesson.speakers)
    assert {clip.speaker_id for clip in training} <= set(lesson.speakers)
    assert sum(name.startswith("o") for name in guards) >= 5


def test_nobody_who_taught_the_head_is_a_phone(split):
    scenario, speakers = split
    lesson = lesson_of(speakers, Vocabulary(TARGETS), seed=scenario.seed, lexicon={})
    heard = set(lesson.speakers)
    public = {phone.speaker_id for phone in speakers.partition.public}
    assert public <= heard
    for group in (speakers.partition.federated, speakers.partition.held_out):
        assert not heard & {phone.speaker_id for phone in group}
    labels = np.array([clip.word in TARGETS for clip in lesson.clips])
    recorded = np.array([clip.speaker_id not in lesson.synthetic for clip in lesson.clips])
    assert (labels & recorded).sum() == 6 * 12
    assert (labels & ~recorded).any()
    assert (~labels & recorded).any()
