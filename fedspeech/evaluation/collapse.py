"""Did noise drown what phones taught? A verdict from what the server may see, and from no more."""

from __future__ import annotations

import math

DEVIATIONS = 3.0


def noise_drowned(signal_to_noise: float, before: float, after: float, clips: int) -> bool:
    """Whether utility collapsed and noise is why.

    Two things must hold, since neither is enough:

    * Over all rounds the decoded means hold less signal than noise: accumulated signal to noise
      below 1, so most of the way that the model went was noise. Models can stand that (a
      way through 780 coordinates misses most of what matters for the answers), so it proves nothing
      alone: measured on the scenario `default`, a ratio of 0.4 still gained five points.
    * The model answers fewer clips of the public validation speakers than the base did, by more
      than three standard errors of the difference of two independent shares. Both were judged on
      the same clips, which makes the true error smaller: what is called worse is worse. Without
      the first, that is the mark of too high a rate or too many local epochs, not of noise.

    Args:
      signal_to_noise: of the sum of all decoded means (`fedspeech.round.open_sum`).
      before: accuracy of the base on public validation speakers.
      after: of the last adapter.
      clips: judged each time.
    """
    if clips < 1:
        return False
    spread = math.sqrt((before * (1 - before) + after * (1 - after)) / clips)
    return signal_to_noise < 1 and before - after > DEVIATIONS * spread
