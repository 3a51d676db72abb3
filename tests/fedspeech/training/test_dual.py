"""A head trained in coefficients of its clips takes the steps of the loop on its weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.models.adapters import make_adapter
from fedspeech.seeds import stream
from fedspeech.training import dual
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

FEATURES, LABELS = 48, 5
HEAD = make_adapter("head", 1, FEATURES, LABELS)


def training(**changes):
    settings = {"batch_size": 8, "max_examples": 8, "local_epochs": 6}
    return LocalTraining(**{**settings, **changes})


def phone_clips(count, seed):
    rng = np.random.default_rng([seed, count])
    embeddings = rng.standard_normal((count, FEATURES)).astype(np.float32)
    return LocalDataset(embeddings, rng.integers(0, LABELS, count))


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return HEAD.initial(
        rng.standard_normal((LABELS, FEATURES)).astype(np.float32),
        rng.standard_normal(LABELS).astype(np.float32),
    )


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.sampled_from([0.01, 0.1]), st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.3]),
    st.sampled_from([None, 4]), st.lists(st.integers(0, 12), min_size=1, max_size=6),
)  # fmt: skip
def test_coefficients_step_as_weights_do(rate, momentum, proximal_mu, max_steps, counts):
    """Counts up to 12 where 8 are trained on: some phones draw, some are padded, some are empty."""
    chosen = training(
        learning_rate=rate, momentum=momentum, proximal_mu=proximal_mu, max_steps=max_steps
    )
    assert dual.pays(HEAD, chosen)
    datasets = [phone_clips(count, phone) for phone, count in enumerate(counts)]

    def rngs():
        return [stream(7, "batches", 0, phone) for phone in range(len(counts))]

    together = train_cohort(HEAD, parameters(), datasets, chosen, rngs())
    for dataset, delta, rng in zip(datasets, together, rngs(), strict=True):
        alone = train_adapter(HEAD, parameters(), dataset, chosen, rng)
        np.testing.assert_allclose(delta.vector, alone.vector, atol=1e-5)
        assert delta.vector.any() == (len(dataset) > 0)


def test_the_bits_of_a_phone_do_not_depend_on_its_company():
    chosen = training(proximal_mu=0.1)
    datasets = [phone_clips(count % 11, count) for count in range(80)]

    def train(phones):
        rngs = [stream(7, "batches", 0, phone) for phone in phones]
        members = [datasets[phone] for phone in phones]
        deltas = train_cohort(HEAD, parameters(), members, chosen, rngs)
        return {phone: delta.vector.tobytes() for phone, delta in zip(phones, deltas, strict=True)}

    everybody = train(range(80))
    order = np.random.default_rng(4).permutation(80).tolist()
    assert train(order) == everybody
    assert train(range(20)) | train([20]) | train(range(21, 80)) == everybody


def test_a_phone_that_is_not_finite_does_not_touch_the_others():
    datasets = [phone_clips(8, phone) for phone in range(3)]
    rngs = [stream(7, "batches", 0, phone) for phone in range(3)]
    clean = train_cohort(HEAD, parameters(), datasets, training(), rngs)
    datasets[1] = LocalDataset(np.full_like(datasets[1].embeddings, np.nan), datasets[1].labels)
    dirty = train_cohort(HEAD, parameters(), datasets, training(), rngs)
    assert np.isnan(dirty[1].vector).any()
    for phone in (0, 2):
        assert clean[phone].vector.tobytes() == dirty[phone].vector.tobytes()


@pytest.mark.parametrize(
    ("adapter", "changes"),
    [
        (HEAD, {"optimizer": "adam"}),
        (HEAD, {"batch_size": 4}),
        (HEAD, {"local_epochs": 1}),
        (HEAD, {"local_epochs": 6, "max_steps": 1}),
        (HEAD, {"batch_size": 64, "max_examples": 64}),
        (make_adapter("affine", 3, FEATURES, LABELS), {}),
    ],
)
def test_weights_are_trained_themselves_where_coefficients_cannot_or_cost_more(adapter, changes):
    assert dual.pays(HEAD, training())
    assert not dual.pays(adapter, training(**changes))
