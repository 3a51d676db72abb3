"""`fedspeech pretrain`: a base for any vocabulary, from the synthesizer or public speakers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from fedspeech.errors import ScenarioError
from simulations.commands.options import CacheOption, CorpusOption, said_in_options


@said_in_options()
def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the base is written.")],
    base: Annotated[
        str,
        typer.Option(
            help="Fit a head behind the encoder of this base: speech-embedding, a folder with a "
            "base.toml, a file, or a network alone (.pt2, .tflite). Default: train the built-in "
            "encoder.",
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
    encoder: Annotated[
        str, typer.Option(help="standard, or micro or esphome for microcontrollers; for words.")
    ] = "standard",
    hard_negative_hours: Annotated[
        float,
        typer.Option(
            help="Train further on what the base takes for a word in so many synthesized hours "
            "without one: running speech, near misses, noise, music. For words.",
        ),
    ] = 0.0,
    license_: Annotated[
        str, typer.Option("--license", help="Of the weights of a network alone.")
    ] = "not stated",
) -> None:
    """Make a base for words or sentences, from the synthesizer or a corpus's public speakers."""
    if out.suffix != ".safetensors" and not base:
        raise ScenarioError(f"a base is written as a .safetensors file, got --out {out}")
    fs.pretrain(
        tuple(word.lower() for word in re.split(r"[\s,]+", words) if word),
        base=base or None, corpus=corpus, speakers=speakers, held_out=held_out,
        lexicon=dict(_spelled(entry) for entry in lexicon or ()),
        task=task,  # type: ignore[arg-type]
        encoder=encoder, hard_negative_hours=hard_negative_hours, license=license_, seed=seed,
        out=out, cache=cache,
    )  # fmt: skip


def _spelled(entry: str) -> tuple[str, str]:
    word, _, phonemes = entry.partition("=")
    if not word.strip() or not phonemes.strip():
        raise typer.BadParameter(f"expected WORD=PHONEMES, got {entry!r}", param_hint="--lexicon")
    return word.strip().lower(), phonemes.strip()
