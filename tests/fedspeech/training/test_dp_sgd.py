"""Example-level DP-SGD: clipping, noise, sampling and price, and that breaking one is noticed."""

import dataclasses
import math

import dp_accounting
import dp_accounting.rdp
import numpy as np
import opacus.optimizers
import pytest
import torch
from scipy.stats import kstest

from fedspeech.models.adapters import make_adapter
from fedspeech.privacy.examples import ExamplePrivacy, price
from fedspeech.privacy.phrasing import example_paragraph
from fedspeech.seeds import Keystream, stream
from fedspeech.training import dp_sgd
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.dp_sgd import example_cost, sampling_rate, train_private
from fedspeech.training.objectives import cross_entropy
from fedspeech.training.settings import LocalTraining

WINDOWS, FEATURES, LABELS = 3, 7, 4
ONE_STEP = LocalTraining(
    learning_rate=1.0, momentum=0.0, batch_size=8, max_examples=8, local_epochs=1
)  # every clip is in the one step, which moves by minus the gradient
PLAIN = ExamplePrivacy(noise_multiplier=0.0, clip_norm=0.3, delta=1e-5)
NOISY = dataclasses.replace(PLAIN, noise_multiplier=2.0)


def build(name="head"):
    rng = np.random.default_rng(0)
    adapter = make_adapter(name, WINDOWS, FEATURES, LABELS)
    parameters = adapter.initial(
        rng.standard_normal((LABELS, FEATURES)).astype(np.float32),
        rng.standard_normal(LABELS).astype(np.float32),
    )
    if "up_weight" in parameters:  # zero at first, which would hide gradients of the other
        parameters["up_weight"] += np.float32(0.3)
    return adapter, parameters


def clips(adapter, count, seed=1):
    rng = np.random.default_rng([seed, count])
    embeddings = rng.standard_normal((count, *adapter.embedding_shape)) * rng.uniform(
        0.01, 3, (count, *[1] * len(adapter.embedding_shape))
    )
    return LocalDataset(embeddings.astype(np.float32), rng.integers(0, LABELS, count))


def trained(dataset, training=ONE_STEP, privacy=PLAIN, name="head", seed=5, parameters=None):
    adapter, initial = build(name)
    rng = stream(seed, "example privacy")
    return train_private(
        adapter, parameters or initial, [dataset], training, [rng], privacy=privacy
    )[0].vector.astype(np.float64)


def gradients_one_by_one(adapter, parameters, dataset):
    """The gradient of each clip by a loop, shape (n, d)."""
    rows = []
    for index in range(len(dataset)):
        local = {
            name: torch.tensor(value[np.newaxis]).requires_grad_()
            for name, value in parameters.items()
        }
        clip = torch.from_numpy(dataset.embeddings[index][np.newaxis, np.newaxis])
        label = torch.from_numpy(dataset.labels[index : index + 1])
        torch.autograd.backward(cross_entropy(adapter.logits(local, clip)[0], label))
        rows.append(
            adapter.spec.flatten({name: value.grad[0].numpy() for name, value in local.items()})
        )
    return np.stack(rows).astype(np.float64)


def check_clipped_sum(name="head"):
    """One step moves by minus the clipped gradients' sum over the full batch."""
    adapter, parameters = build(name)
    dataset = clips(adapter, 6)
    each = gradients_one_by_one(adapter, parameters, dataset)
    norms = np.linalg.norm(each, axis=1)
    privacy = dataclasses.replace(PLAIN, clip_norm=float(np.median(norms)))  # three are clipped
    clipped = each * np.minimum(1, privacy.clip_norm / (norms + 1e-6))[:, np.newaxis]
    moved = trained(dataset, privacy=privacy, name=name)
    np.testing.assert_allclose(moved, -clipped.sum(axis=0) / 8, atol=1e-5)


@pytest.mark.parametrize("name", ["head", "affine", "bottleneck"])
def test_a_step_is_the_sum_of_clipped_gradients_over_the_public_batch(name):
    check_clipped_sum(name)


def test_one_clip_more_moves_a_step_by_the_clip_norm_at_most():
    adapter, _ = build()
    dataset = clips(adapter, 7)
    wild = LocalDataset(dataset.embeddings * np.float32(1e6), dataset.labels)
    for index in range(7):
        others = wild.take(np.delete(np.arange(7), index))
        change = trained(wild) - trained(others)
        assert np.linalg.norm(change) <= PLAIN.clip_norm / 8 * (1 + 1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_clip_that_is_no_number_is_as_good_as_absent(value):
    """Or one clip could make a whole delta into zeros, whatever the noise."""
    adapter, _ = build()
    dataset = clips(adapter, 5)
    spoiled = dataset.embeddings.copy()
    spoiled[2] = value
    moved = trained(LocalDataset(spoiled, dataset.labels), privacy=NOISY)
    assert np.isfinite(moved).all()
    others = trained(dataset.take(np.array([0, 1, 3, 4])), privacy=PLAIN)
    quiet = trained(LocalDataset(spoiled, dataset.labels), privacy=PLAIN)
    assert np.linalg.norm(quiet - others) <= PLAIN.clip_norm / 8 * (1 + 1e-5)


def noise_of(trials=40, training=ONE_STEP):
    """What phones without clips send, over the stddev of a step: shape (trials, d)."""
    empty = clips(build()[0], 0)
    sent = np.stack([trained(empty, training, NOISY, seed=seed) for seed in range(trials)])
    return sent / (NOISY.noise_multiplier * NOISY.clip_norm / 8)


def check_noise():
    """1,280 values: variance within 5 standard errors, law by Kolmogorov-Smirnov at 1e-6."""
    values = noise_of().ravel()
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / values.size)
    assert kstest(values, "norm").pvalue > 1e-6


def test_a_phone_without_clips_sends_the_noise_that_is_priced():
    check_noise()


def test_steps_have_noise_of_their_own():
    """Three steps without momentum: variances add. (5 standard errors; one noise thrice is 9.)"""
    values = noise_of(training=dataclasses.replace(ONE_STEP, local_epochs=3)).ravel()
    assert abs(values.var() / 3 - 1) < 5 * math.sqrt(2 / values.size)


def test_normal_values_are_normal():
    values = dp_sgd.normal(Keystream(bytes(32)), 50_000)
    assert kstest(values, "norm").pvalue > 1e-6
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / values.size)


def clip_off(monkeypatch):
    clip = opacus.optimizers.DPOptimizer.clip_and_accumulate

    def unclipped(optimizer):
        optimizer.max_grad_norm = 1e9
        clip(optimizer)

    monkeypatch.setattr(opacus.optimizers.DPOptimizer, "clip_and_accumulate", unclipped)


def noise_off(monkeypatch):
    monkeypatch.setattr(dp_sgd, "normal", lambda secret, count: np.zeros(count))


def half_the_noise(monkeypatch):
    normal = dp_sgd.normal
    monkeypatch.setattr(dp_sgd, "normal", lambda secret, count: normal(secret, count) / 2)


def noise_that_repeats(monkeypatch):
    normal = dp_sgd.normal
    monkeypatch.setattr(dp_sgd, "normal", lambda secret, count: normal(Keystream(bytes(32)), count))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (check_clipped_sum, clip_off),
        (check_noise, noise_off),
        (check_noise, half_the_noise),
        (check_noise, noise_that_repeats),
    ],
)
def test_training_broken_on_purpose_is_noticed(check, broken, monkeypatch):
    broken(monkeypatch)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("count", [0, 3, 16, 21])
def test_rate_scale_and_steps_do_not_depend_on_how_many_clips_there_are(count, monkeypatch):
    training = LocalTraining(batch_size=4, max_examples=16, local_epochs=3, momentum=0.0)
    assert (sampling_rate(training), training.num_steps) == (0.25, 12)
    assert dataclasses.replace(training, max_steps=5).num_steps == 5
    seen = []
    step = opacus.optimizers.DPOptimizer.step

    def watched(optimizer, *arguments):
        kept = sum(sample.flatten(1).norm(dim=1) for sample in optimizer.grad_samples) > 0
        seen.append((int(kept.sum()), len(kept), optimizer.expected_batch_size))
        return step(optimizer, *arguments)

    monkeypatch.setattr(opacus.optimizers.DPOptimizer, "step", watched)
    trained(clips(build()[0], count), training)
    drawn, rows, batches = map(np.array, zip(*seen, strict=True))
    assert len(seen) == 12
    assert set(batches) == {4}
    assert set(rows) == {16 if count <= 16 else 32}
    # 12 n coins of 1/4: 5 standard deviations.
    assert abs(drawn.sum() - 3 * count) <= 5 * math.sqrt(12 * count * 3 / 16)


def test_what_a_phone_sends_depends_on_nobody_else_and_on_its_own_generator():
    adapter, parameters = build("affine")
    datasets = [clips(adapter, count) for count in (5, 0, 9)]
    training = LocalTraining(batch_size=4, max_examples=8, local_epochs=1, proximal_mu=0.1)

    def run(members):
        return train_private(
            adapter, parameters, [datasets[i] for i in members], training,
            [stream(1, i) for i in members], privacy=NOISY,
        )  # fmt: skip

    together, alone = run([0, 1, 2]), run([2])
    assert together[2].vector.tobytes() == alone[0].vector.tobytes()
    other = train_private(
        adapter, parameters, [datasets[2]], training, [stream(1, 0)], privacy=NOISY
    )
    assert (other[0].vector != alone[0].vector).all()


def test_the_pull_towards_the_global_adapter_is_that_of_fedprox():
    """Two steps without clips or noise stay; a pull alone has nowhere to go."""
    adapter, _ = build()
    training = dataclasses.replace(ONE_STEP, local_epochs=2, learning_rate=0.5, proximal_mu=0.4)
    one = trained(clips(adapter, 4), dataclasses.replace(training, max_steps=1))
    parameters = adapter.spec.unflatten((adapter.spec.flatten(build()[1]) + one).astype(np.float32))
    again = trained(
        clips(adapter, 4), dataclasses.replace(training, max_steps=1), parameters=parameters
    )
    both = trained(clips(adapter, 4), training)
    np.testing.assert_allclose(both, one + again - 0.5 * 0.4 * one, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise_multiplier", "batch_size", "participations"),
    [
        (1.0, 4, 15),
        pytest.param(4.0, 16, 3, marks=pytest.mark.slow),
        pytest.param(0.7, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_the_price_is_that_of_dp_accounting(noise_multiplier, batch_size, participations):
    training = LocalTraining(batch_size=batch_size, max_examples=16, local_epochs=2)
    privacy = ExamplePrivacy(noise_multiplier=noise_multiplier, clip_norm=1.0, delta=1e-5)
    found = price([example_cost(privacy, training, participations)])
    steps = participations * 2 * (16 // batch_size)
    assert found.steps == steps
    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    sampled = dp_accounting.PoissonSampledDpEvent(batch_size / 16, gaussian)
    library = dp_accounting.rdp.RdpAccountant().compose(sampled, steps)
    assert found.epsilon == pytest.approx(library.get_epsilon(1e-5), rel=1e-9)


def test_words_keep_it_apart_and_say_everything():
    words = example_paragraph(
        price([example_cost(NOISY, LocalTraining(batch_size=64, local_epochs=5), 15)])
    )
    for said in (
        "Example-level", "never added", "one example", "add/remove", "delta = 1.00e-05",
        "15 rounds", "dp-accounting", "the server included", "Who must be honest",
    ):  # fmt: skip
        assert said in words


def test_nothing_is_said_where_nothing_is_promised():
    assert example_cost(PLAIN, LocalTraining(batch_size=64, local_epochs=5), 15) is None
    assert price([]) is None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier must be finite"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be finite"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"clip_norm": math.nan}, "clip_norm must be positive"),
        ({"delta": 0.0}, "delta must be in"),
    ],
)
def test_a_broken_rule_is_named(changes, rule):
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(PLAIN, **changes)
