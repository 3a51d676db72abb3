"""Training through the file's signatures, held against torch and Opacus."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule

from fedspeech.errors import ExportRefused
from fedspeech.privacy.examples import ExamplePrivacy, price
from fedspeech.rollout.adapter_file import hash_words
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.dp_sgd import example_cost, train_private
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining
from tflite_export.evidence import reference_logits
from tflite_export.interpreter import TfliteModel
from tflite_export.on_device import OnDeviceTraining, PersonalModel, example_guarantee
from tflite_export.personal_checks import device_steps
from tflite_export.twins import clip_losses_and_gradients

BATCH = 8
TRAINING = LocalTraining(batch_size=BATCH, local_epochs=3, max_examples=20, learning_rate=0.1)


def clips_of(trained, count, *names):
    rng = stream(0, "on device", count, *names)
    embeddings = rng.standard_normal((count, *trained.adapter.embedding_shape)).astype(np.float32)
    return LocalDataset(embeddings, rng.integers(0, 6, count))


def step_of(trained, content, clips, **private):
    """The adapter after one step of DP-SGD, flat."""
    personal = PersonalModel(TfliteModel(content))
    personal.train_dp(clips, TRAINING, **private)
    return personal.save()


@pytest.mark.export
@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
@pytest.mark.parametrize("change", [{}, {"proximal_mu": 0.5}, {"max_steps": 4, "momentum": 0.0}])
def test_deltas_are_torchs_for_phones_of_any_size(personal_file, kind, change):
    trained, content = personal_file(kind)
    training = dataclasses.replace(TRAINING, learning_rate=0.01, **change)
    sizes = (0, 1, BATCH, 11, 20, 33)
    datasets = [clips_of(trained, size) for size in sizes]

    def rngs():
        return [stream(0, "batches", size) for size in sizes]

    train = OnDeviceTraining(content, trained.base.sha256)
    found = train(trained.adapter, trained.parameters, datasets, training, rngs())
    expected = train_cohort(trained.adapter, trained.parameters, datasets, training, rngs())
    for one, other in zip(found, expected, strict=True):
        # Of the largest value: where steps are large, torch's own two texts differ by as much.
        scale = max(1.0, float(np.abs(other.vector).max()))
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-5 * scale)
    assert not found[0].vector.any()
    assert np.abs(found[2].vector).max() > 1e-3, "something was learned"


@pytest.mark.export
@pytest.mark.parametrize(("kind", "momentum"), [("affine", 0.9), ("affine", 0.0), ("head", 0.9)])
def test_a_right_file_passes_where_training_multiplies_what_rounding_leaves(
    personal_file, clips, kind, momentum
):
    """Values near 100, and for the affine adapter steps that are too large for its loss."""
    trained, content = personal_file(kind)
    sounds = clips[:32]
    embeddings = trained.adapter.embed(trained.base.encoder_output(sounds)).numpy()
    dataset = LocalDataset(embeddings, reference_logits(trained, sounds).argmax(axis=1))
    training = LocalTraining(
        batch_size=BATCH, local_epochs=50, max_examples=32, learning_rate=0.01, momentum=momentum
    )
    found = device_steps(TfliteModel(content), trained, dataset, training)
    assert found.figure <= found.limit == 2**-20
    assert found.name.startswith("200 training steps")
    if kind == "affine":
        start, rng = trained.adapter.spec.flatten(trained.parameters), stream(0, "batches")
        train = OnDeviceTraining(content, trained.base.sha256)
        (one,) = train(trained.adapter, trained.parameters, [dataset], training, [rng])
        other = train_adapter(
            trained.adapter, trained.parameters, dataset, training, stream(0, "batches")
        )
        apart = np.abs(one.vector - other.vector).max() / np.abs(start).max()
        assert apart > 100 * found.limit, "two trainings that are both right part here"


@pytest.mark.export
@pytest.mark.parametrize("wrong", [{"momentum": 0.8999}, {"learning_rate": 0.10001}])
def test_steps_that_are_slightly_off_are_refused(personal_file, wrong, monkeypatch):
    trained, content = personal_file("bottleneck")
    taken = PersonalModel.train
    monkeypatch.setattr(
        PersonalModel,
        "train",
        lambda self, clips, training: taken(self, clips, dataclasses.replace(training, **wrong)),
    )
    with pytest.raises(ExportRefused, match="training steps, largest difference of a step"):
        device_steps(
            TfliteModel(content), trained, clips_of(trained, 20),
            dataclasses.replace(TRAINING, local_epochs=70),
        )  # fmt: skip


@pytest.mark.export
def test_a_private_step_is_that_of_opacus(personal_file):
    trained, content = personal_file("head")
    clips = clips_of(trained, BATCH)
    head = torch.nn.Linear(24, 6)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(trained.parameters["head_weight"]))
        head.bias.copy_(torch.tensor(trained.parameters["head_bias"]))
    logits = GradSampleModule(head, loss_reduction="sum")(torch.from_numpy(clips.embeddings))
    torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(clips.labels), reduction="sum"
    ).backward()
    rows = torch.cat([head.weight.grad_sample.flatten(1), head.bias.grad_sample], dim=1)
    norms = rows.norm(dim=1)
    clip_norm = float(norms.median())
    total = ((clip_norm / norms).clamp(max=1.0)[:, None] * rows).sum(dim=0).detach().numpy()
    noise = stream(0, "noise").normal(0, clip_norm, len(total)).astype(np.float32)
    start = trained.adapter.spec.flatten(trained.parameters)
    expected = start - TRAINING.learning_rate * (total + noise) / 10
    found = step_of(trained, content, clips, clip_norm=clip_norm, noise=noise, expected_clips=10)
    assert (norms > clip_norm).any()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["affine", "bottleneck"])
@pytest.mark.parametrize("clip_norm", [1e-3, 0.5, 1e6])
def test_a_private_step_of_the_other_adapters_is_that_of_a_loop(personal_file, kind, clip_norm):
    trained, content = personal_file(kind)
    clips = clips_of(trained, 5)
    _, rows = clip_losses_and_gradients(
        trained.adapter, trained.parameters, clips.embeddings, clips.labels
    )
    norms = np.linalg.norm(rows, axis=1)
    total = np.minimum(1, clip_norm / norms) @ rows
    start = trained.adapter.spec.flatten(trained.parameters)
    found = step_of(
        trained, content, clips, clip_norm=clip_norm, noise=np.zeros_like(start), expected_clips=5
    )
    expected = start - TRAINING.learning_rate * total / 5
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
def test_no_clip_moves_the_adapter_by_more_than_its_share(personal_file, kind):
    trained, content = personal_file(kind)
    clips = clips_of(trained, 6)
    loud = LocalDataset(clips.embeddings * np.float32(2e3), clips.labels)
    start = trained.adapter.spec.flatten(trained.parameters)
    nothing = np.zeros_like(start)
    found = step_of(trained, content, loud, clip_norm=0.3, noise=nothing, expected_clips=1)
    assert np.linalg.norm(found - start) <= TRAINING.learning_rate * 6 * 0.3 * 1.0001


@pytest.mark.export
def test_padding_weighs_nothing_whatever_stands_in_it(personal_file):
    trained, content = personal_file("affine")
    model = TfliteModel(content)
    clips = clips_of(trained, BATCH)
    inputs = {
        "labels": clips.labels.astype(np.int32),
        "present": np.array([1, 1, 1, 0, 0, 0, 0, 0], np.float32),
        "learning_rate": np.array([0.1], np.float32),
        "momentum": np.zeros(1, np.float32),
        "proximal_mu": np.zeros(1, np.float32),
    }
    start = trained.adapter.spec.flatten(trained.parameters)
    saved = []
    for filling in (0.0, np.nan, np.inf):
        embeddings = clips.embeddings.copy()
        embeddings[3:] = filling
        PersonalModel(model).restore(start, hash_words(trained.base.sha256))
        model.run("train", embeddings=embeddings, **inputs)
        saved.append(model.call("save")["adapter"])
    np.testing.assert_array_equal(saved[0], saved[1])
    np.testing.assert_array_equal(saved[0], saved[2])


def secrets(*names):
    return [stream(0, "example privacy", name) for name in names]


@pytest.mark.export
def test_example_noise_is_as_large_as_it_says_and_never_repeats(personal_file):
    trained, content = personal_file("head")
    # Noise of stddev 2, and no signal.
    privacy = ExamplePrivacy(clip_norm=1e-6, noise_multiplier=2e6, delta=1e-5)
    training = LocalTraining(
        batch_size=BATCH, local_epochs=1, max_examples=BATCH, learning_rate=1.0, momentum=0.0
    )
    train = OnDeviceTraining(content, trained.base.sha256, example_privacy=privacy)
    datasets = [clips_of(trained, 3, phone) for phone in range(60)]
    rngs = secrets(*range(60))
    deltas = train(trained.adapter, trained.parameters, datasets, training, rngs)
    values = np.stack([delta.vector for delta in deltas]) * BATCH / 2
    assert values.size == 9_000
    # Standard normal: the mean of 9,000 squares has stddev sqrt(2 / 9000) = 0.015; five of them.
    assert abs(np.mean(values**2) - 1) < 0.075
    assert abs(np.mean(values)) < 5 / math.sqrt(9_000)
    assert len(np.unique(values[:, 0])) == 60
    again = train(trained.adapter, trained.parameters, datasets[:1], training, rngs[:1])
    assert not np.array_equal(again[0].vector, deltas[0].vector)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
@pytest.mark.parametrize("change", [{}, {"proximal_mu": 0.5, "batch_size": 3, "momentum": 0.0}])
def test_the_file_takes_the_very_steps_of_torch_where_examples_are_hidden(
    personal_file, kind, change
):
    """The same coins, noise, number of steps and divisor: the same event, hence the same price."""
    trained, content = personal_file(kind)
    training = dataclasses.replace(TRAINING, learning_rate=0.01, max_examples=BATCH, **change)
    privacy = ExamplePrivacy(noise_multiplier=1.0, clip_norm=0.5, delta=1e-5)
    sizes = (0, 1, 5, BATCH)
    datasets = [clips_of(trained, size) for size in sizes]
    train = OnDeviceTraining(content, trained.base.sha256, example_privacy=privacy)
    found = train(trained.adapter, trained.parameters, datasets, training, secrets(*sizes))
    expected = train_private(
        trained.adapter, trained.parameters, datasets, training, secrets(*sizes), privacy=privacy
    )
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(other.vector).max()))
        np.testing.assert_allclose(one.vector, other.vector, atol=2e-5 * scale)
        assert one.vector.any(), "a phone without examples sends noise as well"


def test_the_file_claims_what_torch_claims_to_the_last_digit():
    privacy = ExamplePrivacy(noise_multiplier=1.1, clip_norm=0.5, delta=1e-5)
    for batch_size in (3, BATCH):
        training = dataclasses.replace(TRAINING, batch_size=batch_size, max_examples=BATCH)
        cost = example_cost(privacy, training, 15)
        here, there = example_guarantee(cost), price([cost])
        assert here == dataclasses.replace(there, relation="zero-out")
        assert 0 < here.epsilon == there.epsilon < math.inf


@pytest.mark.export
def test_a_phone_with_more_examples_than_the_file_takes_trains_on_the_first(personal_file):
    trained, content = personal_file("head")
    training = dataclasses.replace(TRAINING, max_examples=BATCH)
    privacy = ExamplePrivacy(noise_multiplier=1.0, clip_norm=0.5, delta=1e-5)
    train = OnDeviceTraining(content, trained.base.sha256, example_privacy=privacy)
    many = clips_of(trained, 3 * BATCH)
    first = many.take(np.arange(BATCH))
    pair = [
        train(trained.adapter, trained.parameters, [clips], training, secrets(1))[0].vector
        for clips in (many, first)
    ]
    np.testing.assert_array_equal(*pair)


@pytest.mark.export
def test_what_the_file_cannot_do_is_refused(personal_file):
    trained, content = personal_file("head")
    sha256 = trained.base.sha256
    train = OnDeviceTraining(content, sha256)
    clips, rngs = [clips_of(trained, 3)], [stream(0, "batches")]

    def attempt(train=train, **change):
        training = dataclasses.replace(TRAINING, **change)
        train(trained.adapter, trained.parameters, clips, training, rngs)

    with pytest.raises(ExportRefused, match="trains by sgd, the job says adam"):
        attempt(optimizer="adam")
    with pytest.raises(ExportRefused, match="at most 8 clips, the job says 9"):
        attempt(batch_size=9)
    with pytest.raises(ExportRefused, match="belongs to another base"):
        attempt(train=OnDeviceTraining(content, "0" * 64))
    privacy = ExamplePrivacy(clip_norm=1.0, noise_multiplier=1.0, delta=1e-5)
    with pytest.raises(ExportRefused, match="at most 8 clips, the job says 20"):
        attempt(train=OnDeviceTraining(content, sha256, example_privacy=privacy))
    personal = PersonalModel(TfliteModel(content))
    with pytest.raises(ValueError, match="at most 8 clips, got 9"):
        personal.train(clips_of(trained, 9), TRAINING)
