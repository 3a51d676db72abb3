"""What the files that learn must do, call by call, written once more with torch's own gradients.

A twin takes the calls of a file (`run`, with the same names, inputs and outputs) and holds the same
state. `verification` sends both the same long run of random calls and compares everything that
either gives; a file that ignores an input, or forgets or keeps something that it should not, parts
from its twin. Values are computed in float64 where torch allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.models.adapters import Adapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining, make_optimizer
from fedspeech.training.objectives import objective_of
from tflite_export.arrays import (
    ADAPTER_LIMIT,
    EMBEDDING_LIMIT,
    SETTING_LIMIT,
    SMALLEST_CLIP_NORM,
    VALUE_LIMIT,
    Parameters,
    checksum,
    hash_words,
)
from tflite_export.checks import Check, at_most
from tflite_export.weights import Trained

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
        """Starts where the file starts."""
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
        self, adapter: NDArray[np.float32], base: NDArray[np.int32], checksum: NDArray[np.int32]
    ) -> Outputs:
        """Takes over an adapter and forgets the rest, or does nothing."""
        taken = self.acceptable(adapter, base, checksum)
        if taken:
            self.take(adapter)
        return {"restored": _word(taken)}

    def take(self, adapter: NDArray[np.float32]) -> None:
        """Starts anew from an adapter."""
        self.values, self.start = adapter.copy(), adapter.copy()
        self.velocity = np.zeros_like(adapter)

    def acceptable(
        self, adapter: NDArray[np.float32], base: NDArray[np.int32], claimed: NDArray[np.int32]
    ) -> bool:
        """Whether an adapter is whole, of this base and within the limits."""
        return (
            _within(adapter, -ADAPTER_LIMIT, ADAPTER_LIMIT)
            and np.array_equal(base, self._base)
            and np.array_equal(claimed, checksum(adapter))
        )

    def step(
        self, gradient: NDArray[np.float64], learning_rate: Any, momentum: Any, proximal_mu: Any
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

    def train(
        self,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int32],
        present: NDArray[np.float32],
        **settings: NDArray[np.float32],
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
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int32],
        present: NDArray[np.float32],
        clip_norm: NDArray[np.float32],
        noise: NDArray[np.float32],
        expected_clips: NDArray[np.float32],
        **settings: NDArray[np.float32],
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
        self,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int32],
        present: NDArray[np.float32],
    ) -> NDArray[np.bool_]:
        """Which clips count, shape (n,)."""
        # NaN compares as false and counts nowhere.
        usable = (np.abs(embeddings) <= EMBEDDING_LIMIT).reshape(len(labels), -1).all(axis=1)
        labels_of_model = dict(self.spec.shapes)["head_bias"][0]
        counted: NDArray[np.bool_] = (
            usable & (present > 0) & (labels >= 0) & (labels < labels_of_model)
        )
        return counted

    def differentiate(
        self, embeddings: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Each clip's loss (n,) and gradient (n, d), by torch, one clip at a time."""
        losses, gradients = clip_losses_and_gradients(
            self.adapter, self.named, embeddings, labels.astype(np.int64)
        )
        return losses, gradients

    def settings_hold(
        self, present: NDArray[np.float32], settings: Mapping[str, NDArray[np.float32]]
    ) -> bool:
        """Whether a step may be taken with these settings."""
        return _within(present, 0, 1) and optimizer_holds(**settings)

    def found(
        self, losses: NDArray[np.float64], counted: NDArray[np.bool_], stepped: bool
    ) -> Outputs:
        """Outputs of a training step."""
        mean = losses.sum() / max(1, counted.sum())
        return {
            "loss": np.array([mean], np.float32),
            "counted": np.array([counted.sum()], np.int32),
            "stepped": _word(stepped),
        }


def clip_losses_and_gradients(
    adapter: Adapter,
    parameters: Parameters,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each clip's own loss (n,) and gradient (n, d) by torch: every clip has its own adapter."""
    clips = len(labels)
    local = {
        name: torch.tensor(np.repeat(value[np.newaxis], clips, axis=0)).requires_grad_()
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


class FollowingSgd:
    """Torch's own SGD, which after every step goes on from where another training stands."""

    def __init__(self, trained: Trained, training: LocalTraining) -> None:
        """Starts at the model's adapter, with no momentum."""
        self._adapter, self._objective = trained.adapter, objective_of(trained.adapter)
        self._local = {
            name: torch.tensor(value[np.newaxis]).requires_grad_()
            for name, value in trained.parameters.items()
        }
        self._optimizer = make_optimizer(list(self._local.values()), training)

    def step(self, clips: LocalDataset) -> NDArray[np.float32]:
        """Takes one step; returns the adapter after it, flat."""
        embeddings = torch.from_numpy(clips.embeddings[np.newaxis])
        logits = self._adapter.logits(self._local, embeddings)[0]
        loss = self._objective.loss(logits, embeddings[0], torch.from_numpy(clips.labels))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        named = {name: value[0].detach().numpy() for name, value in self._local.items()}
        return self._adapter.spec.flatten(named)

    def follow(self, values: NDArray[np.float32]) -> None:
        """Goes on from another adapter (d,), with its own momentum."""
        with torch.no_grad():
            for name, value in self._adapter.spec.unflatten(values).items():
                self._local[name][0].copy_(torch.from_numpy(value))


def clipped(gradients: NDArray[np.float64], clip_norm: float) -> NDArray[np.float64]:
    """Rows whose norm is at most `clip_norm`."""
    norms = np.linalg.norm(gradients, axis=1)
    shrunk: NDArray[np.float64] = (
        gradients * np.minimum(1, clip_norm / np.maximum(norms, 1e-15))[:, np.newaxis]
    )
    return shrunk


def optimizer_holds(
    learning_rate: NDArray[np.float32],
    momentum: NDArray[np.float32],
    proximal_mu: NDArray[np.float32] | float = 0.0,
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
    """Sends both the same calls; compares every answer, and what each has learned after it.

    A difference is counted relative to the largest value expected, if that is above 1; an integer
    that differs counts as infinite.

    Raises:
      ExportRefused: if they part; names the call.
    """
    worst, where, number = 0.0, "no call", 0
    for number, (signature, inputs) in enumerate(calls, start=1):
        expected = {**twin.run(signature, **inputs)}
        found = {**file.run(signature, **inputs)}
        for runs, answers in ((twin, expected), (file, found)):
            # What a step left behind is compared at once, or a later restore would hide it.
            saved = runs.run("save", call=np.zeros(1, np.float32))
            answers["adapter"] = saved["adapter"]
            answers["checksum fits"] = saved["checksum"] == checksum(saved["adapter"])
            # Checksums of adapters that differ in a last bit differ altogether; that each fits is
            # what counts.
            answers.pop("checksum", None)
        if found.keys() != expected.keys():
            apart, output = np.inf, f"outputs {sorted(found)}"
        else:
            apart, output = max((_apart(found[key], expected[key]), key) for key in expected)
        # Written so that NaN is the worst of all.
        if not apart <= worst:
            worst, where = apart, f"call {number}, {signature}: {output}"
        # From here on the two go their own ways; later figures would say nothing.
        if not apart <= TWIN_LIMIT:
            break
    return at_most(
        f"{name}, largest difference from torch", worst, TWIN_LIMIT,
        f"{number} random calls that nothing resets; largest at {where}",
    )  # fmt: skip


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """How far two outputs are apart."""
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


def _word(flag: bool) -> NDArray[np.int32]:
    return np.array([flag], dtype=np.int32)
