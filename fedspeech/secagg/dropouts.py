"""Who vanishes when: the model that minimums are priced by, and the schedule that simulations play.

Of the phones that would take part, a share `rate` never gets to send its masked vector: a third of
it before it has advertised, a third after that, a third after its shares. Two thirds as many again
send the vector and vanish before they sign or before they unmask. Each phone for itself, and
whatever its data.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left

from fedspeech.secagg.protocol import Stage
from fedspeech.seeds import stream

# In units of a third of the rate, in the order in which a phone would reach the stage.
_VANISH_AT = (Stage.NONE, Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.AGREE)


def share_answering(rate: float, stage: Stage) -> float:
    """Share of the phones that would take part which answer a stage."""
    return max(0.0, 1 - rate / 3 * sum(last < stage for last in _VANISH_AT))


def share_gone(rate: float) -> float:
    """Largest expected share of a session's last cohort list that is gone at its end.

    Who vanishes between cohort list and nonces restarts the session and is on no later cohort list,
    so of the 1 - 2 rate / 3 that remain, rate vanishes. Where a deadline is what stops phones, they
    all vanish after their shares, and that is less: rate of all. Of phones that send no vector
    alone, the share is at most rate in both cases.
    """
    return min(1.0, rate / (1 - 2 * rate / 3))


def tolerated_share(rate: float, smallest: int, bits: float) -> float:
    """A share t of a cohort list, in thousandths, that hardly any cohort list's drop-outs exceed.

    Of n phones that drop out each for itself, on average with probability p, a share t > p or more
    does so with probability at most exp(-n KL(t, p)), where KL(t, p) = t ln(t/p) +
    (1-t) ln((1-t)/(1-p)) (Hoeffding 1963, Theorem 1, Equation 2.1; phones need not be alike). For
    one t the bound falls with n: the t that meets 2^-bits at the smallest cohort list meets it at
    all. It is 0 if nobody drops out, and 1 where no share below it will do.
    """
    if rate <= 0:
        return 0.0
    needed, first = bits * math.log(2) / smallest, math.ceil(1000 * rate)
    # From the rate on, the divergence grows with the share.
    return (
        bisect_left(range(1000), needed, lo=first, key=lambda t: _divergence(t / 1000, rate)) / 1000
    )


def _divergence(share: float, rate: float) -> float:
    """KL(share, rate) in nats, of coins; share in [rate, 1)."""
    return share * math.log(share / rate) + (1 - share) * math.log((1 - share) / (1 - rate))


@functools.lru_cache(maxsize=1 << 12)  # asked again at each stage of a round
def last_stage(rate: float, seed: int, round_number: int, phone: int) -> Stage:
    """Returns the last stage that a phone answers in a round, by the seeded schedule."""
    if rate == 0:
        return Stage.UNMASK
    # The same schedule at every stage and in every process: a phone that has vanished stays away.
    place = int(stream(seed, "dropout", round_number, phone).random() / (rate / 3))
    return _VANISH_AT[place] if place < len(_VANISH_AT) else Stage.UNMASK
