"""Settings of low-rank factors, without torch: a scenario is read in no time."""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.limits import Count, Positive, check_limits


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Which layers have factors, and how wide those are; `adapter = "lora"` alone reads it.

    Attributes:
      rank: width of the factors.
      alpha: the product of the factors counts alpha / rank. Not set: it counts once.
      blocks: blocks of the built-in encoder whose convolutions have factors, counted from the last.
      layers: names of layers that have factors, such as "blocks.2.first.conv". Empty: all of the
        blocks.

    Raises:
      ValueError: if a value is outside its range.
    """

    rank: Count = 4
    alpha: Positive | None = None
    blocks: Count = 2
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)
