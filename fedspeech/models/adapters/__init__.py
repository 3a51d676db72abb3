"""What a phone trains: few parameters after a frozen encoder."""

from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.affine import AffineAdapter
from fedspeech.models.adapters.bottleneck import BottleneckAdapter
from fedspeech.models.adapters.frames import FrameAffineAdapter, FrameBottleneckAdapter
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.models.encoder import Activation

__all__ = [
    "Adapter",
    "AffineAdapter",
    "BottleneckAdapter",
    "FrameAffineAdapter",
    "FrameBottleneckAdapter",
    "HeadAdapter",
    "make_adapter",
]


def make_adapter(
    name: str,
    num_windows: int,
    num_features: int,
    num_labels: int,
    activation: Activation = "relu",
) -> Adapter:
    """Builds the adapter of a scenario or an adapter file, for windows and features of the encoder.

    Raises:
      ValueError: if there is no adapter of that name or a size is not positive.
    """
    if min(num_windows, num_features, num_labels) < 1:
        raise ValueError(
            "num_windows, num_features and num_labels must be positive, got "
            f"{num_windows}, {num_features}, {num_labels}"
        )
    match name:
        case "head":
            return HeadAdapter(num_features, num_labels, activation)
        case "affine":
            return AffineAdapter(num_windows, num_features, num_labels, activation)
        case "bottleneck":
            return BottleneckAdapter(num_features, num_labels, activation=activation)
        case "frame_affine":
            return FrameAffineAdapter(num_windows, num_features, num_labels, activation)
        case "frame_bottleneck":
            return FrameBottleneckAdapter(num_windows, num_features, num_labels, activation)
    raise ValueError(
        "an adapter is head, affine or bottleneck, or for sentences frame_affine or "
        f"frame_bottleneck, got {name!r}"
    )
