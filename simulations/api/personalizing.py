"""A run's adapter, adapted to people from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.errors import ArgumentRefused
from simulations.api.run import Run, path_of
from simulations.progress import RunProgress, progress_for

if TYPE_CHECKING:
    from fedspeech.corpora.corpus import Corpus
    from simulations.artifacts.personal import Personalization


def personalize(
    run: Run | str | Path,
    corpus: Corpus | str | Path | None = None,
    *,
    shots: int | None = None,
    progress: bool | RunProgress | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
) -> Personalization:
    """Adapts the adapter of a run to people who did not train, each alone and on its own phone.

    Each adapts on a few own examples of every word that it said, beside public negatives and under
    the guard of the run, and is judged by its other examples. It costs no privacy: nothing leaves
    the phone.

        >>> import fedspeech as fs
        >>> fs.personalize("runs/quick", progress=False)
        Personalization(16 phones, 2 shots, accuracy ... to ...)

    Args:
      run: the run, or its folder.
      corpus: recordings of others, or their folder; every speaker becomes a phone. None: the
        held-out phones of the run.
      shots: own examples of each target word, or own sentences; None: as the run's headline.
      progress: as in `simulate`.
      workers: processes; None: one per core.
      cache: where features are kept; None: the user's cache.
      device: as in `simulate`.

    Returns:
      Every phone with its accuracy before and after, from 0 to 1, and its own parameters.

    Raises:
      CorpusError: if a recording is one that the run trained on, or nobody has enough of them.
      ArgumentRefused: if `shots` is below 1.
      FedspeechError: if the folder lacks a part.
    """
    from fedspeech.models.compute import computing_on
    from simulations.api.corpora import open_corpus
    from simulations.artifacts.personal import personalize_run

    if shots is not None and shots < 1:
        raise ArgumentRefused(f"`shots` must be at least 1, got {shots}")
    found = open_corpus(corpus) if isinstance(corpus, str | Path) else corpus
    with computing_on(device):
        return personalize_run(
            Path(run), found, shots=shots, workers=workers or os.cpu_count() or 1,
            experiment=run.experiment if isinstance(run, Run) else None, cache=path_of(cache),
            progress=progress_for(progress),
        )  # fmt: skip
