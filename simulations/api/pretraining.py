"""A base for any vocabulary from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.api.run import path_of
from simulations.progress import RunProgress, progress_for

if TYPE_CHECKING:
    from fedspeech.models.base import Base

MOST_HOURS = 1_000


def pretrain(
    words: str | Sequence[str] = (),
    *,
    base: str | os.PathLike[str] | None = None,
    corpus: str | Path | None = None,
    speakers: int | str | Path | None = None,
    held_out: str | Path | None = None,
    lexicon: Mapping[str, str] | None = None,
    task: Literal["kws", "asr"] = "kws",
    encoder: str = "standard",
    hard_negative_hours: float = 0.0,
    license: str = "not stated",  # noqa: A002
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool | RunProgress | None = None,
    cache: str | Path | None = None,
) -> Base:
    """Makes a base for words or sentences, from the synthesizer or a corpus's public speakers.

        >>> import fedspeech as fs
        >>> fs.pretrain(["yes", "no"], corpus="recordings")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: `corpus` and `speakers` belong together: ...

    Args:
      words: target words, one alone for a wake word; none: those of `base` where it has words,
        with a corpus those that its public speakers say most often, else the ten of the shipped
        base.
      base: fit a head behind the encoder of this base: "speech-embedding", a folder with a
        base.toml, a file, or the network alone, `*.pt2` or `*.tflite`, from waveforms. None: train
        the built-in encoder.
      corpus: folder of recordings; None: the synthesizer.
      speakers: with a corpus: a file that names its public speakers, or how many are drawn.
      held_out: with a corpus: a file that names the speakers by whom the base is judged; None: a
        tenth of the public ones.
      lexicon: words that the built-in lexicon lacks to ARPAbet strings.
      task: "kws" for words, "asr" for sentences.
      encoder: "standard"; "micro" for a base that microcontrollers have room for; "esphome" for the
        same behind the front end that ESPHome has. For words.
      hard_negative_hours: of synthesized sound without a target word (running speech, near misses,
        noise, music). What the base takes most for a word in it trains the base further, and the
        hardest windows ship to phones. For the built-in encoder and "speech-embedding"; 0: none.
      license: of the weights in a `.pt2` or `.tflite` file, SPDX where there is one.
      seed: of speakers and weights.
      out: where the base is written as well; None: nowhere.
      progress: as in `simulate`.
      cache: where features are kept; None: the user's cache.

    Raises:
      ArgumentRefused: if arguments do not belong together.
      ScenarioError, CorpusError: if words, recordings or speakers cannot be used.
    """
    targets = (words,) if isinstance(words, str) and words else tuple(words)
    asked = None if speakers is None else str(speakers)
    _check(targets, base, corpus, asked, held_out, task, encoder, hard_negative_hours)
    from simulations.scenario.schema import Scenario
    from simulations.setup.embedding import cache_folder
    from simulations.setup.pretraining import BaseTraining, named_base

    spelled, behind = dict(lexicon or {}), None if base is None else str(base)
    command = _command(seed, targets, spelled, behind, task, encoder)
    with progress_for(progress) as shown:
        if task == "kws" and not targets and corpus is None and base is None:
            targets = tuple(Scenario(name="pretrain").vocabulary)
            shown.say(f"words: {' '.join(targets)}, since no others are named")
        try:
            with shown.stage("pretrain"):
                training = BaseTraining(
                    corpus=path_of(corpus), speakers=asked, held_out=path_of(held_out), seed=seed,
                    cache=cache_folder(path_of(cache)), command=command,
                    progress=lambda part, done, total: shown.advance(done, total, part),
                    encoder=encoder, hard_negative_hours=hard_negative_hours,
                )  # fmt: skip
                if behind is not None:
                    named = named_base(behind, license, listens=hard_negative_hours > 0)
                    made = training.head(named, targets, spelled)
                elif task == "asr":
                    made = training.sentences()
                else:
                    made = training.keywords(targets, spelled)
        except ValueError as error:
            raise ScenarioError(f"pretrain: {error}") from error
        if out is not None:
            _write(made, Path(out), shown)
    return made


def _check(
    words: Sequence[str],
    base: object,
    corpus: object,
    speakers: object,
    held_out: object,
    task: str,
    encoder: str,
    hard_negative_hours: float,
) -> None:
    """Refuses arguments that do not belong together.

    Raises:
      ArgumentRefused: naming them.
    """
    if encoder != "standard" and (base is not None or task != "kws"):
        raise ArgumentRefused("`encoder` is of a base for words that is trained afresh")
    if not 0 <= hard_negative_hours <= MOST_HOURS or (hard_negative_hours and task != "kws"):
        raise ArgumentRefused(
            f"`hard_negative_hours` must be 0 to {MOST_HOURS}, and is for words, got "
            f"{hard_negative_hours:g} for `task` {task}"
        )
    if base is not None and task != "kws":
        raise ArgumentRefused("`base` belongs to `task` kws: a head is fit for words")
    if (corpus is None) != (speakers is None):
        raise ArgumentRefused(
            "`corpus` and `speakers` belong together: a base learns from public speakers that are "
            "named, and they never become phones"
        )
    if held_out is not None and corpus is None:
        raise ArgumentRefused("`held_out` belongs to `corpus`: who is synthetic has no name")
    if task not in ("kws", "asr"):
        raise ArgumentRefused(f"`task` must be kws or asr, got {task!r}")
    if task == "asr" and words:
        raise ArgumentRefused("`words` belongs to `task` kws: sentences are spelled, not listed")


def _command(
    seed: int,
    targets: Sequence[str],
    lexicon: Mapping[str, str],
    base: str | None,
    task: str,
    encoder: str,
) -> str:
    """The command that does the same, for the provenance of a base."""
    if task == "asr":
        return f"fedspeech pretrain --task asr --seed {seed}"
    behind = f" --base {Path(base).name}" if base else ""
    size = "" if encoder == "standard" else f" --encoder {encoder}"
    words = f" --words '{' '.join(targets)}'" if targets else ""
    said = "".join(f" --lexicon '{word}={sounds}'" for word, sounds in lexicon.items())
    return f"fedspeech pretrain{behind}{size} --seed {seed}{words}{said}"


def _write(base: Base, out: Path, progress: RunProgress) -> None:
    """Writes the file or folder and says what is known of the base."""
    base.save(out)
    files = [out] if out.is_file() else sorted(out.iterdir())
    size = sum(file.stat().st_size for file in files)
    progress.say(f"{out}: {size / 1000:.0f} KB, SHA-256 {base.sha256}")
    for words in base.doubts:
        progress.say(f"  note: {words}")
    for name, value in sorted(base.provenance.items()):
        progress.say(f"  {name}: {value}")
