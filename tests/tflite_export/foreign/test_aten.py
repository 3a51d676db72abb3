"""Every operator of torch that has a counterpart computes the same; one that has none is named."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

pytest.importorskip("ai_edge_litert", reason="LiteRT is the extra tflite")
pytest.importorskip("torch.export.pt2_archive", reason="torch before 2.8 has no such archives")

from fedspeech.errors import ExportRefused
from fedspeech.models.exported.program import checked_program, exported
from tflite_export.foreign.aten import append_program
from tflite_export.foreign.graph import OperatorGraph
from tflite_export.interpreter import TfliteModel

pytestmark = pytest.mark.export


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def converted(module, shape):
    torch.manual_seed(0)
    program = checked_program(exported(module, torch.randn(1, *shape)))
    graph = OperatorGraph()
    x = graph.input("x", (1, *shape))
    y = append_program(graph, program, x, torch.randn(1, *shape))
    return TfliteModel(graph.finish("whole", {"x": x}, {"y": y}))


def normalized(*layers):
    """Layers whose running statistics are not those of a fresh network."""
    network = nn.Sequential(*layers).eval()
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return network


CASES = {
    "convolutions": (
        normalized(
            nn.Conv1d(4, 8, 5, padding="same", dilation=2), nn.BatchNorm1d(8),
            nn.ReLU(inplace=True),
            nn.Conv1d(8, 16, 3, groups=8, stride=2, padding=1), nn.ReLU6(), nn.MaxPool1d(3, 2, 1),
            nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.5),
        ), (4, 40),
    ),
    "depthwise-separable": (
        normalized(
            nn.Unflatten(1, (1, 12)), nn.Conv2d(1, 8, (5, 4), stride=(2, 2), padding=(2, 1)),
            nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 12, 1, bias=False), nn.MaxPool2d(2), nn.Hardswish(),
        ), (12, 10),
    ),
    "attention": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (9, 16)),
    "pointwise": (
        Of(lambda x: torch.cat([
            x.clamp(-0.5, 0.5), functional.leaky_relu(x, 0.1), functional.silu(x), x.abs().sqrt(),
            functional.elu(x), torch.tanh(x), functional.hardtanh(x), functional.softmax(x, 1),
            functional.log_softmax(x, -1), torch.sigmoid(x), x**2, torch.exp(-x), 2 - x / 3,
            (x.abs() + 1).reciprocal(),
            torch.maximum(x, -x), x.square().clamp_min(0.1).log(), torch.sin(x), torch.cos(x),
        ], 1)), (6, 5),
    ),
    "reductions": (
        Of(lambda x: torch.stack(
            [x.mean(1), x.amax(1), x.max(1)[0], x.sum(1), x.amin(1)], 1
        )), (6, 5),
    ),
    "cuts": (
        Of(lambda x: torch.cat([
            x[:, 1:3], x[:, ::2], *x.chunk(2, 1), x[:, -1:], x.select(1, 2)[:, None],
            *x.split([2, 4], 1), functional.pad(x, (0, 0, 1, 2), value=2.0),
        ], 1)), (6, 5),
    ),
    "frames": (
        Of(lambda x: x.unfold(1, 40, 16).square().mean(-1, keepdim=True)), (160,),
    ),
    "products": (
        Of(lambda x: torch.bmm(x, x.transpose(1, 2)) + x.permute(0, 2, 1).reshape(-1, 6, 4).mean()),
        (6, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_program_computes_what_torch_computes(name):
    module, shape = CASES[name]
    model = converted(module, shape)
    for _ in range(5):
        x = torch.randn(1, *shape)
        with torch.inference_mode():
            expected = module(x).numpy()
        np.testing.assert_allclose(model.run("whole", x=x.numpy())["y"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        (Of(lambda x, gru: gru(x)[0], nn.GRU(4, 3, batch_first=True)), (6, 4), r"aten\.gru\.input"),
        (Of(lambda x: torch.fft.rfft(x).abs()), (16,), r"aten\.fft_rfft\.default"),
        (nn.Conv1d(4, 8, 3, groups=2), (4, 9), r"aten\.conv1d\.default with 2 groups of 2"),
        (nn.AvgPool1d(3, padding=1), (4, 9), r"aten\.avg_pool1d\.default with padding"),
        (nn.AdaptiveAvgPool1d(3), (4, 9), r"aten\.adaptive_avg_pool1d\.default with an output"),
        (Of(lambda x: torch.add(x, x * 2, alpha=2)), (4, 9), r"aten\.add\.Tensor with alpha"),
    ],
    ids=["gru", "rfft", "groups", "padding", "adaptive", "alpha"],
)
def test_what_has_no_counterpart_is_refused_by_operator(module, shape, said):
    with pytest.raises(ExportRefused, match=said):
        converted(module, shape)
