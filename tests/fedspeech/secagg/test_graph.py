import hashlib
import itertools
import math
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedspeech.secagg.graph import (
    COMPLETE_UP_TO,
    SECURITY_BITS,
    GraphParameters,
    _log2_tail,
    complete_graph,
    graph_parameters,
    log2_disconnected,
    ring_graph,
)

SEED = b"seed" * 8


def log2_failures(parameters, *, colluders, dropped):
    """Bounds log2 of the probability of each failure that `secagg.graph` lists.

    -inf is impossible, 0 and above no bound at all, as for arcs on the ring of a semi-honest
    server.
    """
    n, k, t = parameters.num_phones, parameters.neighbors, parameters.threshold
    bounds = {
        "corrupt neighbors suffice": math.log2(n) + _at(_log2_tail(n - 1, colluders, k), t),
        "ring in pieces": log2_disconnected(n, k, colluders + dropped),
        "too few neighbors answer": math.log2(n) + _at(_log2_tail(n - 1, dropped, k), k + 1 - t),
    }
    if not parameters.complete:  # no arc can be cut out of the complete graph
        corrupt_in_half = _log2_tail(n - 1, colluders, k // 2)
        bounds["arc's end unmasked"] = math.log2(2 * n) + _at(corrupt_in_half, t - k // 2)
    return bounds


def _at(tail, count):
    """log2 P[X >= count], for any integer."""
    return float(tail[min(max(count, 0), tail.size - 1)])


def bits_with_missing_nonces(missing):
    return 40 + math.log2(sum(math.comb(1000, i) for i in range(missing + 1)))


# (threat_model, security bits, percent corrupt, percent dropped, n) -> (k, t): computed apart from
# this library when the protocol was designed; correctness bits 30.
DESIGN = {
    ("malicious", 40, 10, 10, 200): (80, 60),
    ("malicious", 40, 10, 10, 1000): (152, 110),
    ("malicious", 40, 10, 10, 2000): (170, 122),
    ("malicious", 60, 10, 10, 200): (82, 62),
    ("malicious", 60, 10, 10, 1000): (176, 130),
    ("malicious", 60, 10, 10, 2000): (200, 147),
    ("malicious", 40, 5, 5, 200): (42, 32),
    ("malicious", 40, 5, 5, 1000): (84, 62),
    ("malicious", 40, 5, 5, 2000): (90, 66),
    ("semi_honest", 60, 10, 10, 200): (38, 21),
    ("semi_honest", 60, 10, 10, 1000): (62, 36),
    ("semi_honest", 60, 10, 10, 2000): (66, 38),
    # up to 1, 5, 20 of 1000 nonces may stay away: that many more graphs to choose from
    ("malicious", bits_with_missing_nonces(1), 10, 10, 1000): (164, 120),
    ("malicious", bits_with_missing_nonces(5), 10, 10, 1000): (200, 151),
    ("malicious", bits_with_missing_nonces(20), 10, 10, 1000): (276, 217),
}


@cache
def tail(population, marked, draws, count):
    """P[Hyp >= count], exactly."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, draws - x)
        for x in range(max(count, 0), draws + 1)
    )
    return Fraction(ways, math.comb(population, draws))


def exact_failures(n, k, t, colluders, dropped):
    removed, pieces = colluders + dropped, Fraction(0)
    if removed >= k:
        pieces = Fraction(math.comb(n - k, removed - k), math.comb(n, removed))
    return {
        "corrupt neighbors suffice": n * tail(n - 1, colluders, k, t),
        "ring in pieces": Fraction(n * (n - k - 1), 2) * pieces,
        "too few neighbors answer": n * (1 - tail(n - 1, n - 1 - dropped, k, t)),
        "arc's end unmasked": 2 * n * tail(n - 1, colluders, k // 2, t - k // 2),
    }


def holds(n, k, t, colluders, dropped, threat_model, security, correctness=30):
    failures = exact_failures(n, k, t, colluders, dropped)
    if threat_model == "semi_honest":
        del failures["arc's end unmasked"]
    answers = failures.pop("too few neighbors answer")
    return answers <= Fraction(1, 2**correctness) and all(
        failure <= Fraction(1, 2 ** (security + 1)) for failure in failures.values()
    )


def parameters(n, percent, threat_model="malicious", **bits):
    return graph_parameters(
        n,
        colluders=n * percent // 100,
        dropped=n * percent // 100,
        threat_model=threat_model,
        **bits,
    )


@pytest.mark.parametrize(("setting", "expected"), DESIGN.items())
def test_parameters_are_those_of_the_design(setting, expected):
    threat_model, security, corrupt, dropped, n = setting
    found = graph_parameters(
        n,
        colluders=n * corrupt // 100,
        dropped=n * dropped // 100,
        threat_model=threat_model,
        security_bits=security,
    )
    assert (found.neighbors, found.threshold) == expected
    assert not found.complete


def test_default_security_is_that_of_the_server():
    assert dict(SECURITY_BITS) == {"malicious": 40, "semi_honest": 60}
    for threat_model, bits in SECURITY_BITS.items():
        assert parameters(500, 10, threat_model) == parameters(
            500, 10, threat_model, security_bits=bits
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "colluders", "dropped", "threat_model", "security"),
    [
        (129, 12, 12, "malicious", 40),
        (130, 0, 0, "malicious", 40),
        (150, 1, 30, "malicious", 40),
        (150, 1, 30, "semi_honest", 60),
        (171, 30, 5, "malicious", 60),
        (200, 0, 60, "semi_honest", 60),  # the ring in pieces is what binds
        (200, 40, 60, "semi_honest", 60),
        (223, 11, 40, "malicious", 20),
        (160, 40, 30, "malicious", 40),
    ],
)
def test_no_sparser_ring_and_no_lower_threshold_would_do(
    n, colluders, dropped, threat_model, security
):
    rings = (
        (k, t)
        for k in range(2, n - 1, 2)
        for t in range(2, k + 1)
        if holds(n, k, t, colluders, dropped, threat_model, security)
    )
    found = graph_parameters(
        n, colluders=colluders, dropped=dropped, threat_model=threat_model, security_bits=security
    )
    complete = (n - 1, (n + colluders) // 2 + 1)
    assert (found.neighbors, found.threshold) == next(rings, complete)


@given(
    n=st.integers(8, 40), half=st.integers(1, 18), t=st.integers(1, 40),
    colluders=st.integers(0, 20), dropped=st.integers(0, 19),
)  # fmt: skip
def test_failures_are_the_exact_union_bounds(n, half, t, colluders, dropped):
    k = min(2 * half, (n - 2) // 2 * 2)
    colluders, dropped, t = min(colluders, n // 2), min(dropped, n // 2 - 1), min(t, k)
    found = log2_failures(
        GraphParameters(num_phones=n, neighbors=k, threshold=t),
        colluders=colluders,
        dropped=dropped,
    )
    expected = exact_failures(n, k, t, colluders, dropped)
    assert found.keys() == expected.keys()
    for name, failure in expected.items():
        if failure == 0:
            assert found[name] == -math.inf
        else:
            exact = math.log2(failure.numerator) - math.log2(failure.denominator)
            assert found[name] == pytest.approx(exact, abs=1e-9)


def test_failures_of_large_cohort_lists_are_those_of_scipy():
    n, k, t, c, d = 10_000, 194, 139, 1000, 1000
    found = log2_failures(
        GraphParameters(num_phones=n, neighbors=k, threshold=t), colluders=c, dropped=d
    )
    upper = stats.hypergeom.logsf
    by_scipy = {
        "corrupt neighbors suffice": math.log(n) + upper(t - 1, n - 1, c, k),
        "ring in pieces": math.log(n * (n - k - 1) / 2) + stats.hypergeom.logpmf(k, n, c + d, k),
        "too few neighbors answer": math.log(n)
        + stats.hypergeom.logcdf(t - 1, n - 1, n - 1 - d, k),
        "arc's end unmasked": math.log(2 * n) + upper(t - k // 2 - 1, n - 1, c, k // 2),
    }
    assert found == pytest.approx({a: b / math.log(2) for a, b in by_scipy.items()}, rel=1e-6)


def test_no_other_reading_of_the_tails_is_likelier():
    # Over n instead of n - 1, or seen from a phone that is itself corrupt or dropped.
    for n, k in ((20, 6), (200, 40), (1000, 152)):
        marked = n // 10
        for count in range(k + 1):
            ours = tail(n - 1, marked, k, count)
            assert ours >= tail(n, marked, k, count)
            assert ours >= tail(n - 1, marked - 1, k, count)


@pytest.mark.slow
@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
@pytest.mark.parametrize("percent", [0, 3, 10, 25])
def test_every_condition_is_met_at_every_size(threat_model, percent):
    security = SECURITY_BITS[threat_model]
    for n in (*range(129, 400, 13), *range(400, 10_001, 481)):
        found = parameters(n, percent, threat_model)
        failures = log2_failures(found, colluders=n * percent // 100, dropped=n * percent // 100)
        assert failures.pop("too few neighbors answer") <= -30
        if threat_model == "semi_honest":
            failures.pop("arc's end unmasked", None)
        assert max(failures.values()) <= -security - 1
        if not found.complete:
            assert found.neighbors % 2 == 0
            assert found.neighbors < n - 1
            assert (
                threat_model == "semi_honest"
                or found.neighbors / 2 < found.threshold <= found.neighbors
            )


@pytest.mark.parametrize("threat_model", ["malicious", "semi_honest"])
def test_more_to_fear_never_makes_the_ring_weaker(threat_model):
    def found(colluders=50, dropped=50, **bits):
        ring = graph_parameters(
            1000, colluders=colluders, dropped=dropped, threat_model=threat_model, **bits
        )
        assert not ring.complete
        return ring.neighbors, ring.threshold

    for more in (
        [found(colluders=c) for c in range(0, 200, 3)],
        [found(security_bits=float(bits)) for bits in range(5, 200, 3)],
    ):
        assert all(a <= b and s <= t for (a, s), (b, t) in itertools.pairwise(more))
    for more in (
        [found(dropped=d) for d in range(0, 200, 3)],
        [found(correctness_bits=float(bits)) for bits in range(5, 100, 3)],
    ):
        assert all(a <= b for (a, _), (b, _) in itertools.pairwise(more))


def test_malicious_server_meets_a_denser_ring():
    for n in (150, 500, 3000):
        semi_honest, malicious = parameters(n, 10, "semi_honest"), parameters(n, 10)
        assert semi_honest.neighbors < malicious.neighbors
        assert semi_honest.threshold < malicious.threshold


def test_small_cohort_lists_get_the_complete_graph():
    for n, c, dropped in ((3, 0, 0), (10, 1, 3), (COMPLETE_UP_TO, 12, 12)):
        found = graph_parameters(n, colluders=c, dropped=dropped, threat_model="malicious")
        assert found.complete
        assert found.neighbors == n - 1
        # two quorums overlap in more phones than are corrupt, and no lower threshold does that
        assert 2 * found.threshold > n + c >= 2 * (found.threshold - 1)
    assert not parameters(COMPLETE_UP_TO + 1, 10).complete


def test_complete_graph_fails_with_probability_zero():
    for n in (3, 10, 77, 128):
        for c in range(n):
            for dropped in range(n):
                try:
                    found = graph_parameters(
                        n, colluders=c, dropped=dropped, threat_model="malicious"
                    )
                except ValueError:
                    assert n - 1 - dropped < (n + c) // 2 + 1
                    continue
                failures = log2_failures(found, colluders=c, dropped=dropped)
                assert set(failures.values()) == {-math.inf}


def test_where_no_ring_will_do_the_graph_is_complete():
    found = graph_parameters(150, colluders=60, dropped=25, threat_model="malicious")
    assert found == GraphParameters(num_phones=150, neighbors=149, threshold=106)


@pytest.mark.parametrize(
    ("n", "changed", "message"),
    [
        (1, {}, "num_phones must be at least 2, got num_phones=1"),
        (200, {"colluders": -1}, "colluders must be at least 0, got colluders=-1"),
        (200, {"dropped": -1}, "dropped must be at least 0, got dropped=-1"),
        (200, {"colluders": 20, "dropped": 90}, r"must exceed .* dropped=90"),
        (200, {"colluders": 200}, r"must exceed .* colluders=200"),
        (10, {"colluders": 1, "dropped": 4}, r"complete .* dropped=4"),
        (2, {}, "complete graph"),
        (
            200,
            {"threat_model": "honest"},
            "threat_model must be 'malicious' or 'semi_honest', got threat_model='honest'",
        ),
        (200, {"security_bits": 0}, "security_bits must be positive"),
        (200, {"security_bits": math.inf}, "finite, got security_bits=inf"),
        (200, {"correctness_bits": math.nan}, "correctness_bits must be positive and finite"),
    ],
)
def test_impossible_settings_are_refused(n, changed, message):
    with pytest.raises(ValueError, match=message):
        graph_parameters(n, **{"colluders": 0, "dropped": 0, "threat_model": "malicious"} | changed)


def slow_ring(ids, seed):
    def digest(phone):
        text = str(phone).encode()
        encoded = b"b" + len(seed).to_bytes(8, "big") + seed
        return hashlib.sha256(encoded + b"i" + len(text).to_bytes(8, "big") + text).digest()

    return sorted(ids, key=digest)


def halves(ring, place, k):
    """The nearest phones after and before one."""
    steps = range(1, k // 2 + 1)
    return [{ring[(place + sign * step) % len(ring)] for step in steps} for sign in (1, -1)]


def pieces(graph, reporting):
    left = set(reporting)
    while left:
        piece, frontier = set(), {left.pop()}
        while frontier:
            piece |= frontier
            frontier = {int(j) for i in frontier for j in graph.neighbors[i]} & left
            left -= frontier
        yield piece


def subsets(items):
    return itertools.chain.from_iterable(
        itertools.combinations(items, size) for size in range(len(items) + 1)
    )


def test_pieces_are_rarer_than_their_bound():
    n, k = 10, 4
    graph = ring_graph(np.arange(n), SEED, k)
    for removed in range(n - 1):
        sets = [
            set(range(n)).difference(gone) for gone in itertools.combinations(range(n), removed)
        ]
        in_pieces = sum(len(list(pieces(graph, left))) > 1 for left in sets)
        assert in_pieces <= len(sets) * 2 ** log2_disconnected(n, k, removed) * (1 + 1e-9)
        assert (in_pieces == 0) == (removed < k)


@pytest.mark.parametrize("corrupt", [set(), {0}, {0, 1}])
def test_whatever_a_server_drops_no_arc_opens_unless_its_ends_do(corrupt):
    # Every choice of dropped phones on a ring of 10, k = 4; only phones that answer give shares.
    n, k = 10, 4
    graph, ring = ring_graph(np.arange(n), SEED, k), slow_ring(range(n), SEED)
    around = [set(row) for row in graph.neighbors.tolist()]
    honest = set(range(n)) - corrupt
    opened = dict.fromkeys((k // 2, k // 2 + 1), 0)
    for dropped in subsets(honest):
        alive = honest.difference(dropped)
        arcs = list(pieces(graph, alive))
        for arc, t in itertools.product(arcs if len(arcs) > 1 else [], opened):
            if all(len((alive | corrupt) & around[phone]) >= t for phone in arc):
                opened[t] += 1
                outer = [h for i in arc for h in halves(ring, ring.index(i), k) if not h & alive]
                assert outer
                assert all(len(half & corrupt) >= t - k // 2 for half in outer)
    assert opened[k // 2] > 0  # the attack is real where t <= k/2
    assert (opened[k // 2 + 1] > 0) == (len(corrupt) > 1)  # one at either end


COHORT_LISTS = st.lists(st.integers(0, 10**12), min_size=3, max_size=30, unique=True).map(sorted)


@settings(max_examples=60)
@given(ids=COHORT_LISTS, seed=st.binary(max_size=40), half=st.integers(1, 14))
def test_ring_is_the_obvious_one(ids, seed, half):
    k = min(2 * half, (len(ids) - 1) // 2 * 2)
    graph = ring_graph(np.array(ids), seed, k)
    ring = slow_ring(ids, seed)
    for place, phone in enumerate(ring):
        row = graph.neighbors[ids.index(phone)]
        assert {ids[j] for j in row} == set.union(*halves(ring, place, k))


@pytest.mark.parametrize(
    "graph",
    [
        ring_graph(np.arange(10, 21), SEED, 2),
        ring_graph(np.arange(11), SEED, 10),
        ring_graph(np.arange(300) ** 2, SEED, 60),
        ring_graph(np.arange(70_000), SEED, 4),  # more phones than 16 bits count
        complete_graph(2),
        complete_graph(257),
    ],
    ids=lambda graph: str(graph.neighbors.shape),
)
def test_graph_is_regular_and_symmetric_and_places_lead_back(graph):
    n, k = graph.neighbors.shape
    own = np.repeat(np.arange(n)[:, None], k, axis=1)
    assert graph.neighbors.dtype == graph.places.dtype == np.int32
    assert graph.neighbors.min() == 0
    assert graph.neighbors.max() == n - 1
    assert (np.diff(graph.neighbors, axis=1) > 0).all()
    assert (graph.neighbors != own).all()
    np.testing.assert_array_equal(graph.neighbors[graph.neighbors, graph.places], own)


def test_everybody_is_adjacent_in_the_complete_graph():
    assert complete_graph(4).neighbors.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_graph_does_not_depend_on_who_asks_and_is_built_once():
    ids = np.array([3, 8, 20, 21, 40])
    graph = ring_graph(ids, SEED, 2)
    assert ring_graph(ids.copy(), bytes(bytearray(SEED)), 2) is graph
    assert complete_graph(5) is complete_graph(5)
    for array in (graph.neighbors, graph.places, complete_graph(5).places):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    ids[0] = 4
    assert ring_graph(ids, SEED, 2) is not graph


def test_another_seed_makes_another_ring():
    # Independent rings share 20 / 199 of their 4,000 directed edges: 402, standard deviation 26.
    rows = [ring_graph(np.arange(200), seed, 20).neighbors for seed in (SEED, SEED[:-1])]
    common = sum(np.intersect1d(a, b).size for a, b in zip(*rows, strict=True))
    assert 200 < common < 600


@pytest.mark.slow
def test_corrupt_neighbors_follow_the_hypergeometric_law():
    # Chi-square over independent seeds, false alarm 1e-6. Corrupt phones have the lowest numbers.
    n, k, colluders, num_seeds = 60, 12, 15, 4000
    counts = np.zeros(k + 1)
    for i in range(num_seeds):
        row = ring_graph(np.arange(n), i.to_bytes(4, "big"), k).neighbors[colluders]
        counts[np.count_nonzero(row < colluders)] += 1
    expected = num_seeds * stats.hypergeom.pmf(np.arange(k + 1), n - 1, colluders, k)
    last = int(np.flatnonzero(expected >= 10)[-1])
    observed, law = (np.r_[x[:last], x[last:].sum()] for x in (counts, expected))
    assert stats.chisquare(observed, law).pvalue > 1e-6


@pytest.mark.parametrize(
    ("ids", "neighbors", "message"),
    [
        ([0, 1, 2], 1, "neighbors must be even and in 2..2, got neighbors=1"),
        ([0, 1, 2], 0, "got neighbors=0"),
        ([0, 1, 2, 3], 4, "got neighbors=4"),
        ([0, 2, 1], 2, "ids must be int64, ascending"),
        ([0, 1, 1], 2, "no two alike"),
        ([0.0, 1.0, 2.0], 2, "got float64"),
        ([[0, 1, 2]], 2, r"\(1, 3\)"),
    ],
)
def test_what_is_no_ring_is_refused(ids, neighbors, message):
    with pytest.raises(ValueError, match=message):
        ring_graph(np.array(ids), SEED, neighbors)


def test_one_phone_makes_no_graph():
    with pytest.raises(ValueError, match="num_phones must be at least 2, got num_phones=1"):
        complete_graph(1)
