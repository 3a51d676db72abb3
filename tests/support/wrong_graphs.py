"""Runs as `tflite_export.convert` does, with graphs that are wrong in one thing on purpose.

monkeypatch.setenv("WRONG_GRAPH", str(file))  # read anew for every graph: the name of the fault
file.write_text("constant_loss")
Converter("wrong_graphs").convert(blueprint)

Every one converts, has the right signatures, and looks right to who tries it on a clip or two. A
fault is planted in one graph, so that one process converts them all.
"""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from tflite_export import convert, guards


def with_input(graph, signature, name, value):
    """Has one signature always take one input to be `value`."""
    right = getattr(graph, signature)
    code = right.__func__.__code__
    names = code.co_varnames[1 : code.co_argcount]

    def wrong(*given):
        inputs = dict(zip(names, given, strict=True))
        # Still read, and still in the file: times zero.
        inputs[name] = 0 * inputs[name] + tf.constant(value, inputs[name].dtype)
        return right(**inputs)

    setattr(graph, signature, wrong)


def keeping(graph, signature, *variables):
    """Has one signature leave variables as they were."""
    right = getattr(graph, signature)

    def wrong(*given):
        before = [variable.read_value() for variable in variables]
        found = right(*given)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return found

    setattr(graph, signature, wrong)


def nothing(graph):
    """Right, after all: what the others are held against."""


# Files that learn, words.


def train_without_present(graph):
    with_input(graph, "_train", "present", 1)


def train_without_proximal_mu(graph):
    with_input(graph, "_train", "proximal_mu", 0)


def constant_loss(graph):
    right = graph._train

    def wrong(*given):
        found = right(*given)
        return found | {"loss": 0 * found["loss"] + 1}

    graph._train = wrong


def train_dp_without_present(graph):
    with_input(graph, "_train_dp", "present", 1)


def train_dp_without_expected_clips(graph):
    with_input(graph, "_train_dp", "expected_clips", 16)


def train_dp_without_momentum(graph):
    with_input(graph, "_train_dp", "momentum", 0)


def train_dp_without_noise(graph):
    with_input(graph, "_train_dp", "noise", 0)


def restore_keeps_momentum(graph):
    keeping(graph, "_restore", graph._velocity)


def restore_without_checksum(graph):
    right, size = graph._restore, graph.network.adapter.spec.size

    def wrong(adapter, base, checksum):
        return right(adapter, base, guards.checksum(adapter, size) + 0 * checksum)

    graph._restore = wrong


def save_without_checksum(graph):
    right = graph._save
    graph._save = lambda call: right(call) | {"checksum": tf.zeros([1], tf.int32)}


def infer_with_its_own_adapter(graph):
    right = graph._infer_with

    def wrong(waveform, adapter):
        return right(waveform, 0 * adapter + graph._adapter.read_value())

    graph._infer_with = wrong


def infer_with_keeps_the_adapter(graph):
    right = graph._infer_with

    def wrong(waveform, adapter):
        graph._adapter.assign(adapter)
        return right(waveform, adapter)

    graph._infer_with = wrong


def infer_by_the_first_adapter(graph):
    right, start = graph._infer_with, tf.constant(graph._start.numpy())
    graph._infer = lambda waveform: right(waveform, start)


def hop_by_the_first_adapter(graph):
    start = tf.constant(graph._start.numpy())

    def wrong(samples):
        found = graph._embed_hop(samples)
        return found | graph._score_with(found["embedding"], start)

    graph._hop = wrong


def score_with_its_own_adapter(graph):
    right = graph._score_with

    def wrong(embedding, adapter):
        return right(embedding, 0 * adapter + graph._adapter.read_value())

    graph._score_with = wrong


def also_resetting(graph, signature):
    """Has one signature forget what was heard."""
    right = getattr(graph, signature)

    def wrong(*given):
        graph.stream.reset(None)
        return right(*given)

    setattr(graph, signature, wrong)


def train_resets_the_stream(graph):
    also_resetting(graph, "_train")


def restore_resets_the_stream(graph):
    also_resetting(graph, "_restore")


def embed_hop_does_not_move_on(graph):
    # Of the graph and not of the stream: `hop` is right.
    right = graph._embed_hop
    hop = graph._hop
    keeping(graph, "_embed_hop", graph.stream.samples, *graph.stream.past.values())
    wrong = graph._embed_hop

    def whole(samples):
        graph._embed_hop = right
        found = hop(samples)
        graph._embed_hop = wrong
        return found

    graph._hop = whole


def reset_forgets_the_adapter(graph):
    right, start = graph.stream.reset, tf.constant(graph._start.numpy())

    def wrong(call):
        graph._adapter.assign(start)
        return right(call)

    graph.stream.reset = wrong


# Files that listen.


def averages_two_seconds(graph):
    stream = graph.stream
    longer = 2 * stream.past["windows"].shape[1] + stream.step
    stream.past["windows"] = stream.variable("windows", longer)


def forgets_what_was_before(graph):
    """The left context: what each convolution remembers is always digital silence."""
    past = graph.stream.past
    keeping(graph.stream, "frame", *(past[name] for name in past if name != "windows"))


def memory_does_not_move_on(graph):
    """As a ring buffer whose pointer stands still: the newest replaces the newest."""

    def wrong(past, x):
        joined = tf.concat([past.read_value(), x], axis=1)
        past.assign(tf.concat([joined[:, :-2], x], axis=1))
        return joined

    graph.stream.with_past = wrong


def hops_do_not_overlap(graph):
    keeping(graph.stream, "hop", graph.stream.samples)


def forgets_every_thousandth_hop(graph):
    """As a ring buffer whose pointer wraps at the wrong place: right for twenty seconds."""
    stream = graph.stream
    right, right_reset = stream.hop, stream.reset
    hops = tf.Variable(tf.zeros(1), name="hops")
    graph._hops = hops

    def wrong(samples):
        hops.assign(tf.where(hops.read_value() >= 1000.0, tf.zeros(1), hops.read_value() + 1.0))
        for name, past in stream.past.items():
            silence = stream.silence(name, past.shape[1])
            past.assign(tf.where(hops.read_value() >= 1000.0, silence, past.read_value()))
        return right(samples)

    def reset(call):
        hops.assign(tf.zeros(1))
        return right_reset(call)

    stream.hop, stream.reset = wrong, reset


def reset_resets_nothing(graph):
    keeping(graph.stream, "reset", graph.stream.samples, *graph.stream.past.values())


def reset_keeps_the_samples(graph):
    keeping(graph.stream, "reset", graph.stream.samples)


# Files for sentences.


def sentence_reset_keeps_a_layer(graph):
    keeping(graph, "_reset", next(iter(graph._past.values())))


def present_is_ignored(graph):
    right = graph._output
    graph._output = lambda frames, present: right(frames, 0 * present + 1)


def clip_without_clip_norm(graph):
    with_input(graph, "_clip", "clip_norm", 1e4)


def train_dp_without_expected_sentences(graph):
    with_input(graph, "_train_dp", "expected_sentences", 3)


def train_dp_keeps_the_sum(graph):
    keeping(graph, "_train_dp", graph._clipped)


def restore_keeps_the_sum(graph):
    keeping(graph, "_restore", graph._clipped)


def scores_by_the_first_adapter(graph):
    start = tf.constant(graph._adapter.numpy())
    right, named = graph._score, graph._named
    kept = np.float32(0)

    def wrong(windows):
        graph._named = lambda flat: named(kept * flat + start)
        found = right(windows)
        graph._named = named
        return found

    graph._score = wrong


def main():
    right = convert.graph_of

    def wrong(blueprint):
        graph = right(blueprint)
        globals()[Path(os.environ["WRONG_GRAPH"]).read_text(encoding="utf-8")](graph)
        return graph

    convert.graph_of = wrong
    convert.main()


if __name__ == "__main__":
    main()
