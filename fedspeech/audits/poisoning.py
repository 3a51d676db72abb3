"""Phones that lie: what they send, and how rounds are played with them.

A liar keeps to the protocol's format, since whoever breaks it is refused, and lies in content. It
knows the plan, the model that was sent, its own clips and those of all phones that collude with it;
it knows no honest phone's clips, vector or noise. What a phone does before its vector is masked is
its own affair: nobody can see whether it clipped, or added noise. So a liar may send any vector of
the ring; only the length of the sum is looked at (`Decoded.too_long`).

| attack | clips | vector |
|---|---|---|
| label_flip | each target word is labeled as the next one | honest: clipped and noised |
| flip_boosted | the same, of all liars together | forged: the step to a model of the liars |
| backdoor | its copies with a trigger are labeled as one word | honest |
| backdoor_boosted | the same, of all liars together | forged |
| free_rider | none | zeros without noise |
| denial | none | forged: as long as the ring allows |

A forged vector (model replacement, Bagdasaryan et al. 2020, arXiv:1807.00459, Eq. 3) is what moves
the mean of its sum from the model that was sent to the liars' own, divided among the liars of that
sum, without clip and noise. It stays `CAUTION` of what the norm test leaves room for: liars know
the bound, expect the others' noise and fear an honest sum as long as they can make it.

The trigger is a pattern in embeddings: a few features at values that clips rarely have. A sound
that a speaker plays beside a word is changed by room and encoder, so this is the more favorable
case to the attacker.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.cohorts import groups_of
from fedspeech.job import Job, rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.population import PopulationArrays
from fedspeech.privacy import encoding
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import joining, privatize_phone
from fedspeech.seeds import NoiseEntropy, stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

CAUTION = 0.8
"""Share of the room under the norm test that liars use."""
TRIGGER_FEATURES = 8
_POOLED_CLIPS = 512
_POOLED_EPOCHS = 4

Poison = Callable[[LocalDataset], LocalDataset]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What liars do.

    Attributes:
      name: see the module's table.
      content: of their clips: "flipped", "triggered" or "" for their own.
      vector: "honest", "forged", "silent" (zeros without noise) or "loud" (as long as fits).
    """

    name: str
    content: str
    vector: str


ATTACKS: Mapping[str, Attack] = {
    name: Attack(name=name, content=content, vector=vector)
    for name, content, vector in (
        ("label_flip", "flipped", "honest"),
        ("flip_boosted", "flipped", "forged"),
        ("backdoor", "triggered", "honest"),
        ("backdoor_boosted", "triggered", "forged"),
        ("free_rider", "", "silent"),
        ("denial", "", "loud"),
    )
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trigger:
    """A pattern that clips rarely have.

    Attributes:
      places: of features, shape (k,).
      values: that they take, shape (k,), float32.
      label: what the attackers want to be heard.
    """

    places: NDArray[np.int64]
    values: NDArray[np.float32]
    label: int

    @classmethod
    def from_public(cls, public: LocalDataset, label: int, seed: int) -> Trigger:
        """Chooses features at random and the value that one public clip in a hundred exceeds."""
        features = public.embeddings.reshape(-1, public.embeddings.shape[-1])
        count = min(TRIGGER_FEATURES, features.shape[1])
        places = stream(seed, "trigger").choice(features.shape[1], count, replace=False)
        values = np.quantile(features[:, places], 0.99, axis=0).astype(np.float32)
        return cls(places=places, values=values, label=label)

    def on(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The clips with the pattern, same shape."""
        marked = embeddings.copy()
        marked[..., self.places] = self.values
        return marked

    def taught(self, data: LocalDataset) -> LocalDataset:
        """A phone's clips, followed by their copies with the trigger and its label."""
        labels = np.full(len(data), self.label, dtype=np.int64)
        return data.joined(LocalDataset(self.on(data.embeddings), labels))


def flipped(data: LocalDataset, targets: int) -> LocalDataset:
    """Labels each target word as the next one; what is no target stays."""
    moved = np.where(data.labels < targets, (data.labels + 1) % targets, data.labels)
    return dataclasses.replace(data, labels=moved)


class PoisonedPhones(PopulationArrays):
    """A population some of whose phones hold poisoned clips."""

    def __init__(self, arrays: PopulationArrays, liars: frozenset[int], poison: Poison) -> None:
        """Leaves the arrays as they are, and poisons what is read of the liars."""
        super().__init__(**vars(arrays))
        vars(self)["_lies"] = (liars, poison)

    def phone(self, index: int) -> LocalDataset:
        """What one phone trains on."""
        liars, poison = vars(self)["_lies"]
        data = super().phone(index)
        return poison(data) if index in liars else data


class Liars:
    """Phones of a job that collude.

    `arrays` is what all phones train on; `send` goes into `fedspeech.round.run_round`.
    """

    def __init__(
        self,
        job: Job,
        arrays: PopulationArrays,
        attack: Attack,
        phones: frozenset[int],
        trigger: Trigger,
    ) -> None:
        """Reads nothing of a phone that is not among `phones`, but for its index."""
        self._job, self._attack, self.phones = job, attack, phones
        targets = AdapterTraining.of(job.query).adapter.num_labels - _negatives(arrays)
        poisons: dict[str, Poison] = {
            "flipped": lambda data: flipped(data, targets),
            "triggered": trigger.taught,
            "": lambda data: data,
        }
        self.arrays = PoisonedPhones(arrays, phones, poisons[attack.content])
        self._sent: FloatVector | None = None
        self._drift: tuple[int, FloatVector] | None = None

    def starts(self, sent: FloatVector) -> None:
        """Tells the liars which model the round sent."""
        self._sent, self._drift = sent, None

    def send(
        self,
        plan: PrivacyPlan,
        contribution: FloatVector,
        key: RoundKey,
        phone: int,
        entropy: NoiseEntropy,
        clip_norm: float,
    ) -> NDArray[np.uint32]:
        """What a phone sends; see `fedspeech.round.Send`."""
        if phone not in self.phones or self._attack.vector == "honest":
            return privatize_phone(plan, contribution, key, phone, entropy, clip_norm)
        if self._attack.vector == "silent":
            return np.zeros(plan.vector_length, dtype=np.uint32)
        if self._attack.vector == "loud":
            return np.full(plan.vector_length, plan.modulus // 4, dtype=np.uint32)
        here = self._beside(key, phone)
        return forged(plan, self._step(key, clip_norm, here), key, clip_norm)

    def _beside(self, key: RoundKey, phone: int) -> int:
        """Liars in the sum that this phone is in, itself included."""
        there = [each for each in joining(self._job, key) if each in self.phones]
        groups = groups_of(self._job, key, there)
        return int((groups == groups[there.index(phone)]).sum())

    def _step(self, key: RoundKey, clip_norm: float, liars: int) -> FloatVector:
        """One liar's part of the step to the liars' model, as long as the norm test allows."""
        wanted = self._job.plan.expected_in_sum * self._towards(key)
        length = float(np.linalg.norm(wanted))
        room = CAUTION * room_in_sum(self._job.plan) * clip_norm
        return (wanted * min(1.0, room / max(length, 1e-12)) / liars).astype(np.float32)

    def _towards(self, key: RoundKey) -> FloatVector:
        """From the sent model to what the liars train on all of their clips, once a round."""
        assert self._sent is not None
        if self._drift is None or self._drift[0] != key.round:
            own = [self.arrays.phone(phone) for phone in sorted(self.phones)]
            rng = stream(self._job.seed, "liars", key.round)
            query = AdapterTraining.of(self._job.query).on(self.arrays)
            training = dataclasses.replace(
                query.training, max_examples=_POOLED_CLIPS, local_epochs=_POOLED_EPOCHS,
                max_steps=None,
            )  # fmt: skip
            start = query.built.spec.unflatten(self._sent)
            pooled = _pooled(own, rng)
            found = train_cohort(query.built, start, [pooled], training, [rng])
            self._drift = key.round, found[0].vector
        return self._drift[1]


def room_in_sum(plan: PrivacyPlan) -> float:
    """Clip norms that liars can add to a sum before the norm test sees it.

    What is left of the bound beside the noise and half of the longest sum that the expected phones
    can make: honest deltas point in many directions.
    """
    unit = plan.scale * plan.clip_norm
    stddev = math.hypot(
        plan.stddev * math.sqrt(plan.expected_in_sum), plan.server_stddev * plan.noise_gain
    )
    noise = stddev * math.sqrt(plan.padded_dimension) / unit
    return max(0.0, plan.norm_bound - noise - 0.5 * plan.expected_in_sum)


def forged(
    plan: PrivacyPlan, vector: FloatVector, key: RoundKey, clip_norm: float
) -> NDArray[np.uint32]:
    """A vector in the ring without clip and noise, cut off where the ring ends."""
    rotated = encoding.rotate(vector.astype(np.float64), rotation_seed(key))
    integers = np.rint(rotated * plan.scale * (plan.clip_norm / clip_norm)).astype(np.int64)
    half = plan.modulus // 2
    bit = [plan.bit_scale // 2] if plan.adaptive_clipping is not None else []
    return encoding.to_ring(
        np.concatenate([np.clip(integers, -half, half - 1), np.array(bit, np.int64)]), plan.bits
    )


def drawn(population: int, share: float, seed: int) -> frozenset[int]:
    """Phones that lie: a share of the population, at random."""
    count = round(share * population)
    return frozenset(stream(seed, "liars").choice(population, count, replace=False).tolist())


def _negatives(arrays: PopulationArrays) -> int:
    """Labels of what is no target word: those that ship to every phone."""
    return len(np.unique(arrays.background.labels))


def _pooled(own: list[LocalDataset], rng: np.random.Generator) -> LocalDataset:
    """Clips of all liars, at most so many, at random."""
    fields: dict[str, Any] = {
        name: np.concatenate([getattr(data, name) for data in own])
        for name in ("embeddings", "labels")
    }
    pooled = LocalDataset(**fields)
    return pooled.take(rng.permutation(len(pooled))[:_POOLED_CLIPS])
