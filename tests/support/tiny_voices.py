"""Speakers of a few numbers, and what an attacker of their updates knows."""

import dataclasses

import numpy as np

from fedspeech.audits.attack import Knowledge, KnownSpeaker
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining

LABELS, FEATURES = 3, 8
ADAPTER = HeadAdapter(FEATURES, LABELS)
TRAINING = LocalTraining(batch_size=12, max_examples=12, local_epochs=4)
MODEL = np.zeros(ADAPTER.spec.size, dtype=np.float32)
CENTERS = 2 * np.eye(LABELS, FEATURES)

OPEN = PrivacyPlan(
    secure_aggregation="ideal", dropout_rate=0.0, dimension=ADAPTER.spec.size, clip_norm=1.0,
    noise_multiplier=0.0, mechanism="none", population=24, participation_probability=1.0, rounds=2,
    max_participations=2, min_cohort=4, min_reporting=3, colluders=1, delta=0.004,
    epsilon_budget=float("inf"), participation="fixed_size",
)  # fmt: skip
NOISY = dataclasses.replace(OPEN, mechanism="local", noise_multiplier=3.0)


class Voice:
    """A speaker: says each word in its own way; a value of its trait shifts one of them."""

    def __init__(self, rng, value=None):
        self.value = int(rng.integers(2)) if value is None else value
        self.offset = rng.normal(size=(LABELS, FEATURES))
        self.offset[0, -1] += 3.0 * self.value

    def clips(self, rng, count=12):
        labels = np.arange(count) % LABELS
        sounds = (CENTERS + self.offset)[labels] + 0.5 * rng.normal(size=(count, FEATURES))
        return LocalDataset(sounds.astype(np.float32), labels.astype(np.int64))


def contributions(clips, model, rngs):
    start = ADAPTER.spec.unflatten(np.asarray(model, dtype=np.float32))
    return [found.vector for found in train_cohort(ADAPTER, start, clips, TRAINING, rngs)]


def knowing(rng, candidates=(), public=40):
    """What an attacker has: public speakers with their trait, and other clips of candidates."""
    speakers = []
    for number in range(public):
        voice = Voice(rng, value=number % 2)
        speakers.append(KnownSpeaker(clips=voice.clips(rng, 24), traits={"sex": str(voice.value)}))
    return Knowledge(
        base=None, adapter=ADAPTER, training=TRAINING, background=None, optimizer=None,
        speakers=tuple(speakers),
        candidates=tuple(KnownSpeaker(clips=voice.clips(rng)) for voice in candidates),
        contributions=contributions, play=None,
    )  # fmt: skip
