"""Listening before export: the counts of the base's own stream, and none of a deaf adapter."""

import numpy as np
import pytest

from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.evaluation.streaming import ListeningCounts, ListeningRules
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, default_base_path
from fedspeech.tasks.keyword_stream import HeardStreams

SECONDS = 24.0


@pytest.fixture(scope="module")
def base():
    return Base.load(default_base_path())


@pytest.fixture(scope="module", params=["head", "affine"])
def adapter(base, request):
    return make_adapter(
        request.param, base.num_windows, base.built_in.spec.features, len(base.vocabulary.labels)
    )


@pytest.fixture(scope="module")
def sound(base, adapter):
    targets = base.vocabulary.targets
    return HeardStreams.keyword_free(base, adapter, seconds=SECONDS, targets=targets, seed=3)


def of_the_base(base, adapter):
    return adapter.spec.flatten(adapter.initial(base.head_weight, base.head_bias))


@pytest.mark.slow
def test_an_untrained_adapter_errs_as_the_base_does(base, adapter, sound):
    expected = ListeningCounts.nothing()
    for scene in negative_scenes(SECONDS, base.vocabulary.targets, 3, {}):
        logits = base.logits(base.listening_output(scene.sound)).numpy()
        expected += ListeningCounts.without_keywords(logits, ListeningRules(), 10.0)
    found = sound.counts(of_the_base(base, adapter))
    assert np.array_equal(found.false_accepts, expected.false_accepts)
    assert found.hours == pytest.approx(SECONDS / 3600)


@pytest.mark.slow
def test_an_adapter_that_answers_silence_accepts_and_finds_nothing(base, adapter, sound):
    parameters = adapter.initial(base.head_weight, base.head_bias)
    parameters["head_bias"] = parameters["head_bias"] + 100.0 * np.eye(12, dtype=np.float32)[11]
    deaf = adapter.spec.flatten(parameters)
    assert not sound.counts(deaf).false_accepts.any()
    keywords = spoken(base, adapter)
    assert not keywords.counts(deaf).found.any()


def spoken(base, adapter):
    """Words of people that the base has never heard, of its own accent."""
    targets = base.vocabulary.targets
    corpus = SyntheticCorpus(pretraining_spec(targets, seed=77, num_public=3))
    said = [clip for clip in corpus.utterances if clip.word in targets][:24]
    labels = base.vocabulary.encode([clip.word for clip in said])
    return HeardStreams.of_keywords(base, adapter, base.heard(corpus, said), labels)


@pytest.mark.slow
def test_the_base_finds_most_of_the_words_that_it_knows(base, adapter):
    counts = spoken(base, adapter).counts(of_the_base(base, adapter))
    assert counts.keywords == 24
    assert counts.at(0.5).frr < 0.3
    assert counts.hours == 0
