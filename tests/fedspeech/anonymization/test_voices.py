import numpy as np
import pytest

from fedspeech.anonymization.voices import AnonymizedCorpus, Anonymizer
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.device.egress import Door
from fedspeech.errors import CorpusError, EgressRefused
from fedspeech.seeds import NoiseEntropy

SOUND = 0.1 * np.random.default_rng(1).standard_normal(1600).astype(np.float32)


def anonymizer(seed=1, **settings):
    entropy = NoiseEntropy.seeded(seed, "test") if seed else NoiseEntropy.os()
    return Anonymizer(**{"method": "mcadams", "entropy": entropy} | settings)


def said(by, utterance="a", speaker="anna"):
    return by(SOUND, 16_000, utterance=utterance, speaker=speaker)


@pytest.fixture(scope="module")
def corpus():
    group = SpeakerGroup(name="few", num_speakers=2, words=("yes",), utterances_per_word=2)
    return SyntheticCorpus(SyntheticSpec(seed=1, groups=(group,)))


def test_every_utterance_has_a_voice_or_every_speaker():
    for seed in (1, None):
        each, one = anonymizer(seed), anonymizer(seed, per="speaker")
        assert not np.allclose(said(each, "a"), said(each, "b"), atol=1e-4)
        assert np.array_equal(said(one, "a"), said(one, "b"))
        assert not np.allclose(said(one), said(one, speaker="ben"), atol=1e-4)


def test_a_household_shares_one_voice():
    home = anonymizer(per="speaker", households={"anna": "home", "ben": "home"})
    assert np.array_equal(said(home), said(home, speaker="ben"))
    assert not np.allclose(said(home), said(home, speaker="carl"), atol=1e-4)


def test_two_recordings_of_one_voice_never_share_their_noise():
    """Else whoever has one of them takes the noise off the other."""
    noisy = anonymizer(method="noise", per="speaker")
    one, other = said(noisy, "a") - SOUND, said(noisy, "b") - SOUND
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.15  # 6 standard deviations of independent noise


def test_the_system_draws_another_voice_every_time():
    assert not np.allclose(said(anonymizer(None)), said(anonymizer(None)), atol=1e-4)


def test_no_key_is_printed():
    one = anonymizer(per="speaker")
    said(one)
    assert "_keys" not in repr(one)
    assert "_key=" not in repr(one)


def test_a_corpus_gives_the_same_bits_in_any_batch(corpus):
    wrapped = AnonymizedCorpus(corpus, anonymizer(), rate_hz=16_000)
    together = wrapped.waveforms(wrapped.utterances)
    alone = np.concatenate([wrapped.waveforms([one]) for one in wrapped.utterances[::-1]])
    assert np.array_equal(together, alone[::-1])
    assert not np.allclose(together, corpus.waveforms(corpus.utterances), atol=1e-3)


def test_a_fingerprint_changes_with_seed_method_and_voice(corpus):
    clip = corpus.utterances[0]
    kinds = [{}, {"seed": 2}, {"method": "noise"}, {"per": "speaker"},
             {"per": "speaker", "households": {clip.speaker_id: "home"}}]  # fmt: skip
    prints = {
        AnonymizedCorpus(corpus, anonymizer(**kind), rate_hz=16_000).fingerprint(clip)
        for kind in kinds
    }
    assert len(prints) == len(kinds)
    assert corpus.fingerprint(clip) not in prints


def test_a_corpus_needs_draws_that_repeat_and_sound(corpus):
    with pytest.raises(ValueError, match="seeded"):
        AnonymizedCorpus(corpus, anonymizer(None), rate_hz=16_000)

    class Features:
        name, license, speakers, utterances, skipped = "an4", "", {}, (), ()

        def waveforms(self, clips):
            return np.zeros((1, 10, 13), np.float32)

    with pytest.raises(CorpusError, match="an4 holds features"):
        AnonymizedCorpus(Features(), anonymizer(), rate_hz=16_000).waveforms([])


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"per": "word"}])
def test_names_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="must be one of"):
        anonymizer(**wrong)


def test_an_anonymized_recording_has_no_way_out_of_a_phone():
    """Consent to debugging is never asked: no method here protects a voice, so no type is made."""
    door = Door.__new__(Door)
    for private in (said(anonymizer()), said(anonymizer()).tobytes(), {"clip": [0.1]}):
        with pytest.raises(EgressRefused, match="never leaves a phone"):
            Door.let_out(door, private, made_s=0.0)
