"""Named tensors and the flat vector say the same thing, or nothing is said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.vectors import Delta, ParameterSpec

SHAPES = st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), max_size=4)
SPEC = ParameterSpec((("weight", (2, 3)), ("bias", (3,)), ("scale", ())))


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_flatten_and_unflatten_undo_each_other(shapes, seed):
    spec = ParameterSpec(tuple((f"p{number}", shape) for number, shape in enumerate(shapes)))
    vector = np.random.default_rng(seed).normal(size=spec.size).astype(np.float32)
    tensors = spec.unflatten(vector)
    assert [tensors[name].shape for name, _ in spec.shapes] == shapes
    np.testing.assert_array_equal(spec.flatten(tensors), vector)


def test_parameters_lie_in_the_order_of_the_spec_not_of_the_dictionary():
    tensors = {"scale": np.array(9.0), "bias": np.full(3, 2.0), "weight": np.full((2, 3), 1.0)}
    np.testing.assert_array_equal(SPEC.flatten(tensors), [1, 1, 1, 1, 1, 1, 2, 2, 2, 9])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": np.zeros((2, 3))}, "expected parameters"),
        (
            {"weight": np.zeros((3, 2)), "bias": np.zeros(3), "scale": np.zeros(())},
            r"expected weight of shape \(2, 3\), got \(3, 2\)",
        ),
    ],
)
def test_other_names_or_shapes_are_refused(tensors, words):
    with pytest.raises(ValueError, match=words):
        SPEC.flatten(tensors)


@pytest.mark.parametrize("length", [9, 11])
def test_a_vector_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match=r"shape \(10,\), got"):
        SPEC.unflatten(np.zeros(length, np.float32))


def test_names_repeat_never_and_dimensions_are_positive():
    with pytest.raises(ValueError, match="unique"):
        ParameterSpec((("a", (1,)), ("a", (2,))))
    with pytest.raises(ValueError, match="positive, got a of shape"):
        ParameterSpec((("a", (0,)),))


def test_the_fingerprint_knows_every_layout_apart():
    layouts = [
        (("a", (2, 3)),), (("a", (3, 2)),), (("a", (6,)),), (("b", (2, 3)),),
        (("a", (2,)), ("b", (3,))), (("b", (3,)), ("a", (2,))),
    ]  # fmt: skip
    assert len({ParameterSpec(layout).fingerprint for layout in layouts}) == len(layouts)
    assert ParameterSpec(layouts[0]).fingerprint == ParameterSpec(layouts[0]).fingerprint


def test_a_printed_delta_shows_no_value():
    assert repr(Delta(np.array([0.123], np.float32))) == "Delta(shape=(1,))"
