"""Bytes of a `.pt2` file to a torch.export program, checked before torch sees them, and back.

program = checked_program(Path("encoder.pt2").read_bytes())
outputs = program.module()(waveforms)       # float32, on the CPU
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspeech.models.compute import compute_device
from fedspeech.models.exported.archive import (
    CONSTANTS,
    MODEL,
    WEIGHTS,
    read_members,
    write_members,
)
from fedspeech.models.exported.graph import checked_graph, checked_payload

if TYPE_CHECKING:  # torch's exporter takes a second to import, and most runs load no such file
    from torch.export import ExportedProgram

MAX_BATCH = 4096
_FIRST_CHANGED = 500_000  # of numbers of members; torch counts from 0
_FLOAT = 7  # float32, of torch's `ScalarType` in these files


def checked_program(data: bytes) -> ExportedProgram:
    """Loads a torch.export program from the bytes of a `.pt2` file.

    Nothing of the file is unpickled, compiled or evaluated: graph, weights and constants are
    checked against closed lists, written into a new archive, and torch loads that one.

    Raises:
      ValueError: if the bytes are damaged, or hold anything but one pure graph and its numbers.
    """
    safe = checked_archive(data)
    try:
        return torch.export.load(io.BytesIO(safe))
    except Exception as error:  # torch's loader raises whatever its parts raise
        raise ValueError(f"torch {torch.__version__} cannot load this program: {error}") from error


def checked_archive(data: bytes) -> bytes:
    """Returns a `.pt2` file of what `checked_program` lets through; the same bytes each time.

    It is smaller: sample inputs and traces of the exporter's source are left out.

    Raises:
      ValueError: see `checked_program`.
    """
    members = read_members(data)
    checked = {place: content for place, content in members.items() if place.startswith("data/")}
    checked[MODEL] = _json(checked_graph(members[MODEL]))
    for place, prefix in ((WEIGHTS, "weight"), (CONSTANTS, "tensor")):
        folder = place[: place.rindex("/") + 1]
        checked[place] = _json(checked_payload(members[place], members, folder, prefix))
    return write_members(checked)


def exported(module: nn.Module, example: Tensor) -> bytes:
    """Returns the `.pt2` file of a module in evaluation mode, with a free batch dimension.

    Args:
      module: from a tensor (n, ...) to a tensor; it is put into evaluation mode.
      example: one or more inputs, shape (n, ...); only shape and type matter.

    Raises:
      ValueError: if torch cannot export it, or the program holds what an encoder may not.
    """
    if example.ndim < 2 or not len(example):
        raise ValueError(f"an example has shape (n, ...), got {tuple(example.shape)}")
    # Two rows: a single one would be taken as a batch dimension that is always 1.
    rows = example[:1].repeat(2, *[1] * (example.ndim - 1))
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    try:
        with torch.no_grad():
            program = torch.export.export(
                module.eval(), (rows.detach(),), dynamic_shapes=({0: batch},)
            )
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    except Exception as error:  # torch's exporter raises whatever the module and its parts raise
        raise ValueError(f"torch.export cannot export this module: {error}") from error
    return checked_archive(buffer.getvalue())


def with_parameters(content: bytes, changed: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Returns the `.pt2` file of the same program with other values of some of its parameters.

    Args:
      content: of a file that `checked_archive` wrote.
      changed: path of a parameter, such as "layers.2.weight", to its values.

    Raises:
      ValueError: if there is no such parameter, or it has another shape or type.
    """
    members, folder = read_members(content), WEIGHTS[: WEIGHTS.rindex("/") + 1]
    table: dict[str, Any] = json.loads(members[WEIGHTS])
    for number, (path, values) in enumerate(sorted(changed.items())):
        # A member of its own: parameters that are tied share one, and only this one changes.
        name = f"weight_{_FIRST_CHANGED + number}"
        table["config"][path] = _with_values(table["config"].get(path), path, values, name)
        members[folder + name] = np.ascontiguousarray(values).tobytes()
    members[WEIGHTS] = _json(table)
    kept = {WEIGHTS, *(folder + entry["path_name"] for entry in table["config"].values())}
    return write_members(
        {
            place: data
            for place, data in members.items()
            if place in kept or not place.startswith(folder)
        }
    )


def _with_values(
    entry: dict[str, Any] | None, path: str, values: NDArray[np.float32], name: str
) -> dict[str, Any]:
    """The entry of a parameter, with dense values in a member of that name."""
    if entry is None:
        raise ValueError(f"the program has no parameter {path!r}")
    meta = entry["tensor_meta"]
    shape = tuple(size["as_int"] for size in meta["sizes"])
    if shape != values.shape or values.dtype != np.float32 or meta["dtype"] != _FLOAT:
        raise ValueError(
            f"{path} must be float32 of shape {shape}, got {values.dtype} of {values.shape}"
        )
    strides = [{"as_int": math.prod(shape[axis + 1 :])} for axis in range(len(shape))]
    dense = meta | {"strides": strides, "storage_offset": {"as_int": 0}}
    return entry | {"path_name": name, "tensor_meta": dense}


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode()


class TorchNetwork:
    """A checked program with one input, run in blocks of whatever batch it was exported for.

    Attributes:
      content: the file's bytes.
      program: what torch loaded of them.
      input_shape: as exported; the batch dimension is None where it is free.

    Raises:
      ValueError: if the file is refused.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.program = checked_program(content)
        name = self.program.graph_signature.user_inputs[0]
        node = next(node for node in self.program.graph.nodes if node.name == name)
        value = node.meta["val"]
        if value.dtype != torch.float32:
            raise ValueError(f"an encoder takes float32, this program takes {value.dtype}")
        self.input_shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        self._modules: dict[torch.device, nn.Module] = {}

    def __call__(self, rows: Tensor) -> Tensor:
        """Runs rows (n, ...); a channel of length 1 is added where the program asks for one.

        Raises:
          ValueError: if the program takes no such input.
        """
        rows = rows.reshape(-1, *self.row_shape(tuple(rows.shape))[1:])
        size, device = self.input_shape[0], compute_device()
        module = self._module_on(device)
        missing = 0 if size is None else -len(rows) % size
        with torch.inference_mode():
            try:
                padded = torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]).to(device)
                blocks = (padded,) if size is None else torch.split(padded, size)
                answer = torch.cat([module(block) for block in blocks]).cpu()
                return answer[: len(rows)]
            except Exception as error:  # a program raises whatever its operators raise
                raise ValueError(
                    f"the program takes {self.input_shape}, and not {tuple(rows.shape)}: {error}"
                ) from error

    def row_shape(self, rows: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one row of rows (n, ...), with a channel where the program has one."""
        channel = len(self.input_shape) == len(rows) + 1 and self.input_shape[1] == 1
        return (1, 1, *rows[1:]) if channel else (1, *rows[1:])

    def _module_on(self, device: torch.device) -> nn.Module:
        """The program on a device, moved there once; its weights are constants."""
        if device not in self._modules:
            program = self.program
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                # A program of its own: the pass changes what it is given.
                program = move_to_device_pass(checked_program(self.content), str(device))
            self._modules[device] = program.module().requires_grad_(False)
        return self._modules[device]
