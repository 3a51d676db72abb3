"""What the graph for microcontrollers is made of, and what it computes in a second."""

from __future__ import annotations

import math

from fedspeech.audio.pcan import LARGEST_FEATURE
from fedspeech.errors import ExportRefused
from tflite_export.arrays import FloatArray, Network, convolution_steps
from tflite_export.blueprint import Blueprint, Ranges
from tflite_export.calibration import observe
from tflite_export.evidence import log_mel
from tflite_export.micro.folding import standardized_inside


def micro_blueprint(network: Network, waveforms: FloatArray) -> Blueprint:
    """The stream of a merged network, calibrated on waveforms (n, heard_samples).

    Raises:
      ExportRefused: if there is no front end in C for the features of the network.
    """
    spec = network.frontend
    if spec.kind or spec.cepstra or spec.window_samples & (spec.window_samples - 1):
        kind = spec.kind or ("cepstra" if spec.cepstra else "log-mel")
        raise ExportRefused(
            "micro: the front end in C computes log-mel with an FFT whose length is a power of "
            f"two, got {kind} of {spec.window_samples} samples"
        )
    features = log_mel(spec, waveforms)
    # Digital silence lies below what recordings have, and is what a stream begins with.
    heard = min(float(features.min()), math.log(spec.floor)), max(float(features.max()), 0.0)
    # Ranges of the layers are those of the network as it was: there, a convolution's padding is a
    # mean frame, and in log-mel it would be the loudest.
    ranges: Ranges = {**observe(network, waveforms), "input": heard}
    return Blueprint(
        graph="micro", network=standardized_inside(network), precision="int8", ranges=ranges
    )


def wake_word_blueprint(network: Network, waveforms: FloatArray) -> Blueprint:
    """The wake word for ESPHome of a merged network.

    Raises:
      ExportRefused: if the network hears other features, knows more words than one, or has an
        adapter that is no head.
    """
    if network.frontend.kind != "pcan":
        raise ExportRefused(
            "esphome: ESPHome has a front end of its own; train a base behind it: `fedspeech "
            "pretrain --encoder esphome`"
        )
    bias = network.parameters["head_bias"]
    if len(bias) != 3 or network.adapter.name != "head":
        raise ExportRefused(
            "esphome: one file detects one word, with a base of one target word and the adapter "
            f"head or affine; got {len(bias) - 2} words and the adapter {network.adapter.name}"
        )
    # ESPHome quantizes by this range whatever the file says.
    ranges = {**observe(network, waveforms), "input": (0.0, LARGEST_FEATURE)}
    return Blueprint(
        graph="wake-word", network=standardized_inside(network), precision="int8", ranges=ranges
    )


def multiply_adds_per_second(network: Network) -> float:
    """What the file computes in a second of sound: its convolutions and the head."""
    spec = network.frontend
    frames_per_second = spec.rate_hz / spec.hop_samples
    *_, (_, _, stride) = convolution_steps(network.encoder)
    convolutions = sum(
        conv.weight.size / (step * conv.stride)
        for _, conv, step in convolution_steps(network.encoder)
    )
    head = sum(value.size for value in network.parameters.values() if value.ndim == 2)
    return frames_per_second * (convolutions + head / stride)


def calls_in_reach(network: Network) -> int:
    """Calls on which an answer depends: what its oldest encoder frame sees, and all since then."""
    steps = list(convolution_steps(network.encoder))
    stride = steps[-1][2]
    receptive = 1 + sum(conv.left_padding * step for _, conv, step in steps)
    windows = math.ceil(network.frontend.frames_per_clip / stride)
    return math.ceil((receptive + (windows - 1) * stride) / stride)
