"""Front ends as operators give torch's features."""

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")

from fedspeech.audio.spec import FrontendSpec
from fedspeech.models.exported.encoder import Declared
from tflite_export.foreign.front_end import append_front_end
from tflite_export.foreign.graph import OperatorGraph
from tflite_export.interpreter import TfliteModel

SAMPLES = 3_200


@pytest.mark.parametrize(
    "declared",
    [
        Declared(file="tflite", input="speech_embedding", padding_samples=640),
        Declared(file="pt2", input="log_mel", log_mel=FrontendSpec()),
        Declared(file="pt2", padding_samples=160),
    ],
    ids=["speech_embedding", "log_mel", "waveform"],
)
def test_a_front_end_gives_the_features_of_torch(declared):
    graph = OperatorGraph()
    x = graph.input("x", (1, SAMPLES))
    y = append_front_end(graph, declared, x)
    model = TfliteModel(graph.finish("whole", {"x": x}, {"y": y}))
    rng = np.random.default_rng(0)
    for level in (0.0, 1e-3, 0.1, 1.0):
        sound = (level * rng.normal(size=(1, SAMPLES))).clip(-1, 1).astype(np.float32)
        padded = np.pad(sound, ((0, 0), (0, declared.padding_samples)))
        expected = declared.front_end(torch.from_numpy(padded)).numpy()
        np.testing.assert_allclose(model.run("whole", x=sound)["y"], expected, atol=2e-4)
