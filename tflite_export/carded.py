"""A converted model with its card inside, and the proof that the card changed no output."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from tflite_export.blueprint import Blueprint
from tflite_export.card import Card
from tflite_export.converter import Converter
from tflite_export.flatbuffer import embed_card
from tflite_export.interpreter import TfliteModel

_PROBES = 32


def convert_with_card(
    blueprint: Blueprint, card: Card, converter: Converter, *, text: bool = True
) -> bytes:
    """Converts a graph and embeds its card.

    Args:
      blueprint: of the graph.
      card: the one of this file; see `Card.inside`.
      converter: the process that holds TensorFlow.
      text: whether the card stands in the file as Markdown too, beside its JSON.

    Raises:
      ExportRefused: if an operation has no builtin counterpart, the process that converts dies, or
        the card changes an output.
    """
    # The converter knows nothing of cards, so the same graph gives the same bits whatever they say.
    plain = converter.convert(blueprint)
    content = embed_card(plain, card.to_json(), card.to_markdown() if text else "")
    before, after = (_outputs(TfliteModel(bits)) for bits in (plain, content))
    same = (np.array_equal(*pair, equal_nan=True) for pair in zip(before, after, strict=True))
    if not all(same):
        raise ExportRefused("card: embedding it must leave every output as it was")
    return content


def _outputs(model: TfliteModel) -> list[NDArray[Any]]:
    """Outputs of every signature on inputs drawn at random, one call after the other.

    What the values mean does not matter here: bits that moved in the file move bits of the outputs.
    """
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
