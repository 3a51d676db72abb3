"""Speech tokens from Python: a codec trained, recordings encoded, tokens decoded to log-mel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.console import Console
from simulations.progress import RunProgress, progress_for

if TYPE_CHECKING:
    from fedspeech.models.codec import Codec

EPOCHS = 24
NOTICE = (
    "Tokens are derived from a voice and still tell it (docs/speech-tokens.md): no guarantee of "
    "privacy holds for them, with or without noise in training."
)


@dataclass(frozen=True, kw_only=True)
class TokenReport:
    """What was trained, encoded or decoded, and at which rates.

    Attributes:
      codec: the codec.
      written: the file.
      recordings: tokens of each recording by name; empty where a codec was trained.
      codebooks: how many of the first codebooks are in it.
    """

    codec: Codec
    written: Path
    recordings: dict[str, int]
    codebooks: int

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "written": str(self.written),
            "codec_sha256": self.codec.sha256,
            "parameters": self.codec.network.num_parameters,
            "tokens_per_second": self.codec.rate_hz,
            "codebooks": self.codebooks,
            "bits_per_second": list(self.codec.bit_rates()),
            "recordings": self.recordings,
            "provenance": dict(self.codec.provenance),
            "notice": NOTICE,
        }

    def print(self, console: Console) -> None:
        """Prints the file, bit rates and the notice."""
        rates = ", ".join(f"{rate:g}" for rate in self.codec.bit_rates())
        parameters = self.codec.network.num_parameters
        console.print(f"{self.written}, by a codec of {parameters:,} parameters")
        console.print(
            f"  {self.codec.rate_hz:g} tokens a second; bits a second of the first codebook, the "
            f"first two, and so on: {rates}"
        )
        for name, tokens in self.recordings.items():
            bits = tokens * self.codebooks * self.codec.spec.bits_per_code
            console.print(f"  {name}: {tokens} tokens, {bits:.0f} bits")
        console.print(f"  {NOTICE}")


def tokens_train(
    out: str | Path,
    *,
    corpus: str | Path | None = None,
    base: str | Path | None = None,
    speakers: int = 48,
    epochs: int = EPOCHS,
    noise: bool = False,
    seed: int = 1,
    progress: bool | RunProgress | None = None,
) -> TokenReport:
    """Trains a codec whose first codebook is held to a recognizer's frames.

        >>> import fedspeech as fs
        >>> made = fs.tokens_train("codec.safetensors", speakers=4, epochs=1)  # doctest: +SKIP
        >>> made.codec.bit_rates()                                             # doctest: +SKIP
        (150.0, 300.0, 450.0, 600.0)

    Args:
      out: the codec's file, *.safetensors.
      corpus: folder of recordings of words, all of whose speakers it learns from; None: synthesized
        speakers.
      base: the recognizer, a base for words; None: the shipped one.
      speakers: how many are synthesized.
      epochs: passes over the clips; 24 of the default speakers take some 99 CPU seconds.
      noise: train a second time, with Laplace noise on the first codebook's latents, clipped to
        their mean L1 norm of the first time. No guarantee follows from it.
      seed: of speakers and weights.
      progress: as in `simulate`.

    Raises:
      ArgumentRefused: if an argument is out of range.
      CorpusError, ScenarioError: if recordings or the base cannot be used.
    """
    from fedspeech.corpora.layouts import open_corpus
    from fedspeech.models.base import Base, default_base_path
    from fedspeech.models.codec import CodecSpec
    from fedspeech.training.codec import TokenTraining, clip_norm_of, token_lesson, train_codec
    from simulations.artifacts.token_files import spoken, voices
    from simulations.setup.pretraining import named_base

    path = Path(out)
    if path.suffix != ".safetensors":
        raise ArgumentRefused(f"`out` must be a .safetensors file, got {path}")
    if speakers < 2 or epochs < 1:
        raise ArgumentRefused(
            f"`speakers` must be at least 2 and `epochs` at least 1, got {speakers} and {epochs}"
        )
    teacher = Base.load(default_base_path()) if base is None else named_base(str(base), "")
    if corpus is None:
        heard: Any = voices(teacher.vocabulary.labels[:-2], speakers, seed)
    else:
        heard = open_corpus(Path(corpus), teacher.reading)
    made_of = {"corpus": heard.name, "license": heard.license, "teacher": teacher.sha256}
    with progress_for(progress) as shown:
        try:
            lesson = token_lesson(teacher, heard, spoken(heard.utterances))
            spec = CodecSpec(teacher_features=lesson.teacher.shape[2])
            training = TokenTraining(epochs=epochs)
            for _ in range(1 + noise):
                with shown.stage("tokens"):
                    codec = train_codec(
                        lesson, training, spec, seed=seed, provenance=made_of,
                        progress=lambda done, total: shown.advance(done, total, "training"),
                    )  # fmt: skip
                training = replace(training, clip_norm=clip_norm_of(codec, lesson.features))
        except ValueError as error:
            raise ScenarioError(f"tokens train: {error}") from error
    codec.save(path)
    return TokenReport(codec=codec, written=path, recordings={}, codebooks=codec.spec.codebooks)


def tokens_encode(codec: str | Path, sounds: Sequence[str | Path], out: str | Path) -> TokenReport:
    """Encodes recordings as tokens, in one file that stays where it is made.

        >>> import fedspeech as fs
        >>> fs.tokens_encode("codec.safetensors", ["yes.wav"], "tokens.safetensors")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'codec.safetensors'

    Args:
      codec: a file of `tokens_train`.
      sounds: recordings, any rate, of at most a minute each; names must differ.
      out: the file of tokens, *.safetensors.

    Raises:
      CorpusError: if a recording cannot be read.
      ScenarioError: if the codec is none.
      ArgumentRefused: if two recordings bear one name.
      OSError: if a file cannot be read or written.
    """
    from simulations.artifacts.token_files import encoded, write_tokens

    loaded, path = _codec(codec), Path(out)
    if path.suffix != ".safetensors":
        raise ArgumentRefused(f"`out` must be a .safetensors file, got {path}")
    files = [Path(sound) for sound in sounds]
    if not files or len({file.name for file in files}) != len(files):
        raise ArgumentRefused("`sounds` must be recordings of different names, at least one")
    found = {file.name: encoded(loaded, file) for file in files}
    write_tokens(path, loaded, found)
    return TokenReport(
        codec=loaded, written=path, codebooks=loaded.spec.codebooks,
        recordings={name: len(codes) for name, codes in found.items()},
    )  # fmt: skip


def tokens_decode(
    codec: str | Path, tokens: str | Path, out: str | Path, *, codebooks: int | None = None
) -> TokenReport:
    """Decodes tokens to log-mel features, from the first codebooks alone where asked for.

        >>> import fedspeech as fs
        >>> fs.tokens_decode("codec.safetensors", "tokens.safetensors", "mel.safetensors")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'codec.safetensors'

    Args:
      codec: that the tokens are of.
      tokens: a file of `tokens_encode`.
      out: log-mel of each recording, (frames, mels), *.safetensors.
      codebooks: how many of the first codebooks are used; None: all.

    Raises:
      ScenarioError: if the tokens are of another codec.
      ArgumentRefused: if there are fewer codebooks.
      OSError: if a file cannot be read or written.
    """
    import numpy as np
    from safetensors import numpy as safetensors_numpy

    from fedspeech.files import write_whole
    from simulations.artifacts.token_files import read_tokens

    loaded, path = _codec(codec), Path(out)
    used = loaded.spec.codebooks if codebooks is None else codebooks
    if path.suffix != ".safetensors" or not 1 <= used <= loaded.spec.codebooks:
        raise ArgumentRefused(
            f"`out` must be a .safetensors file, and `codebooks` 1 to {loaded.spec.codebooks}, got "
            f"{path} and {used}"
        )
    codes = read_tokens(Path(tokens), loaded)
    try:
        frames = {name: loaded.decode(rows[None, :, :used])[0] for name, rows in codes.items()}
    except (ValueError, IndexError) as error:
        raise ScenarioError(f"{tokens}: {error}") from None
    arrays = {name: np.ascontiguousarray(rows) for name, rows in frames.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, bytes(safetensors_numpy.save(arrays)))
    return TokenReport(
        codec=loaded, written=path, codebooks=used,
        recordings={name: len(rows) for name, rows in codes.items()},
    )  # fmt: skip


def _codec(path: str | Path) -> Codec:
    from fedspeech.models.codec import Codec

    try:
        return Codec.load(Path(path))
    except ValueError as error:
        raise ScenarioError(str(error)) from error
