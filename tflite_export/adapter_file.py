"""The file of the adapter alone, of a trained model: `fedspeech.rollout.adapter_file`."""

from __future__ import annotations

import json

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import AdapterFile, hash_words
from tflite_export.card import Card
from tflite_export.weights import Trained


def write_adapter(trained: Trained, card: Card) -> bytes:
    """Returns the bytes of the file."""
    return AdapterFile(
        adapter=trained.adapter.spec.flatten(trained.parameters),
        base=hash_words(trained.base.sha256),
        card_text=json.dumps(card.to_json(), sort_keys=True, allow_nan=False),
    ).to_bytes()


def read_adapter(content: bytes) -> AdapterFile:
    """Reads the bytes of a file.

    Raises:
      ExportRefused: if they are no adapter file, an array is of other shape or type, or the
        checksum is not the adapter's.
    """
    try:
        return AdapterFile.from_bytes(content)
    except ValueError as error:
        raise ExportRefused(f"adapter: {error}") from error
