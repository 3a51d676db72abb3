"""Runs as `tflite_export.convert` does, with the graph that BROKEN_GRAPH names broken on purpose.

monkeypatch.setenv("BROKEN_GRAPH", "padded_on_both_sides")
Converter("broken_graphs").convert(blueprint)
"""

import os

import tensorflow as tf

from tflite_export import convert, keyword_graphs
from tflite_export.arrays import kernel
from tflite_export.layers import Layers


def padded_on_both_sides():
    def same(self, name, conv, x):
        return tf.nn.conv2d(x, self.weight(kernel(conv)), [conv.stride, 1], "SAME") + conv.bias

    Layers.convolve = same


def with_a_determinant():
    score = Layers.score
    Layers.score = lambda self, windows: score(
        self, windows * tf.linalg.det(windows[0, :1, 0] * tf.eye(64))
    )


def beginning_in_a_mean_frame():
    silent = keyword_graphs.silent_inputs
    keyword_graphs.silent_inputs = lambda network: {
        name: 0 * value for name, value in silent(network).items()
    }


if __name__ == "__main__":
    globals()[os.environ["BROKEN_GRAPH"]]()
    convert.main()
