"""A phone answers hop by hop from its ring buffer, and never across a gap in the sound."""

import numpy as np
import pytest

from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.audio.spec import FrontendSpec
from fedspeech.device.streaming import FULL_SCALE, Streaming

SPEC = FrontendSpec()
HOP = SPEC.hop_samples
REACH = 5
SAID = np.random.default_rng(1).integers(-3000, 3000, 200 * HOP).astype(np.int16)


class Hops:
    """Answers the mean of the last five hops, as a network with so much memory would."""

    spec = SPEC

    def __init__(self):
        self.given = []

    def reset(self):
        self._past = np.zeros((REACH - 1, HOP), dtype=np.float32)

    def feed(self, samples):
        self.given.append(samples)
        rows = []
        for hop in samples.reshape(-1, HOP):
            self._past = np.concatenate([self._past, hop[np.newaxis]])
            rows.append([self._past.mean()])
            self._past = self._past[1:]
        return np.array(rows, dtype=np.float32).reshape(-1, 1)


def expected(said):
    """The same of whole clips: the last five hops up to each."""
    hops = (said / FULL_SCALE).reshape(-1, HOP)
    ends = range(REACH, len(hops) + 1)
    return np.array([[hops[end - REACH : end].mean()] for end in ends])


def streaming(seconds=1.0):
    heard = RingBuffer(seconds=seconds, rate_hz=16_000)
    return heard, Streaming(heard, Hops(), warm_up_hops=REACH - 1)


def test_answers_are_those_of_clips_across_the_wrap_whatever_the_blocks():
    rng = np.random.default_rng(2)
    heard, stream = streaming(seconds=0.21)  # no whole number of hops: a hop lies across its end
    found, begin = [], 0
    while begin < len(SAID):
        block = SAID[begin : begin + int(rng.integers(0, 3000))]
        heard.write(block)
        begin += len(block)
        found.append(stream.answers())
    assert stream.missed_samples == 0
    np.testing.assert_allclose(np.concatenate(found), expected(SAID), atol=1e-6)


@pytest.mark.parametrize("block", [HOP * 7, 16_000, 40_000])
def test_sound_that_was_overwritten_starts_the_stream_anew(block):
    """Also where one block is longer than the buffer: what is missing is counted."""
    heard, stream = streaming()
    heard.write(SAID[: HOP * 30])
    stream.answers()
    for begin in range(HOP * 30, HOP * 30 + 40_000, block):
        heard.write(SAID[begin : min(begin + block, HOP * 30 + 40_000)])
    held = SAID[HOP * 30 + 24_000 : HOP * 30 + 40_000]
    np.testing.assert_allclose(stream.answers(), expected(held), atol=1e-6)
    assert stream.missed_samples == 24_000


def test_a_cleared_buffer_is_a_gap_too():
    heard, stream = streaming()
    heard.write(SAID[: HOP * 10 + 7])
    stream.answers()
    heard.clear()
    heard.write(SAID[-HOP * 12 :])
    np.testing.assert_allclose(stream.answers(), expected(SAID[-HOP * 12 :]), atol=1e-6)
    assert stream.missed_samples == 7


def test_no_copy_of_the_sound_is_left_behind():
    heard, stream = streaming()
    heard.write(SAID[: HOP * 10 + 100])
    stream.answers()
    assert stream._model.given
    assert not any(given.any() for given in stream._model.given)


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "said"),
    [(1.0, 8_000, "listens at 16000 Hz, got rate_hz=8000"), (0.01, 16_000, "a hop has 320")],
)
def test_a_buffer_that_does_not_fit_the_model_is_refused(seconds, rate_hz, said):
    with pytest.raises(ValueError, match=said):
        Streaming(RingBuffer(seconds=seconds, rate_hz=rate_hz), Hops(), warm_up_hops=1)
