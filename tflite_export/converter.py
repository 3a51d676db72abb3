"""Conversion in a process of its own, which holds TensorFlow and no torch.

    with Converter() as converter:
        content = converter.convert(Blueprint(graph="keyword", network=network))

TensorFlow and the triton that comes with torch crash where one process loads both. Apart, a crash
of the one is a refused file for the other, and TensorFlow's memory is given back with its process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from tflite_export.blueprint import Blueprint
from tflite_export.card import Card
from tflite_export.flatbuffer import embed_card
from tflite_export.interpreter import TfliteModel

_PROBES = 32
_SECONDS_TO_DIE = 20.0  # a core dump takes its time


class Converter(contextlib.AbstractContextManager["Converter"]):
    """Converts graphs one after another; a context manager.

    One process serves all files of an export. It starts with the first, and one that has died is
    replaced at the next.

    Args:
      module: what runs as `python -m`; speaks as `tflite_export.convert.main` does.

    Attributes:
      cpu_seconds: that conversions have taken, those of processes that died not counted.
    """

    def __init__(self, module: str = "tflite_export.convert") -> None:
        self.cpu_seconds = 0.0
        self._module = module
        self._folder = tempfile.TemporaryDirectory(prefix="fedspeech-export-")
        # A file and not a pipe: a pipe that nobody empties would stop the process.
        self._stderr = Path(self._folder.name) / "stderr"
        self._process: subprocess.Popen[str] | None = None

    def __exit__(self, *raised: object) -> None:
        """Ends the process, whatever it is doing."""
        if self._process is not None:
            # Killed: the process ignores Ctrl-C, and holds nothing that must still be written.
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()

    def convert(self, blueprint: Blueprint) -> bytes:
        """Builds and converts one graph; returns the bytes of a .tflite file.

        Raises:
          ExportRefused: if an operation has no builtin counterpart, or the process died; says of
            what.
        """
        built, file = (Path(self._folder.name) / name for name in ("blueprint", "file"))
        blueprint.save(built)
        reply = self._ask({"blueprint": str(built), "file": str(file)}, blueprint)
        self.cpu_seconds += reply["cpu_seconds"]
        if reply["refused"] is not None:
            raise ExportRefused(reply["refused"])
        return file.read_bytes()

    def _ask(self, request: dict[str, str], blueprint: Blueprint) -> dict[str, Any]:
        """Sends a line and waits for one."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        # An end of the stream without a reply is a process that died in native code.
        if not line:
            self._process = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_DIE)
            process.kill()
            process.communicate()
            how = _cause_of_death(process.returncode, self._stderr)
            raise ExportRefused(
                f"conversion: the process that converts {how} at the {blueprint.precision} graph "
                f"{blueprint.graph!r}; the other files and the run do not depend on it; "
                "fedspeech doctor tries a conversion"
            )
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _start(self) -> subprocess.Popen[str]:
        """Starts a process that finds the packages that this one found, and nothing else."""
        # Absolute: an empty entry stands for the working directory, which -P leaves out.
        places = [str(Path(place).absolute()) for place in sys.path]
        # What it leaves among temporary files goes with the converter's own folder: TensorFlow
        # removes what it writes there only at an end of its own choosing.
        own = {"PYTHONPATH": os.pathsep.join(places), "TMPDIR": self._folder.name}
        with self._stderr.open("wb") as stderr:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                env=os.environ | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="ascii",
            )


def _cause_of_death(status: int, stderr: Path) -> str:
    """How a process ended, in words, with its last line on standard error."""
    if status == -signal.SIGKILL:
        return "was killed, as happens where memory runs out,"
    lines = stderr.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")[:300]
    end = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{end} ({last})"


def convert_with_card(
    blueprint: Blueprint, card: Card, converter: Converter, *, text: bool = True
) -> bytes:
    """Converts a graph and embeds the card of its file, as Markdown too if `text`.

    Raises:
      ExportRefused: if an operation has no builtin counterpart, the process that converts dies, or
        the card changes an output.
    """
    # The converter knows nothing of cards, so the same graph gives the same bits whatever they say.
    return carrying(converter.convert(blueprint), card, text=text)


def carrying(plain: bytes, card: Card, *, text: bool = True) -> bytes:
    """Embeds a card in a file, as Markdown too if `text`.

    Raises:
      ExportRefused: if the card changes an output.
    """
    content = embed_card(plain, card.to_json(), card.to_markdown() if text else "")
    require_same_outputs(plain, content, "card")
    return content


def require_same_outputs(plain: bytes, content: bytes, what: str) -> None:
    """Refuses a file whose outputs are not, bit for bit, those that it had before.

    Args:
      plain: the file before.
      content: the file with what was embedded.
      what: was embedded.

    Raises:
      ExportRefused: if an output differs.
    """
    before, after = (_outputs(TfliteModel(bits)) for bits in (plain, content))
    same = (np.array_equal(*pair, equal_nan=True) for pair in zip(before, after, strict=True))
    if not all(same):
        raise ExportRefused(f"{what}: embedding it must leave every output as it was")


def _outputs(model: TfliteModel) -> list[NDArray[Any]]:
    """Outputs of every signature on inputs drawn at random, one call after the other."""
    # What the values mean does not matter: bits that moved in the file move bits of the outputs.
    rng = stream(0, "outputs with and without the card")
    found: list[NDArray[Any]] = []
    for name, signature in sorted(model.signatures.items()):
        for _ in range(_PROBES):
            inputs = {
                entry: rng.standard_normal(spec.shape).astype(spec.dtype)
                for entry, spec in sorted(signature.inputs.items())
            }
            found += [value for _, value in sorted(model.run(name, **inputs).items())]
    return found
