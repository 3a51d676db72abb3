"""An adapter as files: weights, what they belong to, and a model card.

    save_adapter(folder, shape, parameters, base_sha256=base.sha256, vocabulary=..., rounds=40)
    adapter, parameters = load_adapter(folder, base)

The file names are those of PEFT, since an adapter is what they say. Low-rank factors also have its
layout, and PEFT loads them onto the module that `peft_layout.scorer` gives; other adapters are none
that PEFT knows, and the model card says so.
"""

from __future__ import annotations

import dataclasses
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
from fedspeech.errors import ScenarioError
from fedspeech.files import write_whole
from fedspeech.models.adapters import peft_layout
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
DESCRIPTION_FILE = "fedspeech_adapter.json"
"""What `CONFIG_FILE` holds of other adapters, where that file is PEFT's."""
CARD_FILE = "README.md"
FORMAT = 2

_Tensors = dict[str, NDArray[np.float32]]


def save_adapter(
    folder: Path,
    shape: AdapterShape,
    parameters: Mapping[str, NDArray[np.float32]],
    *,
    base_sha256: str,
    vocabulary: Labels,
    rounds: int,
    card: str = "",
) -> None:
    """Writes the files into `folder`, which is made if need be; weights come last.

    Args:
      folder: where to.
      shape: what the parameters belong to.
      parameters: named as in `shape.spec`.
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
        "adapter": dataclasses.asdict(shape),
        "base_sha256": base_sha256,
        **vocabulary.to_metadata(),
        "rounds": rounds,
    }
    # There and back, since this is what a reader will be given.
    _check(_shape(json.loads(json.dumps(config))), tensors)
    description = (json.dumps(config, indent=2) + "\n").encode()
    # Weights last: a folder that has them has the others, even if writing was cut off between.
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / CARD_FILE, _card(config, shape, card).encode())
    if shape.lora is None:
        (folder / DESCRIPTION_FILE).unlink(missing_ok=True)
        write_whole(folder / CONFIG_FILE, description)
        write_whole(folder / WEIGHTS_FILE, safetensors_numpy.save(tensors))
        return
    write_whole(folder / DESCRIPTION_FILE, description)
    peft = json.dumps(peft_layout.config(shape.lora), indent=2) + "\n"
    write_whole(folder / CONFIG_FILE, peft.encode())
    # PEFT asks for the format; a single key is always written alike.
    weights = safetensors_numpy.save(
        peft_layout.to_peft(shape.lora, tensors), metadata={"format": "pt"}
    )
    write_whole(folder / WEIGHTS_FILE, weights)


def load_adapter(folder: Path, base: Base) -> tuple[Adapter, _Tensors]:
    """Reads what `save_adapter` wrote.

    Args:
      folder: the adapter's.
      base: that it is about to be joined with.

    Returns:
      The adapter and its parameters, named as in `adapter.spec`.

    Raises:
      ValueError: if a file is missing or damaged, the adapter belongs to another base, a name or
        shape differs from its own description, or a value is not finite.
    """
    try:
        described = folder / DESCRIPTION_FILE
        config = json.loads(
            (described if described.exists() else folder / CONFIG_FILE).read_text(encoding="utf-8")
        )
        tensors = safetensors_numpy.load((folder / WEIGHTS_FILE).read_bytes())
        shape = _shape(config)
        if shape.lora is not None:
            tensors = peft_layout.from_peft(shape.lora, tensors)
        _check(shape, tensors)
    except (
        OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError, ScenarioError,
    ) as error:  # fmt: skip
        raise ValueError(f"{folder} holds no usable adapter: {error}") from error
    if config["base_sha256"] != base.sha256:
        raise ValueError(
            f"the adapter in {folder} belongs to base {config['base_sha256']}, got {base.sha256}"
        )
    return shape.build(shape.frozen(base)), tensors


def _shape(config: Mapping[str, Any]) -> AdapterShape:
    """The adapter that a description names, with one output for each of its labels."""
    if config["format"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {config['format']}")
    shape, labels = AdapterShape.from_settings(config["adapter"]), labels_from(config).labels
    if shape.num_labels != len(labels):
        raise ValueError(f"the adapter has {shape.num_labels} outputs for {len(labels)} labels")
    return shape


def _check(shape: AdapterShape, tensors: _Tensors) -> None:
    """Holds tensors against the adapter that they are of."""
    if any(value.dtype != np.float32 for value in tensors.values()):
        raise ValueError("parameters must be float32")
    if not np.isfinite(shape.spec.flatten(tensors)).all():
        raise ValueError("parameters must be finite, got NaN or infinity")


def _card(config: Mapping[str, Any], shape: AdapterShape, sections: str) -> str:
    """The model card: what it is, what loads it, and what the caller knows."""
    labels = labels_from(config)
    inner = shape.lora is not None
    place = "inside" if inner else "after"
    peft = (
        """PEFT loads it onto `fedspeech.models.adapters.peft_layout.scorer(base)`, the base as a
torch module from features to logits: `PeftModel.from_pretrained(scorer(base), folder)`. Where the
base was made of a module of your own, that module is given as well: `scorer(base, network)`."""
        if inner
        else """The files are named as PEFT names its own, but PEFT cannot load them: the base is no
transformer, and the adapter none that PEFT knows."""
    )
    return (
        f"""---
library_name: {"peft" if inner else "fedspeech"}
tags: [{labels.tag}, federated-learning, adapter]
---

# An adapter for {labels.tag.replace("-", " ")} ({shape.name})

{shape.spec.size} parameters that stand {place} the frozen encoder of a fedspeech base. Without that
base they say nothing.

- Base: SHA-256 `{config["base_sha256"]}`
- {labels.in_words()}
- Federated rounds: {config["rounds"]}

## What loads it

`fedspeech.models.adapters.files.load_adapter(folder, base)`, which refuses another base.
{peft}

{sections.strip()}
""".rstrip()
        + "\n"
    )
