import numpy as np
import pytest
import torch

from fedspeech.models.adapters import make_adapter
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

ADAPTER = make_adapter("head", 1, 4, 3)


def initial():
    rng = np.random.default_rng(0)
    return ADAPTER.initial(
        rng.standard_normal((3, 4)).astype(np.float32), np.zeros(3, dtype=np.float32)
    )


def clips(count):
    rng = np.random.default_rng(1)
    return LocalDataset(
        rng.standard_normal((count, 4)).astype(np.float32), rng.integers(0, 3, count)
    )


def test_one_step_of_sgd_is_minus_rate_times_the_softmax_gradient():
    # dL/dW = mean((softmax - one-hot) x^T): Bishop 2006, Pattern Recognition, Eq. 4.109.
    data, rate = clips(6), 0.3
    training = LocalTraining(learning_rate=rate, local_epochs=1, batch_size=8, max_examples=8)
    delta = train_adapter(ADAPTER, initial(), data, training, stream(1, "batches"))
    logits = data.embeddings.astype(np.float64) @ initial()["head_weight"].T
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (softmax - np.eye(3)[data.labels]) / 6
    expected = -rate * np.concatenate([(error.T @ data.embeddings).ravel(), error.sum(axis=0)])
    np.testing.assert_allclose(delta.vector, expected, atol=1e-6)


def test_training_lowers_the_loss_on_the_phones_own_clips():
    data = clips(12)
    training = LocalTraining(local_epochs=10, batch_size=4, max_examples=12)
    start = ADAPTER.spec.flatten(initial())
    delta = train_adapter(ADAPTER, initial(), data, training, stream(1, "batches"))

    def loss(vector):
        named = {n: torch.from_numpy(v[None]) for n, v in ADAPTER.spec.unflatten(vector).items()}
        logits = ADAPTER.logits(named, torch.from_numpy(data.embeddings[None]))[0]
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels)).item()

    assert loss(start + delta.vector) < loss(start) - 0.1


def test_a_phone_without_clips_changes_nothing():
    delta = train_adapter(
        ADAPTER,
        initial(),
        clips(0),
        LocalTraining(batch_size=64, local_epochs=5),
        stream(1, "batches"),
    )
    assert delta.vector.shape == (ADAPTER.spec.size,)
    assert not delta.vector.any()


def test_the_proximal_term_holds_the_phone_near_the_global_adapter():
    norms = [
        np.linalg.norm(
            train_adapter(
                ADAPTER,
                initial(),
                clips(12),
                LocalTraining(batch_size=64, local_epochs=40, momentum=0.0, proximal_mu=mu),
                stream(1, "batches"),
            ).vector
        )
        for mu in (0.0, 0.5, 5.0)
    ]
    assert norms[0] > 1.5 * norms[1] > 2 * norms[2] > 0


def test_the_stream_decides_the_order_of_the_batches():
    training = LocalTraining(local_epochs=5, batch_size=2, max_examples=12)
    runs = [
        train_adapter(ADAPTER, initial(), clips(12), training, stream(seed, "batches")).vector
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "rmsprop"}, "optimizer must be sgd or adam, got optimizer='rmsprop'"),
        (
            {"learning_rate": 0.0},
            "learning_rate must be positive and finite, got learning_rate=0.0",
        ),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got momentum=1.0"),
        (
            {"proximal_mu": -1.0},
            "proximal_mu must be finite and not negative, got proximal_mu=-1.0",
        ),
        ({"batch_size": 0}, "batch_size must be at least 1, got batch_size=0"),
        ({"max_steps": 0}, "max_steps must be at least 1 or None, got max_steps=0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        LocalTraining(**{"batch_size": 64, "local_epochs": 5, **changes})
