"""What a tuning leaves on disk: `results.json`, from which alone its page is made.

`Tuning.visibility` says who could see the accuracies: only a simulation (held-out phones) or the
server (public validation speakers). Epsilons are of the scenario's own plan, all rounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedspeech.evaluation.metric import Visibility
from simulations.results.account import Account
from simulations.results.record import Count, Epsilon, Finite, Positive, Record, Share
from simulations.tuning.space import Setting

Mode = Literal["grid", "pareto"]


class Spread(Record):
    """A mean with its 95 % interval, over seeds and phones."""

    mean: Finite
    low: Finite
    high: Finite


class WorstSegment(Record):
    """The group of phones that a setting serves worst.

    Attributes:
      phones: over all seeds.
    """

    segment: str
    value: str
    accuracy: Share
    phones: Count


class Tried(Account, Setting):
    """One setting with the account of all planned rounds under it.

    Attributes:
      within_budget: whether epsilon_release is at most the scenario's budget.
      against_best: difference from the best setting within the budget, paired; None where no
        setting is within it.
      worst_segment: None where no group is large enough.
      stopped: "" or why it did not go to its end: "hopeless".
      curve: rounds to mean accuracy.
      signal_to_noise: of the sum of all decoded means, mean over seeds; None without noise.
    """

    number: Count
    within_budget: bool
    accuracy: Spread
    by_seed: tuple[Share, ...]
    against_best: Spread | None
    worst_segment: WorstSegment | None
    stopped: str
    curve: dict[int, Share]
    signal_to_noise: Positive | None


class Recommended(Record):
    """Which setting, and how far chance decided it.

    Attributes:
      best: number of the trial with the highest mean within the budget.
      flattery: by how much being chosen on these phones lifts its accuracy, on average.
      unresolved: numbers of trials that the evidence does not tell from it.
      spending: rounds to (epsilon_release, epsilon_server).
    """

    number: Count
    best: Count
    share_same: Share
    flattery: Positive
    unresolved: tuple[Count, ...]
    spending: dict[int, tuple[Epsilon, Epsilon]]


class Contour(Record):
    """Where epsilon_release has one value: clip norms and the noise multipliers that it takes."""

    epsilon: Epsilon
    points: tuple[tuple[Positive, Positive], ...]


class Tuning(Record):
    """results.json.

    Attributes:
      population: whose privacy is at stake: "synthetic", "declared public" or "charged".
      measure: name of the accuracy.
      members: phones or speakers on whose examples settings were compared, over all seeds.
      base: mean accuracy before the first round.
      phones: population that trains.
      within: accuracy that the recommendation may lie below the best, to be more private.
      budget: on epsilon_release; None: no limit.
      rate_rule: how the server learning rate went with the clip norm.
      recommended: None if no setting is within the budget.
      spent: what the ledger holds after the search; None where nothing is charged.
      short: the recommendation in three lines; none where nothing can be recommended.
      cpu_seconds: of this process and its workers, since the last start.
      seconds: wall time, likewise.
    """

    schema_version: Literal[2] = 2
    mode: Mode
    scenario: str
    corpus: str
    population: Literal["synthetic", "declared public", "charged"]
    visibility: Visibility
    measure: str
    seeds: tuple[int, ...]
    members: Annotated[int, Field(ge=1)]
    base: Share
    phones: Count
    rounds: Count
    within: Share
    budget: Epsilon | None
    rate_rule: str
    tried: tuple[Tried, ...]
    recommended: Recommended | None
    contours: tuple[Contour, ...] = ()
    spent: Account | None = None
    short: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)
    cpu_seconds: Positive = 0.0
    seconds: Positive = 0.0

    def trial(self, number: int) -> Tried:
        """The trial of a number."""
        return next(trial for trial in self.tried if trial.number == number)

    @property
    def chosen(self) -> Tried | None:
        """The recommended setting."""
        return self.trial(self.recommended.number) if self.recommended else None

    @property
    def seeds_said(self) -> str:
        """The number of seeds, in words."""
        return f"{len(self.seeds)} seed{'' if len(self.seeds) == 1 else 's'}"
