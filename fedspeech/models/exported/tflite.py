"""A `.tflite` file as a frozen network: checked, then run by LiteRT row by row, on one thread.

network = TfliteNetwork(Path("encoder.tflite").read_bytes())
frames = network(torch.zeros(3, 76, 32))        # (3, 1, 96)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.extras import importing
from fedspeech.models.exported.litert import operator_name, without_banner

MAX_BYTES = 512 * 1024 * 1024
_IDENTIFIER = b"TFL3"
_STATEFUL = frozenset(
    """ASSIGN_VARIABLE CALL_ONCE HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE
    MULTINOMIAL RANDOM_STANDARD_NORMAL RANDOM_UNIFORM READ_VARIABLE VAR_HANDLE""".split()  # noqa: SIM905
)


def check_tflite(content: bytes) -> None:
    """Refuses a file that is no pure network of TFLite's own operators.

    Raises:
      MissingExtra: if LiteRT is not installed.
      ValueError: if the bytes are damaged, an operator is custom (Flex included), keeps state or
        draws random numbers; the message names the operator.
    """
    with importing("tflite"):
        from ai_edge_litert import schema_py_generated as schema

    if len(content) > MAX_BYTES or content[4:8] != _IDENTIFIER:
        raise ValueError(
            f"a .tflite file begins with {_IDENTIFIER.decode()} at byte 4 and has at most "
            f"{MAX_BYTES} bytes, got {content[4:8]!r} and {len(content)}"
        )
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        graphs = model.subgraphs
        used = {operator.opcodeIndex for graph in graphs for operator in graph.operators}
        names = [operator_name(schema, model.operatorCodes[index]) for index in sorted(used)]
        variables = [tensor.name for tensor in graphs[0].tensors if tensor.isVariable]
    except Exception as error:  # flatbuffers' Python raises whatever a wrong offset leads to
        raise ValueError(f"not a whole .tflite file: {error!r}") from error
    custom = [name for name in names if name.startswith("custom:")]
    if custom:
        raise ValueError(
            f"an encoder may use TFLite's builtin operators only, got {', '.join(custom)}"
        )
    stateful = [name for name in names if name in _STATEFUL]
    if stateful or variables:
        raise ValueError(
            "an encoder must keep no state between calls and draw no random numbers, this file "
            f"has {', '.join(stateful) or f'{len(variables)} variable tensors'}"
        )
    if len(graphs) != 1:
        raise ValueError(f"an encoder is one graph, this file has {len(graphs)}")


class TfliteNetwork:
    """A loaded file with one input and one output, both float32.

    Attributes:
      content: the file's bytes.
      input_shape: as in the file, with the batch dimension.

    Raises:
      MissingExtra: if LiteRT is not installed.
      ValueError: if the file is refused or LiteRT cannot read it.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        check_tflite(content)
        try:
            with without_banner():
                self._interpreter = Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"LiteRT cannot read this file: {error}") from error
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        kinds = [detail["dtype"] for detail in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or kinds != [np.float32, np.float32]:
            raise ValueError(
                "an encoder has one input and one output of float32, got "
                f"{len(inputs)} and {len(outputs)} of {sorted(kind.__name__ for kind in kinds)}"
            )
        self.content = content
        self.input_shape = tuple(int(size) for size in inputs[0]["shape"])
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        self._given: tuple[int, ...] = self.input_shape

    def __call__(self, rows: Tensor) -> Tensor:
        """Runs the network once for each row (n, ...); axes of length 1 are added as it asks.

        Row by row, so that no answer depends on the others. A longer axis than the file states is
        handed over as it is: a convolutional network then answers more frames.

        Raises:
          ValueError: if the network takes no such input.
        """
        _, *shape = self.row_shape(tuple(rows.shape))
        values = rows.detach().numpy().astype(np.float32, copy=False).reshape(-1, *shape)
        return torch.from_numpy(
            np.concatenate([self._run(values[i : i + 1]) for i in range(len(values))])
        )

    def row_shape(self, rows: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one row of rows (n, ...), with axes of length 1 where the network has them.

        Raises:
          ValueError: if the network takes no such input.
        """
        asked, row = self.input_shape[1:], rows[1:]
        missing = len(asked) - len(row)
        for places in ((), (0,), (len(asked) - 1,)):
            if len(places) == missing and all(asked[place] == 1 for place in places):
                filled = list(row)
                for place in places:
                    filled.insert(place, 1)
                return (1, *filled)
        raise ValueError(f"the network takes {('n', *asked)}, got {('n', *row)}")

    def _run(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            if row.shape != self._given:
                self._interpreter.resize_tensor_input(self._input, row.shape)
                self._interpreter.allocate_tensors()
                self._given = row.shape
            self._interpreter.set_tensor(self._input, row)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            self._given = ()  # what it was resized to stays, whatever came after
            raise ValueError(
                f"the network takes {self.input_shape}, and not {row.shape}: {error}"
            ) from error
        output: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        # A longer row may pass as several: a fully connected layer takes it so without a word.
        if len(output) != 1:
            raise ValueError(
                f"the network takes {self.input_shape}, and of {row.shape} it makes "
                f"{len(output)} rows"
            )
        return output
