import numpy as np
import pytest

from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec


def corpus(group, seed=1):
    speakers = SpeakerGroup(name=group, num_speakers=2, words=("yes", "no"), utterances_per_word=1)
    return SyntheticCorpus(SyntheticSpec(seed=seed, groups=(speakers,)))


def test_every_clip_sounds_and_is_fingerprinted_as_in_its_own_corpus():
    first, second = corpus("public"), corpus("held_out")
    joined = JoinedCorpus(first, second)
    assert set(joined.speakers) == set(first.speakers) | set(second.speakers)
    mixed = [second.utterances[0], first.utterances[1], second.utterances[3]]
    clips = joined.waveforms(mixed)
    for clip, utterance, home in zip(clips, mixed, (second, first, second), strict=True):
        np.testing.assert_array_equal(clip, home.waveforms([utterance])[0])
        assert joined.fingerprint(utterance) == home.fingerprint(utterance)


def test_corpora_that_share_a_speaker_are_refused():
    with pytest.raises(ValueError, match="share no id"):
        JoinedCorpus(corpus("public"), corpus("public", seed=2))
