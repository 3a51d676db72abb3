"""A page for everybody passes the gate, or is not written.

    Gate().passed("report-public.html", page, behind)   # GateRefused: it stays here

A page without a key is signed for the moment of the check: who made it is no question where it is
made. With a key, its manifest lies beside it, and `fedspeech share check` asks again.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, replace

from fedspeech.extras import lacking
from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.gate import GateRefused, check_content
from fedspeech.sharing.manifest import Manifest, PrivacyClaim
from fedspeech.sharing.policy import Policy
from simulations.report.document import scripts
from simulations.report.figures import MOST_NUMBERS

# Where nobody wrote a policy, nobody said how much may be spent; what was spent is on the page.
_ANY_EPSILON, _ANY_DELTA = 1e9, 0.5
DAYS = 180
"""For which it may be used."""


@dataclass(frozen=True)
class Behind:
    """What stands behind a page.

    Attributes:
      contributors: people in the population.
      plan_fingerprint: of the privacy plan.
      claim: of privacy; None: no noise, no promise.
      k_min: fewest phones of a segment that the run names.
    """

    contributors: int
    plan_fingerprint: str
    claim: PrivacyClaim | None
    k_min: int


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a page for everybody is held against.

    Attributes:
      policy: of the audience; None: that of the public, by the run's own `k_min`, with no budget.
      key: signs the manifest that lies beside the page; None: none does.
    """

    policy: Policy | None = None
    key: PrivateKey | None = None

    def policy_for(self, behind: Behind) -> Policy:
        """What a page is held against."""
        return self.policy or Policy(
            tier="public", k_min=behind.k_min, most_numbers=MOST_NUMBERS,
            epsilon=_ANY_EPSILON, delta=_ANY_DELTA,
        )  # fmt: skip

    def passed(self, name: str, page: str, behind: Behind) -> Manifest:
        """The signed manifest of a page that passes every rule.

        Args:
          name: of its file.
          page: HTML.
          behind: what stands behind it.

        Raises:
          GateRefused: naming rule, place and reason.
        """
        content, policy = page.encode(), with_our_scripts(self.policy_for(behind))
        key = self.key or PrivateKey.of_the_moment()
        last = policy.today + datetime.timedelta(days=DAYS)
        manifest = Manifest(
            kind="report", file=name, sha256=hashlib.sha256(content).hexdigest(),
            tier=policy.tier, purpose="a report for everybody", expires=last.isoformat(),
            consent_epoch=policy.revocation_epoch, contributors=behind.contributors,
            plan_fingerprint=behind.plan_fingerprint, claim=behind.claim,
            steps=("figures of the operator and of single phones removed",),
        ).sign(key)  # fmt: skip
        if self.key is None:
            policy = replace(policy, signers=(key.public,))
        if findings := check_content(name, content, manifest.write(), policy).findings:
            raise GateRefused.of(name, findings)
        return manifest


def with_our_scripts(policy: Policy) -> Policy:
    """The policy with the code that pages of this project carry."""
    ours = () if lacking("plots") else scripts()
    digests = {hashlib.sha256(script.encode()).hexdigest() for script in ours}
    return replace(policy, scripts=policy.scripts | digests)
