"""What adapters answer: logits of the same clips under one or many sets of parameters."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet
from fedspeech.models.adapters.adapter import Adapter, present_windows
from fedspeech.models.decoding import greedy
from fedspeech.vectors import FloatVector

FloatArray = NDArray[np.float32]


def score_clips(adapter: Adapter, vectors: FloatArray, embeddings: FloatArray) -> FloatArray:
    """Scores every clip with every parameter vector: (p, d) and (n, *embedding_shape) to (p, n, c).

        logits = score_clips(adapter, np.stack([base, federated, personalized]), embeddings)

    Raises:
      ValueError: if a shape differs.
    """
    spec = adapter.spec
    if vectors.ndim != 2 or vectors.shape[1] != spec.size:
        raise ValueError(f"expected vectors of shape (p, {spec.size}), got {vectors.shape}")
    if embeddings.shape[1:] != adapter.embedding_shape:
        raise ValueError(
            f"expected embeddings of shape (n, {adapter.embedding_shape}), got {embeddings.shape}"
        )
    flat, clips = torch.tensor(vectors), torch.tensor(embeddings)
    parameters = {name: flat[:, place].reshape(-1, *shape) for name, shape, place in spec.slices()}
    with torch.inference_mode():
        logits = adapter.logits(parameters, clips.expand(len(vectors), *clips.shape))
        return logits.numpy()


def transcribe(
    adapter: Adapter, vector: FloatVector, embeddings: FloatArray, alphabet: Alphabet
) -> list[str]:
    """Writes sentences by one parameter vector, greedily, embeddings (n, *embedding_shape)."""
    logits = score_clips(adapter, vector[np.newaxis], embeddings)[0]
    frames = present_windows(torch.from_numpy(np.array(embeddings))).numpy()
    return greedy(logits, frames, alphabet)
