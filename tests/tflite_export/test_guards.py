"""What the graphs that train refuse by themselves, whatever the app around them hands in."""

import numpy as np
import pytest

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import checksum, hash_words
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from tflite_export.interpreter import TfliteModel
from tflite_export.on_device import PersonalModel

pytestmark = pytest.mark.export
CLIPS = 8
SETTINGS = {
    "learning_rate": 0.1, "momentum": 0.5, "proximal_mu": 0.1, "clip_norm": 0.5,
    "expected_clips": 8.0,
}  # fmt: skip
STRANGE = {
    "learning_rate": (-0.1, np.nan, np.inf),
    "momentum": (-0.1, 1.1, np.nan),
    "proximal_mu": (-0.1, np.inf, np.nan),
    "clip_norm": (-1.0, 0.0, np.inf, np.nan),
    "expected_clips": (0.0, -8.0, np.inf, np.nan),
    "noise": (np.nan, np.inf),
    "present": (100.0, -1.0, np.nan),
}


def call_of(model, signature, *names):
    """Inputs that a training signature takes, drawn by names."""
    rng, drawn = stream(0, "guards", signature, *names), {}
    for name, spec in model.signatures[signature].inputs.items():
        if name in SETTINGS:
            drawn[name] = np.full(spec.shape, SETTINGS[name], np.float32)
        elif name == "labels":
            drawn[name] = rng.integers(0, 6, spec.shape).astype(np.int32)
        elif name == "present":
            drawn[name] = np.ones(spec.shape, np.float32)
        else:
            drawn[name] = rng.standard_normal(spec.shape).astype(np.float32)
    return drawn


def state(model):
    """The adapter after a step that shows what momentum remembers too."""
    saved = model.call("save")["adapter"]
    model.run("train", **call_of(model, "train", "probe"))
    return np.stack([saved, model.call("save")["adapter"]])


@pytest.fixture(params=["head", "affine", "bottleneck"])
def fresh(request, personal_file):
    """Makes a model that has taken one step, of one and the same file."""
    _, content = personal_file(request.param)

    def make():
        model = TfliteModel(content)
        model.run("train", **call_of(model, "train", "first"))
        return model

    return make


@pytest.mark.parametrize("signature", ["train", "train_dp"])
def test_a_setting_outside_its_range_takes_no_step(fresh, signature):
    untouched = state(fresh())
    for name, values in STRANGE.items():
        for value in values:
            model = fresh()
            inputs = call_of(model, signature)
            if name not in inputs:
                continue
            inputs[name].flat[0] = value
            assert model.run(signature, **inputs)["stepped"].tolist() == [0], (name, value)
            np.testing.assert_array_equal(state(model), untouched, err_msg=f"{name}={value}")


@pytest.mark.parametrize("signature", ["train", "train_dp"])
def test_a_clip_that_cannot_be_counts_as_absent_to_the_bit(fresh, signature):
    model = fresh()
    inputs = call_of(model, signature)
    inputs["present"][3] = 0
    found = model.run(signature, **inputs)
    assert (found["stepped"][0], found["counted"][0]) == (1, CLIPS - 1)
    expected = state(model)
    for name, value in (
        ("labels", 6), ("labels", -1), ("labels", 2**31 - 1), ("embeddings", np.nan),
        ("embeddings", np.inf), ("embeddings", 1e30),
    ):  # fmt: skip
        model = fresh()
        inputs = call_of(model, signature)
        inputs[name][3].flat[0] = value
        if name == "labels":
            inputs[name][3] = value
        found = model.run(signature, **inputs)
        assert (found["stepped"][0], found["counted"][0]) == (1, CLIPS - 1)
        np.testing.assert_array_equal(state(model), expected, err_msg=f"{name} {value}")


def test_no_clip_whatever_it_holds_moves_the_adapter_by_more_than_its_share(fresh):
    model = fresh()
    start = model.call("save")["adapter"]
    bound = 0.1 * 0.5 / 8  # learning rate times clip norm over the divisor
    rng = stream(0, "hostile")
    for _ in range(60):
        model = fresh()
        quiet = call_of(model, "train_dp")
        quiet |= {"momentum": np.zeros(1, np.float32), "proximal_mu": np.zeros(1, np.float32)}
        quiet["noise"][:] = 0
        quiet["present"][1:] = 0
        bits = rng.integers(0, 2**32, quiet["embeddings"].shape, dtype=np.uint32)
        quiet["embeddings"] = bits.view(np.float32)
        if rng.random() < 0.5:
            size = 10.0 ** rng.uniform(-3, 4)
            quiet["embeddings"] = size * rng.uniform(-1, 1, bits.shape).astype(np.float32)
            quiet["embeddings"] = quiet["embeddings"].astype(np.float32)
        quiet["labels"] = rng.integers(-2, 9, CLIPS).astype(np.int32)
        assert model.run("train_dp", **quiet)["stepped"][0] == 1
        moved = model.call("save")["adapter"] - start
        assert np.linalg.norm(moved.astype(np.float64)) <= bound * 1.001 + 1e-6


def test_inputs_of_another_size_are_never_broadcast(fresh):
    """A runtime resizes what it is handed; one noise for all values would protect nobody."""
    untouched = state(fresh())
    for signature in ("train", "train_dp", "restore"):
        model = fresh()
        whole = call_of(model, signature)
        for name, value in whole.items():
            for shape in ((1, *value.shape[1:]), (3, *value.shape[1:]), (2 * len(value),)):
                if shape == value.shape:
                    continue
                model = fresh()
                resized = whole | {name: np.resize(value, shape).astype(value.dtype)}
                if signature == "restore":
                    adapter = np.resize(value, shape) if name == "adapter" else value
                    resized["checksum"] = checksum(adapter.astype(np.float32))
                try:
                    found = model._runners[signature](**resized)
                except (ValueError, RuntimeError):  # the runtime itself saw that it does not fit
                    continue
                assert not found["restored" if signature == "restore" else "stepped"].any()
                np.testing.assert_array_equal(state(model), untouched, err_msg=f"{name} {shape}")


def test_an_adapter_with_a_flipped_bit_is_not_restored(personal_file):
    trained, content = personal_file("head")
    model, base = TfliteModel(content), hash_words(trained.base.sha256)
    saved = model.call("save")
    adapter = saved["adapter"]
    np.testing.assert_array_equal(saved["checksum"], checksum(adapter))
    for bit in range(0, 32 * len(adapter), 61):
        changed = adapter.copy()
        changed.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)
        found = model.run("restore", adapter=changed, base=base, checksum=saved["checksum"])
        assert found["restored"].tolist() == [0]
    np.testing.assert_array_equal(model.call("save")["adapter"], adapter)
    assert model.run("restore", base=base, **saved)["restored"].tolist() == [1]
    large = adapter.copy()
    large[0] = 1e5
    with pytest.raises(ExportRefused, match="above 10000 in size"):
        PersonalModel(model).restore(large, base)


def test_noise_beyond_every_measure_leaves_an_adapter_that_can_be_restored(personal_file):
    trained, content = personal_file("head")
    model = TfliteModel(content)
    for step in range(4):
        inputs = call_of(model, "train_dp", step)
        inputs["noise"] *= np.float32(1e20)
        assert model.run("train_dp", **inputs)["stepped"][0] == 1
    saved = model.call("save")
    assert np.abs(saved["adapter"]).max() <= 1e4
    base = hash_words(trained.base.sha256)
    assert model.run("restore", base=base, **saved)["restored"][0] == 1


def test_the_wrapper_says_what_the_file_did_not_do(personal_file):
    _, content = personal_file("head")
    personal, training = (
        PersonalModel(TfliteModel(content)),
        LocalTraining(local_epochs=5, batch_size=CLIPS),
    )
    embeddings = stream(0, "wrapper").standard_normal((3, 24)).astype(np.float32)
    clips = LocalDataset(embeddings, np.array([0, 1, 2]))
    with pytest.raises(ExportRefused, match="takes no step with these settings"):
        personal.train_dp(
            clips, training, clip_norm=-1.0, noise=np.zeros(150, np.float32), expected_clips=3
        )
    with pytest.raises(ExportRefused, match="2 of 3 clips counted"):
        personal.train(LocalDataset(embeddings, np.array([0, 1, 9])), training)
