"""The embedded corpus."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance
from fedspeech.corpora.synthetic import (
    SpeakerGroup,
    SyntheticCorpus,
    SyntheticSpec,
    pretraining_spec,
)
from fedspeech.synthesis.lexicon import DEFAULT_TARGETS, HELD_OUT_WORDS
from fedspeech.synthesis.voices import ACCENTS, Spread

GROUP = SpeakerGroup(
    name="federated",
    num_speakers=4,
    words=("yes", "no", "go"),
    utterances_per_word=2,
    unknown_words=("cat", "dog"),
    num_unknown=1,
    num_silence=1,
)


def small(**changes):
    return SyntheticCorpus(SyntheticSpec(**{"seed": 7, "groups": (GROUP,)} | changes))


def test_a_corpus_lists_what_its_spec_says():
    corpus: Corpus = small()
    assert list(corpus.speakers) == [f"federated-00000{k}" for k in range(4)]
    first = [u.word for u in corpus.utterances if u.speaker_id == "federated-000000"]
    assert sorted(first[:6]) == ["go", "go", "no", "no", "yes", "yes"]
    assert first[6] in ("cat", "dog")
    assert first[7] == SILENCE
    assert len({u.utterance_id for u in corpus.utterances}) == len(corpus.utterances) == 32
    assert set(corpus.speakers["federated-000000"].segments) == {
        *("accent", "sex", "age_band", "device", "noise")
    }
    assert corpus.skipped == ()


def test_bits_depend_on_the_utterance_alone():
    corpus = small()
    chosen = corpus.utterances
    together = corpus.waveforms(chosen)
    assert together.shape == (32, 16_000)
    assert together.dtype == np.float32
    assert np.array_equal(small().waveforms(chosen[::-1])[::-1], together)
    for row in (0, 7, 31):
        assert np.array_equal(corpus.waveforms([chosen[row]])[0], together[row])
    assert corpus.waveforms([]).shape == (0, 16_000)


@pytest.mark.slow
def test_another_process_makes_the_same_bits():
    program = """
import hashlib
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
corpus = SyntheticCorpus(pretraining_spec(("yes", "no"), seed=3, num_public=0, num_validation=2))
digest = hashlib.sha256(corpus.waveforms(corpus.utterances).tobytes()).hexdigest()
"""
    here: dict[str, str] = {}
    exec(program, here)
    there = subprocess.run(
        [sys.executable, "-c", program + "print(digest)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == here["digest"]


def test_speakers_do_not_depend_on_how_many_there_are():
    more = small(groups=(replace(GROUP, num_speakers=9), replace(GROUP, name="held_out")))
    few = small()
    assert few.utterances == more.utterances[:32]
    prints = [few.fingerprint(u) for u in few.utterances]
    assert prints == [more.fingerprint(u) for u in few.utterances]
    assert np.array_equal(few.waveforms(few.utterances[:5]), more.waveforms(few.utterances[:5]))


def test_a_fingerprint_is_the_hash_of_all_that_is_heard():
    corpus = small()
    utterance = corpus.utterances[0]
    others = (
        small(seed=8),
        small(spread=Spread(vowels=0.2)),
        small(spread=Spread(takes=2.0)),
        small(groups=(replace(GROUP, accents=(("raised", 1.0),)),)),
        small(groups=(replace(GROUP, devices=("far_field",)),)),
        small(lexicon=(("yes", "Y AH1 S"), ("no", "N AO1"), ("go", "G AO1"))),
    )
    prints = {corpus.fingerprint(utterance), *(c.fingerprint(utterance) for c in others)}
    prints.update(corpus.fingerprint(other) for other in corpus.utterances)
    assert len(prints) == 32 + len(others)
    assert len(hashlib.sha256().hexdigest()) == len(corpus.fingerprint(utterance))


def test_words_come_from_the_scenario_s_own_lexicon():
    group = replace(GROUP, words=("fedora", "go"))
    corpus = small(groups=(group,), lexicon=(("fedora", "F AH0 D AO1 R AH0"),))
    assert np.abs(corpus.waveforms(corpus.utterances[:2])).max() > 0.01
    with pytest.raises(ValueError, match="'fedora'"):
        small(groups=(group,))


def test_held_out_words_cannot_be_trained_on():
    for name in ("validation", "held_out"):
        small(groups=(replace(GROUP, name=name),), held_out_words=("cat",))
    for name in ("public", "federated", "anything"):
        with pytest.raises(ValueError, match="held-out"):
            small(groups=(replace(GROUP, name=name),), held_out_words=("cat",))


def test_quantity_skew_keeps_the_mean_and_the_minimum():
    group = replace(
        GROUP, num_speakers=1_000, utterances_per_word=4, skew=0.5, min_clips=5, num_unknown=0
    )
    corpus = small(groups=(replace(group, num_silence=0),))
    clips = np.unique([u.speaker_id for u in corpus.utterances], return_counts=True)[1]
    assert len(clips) == 1_000
    assert clips.min() == 5
    # Log-normal of mean 12: standard deviation 6.4, standard error .2; the minimum adds about .1.
    assert clips.mean() == pytest.approx(12.1, abs=1.2)
    assert clips.std() > 4


def test_a_base_is_trained_on_one_accent_and_validated_on_all():
    spec = pretraining_spec(DEFAULT_TARGETS, seed=1, num_public=150, num_validation=40)
    corpus = SyntheticCorpus(spec)
    accents = {
        name: {corpus.speakers[speaker].segments["accent"] for speaker in members}
        for name, members in corpus.groups.items()
    }
    assert accents == {"public": {"plain"}, "validation": set(ACCENTS)}
    trained = {u.word for u in corpus.utterances if u.speaker_id[:2] == "pu"}
    validated = {u.word for u in corpus.utterances if u.speaker_id[:2] == "va"}
    assert not trained & set(HELD_OUT_WORDS)
    assert set(HELD_OUT_WORDS) <= validated
    assert [len(members) for members in corpus.groups.values()] == [150, 40]


def test_what_is_not_of_this_corpus_is_refused():
    corpus = small()
    for wrong in (
        Utterance("federated-000099/yes/0", "federated-000099", "yes"),
        Utterance("federated-000000/bird/0", "federated-000000", "bird"),
    ):
        with pytest.raises(ValueError, match="no such utterance"):
            corpus.waveforms([wrong])


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "a-b"}, "name"),
        ({"num_speakers": -1}, "num_speakers"),
        ({"utterances_per_word": -1}, "utterances_per_word"),
        ({"accents": (("martian", 1.0),)}, "martian"),
        ({"accents": (("plain", 0.0),)}, "shares"),
        ({"devices": ("toaster",)}, "toaster"),
        ({"unknown_words": ()}, "unknown_words"),
    ],
)
def test_impossible_groups_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        replace(GROUP, **changes)


def test_clashing_groups_are_refused():
    with pytest.raises(ValueError, match="different names"):
        small(groups=(GROUP, GROUP))


def test_near_misses_are_added_and_nothing_else_changes():
    near = {"go~000": "K OW1", "go~001": "OW1"}
    with_near = replace(GROUP, near_misses=tuple(near), num_near_misses=3)
    before, after = small(), small(groups=(with_near,), lexicon=tuple(near.items()))
    added = [u for u in after.utterances if u.word in near]
    assert len(added) == 3 * GROUP.num_speakers
    kept = [u for u in after.utterances if u.word not in near]
    assert kept == list(before.utterances)
    assert [after.fingerprint(u) for u in kept] == [before.fingerprint(u) for u in kept]
    assert np.abs(after.waveforms(added[:2])).max() > 0.01
    assert repr(with_near) == repr(GROUP), "bases are cached by this text, and hear none of them"
    with pytest.raises(ValueError, match="num_near_misses=3 needs near_misses"):
        replace(GROUP, num_near_misses=3)
