"""The task on pfl 0.6.0, in its own environment: its fastest settings for one machine without GPU.

    python with_pfl.py FOLDER PHONES ROUNDS local|private

No evaluation but in the iteration that warms up, one process, one thread, users' data in memory as
tensors.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path

import task
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism


class Head(torch.nn.Module):
    """The trained head."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(task.FEATURES, task.LABELS)

    def loss(self, clips, labels, eval=False):  # noqa: A002
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(self.linear(clips), labels)

    def metrics(self, clips, labels, eval=True):  # noqa: A002
        """Never asked for here."""
        return {"loss": Weighted.from_unweighted(self.loss(clips, labels).item())}


class Clock(TrainingProcessCallback):
    """Notes when each central iteration ends."""

    def __init__(self) -> None:
        self.marks = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Notes wall and CPU seconds."""
        self.marks.append((time.perf_counter(), time.process_time()))
        return False, Metrics()


def main() -> None:
    """Trains and prints one line."""
    folder, phones, rounds, kind = Path(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4]
    torch.set_num_threads(1)
    clips, labels = task.read(folder)
    users = [
        Dataset(raw_data=[torch.from_numpy(c.copy()), torch.from_numpy(y.copy())])
        for c, y in zip(clips, labels, strict=True)
    ]
    sampler = get_user_sampler("minimize_reuse", list(range(len(users))))
    training = FederatedDataset(lambda user: users[user], sampler)
    postprocessors = []
    if kind == "private":
        mechanism = GaussianMechanism(task.CLIP_NORM, task.NOISE_MULTIPLIER)
        postprocessors.append(CentrallyAppliedPrivacyMechanism(mechanism))
    backend = SimulatedBackend(training, training, postprocessors)
    head = Head()
    model = PyTorchModel(
        model=head,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(head.parameters(), lr=1.0),
    )
    clock = Clock()
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=rounds + 1, evaluation_frequency=10**9,
            train_cohort_size=phones, val_cohort_size=0,
        ),
        backend,
        model,
        NNTrainHyperParams(
            local_num_epochs=task.STEPS, local_learning_rate=task.LEARNING_RATE,
            local_batch_size=None,
        ),
        NNEvalHyperParams(local_batch_size=None),
        callbacks=[clock],
    )  # fmt: skip
    first, last = clock.marks[0], clock.marks[-1]  # the first iteration warms up
    task.done(
        {
            "version": version("pfl"), "phones": phones * rounds, "rounds": rounds,
            "seconds": last[0] - first[0], "cpu_seconds": last[1] - first[1],
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
