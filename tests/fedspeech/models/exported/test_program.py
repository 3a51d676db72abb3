import contextlib
import io
import pickle
import zipfile

import numpy as np
import pt2_files
import pytest
import torch
from torch import nn

from fedspeech.models.exported.program import checked_archive, checked_program, exported

pytest.importorskip("torch.export.pt2_archive", reason="torch before 2.8 has no such archives")

pytestmark = pytest.mark.slow  # torch's exporter takes seconds to import


class Layers(nn.Module):
    """Waveform to frames, with what exporters stumble over: buffers, in-place layers, attention."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 8, 400, stride=160)
        self.norm = nn.BatchNorm1d(8)
        self.active = nn.ReLU(inplace=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("shift", torch.arange(8.0), persistent=False)
        self.end = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5), nn.Hardtanh(inplace=True))

    def forward(self, waveform):
        frames = self.active(self.norm(self.stem(waveform[:, None]))).transpose(1, 2)
        frames = frames + self.attention(frames, frames, frames)[0] + self.shift
        return self.end(frames).reshape(waveform.shape[0], -1, 4) * torch.tensor([0.5])


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Layers().eval()


@pytest.fixture(scope="module")
def data(network):
    return exported(network, torch.zeros(1, 16_000))


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_a_loaded_program_computes_what_the_module_computes(network, data, clips):
    clip = torch.randn(clips, 16_000)
    found = checked_program(data).module()(clip)
    torch.testing.assert_close(found, network(clip), atol=1e-6, rtol=0)


def test_the_bytes_are_a_name(network, data):
    assert exported(network, torch.zeros(3, 16_000)) == data
    assert checked_archive(data) == data


def test_what_is_written_holds_no_pickle(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"PK", b"\x80")), name
            assert b"pickle" not in content.replace(b"use_pickle", b""), name


def test_a_program_of_torch_itself_loads_without_its_sample_inputs(network):
    program = torch.export.export(network, (torch.zeros(2, 16_000),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    loaded = checked_program(buffer.getvalue())
    clip = torch.randn(2, 16_000)
    torch.testing.assert_close(loaded.module()(clip), network(clip), atol=1e-6, rtol=0)


def test_a_program_written_by_hand_computes():
    weight = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    program = checked_program(pt2_files.packed(pt2_files.members(weight.tobytes())))
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    found = program.module()(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, np.maximum(x @ weight.T, 0), atol=1e-5)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def traps(path):
    """Files that torch's own loader would run: by name, their bytes."""
    evil = pickle.dumps(Trap(path))
    whole = pt2_files.members() | {"data/sample_inputs/model.pt": b""}
    as_weight = pt2_files.weights(use_pickle=True)
    as_name = pt2_files.changed(
        ("graph_module", "graph", "nodes", 1, "name"),
        f"relu = open({str(path)!r}, 'w')\n    relu2",
    )
    as_size = {"expr_str": f"open({str(path)!r}, 'w')", "hint": None}
    sized = pt2_files.changed(
        ("graph_module", "graph", "tensor_values", "x", "sizes", 0), {"as_expr": as_size}
    )
    return {
        "sample inputs": whole | {"data/sample_inputs/model.pt": evil},
        "weight": pt2_files.members(evil, table=as_weight),
        "object": whole | {"data/constants/opaque_obj_0": evil},
        "expression": pt2_files.members(program=sized) | {"data/sample_inputs/model.pt": b""},
        "name": pt2_files.members(program=as_name),
        "guards": pt2_files.members(
            program=pt2_files.changed(("guards_code",), [f"open({str(path)!r}, 'w')"])
        ),
    }


@pytest.mark.parametrize(
    "kind", ["sample inputs", "weight", "object", "expression", "name", "guards"]
)
def test_no_trap_springs(kind, tmp_path):
    sprung = tmp_path / "sprung"
    data = pt2_files.packed(traps(sprung)[kind])
    with contextlib.suppress(ValueError):
        checked_program(data).module()(torch.zeros(2, 8))
    assert not sprung.exists()


@pytest.mark.parametrize("kind", ["sample inputs", "expression"])
def test_the_traps_are_real(kind, tmp_path):
    """What the checks keep away would happen in torch's own loader."""
    sprung = tmp_path / "sprung"
    data = pt2_files.packed(traps(sprung)[kind])
    with contextlib.suppress(Exception):  # whatever it says, the file is there
        torch.export.load(io.BytesIO(data))
    assert sprung.exists()


class Counter(nn.Module):
    """Answers with how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x * self.calls


class Draws(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Reads(nn.Module):
    def forward(self, x):
        return x.sum(dim=1, keepdim=True).add_(1) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Counter(), r"changes b_calls by torch\.ops\.aten\.add_"),
        (Draws(), r"operator torch\.ops\.aten\.randn_like"),
        (Reads(), "cannot export"),
    ],
)
def test_a_module_that_is_no_frozen_encoder_is_refused_in_words(module, said):
    with pytest.raises(ValueError, match=said):
        exported(module, torch.zeros(2, 8))
