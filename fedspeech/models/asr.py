"""A small model of sentences: the encoder of `kws.py`, larger, with an answer every 40 ms.

Connectionist temporal classification (CTC) lets the network answer a character late, so it is
causal and still hears some of what follows: its look-ahead is 0 ms, and after the last frame of a
recording it runs on over `FLUSH_WINDOWS` windows of nothing, 240 ms, to say what it still owes.
"""

from __future__ import annotations

from torch import Tensor

from fedspeech.models.encoder import Activation, activated
from fedspeech.models.encoder_spec import EncoderSpec
from fedspeech.models.kws import KwsEncoder

FLUSH_WINDOWS = 6

SENTENCE_ENCODER = EncoderSpec(
    num_mels=13,
    stem_channels=64,
    channels=(64, 96, 96, 96, 96),
    strides=(2, 2, 1, 1, 1),
    features=96,
)
"""The layout of bases for sentences, over cepstra: 135 frames in sight, 100 a second."""


class SentenceEncoder(KwsEncoder):
    """Standardized features to the last layer before its activation, for sentences.

    With the default layout: 418,624 parameters, an output every 40 ms, look-ahead 0 ms.
    """

    MAX_PARAMETERS = 1_500_000


def window_logits(
    encoder_output: Tensor, weight: Tensor, bias: Tensor, activation: Activation = "relu"
) -> Tensor:
    """The base's own head: activation, linear, for every frame.

    Shapes (n, w, f), (c, f) and (c,) give (n, w, c).
    """
    return activated(encoder_output, activation) @ weight.T + bias
