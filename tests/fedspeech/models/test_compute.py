"""An accelerator computes what the CPU does, and nothing of a cohort is left behind on the CPU."""

import numpy as np
import pytest
import torch

from fedspeech.errors import ScenarioError
from fedspeech.models import compute
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, default_base_path
from fedspeech.seeds import stream
from fedspeech.training import cohort
from fedspeech.training.dataset import LocalDataset, pad_block
from fedspeech.training.settings import LocalTraining

WINDOWS, FEATURES, LABELS = 5, 6, 4
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def phones(adapter, count=3):
    rng = np.random.default_rng(1)
    return [
        LocalDataset(
            rng.standard_normal((9, *adapter.embedding_shape)).astype(np.float32),
            rng.integers(0, LABELS, (9, 3) if adapter.output_unit == "frame" else 9),
        )
        for _ in range(count)
    ]


def start(adapter):
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((LABELS, FEATURES)).astype(np.float32)
    return adapter.initial(weight, np.zeros(LABELS, np.float32))


@pytest.mark.parametrize("name", ["head", "affine", "bottleneck"])
@pytest.mark.parametrize("batch_size", [4, 16])  # the second trains the head in dual coordinates
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_block_stays_on_its_device(name, batch_size, optimizer):
    # A tensor of the CPU among those of "meta", which hold no values, is an error of torch.
    adapter, meta = make_adapter(name, WINDOWS, FEATURES, LABELS), torch.device("meta")
    training = LocalTraining(
        optimizer=optimizer, batch_size=batch_size, max_examples=16, proximal_mu=0.1
    )
    people = phones(adapter)
    schedules = [training.schedule(9, [stream(1, "batches")] * 3, place) for place in range(3)]
    room = np.empty((adapter.block_phones, 16, *adapter.embedding_shape), np.float32)
    block = pad_block(people, schedules, room)
    from_there = {
        key: torch.tensor(value, device=meta).expand(adapter.block_phones, *value.shape)
        for key, value in start(adapter).items()
    }
    clips = torch.from_numpy(block.embeddings).to(meta)
    for batch, active in cohort._batches(clips, block, training, meta):
        parts = (batch.embeddings, batch.labels, batch.weights, batch.windows, active)
        assert {part.device for part in parts} == {meta}
    deltas = cohort._train_block(adapter, from_there, block, training, meta)
    assert deltas.device == meta
    assert deltas.shape == (adapter.block_phones, adapter.spec.size)


def test_front_end_and_network_stay_on_their_device():
    encoder = Base.load(default_base_path()).built_in
    parts = encoder._parts(torch.device("meta"))
    heard = np.zeros((2, encoder.context_samples + encoder.clip_samples), np.float32)
    assert parts.network(encoder._features(heard, parts)).device == torch.device("meta")
    assert next(encoder.network.parameters()).device == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu; rm", "CUDA"])
def test_a_name_that_is_no_device_is_refused(monkeypatch, name):
    monkeypatch.setenv(compute.VARIABLE, name)
    with pytest.raises(ScenarioError, match=r"a device is cpu, mps, cuda or cuda:NUMBER, got"):
        compute.compute_device()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused_by_name_and_nothing_changes(monkeypatch):
    monkeypatch.delenv(compute.VARIABLE, raising=False)
    with (
        pytest.raises(ScenarioError, match=r"finds no device cuda; there are cpu"),
        compute.computing_on("cuda"),
    ):
        pass
    assert compute.compute_device() == torch.device("cpu")
    assert compute.notice() is None


def test_sentences_are_refused_where_there_is_no_float64(monkeypatch):
    monkeypatch.setattr(compute, "compute_device", lambda: torch.device("mps"))
    compute.check_computable("clip")
    with pytest.raises(ScenarioError, match="sentences train on cpu or cuda, got mps"):
        compute.check_computable("frame")


@CUDA
@pytest.mark.parametrize("name", ["head", "affine", "bottleneck", "frame_affine"])
def test_cohorts_on_cuda_agree_with_the_cpu(name):
    adapter = make_adapter(name, WINDOWS, FEATURES, LABELS)
    training, people = LocalTraining(batch_size=16), phones(adapter)
    rngs = [stream(1, "batches", phone) for phone in range(len(people))]
    here = cohort.train_cohort(adapter, start(adapter), people, training, rngs)
    with compute.computing_on("cuda"):
        there = cohort.train_cohort(adapter, start(adapter), people, training, rngs)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=1e-4)


@CUDA
def test_the_encoder_on_cuda_agrees_with_the_cpu():
    base = Base.load(default_base_path())
    heard = np.random.default_rng(1).normal(0, 0.1, (3, base.heard_samples)).astype(np.float32)
    here = base.encoder_output(heard)
    with compute.computing_on("cuda"):
        there = base.encoder_output(heard)
    scale = float(here.abs().max())
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4 * scale)
