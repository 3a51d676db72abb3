"""The only home of sample rate, window, hop, mel bands and cepstra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray

from fedspeech.limits import Count, Decay, Positive, check_limits


@dataclass(frozen=True, kw_only=True)
class Cepstra:
    """The transform of log-mel into cepstra, in the units of Sphinx's front end.

    Attributes:
      num: coefficients kept, the mean over the bands among them.
      preemphasis: a in y[t] = x[t] - a x[t - 1], applied within each frame.
      fft_samples: frames are padded with zeros to this length.

    Raises:
      ValueError: if a value is outside its range.
    """

    num: Count = 13
    preemphasis: Decay = 0.97
    fft_samples: Annotated[int, Ge(2)] = 512

    def __post_init__(self) -> None:
        """Checks the values."""
        check_limits(self)


@dataclass(frozen=True, kw_only=True)
class FrontendSpec:
    """A log-mel or cepstral front end, framed so that frame t needs no sample after its own.

    Attributes:
      window_samples: length of the periodic Hann window, which is also the FFT size.
      num_mels: number of triangular filters on the HTK mel scale.
      low_hz, high_hz: outer edges of the first and the last filter.
      floor: added to the filter energies before the logarithm, in squared full scale. Speech at
        -40 dB of nominal still lies above the default; what lies below it is digital silence.
      clip_samples: length of one keyword clip, or the longest sentence.
      cepstra: None for log-mel.
      kind: "pcan" for the features of microWakeWord and ESPHome (`audio.pcan`), whose numbers are
        those of `PCAN`; None for log-mel and cepstra.

    Raises:
      ValueError: if the numbers cannot describe a front end.
    """

    rate_hz: int = 16_000
    window_samples: int = 512
    hop_samples: int = 320
    num_mels: Count = 40
    low_hz: float = 60.0
    high_hz: float = 7_600.0
    floor: Positive = 1e-8
    clip_samples: int = 16_000
    cepstra: Cepstra | None = None
    kind: Literal["pcan"] | None = None

    def __post_init__(self) -> None:
        """Checks that the numbers fit together."""
        check_limits(self)
        fixed = (self.rate_hz, self.window_samples, self.hop_samples, self.num_mels, self.floor)
        if self.kind is not None and (self.cepstra or fixed != (16_000, 480, 160, 40, 1.0)):
            raise ValueError(
                f"kind={self.kind} has 40 bands of windows of 480 samples every 160 at 16000 Hz, "
                f"floor 1 and no cepstra, got {self}"
            )
        if not 0 <= self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                "mel bands must satisfy 0 <= low_hz < high_hz <= rate_hz / 2, got "
                f"low_hz={self.low_hz}, high_hz={self.high_hz}, rate_hz={self.rate_hz}"
            )
        if not 1 <= self.hop_samples <= self.window_samples <= self.clip_samples:
            raise ValueError(
                "expected 1 <= hop_samples <= window_samples <= clip_samples, got "
                f"{self.hop_samples}, {self.window_samples}, {self.clip_samples}"
            )
        if self.cepstra and not (
            self.window_samples <= self.cepstra.fft_samples and self.cepstra.num <= self.num_mels
        ):
            raise ValueError(
                "cepstra need an FFT as long as the window and a band per coefficient, got "
                f"fft_samples={self.cepstra.fft_samples}, num={self.cepstra.num}"
            )

    @property
    def num_features(self) -> int:
        """Values per frame: cepstra if there are any, else mel bands."""
        return self.cepstra.num if self.cepstra else self.num_mels

    @property
    def fft_samples(self) -> int:
        """Length of the FFT."""
        return self.cepstra.fft_samples if self.cepstra else self.window_samples

    @property
    def hop_ms(self) -> float:
        """Milliseconds between frames."""
        return 1000 * self.hop_samples / self.rate_hz

    @property
    def frames_per_clip(self) -> int:
        """Frames of one clip."""
        return self.num_frames(self.clip_samples)

    def num_frames(self, num_samples: int) -> int:
        """Frames that fit into `num_samples` samples; 0 if not one does."""
        if num_samples < self.window_samples:
            return 0
        return 1 + (num_samples - self.window_samples) // self.hop_samples

    def recorded_frames(self, clips: NDArray[np.float32]) -> NDArray[np.int64]:
        """Counts the frames of each clip that begin before its last value that is not zero.

        Clips are waveforms, shape (n, samples), or features, shape (n, frames, m); counts have
        shape (n,).
        """
        there = clips != 0 if clips.ndim == 2 else (clips != 0).any(axis=2)
        places = np.arange(1, clips.shape[1] + 1, dtype=np.int64)
        lasting: NDArray[np.int64] = (there * places).max(axis=1, initial=0)
        if clips.ndim == 2:
            begun = -(-lasting // self.hop_samples)
            lasting = np.minimum(begun, self.num_frames(clips.shape[1]))
        return lasting


LOG_MEL = FrontendSpec()
"""40 log-mel bands, 50 frames a second: the features of keyword models."""

SPHINX_MFCC = FrontendSpec(
    window_samples=410,
    hop_samples=160,
    low_hz=130.0,
    high_hz=6_800.0,
    floor=1e-10,
    clip_samples=51_200,
    cepstra=Cepstra(),
)
"""13 cepstra, 100 frames a second, as CMU's Sphinx computes them: what AN4 is distributed as."""

PCAN = FrontendSpec(
    window_samples=480, hop_samples=160, low_hz=125.0, high_hz=7_500.0, floor=1.0, kind="pcan"
)
"""40 bands, 100 frames a second, noise subtracted and gain normalized: what ESPHome computes. The
features of digital silence are 0, the logarithm of the floor."""
