"""A ring buffer holds the last seconds, all of them, and nothing older."""

import copy
import pickle

import numpy as np
import pytest

from fedspeech.audio.ring_buffer import RingBuffer


def test_it_holds_the_last_samples_whatever_blocks_they_came_in():
    rng, said = np.random.default_rng(1), np.arange(1, 5000, dtype=np.int16)
    for _ in range(20):
        buffer, begin = RingBuffer(seconds=0.1, rate_hz=1000), 0
        while begin < 900:
            block = said[begin : begin + int(rng.integers(0, 350))]
            buffer.write(block)
            begin += len(block)
            held = min(begin, 100)
            if held:
                np.testing.assert_array_equal(buffer.last(held / 1000), said[begin - held : begin])
                np.testing.assert_array_equal(buffer.last(0.001), said[begin - 1 : begin])
        assert len(buffer) == 100
        assert buffer._samples.min() >= said[begin - 100], "older samples were overwritten"


def test_what_is_cleared_is_gone_and_a_copy_is_the_callers():
    buffer = RingBuffer(seconds=0.1, rate_hz=1000)
    buffer.write(np.arange(1, 51, dtype=np.int16))
    taken = buffer.last(0.05)
    taken[:] = 0
    assert buffer.last(0.05).any()
    buffer.clear()
    assert not buffer._samples.any()
    assert len(buffer) == 0


def test_what_came_after_a_position_is_whole_or_refused():
    """Also where one block is longer than the buffer: positions count every sample."""
    said = np.arange(1, 400, dtype=np.int16)
    for blocks in ([30, 90], [10, 250], [60, 60, 60]):
        buffer, begin = RingBuffer(seconds=0.1, rate_hz=1000), 0
        for block in blocks:
            buffer.write(said[begin : begin + block])
            begin += block
        assert buffer.written == begin
        for position in (begin - 100, begin - 41, begin):
            np.testing.assert_array_equal(buffer.since(position), said[position:begin])
        for position in (begin - 101, begin + 1):
            with pytest.raises(ValueError, match="position must be in"):
                buffer.since(position)


def test_it_has_no_way_to_disk():
    buffer = RingBuffer(seconds=0.1, rate_hz=1000)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="stays in memory"):
            way(buffer)
    assert repr(buffer) == "RingBuffer(0 of 100 samples)"


def test_what_does_not_fit_is_refused_by_value():
    buffer = RingBuffer(seconds=0.1, rate_hz=1000)
    buffer.write(np.ones(20, dtype=np.int16))
    with pytest.raises(ValueError, match=r"seconds must be in \(0, 0\.02\], got seconds=0\.05"):
        buffer.last(0.05)
    with pytest.raises(ValueError, match="int16 of one dimension, got dtype='float64'"):
        buffer.write(np.ones(20))
    with pytest.raises(ValueError, match=r"seconds must be in \(0, 60\], got seconds=61"):
        RingBuffer(seconds=61, rate_hz=1000)
