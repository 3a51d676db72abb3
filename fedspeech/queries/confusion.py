"""What was said against what was answered, counted by segment, and shares of each row."""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.errors import require
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import rounds_in
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.fieller import Fraction
from fedspeech.queries.histogram import Histogram
from fedspeech.vectors import GlobalState


@dataclass(frozen=True, kw_only=True)
class Confusion(Histogram):
    """A histogram over two columns: what was said, then what was answered."""

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        require(len(self.axes) == 2, "axes must be two, said and answered", axes=len(self.axes))

    def shares(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """How each row is divided over the answers, one estimate per segment and cell.

        The count that a share stands on, by which it is withheld, is that of its row.
        """
        self.check_plan(plan)
        sampling, answers = Sampling.of(plan, max(1, rounds_in(state))), len(self.axes[1])
        fraction = Fraction(
            nested=True,
            most=self.max_per_cell * min(self.max_cells, answers),
            other_cells=answers - 1,
        )
        rows = state.parameters.reshape(-1, answers)
        others = rows.sum(axis=1, keepdims=True) - rows
        return tuple(
            fraction.of(own, other).estimate(
                sampling, of="share of the row", segment=segment, cell=cell
            )
            for own, other, (segment, cell) in zip(
                rows.reshape(-1).tolist(), others.reshape(-1).tolist(), self.names, strict=True
            )
        )
