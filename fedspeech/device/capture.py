"""How sound becomes a record: a trigger, a consent, and a lossless clip; nothing else keeps sound.

capture = Capture(heard, vault, area="wake_word")
record = capture.trigger(1.5, purpose="federated_training")     # the last second and a half
samples, rate_hz = decoded(vault.use(record, ...).content)
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

from fedspeech.audio.ring_buffer import RingBuffer, Samples
from fedspeech.device.consent import Purpose
from fedspeech.device.vault import Vault


class Capture:
    """Between a ring buffer and the records of a phone.

    Args:
      heard: what the microphone heard last.
      vault: of the phone.
      area: part of the product that listens.
    """

    def __init__(self, heard: RingBuffer, vault: Vault, *, area: str) -> None:
        self._heard, self._vault, self._area = heard, vault, area

    def trigger(self, seconds: float, *, purpose: Purpose) -> str:
        """Keeps the last seconds as FLAC; the record's id.

        Raises:
          ConsentMissing: if the user has not agreed; no sample has left the buffer.
          ValueError: if the buffer holds fewer seconds.
          StoreFull: if the disk is full; nothing is kept.
        """
        receipt = self._vault.consents.require(purpose, self._area)
        samples = self._heard.last(seconds)
        try:
            return self._vault.keep(
                "debug" if purpose == "debug" else "clip",
                encoded(samples, self._heard.rate_hz),
                purpose=purpose,
                area=self._area,
                begun=receipt.id,
            )
        finally:
            samples[:] = 0


def encoded(samples: Samples, rate_hz: int) -> bytes:
    """FLAC of some samples, in memory."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decoded(content: bytes) -> tuple[Samples, int]:
    """What `encoded` was given, bit for bit: samples, shape (n,), and their rate in Hz."""
    samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="int16")
    return np.asarray(samples, dtype=np.int16), int(rate_hz)
