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
from types import TracebackType
from typing import Any

from fedspeech.errors import ExportRefused
from tflite_export.blueprint import Blueprint

_SECONDS_TO_DIE = 20.0  # a core dump takes its time


class Converter:
    """Converts graphs one after another; a context manager.

    One process serves all files of an export. It starts with the first, and one that has died is
    replaced at the next.

    Args:
      module: what runs as `python -m`; speaks as `tflite_export.convert.main` does.

    Attributes:
      cpu_seconds: that conversions have taken, those of processes that died not counted.
    """

    def __init__(self, module: str = "tflite_export.convert") -> None:
        """Starts nothing yet."""
        self.cpu_seconds = 0.0
        self._module = module
        self._folder = tempfile.TemporaryDirectory(prefix="fedspeech-export-")
        # A file and not a pipe: a pipe that nobody empties would stop the process.
        self._said = Path(self._folder.name) / "said"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Converter:
        """Does nothing more."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the process, whatever it is doing."""
        if self._process is not None:
            # Killed: the process ignores Ctrl-C, and holds nothing that must still be written.
            self._process.kill()
            self._process.communicate()
        self._folder.cleanup()

    def convert(self, blueprint: Blueprint) -> bytes:
        """Builds and converts one graph.

        Returns:
          The bytes of a .tflite file.

        Raises:
          ExportRefused: if an operation has no builtin counterpart, or the process died; says of
            what.
        """
        drawn, file = (Path(self._folder.name) / name for name in ("blueprint", "file"))
        blueprint.save(drawn)
        answer = self._ask({"blueprint": str(drawn), "file": str(file)}, blueprint)
        self.cpu_seconds += answer["cpu_seconds"]
        if answer["refused"] is not None:
            raise ExportRefused(answer["refused"])
        return file.read_bytes()

    def _ask(self, question: dict[str, str], blueprint: Blueprint) -> dict[str, Any]:
        """Sends a line and waits for one."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            print(json.dumps(question), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        # An end of the stream without an answer is a process that died in native code.
        if not line:
            self._process = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_DIE)
            process.kill()
            process.communicate()
            how = _cause_of_death(process.returncode, self._said)
            raise ExportRefused(
                f"conversion: the process that converts {how} at the {blueprint.precision} graph "
                f"{blueprint.graph!r}; the other files and the run do not depend on it; "
                "fedspeech doctor tries a conversion"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        """Starts a process that finds the packages that this one found, and nothing else.

        What it leaves among temporary files goes with the converter's own folder: TensorFlow
        removes what it writes there only at an end of its own choosing.
        """
        # Absolute: an empty entry stands for the working directory, which -P leaves out.
        places = [str(Path(place).absolute()) for place in sys.path]
        with self._said.open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", self._module],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(places),
                    "TMPDIR": self._folder.name,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                encoding="ascii",
            )


def _cause_of_death(status: int, said: Path) -> str:
    """How a process ended, in words, with the last that it said."""
    if status == -signal.SIGKILL:
        return "was killed, as happens where memory runs out,"
    lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")[:300]
    end = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{end} ({last})"
