"""Phones that train through the exported file, as they would in the field, instead of in torch.

    train = OnDeviceTraining(Path("model_personal.tflite").read_bytes(), base_sha256)
    run_round(state, job, arrays, train, ledger, round_number)

`OnDeviceTraining` is a training function of `fedspeech.round`: it gives the deltas of
`training.cohort.train_cohort` within 1e-5, with DP-SGD those of `training.dp_sgd.train_private`.
What follows (clipping to the user's norm, noise, masks) is the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import Adapter
from fedspeech.privacy.examples import ExampleCost, ExampleGuarantee, ExamplePrivacy, price
from fedspeech.rollout.adapter_file import ADAPTER_LIMIT, checksum, hash_words
from fedspeech.seeds import Keystream
from fedspeech.training.dataset import LocalDataset, refuse_weights
from fedspeech.training.dp_sgd import in_step, sampling_rate, step_noise
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import Delta, FloatVector
from tflite_export.interpreter import TfliteModel


def example_guarantee(cost: ExampleCost) -> ExampleGuarantee:
    """What training in the file promises one example: the price of the same steps in torch.

    The relation is zero-out (an example's gradient becomes zero): a phone with more examples than
    the file takes trains on the first ones, so that leaving one out would let another in.
    """
    found = price([cost])
    assert found is not None
    return dataclasses.replace(found, relation="zero-out")


class PersonalModel:
    """The personal file: one phone's model that infers, learns, saves and restores.

    Attributes:
      content: bytes of the file.
      batch_clips: clips of one step; a smaller batch is padded.
      size: adapter parameters.

    Raises:
      ExportRefused: if it is not a personal file.
    """

    def __init__(self, model: TfliteModel) -> None:
        if "train_dp" not in model.signatures:
            raise ExportRefused(
                "a personal file has the signature train_dp, this one has "
                f"{', '.join(sorted(model.signatures))}"
            )
        self._model = model
        self.content = model.content
        inputs = model.signatures["train_dp"].inputs
        # The file says itself what it takes, so no figure of the run has to travel beside it.
        self.batch_clips = inputs["labels"].shape[0]
        self.size = inputs["noise"].shape[0]
        self._embedding_shape = inputs["embeddings"].shape[1:]

    def infer(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores clips (n, samples) by the adapter it holds: (n, c)."""
        return self._model.run_each("infer", waveforms)

    def infer_with(
        self, waveforms: NDArray[np.float32], adapter: FloatVector
    ) -> NDArray[np.float32]:
        """Scores clips by an adapter (d,) that it does not keep."""
        rows = [
            self._model.run("infer_with", waveform=waveforms[row : row + 1], adapter=adapter)
            for row in range(len(waveforms))
        ]
        return np.concatenate([row["logits"] for row in rows])

    def embed(self, waveforms: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the phone caches of clips (n, samples): (n, *embedding_shape)."""
        return self._model.run_each("embed", waveforms)

    def hop(self, samples: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Takes the next hop (1, hop): `logits` (1, c), `embedding` (1, *embedding_shape)."""
        return self._model.run("hop", samples=samples)

    def embed_hop(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes the next hop (1, hop); returns its embedding (1, *embedding_shape)."""
        return self._model.run("embed_hop", samples=samples)["embedding"]

    def score_with(
        self, embedding: NDArray[np.float32], adapter: FloatVector
    ) -> NDArray[np.float32]:
        """Scores an embedding (1, *embedding_shape) by an adapter that it does not keep: (1, c)."""
        return self._model.run("score_with", embedding=embedding, adapter=adapter)["logits"]

    def reset(self) -> None:
        """Puts digital silence before the next hop; the adapter stays."""
        self._model.call("reset")

    def save(self) -> FloatVector:
        """The adapter it holds, shape (d,)."""
        adapter: FloatVector = self._model.call("save")["adapter"]
        return adapter

    def restore(self, adapter: FloatVector, base: NDArray[np.int32]) -> None:
        """Takes over an adapter (d,) of a base (`hash_words`); resets what training holds.

        Raises:
          ExportRefused: if it is of another size or base, or not finite; nothing changes then.
        """
        if adapter.shape != (self.size,):
            raise ExportRefused(
                f"restore: the file takes an adapter of {self.size} values, got {adapter.shape}"
            )
        inputs = {"adapter": adapter, "base": base, "checksum": checksum(adapter)}
        if not self._model.run("restore", **inputs)["restored"][0]:
            raise ExportRefused(
                "restore: the file refused the adapter: it belongs to another base, or a value is "
                f"not finite or above {ADAPTER_LIMIT:g} in size"
            )

    def train(self, clips: LocalDataset, training: LocalTraining) -> float:
        """Takes one step on at most `batch_clips` clips; returns the loss before it.

        Raises:
          ExportRefused: as `train_dp`.
        """
        return self._take_step("train", clips, training)

    def train_dp(
        self,
        clips: LocalDataset,
        training: LocalTraining,
        *,
        clip_norm: float,
        noise: FloatVector,
        expected_clips: float,
    ) -> float:
        """Takes one step of DP-SGD with this noise, shape (d,), in units of a summed gradient.

        Raises:
          ExportRefused: if the file took no step, or a clip did not count.
        """
        private = {"clip_norm": _one(clip_norm), "expected_clips": _one(expected_clips)}
        return self._take_step("train_dp", clips, training, **private, noise=noise)

    def _take_step(
        self, signature: str, clips: LocalDataset, training: LocalTraining, **private: FloatVector
    ) -> float:
        """Pads a batch and trains on it; returns the loss before the step."""
        if len(clips) > self.batch_clips:
            raise ValueError(
                f"the file takes batches of at most {self.batch_clips} clips, got {len(clips)}"
            )
        embeddings = np.zeros((self.batch_clips, *self._embedding_shape), dtype=np.float32)
        labels = np.zeros(self.batch_clips, dtype=np.int32)
        embeddings[: len(clips)], labels[: len(clips)] = clips.embeddings, clips.labels
        found = self._model.run(
            signature,
            embeddings=embeddings,
            labels=labels,
            present=(np.arange(self.batch_clips) < len(clips)).astype(np.float32),
            learning_rate=_one(training.learning_rate),
            momentum=_one(training.momentum),
            proximal_mu=_one(training.proximal_mu),
            **private,
        )
        if not found["stepped"][0]:
            raise ExportRefused(
                "train: the file takes no step with these settings: learning_rate, momentum, "
                "proximal_mu, clip_norm, noise or expected_clips is out of its range "
                "(docs/mobile.md)"
            )
        if found["counted"][0] != len(clips):
            raise ExportRefused(
                f"train: {found['counted'][0]} of {len(clips)} clips counted: a label must be one "
                "of the model's, an embedding finite and as `embed` gives it"
            )
        return float(found["loss"][0])


class OnDeviceTraining:
    """Local training of a round, phone after phone, in the exported file.

    Args:
      content: bytes of a personal file.
      base_sha256: of the base behind the embeddings.
      example_privacy: trains by DP-SGD, as `fedspeech.training.dp_sgd` does and at its price;
        None trains plainly.

    Raises:
      ExportRefused: if it is not a personal file.
    """

    def __init__(
        self, content: bytes, base_sha256: str, *, example_privacy: ExamplePrivacy | None = None
    ) -> None:
        self._model = PersonalModel(TfliteModel(content))
        self._base = hash_words(base_sha256)
        self._privacy = example_privacy

    def __call__(
        self,
        adapter: Adapter,
        parameters: Mapping[str, NDArray[np.float32]],
        datasets: Sequence[LocalDataset],
        training: LocalTraining,
        rngs: Sequence[np.random.Generator],
    ) -> list[Delta]:
        """Trains each phone from the global adapter; see `fedspeech.round.TrainingFunction`.

        For DP-SGD `rngs` are seeded from `NoiseEntropy` for one phone and attempt alone, as for
        `fedspeech.training.dp_sgd.train_private`.

        Raises:
          ExportRefused: if the file cannot train as the job says: Adam, a batch that is too large,
            an adapter of another base.
        """
        if training.optimizer != "sgd":
            raise ExportRefused(
                f"the exported file trains by sgd, the job says {training.optimizer}"
            )
        self._require_room(training)
        refuse_weights(datasets, "the exported file")
        start = adapter.spec.flatten(parameters)
        deltas = []
        for phone, dataset in enumerate(datasets):
            # Every phone begins with the global adapter and no momentum, whoever trained here
            # before.
            self._model.restore(start, self._base)
            if self._privacy is None:
                schedule = training.schedule(len(dataset), rngs, phone)
                for positions in schedule.batches:
                    # Schedules are padded with -1, so that many phones take their steps together in
                    # torch.
                    clips = dataset.take(schedule.examples[positions[positions >= 0]])
                    if len(clips):
                        self._model.train(clips, training)
            else:
                sizes = [math.prod(shape) for _, shape in adapter.spec.shapes]
                self._train_private(dataset, training, Keystream(rngs[phone].bytes(32)), sizes)
            deltas.append(Delta(self._model.save() - start))
        return deltas

    def _require_room(self, training: LocalTraining) -> None:
        """Refuses steps that may hold more examples than the file takes at once.

        In a step of DP-SGD every example of a phone may be in by its coin, and one that was left
        out for want of room would be left out because of the others.
        """
        most = training.max_examples
        if self._privacy is None:
            most = min(training.batch_size, training.max_examples)
        if most > self._model.batch_clips:
            raise ExportRefused(
                f"the exported file takes batches of at most {self._model.batch_clips} clips, the "
                f"job says {most}"
            )

    def _train_private(
        self, dataset: LocalDataset, training: LocalTraining, secret: Keystream, sizes: list[int]
    ) -> None:
        """Takes the public number of steps of `dp_sgd.train_private`, with its coins and noise.

        A phone with more examples than the file takes trains on the first ones. Which these are
        does not depend on what is in them, so what an example holds is hidden as well as in torch.
        """
        assert self._privacy is not None
        dataset = dataset.take(np.arange(min(len(dataset), self._model.batch_clips)))
        stddev = self._privacy.noise_multiplier * self._privacy.clip_norm
        for _ in range(training.num_steps):
            drawn = np.flatnonzero(in_step(secret, len(dataset), sampling_rate(training)))
            noise = stddev * np.concatenate(step_noise(secret, sizes))
            self._model.train_dp(
                dataset.take(drawn),
                training,
                clip_norm=self._privacy.clip_norm,
                noise=noise.astype(np.float32),
                # The public size of a batch, not of the one drawn: a divisor that hung on the coins
                # would tell them.
                expected_clips=min(training.batch_size, training.max_examples),
            )


def _one(value: float) -> NDArray[np.float32]:
    """A number in the shape in which signatures take it."""
    return np.array([value], dtype=np.float32)
