"""A `.tflite` file by hand: one fully connected layer; and ways to make it evil.

LiteRT is an extra: a test that calls this skips where it is not installed.
"""

import numpy as np


def dense(weight, bias, *, code=None, custom=None, variable=False):
    """Bytes of x (1, n) to x @ weight.T + bias; `code`: another operator in its place."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    outputs, inputs = weight.shape
    operator = schema.BuiltinOperator.FULLY_CONNECTED if code is None else code
    buffers = [
        schema.BufferT(data=None if array is None else np.frombuffer(array.tobytes(), np.uint8))
        for array in (None, weight.astype(np.float32), bias.astype(np.float32))
    ]

    def tensor(name, shape, buffer=0):
        return schema.TensorT(
            name=name, shape=shape, buffer=buffer, type=schema.TensorType.FLOAT32,
            isVariable=variable and name == "x",
        )  # fmt: skip

    graph = schema.SubGraphT(
        tensors=[
            tensor("x", [1, inputs]), tensor("w", [outputs, inputs], 1), tensor("b", [outputs], 2),
            tensor("y", [1, outputs]),
        ],
        inputs=[0],
        outputs=[3],
        operators=[
            schema.OperatorT(
                opcodeIndex=0, inputs=[0, 1, 2], outputs=[3],
                builtinOptionsType=schema.BuiltinOptions.FullyConnectedOptions,
                builtinOptions=schema.FullyConnectedOptionsT(),
            )
        ],
    )  # fmt: skip
    if custom is not None:
        operator = schema.BuiltinOperator.CUSTOM
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(
                builtinCode=operator, deprecatedBuiltinCode=min(operator, 127),
                customCode=custom, version=1,
            )
        ],
        subgraphs=[graph],
        buffers=buffers,
    )  # fmt: skip
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def small(samples=1_600, features=3):
    """A file that answers one vector of a waveform."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(features, samples)).astype(np.float32) / samples
    return dense(weight, np.arange(1, features + 1, dtype=np.float32)), weight
