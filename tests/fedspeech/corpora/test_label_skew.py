"""Clips mixed onto phones, held against Flower Datasets' own partitioners where they are there."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.corpora.label_skew import Dirichlet, Pathological, with_label_skew
from fedspeech.corpora.partition import AllBut, by_speaker, utterances_of

WORDS = [f"w{number % 7}" for number in range(1_400)]


@pytest.fixture
def partition(small_corpus):
    said = {f"s{n}": ["yes", "no", "up", "down"] * 5 for n in range(20)}
    return by_speaker(small_corpus(said), seed=1, held_out=AllBut(15), validation=2)


@pytest.mark.parametrize("rule", [Dirichlet(0.3), Dirichlet(5.0, balanced=False), Pathological(2)])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), phones=st.integers(1, 30))
def test_every_clip_is_on_one_phone(rule, seed, phones):
    parts = rule.parts(WORDS, phones, np.random.default_rng(seed), 1)
    assert len(parts) == phones
    placed = np.concatenate(parts)
    assert len(set(placed.tolist())) == len(placed)
    drawn = {WORDS[index] for index in placed}  # a word that no phone draws stays unused
    assert len(placed) == sum(word in drawn for word in WORDS)
    if isinstance(rule, Dirichlet):
        assert len(placed) == len(WORDS)
    else:
        assert all(len({WORDS[index] for index in part}) == 2 for part in parts)


def test_a_smaller_alpha_leaves_fewer_words_on_a_phone():
    """The mean share of a phone's commonest word, over 50 phones: 7 words, 28 clips a phone."""

    def commonest(alpha):
        parts = Dirichlet(alpha).parts(WORDS, 50, np.random.default_rng(0), 1)
        counts = [Counter(WORDS[index] for index in part) for part in parts]
        return np.mean([max(count.values()) / count.total() for count in counts])

    shares = [commonest(alpha) for alpha in (0.1, 1.0, 100.0)]
    assert shares[0] > 0.6 > shares[1] > 0.25 > shares[2]


def test_only_federated_clips_are_mixed_and_the_unit_is_said_to_cover_no_person(partition):
    mixed = with_label_skew(partition, Dirichlet(0.5), phones=12, seed=3)
    assert Counter(utterances_of(mixed.federated)) == Counter(utterances_of(partition.federated))
    assert (mixed.held_out, mixed.validation) == (partition.held_out, partition.validation)
    assert len(mixed.federated) == 12
    assert mixed.unit == "phone"
    assert "no epsilon of this run covers a person" in mixed.unit_note
    assert "15 speakers are mixed onto 12 phones by a Dirichlet draw" in mixed.unit_note
    everybody = {f"s{n}" for n in range(20)}
    names = {phone.speaker_id for phone in mixed.federated}
    assert not names & everybody
    assert max(len(phone.people) for phone in mixed.federated) > 1
    assert mixed == with_label_skew(partition, Dirichlet(0.5), phones=12, seed=3)
    assert mixed != with_label_skew(partition, Dirichlet(0.5), phones=12, seed=4)


def test_what_cannot_be_divided_is_refused_with_a_way_out(partition):
    with pytest.raises(ValueError, match=r"no division of 300 clips by alpha=0.01 .* fewer phones"):
        with_label_skew(partition, Dirichlet(0.01), phones=100, seed=1)
    with pytest.raises(ValueError, match="9 words per phone of 4 words"):
        with_label_skew(partition, Pathological(9), phones=5, seed=1)
    with pytest.raises(ValueError, match="fewer phones, or fewer words per phone"):
        with_label_skew(partition, Pathological(4), phones=300, seed=1)
    with pytest.raises(ValueError, match="alpha"):
        Dirichlet(0.0)


def flower(partitioner, column, values):
    """The parts of one of Flower Datasets' partitioners, as sets of rows."""
    datasets = pytest.importorskip("datasets", reason="Flower Datasets is not installed")
    partitioner.dataset = datasets.Dataset.from_dict(
        {column: values, "row": list(range(len(values)))}
    )
    return [set(partitioner.load_partition(n)["row"]) for n in range(partitioner.num_partitions)]


@pytest.fixture
def partitioners():
    return pytest.importorskip(
        "flwr_datasets.partitioner", reason="Flower Datasets is not installed"
    )


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 10.0])
def test_dirichlet_parts_are_flowers(partitioners, alpha, balanced):
    for seed in range(5):
        theirs = flower(
            partitioners.DirichletPartitioner(
                num_partitions=20, partition_by="word", alpha=alpha, min_partition_size=2,
                self_balancing=balanced, shuffle=False, seed=seed,
            ), "word", WORDS,
        )  # fmt: skip
        rng = np.random.default_rng(seed)
        ours = Dirichlet(alpha, balanced).parts(WORDS, 20, rng, 2)
        assert [set(part.tolist()) for part in ours] == theirs


def test_pathological_parts_are_flowers(partitioners):
    for seed in range(5):
        theirs = flower(
            partitioners.PathologicalPartitioner(
                num_partitions=20, partition_by="word", num_classes_per_partition=3,
                class_assignment_mode="random", shuffle=False, seed=seed,
            ), "word", WORDS,
        )  # fmt: skip
        ours = Pathological(3).parts(WORDS, 20, np.random.default_rng(seed), 1)
        assert [set(part.tolist()) for part in ours] == theirs


def test_a_phone_per_speaker_is_flowers_natural_partition(partitioners, small_corpus):
    corpus = small_corpus({f"s{n}": ["yes"] * (2 + n) for n in range(8)})
    clips = [clip.speaker_id for clip in corpus.utterances]
    theirs = flower(partitioners.NaturalIdPartitioner(partition_by="speaker"), "speaker", clips)
    divided = by_speaker(corpus, seed=0, held_out=AllBut(4))
    place = {clip.utterance_id: row for row, clip in enumerate(corpus.utterances)}
    ours = [
        {place[clip.utterance_id] for clip in phone.utterances}
        for phone in (*divided.federated, *divided.held_out)
    ]
    assert sorted(map(sorted, ours)) == sorted(map(sorted, theirs))
