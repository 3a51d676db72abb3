"""Which adapter, in plain values: what a job says of it, and every node builds alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.lora import LoraAdapter, lora_spec
from fedspeech.models.base import Base
from fedspeech.models.cut import layers_of_last, rest_of, start_of
from fedspeech.models.encoder import Activation
from fedspeech.models.frozen_graph import FrozenGraph
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.vectors import ParameterSpec


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """What a job says of low-rank factors beside the frozen graph, which its arrays hold.

    Attributes:
      rank: of the factors.
      alpha: their product counts alpha / rank.
      layers: name and weight shape of each adapted layer.
      frames: shape of what is cached of a clip.
      multiplications: of the frozen layers that a clip goes through in a step, forward.
    """

    rank: int
    alpha: float
    layers: tuple[tuple[str, tuple[int, ...]], ...]
    frames: tuple[int, ...]
    multiplications: int


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """Which adapter, as `make_adapter` knows it, and after which encoder.

    Attributes:
      lora: of the adapter "lora" alone.
    """

    name: str
    num_windows: int
    num_features: int
    num_labels: int
    activation: Activation = "relu"
    lora: LoraShape | None = None

    def __post_init__(self) -> None:
        """Checks that factors belong to the adapter that has some."""
        if (self.name == LoraAdapter.name) != (self.lora is not None):
            raise ValueError(f"lora is set for the adapter lora alone, got {self.name!r}")

    @classmethod
    def of(
        cls, base: Base, name: str, num_labels: int, lora: LoraSettings | None = None
    ) -> AdapterShape:
        """The shape of an adapter of a base; `lora` is read by the adapter of that name.

        Raises:
          ValueError: if the base has no such layers.
        """
        inner = name == LoraAdapter.name
        return cls(
            name=name,
            num_windows=base.num_windows,
            num_features=base.num_features,
            num_labels=num_labels,
            activation=base.encoder.activation,
            lora=_lora_shape(base, lora or LoraSettings()) if inner else None,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Inverts `dataclasses.asdict`, also after JSON."""
        lora = settings.get("lora")
        if lora is not None:
            layers = tuple((name, tuple(shape)) for name, shape in lora["layers"])
            lora = LoraShape(**{**lora, "layers": layers, "frames": tuple(lora["frames"])})
        return cls(**{**settings, "lora": lora})

    @property
    def spec(self) -> ParameterSpec:
        """Names and shapes of what is trained, which needs no frozen graph."""
        if self.lora is not None:
            sizes = self.num_features, self.num_labels
            return lora_spec(self.lora.layers, self.lora.rank, *sizes)
        return self.build().spec

    def frozen(self, base: Base) -> NDArray[np.uint8]:
        """What of the base phones train through, as bytes for the job's arrays; often nothing."""
        if self.lora is None:
            return np.zeros(0, dtype=np.uint8)
        graph = rest_of(base, [name for name, _ in self.lora.layers])
        return np.frombuffer(graph.to_bytes(), dtype=np.uint8)

    def build(self, frozen: NDArray[np.uint8] | None = None) -> Adapter:
        """Returns the adapter.

        Args:
          frozen: what `frozen` gives; only an inner adapter needs it.

        Raises:
          ValueError: if that is not of the layers that the shape names.
          ScenarioError: if it is an adapter of another package that may not be imported.
        """
        if self.lora is None:
            return make_adapter(
                self.name, self.num_windows, self.num_features, self.num_labels, self.activation
            )
        graph = FrozenGraph.from_bytes(b"" if frozen is None else frozen.tobytes())
        found = tuple((layer.name, layer.weight_shape) for layer in graph.layers)
        if found != self.lora.layers:
            raise ValueError(
                f"the frozen graph adapts the layers {found}, the job {self.lora.layers}"
            )
        return LoraAdapter(
            graph=graph,
            frames=self.lora.frames,
            num_features=self.num_features,
            num_labels=self.num_labels,
            rank=self.lora.rank,
            alpha=self.lora.alpha,
        )


def _lora_shape(base: Base, settings: LoraSettings) -> LoraShape:
    """The layers that settings name, as the graph behind the cut has them."""
    layers = settings.layers or layers_of_last(base, settings.blocks)
    start, graph = start_of(base, layers), rest_of(base, layers)
    frames = (start.num_windows, start.num_features)
    return LoraShape(
        rank=settings.rank,
        alpha=settings.rank if settings.alpha is None else settings.alpha,
        layers=tuple((layer.name, layer.weight_shape) for layer in graph.layers),
        frames=frames,
        multiplications=graph.multiplications(frames),
    )
