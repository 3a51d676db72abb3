"""Checks the graph of a `.pt2` file and writes it again from its checked parts.

Torch's loader gives strings of the graph to Python: node names become program text, expressions of
sizes and guards are evaluated, operators are looked up by attribute. So every string that comes
through here is a plain name, an operator of a closed list or an expression of a closed grammar, and
whatever else a file says (guards, metadata, traces of the exporter's source) is left out.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedspeech.models.exported.operators import INTEGERS, MUST_BE_OFF, OPERATORS, SHARING

Json = dict[str, Any]

MAX_NODES = 20_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PLACE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+){0,31}")
_TEXT = re.compile(r"[A-Za-z0-9_ ,.>()-]{0,200}")
_SYMBOL = r"Symbol\('[su][0-9]{1,9}'(, (positive|nonnegative|integer)=True){0,3}\)"
_SIZE = re.compile(
    rf"({_SYMBOL}|Integer\(-?[0-9]{{1,18}}\)|(Mul|Add|FloorDiv|Mod|PythonMod|Max|Min)\(|\)|, )+"
)
_ATEN = re.compile(r"torch\.ops\.aten\.([A-Za-z0-9_]+)\.([A-Za-z0-9_]+)")
_INTEGER = re.compile(r"_operator\.([a-z]+)")
_TREE = '{"type": null, "context": null, "children_spec": []}'
_IN_SPEC = (
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": '
    f'"builtins.tuple", "context": "null", "children_spec": [{_TREE}]}}, '
    '{"type": "builtins.dict", "context": "[]", "children_spec": []}]}]'
)
_OUT_SPEC = f"[1, {_TREE}]"

# Numbers of `torch._export.serde.schema.ScalarType`, and their bytes.
ELEMENT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
_COMPLEX = {10: 8, 11: 16}
_FLOAT = 7
_STRIDED = 7


def checked_graph(text: bytes) -> Json:
    """Returns the program of `models/model.json`, made of what was checked and nothing else.

    Raises:
      ValueError: naming what is not allowed: an operator, a name, an argument, a second input, a
        state that calls change.
    """
    try:
        return _program(json.loads(text))
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"a graph must follow torch's schema: {error!r}") from error


def checked_payload(text: bytes, members: Mapping[str, bytes], folder: str, prefix: str) -> Json:
    """Returns the table of weights or constants: raw numbers, in bounds, of members that exist.

    Raises:
      ValueError: if an entry is a pickle, lies outside its member, or has a name that is no name.
    """
    try:
        config = json.loads(text)["config"]
        entries = {
            _place(name): _payload(entry, members, folder, prefix) for name, entry in config.items()
        }
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"a table of tensors must follow torch's schema: {error!r}") from error
    return {"config": entries}


def _payload(entry: Json, members: Mapping[str, bytes], folder: str, prefix: str) -> Json:
    name = entry["path_name"]
    if entry["use_pickle"] or not re.fullmatch(rf"{prefix}_[0-9]{{1,6}}", name):
        raise ValueError(
            f"weights and constants must be plain tensors, got a pickled object in {name!r}"
        )
    meta = _tensor_meta(entry["tensor_meta"])
    content = members.get(f"{folder}{name}")
    if content is None:
        raise ValueError(f"every tensor needs its member, {folder}{name} is not in the file")
    sizes, strides = _integers(meta["sizes"]), _integers(meta["strides"])
    offset = _integers([meta["storage_offset"]])[0]
    width = ELEMENT_BYTES.get(meta["dtype"])
    if width is None or len(content) % width or len(sizes) != len(strides):
        raise ValueError(f"{folder}{name} must hold whole numbers of a real type")
    if math.prod(sizes):
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if (last + 1) * width > len(content):
            raise ValueError(
                f"a tensor must lie within its member, {folder}{name} has {len(content)} bytes "
                f"and the tensor reaches {(last + 1) * width}"
            )
    return {
        "path_name": name,
        "is_param": bool(entry["is_param"]),
        "use_pickle": False,
        "tensor_meta": meta,
    }


def _integers(sizes: list[Json]) -> list[int]:
    """Sizes that are numbers, not expressions."""
    values = [size["as_int"] for size in sizes]
    if any(value < 0 for value in values):
        raise ValueError(f"sizes, strides and offsets must not be negative, got {values}")
    return values


def _program(program: Json) -> Json:
    module = program["graph_module"]
    inputs, user = _input_specs(module["signature"]["input_specs"])
    outputs = _output_specs(module["signature"]["output_specs"])
    signature = {
        "inputs": [],
        "outputs": [],
        "in_spec": _IN_SPEC,
        "out_spec": _OUT_SPEC,
        "forward_arg_names": [user],
    }
    version = program["schema_version"]
    return {
        "graph_module": {
            "graph": _graph(module["graph"]),
            "signature": {"input_specs": inputs, "output_specs": outputs},
            "module_call_graph": [{"fqn": "", "signature": signature}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": _integer(program["opset_version"]["aten"])},
        "range_constraints": {
            _name(symbol): {
                bound: None if limits[bound] is None else _integer(limits[bound])
                for bound in ("min_val", "max_val")
            }
            for symbol, limits in program["range_constraints"].items()
        },
        "schema_version": {part: _integer(version[part]) for part in ("major", "minor")},
        "verifiers": ["TRAINING"],
        "torch_version": _text(program["torch_version"].replace("+", ".")),
        # Torch compiles these as Python.
        "guards_code": [],
    }


def _input_specs(specs: list[Json]) -> tuple[list[Json], str]:
    """The inputs of the graph, and the name of the one that is not a weight."""
    kept, users = [], []
    for spec in specs:
        (kind, value), *more = spec.items()
        if more:
            raise ValueError(f"an input has one kind, got {sorted(spec)}")
        if kind == "user_input" and set(value["arg"]) == {"as_tensor"}:
            users.append(_name(value["arg"]["as_tensor"]["name"]))
            kept.append({kind: {"arg": {"as_tensor": {"name": users[-1]}}}})
            continue
        named = {
            "parameter": "parameter_name",
            "buffer": "buffer_name",
            "tensor_constant": "tensor_constant_name",
        }
        if kind not in named:
            raise ValueError(f"an encoder takes one tensor and nothing else, got a {kind}")
        entry: Json = {"arg": {"name": _name(value["arg"]["name"])}}
        entry[named[kind]] = _place(value[named[kind]])
        if kind == "buffer":
            entry["persistent"] = bool(value["persistent"])
        kept.append({kind: entry})
    if len(users) != 1:
        raise ValueError(f"an encoder takes one tensor, got the inputs {users}")
    return kept, users[0]


def _output_specs(specs: list[Json]) -> list[Json]:
    for spec in specs:
        if set(spec) != {"user_output"}:
            raise ValueError(
                "an encoder must keep no state between calls, this program changes one of its own "
                f"tensors or inputs ({', '.join(spec)})"
            )
    if len(specs) != 1 or set(specs[0]["user_output"]["arg"]) != {"as_tensor"}:
        raise ValueError(f"an encoder returns one tensor, got {len(specs)} outputs")
    name = _name(specs[0]["user_output"]["arg"]["as_tensor"]["name"])
    return [{"user_output": {"arg": {"as_tensor": {"name": name}}}}]


def _graph(graph: Json) -> Json:
    if len(graph["nodes"]) > MAX_NODES:
        raise ValueError(f"a graph may have {MAX_NODES} nodes, got {len(graph['nodes'])}")
    if graph["custom_obj_values"]:
        raise ValueError(f"an encoder holds no objects, got {sorted(graph['custom_obj_values'])}")
    inputs = [_argument(value, ("as_tensor",)) for value in graph["inputs"]]
    nodes = [_node(node) for node in graph["nodes"]]
    _check_changes(nodes, {value["as_tensor"]["name"] for value in inputs})
    return {
        "inputs": inputs,
        "outputs": [_argument(value, ("as_tensor",)) for value in graph["outputs"]],
        "nodes": nodes,
        "tensor_values": {
            _name(name): _tensor_meta(meta) for name, meta in graph["tensor_values"].items()
        },
        "sym_int_values": {
            _name(name): _size(size) for name, size in graph["sym_int_values"].items()
        },
        "sym_bool_values": {},
        "is_single_tensor_return": bool(graph["is_single_tensor_return"]),
        "custom_obj_values": {},
        "sym_float_values": {},
    }


def _node(node: Json) -> Json:
    target = _target(node["target"])
    inputs: list[Json] = [
        {
            "name": _name(value["name"]) if value["name"] else "",
            "arg": _argument(value["arg"], tuple(_ARGUMENTS)),
            "kind": None if value.get("kind") is None else _integer(value["kind"]),
        }
        for value in node["inputs"]
    ]
    for value in inputs:
        on = value["name"] in MUST_BE_OFF and next(iter(value["arg"].values()))
        if on:
            raise ValueError(
                f"an encoder must neither learn nor draw: {target} has {value['name']}={on}; call "
                "module.eval() before torch.export"
            )
    name = node.get("name")
    return {
        "target": target,
        "inputs": inputs,
        "outputs": [_argument(value, _OUTPUTS) for value in node["outputs"]],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": None if name is None else _name(name),
    }


def _target(target: str) -> str:
    """The name of an operator that may be used."""
    if match := _INTEGER.fullmatch(target):
        if match[1] in INTEGERS:
            return target
    elif match := _ATEN.fullmatch(target):
        name, overload = match.groups()
        known = getattr(getattr(torch.ops.aten, name, None), overload, None)
        schema = getattr(known, "_schema", None)
        plain = name.removesuffix("_") if schema is not None and schema.is_mutable else name
        changes_input = name.endswith("_") or not (schema is not None and schema.is_mutable)
        if schema is not None and plain in OPERATORS and changes_input:
            return target
    raise ValueError(
        f"operator {target} is not among those that an encoder may use "
        "(fedspeech/models/exported/operators.py lists them: pure, deterministic, on tensors alone)"
    )


def _check_changes(nodes: list[Json], inputs: set[str]) -> None:
    """Refuses an operator that changes its input where that input is, or may be, the program's."""
    # By name of a value, whether it may share memory with an input or a weight of the program.
    shared = set(inputs)
    for node in nodes:
        first: Json = node["inputs"][0]["arg"] if node["inputs"] else {}
        given = first.get("as_tensor", {}).get("name")
        kept = (value.get("as_tensor", {}).get("name") for value in node["outputs"])
        if given not in shared:
            continue
        name = node["target"].split(".")[-2]
        if name.endswith("_"):
            raise ValueError(
                "an encoder must keep no state between calls and leave its input alone, this "
                f"program changes {given} by {node['target']}"
            )
        if name in SHARING:
            shared.update(value for value in kept if value is not None)


def _argument(argument: Json, allowed: tuple[str, ...]) -> Json:
    (kind, value), *more = argument.items()
    if more or kind not in allowed:
        raise ValueError(f"a node of an encoder takes numbers and tensors, got {sorted(argument)}")
    return {kind: _ARGUMENTS[kind](value)}


def _name(name: str) -> str:
    """A name that becomes part of a program."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or "__" in (name[:2], name[-2:]):
        raise ValueError(f"names in a graph must be plain identifiers, got {name[:80]!r}")
    return name


def _place(name: str) -> str:
    """The dotted name of a weight."""
    if not _PLACE.fullmatch(name) or any(
        part.startswith("__") or keyword.iskeyword(part) for part in name.split(".")
    ):
        raise ValueError(f"names of weights must be dotted identifiers, got {name[:80]!r}")
    return name


def _text(text: str) -> str:
    """A mode or an equation, such as "reflect" or "bij,bjk->bik"."""
    if not _TEXT.fullmatch(text):
        raise ValueError(f"strings in a graph must be plain, got {text[:80]!r}")
    return text


def _integer(value: int) -> int:
    if not isinstance(value, int) or abs(value) >= 2**63:
        raise ValueError(f"expected a whole number of 64 bits, got {value!r}")
    return value


def _number(value: float | str) -> float | str:
    """Torch writes what JSON has no number for as a word."""
    if value in ("Infinity", "-Infinity", "NaN") or isinstance(value, (int, float)):
        return value
    raise ValueError(f"expected a number, got {value!r}")


def _size(size: Json) -> Json:
    """A size: a number, or an expression of the batch dimension."""
    if set(size) == {"as_int"}:
        return {"as_int": _integer(size["as_int"])}
    expression, hint = size["as_expr"]["expr_str"], size["as_expr"].get("hint")
    if set(size) != {"as_expr"} or not _SIZE.fullmatch(expression):
        raise ValueError(f"sizes must be sums and products of integers, got {expression[:80]!r}")
    kept = None if hint is None else {"as_int": _integer(hint["as_int"])}
    return {"as_expr": {"expr_str": expression, "hint": kept}}


def _named_size(size: Json) -> Json:
    """A size that a node is given: a number, or what another node computed."""
    (kind, value), *more = size.items()
    if more or kind not in ("as_int", "as_name"):
        raise ValueError(f"expected a size, got {sorted(size)}")
    return {kind: _integer(value) if kind == "as_int" else _name(value)}


def _tensor(tensor: Json) -> Json:
    return {"name": _name(tensor["name"])}


def _optional(tensor: Json) -> Json:
    if set(tensor) == {"as_none"}:
        return {"as_none": True}
    return {"as_tensor": _tensor(tensor["as_tensor"])}


def _device(device: Json) -> Json:
    if device["type"] != "cpu":
        raise ValueError(f"an encoder must be exported on the CPU, got {device['type']!r}")
    return {"type": "cpu", "index": None}


def _tensor_meta(meta: Json) -> Json:
    if meta["dtype"] not in ELEMENT_BYTES | _COMPLEX or meta["layout"] != _STRIDED:
        raise ValueError(
            f"tensors must be dense and of a plain type, got dtype {meta['dtype']}, "
            f"layout {meta['layout']}"
        )
    return {
        "dtype": meta["dtype"],
        "sizes": [_size(size) for size in meta["sizes"]],
        "requires_grad": bool(meta["requires_grad"]),
        "device": _device(meta["device"]),
        "strides": [_size(size) for size in meta["strides"]],
        "storage_offset": _size(meta["storage_offset"]),
        "layout": _STRIDED,
    }


def _each(check: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    """Checks every item of a list."""
    return lambda values: [check(value) for value in values]


_ARGUMENTS: Mapping[str, Callable[[Any], Any]] = {
    "as_none": lambda _: True,
    "as_tensor": _tensor,
    "as_tensors": _each(_tensor),
    "as_optional_tensor": _optional,
    "as_optional_tensors": _each(_optional),
    "as_int": _integer,
    "as_ints": _each(_integer),
    "as_float": _number,
    "as_floats": _each(_number),
    "as_bool": bool,
    "as_bools": _each(bool),
    "as_string": _text,
    "as_sym_int": _named_size,
    "as_sym_ints": _each(_named_size),
    "as_scalar_type": _integer,
    "as_memory_format": _integer,
    "as_layout": _integer,
    "as_device": _device,
}
_OUTPUTS = ("as_none", "as_tensor", "as_tensors", "as_sym_int")
