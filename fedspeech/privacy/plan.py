"""One frozen plan owns every number that must agree: clip, encoding, noise, cohort, accounting.

Phone, server and ledger read the same object; its fingerprint travels in every message, so that
two sides with different plans stop instead of disagreeing silently. A phone recomputes every
derived number (bits, scale, noise) and takes none from the server.

    plan = PrivacyPlan(dimension=5140, clip_norm=0.1, noise_multiplier=3.0, population=3000,
                       participation_probability=0.1, rounds=40, max_participations=16,
                       min_cohort=225, min_reporting=225, delta=1 / 30_000, epsilon_budget=2.0)
    sent = plan.privatize(delta.vector, rotation_seed=rid, rounding=keys_r, noise=keys_n)
    found = plan.decode(ring_sum([sent, ...], plan.bits), rotation_seed=rid)
    print(found.mean, phrasing.paragraphs(plan.guarantee(rounds=40)))
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from fedspeech.privacy import guarantee, phrasing, round_cost, rules
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.codec import PlanCodec
from fedspeech.privacy.events import RoundCost
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.guarantee import Guarantee


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan(PlanCodec):
    """Everything that the privacy of a run depends on, checked once by `rules.check`.

    All fields are plain values: `PrivacyPlan(**dataclasses.asdict(plan))` is the same plan. They
    stand in `config.PlanConfig`, what follows from them in `sizing.PlanSizing`, what phone and
    server do in `codec.PlanCodec`.

    Raises:
      ValueError: if a rule is broken; the message names rule and value.
    """

    def __post_init__(self) -> None:
        """Checks the rules; rebuilds what was read back as plain data."""
        adaptive: Any = self.adaptive_clipping
        if isinstance(adaptive, dict):
            object.__setattr__(self, "adaptive_clipping", AdaptiveClipping(**adaptive))
        factorization: Any = self.factorization
        if isinstance(factorization, dict):
            object.__setattr__(self, "factorization", Factorization(**factorization))
        rules.check(self)

    @functools.cached_property
    def cost(self) -> RoundCost:
        """One round to both adversaries, with its bad events."""
        return round_cost.round_cost(self)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all fields that apply."""
        fields = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(fields.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """All fields that apply, as plain data: what fingerprints and seeded noise come from."""
        fields = asdict(self)
        if self.factorization is None:  # plans without it keep the noise that they always had
            del fields["factorization"]
        if self.groups == 1:  # likewise
            del fields["groups"]
        if not self.whole:
            del fields["whole"]
        return fields

    @property
    def trust(self) -> str:
        """Who must be honest, in one sentence."""
        return phrasing.trust(self)

    def admits(self, inputs_sent: int, rounds_since: int | None = None) -> bool:
        """Whether a phone that has sent so many inputs within its window may send one more.

        The phone asks, of its own memory; an input counts whatever became of its round.

        Args:
          inputs_sent: within the window.
          rounds_since: rounds from its last input to this one; None: it has sent none.
        """
        apart = 1 if self.factorization is None else self.factorization.min_separation
        rested = rounds_since is None or rounds_since >= apart
        return rested and inputs_sent < self.max_participations

    def guarantee(self, rounds: int) -> Guarantee:
        """Prices `rounds` rounds, counting every one that sent anything, failed ones included.

        Raises:
          ValueError: if rounds is negative.
        """
        return guarantee.price([(self.cost.of_first(rounds), rounds)], self, trust=self.trust)
