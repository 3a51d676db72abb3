import numpy as np
import pytest

from fedspeech.audio.channel import SPEECH_RMS
from fedspeech.corpora.device_corpus import DeviceCorpus, nominal
from fedspeech.corpora.partition import AllBut, by_speaker, with_devices


@pytest.fixture
def played(small_corpus):
    corpus = small_corpus({"anna": ["yes", "no"], "ben": ["yes", "_silence_"]})
    users = by_speaker(corpus, seed=0, held_out=AllBut(1))
    phones, played = with_devices(users, corpus, 2, seed=0)
    return corpus, phones, played


def test_variants_differ_by_device_and_originals_stay(played):
    corpus, phones, recorded = played
    assert recorded.name == "small on simulated devices"
    original = corpus.waveforms(corpus.utterances)
    np.testing.assert_array_equal(recorded.waveforms(corpus.utterances), original)
    one, two = (recorded.waveforms(phone.utterances) for phone in phones.federated)
    assert one.shape == two.shape == (2, 1_600)
    assert np.isfinite(one).all()
    assert not np.allclose(one, two, atol=1e-3)


def test_bits_do_not_depend_on_batching_or_order(played):
    _, _, recorded = played
    together = recorded.waveforms(recorded.utterances)
    alone = [recorded.waveforms([clip])[0] for clip in recorded.utterances]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(recorded.waveforms(recorded.utterances[::-1]), together[::-1])


def test_fingerprints_tell_variants_apart(played):
    corpus, _, recorded = played
    prints = {recorded.fingerprint(clip) for clip in recorded.utterances}
    assert len(prints) == len(recorded.utterances) == 12
    assert {corpus.fingerprint(clip) for clip in corpus.utterances} <= prints


@pytest.mark.parametrize("level", [0.01, 0.5])
def test_speech_is_brought_to_nominal_loudness_whatever_surrounds_it(level):
    clip = np.zeros(16_000, dtype=np.float32)
    clip[4_800:8_000] = level * np.random.default_rng(0).normal(size=3_200)
    scaled = nominal(clip)
    assert np.sqrt(np.mean(scaled[4_800:8_000] ** 2)) == pytest.approx(SPEECH_RMS, rel=1e-3)
    assert not nominal(np.zeros(16_000, dtype=np.float32)).any()


def test_an_id_that_is_taken_is_refused(played):
    corpus, _, recorded = played
    variant = next(iter(recorded._variants.values()))
    with pytest.raises(ValueError, match="must be new, got 'anna/yes/0'"):
        DeviceCorpus(corpus, {"anna/yes/0": variant})
