"""`fedspeech tokens`: speech as tokens whose first codebook keeps the words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fedspeech as fs
from simulations.commands.options import (
    BaseOption,
    CorpusOption,
    JsonOption,
    said_in_options,
    show,
)

_Codec = Annotated[Path, typer.Argument(help="A file of `fedspeech tokens train`.")]
_Out = Annotated[Path, typer.Option("--out", "-o", help="The file to write, *.safetensors.")]


@said_in_options()
def train(
    out: _Out,
    corpus: CorpusOption = None,
    base: BaseOption = None,
    speakers: Annotated[int, typer.Option(min=2, help="Synthesized without --corpus.")] = 48,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the clips.")] = 24,
    noise: Annotated[
        bool,
        typer.Option(
            "--noise", help="Train again with Laplace noise; no guarantee follows from it."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of speakers and weights.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a codec whose first codebook is held to a recognizer's frames; it tells voices."""
    found = fs.tokens_train(
        out, corpus=corpus, base=base, speakers=speakers, epochs=epochs, noise=noise, seed=seed,
        progress=False if as_json else None,
    )  # fmt: skip
    show(found, as_json)


@said_in_options()
def encode(
    codec: _Codec,
    sounds: Annotated[list[Path], typer.Argument(help="Recordings, a minute at most each.")],
    out: _Out,
    as_json: JsonOption = False,
) -> None:
    """Encode recordings as tokens, and print their bit rates."""
    show(fs.tokens_encode(codec, sounds, out), as_json)


@said_in_options()
def decode(
    codec: _Codec,
    tokens: Annotated[Path, typer.Argument(help="A file of `fedspeech tokens encode`.")],
    out: _Out,
    codebooks: Annotated[
        int | None, typer.Option(help="Use so many of the first codebooks; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Decode tokens to log-mel features."""
    show(fs.tokens_decode(codec, tokens, out, codebooks=codebooks), as_json)
