"""Publishes a float .tflite file of a base and its best adapter, or refuses.

card = Card.of(base, adapter, parameters, privacy=..., metrics=..., ...)
exported = export_float(base, adapter, parameters, card=card, speech=clips, folder=folder)
verify(exported.model, base, adapter, parameters, clips)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import Adapter
from fedspeech.models.base import Base
from tflite_export.card import Card, require_identity
from tflite_export.flatbuffer import embed_card, read_card, require_builtins
from tflite_export.interpreter import TfliteModel
from tflite_export.parity import Check, check_parity, probes
from tflite_export.weights import Parameters, network

MODEL_FILE = "model_float.tflite"
PARITY_FILE = "parity.json"
CARD_FILE = "card.json"
CARD_TEXT_FILE = "card.md"

_UNCHANGED_PROBES = 32


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found out about a file.

    Attributes:
      sha256: of the file, hex.
      size_bytes: of the file.
      checks: one per signature.
      operators: builtin operator to count.
    """

    sha256: str
    size_bytes: int
    checks: tuple[Check, ...]
    operators: Mapping[str, int]

    @property
    def worst(self) -> Check:
        """The check with the largest difference."""
        return max(self.checks, key=lambda check: check.max_logit_difference)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was published.

    Attributes:
      model: the .tflite file.
      parity: `parity.json`.
      card: `card.json`.
      card_text: `card.md`.
      verification: figures of the published bytes.
      cpu_seconds: step ("convert", "verify") to CPU seconds.
    """

    model: Path
    parity: Path
    card: Path
    card_text: Path
    verification: Verification
    cpu_seconds: Mapping[str, float]


def export_float(
    base: Base,
    adapter: Adapter,
    parameters: Parameters,
    *,
    card: Card,
    speech: NDArray[np.float32],
    folder: Path,
) -> Exported:
    """Converts, embeds the card, checks the bytes that would be published, then publishes them.

    A refusal leaves the folder as it was. The model is put in place last, in one step: where there
    is a model, its card and its figures are there too.

    Args:
      base: the frozen part.
      adapter: what follows the trunk.
      parameters: its values by name, float32.
      card: `Card.of` the same base, adapter and parameters.
      speech: clips to compare on, shape (n, clip_samples), float32, at least 250.
      folder: where the files go; made if it is missing.

    Raises:
      ExportRefused: if the card speaks of another model, an operation has no builtin counterpart,
        the card changes an output or does not read back, or the file does not compute what torch
        computes.
      ValueError: if parameters or speech cannot be used.
    """
    require_identity(card.to_json(), base, adapter, parameters)
    started = time.process_time()
    # Here, because TensorFlow takes seconds to import and `verify` does without it.
    from tflite_export.convert import convert_float

    plain = convert_float(network(base, adapter, parameters))
    content = embed_card(plain, card.to_json())
    converted = time.process_time()
    clips = probes(speech, base.frontend)
    few = clips[:: len(clips) // _UNCHANGED_PROBES]
    _require_unchanged(TfliteModel(plain), TfliteModel(content), few)
    verification = _verify(content, base, adapter, parameters, speech)
    cpu_seconds = {
        "convert": round(converted - started, 3),
        "verify": round(time.process_time() - converted, 3),
    }
    parity = {"file": MODEL_FILE, **dataclasses.asdict(verification), "cpu_seconds": cpu_seconds}
    exported = Exported(
        model=folder / MODEL_FILE,
        parity=folder / PARITY_FILE,
        card=folder / CARD_FILE,
        card_text=folder / CARD_TEXT_FILE,
        verification=verification,
        cpu_seconds=cpu_seconds,
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write(exported.card_text, card.to_markdown().encode())
    _write(exported.card, _json(card.to_json()))
    _write(exported.parity, _json(parity))
    _write(exported.model, content)
    return exported


def verify(
    file: Path,
    base: Base,
    adapter: Adapter,
    parameters: Parameters,
    speech: NDArray[np.float32],
) -> Verification:
    """Checks a file that exists, whoever made it; needs no TensorFlow.

    Args:
      file: the .tflite file.
      base: what it is said to stand on.
      adapter: what is said to follow the trunk.
      parameters: its values by name, float32.
      speech: clips to compare on, shape (n, clip_samples), float32, at least 250.

    Raises:
      ExportRefused: if the file cannot be read, needs an operator that is not a builtin, carries no
        card or that of another model, or does not compute what torch computes.
      ValueError: if parameters or speech cannot be used.
    """
    return _verify(TfliteModel.open(file).content, base, adapter, parameters, speech)


def _verify(
    content: bytes,
    base: Base,
    adapter: Adapter,
    parameters: Parameters,
    speech: NDArray[np.float32],
) -> Verification:
    """Checks the bytes of a file."""
    model = TfliteModel(content)
    operators = require_builtins(content)
    require_identity(read_card(content), base, adapter, parameters)
    return Verification(
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        checks=check_parity(model, base, adapter, parameters, speech),
        operators=operators,
    )


def _require_unchanged(plain: TfliteModel, carded: TfliteModel, clips: NDArray[np.float32]) -> None:
    """Refuses a file whose outputs changed a single bit when the card was embedded."""
    before, after = (model.run_each("waveform", clips) for model in (plain, carded))
    if not np.array_equal(before, after):
        raise ExportRefused(
            f"card: embedding it must leave every output as it was, one moved by "
            f"{np.abs(before - after).max():.3g}"
        )


def _json(value: Any) -> bytes:
    """Renders JSON for people and programs."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    """Writes a file, all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
