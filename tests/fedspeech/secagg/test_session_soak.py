"""Long counts of small sessions with everything at random; `make soak`, by hand."""

import os
import sys
from collections import Counter

import numpy as np
import pytest
from secagg_sessions import check_end, terms_of

from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import Stage

SESSIONS = 3_000
GONE_EARLY = [stage for stage in Stage if stage < Stage.UNMASK]


def random_terms(rng, n):
    """SessionTerms that most cohort lists of n phones can live with."""
    min_cohort = int(rng.integers(2, n + 1))
    return terms_of(
        round_id=rng.bytes(16), round=int(rng.integers(0, 1000)),
        dimension=int(rng.integers(1, 80)), bits=int(rng.integers(1, 33)), min_cohort=min_cohort,
        min_reporting=int(rng.integers(2, min_cohort + 1)), colluders=int(rng.integers(0, n // 3)),
        dropped_share=float(rng.choice([0.0, 0.1, 0.25])),
        threat_model=str(rng.choice(["malicious", "semi_honest"])),
    )  # fmt: skip


@pytest.mark.soak
def test_thousands_of_small_sessions_end_as_counting_foretells(capsys):
    ends = Counter()
    for seed in range(SESSIONS):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(3, 20))
        identities = IdentityDirectory(os.urandom(32), rng.bytes(4), 200)
        phones = rng.choice(200, n, replace=False).tolist()
        staying = rng.beta(4, 1)
        last = {
            phone: Stage.UNMASK if rng.random() < staying else Stage(rng.choice(GONE_EARLY))
            for phone in phones
        }
        last[phones[0]] = max(last[phones[0]], Stage.SHARE)
        primitives = [Primitives, SharedPrimitives][int(rng.integers(2))]()
        ends[check_end(rng, random_terms(rng, n), last, identities, primitives).stage] += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{SESSIONS} sessions: {dict(ends.most_common())}\n")
    assert set(ends) == {"advertise", "share", "mask", "agree", "unmask", "sum"}
    assert ends["sum"] > SESSIONS / 5
