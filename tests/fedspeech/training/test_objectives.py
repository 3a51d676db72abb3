"""What sentences are trained on, against torch's own autograd and against the one-phone loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.models.adapters import Adapter, make_adapter
from fedspeech.models.adapters.adapter import Batch, present_windows
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.objectives import Ctc, ctc
from fedspeech.training.settings import LocalTraining

WINDOWS, FEATURES, LABELS, CHARACTERS = 9, 6, 5, 7
NAMES = ("frame_affine", "frame_bottleneck")


def build(name, activation="relu"):
    rng = np.random.default_rng(0)
    adapter = make_adapter(name, WINDOWS, FEATURES, LABELS, activation)
    weight = rng.standard_normal((LABELS, FEATURES)).astype(np.float32)
    return adapter, adapter.initial(weight, np.zeros(LABELS, np.float32))


def phone_sentences(count, seed):
    """Sentences of 0 to 4 characters in 3 to 9 windows; what was not recorded is zeros."""
    rng = np.random.default_rng([seed, count])
    embeddings = rng.standard_normal((count, WINDOWS, FEATURES)).astype(np.float32)
    embeddings[np.arange(WINDOWS) >= rng.integers(3, WINDOWS + 1, (count, 1))] = 0
    labels = rng.integers(1, LABELS, (count, CHARACTERS))
    labels[np.arange(CHARACTERS) >= rng.integers(0, 5, (count, 1))] = -1
    return LocalDataset(embeddings, labels)


def rngs(phones):
    return [stream(7, "batches", 0, phone) for phone in phones]


def log_likelihood_by_hand(probabilities, characters):
    """Sums over every path of labels that reads as the characters: exponential, obvious."""
    paths = {(): 1.0}
    for window in probabilities:
        longer = {}
        for path, mass in paths.items():
            for label, share in enumerate(window):
                grown = (*path, label)
                longer[grown] = mass * share
        paths = longer
    total = 0.0
    for path, mass in paths.items():
        merged = [b for a, b in zip((None, *path), path, strict=False) if a != b]
        total += mass * ([label for label in merged if label] == list(characters))
    return np.log(total)


@pytest.mark.parametrize("characters", [(), (1,), (1, 1), (1, 2), (2, 1, 2)])
def test_the_loss_is_that_of_every_path_that_reads_as_the_sentence(characters):
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[*characters, *[-1] * (4 - len(characters))]])
    loss = ctc(logits, torch.tensor([4]), labels)
    expected = -log_likelihood_by_hand(torch.softmax(logits[0], dim=1).tolist(), characters)
    assert float(loss) == pytest.approx(expected / max(1, len(characters)), rel=1e-5)


def test_a_sentence_that_does_not_fit_its_windows_pulls_at_nothing():
    logits = torch.randn(2, 5, 3, requires_grad=True)
    labels = torch.tensor([[1, 1, 1], [1, -1, -1]])
    losses = ctc(logits, torch.tensor([4, 5]), labels)  # three equal characters need five windows
    torch.autograd.backward(losses.sum())
    assert losses[0] == 0
    assert not logits.grad[0].any()
    assert logits.grad[1].any()


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_hand_equal_autograd(name, activation):
    adapter, _ = build(name, activation)
    data = [phone_sentences(4, seed) for seed in range(3)]
    embeddings = torch.from_numpy(np.stack([clips.embeddings for clips in data]))
    labels = torch.from_numpy(np.stack([clips.labels for clips in data]))
    weights = torch.tensor([[0.5, 0.5, 0, 0], [0.25] * 4, [1.0, 0, 0, 0]])
    rng = np.random.default_rng(3)
    parameters = {
        key: torch.from_numpy(rng.standard_normal((3, *shape)).astype(np.float32))
        for key, shape in adapter.spec.shapes
    }
    leaves = {key: value.clone().requires_grad_() for key, value in parameters.items()}
    logits = adapter.logits(leaves, embeddings)
    assert logits.shape == (3, 4, WINDOWS, LABELS)
    losses = ctc(
        logits.flatten(0, 1),
        present_windows(embeddings).flatten(),
        labels.flatten(0, 1),
    )
    torch.autograd.backward((losses * weights.flatten()).sum())
    with torch.no_grad():
        found = adapter.gradients(
            parameters, Batch(embeddings, labels, weights), Ctc().logit_gradient
        )
    assert set(found) == set(leaves)
    for key, gradient in found.items():
        np.testing.assert_allclose(gradient, leaves[key].grad, atol=1e-5, err_msg=key)


trainings = st.builds(
    LocalTraining,
    optimizer=st.sampled_from(["sgd", "adam"]),
    learning_rate=st.sampled_from([0.01, 0.03]),
    batch_size=st.integers(1, 6),
    local_epochs=st.integers(1, 3),
    max_examples=st.integers(1, 6),
    proximal_mu=st.sampled_from([0.0, 0.3]),
)


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(NAMES), trainings, st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_a_cohort_of_sentences_equals_the_one_phone_loop(name, training, counts):
    adapter, parameters = build(name)
    datasets = [phone_sentences(count, phone) for phone, count in enumerate(counts)]
    phones = range(len(counts))
    together = train_cohort(adapter, parameters, datasets, training, rngs(phones))
    for dataset, delta, rng in zip(datasets, together, rngs(phones), strict=True):
        alone = train_adapter(adapter, parameters, dataset, training, rng)
        np.testing.assert_allclose(delta.vector, alone.vector, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_bits_of_a_phone_do_not_depend_on_its_company(name):
    adapter, parameters = build(name)
    training = LocalTraining(batch_size=4, max_examples=5, local_epochs=2)
    counts = np.random.default_rng(3).integers(0, 8, Adapter.block_phones + 9)
    datasets = [phone_sentences(count, phone) for phone, count in enumerate(counts)]

    def train(members):
        chosen = [datasets[phone] for phone in members]
        deltas = train_cohort(adapter, parameters, chosen, training, rngs(map(int, members)))
        return dict(zip(members, deltas, strict=True))

    phones = np.arange(len(datasets))
    everybody = train(phones)
    shuffled = train(np.random.default_rng(4).permutation(phones))
    shards = train(phones[:20]) | train(phones[20:21]) | train(phones[21:])
    for phone in phones:
        bits = everybody[phone].vector.tobytes()
        assert bits == shuffled[phone].vector.tobytes() == shards[phone].vector.tobytes()


def test_a_phone_that_diverges_does_not_touch_the_others():
    adapter, parameters = build("frame_affine")
    datasets = [phone_sentences(3, phone) for phone in range(3)]
    training = LocalTraining(local_epochs=5, batch_size=4)
    clean = train_cohort(adapter, parameters, datasets, training, rngs(range(3)))
    broken = np.full_like(datasets[1].embeddings, np.nan)
    datasets[1] = LocalDataset(broken, datasets[1].labels)
    dirty = train_cohort(adapter, parameters, datasets, training, rngs(range(3)))
    assert np.isnan(dirty[1].vector).any()
    assert clean[2].vector.tobytes() == dirty[2].vector.tobytes()


@pytest.mark.parametrize("labels", [[[1, -1, 2]], [[0, -1, -1]], [[-2, -1, -1]]])
def test_rows_of_characters_end_once_and_hold_no_blank(labels):
    with pytest.raises(ValueError, match="-1 after the last"):
        LocalDataset(np.zeros((1, WINDOWS, FEATURES), np.float32), np.array(labels))
