import numpy as np
import pytest

from fedspeech.audio.alteration import Alteration
from fedspeech.corpora.altered import AlteredCorpus


@pytest.fixture
def corpus(small_corpus):
    return small_corpus({"anna": ["yes", "no"], "ben": ["yes"]})


def test_copies_are_side_by_side_and_keep_word_and_speaker(corpus):
    copies = AlteredCorpus(corpus, rate_hz=16_000, copies=3)
    clips = copies.of(corpus.utterances)
    assert [clip.word for clip in clips] == [c.word for c in corpus.utterances for _ in range(3)]
    assert [c.speaker_id for c in clips] == [c.speaker_id for c in corpus.utterances for _ in "abc"]
    assert len({copies.fingerprint(clip) for clip in clips}) == len(clips)
    assert not {corpus.fingerprint(c) for c in corpus.utterances} & set(
        map(copies.fingerprint, clips)
    )


def test_bits_follow_from_clip_and_number_alone(corpus):
    one, other = (AlteredCorpus(corpus, rate_hz=16_000, copies=count) for count in (2, 3))
    of_one, of_other = one.of(corpus.utterances), other.of(corpus.utterances[::-1])
    alone = {clip.utterance_id: one.waveforms([clip])[0] for clip in of_one}
    for clip, sound in zip(of_other, other.waveforms(of_other), strict=True):
        if clip.utterance_id in alone:
            np.testing.assert_array_equal(sound, alone[clip.utterance_id])
    assert one.fingerprint(of_one[0]) == other.fingerprint(of_one[0])


def test_other_ranges_are_other_clips(corpus):
    usual = AlteredCorpus(corpus, rate_hz=16_000, copies=1)
    louder = AlteredCorpus(corpus, rate_hz=16_000, copies=1, spec=Alteration(gain_db=(6.0, 6.0)))
    clip = usual.of(corpus.utterances[:1])[0]
    louder.of(corpus.utterances[:1])
    assert usual.fingerprint(clip) != louder.fingerprint(clip)
    assert not np.array_equal(usual.waveforms([clip]), louder.waveforms([clip]))


def test_copies_are_at_least_one(corpus):
    with pytest.raises(ValueError, match="at least 1"):
        AlteredCorpus(corpus, rate_hz=16_000, copies=0)
