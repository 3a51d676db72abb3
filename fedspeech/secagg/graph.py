"""Which phones mask against each other: a ring that nobody chose, and how dense it must be.

Bell et al. 2020 (ePrint 2020/704): phones stand on a ring in the order of a hash, each adjacent to
the k/2 nearest on either side; its k neighbors hold its shares, t of them unmask it. With c
corrupt and d dropped phones, all fixed before the ring, union bounds over hypergeometric tails say
how likely it is that

* corrupt neighbors suffice: n P[Hyp(n-1, c, k) >= t];
* the ring is in pieces, cut twice: n(n-k-1)/2 * (c+d)! (n-k)! / (n! (c+d-k)!);
* too few neighbors answer: n P[Hyp(n-1, d, k) > k - t].

A malicious server drops phones after it saw the ring, so against it the second bound proves
nothing. But where it cuts out an arc, the phone at an end has only corrupt and dropped phones in
its outer half, and dropped ones answer nothing. However many it drops, that phone and the arc stay
masked, unless the k/2 of the inner half and the corrupt ones of the outer half are t:

* an arc's end is unmasked: 2n P[Hyp(n-1, c, k/2) >= t - k/2].

Half of the failure probability goes to corrupt neighbors, half to pieces (semi-honest server) or
arcs' ends (malicious); a ring for a malicious server meets the bound on pieces as well, to be no
weaker. Tails run over the n - 1 others with all c or d among them: no other reading makes them
likelier.

    parameters = graph_parameters(1000, colluders=100, dropped=100, threat_model="malicious")
    graph = ring_graph(ids, seed, parameters.neighbors)  # 152 neighbors, threshold 110
    graph.neighbors[graph.neighbors[i, p], graph.places[i, p]] == i
"""

from __future__ import annotations

import functools
import hashlib
import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.seeds import canonical

ThreatModel = Literal["malicious", "semi_honest"]

COMPLETE_UP_TO = 128
SECURITY_BITS: Mapping[ThreatModel, int] = MappingProxyType({"malicious": 40, "semi_honest": 60})
CORRECTNESS_BITS = 30


@dataclass(frozen=True, kw_only=True)
class GraphParameters:
    """How dense the graph of a round is.

    Attributes:
      neighbors: k, even for a ring graph, n - 1 for the complete one.
      threshold: t, shares needed to unmask.
    """

    num_phones: int
    neighbors: int
    threshold: int

    @property
    def complete(self) -> bool:
        """Whether every phone is adjacent to every other."""
        return self.neighbors == self.num_phones - 1


@functools.lru_cache
def graph_parameters(
    num_phones: int,
    *,
    colluders: int,
    dropped: int,
    threat_model: ThreatModel,
    security_bits: float | None = None,
    correctness_bits: float = CORRECTNESS_BITS,
) -> GraphParameters:
    """Finds the sparsest graph that meets every condition for this server, see the module.

    Complete up to 128 phones, and where no ring does, with t = floor((n + c)/2) + 1: two sets of
    reporting phones would need more than n + c signatures, and nothing is left to chance. Of the
    thresholds that fit the smallest ring it takes the lowest from 2 on (one share is never the
    secret), so more colluders lower neither k nor t of a ring.

    A "malicious" server may choose whom to drop after it saw the ring; a "semi_honest" one keeps to
    the protocol while phones drop out by chance. More is learned than the sum with probability at
    most 2^-security_bits, by default that of `SECURITY_BITS`; the caller adds log2 of the number of
    graphs to choose from. Some phone lacks answers with probability at most 2^-correctness_bits.

    Raises:
      ValueError: if a value is out of range, or reporting phones may be too few: more than (n +
        c)/2 must sign what is unmasked, and in the complete graph t others unmask a reporting
        phone.
    """
    n = num_phones
    require(n >= 2, "num_phones must be at least 2", num_phones=n)
    require(colluders >= 0, "colluders must be at least 0", colluders=colluders)
    require(dropped >= 0, "dropped must be at least 0", dropped=dropped)
    given = {"num_phones": n, "colluders": colluders, "dropped": dropped}
    rule = "num_phones - dropped must exceed (num_phones + colluders)/2"
    require(2 * (n - dropped) > n + colluders, rule, **given)
    rule = "threat_model must be 'malicious' or 'semi_honest'"
    require(threat_model in SECURITY_BITS, rule, threat_model=threat_model)
    security = SECURITY_BITS[threat_model] if security_bits is None else security_bits
    for name, bits in (("security_bits", security), ("correctness_bits", correctness_bits)):
        require(0 < bits < math.inf, f"{name} must be positive and finite", **{name: bits})
    if n > COMPLETE_UP_TO:
        ring = _smallest_ring(n, colluders, dropped, threat_model, -security - 1, -correctness_bits)
        if ring is not None:
            return ring
    complete = complete_parameters(n, colluders)
    rule = (
        "in a complete graph num_phones - dropped - 1 must be at least (num_phones + colluders)//2 "
        "+ 1"
    )
    require(n - 1 - dropped >= complete.threshold, rule, **given)
    return complete


def complete_parameters(num_phones: int, colluders: int) -> GraphParameters:
    """The graph in which nothing is left to chance: all others, and more than (n + c)/2 of them."""
    threshold = (num_phones + colluders) // 2 + 1
    return GraphParameters(num_phones=num_phones, neighbors=num_phones - 1, threshold=threshold)


def _smallest_ring(
    n: int,
    colluders: int,
    dropped: int,
    threat_model: ThreatModel,
    security: float,
    correctness: float,
) -> GraphParameters | None:
    """The smallest even k < n - 1 with a threshold, or None; bounds in log2, per kind of failure.

    Two more neighbors raise the highest threshold by at most 2 and never lower the lowest one, so
    a gap of g between them cannot close within fewer than g/2 steps: these are skipped.
    """
    halves = range(n // 2)
    half = bisect_left(
        halves, True, key=lambda h: log2_disconnected(n, 2 * h, colluders + dropped) <= security
    )
    union = math.log2(n)
    while half in halves:
        lowest = max(2, _first_below(_log2_tail(n - 1, colluders, 2 * half), security - union))
        if threat_model == "malicious":
            corrupt_in_half = _log2_tail(n - 1, colluders, half)
            lowest = max(lowest, half + _first_below(corrupt_in_half, security - union - 1))
        lost = _first_below(_log2_tail(n - 1, dropped, 2 * half), correctness - union)
        gap = lowest - (2 * half + 1 - lost)
        if gap <= 0:
            return GraphParameters(num_phones=n, neighbors=2 * half, threshold=lowest)
        half += (gap + 1) // 2
    return None


def log2_disconnected(num_phones: int, neighbors: int, removed: int) -> float:
    """Bounds log2 P[removing this many phones, chosen before the ring, leaves it in pieces].

    Pieces need two cuts of k/2 consecutive phones, all of them removed: -inf if fewer than k are.
    """
    if removed < neighbors or neighbors >= num_phones - 1:
        return -math.inf
    table = _log2_factorials(num_phones)
    return float(
        math.log2(num_phones * (num_phones - neighbors - 1) / 2)
        + table[removed]
        + table[num_phones - neighbors]
        - table[num_phones]
        - table[removed - neighbors]
    )


def _first_below(tail: NDArray[np.float64], bound: float) -> int:
    """Smallest count whose tail is at most the bound; the last one, beyond all draws, always is."""
    return int(np.argmax(tail <= bound))


def _log2_tail(population: int, marked: int, draws: int) -> NDArray[np.float64]:
    """log2 P[Hyp(population, marked, draws) >= count] for count = 0..draws + 1."""
    table = _log2_factorials(population + 1)
    unmarked = population - marked
    x = np.arange(max(0, draws - unmarked), min(marked, draws) + 1)
    mass = np.full(draws + 2, -np.inf)
    mass[x] = (
        (table[marked] - table[x] - table[marked - x])
        + (table[unmarked] - table[draws - x] - table[unmarked - draws + x])
        - (table[population] - table[draws] - table[population - draws])
    )
    # Summed from the far end and in logarithms: of 1 minus a sum no digit is left at 2^-60.
    tail: NDArray[np.float64] = np.logaddexp2.accumulate(mass[::-1])[::-1]
    return np.minimum(tail, 0.0)


@functools.lru_cache(maxsize=4)
def _log2_factorials(largest: int) -> NDArray[np.float64]:
    """log2 i! for i = 0..largest."""
    table = np.array([math.lgamma(i + 1) for i in range(largest + 1)]) / math.log(2)
    table.flags.writeable = False
    return table


@dataclass(frozen=True, eq=False)
class Graph:
    """A regular graph on a cohort list; public, arrays read-only.

    Attributes:
      neighbors: (n, k), row i: the cohort list indices of i's neighbors, ascending.
      places: (n, k), where i stands in the row of its neighbor: `neighbors[neighbors[i, p],
        places[i, p]] == i`.
    """

    neighbors: NDArray[np.int32]
    places: NDArray[np.int32]


def ring_graph(ids: NDArray[np.int64], seed: bytes, neighbors: int) -> Graph:
    """Builds the graph of a round; whoever has cohort list and seed builds the same one.

    Args:
      ids: the cohort list, shape (n,), int64, strictly ascending.
      seed: what nobody could choose: a hash over nonces, or a beacon.
      neighbors: k, even, below n.
    """
    if ids.dtype != np.int64 or ids.ndim != 1 or not (ids[1:] > ids[:-1]).all():
        raise ValueError(f"ids must be int64, ascending, no two alike, got {ids.dtype} {ids.shape}")
    fits = neighbors % 2 == 0 and 2 <= neighbors < ids.size
    require(fits, f"neighbors must be even and in 2..{ids.size - 1}", neighbors=neighbors)
    return _ring_graph(ids.tobytes(), bytes(seed), neighbors)


@functools.lru_cache(maxsize=4)  # in a simulation all phones of a round live in one process
def _ring_graph(ids: bytes, seed: bytes, k: int) -> Graph:
    phones = np.frombuffer(ids, dtype=np.int64).tolist()
    # By hash and not by number: nobody chooses beside whom a phone stands.
    digests = [hashlib.sha256(canonical(seed, phone)).digest() for phone in phones]
    ring = np.array(sorted(range(len(phones)), key=digests.__getitem__), dtype=np.int32)
    steps = np.r_[-k // 2 : 0, 1 : k // 2 + 1]
    rows = np.empty((ring.size, k), dtype=np.int32)
    rows[ring] = np.take(ring, np.arange(ring.size)[:, None] + steps, mode="wrap")
    rows.sort(axis=1)
    return _graph(rows)


@functools.lru_cache(maxsize=4)
def complete_graph(num_phones: int) -> Graph:
    """Builds the graph in which every phone is adjacent to every other; it needs no seed."""
    require(num_phones >= 2, "num_phones must be at least 2", num_phones=num_phones)
    others = np.arange(num_phones - 1, dtype=np.int32)
    return _graph(others + (others >= np.arange(num_phones)[:, None]).astype(np.int32))


def _graph(neighbors: NDArray[np.int32]) -> Graph:
    """Adds the places: edges (i, j) in the order of j, then i, run along j's row."""
    n, k = neighbors.shape
    columns = neighbors.astype(np.min_scalar_type(n))  # 16 bits are sorted three times as fast
    places = np.empty(n * k, dtype=np.int32)
    places[np.argsort(columns, axis=None, kind="stable")] = np.tile(np.arange(k, dtype=np.int32), n)
    neighbors.flags.writeable = places.flags.writeable = False
    return Graph(neighbors, places.reshape(n, k))
