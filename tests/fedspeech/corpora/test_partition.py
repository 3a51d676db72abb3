import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.corpora.corpus import SILENCE, Utterance
from fedspeech.corpora.partition import (
    GROUPS,
    AllBut,
    Heavy,
    Named,
    Partition,
    Phone,
    by_group,
    by_speaker,
    default_rule,
    with_devices,
    with_quantity_skew,
)
from fedspeech.errors import CorpusError


def phone(speaker, number=0):
    clip = Utterance(f"{speaker}/{number}", speaker, "yes")
    return Phone(f"phone-{speaker}-{number}", speaker, {}, (clip,))


def speakers(phones):
    return {one.speaker_id for one in phones}


def said(counts):
    return {name: ["yes"] * count for name, count in counts.items()}


EMPTY = dict.fromkeys(GROUPS, ())


@pytest.mark.parametrize(("one", "other"), itertools.combinations(GROUPS, 2))
def test_a_speaker_in_two_groups_is_refused_by_name(one, other):
    with pytest.raises(ValueError, match=f"speaker 'anna' in {one} and {other}"):
        Partition(**EMPTY | {one: (phone("anna"),), other: (phone("ben"), phone("anna", 1))})


def test_phones_in_pre_training_are_refused_even_when_the_unit_is_the_phone():
    groups = EMPTY | {"public": (phone("anna"),), "federated": (phone("anna", 1),)}
    with pytest.raises(ValueError, match="speaker 'anna' in public and federated"):
        Partition(**groups, unit="phone")


def test_two_phones_of_a_speaker_are_not_called_users():
    two = EMPTY | {"federated": (phone("anna"), phone("anna", 1))}
    with pytest.raises(ValueError, match="with unit='user' a speaker has one phone, got two"):
        Partition(**two)
    assert len(Partition(**two, unit="phone").federated) == 2


def test_phone_ids_are_unique():
    twin = Phone("phone-anna-0", "ben", {}, ())
    with pytest.raises(ValueError, match="phone ids must be unique, got 'phone-anna-0' twice"):
        Partition(**EMPTY | {"federated": (phone("anna"), twin)})


def test_the_embedded_corpus_names_its_groups(small_corpus):
    names = ("public-0", "validation-0", "federated-0", "federated-1", "held_out-0")
    corpus = small_corpus(said(dict.fromkeys(names, 2)), {"held_out-0": {"accent": "northern"}})
    partition = by_group(corpus, seed=0)
    for group in GROUPS:
        assert speakers(getattr(partition, group)) == {n for n in names if n.startswith(group)}
    assert partition.held_out[0].segments == {"accent": "northern"}
    assert len(partition.held_out[0].utterances) == 2
    assert partition.unit == "user"
    with pytest.raises(ValueError, match=r"must begin with one of public, .* got 'anna'"):
        by_group(small_corpus({"anna": ["yes"]}), seed=0)


def test_heavy_speakers_are_held_out_and_light_ones_federate(small_corpus):
    corpus = small_corpus(said({"a": 30, "b": 29, "c": 31, "d": 2, "e": 1}))
    partition = by_speaker(corpus, seed=0, held_out=Heavy(30))
    assert speakers(partition.held_out) == {"a", "c"}
    assert speakers(partition.federated) == {"b", "d"}
    assert [(skip.where, skip.reason) for skip in partition.skipped] == [
        ("speaker e", "too few clips: 1, at least 2")
    ]


def test_a_number_of_speakers_federates_by_the_seed(small_corpus):
    corpus = small_corpus(said({f"s{n}": 3 for n in range(20)}))
    splits = [by_speaker(corpus, seed=seed, held_out=AllBut(12)) for seed in (0, 0, 1)]
    assert [(len(split.federated), len(split.held_out)) for split in splits] == [(12, 8)] * 3
    assert splits[0] == splits[1]
    assert speakers(splits[0].held_out) != speakers(splits[2].held_out)
    rest = by_speaker(corpus, seed=0, held_out=AllBut(12), public=3, validation=2)
    assert [len(getattr(rest, group)) for group in GROUPS] == [3, 2, 12, 3]


def test_named_speakers_are_held_out(small_corpus):
    corpus = small_corpus(said({"a": 3, "b": 3, "c": 3}))
    partition = by_speaker(corpus, seed=0, held_out=Named({"b", "not there"}))
    assert speakers(partition.held_out) == {"b"}
    assert speakers(partition.federated) == {"a", "c"}


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=25),
    seed=st.integers(0, 99),
    rule=st.one_of(st.builds(Heavy, st.integers(2, 35)), st.builds(AllBut, st.integers(1, 20))),
    public=st.integers(0, 5),
    validation=st.integers(0, 5),
)
def test_every_speaker_is_in_one_group_or_skipped_or_the_split_is_refused(
    small_corpus, counts, seed, rule, public, validation
):
    corpus = small_corpus(said({f"s{n}": count for n, count in enumerate(counts)}))
    try:
        partition = by_speaker(
            corpus, seed=seed, held_out=rule, public=public, validation=validation
        )
    except CorpusError:
        return
    groups = [speakers(getattr(partition, group)) for group in GROUPS]
    left_out = {skip.where.removeprefix("speaker ") for skip in partition.skipped}
    assert sum(map(len, groups)) + len(left_out) == len(counts)
    assert set().union(left_out, *groups) == set(corpus.speakers)
    assert len(groups[0]) == public
    assert len(groups[1]) == validation
    for group in GROUPS:
        for one in getattr(partition, group):
            assert {clip.speaker_id for clip in one.utterances} == {one.speaker_id}
            assert len(one.utterances) == counts[int(one.speaker_id[1:])]


def test_noise_is_public_and_nobody_s_phone(small_corpus):
    corpus = small_corpus({"a": ["yes"] * 40, "b": ["yes"] * 3, "_noise_/tap": [SILENCE] * 50})
    partition = by_speaker(corpus, seed=0, held_out=Heavy(30))
    assert speakers(partition.public) == {"_noise_/tap"}
    assert speakers(partition.held_out) == {"a"}


def test_a_split_that_leaves_a_group_empty_is_refused_with_figures(small_corpus):
    corpus = small_corpus(said({"a": 4, "b": 9, "c": 1}))
    with pytest.raises(
        CorpusError,
        match=r"group held_out: 2 speakers .* 4 to 9 clips each; .*speakers with 30 clips or more",
    ):
        by_speaker(corpus, seed=0, held_out=Heavy(30))
    with pytest.raises(CorpusError, match="group federated"):
        by_speaker(corpus, seed=0, held_out=Heavy(2))
    with pytest.raises(ValueError, match="public=-1"):
        by_speaker(corpus, seed=0, held_out=Heavy(5), public=-1)


def test_the_default_rule_follows_the_corpus(small_corpus):
    mixed = small_corpus(said({"a": 30, "b": 45, "c": 5, "d": 6}))
    even = small_corpus(said({f"s{n}": 64 for n in range(20)}))
    assert default_rule(mixed) == Heavy(30)
    assert default_rule(even) == AllBut(12)


def test_pseudonyms_follow_the_seed_and_name_nobody(small_corpus):
    corpus = small_corpus(said({"anna": 40, "ben": 3}))
    first, again, other = (by_speaker(corpus, seed=seed, held_out=Heavy()) for seed in (0, 0, 1))
    assert first == again
    assert first.held_out[0].phone_id != other.held_out[0].phone_id
    assert "anna" not in repr(first)
    assert "yes" not in repr(first)


def test_skew_leaves_federated_phones_fewer_clips_and_the_others_whole(small_corpus):
    corpus = small_corpus(said({f"s{n:03}": 29 + n % 2 for n in range(400)}))
    whole = by_speaker(corpus, seed=0, held_out=Heavy(30))
    skewed = with_quantity_skew(whole, seed=3, spread=1.0)
    assert skewed.held_out == whole.held_out
    sizes = [len(one.utterances) for one in skewed.federated]
    assert min(sizes) >= 2
    # Median share is exp(-0.674) = 0.51. Of 200 phones, 72 to 128 above it: 4 standard
    # deviations, a false alarm in 16,000.
    assert 72 <= sum(size > 0.51 * 29 for size in sizes) <= 128
    for before, after in zip(whole.federated, skewed.federated, strict=True):
        assert set(after.utterances) <= set(before.utterances)
    assert with_quantity_skew(whole, seed=3, spread=0.0) == whole
    with pytest.raises(ValueError, match="spread=-1"):
        with_quantity_skew(whole, seed=3, spread=-1.0)


def test_devices_multiply_phones_inside_their_group_and_change_the_unit(small_corpus):
    corpus = small_corpus(said({"a": 30, "b": 3, "c": 4, "d": 5}) | {"_noise_/tap": [SILENCE]})
    users = by_speaker(corpus, seed=0, held_out=Heavy(30), validation=1)
    phones, played = with_devices(users, corpus, 5, seed=1)
    assert phones.unit == "phone"
    assert phones.public == users.public
    for group in GROUPS[1:]:
        assert len(getattr(phones, group)) == 5 * len(getattr(users, group))
        assert speakers(getattr(phones, group)) == speakers(getattr(users, group))
    everywhere = [one for group in GROUPS for one in getattr(phones, group)]
    clips = [clip for one in everywhere for clip in one.utterances]
    assert len({clip.utterance_id for clip in clips}) == len(clips)
    assert set(clips) <= set(played.utterances)
    assert all({"device", "noise"} <= set(one.segments) for one in phones.held_out)
    assert with_devices(users, corpus, 5, seed=1)[0] == phones
    with pytest.raises(ValueError, match="devices_per_speaker=0"):
        with_devices(users, corpus, 0, seed=1)
    with pytest.raises(ValueError, match="16 speakers with several phones"):
        with_devices(phones, played, 2, seed=1)


@pytest.mark.corpus
def test_real_speakers_split_as_the_table_says(real_corpus):
    corpus = real_corpus("speech_commands_v1_subset")
    assert default_rule(corpus) == Heavy(30)
    partition = by_speaker(corpus, seed=0, held_out=Heavy(30))
    assert (len(partition.federated), len(partition.held_out)) == (150, 36)
    corpus = real_corpus("dspspeech20_english_a")
    assert default_rule(corpus) == AllBut(12)
    splits = [by_speaker(corpus, seed=seed, held_out=AllBut(12)) for seed in range(3)]
    assert {(len(split.federated), len(split.held_out)) for split in splits} == {(12, 8)}
    assert len({frozenset(speakers(split.held_out)) for split in splits}) == 3
