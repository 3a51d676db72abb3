"""What a phone trains: few parameters after a frozen encoder."""

from collections.abc import Callable

from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.affine import AffineAdapter
from fedspeech.models.adapters.bottleneck import BottleneckAdapter
from fedspeech.models.adapters.frames import FrameAffineAdapter, FrameBottleneckAdapter
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.models.encoder import Activation
from fedspeech.own_code import CodeKind, address_of

OWN = CodeKind(noun="an adapter", group="fedspeech.adapters")

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

    An adapter of another package is named `module:Class`; its class is called with the sizes and
    the activation by name. The adapter "lora", which also needs what it trains through, is built by
    `fedspeech.models.adapters.shape.AdapterShape`.

    Raises:
      ValueError: if there is no adapter of that name or a size is not positive.
      ScenarioError: if a class may not be imported or is no adapter.
    """
    if min(num_windows, num_features, num_labels) < 1:
        raise ValueError(
            "num_windows, num_features and num_labels must be positive, got "
            f"{num_windows}, {num_features}, {num_labels}"
        )
    if ":" in name:
        return adapter_class(name)(
            num_windows=num_windows,
            num_features=num_features,
            num_labels=num_labels,
            activation=activation,
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
        "an adapter is head, affine or bottleneck, for sentences frame_affine or "
        f"frame_bottleneck, or module:Class, got {name!r}"
    )


def adapter_class(address: str) -> Callable[..., Adapter]:
    """Finds the class of an adapter by `module:Class`; see `fedspeech.own_code`.

    Raises:
      ScenarioError: if it may not be imported or is no adapter.
    """
    found = OWN.find(address)
    if not isinstance(found, type) or Adapter not in found.__mro__:
        raise ScenarioError(
            f"{address!r:.80} must be a class of adapters, a subclass of "
            "fedspeech.models.adapters.Adapter"
        )
    return found


def name_of(adapter: Adapter) -> str:
    """The name by which `make_adapter` builds an adapter again: its own, or `module:Class`."""
    own = type(adapter).__module__.startswith(f"{__name__}.")
    return adapter.name if own else address_of(type(adapter))
