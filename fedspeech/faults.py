"""What nodes of a simulation do wrong, and how often."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from fedspeech.errors import require
from fedspeech.limits import Share, check_limits


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Faults of nodes by a schedule from the seed, as shares of the requests.

    Attributes:
      silent: share of requests whose answer is lost.
      late: share of requests answered after the deadline.
      twice: share of requests answered twice.
      fails: share of requests that a node says failed.
      wrong_round: share of answers that name another round.
      wrong_shapes: share of answers with arrays of other shapes.
      nan: share of answers with arrays of NaN.
      stale_source: share of answers from a node with other code.

    Raises:
      ValueError: if a share is out of range, or they add up to more than one.
    """

    silent: Share = 0.0
    late: Share = 0.0
    twice: Share = 0.0
    fails: Share = 0.0
    wrong_round: Share = 0.0
    wrong_shapes: Share = 0.0
    nan: Share = 0.0
    stale_source: Share = 0.0

    def __post_init__(self) -> None:
        """Checks the shares."""
        check_limits(self)
        shares = dataclasses.asdict(self)
        require(
            sum(shares.values()) <= 1, "faults must be shares that add up to at most 1", **shares
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self != Faults()
