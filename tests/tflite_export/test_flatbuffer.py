import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.errors import ExportRefused
from tflite_export.flatbuffer import (
    embed_card,
    float_weights,
    operators,
    read_card,
    require_builtins,
)
from tflite_export.interpreter import TfliteModel

X = np.array([[-1.5, 0.1, 0.2, 0.3]], dtype=np.float32)


def test_operators_are_counted_by_name(make_file):
    assert require_builtins(make_file()) == {"ADD": 1, "RELU": 1}


def test_a_flex_operator_is_refused_by_name(make_file):
    content = make_file(custom_operator="FlexErf")
    assert operators(content) == {"ADD": 1, "custom:FlexErf": 1}
    with pytest.raises(ExportRefused, match=r"operators: .* needs custom:FlexErf"):
        require_builtins(content)


@settings(max_examples=25, deadline=None)
@given(
    card=st.dictionaries(
        st.text(max_size=20),
        st.integers() | st.text() | st.lists(st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_any_card_reads_back_and_leaves_outputs_and_alignment_alone(make_file, card):
    content = embed_card(make_file(), card)
    assert read_card(content) == card
    np.testing.assert_array_equal(
        TfliteModel(content).run("add", x=X)["y"], TfliteModel(make_file()).run("add", x=X)["y"]
    )
    model = schema.Model.GetRootAs(content, 0)
    for index in range(model.BuffersLength()):
        table = model.Buffers(index)._tab
        if place := table.Offset(4):
            assert table.Vector(place) % 16 == 0, "the schema asks buffers to be 16-byte aligned"


def test_a_second_card_replaces_the_first(make_file):
    content = embed_card(embed_card(make_file(), {"version": 1}), {"version": 2})
    assert read_card(content) == {"version": 2}
    names = [
        entry.name for entry in schema.ModelT.InitFromObj(schema.Model.GetRootAs(content)).metadata
    ]
    assert len(names) == 1


def test_a_file_without_a_card_is_refused(make_file):
    with pytest.raises(ExportRefused, match="card: the file has no metadata entry"):
        read_card(make_file())


def test_a_card_with_nan_is_not_written(make_file):
    with pytest.raises(ValueError, match="not JSON compliant"):
        embed_card(make_file(), {"epsilon": float("nan")})


def test_the_card_for_people_stands_beside_the_card_for_programs(make_file):
    content = embed_card(make_file(), {"version": 1}, "# A card")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    texts = {entry.name: bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert texts[b"fedspeech_card.md"] == b"# A card"
    assert read_card(embed_card(content, {"version": 2})) == {"version": 2}


def test_what_is_stored_twice_is_written_once(make_file):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(make_file()))
    once = embed_card(make_file(), {})
    big = np.arange(4_000, dtype=np.uint8)
    model.buffers += [schema.BufferT(data=big), schema.BufferT(data=big.copy())]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    twice = embed_card(bytes(builder.Output()), {})
    assert 4_000 < len(twice) - len(once) < 4_200
    found = schema.ModelT.InitFromObj(schema.Model.GetRootAs(twice))
    for buffer in found.buffers[-3:-1]:
        np.testing.assert_array_equal(buffer.data, big)


@pytest.mark.parametrize(("inputs", "counted"), [("INT8", 0), ("FLOAT32", 24)])
def test_weights_count_as_float_where_their_input_is(inputs, counted):
    def tensor(kind, *shape):
        return schema.TensorT(shape=list(shape), type=getattr(schema.TensorType, kind), buffer=0)

    graph = schema.SubGraphT(
        tensors=[tensor(inputs, 1, 4), tensor("INT8", 6, 4), tensor(inputs, 1, 6)],
        inputs=[0],
        outputs=[2],
        operators=[schema.OperatorT(opcodeIndex=0, inputs=[0, 1], outputs=[2])],
    )
    code = schema.BuiltinOperator.FULLY_CONNECTED
    model = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code)],
        subgraphs=[graph],
        buffers=[schema.BufferT()],
    )
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    assert float_weights(bytes(builder.Output())) == counted
