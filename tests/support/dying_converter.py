"""Speaks as `tflite_export.convert` does, without TensorFlow: some graphs kill it."""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tflite_export.blueprint import Blueprint

if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        match Blueprint.load(Path(asked["blueprint"])).graph:
            case "keyword":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "streaming":
                os.kill(os.getpid(), signal.SIGKILL)
            case "firmware":
                raise ValueError("no graph is known for the adapter 'lora'")
        loaded = {"torch", "tensorflow"} & set(sys.modules)
        left = tempfile.mkstemp()[1]  # as TensorFlow leaves its own where it is killed
        said = f"process {os.getpid()}, holds {sorted(loaded)}, leaves {left}"
        Path(asked["file"]).write_text(said)
        sys.stdout.write(json.dumps({"refused": None, "cpu_seconds": 0.5}) + "\n")
        sys.stdout.flush()
