"""What every adapter promises, tried: for whoever writes one, and for our own tests.

    check_adapter(MyAdapter(13, 64, 12), Base.load(default_base_path()))

Silence means that it may train. What is wrong is refused with the rule, the figure and the way out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from fedspeech.models.adapters.adapter import Adapter, Batch, differentiated
from fedspeech.models.base import Base
from fedspeech.seeds import stream
from fedspeech.vectors import ParameterSpec

CLIPS, PHONES = 6, 3
ROUNDING = 1e-4
"""Largest difference that rounding explains, as a share of the largest value."""

Parameters = Mapping[str, Tensor]


def check_adapter(adapter: Adapter, base: Base, *, seed: int = 0) -> None:
    """Refuses an adapter that breaks what local training, evaluation and export rely on.

        >>> import fedspeech as fs
        >>> from fedspeech.models.adapters import AffineAdapter
        >>> from fedspeech.models.base import default_base_path
        >>> fs.check_adapter(AffineAdapter(13, 64, 12), fs.Base.load(default_base_path()))

    Noise stands for clips. Checked are: names and shapes of the parameters; that `initial` computes
    the base's own head; that neither a clip nor a phone changes another's embedding, logits or
    gradient, not even by values that are no numbers; that all of them are finite and the same when
    asked again; and that `gradients` are those of `logits`.

    Args:
      adapter: what is checked.
      base: a base that it stands on.
      seed: of the noise, and of the parameters that stand for trained ones.

    Raises:
      ValueError: naming the adapter, the rule that it breaks and the figure.
    """
    rng = stream(seed, "check adapter")
    with torch.no_grad():
        _check_description(adapter)
        initial = _checked_initial(adapter, base)
        heard = 0.1 * rng.standard_normal((CLIPS, base.heard_samples)).astype(np.float32)
        embeddings = _checked_embeddings(adapter, base, adapter.encoder(base)(heard))
        found = adapter.logits(_one(initial), embeddings[None])[0]
        expected = base.logits(base.encoder_output(heard))
        _require_same(adapter, "initial must compute the base's own head", found, expected)
        parameters = {
            name: torch.from_numpy(
                np.stack([value + 0.1 * _normal(rng, value.shape) for _ in range(PHONES)])
            )
            for name, value in initial.items()
        }
        batch = _batch(embeddings, len(base.vocabulary.labels), rng)
        _check_logits(adapter, parameters, batch.embeddings, tuple(expected.shape))
        _check_gradients(adapter, parameters, batch)


def _check_description(adapter: Adapter) -> None:
    """Checks name, output unit and spec."""
    _require(adapter, bool(adapter.name) and adapter.name.isprintable(), "name must be a word")
    unit = adapter.output_unit
    _require(adapter, unit in ("clip", "frame"), f"output_unit is clip or frame, got {unit!r}")
    spec = adapter.spec
    _require(adapter, isinstance(spec, ParameterSpec) and spec.size > 0, "spec names no parameter")
    few = adapter.block_phones
    _require(adapter, few > 0 and few % 16 == 0, f"block_phones is a multiple of 16, got {few}")


def _checked_initial(adapter: Adapter, base: Base) -> dict[str, np.ndarray]:
    """The initial parameters, which follow the spec, are finite and do not alias the base."""
    weight, bias = base.head_weight.copy(), base.head_bias.copy()
    initial = adapter.initial(weight, bias)
    try:
        vector = adapter.spec.flatten(initial)
    except ValueError as error:
        raise ValueError(f"adapter {adapter.name}: initial must follow spec: {error}") from error
    _require(adapter, np.isfinite(vector).all(), "initial must be finite")
    wide = [name for name, value in initial.items() if value.dtype != np.float32]
    _require(adapter, not wide, f"initial must be float32, {wide} are not")
    weight += 1  # whoever trains the adapter in place must not change the frozen base
    again = adapter.spec.flatten(adapter.initial(base.head_weight, base.head_bias))
    kept = adapter.spec.flatten(initial)
    _require(adapter, np.array_equal(kept, vector), "initial must copy the base's head")
    _require(adapter, np.array_equal(again, vector), "initial must be the same every time")
    return initial


def _checked_embeddings(adapter: Adapter, base: Base, frames: Tensor) -> Tensor:
    """Embeddings (n, *embedding_shape), which are finite and of each clip alone."""
    before = frames.clone()
    embeddings = adapter.embed_frames(base, frames).clone()
    expected = (len(frames), *adapter.embedding_shape)
    shape = tuple(embeddings.shape)
    _require(adapter, shape == expected, f"embed gives shape {expected}, got {shape}")
    _require_same(adapter, "embed must not change what it is given", frames, before)
    _require(adapter, bool(embeddings.isfinite().all()), "embed must give finite values")
    alone = torch.cat([adapter.embed_frames(base, clip[None]) for clip in frames])
    _require_same(adapter, "embed must treat each clip alone", embeddings, alone)
    return embeddings


def _check_logits(
    adapter: Adapter, parameters: Parameters, embeddings: Tensor, expected: tuple[int, ...]
) -> None:
    """Checks shape, finiteness and independence of the logits of some phones."""
    logits = adapter.logits(parameters, embeddings)
    shape, expected = tuple(logits.shape), (PHONES, *expected)
    _require(adapter, shape == expected, f"logits have shape {expected}, got {shape}")
    _require(adapter, bool(logits.isfinite().all()), "logits must be finite")
    again = adapter.logits(parameters, embeddings)
    _require(adapter, torch.equal(logits, again), "logits must be the same every time")
    alone = torch.stack(
        [
            torch.cat([adapter.logits(_phone(parameters, p), clip[None, None])[0] for clip in own])
            for p, own in enumerate(embeddings)
        ]
    )
    _require_same(adapter, "logits must be those of each phone and clip alone", logits, alone)


def _check_gradients(adapter: Adapter, parameters: Parameters, batch: Batch) -> None:
    """Holds `gradients` against torch, and each phone's against what it has alone."""
    before = {name: value.clone() for name, value in parameters.items()}
    found = adapter.gradients(parameters, batch, _pull)
    for name, shape in adapter.spec.shapes:
        got, wanted = tuple(found[name].shape), (PHONES, *shape)
        _require(adapter, got == wanted, f"the gradient of {name} has shape {wanted}, got {got}")
        rule = "gradients must not change parameters"
        _require(adapter, torch.equal(parameters[name], before[name]), rule)
    expected = differentiated(adapter, parameters, batch, _pull)
    for name, gradient in found.items():
        rule = f"the gradient of {name} must be that of the logits"
        _require_same(adapter, rule, gradient, expected[name])
    spoiled = batch.embeddings.clone()
    spoiled[0] = torch.nan
    for name, gradient in adapter.gradients(
        parameters, Batch(spoiled, batch.labels, batch.weights), _pull
    ).items():
        rule = f"the gradient of {name} must not depend on another phone's clips"
        _require_same(adapter, rule, gradient[1:], expected[name][1:])
    padded = batch.embeddings.clone()
    padded[batch.weights == 0] = 7.0
    for name, gradient in adapter.gradients(
        parameters, Batch(padded, batch.labels, batch.weights), _pull
    ).items():
        rule = f"the gradient of {name} must not depend on clips of weight 0"
        _require_same(adapter, rule, gradient, expected[name])


def _pull(logits: Tensor, batch: Batch) -> Tensor:
    """A logit gradient that depends on the logits and on the weights of clips, as any does."""
    windows = logits.shape[2] // batch.weights.shape[1]
    return torch.tanh(logits) * batch.weights.repeat_interleave(windows, dim=1).unsqueeze(1)


def _batch(embeddings: Tensor, num_labels: int, rng: np.random.Generator) -> Batch:
    """Phones with the same clips in other orders, of which each but the first has one clip less."""
    orders = np.stack([rng.permutation(CLIPS) for _ in range(PHONES)])
    counts = CLIPS - np.arange(PHONES)[:, None]
    weights = (np.arange(CLIPS) < counts) / counts
    return Batch(
        embeddings[torch.from_numpy(orders)].contiguous(),
        torch.from_numpy(rng.integers(0, num_labels, (PHONES, CLIPS))),
        torch.from_numpy(weights.astype(np.float32)),
    )


def _one(parameters: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Parameters of one phone, with a leading axis."""
    return {name: torch.from_numpy(value[None]) for name, value in parameters.items()}


def _phone(parameters: Parameters, phone: int) -> dict[str, Tensor]:
    """Parameters of one of many phones, with a leading axis."""
    return {name: value[phone : phone + 1] for name, value in parameters.items()}


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _require(adapter: Adapter, holds: bool | np.bool_, rule: str) -> None:
    if not holds:
        raise ValueError(f"adapter {adapter.name}: {rule}")


def _require_same(adapter: Adapter, rule: str, found: Tensor, expected: Tensor) -> None:
    """Refuses a difference that rounding does not explain; what is no number differs."""
    scale = max(1e-3, float(expected.abs().max()))
    difference = float((found - expected).abs().max()) / scale
    if not difference <= ROUNDING:
        raise ValueError(
            f"adapter {adapter.name}: {rule}; the largest difference is {difference:.2g} of the "
            f"largest value, allowed is {ROUNDING:g}"
        )
