import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.errors import ExportRefused
from tflite_export.flatbuffer import embed_card, operators, read_card, require_builtins
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
