"""The synthesizer."""

from dataclasses import replace

import numpy as np
import pytest

from fedspeech.audio.channel import SPEECH_RMS
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences, word_clips
from fedspeech.synthesis.lexicon import COMMAND_WORDS, DEFAULT_TARGETS, pronunciation
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import Spread, draw_voice

STEADY = replace(
    draw_voice(stream(1, "voice"), "plain", Spread()),
    sex="male",
    tract_scale=1.0,
    pitch_hz=100.0,
    pitch_swing_st=0.0,
    rate=0.5,
    breathiness=0.2,
    tilt=0.0,
    jitter=0.0,
    clarity=1.0,
    vowels=0.0,
    takes=0.0,
)


def say(*words, voice=STEADY, seed=1):
    return Take(voice=voice, words=tuple(pronunciation(word, {}) for word in words), seed=seed)


def varied_takes(count):
    voices = [draw_voice(stream(2, "voice", k), "plain", Spread()) for k in range(count // 5 + 1)]
    return [
        say(COMMAND_WORDS[k % 35], voice=voices[k // 5], seed=k)
        if k % 9
        else Take(voice=voices[k // 5], words=(), seed=k)
        for k in range(count)
    ]


def middle_of(vowel):
    """The steady middle of a vowel said alone, shape (2048,), windowed."""
    clip = word_clips([Take(voice=STEADY, words=((vowel,),), seed=1)], 16_000)[0]
    heard = np.flatnonzero(np.abs(clip) > 1e-3)
    center = (heard[0] + heard[-1]) // 2
    return clip[center - 1_024 : center + 1_024] * np.hanning(2_048)


def envelope_peaks(piece):
    """Frequencies of the spectral envelope's peaks, by a cepstrum cut below one pitch period."""
    log_spectrum = np.log(np.abs(np.fft.rfft(piece, 4_096)) + 1e-6)
    cepstrum = np.fft.irfft(log_spectrum)
    cepstrum[70:-69] = 0
    smooth = np.fft.rfft(cepstrum).real
    inner = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] > smooth[2:])
    return (np.flatnonzero(inner) + 1) * 16_000 / 4_096


@pytest.mark.slow
def test_bits_of_a_clip_do_not_depend_on_its_company():
    takes = varied_takes(61)
    together = word_clips(takes, 16_000)
    backwards = word_clips(takes[::-1], 16_000)[::-1]
    alone = np.concatenate([word_clips([take], 16_000) for take in takes])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    ("vowel", "formants"),
    [("IY1", (342, 2322)), ("AA1", (768, 1333)), ("EH1", (580, 1799)), ("ER1", (474, 1379, 1710))],
)
def test_vowels_are_heard_at_the_formants_of_hillenbrand_1995(vowel, formants):
    peaks = envelope_peaks(middle_of(vowel))
    for hertz in formants:
        # Harmonics stand every 100 Hz: a peak of the envelope can be off by half of that.
        assert np.abs(peaks - hertz).min() < 60, (vowel, hertz, peaks)


def test_the_voice_has_its_pitch():
    piece = middle_of("AA1")
    correlation = np.correlate(piece, piece, "full")[len(piece) :]
    period = 60 + np.argmax(correlation[59:300])
    # The melody of a take falls by 2.5 semitones around the mean.
    assert 16_000 / period == pytest.approx(100, rel=0.08)


def test_a_shorter_tract_raises_the_spectrum():
    takes = [say("yes"), say("yes", voice=replace(STEADY, tract_scale=1.25))]
    power = np.abs(np.fft.rfft(word_clips(takes, 16_000))) ** 2
    hertz = np.arange(power.shape[1])
    vowels = (hertz > 1_200) & (hertz < 3_500)
    centers = (power[:, vowels] * hertz[vowels]).sum(1) / power[:, vowels].sum(1)
    assert centers[1] > 1.1 * centers[0]


def test_takes_differ_and_repeat():
    varied = replace(STEADY, takes=1.0)
    first, again, other = word_clips([say("go", voice=varied, seed=s) for s in (1, 1, 2)], 16_000)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_speech_has_nominal_loudness_and_stays_within_full_scale():
    clips = word_clips([take for take in varied_takes(200) if take.words], 16_000)
    assert np.isfinite(clips).all()
    levels = [np.sqrt(np.mean(clip[np.abs(clip) > 0] ** 2)) for clip in clips]
    assert np.median(levels) == pytest.approx(SPEECH_RMS, rel=0.15)
    assert np.quantile(np.abs(clips).max(1), 0.9) < 1


def test_a_word_longer_than_the_clip_is_spoken_faster():
    slow = say("backward", voice=replace(STEADY, rate=0.4))
    (clip,) = word_clips([slow], 8_000)
    assert np.abs(clip[:40]).max() < 1e-3
    assert np.abs(clip[-40:]).max() < 1e-3
    assert np.abs(clip).max() > 0.05
    with pytest.raises(ValueError, match="num_samples=100"):
        word_clips([slow], 100)


def test_clips_without_words_are_far_below_speech():
    takes = [Take(voice=STEADY, words=(), seed=seed) for seed in range(80)]
    clips = word_clips(takes, 16_000)
    levels = np.sqrt(np.mean(clips**2, axis=1))
    assert levels.max() < SPEECH_RMS / 4
    assert 20 < np.count_nonzero(levels == 0) < 70  # most rooms are still, some breathe or click


def test_sentences_are_as_long_as_their_words():
    one, three = sentences([say("call"), say("call", "anna", "please")], 48_000)
    assert 1.4 * len(one) < len(three) < 3 * len(one)
    assert np.isfinite(three).all()
    assert np.array_equal(one, sentences([say("call")], 48_000)[0])


def test_a_sentence_that_is_too_long_is_spoken_faster():
    (whole,) = sentences([say("call", "anna", "please")], 48_000)
    (hurried,) = sentences([say("call", "anna", "please")], 16_000)
    assert len(hurried) <= 16_000 < len(whole)


@pytest.mark.slow
def test_a_linear_classifier_knows_the_words_and_stumbles_over_unheard_accents():
    heard, labels = _ten_words("plain", range(40))
    targets = np.eye(10)[labels] - 0.1
    train, test = slice(0, 300), slice(300, 400)
    gram = heard[train] @ heard[train].T + 30 * np.eye(300)
    weights = heard[train].T @ np.linalg.solve(gram, targets[train])
    plain = np.mean((heard[test] @ weights).argmax(1) == labels[test])
    assert plain > 0.8  # chance is .1
    unheard = {}
    for accent in ("raised", "levelled", "five_vowel", "fronted"):
        features, said = _ten_words(accent, range(100, 112))
        unheard[accent] = np.mean((features @ weights).argmax(1) == said)
    # Clean speech and no other words to confuse them with: much easier than a phone's recordings.
    assert np.mean(list(unheard.values())) < plain - 0.05, unheard
    assert min(unheard.values()) > 0.5, unheard  # shifted, not another language


def _ten_words(accent, speakers):
    """Features and labels of each speaker's ten target words."""
    voices = [draw_voice(stream(3, "voice", k), accent, Spread()) for k in speakers]
    takes = [
        say(word, voice=voice, seed=17 * number + place)
        for number, voice in zip(speakers, voices, strict=True)
        for place, word in enumerate(DEFAULT_TARGETS)
    ]
    features = np.stack([_slots(clip) for clip in word_clips(takes, 16_000)])
    return features, np.arange(len(takes)) % 10


def _slots(clip):
    """Log energies in 16 bands and 10 time slots from onset to end, shape (160,)."""
    heard = np.flatnonzero(np.abs(clip) > 1e-3)
    starts = np.linspace(heard[0], heard[-1], 11).astype(int)
    edges = (np.geomspace(150, 7_500, 17) * 2_048 / 16_000).astype(int)
    pieces = np.zeros((10, 2_048), dtype=np.float32)
    for row in range(10):
        piece = clip[starts[row] : min(starts[row + 1], starts[row] + 2_048)]
        pieces[row, : len(piece)] = piece
    power = np.abs(np.fft.rfft(pieces)) ** 2
    logs = np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] / np.diff(edges) + 1e-4)
    return (logs - logs.mean()).ravel()
