"""Changes of a recording that change the voice: McAdams, resampling with the tempo kept, noise.

    method = McAdams()
    other = method(waveform, 16_000, voice=Keystream(key), noise=Keystream(other_key))

    stream = McAdamsStream(alpha=0.8, rate_hz=16_000)      # on the phone, 20 ms behind
    stream.push(chunk)

None of these protects against an attacker who trains on recordings that the same method changed
(docs/anonymization.md measures it): they change how a voice sounds, not whose it is.

A method draws what it does to a voice from one keystream and what differs in every recording from
another, so that a speaker may keep one pseudo-voice without two recordings sharing their noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
import soxr
from annotated_types import Gt, Lt
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtri

from fedspeech.errors import require
from fedspeech.limits import check_limits
from fedspeech.seeds import Keystream

Waveform = NDArray[np.float32]
Samples = NDArray[np.float64]

Factor = Annotated[float, Gt(0.2), Lt(5)]
WINDOW_MS = 20
_FLOOR = 1e-9  # of a frame's power, added so that every frame has a predictor


class Method(Protocol):
    """A change of recordings."""

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, voice: Keystream, noise: Keystream
    ) -> Waveform:
        """Changes a recording (samples,), full scale 1; the length stays.

        Args:
          waveform: finite samples.
          rate_hz: of both.
          voice: from which the voice is drawn.
          noise: from which all else is drawn; never the same twice.

        Raises:
          ValueError: if a sample is not finite.
        """


@dataclass(frozen=True, kw_only=True)
class McAdams:
    """Formants moved by the power of a pole's angle (Patino et al. 2021, arXiv:2011.01130, 2.2).

    Attributes:
      low, high: of the uniform draw of alpha; 1 changes nothing.
    """

    low: Factor = 0.5
    high: Factor = 0.9

    def __post_init__(self) -> None:
        """Checks the range."""
        _check_range(self)

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, voice: Keystream, noise: Keystream
    ) -> Waveform:
        """Draws alpha and moves the poles of every frame; see `Method`."""
        stream = McAdamsStream(alpha=uniform(voice, self.low, self.high), rate_hz=rate_hz)
        return limited(np.concatenate([stream.push(checked(waveform)), stream.end()]))


class McAdamsStream:
    """The same on a stream: a sample comes out once 20 ms after it are known.

    Attributes:
      latency: samples by which what comes out lies behind what went in, at most.
    """

    def __init__(self, *, alpha: float, rate_hz: int) -> None:
        """Starts before the first sample.

        Raises:
          ValueError: if the rate is below 1 kHz, or alpha is not between 0.2 and 5.
        """
        require(rate_hz >= 1000, "rate_hz must be at least 1000", rate_hz=rate_hz)
        require(0.2 < alpha < 5, "alpha must be between 0.2 and 5", alpha=alpha)
        self._hop = rate_hz * WINDOW_MS // 2000
        self.latency = 2 * self._hop
        self._alpha, self._order = alpha, rate_hz // 1000 + 4
        # Its square is Hann's window, and Hann's windows half a window apart add up to 1.
        places = np.pi * (np.arange(self.latency) + 0.5) / self.latency
        self._window = np.sin(places)
        self._waiting = np.zeros(self._hop)  # a frame that begins before the first sample
        self._tail = np.zeros(self._hop)
        self._skip = self._hop
        self._inside = 0  # samples that went in and did not come out

    def push(self, samples: Samples | Waveform) -> Samples:
        """Takes the next samples (n,) and gives those that are finished."""
        self._inside += len(samples)
        found = self._frames(np.concatenate([self._waiting, samples]))
        found, self._skip = found[self._skip :], max(0, self._skip - len(found))
        self._inside -= len(found)
        return found

    def end(self) -> Samples:
        """Gives the rest; nothing may be pushed afterwards."""
        left = self._inside
        return self.push(np.zeros(2 * self.latency))[:left]

    def _frames(self, samples: Samples) -> Samples:
        """Finished output of all whole frames; the rest waits."""
        count = max(0, len(samples) // self._hop - 1)
        self._waiting = samples[count * self._hop :]
        if not count:
            return np.zeros(0)
        views = np.lib.stride_tricks.sliding_window_view(samples, self.latency)
        frames = views[:: self._hop][:count] * self._window
        changed = _poles_moved(frames, self._alpha, self._order) * self._window
        summed = np.zeros((count + 1, self._hop))
        summed[:-1] += changed[:, : self._hop]
        summed[1:] += changed[:, self._hop :]
        summed[0] += self._tail
        self._tail = summed[-1]
        return summed[:-1].ravel()


def _poles_moved(frames: Samples, alpha: float, order: int) -> Samples:
    """Frames (n, window) with the angle of every complex pole of their predictor to a power.

    Each keeps its energy: poles that move together ring louder, by 20 dB and more.
    """
    predictors = _predictors(frames, order)
    companions = np.zeros((len(frames), order, order))
    companions[:, 0] = -predictors[:, 1:]
    companions[:, np.arange(1, order), np.arange(order - 1)] = 1
    poles = np.linalg.eigvals(companions)
    angles = np.angle(poles)
    complex_ones = np.abs(np.sin(angles)) > 1e-9
    # Above 1 rad a power of 2 or more would pass half a turn, where a pole has no mirror image.
    turned = np.minimum(np.abs(angles) ** alpha, np.pi - 1e-3) * np.sign(angles)
    moved = np.abs(poles) * np.exp(1j * np.where(complex_ones, turned, angles))
    found = np.stack(
        [
            lfilter([1.0], np.poly(pole).real, lfilter(predictor, [1.0], frame))
            for frame, predictor, pole in zip(frames, predictors, moved, strict=True)
        ]
    )
    before, after = ((of**2).sum(axis=1, keepdims=True) for of in (frames, found))
    return np.asarray(found * np.sqrt(before / np.maximum(after, 1e-30)))


def _predictors(frames: Samples, order: int) -> Samples:
    """Linear predictors (n, order + 1) by Levinson and Durbin; poles lie inside the circle."""
    lags = np.stack(
        [
            np.einsum("nt,nt->n", frames[:, : frames.shape[1] - lag], frames[:, lag:])
            for lag in range(order + 1)
        ],
        axis=1,
    )
    error = lags[:, 0] * (1 + _FLOOR) + 1e-20
    found = np.zeros((len(frames), order + 1))
    found[:, 0] = 1
    for step in range(1, order + 1):
        turned = (found[:, :step] * lags[:, step:0:-1]).sum(axis=1) / error
        found[:, 1 : step + 1] -= turned[:, None] * found[:, step - 1 :: -1][:, :step]
        error = error * (1 - turned**2)
    return found


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """All frequencies times one factor, and the tempo kept by overlap and add (WSOLA).

    A recording is resampled, which moves pitch and formants alike, and then brought back to its
    length by pieces that are laid where they fit best (Verhelst and Roelands 1993, section 2).

    Attributes:
      low, high: of the uniform draw of the factor, or of its inverse.
    """

    low: Factor = 1.1
    high: Factor = 1.3

    def __post_init__(self) -> None:
        """Checks the range."""
        _check_range(self)

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, voice: Keystream, noise: Keystream
    ) -> Waveform:
        """Draws a factor, up or down; see `Method`."""
        factor = uniform(voice, self.low, self.high)
        factor = factor if uniform(voice, 0, 1) < 0.5 else 1 / factor
        short = np.asarray(soxr.resample(checked(waveform), factor * rate_hz, rate_hz))
        return limited(stretched(short, len(waveform), rate_hz))


def stretched(samples: Samples, length: int, rate_hz: int) -> Samples:
    """The same sound in `length` samples at the same pitch, (length,)."""
    hop, reach = rate_hz // 80, rate_hz // 160  # pieces of 25 ms; 6 ms hold a period of 160 Hz
    window = np.hanning(2 * hop + 1)[:-1]
    padded = np.pad(samples, (reach + hop, 4 * hop + 2 * reach))
    found = np.zeros(length + 4 * hop)
    pace = len(samples) / max(length, 1)
    place = reach
    for start in range(0, length + hop, hop):
        found[start : start + 2 * hop] += window * padded[place : place + 2 * hop]
        following = padded[place + hop : place + 3 * hop]  # what would go on without a seam
        ideal = min(reach + round(pace * (start + hop)), len(padded) - 3 * hop - 2 * reach)
        around = padded[ideal - reach : ideal + reach + 2 * hop]
        place = ideal - reach + int(np.argmax(np.correlate(around, following, "valid")))
    return found[hop : hop + length]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """White noise and nothing else: the floor that every method must beat.

    Attributes:
      level_db: power of the recording over that of the noise.
    """

    level_db: float = 10.0

    def __post_init__(self) -> None:
        """Checks the level."""
        require(abs(self.level_db) < 200, "level_db must be within 200 dB", level_db=self.level_db)

    def __call__(
        self, waveform: Waveform, rate_hz: int, *, voice: Keystream, noise: Keystream
    ) -> Waveform:
        """Adds noise; see `Method`. Digital silence stays silent."""
        sound = checked(waveform)
        power = float(np.mean(sound**2)) if len(sound) else 0.0
        deviation = np.sqrt(power * 10 ** (-self.level_db / 10))
        return limited(sound + deviation * gaussian(noise, len(sound)))


def checked(waveform: Waveform) -> Samples:
    """The samples as float64.

    Raises:
      ValueError: if they are not finite, or not of one channel.
    """
    if waveform.ndim != 1 or not np.isfinite(waveform).all():
        raise ValueError(f"expected finite samples of one channel, got shape {waveform.shape}")
    return waveform.astype(np.float64)


def limited(samples: Samples) -> Waveform:
    """Within full scale, float32."""
    found: Waveform = np.clip(samples, -1, 1).astype(np.float32)
    return found


def uniform(draws: Keystream, low: float, high: float) -> float:
    """One uniform number."""
    return low + (high - low) * float(draws.uniform(1)[0])


def gaussian(draws: Keystream, count: int) -> Samples:
    """Standard normal numbers (count,), by the inverse of their distribution."""
    # Half a step up: 0 has no inverse.
    return np.asarray(ndtri(draws.uniform(count) + 2.0**-54))


def _check_range(spec: McAdams | Resampling) -> None:
    check_limits(spec)
    require(spec.low <= spec.high, "low must be at most high", low=spec.low, high=spec.high)
