"""A phone that listens through the exported file answers what the whole clip is answered."""

import numpy as np
import pytest
from made_once import tiny_run

from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.device.streaming import FULL_SCALE, Streaming


@pytest.mark.export
def test_hops_from_the_ring_buffer_are_answered_as_the_clips_that_end_there():
    """Across the end of the buffer, and after sound that was missed, once it is warm again."""
    from tflite_export.interpreter import TfliteModel
    from tflite_export.listening import Listener

    files = [tiny_run() / "export" / f"model_{name}.tflite" for name in ("float", "streaming")]
    whole, streaming = (TfliteModel(file.read_bytes()) for file in files)
    listener = Listener(streaming)
    hop, overlap = 320, listener.spec.window_samples - listener.spec.hop_samples
    heard_samples = whole.signatures["waveform"].inputs["waveform"].shape[1]
    rng = np.random.default_rng(3)
    loudness = np.repeat(rng.uniform(100, 4_000, 80), hop * 5)
    said = (rng.normal(0, 1, len(loudness)) * loudness).clip(-32_768, 32_767).astype(np.int16)
    buffer = RingBuffer(seconds=0.5, rate_hz=16_000)
    phone = Streaming(buffer, listener, warm_up_hops=listener.warm_up_hops)

    def fed(samples):
        rows = []
        for block in np.array_split(samples, len(samples) // 1_700):
            buffer.write(block)
            rows.append(phone.answers())
        return np.concatenate(rows)

    def of_clips(samples, answers):
        """The last so many hops of some samples, each as the end of a whole clip.

        A clip's frames end where its last whole hop does, its first window's overlap left out.
        """
        full = len(samples) // hop * hop
        end = (heard_samples - overlap) // hop * hop + overlap
        ends = full - hop * np.arange(answers)[::-1]
        clips = np.zeros((answers, heard_samples), dtype=np.float32)
        for clip, stop in zip(clips, ends, strict=True):
            clip[:end] = samples[stop - end : stop] / FULL_SCALE
        return whole.run_each("waveform", clips)

    first = said[: 180 * hop]
    found = fed(first)
    assert len(found) == 180 - listener.warm_up_hops
    np.testing.assert_allclose(found, of_clips(first, len(found)), atol=1e-4)
    buffer.write(said[180 * hop : 210 * hop])  # longer than the buffer
    begin = 210 * hop - 8_000
    found = np.concatenate([phone.answers(), fed(said[210 * hop :])])
    assert phone.missed_samples == 30 * hop - 8_000
    assert len(found) == (len(said) - begin) // hop - listener.warm_up_hops
    np.testing.assert_allclose(found, of_clips(said[begin:], len(found)), atol=1e-4)
