"""A real job small enough for contract tests: random clips, a small head, real noise."""

import dataclasses

import numpy as np

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.job import Job
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining

PHONES, FEATURES, LABELS = 60, 12, 4


def clips(rng, count):
    """Clips whose label can be learned from their embedding."""
    labels = rng.integers(0, LABELS, count)
    centers = stream(0, "centers").normal(size=(LABELS, FEATURES))
    embeddings = centers[labels] + 0.5 * rng.normal(size=(count, FEATURES))
    return LocalDataset(embeddings.astype(np.float32), labels.astype(np.int64))


def make_arrays(seed=0, phones=PHONES):
    """Phones with 0 to 9 clips each."""
    rng = stream(seed, "tiny")
    sizes = rng.integers(0, 10, phones)
    own = clips(rng, int(sizes.sum()))
    return PopulationArrays(
        embeddings=own.embeddings,
        labels=own.labels,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        background=clips(rng, 2),
        validation=clips(rng, 40),
        initial=np.zeros((FEATURES + 1) * LABELS, np.float32),
    )


TRAINING = AdapterTraining(
    training=LocalTraining(batch_size=4, local_epochs=2, max_examples=16),
    adapter=AdapterShape(name="head", num_windows=1, num_features=FEATURES, num_labels=LABELS),
    optimizer=FedOpt(
        optimizer="fedavgm", learning_rate=0.5, momentum=0.5, beta_2=0.9, adaptivity=1e-3
    ),
)


def make_job(
    folder,
    *,
    phones=PHONES,
    num_shards=3,
    simulation_only="",
    noise_entropy="seeded",
    query=TRAINING,
    arrays=None,
    **plan,
):
    """Writes the arrays and returns path of job.json, job and arrays."""
    arrays = arrays or make_arrays(phones=phones)
    settings = {
        "dimension": query.dimension,
        "clip_norm": 0.2,
        "noise_multiplier": 1.0,
        "population": phones,
        "participation_probability": 0.5,
        "rounds": 3,
        "max_participations": 3,
        "min_cohort": 15,
        "min_reporting": 8,
        "dropout_rate": 0.0,
        "secure_aggregation": "ideal",
        "delta": 1 / (10 * phones),
        "epsilon_budget": 1000.0,
    }
    job = Job(
        seed=5,
        noise_entropy=noise_entropy,
        num_shards=num_shards,
        plan=PrivacyPlan(**{**settings, **plan}),
        query=query,
        base_sha256="0" * 64,
        arrays=str(folder / "arrays"),
        arrays_sha256=arrays.sha256(),
        simulation_only=simulation_only,
        identities=str(folder / "identities.key"),
    )
    IdentityDirectory.create(folder / "identities.key")
    if not (folder / "arrays").is_dir():
        arrays.save(folder / "arrays")
    path = folder / "job.json"
    job.save(path)
    return path, job, arrays


def with_plan(job, **changes):
    """The same job under a changed plan."""
    return dataclasses.replace(job, plan=dataclasses.replace(job.plan, **changes))
