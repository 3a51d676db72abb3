"""The ideal functionality of secure aggregation: a plain modular sum, computed by one who sees all.

SIMULATED. It gives the same integers as a protocol that shows the server nothing but the sum, and
protects nobody from the process that runs it. Whatever rests on it carries that label.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedspeech.secagg.ring import RingVector, ring_sum

NOTICE = "secure aggregation simulated: the summing process sees every contribution"


def partial_sum(vectors: Iterable[RingVector], bits: int) -> RingVector:
    """Sums the contributions that one shard hosts, mod 2^bits, shape of one contribution.

    Raises:
      ValueError: if there is none, or shapes, types or bits do not fit.
    """
    return ring_sum(vectors, bits)


def add(partials: Iterable[RingVector], bits: int) -> RingVector:
    """Adds partial sums: the same integers however contributions were sharded and ordered.

    Raises:
      ValueError: if there is none, or shapes, types or bits do not fit.
    """
    return ring_sum(partials, bits)
