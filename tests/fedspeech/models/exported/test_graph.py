import json

import pt2_files
import pytest
from pt2_files import changed, tensor

from fedspeech.models.exported.graph import checked_graph, checked_payload

GRAPH = ("graph_module", "graph")
NODES = (*GRAPH, "nodes")


def check(program):
    return checked_graph(json.dumps(program).encode())


def test_a_checked_graph_says_the_same_and_drops_what_a_reader_could_run():
    program = pt2_files.graph()
    program["guards_code"] = ["__import__('os').system('true')"]
    program["verifiers"] = ["SOMEBODY"]
    kept = check(program)
    assert kept["guards_code"] == []
    assert kept["verifiers"] == ["TRAINING"]
    nodes, before = kept["graph_module"]["graph"]["nodes"], pt2_files.graph()
    assert [one["target"] for one in nodes] == [
        "torch.ops.aten.linear.default", "torch.ops.aten.relu.default",
    ]  # fmt: skip
    assert "somebody's source" not in json.dumps(kept)
    values = kept["graph_module"]["graph"]["tensor_values"]
    assert values == before["graph_module"]["graph"]["tensor_values"]


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",  # reads files
        "torch.ops.aten.randn.default",  # draws
        "torch.ops.aten.empty.memory_format",  # answers old memory
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten._index_put_impl_.default",  # unchecked writes
        "torch.ops.aten.add.out",  # changes an argument
        "torch.ops.aten.linear.nonsense",
        "torch.ops.mine.layer.default",
        "torch.ops.higher_order.cond",
        "torch.load",
        "torch.hub.load",
        "torch.utils.cpp_extension.load_inline",
        "_operator.call",
        "_operator.attrgetter",
        "math.floor",
        "#mine:layer",
        "os.system",
        "torch.ops.aten.relu.default\nimport os",
    ],
)
def test_an_operator_outside_the_list_is_refused_by_name(target):
    with pytest.raises(ValueError, match="not among those") as told:
        check(changed((*NODES, 1, "target"), target))
    assert target in str(told.value)


@pytest.mark.parametrize(
    "name", ["x): import os; (", "a b", "for", "__class__", "", "a.b", "é", "x" * 500, "x\n"]
)
def test_a_name_that_would_become_other_program_text_is_refused(name):
    with pytest.raises(ValueError, match="plain identifiers"):
        check(changed((*NODES, 1, "name"), name))


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "Symbol('s77').__class__",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "9**9**9",
        "Symbol('s77', positive=True, integer=True) or exit()",
        "Integer(" + "9" * 5000 + ")",
        "lambda: 0",
    ],
)
def test_an_expression_that_torch_would_evaluate_is_refused(expression):
    size = {"as_expr": {"expr_str": expression, "hint": None}}
    with pytest.raises(ValueError, match="sums and products of integers"):
        check(changed((*GRAPH, "tensor_values", "x", "sizes", 0), size))


def test_a_product_of_the_batch_dimension_is_a_size():
    product = "Mul(Integer(2), Symbol('s77', positive=True, integer=True))"
    size = {"as_expr": {"expr_str": product, "hint": {"as_int": 4}}}
    check(changed((*GRAPH, "tensor_values", "relu", "sizes", 0), size))


@pytest.mark.parametrize(
    "argument",
    [
        {"as_graph": {"name": "inner", "graph": {}}},
        {"as_custom_obj": {"name": "o", "class_fqn": "torch.classes.mine.Thing"}},
        {"as_operator": "torch.load"},
        {"as_string": "x'; import os"},
        {"as_device": {"type": "cuda", "index": 0}},
        {"as_int": 2**70},
        {"as_tensor": {"name": "linear"}, "as_int": 1},
    ],
)
def test_an_argument_that_is_no_number_or_tensor_is_refused(argument):
    with pytest.raises(ValueError, match=r"expected|takes numbers|plain|on the CPU"):
        check(changed((*NODES, 1, "inputs", 0, "arg"), argument))


def test_a_program_that_changes_its_own_tensors_is_refused():
    mutation = {"buffer_mutation": {"arg": {"name": "relu"}, "buffer_name": "state"}}
    specs = [mutation, {"user_output": {"arg": tensor("relu")}}]
    with pytest.raises(ValueError, match="no state between calls"):
        check(changed(("graph_module", "signature", "output_specs"), specs))


def test_a_value_computed_by_the_program_may_be_overwritten_and_its_input_may_not():
    program = changed((*NODES, 1, "target"), "torch.ops.aten.relu_.default")
    check(program)
    program["graph_module"]["graph"]["nodes"][1]["inputs"][0]["arg"] = tensor("x")
    with pytest.raises(ValueError, match=r"changes x by torch\.ops\.aten\.relu_\.default"):
        check(program)


def test_a_view_of_the_input_may_not_be_overwritten_either():
    program = changed((*NODES, 0, "target"), "torch.ops.aten.view.default")
    program["graph_module"]["graph"]["nodes"][1]["target"] = "torch.ops.aten.relu_.default"
    with pytest.raises(ValueError, match="changes linear"):
        check(program)


@pytest.mark.parametrize(
    "argument", [("training", {"as_bool": True}), ("dropout_p", {"as_float": 0.1})]
)
def test_a_network_in_training_mode_is_refused(argument):
    node = pt2_files.node(
        "torch.ops.aten.batch_norm.default", ("input", tensor("linear")), argument, name="relu"
    )
    with pytest.raises(ValueError, match=r"module\.eval\(\)"):
        check(changed((*NODES, 1), node))


def test_a_second_input_is_refused():
    specs = pt2_files.graph()["graph_module"]["signature"]["input_specs"]
    with pytest.raises(ValueError, match="takes one tensor"):
        check(changed(("graph_module", "signature", "input_specs"), [*specs, specs[1]]))


@pytest.mark.parametrize("text", [b"[]", b"{}", b"null", b"[" * 100_000, b"{", b"\xff", b"1"])
def test_text_that_is_no_graph_is_refused(text):
    with pytest.raises(ValueError, match=r"schema|JSON|Expecting|decode"):
        checked_graph(text)


def payload(table, content=bytes(128)):
    text = json.dumps(table).encode()
    members = {"data/weights/weight_0": content}
    return checked_payload(text, members, "data/weights/", "weight")


def test_plain_weights_pass():
    assert payload(pt2_files.weights()) == pt2_files.weights()


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ({"use_pickle": True}, "pickled object"),
        ({"path_name": "../weight_0"}, "pickled object"),
        ({"path_name": "custom_obj_0"}, "pickled object"),
        ({"path_name": "weight_1"}, "not in the file"),
        ({"tensor_meta": pt2_files.meta(4, 9)}, "within its member"),
        ({"tensor_meta": pt2_files.meta(4, 8) | {"storage_offset": {"as_int": 1}}}, "within its"),
        ({"tensor_meta": pt2_files.meta(4, 8) | {"storage_offset": {"as_int": -1}}}, "negative"),
        ({"tensor_meta": pt2_files.meta(4, 8, dtype=11)}, "real type"),
        ({"tensor_meta": pt2_files.meta(None, 8)}, "schema"),
        ({"tensor_meta": None}, "schema"),
    ],
)
def test_weights_that_are_no_plain_numbers_in_bounds_are_refused(entry, rule):
    with pytest.raises(ValueError, match=rule):
        payload(pt2_files.weights(**entry))


def test_a_weight_named_like_a_hook_of_python_is_refused():
    one = pt2_files.weights()["config"]["blocks.0.w"]
    with pytest.raises(ValueError, match="dotted identifiers"):
        payload({"config": {"blocks.__class__": one}})
