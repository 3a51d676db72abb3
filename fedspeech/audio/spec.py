"""The only home of sample rate, window, hop and mel bands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FrontendSpec:
    """A log-mel front end: framed without padding, so that frame t needs no sample after its own.

    Attributes:
      rate_hz: sample rate of the waveform.
      window_samples: length of the periodic Hann window, which is also the FFT size.
      hop_samples: samples between frames.
      num_mels: number of triangular filters on the HTK mel scale.
      low_hz: lower edge of the first filter.
      high_hz: upper edge of the last filter.
      floor: added to the filter energies before the logarithm, in squared full scale.
      clip_samples: length of one keyword clip.

    Raises:
      ValueError: if the numbers cannot describe a front end.
    """

    rate_hz: int = 16_000
    window_samples: int = 512
    hop_samples: int = 320
    num_mels: int = 40
    low_hz: float = 60.0
    high_hz: float = 7_600.0
    floor: float = 1e-6
    clip_samples: int = 16_000

    def __post_init__(self) -> None:
        """Checks that the numbers fit together."""
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
        if self.num_mels < 1 or self.floor <= 0:
            raise ValueError(
                f"num_mels and floor must be positive, got {self.num_mels}, {self.floor}"
            )

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
