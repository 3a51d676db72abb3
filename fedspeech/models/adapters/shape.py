"""Which adapter, in plain values: what a job says of it, and every node builds alike."""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.encoder import Activation


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """Which adapter, as `make_adapter` knows it, and after which encoder."""

    name: str
    num_windows: int
    num_features: int
    num_labels: int
    activation: Activation = "relu"

    def build(self) -> Adapter:
        """Returns the adapter."""
        return make_adapter(
            self.name, self.num_windows, self.num_features, self.num_labels, self.activation
        )
