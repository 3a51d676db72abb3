"""A run's model listens in blocks as it does at once, and forgets when it is told to."""

import numpy as np
import pytest

from fedspeech.errors import FedspeechError
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, default_base_path
from simulations.artifacts.listening import Detecting, open_listener
from simulations.artifacts.model_listening import ModelListener


@pytest.fixture(scope="module")
def listener():
    weights = pytest.importorskip("tflite_export.weights", reason="LiteRT is the extra tflite")
    base = Base.load(default_base_path())
    sizes = base.num_windows, base.built_in.spec.features, len(base.vocabulary.labels)
    adapter = make_adapter("head", *sizes)
    values = adapter.initial(base.head_weight, base.head_bias)
    return ModelListener(weights.Trained(base=base, adapter=adapter, parameters=values))


def test_blocks_are_heard_as_the_whole_and_a_reset_forgets(listener):
    sound = 0.1 * np.random.default_rng(0).normal(size=24_000).astype(np.float32)
    listener.reset()
    whole = listener.feed(sound)
    assert whole.shape == (75, 12)
    again = listener.feed(sound)
    assert not np.allclose(again[:20], whole[:20], atol=1e-3), "the first seconds are remembered"
    listener.reset()
    blocks = np.split(sound, [100, 333, 5_000, 5_100, 17_000])
    found = np.concatenate([listener.feed(block) for block in blocks])
    np.testing.assert_allclose(found, whole, atol=1e-4)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FedspeechError, match="holds no model that listens"):
        open_listener(tmp_path)
    with pytest.raises(FedspeechError, match="holds no model that listens"):
        Detecting.of(tmp_path, None, None, None)
