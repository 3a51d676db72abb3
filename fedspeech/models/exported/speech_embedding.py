"""Google's speech embedding, from the wheel `pyopen-wakeword`: a real base out of the box.

Lin, Kilgour, Roblek, Sharifi 2020 (arXiv:2002.01322): 96 features every 80 ms, each of 775 ms of
sound, trained by Google on speech of many speakers and published under Apache-2.0. The wheel has
wake-word models beside it; their license is another, and nothing here reads them.

    encoder = speech_embedding()        # (n, 5440 + 16000) to (n, 11, 96)
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from fedspeech.errors import FedspeechError
from fedspeech.extras import require
from fedspeech.models.exported.encoder import Declared, ForeignEncoder

NAME = "speech-embedding"
PACKAGE = "pyopen_wakeword"
FILE = "embedding_model.tflite"
SHA256 = "c0aea21eb84a4ce90a08c870da41b7a7173b45269e6a3207c71d67c40f3a59d8"

DECLARED = Declared(
    file="tflite",
    input="speech_embedding",
    # With 0.34 s before a clip and 0.24 s of zeros behind it, each part of a word stands in as many
    # of the 11 windows: on recorded words that answers more right than a whole second before and
    # nothing behind.
    context_samples=5_440,
    padding_samples=3_872,
    hop_samples=1_280,
)

# For a wake word: nothing stands behind what was heard, so a stream is computed once. Four windows
# hear 1.02 s, which a word of a second fits into.
LISTENING = replace(DECLARED, context_samples=352, padding_samples=0)

LICENSE = "Apache-2.0"
PROVENANCE = {
    "encoder": "Google speech embedding (arXiv:2002.01322)",
    "encoder_source": f"{FILE} of the Python package pyopen-wakeword, Apache-2.0, which credits "
    "openWakeWord's copy of Google's model, published on TensorFlow Hub under Apache-2.0",
    "encoder_sha256": SHA256,
    "encoder_speakers": "Google's own data; who speaks in it is not published",
}


def speech_embedding(declared: Declared = DECLARED) -> ForeignEncoder:
    """Loads the encoder from the installed wheel; takes that one file only.

    Args:
      declared: what it is given: `DECLARED`, or `LISTENING`.

    Raises:
      MissingExtra: if the wheel is not installed.
      FedspeechError: if its file is another.
    """
    content = wheel_file(FILE).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise FedspeechError(
            f"{FILE} of pyopen-wakeword must have SHA-256 {SHA256}, got {found}: this version of "
            "the package ships another model"
        )
    return ForeignEncoder(content=content, declared=declared)


def wheel_file(name: str) -> Path:
    """Where a model of the installed wheel lies.

    Raises:
      MissingExtra: if the wheel is not installed.
    """
    # Found and not imported: the package loads a library of its own.
    require(NAME)
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "models" / name
