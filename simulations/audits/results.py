"""What an audit by attacks leaves on disk, and from which alone its page is made."""

from __future__ import annotations

from fedspeech.audits.attack import Secret
from fedspeech.audits.transcript import Observer
from fedspeech.evaluation.metric import Metric
from simulations.audits.judge import beats_chance
from simulations.audits.views import Protection
from simulations.results.record import Count, Epsilon, Finite, Positive, Record, Share


class ShownEpsilon(Record):
    """What a guess proves of an epsilon that is claimed; see `fedspeech.audits.claims`.

    Attributes:
      claimed: of neighbors by zero-out.
      at_least: what is proven.
      broken: whether that is more than is claimed.
      says: in a sentence.
    """

    claimed: Epsilon
    at_least: Positive
    broken: bool
    says: str


class CanaryBound(Record):
    """A bound by canaries.

    Attributes:
      game: that was played.
      observer: who watched.
      relation: of the neighboring worlds.
    """

    game: str
    observer: str
    relation: str
    claimed: Epsilon
    at_least: Positive
    broken: bool
    says: str


class Cell(Record):
    """One attack on one view.

    Attributes:
      observer: who attacks.
      protections: under which it has this view.
      secret: what it is after.
      attack: by which means.
      knowledge: what it has besides the transcript.
      observations: that it got.
      metrics: of its guess, first the one that tables show; empty where nothing could be asked.
      unasked: why not, or "".
      shown: what it proves of the promised epsilon; None where it is no such game.
    """

    observer: Observer
    protections: tuple[Protection, ...]
    secret: Secret
    attack: str
    knowledge: str
    observations: Count
    metrics: tuple[Metric, ...] = ()
    unasked: str = ""
    shown: ShownEpsilon | None = None
    seconds: Positive

    @property
    def succeeded(self) -> bool:
        """Whether the first figure is better than chance with its whole interval."""
        return bool(self.metrics) and beats_chance(self.metrics[0])


class Promise(Record):
    """What is promised against one view, and what the run under it achieved.

    Attributes:
      epsilon: of all rounds; infinite where nothing is promised.
      accuracy: of the last release on held-out phones.
    """

    observer: Observer
    protection: Protection
    epsilon: Epsilon
    accuracy: Share


class Point(Record):
    """One place on a curve.

    Attributes:
      x: the setting.
      figures: first figure of each attack, by its name.
      accuracy: of the last release; None where the same run is looked at in other ways.
      epsilon: against readers; None likewise.
    """

    x: Finite
    figures: dict[str, Metric]
    accuracy: Share | None = None
    epsilon: Epsilon | None = None


class AttackCurve(Record):
    """Success of the best attacks over one setting."""

    key: str
    title: str
    says: str
    x: str
    points: tuple[Point, ...]


class Traffic(Record):
    """Messages of one kind as the network sees them."""

    kind: str
    way: str
    messages: Count
    smallest: Count
    largest: Count


class Attacked(Record):
    """Everything that attacks found.

    Attributes:
      phones: of the population; `candidates` may be attacked, `absent` of them contribute nothing.
      public: speakers by whom attackers learn.
      delta: of every epsilon.
      bounds: by canaries, if any were asked for.
      files: whether personalized adapters were read out of `.tflite` files, in a sentence.
    """

    scenario: str
    recorded: bool
    phones: Count
    candidates: Count
    absent: Count
    public: Count
    rounds: Count
    cohort: Positive
    mechanism: str
    noise_multiplier: Positive
    delta: Positive
    promises: tuple[Promise, ...]
    cells: tuple[Cell, ...]
    curves: tuple[AttackCurve, ...]
    traffic: tuple[Traffic, ...]
    bounds: tuple[CanaryBound, ...] = ()
    files: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """Every claim that is disproven, in a sentence each."""
        return (
            *(bound.says for bound in self.bounds if bound.broken),
            *(
                f"{cell.attack}: {cell.shown.says}"
                for cell in self.cells
                if cell.shown is not None and cell.shown.broken
            ),
        )
