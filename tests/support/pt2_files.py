"""A `.pt2` file by hand: x, times two, through a convolution's weight; and ways to make it evil.

Torch's exporter takes seconds to import; what checks a file needs only its parts.
"""

import copy
import io
import json
import zipfile

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
BATCH = {"expr_str": "Symbol('s77', positive=True, integer=True)", "hint": {"as_int": 2}}


def meta(*sizes, dtype=7):
    """Metadata of a dense tensor; a size of None is the batch dimension."""
    strides, step = [], 1
    for size in reversed(sizes):
        strides.insert(0, {"as_int": step})
        step *= size or 1
    return {
        "dtype": dtype,
        "sizes": [{"as_expr": dict(BATCH)} if size is None else {"as_int": size} for size in sizes],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": strides,
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }


def node(target, *arguments, name, output=None):
    """A node; arguments are pairs of a name in the operator's schema and a value."""
    return {
        "target": target,
        "inputs": [{"name": key, "arg": value, "kind": 1} for key, value in arguments],
        "outputs": [output or {"as_tensor": {"name": name}}],
        "metadata": {"stack_trace": "somebody's source"},
        "is_hop_single_tensor_return": None,
        "name": name,
    }


def tensor(name):
    """An argument that is a tensor."""
    return {"as_tensor": {"name": name}}


def graph():
    """x (n, 8) to relu(x @ w.T), (n, 4), as torch.export writes it."""
    leaf = '{"type": null, "context": null, "children_spec": []}'
    spec = {
        "inputs": [], "outputs": [], "in_spec": f"[1, {leaf}]", "out_spec": f"[1, {leaf}]",
        "forward_arg_names": ["x"],
    }  # fmt: skip
    nodes = [
        node(
            "torch.ops.aten.linear.default",
            ("input", tensor("x")), ("weight", tensor("p_w")), name="linear",
        ),
        node("torch.ops.aten.relu.default", ("self", tensor("linear")), name="relu"),
    ]  # fmt: skip
    return {
        "graph_module": {
            "graph": {
                "inputs": [tensor("p_w"), tensor("x")],
                "outputs": [tensor("relu")],
                "nodes": nodes,
                "tensor_values": {
                    "p_w": meta(4, 8), "x": meta(None, 8), "linear": meta(None, 4),
                    "relu": meta(None, 4),
                },
                "sym_int_values": {}, "sym_bool_values": {}, "is_single_tensor_return": False,
                "custom_obj_values": {}, "sym_float_values": {},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "blocks.0.w"}},
                    {"user_input": {"arg": tensor("x")}},
                ],
                "output_specs": [{"user_output": {"arg": tensor("relu")}}],
            },
            "module_call_graph": [{"fqn": "", "signature": spec}],
            "metadata": {}, "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {"s77": {"min_val": 1, "max_val": None}},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"], "torch_version": "2.13.0+cpu", "guards_code": [],
    }  # fmt: skip


def changed(place, value):
    """The graph with one place of it replaced: a path of keys and positions."""
    program = copy.deepcopy(graph())
    *way, last = place
    inner = program
    for step in way:
        inner = inner[step]
    inner[last] = value
    return program


def weights(**entry):
    """The table of weights, with fields of its one entry replaced."""
    one = {"path_name": "weight_0", "is_param": True, "use_pickle": False,
           "tensor_meta": meta(4, 8)}  # fmt: skip
    return {"config": {"blocks.0.w": one | entry}}


def members(values=bytes(4 * 32), *, program=None, table=None):
    """Members of a whole file, by place."""
    return {
        "data/weights/weight_0": values,
        WEIGHTS: json.dumps(table or weights()).encode(),
        CONSTANTS: b'{"config": {}}',
        MODEL: json.dumps(program or graph()).encode(),
        "data/sample_inputs/model.pt": b"a pickle that nobody opens",
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6\n",
        "byteorder": b"little",
    }


def packed(parts, compression=zipfile.ZIP_STORED, folder="archive"):
    """The zip archive of members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for place, content in parts.items():
            archive.writestr(f"{folder}/{place}" if folder else place, content)
    return buffer.getvalue()
