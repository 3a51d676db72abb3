"""`fedspeech pretrain`: a base for any vocabulary, from the synthesizer or public speakers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspeech.errors import ScenarioError
from simulations.commands.options import CacheOption, CorpusOption

if TYPE_CHECKING:
    from fedspeech.models.base import Base
    from simulations.progress import RunProgress


def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the base is written.")],
    base: Annotated[
        str,
        typer.Option(
            help="Fit a head behind the encoder of this base: speech-embedding, a folder with a "
            "base.toml, or a file. Default: train the built-in encoder.",
        ),
    ] = "",
    words: Annotated[str, typer.Option(help="Target words, separated by spaces or commas.")] = "",
    corpus: CorpusOption = None,
    speakers: Annotated[
        str | None,
        typer.Option(
            help="With --corpus: a file that names the public speakers, or how many are drawn.",
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="With --corpus: a file that names the speakers by whom the base is judged; "
            "default: a tenth of the public ones.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of speakers and weights.")] = 0,
    cache: CacheOption = None,
    lexicon: Annotated[
        list[str] | None,
        typer.Option(help='Say a word that is not built in: --lexicon "lamp=L AE1 M P".'),
    ] = None,
    task: Annotated[str, typer.Option("--task", help="kws for words, asr for sentences.")] = "kws",
) -> None:
    """Make a base for words or sentences, from the synthesizer or a corpus's public speakers."""
    _check(out, words, corpus, speakers, held_out, task, base)
    spelled = dict(_spelled(entry) for entry in lexicon or ())
    # Only now, since torch takes seconds that a typing error need not wait.
    from simulations.progress import RunProgress
    from simulations.scenario.schema import Scenario
    from simulations.setup.embedding import cache_folder
    from simulations.setup.pretraining import BaseTraining, named_base

    kept = cache_folder(cache)
    targets = tuple(word.lower() for word in re.split(r"[\s,]+", words) if word)
    with RunProgress() as progress:
        if task == "kws" and not targets and corpus is None:
            targets = tuple(Scenario(name="pretrain").vocabulary)
            progress.say(f"words: {' '.join(targets)}, since --words names no others")

        def advance(part: str, done: int, total: int) -> None:
            progress.advance(done, total, part)

        try:
            with progress.stage("pretrain"):
                asr = task == "asr"
                training = BaseTraining(
                    corpus=corpus, speakers=speakers, held_out=held_out, seed=seed, cache=kept,
                    command=f"fedspeech pretrain --task asr --seed {seed}"
                    if asr
                    else _command(seed, targets if words else (), spelled, base),
                    progress=advance,
                )  # fmt: skip
                if base:
                    made = training.head(named_base(base), targets, spelled)
                else:
                    made = training.sentences() if asr else training.keywords(targets, spelled)
        except ValueError as error:
            raise ScenarioError(f"pretrain: {error}") from error
        _write(made, out, progress)


def _check(
    out: Path,
    words: str,
    corpus: Path | None,
    speakers: str | None,
    held_out: Path | None,
    task: str,
    base: str,
) -> None:
    """Refuses options that do not belong together.

    Raises:
      ScenarioError: naming them.
    """
    if out.suffix != ".safetensors" and not base:
        raise ScenarioError(f"a base is written as a .safetensors file, got --out {out}")
    if base and task != "kws":
        raise ScenarioError("--base belongs to --task kws: a head is fit for words")
    if (corpus is None) != (speakers is None):
        raise ScenarioError(
            "--corpus and --speakers belong together: a base learns from public speakers that are "
            "named, and they never become phones"
        )
    if held_out and corpus is None:
        raise ScenarioError("--held-out belongs to --corpus: who is synthetic has no name")
    if task not in ("kws", "asr"):
        raise ScenarioError(f"--task must be kws or asr, got {task!r}")
    if task == "asr" and words:
        raise ScenarioError("--words belongs to --task kws: sentences are spelled, not listed")


def _command(seed: int, targets: Sequence[str], lexicon: Mapping[str, str], base: str) -> str:
    """What was typed, for the provenance of a base."""
    behind = f" --base {Path(base).name}" if base else ""
    words = f" --words '{' '.join(targets)}'" if targets else ""
    said = "".join(f" --lexicon '{word}={sounds}'" for word, sounds in lexicon.items())
    return f"fedspeech pretrain{behind} --seed {seed}{words}{said}"


def _write(base: Base, out: Path, progress: RunProgress) -> None:
    """Writes the file and says what is known of the base."""
    base.save(out)
    files = [out] if out.is_file() else sorted(out.iterdir())
    size = sum(file.stat().st_size for file in files)
    progress.say(f"{out}: {size / 1000:.0f} KB, SHA-256 {base.sha256}")
    for name, value in sorted(base.provenance.items()):
        progress.say(f"  {name}: {value}")


def _spelled(entry: str) -> tuple[str, str]:
    word, _, phonemes = entry.partition("=")
    if not word.strip() or not phonemes.strip():
        raise typer.BadParameter(f"expected WORD=PHONEMES, got {entry!r}", param_hint="--lexicon")
    return word.strip().lower(), phonemes.strip()
