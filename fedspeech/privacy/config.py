"""What is chosen of a plan: plain values, nothing derived and nothing checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedspeech.limits import Decay, Fraction, Positive
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.factorization import Factorization
from fedspeech.secagg.graph import ThreatModel

Mechanism = Literal["distributed", "skellam", "central", "matrix_factorization", "local", "none"]
Participation = Literal["poisson", "fixed_size", "round_robin"]
Unit = Literal["user", "phone"]


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The fields of a `PrivacyPlan`.

    Attributes:
      mechanism: "distributed", "skellam" (each phone adds its share of integer noise), "central"
        (the server adds noise to the sum), "matrix_factorization" (the server adds noise that
        later rounds partly take back), "local" (each phone adds noise enough for itself) or "none"
        (the same path without noise; epsilon is infinite).
      dimension: coordinates of a delta, before padding.
      clip_norm: L2 bound C on a delta; of the first round if it adapts.
      noise_multiplier: stddev z over C: of the sum's noise with the fewest honest reporting phones,
        for "local" of one phone's noise, for "matrix_factorization" of what a round draws afresh; 0
        for "none". Clip bits included.
      population: eligible phones.
      participation: "poisson" (each phone's own coin), "fixed_size" (a random cohort of always the
        same size) or "round_robin" (phones take turns; nobody counts on chance).
      participation_probability: of a phone in a round; times population and availability, the
        expected cohort.
      rounds: planned.
      max_participations: rounds a phone takes part in at most; the phone counts what it sent.
      participation_window: rounds after which a phone counts anew, for "round_robin"; None: never.
      cohort_cap: of more phones than these, so many are drawn, for "poisson"; None: no cap.
      groups: sums that are taken of a round, each of a group of its own phones, which keeps both
        minimums and carries full noise by itself; 1: one sum of the whole cohort.
      min_cohort: minimum cohort size, of each group; below it a round is abandoned, never drawn
        again.
      min_reporting: minimum on those who answer, of each group; sizes the noise.
      colluders: corrupt phones of the population that may join a round, all of them.
      dropout_rate: share of a cohort list that never answers, each for itself and whatever its
        data.
      availability: smallest share of the population that is there when a round begins, for
        "poisson"; phones are there, and drop out, each for itself and whatever their data, some
        more often than others, and everybody may know which. Divisor and minimums are sized by it;
        nothing is amplified by it: the coin alone is.
      delta: at most 1 / (10 population).
      epsilon_budget: limit on epsilon_release; infinite for "none".
      unit: what is protected as a whole.
      adaptive_clipping: how the clip norm moves; None: it stays.
      factorization: how noise of rounds is correlated, and how far a phone's rounds are apart; for
        "matrix_factorization" alone.
      secure_aggregation: "masked": the protocol of `fedspeech.secagg`; "ideal": a plain modular sum
        that stands for it.
      threat_model: whom the protocol withstands: a "malicious" server, which breaks any rule and
        chooses who drops out once it has seen the graph, or a "semi_honest" one, which keeps the
        rules and looks, as phones that collude with it do.
      ring_bits: width of the ring; None: the narrowest where rounding costs at most 1 %.
      whole: whether a delta is of whole numbers, counts for instance: such a vector is neither
        rotated nor rounded (`whole_counts`).
    """

    mechanism: Mechanism = "distributed"
    dimension: int
    clip_norm: Positive
    noise_multiplier: float
    population: int
    participation: Participation = "poisson"
    participation_probability: Fraction
    rounds: int
    max_participations: int
    participation_window: int | None = None
    cohort_cap: int | None = None
    groups: int = 1
    min_cohort: int
    min_reporting: int
    colluders: int = 0
    dropout_rate: Decay
    delta: float
    epsilon_budget: float
    unit: Unit = "user"
    adaptive_clipping: AdaptiveClipping | None = None
    secure_aggregation: Literal["masked", "ideal"]
    threat_model: ThreatModel = "malicious"
    availability: float = 1.0
    ring_bits: int | None = None
    factorization: Factorization | None = None
    whole: bool = False
