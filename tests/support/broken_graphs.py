"""Runs as `tflite_export.convert` does, with the graph that BROKEN_GRAPH names broken on purpose.

monkeypatch.setenv("BROKEN_GRAPH", "padded_on_both_sides")
Converter("broken_graphs").convert(blueprint)
"""

import os

import tensorflow as tf

from tflite_export import convert, stream
from tflite_export.arrays import kernel
from tflite_export.layers import Layers
from tflite_export.micro import graphs


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
    silent = stream.silent_inputs
    stream.silent_inputs = lambda network: {
        name: 0 * value for name, value in silent(network).items()
    }


def a_microcontroller_that_begins_in_zeros():
    silent = graphs.silent_inputs
    graphs.silent_inputs = lambda network: {
        name: 0 * value for name, value in silent(network).items()
    }


def a_microcontroller_that_hears_the_first_of_every_stride():
    convolve = graphs.MicroGraph.convolve

    def first(self, name, conv, x):
        if name in self._past or conv.stride == 1:
            return convolve(self, name, conv, x)
        return self.product(conv, x[:, :: conv.stride])

    graphs.MicroGraph.convolve = first


def a_microcontroller_that_remembers_half_a_clip():
    remembered = graphs._remembered
    graphs._remembered = lambda name, silent, frames: remembered(
        name, silent, frames - 6 * (name == "windows")
    )


def a_microcontroller_that_forgets_the_oldest_of_thirteen():
    remembered = graphs._remembered
    graphs._remembered = lambda name, silent, frames: remembered(
        name, silent, frames - (name == "windows")
    )


if __name__ == "__main__":
    globals()[os.environ["BROKEN_GRAPH"]]()
    convert.main()
