"""Test sets for incidents from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.errors import ArgumentRefused
from simulations.api.run import path_of
from simulations.api.scenarios import experiment_of, runnable
from simulations.progress import RunProgress, progress_for

if TYPE_CHECKING:
    from simulations.artifacts.jingle_set import JingleSet
    from simulations.scenario.schema import Scenario
    from simulations.setup.definition import Experiment


def find_jingles(
    device: str,
    what: Experiment | Scenario | str | Path = "default",
    *,
    threshold: float = 0.7,
    candidates: int = 24,
    recordings: int = 12,
    out: str | Path | None = None,
    seed: int | None = None,
    progress: bool | RunProgress | None = None,
    cache: str | Path | None = None,
) -> JingleSet:
    """Makes a test set of jingles that wake one class of devices, and tries thresholds on it.

        >>> import fedspeech as fs
        >>> found = fs.find_jingles("speakerphone", "quick", progress=False)    # doctest: +SKIP
        >>> found.rows[0].wakes > found.rows[-1].wakes                          # doctest: +SKIP
        True

    Args:
      device: class of devices, such as "speakerphone".
      what: an experiment, a scenario, its name or file, whose base listens for its words.
      threshold: on the score, at which devices wake now.
      candidates: how many jingles are drawn.
      recordings: devices of each class that record each of them; twice as many others confirm
        a jingle and try thresholds.
      out: folder for the recordings of the test set, WAV; None: they are not kept.
      seed: of jingles, speakers and devices; None: as the scenario says.
      progress: as in `simulate`.
      cache: where bases that are made are kept; None: the user's cache.

    Raises:
      ArgumentRefused: if a number is out of range.
      ScenarioError: if there is no such class, or no jingle wakes it more than every other.
    """
    from simulations.artifacts.jingle_set import find_jingles as find

    if not 0 < threshold < 1:
        raise ArgumentRefused(f"`threshold` must be in (0, 1), got {threshold:g}")
    for name, number in (("candidates", candidates), ("recordings", recordings)):
        if number < 1:
            raise ArgumentRefused(f"`{name}` must be at least 1, got {number}")
    return find(
        experiment_of(runnable(what, seed)), device, threshold=threshold, candidates=candidates,
        recordings=recordings, out=path_of(out), cache=path_of(cache),
        progress=progress_for(progress),
    )  # fmt: skip
