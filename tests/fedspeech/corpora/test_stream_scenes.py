import itertools

import numpy as np

from fedspeech.corpora import stream_scenes
from fedspeech.corpora.stream_scenes import SCENE_SAMPLES, keyword_free, with_keywords
from fedspeech.synthesis import formants
from fedspeech.synthesis.lexicon import DEFAULT_TARGETS, PRONUNCIATIONS, pronunciation


def spoken_words(monkeypatch, scenes):
    """Phones of every word that the scenes say."""
    said = []

    def listen(takes, num_samples):
        said.extend(word for take in takes for word in take.words)
        return formants.sentences(takes, num_samples)

    monkeypatch.setattr(stream_scenes, "sentences", listen)
    list(scenes)
    return said


def test_nobody_says_a_target_in_keyword_free_sound(monkeypatch):
    said = spoken_words(monkeypatch, keyword_free(36, DEFAULT_TARGETS, seed=3))
    targets = {pronunciation(word, {}) for word in DEFAULT_TARGETS}
    assert len(said) > 20
    assert not targets & set(said)
    assert set(said) <= {pronunciation(word, {}) for word in PRONUNCIATIONS}


def test_as_long_as_asked_repeatable_and_different_by_seed():
    first, again, other = (list(keyword_free(13, DEFAULT_TARGETS, seed)) for seed in (1, 1, 2))
    assert [scene.shape for scene in first] == [(SCENE_SAMPLES,)] * 2
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_keywords_stand_where_they_are_said_to_be_and_apart():
    for sound, spoken in itertools.islice(with_keywords(6, ("yes", "no"), 0, {}), 2):
        assert sound.shape == (SCENE_SAMPLES,)
        assert [word.word in ("yes", "no") for word in spoken] == [True] * 3
        assert spoken[0].start >= 16_000, "a model hears a second at a time"
        for one, following in itertools.pairwise(spoken):
            assert following.start - one.stop >= 2 * 16_000
        for word in spoken:
            inside = np.abs(sound[word.start : word.stop]).max()
            before = np.abs(sound[word.start - 8_000 : word.start]).max()
            assert inside > before
