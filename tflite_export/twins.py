"""What the files that train must do, call by call, written once more with torch's own gradients.

A twin takes the calls of a file (`run`, with the same names, inputs and outputs) and holds the same
state. Both get the same long run of random calls, and everything that either gives is compared; a
file that ignores an input, or forgets or keeps something that it should not, parts from its twin.
Values are computed in float64 where torch allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.models.adapters import Adapter
from fedspeech.models.adapters.adapter import Batch
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.rollout.adapter_file import ADAPTER_LIMIT, checksum, hash_words
from tflite_export.arrays import (
    EMBEDDING_LIMIT,
    SETTING_LIMIT,
    SMALLEST_CLIP_NORM,
    VALUE_LIMIT,
    FloatArray,
    Parameters,
)
from tflite_export.checks import Check, at_most
from tflite_export.weights import Trained

DoubleArray = NDArray[np.float64]
Outputs = Mapping[str, NDArray[Any]]
Call = tuple[str, dict[str, NDArray[Any]]]
TWIN_LIMIT = 1e-4


class Runs(Protocol):
    """Whatever answers the calls of a file: the file, or its twin."""

    def run(self, signature: str, /, **inputs: NDArray[Any]) -> Outputs:
        """Answers one call."""


class AdapterTwin:
    """State and settings that words and sentences share: adapter, momentum, save and restore."""

    def __init__(self, trained: Trained) -> None:
        self.adapter, self.spec = trained.adapter, trained.adapter.spec
        self._base = hash_words(trained.base.sha256)
        self.values = self.spec.flatten(trained.parameters)
        self.start, self.velocity = self.values.copy(), np.zeros_like(self.values)

    def run(self, signature: str, /, **inputs: NDArray[Any]) -> Outputs:
        """Answers one call as the file must."""
        answer: Callable[..., Outputs] = getattr(self, signature)
        return answer(**inputs)

    @property
    def named(self) -> Parameters:
        """The adapter's values by name."""
        return self.spec.unflatten(self.values)

    def save(self, call: NDArray[Any]) -> Outputs:
        """Gives the adapter and its checksum."""
        return {"adapter": self.values, "checksum": checksum(self.values)}

    def restore(
        self, adapter: FloatArray, base: NDArray[np.int32], checksum: NDArray[np.int32]
    ) -> Outputs:
        """Takes over an adapter and forgets the rest, or does nothing."""
        taken = self.acceptable(adapter, base, checksum)
        if taken:
            self.take(adapter)
        return {"restored": _flag(taken)}

    def take(self, adapter: FloatArray) -> None:
        """Starts anew from an adapter."""
        self.values, self.start = adapter.copy(), adapter.copy()
        self.velocity = np.zeros_like(adapter)

    def acceptable(
        self, adapter: FloatArray, base: NDArray[np.int32], claimed: NDArray[np.int32]
    ) -> bool:
        """Whether an adapter is whole, of this base and within the limits."""
        return (
            _within(adapter, -ADAPTER_LIMIT, ADAPTER_LIMIT)
            and np.array_equal(base, self._base)
            and np.array_equal(claimed, checksum(adapter))
        )

    def step(
        self, gradient: DoubleArray, learning_rate: Any, momentum: Any, proximal_mu: Any
    ) -> None:
        """SGD with heavy-ball momentum and FedProx's pull, within the limits."""
        pulled = gradient + proximal_mu * (self.values - self.start)
        # The file holds both in float32, so the twin rounds at the same two places and nowhere
        # else.
        faster = np.clip(momentum * self.velocity + pulled, -VALUE_LIMIT, VALUE_LIMIT)
        moved = np.clip(self.values - learning_rate * faster, -ADAPTER_LIMIT, ADAPTER_LIMIT)
        self.velocity, self.values = faster.astype(np.float32), moved.astype(np.float32)


class PersonalTwin(AdapterTwin):
    """The personal file for words; see `personal.PersonalGraph`."""

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        self.base = trained.base
        self.heard = np.zeros(trained.base.heard_samples, np.float32)

    def hop(self, samples: FloatArray) -> Outputs:
        """Logits of the clip that ends with these samples, and its embedding."""
        found = self.embed_hop(samples)
        return {**found, **self.score_with(found["embedding"], self.values)}

    def embed_hop(self, samples: FloatArray) -> Outputs:
        """Embedding of the clip that ends with these samples."""
        self.heard = np.concatenate([self.heard, samples[0]])[-len(self.heard) :]
        # Hops end where a window of the front end ends; what a clip has after its last is not heard
        # by any, so zeros may stand there.
        spec = self.base.built_in.frontend
        unheard = (len(self.heard) - spec.window_samples) % spec.hop_samples
        clip = np.concatenate([self.heard[unheard:], np.zeros(unheard, np.float32)])
        frames = self.adapter.encoder(self.base)(clip[np.newaxis])
        return {"embedding": self.adapter.embed_frames(self.base, frames).numpy()}

    def score_with(self, embedding: FloatArray, adapter: FloatArray) -> Outputs:
        """Logits of an embedding by an adapter that is handed in."""
        return {"logits": score_clips(self.adapter, adapter[np.newaxis], embedding)[0]}

    def reset(self, call: NDArray[Any]) -> Outputs:
        """Forgets what was heard; the adapter stays."""
        del call
        self.heard = np.zeros_like(self.heard)
        return {"done": np.ones(1, np.float32)}

    def train(
        self,
        embeddings: FloatArray,
        labels: NDArray[np.int32],
        present: FloatArray,
        **settings: FloatArray,
    ) -> Outputs:
        """One step on the mean loss of the clips that count."""
        counted = self.counted(embeddings, labels, present)
        losses, gradients = self.differentiate(embeddings[counted], labels[counted])
        stepped = self.settings_hold(present, settings)
        if stepped:
            # A batch without a clip that counts steps all the same: momentum and pull go on.
            self.step(gradients.sum(axis=0) / max(1, counted.sum()), **settings)
        return self.found(losses, counted, stepped)

    def train_dp(
        self,
        embeddings: FloatArray,
        labels: NDArray[np.int32],
        present: FloatArray,
        clip_norm: FloatArray,
        noise: FloatArray,
        expected_clips: FloatArray,
        **settings: FloatArray,
    ) -> Outputs:
        """One step of DP-SGD: clips one by one, then noise, then a divisor that is no data."""
        counted = self.counted(embeddings, labels, present)
        losses, gradients = self.differentiate(embeddings[counted], labels[counted])
        stepped = self.settings_hold(present, settings) and privacy_holds(
            clip_norm, noise, expected_clips
        )
        if stepped:
            total = clipped(gradients, float(clip_norm[0])).sum(axis=0) + noise
            self.step(total / expected_clips, **settings)
        return self.found(losses, counted, stepped)

    def counted(
        self, embeddings: FloatArray, labels: NDArray[np.int32], present: FloatArray
    ) -> NDArray[np.bool_]:
        """Which clips count, shape (n,)."""
        # NaN compares as false and counts nowhere.
        usable = (np.abs(embeddings) <= EMBEDDING_LIMIT).reshape(len(labels), -1).all(axis=1)
        num_labels = dict(self.spec.shapes)["head_bias"][0]
        known = (labels >= 0) & (labels < num_labels)
        counted: NDArray[np.bool_] = usable & known & (present > 0)
        return counted

    def differentiate(
        self, embeddings: FloatArray, labels: NDArray[np.int32]
    ) -> tuple[DoubleArray, DoubleArray]:
        """Each clip's loss (n,) and gradient (n, d)."""
        wide = labels.astype(np.int64)
        return clip_losses_and_gradients(self.adapter, self.named, embeddings, wide)

    def settings_hold(self, present: FloatArray, settings: Mapping[str, FloatArray]) -> bool:
        """Whether a step may be taken with these settings."""
        return _within(present, 0, 1) and optimizer_holds(**settings)

    def found(self, losses: DoubleArray, counted: NDArray[np.bool_], stepped: bool) -> Outputs:
        """Outputs of a training step."""
        mean = losses.sum() / max(1, counted.sum())
        return {
            "loss": np.array([mean], np.float32),
            "counted": np.array([counted.sum()], np.int32),
            "stepped": _flag(stepped),
        }


class SentenceTwin(AdapterTwin):
    """The personal file for sentences; see `sentence_graphs.PersonalSentenceGraph`."""

    def __init__(self, trained: Trained) -> None:
        super().__init__(trained)
        self.clipped = np.zeros(self.spec.size)

    def take(self, adapter: FloatArray) -> None:
        """Starts anew; sentences clipped before are forgotten."""
        super().take(adapter)
        self.clipped = np.zeros(self.spec.size)

    def train(self, windows: FloatArray, error: FloatArray, **rates: FloatArray) -> Outputs:
        """One step of SGD."""
        taken = self.counts(windows, error) and optimizer_holds(**rates)
        return self.stepped(self.gradient(windows, error) if taken else None, rates)

    def clip(self, windows: FloatArray, error: FloatArray, clip_norm: FloatArray) -> Outputs:
        """Adds the clipped gradient of one sentence."""
        counted = self.counts(windows, error) and privacy_holds(clip_norm, 0, 1)
        factor = 0.0
        if counted:
            gradient = self.gradient(windows, error)
            factor = min(1.0, float(clip_norm[0]) / max(float(np.linalg.norm(gradient)), 1e-15))
            self.clipped = self.clipped + factor * gradient
        return {"factor": np.array([factor], np.float32), "counted": _flag(counted)}

    def train_dp(
        self, noise: FloatArray, expected_sentences: FloatArray, **rates: FloatArray
    ) -> Outputs:
        """One step of DP-SGD from what `clip` added up."""
        if not (optimizer_holds(**rates) and privacy_holds(1, noise, expected_sentences)):
            return self.stepped(None, rates)
        total, self.clipped = self.clipped, np.zeros(self.spec.size)
        return self.stepped((total + noise) / expected_sentences, rates)

    def counts(self, windows: FloatArray, error: FloatArray) -> bool:
        """Whether a sentence is within the limits."""
        return all(_within(x, -EMBEDDING_LIMIT, EMBEDDING_LIMIT) for x in (windows, error))

    def gradient(self, windows: FloatArray, error: FloatArray) -> DoubleArray:
        """The library's own gradient (d,) for a given derivative by the logits (w, c)."""
        adapter, by_logit = self.adapter, torch.from_numpy(error.T[None].copy())

        def given(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
            """An error that does not depend on the logits."""
            del logits, batch
            return by_logit

        # One phone with one sentence; labels are zeros because the objective asks for none.
        embedding = adapter.embed(torch.from_numpy(windows[None]))[None]
        batch = Batch(embedding, torch.zeros(1, 1, 1), torch.ones(1, 1))
        local = {name: torch.from_numpy(value)[None] for name, value in self.named.items()}
        with torch.inference_mode():
            gradients = adapter.gradients(local, batch, given)
        own = {name: gradient[0].numpy() for name, gradient in gradients.items()}
        return self.spec.flatten(own).astype(float)

    def stepped(self, gradient: DoubleArray | None, rates: Mapping[str, FloatArray]) -> Outputs:
        """Takes a step, unless there is no gradient for one; outputs of it."""
        norm = 0.0
        if gradient is not None:
            norm = float(np.linalg.norm(gradient))
            self.step(gradient, proximal_mu=0.0, **rates)
        return {"norm": np.array([norm], np.float32), "stepped": _flag(gradient is not None)}


def clip_losses_and_gradients(
    adapter: Adapter, parameters: Parameters, embeddings: FloatArray, labels: NDArray[np.int64]
) -> tuple[DoubleArray, DoubleArray]:
    """Each clip's own loss (n,) and gradient (n, d) by torch: every clip has its own adapter."""
    local = {
        name: torch.tensor(np.repeat(value[np.newaxis], len(labels), axis=0)).requires_grad_()
        for name, value in parameters.items()
    }
    # One phone per clip: the library's adapters train many phones at once, each with its own
    # values.
    logits = adapter.logits(local, torch.from_numpy(embeddings[:, np.newaxis]))[:, 0]
    losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none")
    own = torch.autograd.grad(losses.sum(), list(local.values()))
    named = {name: rows.flatten(1) for name, rows in zip(local, own, strict=True)}
    gradients = torch.cat([named[name] for name, _ in adapter.spec.shapes], dim=1)
    return losses.detach().numpy().astype(float), gradients.numpy().astype(float)


def clipped(gradients: DoubleArray, clip_norm: float) -> DoubleArray:
    """Rows whose norm is at most `clip_norm`."""
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    shrunk: DoubleArray = gradients * np.minimum(1, clip_norm / np.maximum(norms, 1e-15))
    return shrunk


def optimizer_holds(
    learning_rate: FloatArray, momentum: FloatArray, proximal_mu: FloatArray | float = 0.0
) -> bool:
    """Whether the settings of SGD are in their ranges."""
    return (
        _within(learning_rate, 0, SETTING_LIMIT)
        and _within(momentum, 0, 1)
        and _within(proximal_mu, 0, SETTING_LIMIT)
    )


def privacy_holds(clip_norm: Any, noise: Any, expected: Any) -> bool:
    """Whether the settings of DP-SGD are in their ranges."""
    return (
        _within(clip_norm, SMALLEST_CLIP_NORM, SETTING_LIMIT)
        and _within(noise, -VALUE_LIMIT, VALUE_LIMIT)
        and _within(expected, 1, SETTING_LIMIT)
    )


def together(name: str, file: Runs, twin: Runs, calls: Iterable[Call]) -> Check:
    """Sends both the same calls; compares every output, and the adapter that each has after it.

    Raises:
      ExportRefused: if they part; names the call.
    """
    worst, where, number = 0.0, "no call", 0
    for number, (signature, inputs) in enumerate(calls, start=1):
        expected = {**twin.run(signature, **inputs)}
        found = {**file.run(signature, **inputs)}
        for runs, outputs in ((twin, expected), (file, found)):
            # What a step left behind is compared at once, or a later restore would hide it.
            saved = runs.run("save", call=np.zeros(1, np.float32))
            outputs["adapter"] = saved["adapter"]
            outputs["checksum fits"] = saved["checksum"] == checksum(saved["adapter"])
            # Checksums of adapters that differ in a last bit differ altogether; that each fits is
            # what counts.
            outputs.pop("checksum", None)
        if found.keys() != expected.keys():
            difference, output = np.inf, f"outputs {sorted(found)}"
        else:
            difference, output = max((apart(found[key], expected[key]), key) for key in expected)
        # Written so that NaN is the worst of all.
        if not difference <= worst:
            worst, where = difference, f"call {number}, {signature}: {output}"
        # From here on the two go their own ways; later figures would say nothing.
        if not difference <= TWIN_LIMIT:
            break
    return at_most(
        f"{name}, largest difference from torch", worst, TWIN_LIMIT,
        f"{number} random calls that nothing resets; largest at {where}",
    )  # fmt: skip


def apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference, relative to the largest value expected if that is above 1.

    Infinite for another shape or type, for integers that differ and for NaN.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return np.inf
    if not np.issubdtype(expected.dtype, np.floating):
        return 0.0 if np.array_equal(found, expected) else np.inf
    difference = float(np.abs(found.astype(np.float64) - expected).max(initial=0))
    if np.isnan(difference):
        return np.inf
    return difference / max(1.0, float(np.abs(expected).max(initial=0)))


def _within(values: Any, low: float, high: float) -> bool:
    """Whether every value is in [low, high]; NaN is in no range."""
    values = np.asarray(values, dtype=np.float64)
    return bool(((values >= low) & (values <= high)).all())


def _flag(value: bool) -> NDArray[np.int32]:
    return np.array([value], dtype=np.int32)
