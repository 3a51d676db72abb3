"""An adapter as three files: weights, what they belong to, and a model card.

    save_adapter(folder, adapter, parameters, base_sha256=base.sha256, vocabulary=..., rounds=40)
    adapter, parameters = load_adapter(folder, base.sha256)

The file names are those of PEFT, since an adapter is what they say; PEFT itself cannot load them,
and the model card says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from fedspeech.corpora.corpus import Labels, labels_from
from fedspeech.files import write_whole
from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import Adapter

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
CARD_FILE = "README.md"
FORMAT = 2


def save_adapter(
    folder: Path,
    adapter: Adapter,
    parameters: Mapping[str, NDArray[np.float32]],
    *,
    base_sha256: str,
    vocabulary: Labels,
    rounds: int,
    card: str = "",
) -> None:
    """Writes the three files into `folder`, which is made if need be; weights come last.

    Args:
      folder: where to.
      adapter: what the parameters belong to.
      parameters: named as in `adapter.spec`.
      base_sha256: hex SHA-256 of the base's file.
      vocabulary: labels of the outputs.
      rounds: completed federated rounds.
      card: further sections of the model card in Markdown: data and licenses, accuracy by segment,
        the guarantee with all that an epsilon needs beside it.

    Raises:
      ValueError: if names, shapes or labels do not fit, the hash is none, or a value is not finite.
    """
    if not re.fullmatch("[0-9a-f]{64}", base_sha256):
        raise ValueError(f"base_sha256 must be 64 hex digits, got {base_sha256!r}")
    if rounds < 0:
        raise ValueError(f"rounds must not be negative, got {rounds}")
    tensors = {
        name: np.ascontiguousarray(value, dtype=np.float32) for name, value in parameters.items()
    }
    config = {
        "format": FORMAT,
        "library": "fedspeech",
        "kind": adapter.name,
        "activation": adapter.activation,
        "embedding_shape": list(adapter.embedding_shape),
        "parameters": {name: list(shape) for name, shape in adapter.spec.shapes},
        "base_sha256": base_sha256,
        **vocabulary.to_metadata(),
        "rounds": rounds,
    }
    _checked(config, tensors)
    # Weights last: a folder that has them has the other two, even if writing was cut off between.
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CARD_FILE, _card(config, adapter.spec.size, card).encode())
    write_whole(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    write_whole(folder / WEIGHTS_FILE, safetensors_numpy.save(tensors))


def load_adapter(folder: Path, base_sha256: str) -> tuple[Adapter, dict[str, NDArray[np.float32]]]:
    """Reads what `save_adapter` wrote.

    Args:
      folder: the adapter's.
      base_sha256: hash of the base that it is about to be joined with.

    Returns:
      The adapter and its parameters, named as in `adapter.spec`.

    Raises:
      ValueError: if a file is missing or damaged, the adapter belongs to another base, a name or
        shape differs from its own description, or a value is not finite.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = safetensors_numpy.load((folder / WEIGHTS_FILE).read_bytes())
        adapter = _checked(config, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{folder} holds no usable adapter: {error}") from error
    if config["base_sha256"] != base_sha256:
        raise ValueError(
            f"the adapter in {folder} belongs to base {config['base_sha256']}, got {base_sha256}"
        )
    return adapter, tensors


def _checked(config: Mapping[str, Any], tensors: Mapping[str, NDArray[np.float32]]) -> Adapter:
    """Builds the adapter that a description names, and holds the tensors against it."""
    if config["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {config['format']}")
    num_labels = len(labels_from(config).labels)
    *windows, num_features = config["embedding_shape"]  # a pooled embedding has no windows
    sizes = windows[0] if windows else 1, num_features, num_labels
    adapter = make_adapter(config["kind"], *sizes, config["activation"])
    described = {
        "embedding_shape": list(adapter.embedding_shape),
        "parameters": {name: list(shape) for name, shape in adapter.spec.shapes},
    }
    for name, value in described.items():
        if config[name] != value:
            raise ValueError(f"{adapter.name} adapters have {name} {value}, got {config[name]}")
    if any(value.dtype != np.float32 for value in tensors.values()):
        raise ValueError("parameters must be float32")
    if not np.isfinite(adapter.spec.flatten(tensors)).all():
        raise ValueError("parameters must be finite, got NaN or infinity")
    return adapter


def _card(config: Mapping[str, Any], num_parameters: int, sections: str) -> str:
    """The model card: what it is, what loads it, and what the caller knows."""
    labels = labels_from(config)
    return (
        f"""---
library_name: fedspeech
tags: [{labels.tag}, federated-learning, adapter]
---

# An adapter for {labels.tag.replace("-", " ")} ({config["kind"]})

{num_parameters} parameters that stand after the frozen encoder of a fedspeech base. Without that
base they say nothing.

- Base: SHA-256 `{config["base_sha256"]}`
- {labels.in_words()}
- Federated rounds: {config["rounds"]}

## What loads it

`fedspeech.models.adapters.files.load_adapter(folder, base_sha256)`, which refuses another base.
The files are named as PEFT names its own, but PEFT cannot load them: the base is no transformer.

{sections.strip()}
""".rstrip()
        + "\n"
    )
