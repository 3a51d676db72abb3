"""Words that many phones hold are found, and a string that few hold is never named."""

import math

import numpy as np
import pytest
from counting import Release, axis, plan_for
from scipy.stats import norm

from fedspeech.corpora.corpus import Alphabet
from fedspeech.queries.estimate import Sampling
from fedspeech.queries.heavy_hitters import HeavyHitters
from fedspeech.queries.words import Spelling
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset

PHONES, K_MIN = 300, 20
HELD = {"lamp": 0.8, "lamb": 0.6, "off": 0.5, "kitchen": 0.4, "rare": 0.02}
CENTRAL = {"mechanism": "central", "noise_multiplier": 2.0, "participation_probability": 0.9}


def speaking(sentences, attributes=()):
    """A phone that holds sentences."""
    return LocalDataset(
        np.zeros((len(sentences), 1), np.float32),
        Alphabet().encode(sentences),
        attributes=np.array(attributes, dtype=np.int16),
    )


def population(held):
    """Phones of which each word is held by a share."""
    draws = stream(1, "words").random((PHONES, len(held)))
    said = [
        " ".join(word for word, share, draw in zip(held, held.values(), row, strict=True)
                 if draw < share)
        for row in draws
    ]  # fmt: skip
    return [speaking([sentence], [index % 2]) for index, sentence in enumerate(said)]


def query_for(phones, **settings):
    query = HeavyHitters(max_length=8, letters=2, beam=6, max_cells=4, **settings)
    plan = plan_for(query, population=len(phones), **CENTRAL)
    return query.under(plan, K_MIN), plan


def holding(phones):
    """How many phones hold each word."""
    return {word: sum(word in Alphabet().decode(one.labels[0]).split() for one in phones)
            for word in HELD}  # fmt: skip


def test_a_search_without_noise_follows_every_frequent_word():
    phones = population(HELD)[:80]
    query = HeavyHitters(max_length=8, letters=2, beam=6, max_cells=8, least=0.1)
    state = query.initial(None)
    for number in range(query.rounds):
        rngs = [stream(2, "own", number, index) for index in range(80)]
        added = query.contributions(phones, state.parameters.astype(np.float32), rngs)
        assert max(np.linalg.norm(one) for one in added) <= query.l2_bound
        state = query.update(state, np.mean(added, axis=0, dtype=np.float64))
    plan = plan_for(query, population=80, participation_probability=1.0,
                    participation="round_robin", mechanism="central")  # fmt: skip
    found = {one.cell[0]: round(one.value) for one in query.estimates(state, plan)}
    true = holding(phones)
    assert found == {word: true[word] for word in ("lamp", "lamb", "off", "kitchen")}


@pytest.mark.slow
def test_with_noise_frequent_words_come_out_and_rare_ones_do_not():
    phones = population(HELD)
    query, plan = query_for(phones)
    true, named = holding(phones), []
    assert true["rare"] < K_MIN < query.smallest_found(plan) < true["kitchen"]
    release = Release(query, plan, phones)
    for seed in range(2):
        found = {one.cell[0]: one for one in query.estimates(release.run(seed), plan)}
        named.append(found)
        assert set(found) <= set(true) - {"rare"}
        assert all(abs(one.value - true[word]) < 5 * one.noise_stddev + 5 * one.sampling_stddev
                   for word, one in found.items())  # fmt: skip
    assert any("lamp" in one for one in named)  # found in far more than 9 of 10


def test_segments_have_searches_of_their_own():
    query = HeavyHitters(segments=(axis("s", 0, 2),), max_length=2, letters=2, beam=2, least=0.3)
    phones = [speaking(["no" if index % 2 else "ja"], [index % 2]) for index in range(10)]
    state = query.initial(None)
    for number in range(query.rounds):
        rngs = [stream(2, "own", number, index) for index in range(10)]
        added = query.contributions(phones, state.parameters.astype(np.float32), rngs)
        state = query.update(state, np.mean(added, axis=0, dtype=np.float64))
    plan = plan_for(query, population=10, participation_probability=1.0, min_cohort=9,
                    min_reporting=9, participation="round_robin", mechanism="central")  # fmt: skip
    found = [(one.segment, one.cell, round(one.value)) for one in query.estimates(state, plan)]
    assert found == [(("s 0",), ("ja",), 5), (("s 1",), ("no",), 5)]


def test_a_count_below_the_least_does_not_go_on():
    query = HeavyHitters(max_length=2, letters=1, beam=3, least=0.25)
    mean = np.zeros(query.dimension)
    mean[[3, 5]] = 0.3, 0.2
    prefixes = query.update(query.initial(None), mean).parameters.reshape(3, 2)
    assert prefixes.tolist() == [[3, -1], [-2, -2], [-2, -2]]


def test_a_search_without_a_least_count_asks_nobody():
    with pytest.raises(ValueError, match="least must be set before anybody is asked"):
        HeavyHitters().initial(None)


def test_words_are_written_and_read_and_only_words_go_on():
    spelling = Spelling(letters=("a", "b"), digits=4, step=2)
    assert spelling.write("aba").tolist() == [1, 2, 1, 0]
    assert spelling.read(spelling.write("aba")) == "aba"
    assert [spelling.write(word) for word in ("", "abbab", "ac")] == [None] * 3
    free = np.full(4, -1)
    assert np.flatnonzero(spelling.possible(free, 0)).tolist() == [3, 4, 5, 6, 7, 8]
    ended = spelling.grown(free, 0, 3)
    assert ended.tolist() == [1, 0, -1, -1]
    assert np.flatnonzero(spelling.possible(ended, 2)).tolist() == [0]


def test_the_least_count_leaves_room_for_the_noise_of_all_counts():
    phones = population(HELD)
    query, plan = query_for(phones)
    said = Sampling.of(plan)
    deviations = (query.least * said.scale_up - K_MIN) / math.sqrt(
        said.noise_variance + said.sampling_variance(K_MIN)
    )
    assert norm.sf(deviations) * query.rounds * query.dimension == pytest.approx(0.01)
