"""Sentences from manifests, as features and as sound, and joined from words."""

import dataclasses
import io

import numpy as np
import pytest
import soundfile

from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.corpora.corpus import Speaker, Utterance
from fedspeech.corpora.layouts import open_transcribed
from fedspeech.corpora.sentences import JoinedWords
from fedspeech.errors import CorpusError

HEADER = "clip_id,speaker,first_frame,frames,accent,transcript"


def features(root, lines, frames=400, name="mfcc"):
    """Writes a folder of features: frame k is k + 1 in every coefficient."""
    rows = np.repeat(np.arange(1, frames + 1, dtype=np.float32)[:, None], 13, axis=1)
    np.savez(root / "features.npz", **{name: rows})
    (root / "metadata.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return root


def test_a_clip_is_its_rows_and_zeros_after_them(tmp_path):
    corpus = open_transcribed(
        features(tmp_path, ["a,ann,0,5,coastal,CALL ME", "b,bob,7,3,inland,stop"]), SPHINX_MFCC
    )
    first, second = corpus.utterances
    assert (first.word, first.speaker_id, second.word) == ("call me", "ann", "stop")
    assert corpus.speakers["ann"].segments == {"accent": "coastal"}
    clips = corpus.waveforms([second, first])
    assert clips.shape == (2, SPHINX_MFCC.frames_per_clip, 13)
    np.testing.assert_array_equal(clips[0, :4, 0], [8, 9, 10, 0])
    assert not clips[1, 5:].any()
    np.testing.assert_array_equal(SPHINX_MFCC.recorded_frames(clips), [3, 5])
    assert corpus.fingerprint(first) != corpus.fingerprint(second)


def test_what_is_no_sentence_is_left_out_with_a_reason_that_shows_no_word(tmp_path):
    lines = [
        "a,ann,0,5,x,call me",
        "b,ann,0,5,x,secret 42",
        "c,ann,398,9,x,secret",
        "d,ann,0,399,x,secret",
        "e,ann,zero,5,x,secret",
        f"f,ann,0,5,x,{'secret ' * 20}",
        "a,ann,0,5,x,secret",
    ]
    corpus = open_transcribed(features(tmp_path, lines), SPHINX_MFCC)
    assert [clip.utterance_id for clip in corpus.utterances] == ["a"]
    reasons = [skipped.reason for skipped in corpus.skipped]
    rules = ["alphabet", "no such frames", "too long", "no such frames", "length", "line 2 too"]
    assert all(rule in reason for rule, reason in zip(rules, reasons, strict=True)), reasons
    assert "secret" not in str(corpus.skipped)


def test_features_of_another_front_end_are_refused(tmp_path):
    features(tmp_path, ["a,ann,0,5,x,call me"])
    np.savez(tmp_path / "features.npz", mfcc=np.zeros((9, 12)))
    with pytest.raises(CorpusError, match="frames of 13 features, got"):
        open_transcribed(tmp_path, SPHINX_MFCC)
    (tmp_path / "features.npz").unlink()
    with pytest.raises(CorpusError, match=r"one \.npz file"):
        open_transcribed(tmp_path, SPHINX_MFCC)


def sound(seconds):
    """The bytes of a wav file with a tone."""
    data = io.BytesIO()
    samples = 0.3 * np.sin(np.arange(round(seconds * 16_000)) * 0.2)
    soundfile.write(data, samples, 16_000, format="WAV")
    return data.getvalue()


def test_sound_begins_with_its_clip_and_too_long_a_recording_is_left_out(studio):
    studio.clip("one.wav", sound(1.0))
    studio.clip("long.wav", sound(9.0))
    studio.manifest("file,speaker,transcript", "one.wav,ann,call me", "long.wav,ann,call me")
    corpus = open_transcribed(studio.root, SPHINX_MFCC)
    (clip,) = corpus.utterances
    assert clip.word == "call me"
    assert "too long for a sentence" in corpus.skipped[0].reason
    (samples,) = corpus.waveforms([clip])
    assert samples.shape == (SPHINX_MFCC.clip_samples,)
    assert samples[:16_000].any()
    assert not samples[16_000:].any()
    assert SPHINX_MFCC.recorded_frames(samples[None])[0] == 100


class Words:
    """Two speakers with five clips each: a tone in the middle of a second of faint noise."""

    name, license, skipped = "tones", "CC0", ()

    def __init__(self):
        self.speakers = {name: Speaker(name) for name in ("ann", "bob")}
        self.utterances = [
            Utterance(f"{name}-{k}", name, word)
            for name in self.speakers
            for k, word in enumerate(("yes", "no", "up", "go", "_silence_"))
        ]

    def fingerprint(self, utterance):
        return f"{self.utterances.index(utterance):064x}"

    def waveforms(self, utterances):
        rng = np.random.default_rng(0)
        clips = 1e-4 * rng.standard_normal((len(utterances), 16_000)).astype(np.float32)
        clips[:, 6_000:10_000] += 0.1 * np.sin(np.arange(4_000) * 0.3, dtype=np.float32)
        return clips


def test_joined_words_are_used_once_and_stand_in_one_room():
    corpus = JoinedWords(Words(), SPHINX_MFCC, length=(2, 2), most=3, seed=1)
    assert [clip.speaker_id for clip in corpus.utterances] == ["ann", "ann", "bob", "bob"]
    for name in corpus.speakers:
        said = " ".join(clip.word for clip in corpus.utterances if clip.speaker_id == name)
        assert sorted(said.split()) == ["go", "no", "up", "yes"]
    clips = corpus.waveforms(corpus.utterances)
    for clip in clips:
        loud = np.abs(clip).reshape(-1, 400).max(axis=1)
        loud = np.concatenate([[False], loud > loud.max() / 3])
        assert np.count_nonzero(np.diff(loud.astype(int)) == 1) == 2  # two words, a gap between
        assert not clip[40_000:].any()
    again = corpus.waveforms(corpus.utterances[2:3])
    np.testing.assert_array_equal(again[0], clips[2])
    other = JoinedWords(Words(), SPHINX_MFCC, length=(2, 2), most=3, seed=2)
    assert other.fingerprint(other.utterances[0]) != corpus.fingerprint(corpus.utterances[0])
    with pytest.raises(ValueError, match="fewest <= most"):
        JoinedWords(Words(), SPHINX_MFCC, length=(3, 2), most=3, seed=1)


def test_joined_words_that_are_longer_than_a_clip_are_refused_and_not_cut():
    short = dataclasses.replace(SPHINX_MFCC, clip_samples=16_000)
    corpus = JoinedWords(Words(), short, length=(4, 4), most=1, seed=1)
    with pytest.raises(CorpusError, match=r"ann/0: 4 words are 1\.\d s long, .* at most 1\.0 s"):
        corpus.waveforms(corpus.utterances)
