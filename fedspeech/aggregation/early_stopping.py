"""When a run stops before its last planned round: a decision on public speakers alone.

The loss of each released model on public validation clips is a function of that model and of public
data, so looking at it costs no epsilon. How many rounds there are is then a result of the run,
though, and follows from what phones said. The price of the rounds that ran is the price of a number
that was fixed beforehand; for a number that the run itself chose, only the plan's price is proven:
whoever stops early publishes a prefix of the planned run, which is post-processing of the whole
(Rogers et al. 2016, arXiv:1605.08294, on odometers, which bound the running price and cost more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedspeech.limits import Count, NotNegative, check_limits


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """The end of a run whose loss on public validation speakers falls no more.

    Attributes:
      patience: number of completed rounds without a new lowest loss after which no further round
        begins.
      min_delta: nats by which a loss must be below the lowest so far to be a new one.
    """

    patience: Count = 5
    min_delta: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Checks every value."""
        check_limits(self)

    def stops(self, losses: Sequence[float]) -> bool:
        """Whether no further round begins after these losses.

        Args:
          losses: of the model before the first round and after each completed one, in nats; one
            that is not a number is no new lowest.
        """
        lowest, waited = float("inf"), 0
        for loss in losses:
            if loss < lowest - self.min_delta:
                lowest, waited = loss, 0
            else:
                waited += 1
        return waited >= self.patience
