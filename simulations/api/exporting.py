"""Files for phones from Python: exported, checked, timed, trained and listened with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.errors import ArgumentRefused
from simulations.api.run import Run, path_of
from simulations.progress import RunProgress

if TYPE_CHECKING:
    from simulations.artifacts.benchmarking import Timings
    from simulations.artifacts.compared_kinds import KindsCompared
    from simulations.artifacts.exporting import Export, Verified
    from simulations.artifacts.listening import Detections
    from simulations.artifacts.on_device_round import RoundCheck
    from simulations.artifacts.stream_evaluation import Rates


def export(
    run: Run | str | Path,
    out: str | Path | None = None,
    *,
    adapter: str = "global",
    formats: Sequence[str] = (),
    corpus: str | Path | None = None,
    calibration: str | Path | None = None,
    listening_hours: float | None = None,
    progress: bool | RunProgress | None = None,
) -> Export:
    """Exports the adapter of a run for phones, each file checked against the trained model.

        >>> import fedspeech as fs
        >>> export = fs.export("runs/quick", "out", formats=["adapter"], progress=False)
        >>> export.files["adapter"].name, export.refused
        ('adapter.safetensors', {})

    Args:
      run: the run, or its folder.
      out: folder; None: `export` in the run folder.
      adapter: "global", or a held-out phone: its own adapter.
      formats: such as ["float", "int8", "cc"]; empty: all of them.
      corpus: where the run's recordings lie now; None: where they lay.
      calibration: folder of recordings that the integer files are calibrated on.
      listening_hours: synthesized hours on which the detection recipes of streaming files are
        chosen; None: as many as the scenario says.
      progress: False: only logged.

    Raises:
      PartlyRefused: naming the checks that failed; `error.export` holds what passed.
      FedspeechError: if the folder lacks a part.
    """
    found = run if isinstance(run, Run) else Run(Path(run))
    return found.export(
        out, adapter=adapter, formats=formats, corpus=corpus, calibration=calibration,
        listening_hours=listening_hours, progress=progress,
    )  # fmt: skip


def verify(
    file: str | Path, run: Run | str | Path | None = None, *, corpus: str | Path | None = None
) -> Verified:
    """Checks an exported file against the model of its run.

        >>> import fedspeech as fs
        >>> fs.verify("runs/quick/export/model_float.tflite")
        Verified('model_float.tflite', ... checks passed)

    Args:
      file: any file of `export`.
      run: that it came of; None: the run folder in which it lies.
      corpus: where the run's recordings lie now; None: where they lay.

    Raises:
      ExportRefused: naming the check that failed and its figure.
    """
    from simulations.artifacts.exporting import verify_file

    experiment = run.experiment if isinstance(run, Run) else None
    return verify_file(Path(file), path_of(run), path_of(corpus), experiment)


def benchmark(file: str | Path, run: Run | str | Path | None = None) -> Timings:
    """Times an exported file on one thread, in milliseconds, beside torch.

        >>> import fedspeech as fs
        >>> fs.benchmark("runs/quick/export/model_streaming.tflite").found.load_ms > 0
        True

    Args:
      file: a .tflite or .cc file.
      run: that it came of; None: the run folder in which it lies.

    Raises:
      ExportRefused: if the file cannot be read or timed.
      ScenarioError: if it is for sentences.
    """
    from simulations.artifacts.benchmarking import benchmark_file

    experiment = run.experiment if isinstance(run, Run) else None
    return benchmark_file(Path(file), path_of(run), experiment)


def dry_run_round(file: str | Path, run: Run | str | Path | None = None) -> RoundCheck:
    """Trains one round of a run in its personal file and in torch; publishes and charges nothing.

        >>> import fedspeech as fs
        >>> fs.dry_run_round("runs/quick/export/model_personal.tflite").integers_changed < 0.05
        True

    Args:
      file: a personal file.
      run: that it came of; None: the run folder in which it lies.

    Raises:
      ExportRefused: if the file cannot train as the run did.
      ScenarioError: if the phones' arrays are not in the cache any more, or it is of sentences.
    """
    from simulations.artifacts.on_device_round import check_round

    experiment = run.experiment if isinstance(run, Run) else None
    return check_round(Path(file), path_of(run), experiment)


def listen(
    file: str | Path,
    recording: str | Path,
    *,
    threshold: float | None = None,
    smoothing_ms: int | None = None,
    cooldown_ms: int | None = None,
) -> Detections:
    """Streams one recording of any length through an exported file.

        >>> import fedspeech as fs
        >>> fs.listen("runs/quick/export/model_streaming.tflite", "street.wav").seconds
        2.0

    Args:
      file: a streaming file, or a run folder: then its model in torch listens, which a base from
        elsewhere has no streaming file of.
      recording: a sound file.
      threshold: smoothed probability to detect every word at, 0 to 1; None: each word's own, of
        the detection recipe in the card beside the file, or 0.8 where there is none.
      smoothing_ms: to average over, a multiple of the hop; None: as the recipe says, or 200.
      cooldown_ms: without detection after one, likewise; None: as the recipe says, or 1000.

    Raises:
      FedspeechError: if the file cannot listen or the recording cannot be read.
    """
    from simulations.artifacts.listening import Detecting, listen_to

    detecting = Detecting.of(Path(file), threshold, smoothing_ms, cooldown_ms)
    return listen_to(Path(file), Path(recording), detecting)


def evaluate_listening(
    file: str | Path,
    *,
    folder: str | Path | None = None,
    synthetic_hours: float | None = None,
    threshold: float | None = None,
    smoothing_ms: int | None = None,
    cooldown_ms: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> Rates:
    """Counts false accepts per hour and false rejects of a streaming file.

        >>> import fedspeech as fs
        >>> file = "runs/quick/export/model_streaming.tflite"
        >>> rates = fs.evaluate_listening(file, synthetic_hours=0.01)
        >>> rates.counts.keywords, rates.points[0].hours > 0
        (6, True)

    Args:
      file: a streaming file, or a run folder, as in `listen`.
      folder: recordings: a corpus, noise, or recordings of any length in which no keyword is said;
        they are streamed, and what cannot be read is named in the result.
      synthetic_hours: of synthesized sound instead: running speech, near misses, noise, music.
      threshold: as in `listen`.
      smoothing_ms: as in `listen`.
      cooldown_ms: as in `listen`.
      seed: of synthesized sound.
      out: the picture of the DET curve; None: det.svg beside the file.

    Raises:
      FedspeechError: if the file cannot listen or there is nothing to listen to.
    """
    from simulations.artifacts.listening import Detecting
    from simulations.artifacts.stream_evaluation import evaluate

    if (folder is None) == (synthetic_hours is None):
        raise ArgumentRefused("one of `folder` and `synthetic_hours` says what is listened to")
    return evaluate(
        Path(file), folder=path_of(folder), hours=synthetic_hours, seed=seed, out=path_of(out),
        detecting=Detecting.of(Path(file), threshold, smoothing_ms, cooldown_ms),
    )  # fmt: skip


def compare_kinds(run: str | Path, *, synthetic_hours: float = 0.5, seed: int = 0) -> KindsCompared:
    """Has a run's model and all of its files listen to the same sound, by one recipe.

        >>> import fedspeech as fs
        >>> found = fs.compare_kinds("runs/quick", synthetic_hours=0.01)
        >>> list(found.points), found.points["torch"].keywords
        (['torch', 'float', 'streaming', 'personal'], 6)

    Args:
      run: a finished run; its folder `export` has a streaming file, whose recipe is the one for
        all, and others.
      synthetic_hours: of sound without a target word; 600 words an hour are said beside it.
      seed: of the sound, which chose no recipe.

    Raises:
      FedspeechError: if the folder is no run folder, or has no streaming file.
    """
    from simulations.artifacts.compared_kinds import compare_kinds as compare

    if not synthetic_hours > 0:
        raise ArgumentRefused(f"`synthetic_hours` must be above 0, got {synthetic_hours}")
    return compare(Path(run), hours=synthetic_hours, seed=seed)
