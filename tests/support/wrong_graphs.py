"""Runs as `tflite_export.convert` does, with the graph that WRONG_GRAPH names wrong on purpose.

monkeypatch.setenv("WRONG_GRAPH", "constant_loss")
Converter("wrong_graphs").convert(blueprint)

Every one converts, has the right signatures, and looks right to who tries it on a clip or two.
"""

import os

import tensorflow as tf

from tflite_export import convert, guards
from tflite_export.personal import PersonalGraph


def with_input(graph, signature, name, value):
    """Has one signature always take one input to be `value`."""
    right = getattr(graph, signature)
    names = right.__code__.co_varnames[1 : right.__code__.co_argcount]

    def wrong(self, *given):
        inputs = dict(zip(names, given, strict=True))
        # Still read, and still in the file: times zero.
        inputs[name] = 0 * inputs[name] + tf.constant(value, inputs[name].dtype)
        return right(self, **inputs)

    setattr(graph, signature, wrong)


def nothing():
    """Right, after all: what the others are held against."""


def train_without_present():
    with_input(PersonalGraph, "_train", "present", 1)


def train_without_proximal_mu():
    with_input(PersonalGraph, "_train", "proximal_mu", 0)


def train_dp_without_present():
    with_input(PersonalGraph, "_train_dp", "present", 1)


def train_dp_without_expected_clips():
    with_input(PersonalGraph, "_train_dp", "expected_clips", 16)


def train_dp_without_momentum():
    with_input(PersonalGraph, "_train_dp", "momentum", 0)


def train_dp_without_noise():
    with_input(PersonalGraph, "_train_dp", "noise", 0)


def with_changed_outputs(graph, signature, change):
    right = getattr(graph, signature)

    def wrong(self, *given):
        found = right(self, *given)
        return found | change(found)

    setattr(graph, signature, wrong)


def constant_loss():
    with_changed_outputs(PersonalGraph, "_train", lambda found: {"loss": 0 * found["loss"] + 1})


def restore_keeps_momentum():
    right = PersonalGraph._restore

    def wrong(self, adapter, base, checksum):
        before = self._velocity.read_value()
        found = right(self, adapter, base, checksum)
        self._velocity.assign(before)
        return found

    PersonalGraph._restore = wrong


def restore_without_checksum():
    guards.checksum = lambda adapter, size: tf.zeros([1], tf.int32)
    right = guards.acceptable
    guards.acceptable = lambda adapter, base, claimed, own, size: right(
        adapter, base, 0 * claimed, own, size
    )


def save_without_checksum():
    PersonalGraph._save = lambda self, call: {
        "adapter": self._adapter.read_value(),
        "checksum": tf.zeros([1], tf.int32),
    }


if __name__ == "__main__":
    globals()[os.environ["WRONG_GRAPH"]]()
    convert.main()
