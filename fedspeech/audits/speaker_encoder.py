"""An independent speaker encoder: whose voice is in a waveform, by a model of other people.

    encoder = SpeakerEncoder.load()                # of the package Resemblyzer, extra `audit`
    voices = encoder(waveforms, rate_hz=16_000)    # (n, 256), length 1
    voices @ voices.T                              # near 1 for one speaker

For audio itself: a clip that an inversion attack recovered, an anonymized recording, features that
were turned back into sound. It was trained on other speech, by other people and for another purpose
than anything in fedspeech (GE2E: Wan et al. 2018, arXiv:1710.10467; Resemblyzer 0.1.4, Apache-2.0).

Only the file of weights is read, and checked by its hash; no code of the package runs. So the
package may be installed without what it brings: `pip install --no-deps Resemblyzer==0.1.4`. Of what
its own code does before, loudness and partial windows are the same, and no silence is cut out.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedspeech.errors import require as required
from fedspeech.extras import require
from fedspeech.files import read_at_most
from fedspeech.training.one_thread import one_thread

Waveforms = NDArray[np.float32]

RATE_HZ = 16_000
SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
WINDOW, HOP, MELS = 400, 160, 40
FRAMES, STEP = 160, 77
"""Frames of a partial utterance, and between two of them (1.3 a second)."""
COVERAGE = 0.75
LOUDNESS_DB = -30.0
_MAX_BYTES = 20_000_000
_BLOCK = 32


@dataclass(frozen=True, eq=False)
class SpeakerEncoder:
    """Three LSTM layers and a linear one, frozen."""

    lstm: nn.LSTM
    linear: nn.Linear

    @classmethod
    def load(cls, path: Path | None = None) -> SpeakerEncoder:
        """Reads the weights.

        Args:
          path: of `pretrained.pt`; None: that of the installed package.

        Raises:
          MissingExtra: if the package is not installed and no path is given.
          ValueError: if the file is another one.
        """
        data = read_at_most(path or _installed(), _MAX_BYTES)
        found = hashlib.sha256(data).hexdigest()
        # Before it is parsed: of a file that is not the expected one, nothing is believed.
        required(found == SHA256, f"the speaker encoder must have SHA-256 {SHA256}", sha256=found)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)["model_state"]
        lstm, linear = nn.LSTM(MELS, 256, 3, batch_first=True), nn.Linear(256, 256)
        for part, name in ((lstm, "lstm."), (linear, "linear.")):
            part.load_state_dict(
                {key.removeprefix(name): v for key, v in state.items() if key.startswith(name)}
            )
        return cls(lstm.eval(), linear.eval())

    def __call__(self, waveforms: Waveforms, *, rate_hz: int) -> NDArray[np.float32]:
        """Embeds waveforms (n, samples), full scale 1, as vectors (n, 256) of length 1.

        Raises:
          ValueError: if the rate is not 16 kHz, or a sample is not finite.
        """
        required(rate_hz == RATE_HZ, f"the speaker encoder hears {RATE_HZ} Hz", rate_hz=rate_hz)
        if waveforms.ndim != 2 or not np.isfinite(waveforms).all():
            raise ValueError(f"expected finite waveforms (n, samples), got {waveforms.shape}")
        blocks = [
            self._voices(waveforms[start : start + _BLOCK])
            for start in range(0, len(waveforms), _BLOCK)
        ]
        return np.concatenate([np.zeros((0, 256), np.float32), *blocks])

    def _voices(self, waveforms: Waveforms) -> NDArray[np.float32]:
        """Means over partial utterances, at length 1, shape (n, 256)."""
        starts = partial_starts(waveforms.shape[1])
        missing = max(0, (starts[-1] + FRAMES) * HOP - waveforms.shape[1])
        mels = [mel_frames(np.pad(_louder(row), (0, missing))) for row in waveforms]
        windows = np.stack([of[start : start + FRAMES] for of in mels for start in starts])
        with one_thread(), torch.inference_mode():
            hidden = self.lstm(torch.from_numpy(windows))[1][0][-1]
            partial = nn.functional.normalize(self.linear(hidden).relu(), dim=1)
            means = partial.view(len(waveforms), len(starts), -1).mean(dim=1)
            found: NDArray[np.float32] = nn.functional.normalize(means, dim=1).numpy()
        return found


def partial_starts(samples: int) -> list[int]:
    """First frames of the partial utterances of so many samples; the last is at least 3/4 full."""
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - FRAMES + STEP + 1), STEP))
    last = (samples - starts[-1] * HOP) / (FRAMES * HOP)
    return starts[:-1] if last < COVERAGE and len(starts) > 1 else starts


def mel_frames(waveform: Waveforms) -> NDArray[np.float32]:
    """Mel power frames, no logarithm, centered as librosa's `melspectrogram` has them, (t, 40)."""
    padded = np.pad(waveform.astype(np.float32), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return (power @ _mel_filters().T).astype(np.float32)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles of equal area on Slaney's mel scale, linear up to 1 kHz; shape (40, 201)."""
    # 3 mel are 200 Hz below 1 kHz; above, 27 mel are a factor of 6.4.
    top = 15 + 27 * np.log(RATE_HZ / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, MELS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    bins = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)
    low, center, high = (edges[i : MELS + i, None] for i in range(3))
    rising, falling = (bins - low) / (center - low), (high - bins) / (high - center)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low))


def _louder(waveform: Waveforms) -> Waveforms:
    """Raised to -30 dB of full scale, never lowered; silence stays."""
    power = float(np.mean(waveform.astype(np.float64) ** 2))
    gain = 10 ** (LOUDNESS_DB / 20) / np.sqrt(power) if power > 0 else 1.0
    return (waveform * max(1.0, gain)).astype(np.float32)


def _installed() -> Path:
    """The weights of the installed package; none of its code is imported."""
    require("audit")
    spec = find_spec("resemblyzer")
    folders = (spec and spec.submodule_search_locations) or ()
    return Path(next(iter(folders), "resemblyzer")) / "pretrained.pt"
