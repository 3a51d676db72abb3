"""Solving inverts pricing: the answer meets epsilon, and a little more does not."""

import contextlib
import functools
import math
import types

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedspeech.privacy import solving
from fedspeech.privacy.filling import fill
from fedspeech.privacy.pricing import price
from fedspeech.privacy.solving import solve

BASE = {
    "mechanism": "distributed", "participation": "poisson", "population": 100_000,
    "cohort": 1000, "rounds": 100, "noise_multiplier": 1.0, "dimension": 600,
    "secure_aggregation": "ideal",
}  # fmt: skip


def maker(*without, **changes):
    fields = {**BASE, **changes}
    return functools.partial(fill, **{k: v for k, v in fields.items() if k not in without})


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def soak(*values):
    """The accountant of central noise takes seconds for a price, and a search asks for dozens."""
    return pytest.param(*values, marks=pytest.mark.soak)


COMBINATIONS = [
    soak("central", "poisson"), soak("central", "fixed_size"), slow("central", "round_robin"),
    slow("distributed", "poisson"), slow("distributed", "fixed_size"),
    slow("distributed", "round_robin"), slow("skellam", "fixed_size"),
    slow("skellam", "round_robin"),
    slow("local", "poisson"), slow("local", "fixed_size"), slow("local", "round_robin"),
]  # fmt: skip


@pytest.mark.parametrize(("mechanism", "participation"), COMBINATIONS)
def test_the_noise_that_was_found_is_just_enough(mechanism, participation):
    make = maker("noise_multiplier", mechanism=mechanism, participation=participation,
                 max_participations=8)  # fmt: skip
    found = solve(make, "noise", 2.0)
    noise = found.price.plan.noise_multiplier
    assert found.price.release.epsilon <= 2.0
    assert price(make(noise_multiplier=noise)).release.epsilon == found.price.release.epsilon
    assert price(make(noise_multiplier=noise * 0.998)).release.epsilon > 2.0


@pytest.mark.parametrize(
    ("mechanism", "participation"),
    [slow("central", "poisson"), soak("central", "fixed_size"), ("distributed", "poisson"),
     ("skellam", "fixed_size"), ("local", "poisson")],
)  # fmt: skip
def test_one_round_more_is_too_many(mechanism, participation):
    noise = 0.1 if mechanism == "local" else 2.0
    make = maker("rounds", mechanism=mechanism, participation=participation,
                 noise_multiplier=noise)  # fmt: skip
    found = solve(make, "rounds", 2.5)
    assert found.price.release.epsilon <= 2.5
    assert price(make(rounds=found.price.plan.rounds + 1)).release.epsilon > 2.5


@pytest.mark.parametrize("mechanism", [soak("central"), slow("distributed")])
def test_one_phone_more_is_too_many(mechanism):
    make = maker("cohort", mechanism=mechanism)
    found = solve(make, "cohort", 1.5)
    cohort = round(found.price.plan.expected_cohort)
    assert found.price.release.epsilon <= 1.5
    assert price(make(cohort=cohort + 1)).release.epsilon > 1.5


def test_the_narrowest_ring_is_found():
    make = maker("ring_bits", cohort=1000)
    free = price(make()).plan.ring
    found = solve(make, "bits", 3.0)
    assert found.price.plan.bits <= free.bits
    tight = solve(make, "bits", price(make(ring_bits=24)).release.epsilon * 1.0001)
    assert tight.price.plan.bits == min(24, tight.price.plan.bits)


def test_the_servers_epsilon_can_be_asked_for():
    make = maker("noise_multiplier")
    found = solve(make, "noise", 4.0, against="server")
    assert 3.98 < found.price.server.epsilon <= 4.0
    with pytest.raises(ValueError, match="no noise is enough"):
        solve(maker("noise_multiplier", mechanism="central"), "noise", 4.0, against="server")


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_bound_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be positive and finite"):
        solve(maker("rounds"), "rounds", epsilon)


def test_what_cannot_be_met_says_how_near_it_came():
    with pytest.raises(ValueError, match=r"not even one round .* nearest epsilon_release is"):
        solve(maker("rounds", noise_multiplier=0.5), "rounds", 1e-4)


def test_a_rule_that_forbids_every_candidate_is_named():
    with pytest.raises(ValueError, match="poisson participation is refused with skellam"):
        solve(maker("noise_multiplier", mechanism="skellam"), "noise", 1.0)
    with pytest.raises(ValueError, match="unknown must be one of"):
        solve(maker("rounds"), "clip", 1.0)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.9, 6.0),
    st.integers(200, 5000),
    st.integers(1, 300),
    st.sampled_from(["poisson", "fixed_size"]),
)
def test_solving_for_noise_inverts_pricing(noise, cohort, rounds, participation):
    make = maker("noise_multiplier", cohort=cohort, rounds=rounds, participation=participation,
                 min_reporting=cohort // 2, max_participations=40)  # fmt: skip
    target = price(make(noise_multiplier=noise)).release.epsilon
    assume(math.isfinite(target))  # too little noise for so many rounds has no bound to invert
    found = solve(make, "noise", target)
    assert found.price.release.epsilon <= target
    assert found.price.plan.noise_multiplier <= noise * 1.001


# --- Against a scan -------------------------------------------------------------------------------

SMALL = {
    "mechanism": "distributed", "participation": "poisson", "population": 1500, "cohort": 150,
    "rounds": 20, "noise_multiplier": 3.0, "dimension": 100, "secure_aggregation": "ideal",
}  # fmt: skip


def scanned(name, values, epsilon):
    """The values that cost at most epsilon, of all that were given."""
    fits = []
    for value in values:
        fields = {key: known for key, known in SMALL.items() if key != name} | {name: value}
        try:
            found = price(fill(**fields))
        except ValueError:
            continue
        if found.release.epsilon <= epsilon:
            fits.append(value)
    return fits


def small(*without):
    return functools.partial(fill, **{k: v for k, v in SMALL.items() if k not in without})


@pytest.mark.slow
@pytest.mark.parametrize("place", [0.0, 0.02, 0.3])
def test_the_cohort_that_is_found_is_the_largest_of_a_scan(place):
    """Also where few cohorts are cheap enough, between two that a coarse search would try."""
    sizes = range(20, 1501, 5)
    prices = {}
    for size in sizes:
        with contextlib.suppress(ValueError):
            prices[size] = price(small("cohort")(cohort=size)).release.epsilon
    cheapest = min(prices.values())
    epsilon = cheapest * (1 + place) + 1e-9
    largest = max(size for size, found in prices.items() if found <= epsilon)
    found = solve(small("cohort"), "cohort", epsilon)
    assert found.price.release.epsilon <= epsilon
    assert round(found.price.plan.expected_cohort) >= largest


@pytest.fixture
def solved(monkeypatch):
    """Solves for what has a price that is a given function."""

    def answer(unknown, epsilon_of, epsilon, most=math.inf):
        def make(**given):
            (value,) = given.values()
            if value > most:
                raise ValueError(f"cohort must be in (0, {most}]")
            plan = types.SimpleNamespace(cost=value, rounds=1, delta=1e-6)
            return types.SimpleNamespace(plan=plan)

        def release(spent, delta):
            return types.SimpleNamespace(epsilon=epsilon_of(spent[0][0]), relation="add/remove")

        monkeypatch.setattr(solving.adversary_views, "release", release)
        monkeypatch.setattr(solving, "price", lambda filled: filled)
        monkeypatch.setattr(solving, "_has_as_much_to_hide", lambda one, other: False)
        return solve(make, unknown, epsilon).price.plan.cost

    return answer


def test_a_narrow_valley_of_cohorts_is_found(solved):
    """317 phones cost 1.9825, no size that a search by halves tries costs less than 2.1."""

    def epsilon_of(cohort):
        return 1.9825 + abs(math.log(cohort / 317))

    assert min(epsilon_of(size) for size in (211, 316, 317, 318, 475)) == 1.9825
    for epsilon in (1.9825, 1.9845, 3.0):
        largest = math.floor(317 * math.exp(epsilon - 1.9825))
        assert solved("cohort", epsilon_of, epsilon, 3000) == largest


@pytest.mark.parametrize("first", [42, 255, 1600])
def test_a_window_outside_of_which_the_price_jumps_is_found(solved, first):
    """As where an add/remove epsilon holds for some sizes only; none of them grows by half."""
    last = first + first // 5

    def epsilon_of(cohort):
        return 0.9 + cohort / 3000 if first <= cohort <= last else 6 + cohort / 1e5

    assert solved("cohort", epsilon_of, 1.9845, 3000) == last
    assert solved("cohort", epsilon_of, 6.5, 3000) == 3000


@pytest.mark.parametrize("seed", range(20))
def test_the_cohort_that_is_found_is_the_largest_where_prices_are_jagged(solved, seed):
    """Valleys at random places, with small steps as minimums make them, against a whole scan."""
    rng = np.random.default_rng(seed)
    most = int(rng.integers(400, 20_000))
    sizes = np.arange(1, most + 1)
    place, left, right = rng.uniform(0.02, 0.9) * most, *rng.uniform(0.2, 3, 2)
    away = np.log(sizes / place)
    prices = 1 + np.where(away < 0, -left * away, right * away)
    # The price of a minimum: it falls with each step of the minimum, and rises up to the next.
    prices += 1e-4 * (0.75 * sizes % 1)
    for above in (1e-3, 0.02, 0.5):
        epsilon = prices.min() + above
        largest = sizes[prices <= epsilon].max()
        assert solved("cohort", lambda size: prices[size - 1], epsilon, most) == largest


@pytest.mark.parametrize("seed", range(10))
def test_the_most_rounds_are_found_where_prices_are_jagged(solved, seed):
    """Prices rise with rounds but for small steps, against a whole scan."""
    rng = np.random.default_rng(seed)
    rounds = np.arange(1, 5001)
    prices = 0.1 * rounds ** rng.uniform(0.5, 1) * (1 + 1e-3 * (0.3 * rounds % 1))
    for epsilon in rng.uniform(0.2, prices.max(), 5):
        most = rounds[prices <= epsilon].max()
        assert solved("rounds", lambda n: prices[n - 1] if n <= 5000 else math.inf, epsilon) == most


@pytest.mark.parametrize("seed", range(10))
def test_the_least_noise_is_found_where_prices_are_jagged(solved, seed):
    """Prices fall with noise but for small steps, against a scan as fine as the search."""
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.5, 50)

    def epsilon_of(noise):
        return scale / noise * (1 + 2e-3 * (10 * np.log(noise) % 1))

    noises = np.exp(np.arange(math.log(0.01), math.log(1e3), 1e-4))
    prices = epsilon_of(noises)
    for epsilon in rng.uniform(0.5, 20, 3):
        least = noises[prices <= epsilon].min()
        assert solved("noise", epsilon_of, epsilon) <= least * (1 + 2e-4)


@pytest.mark.parametrize("participation", ["poisson", "round_robin", "fixed_size"])
def test_central_noise_is_found_by_few_prices(monkeypatch, participation):
    """The accountant of central noise takes a second; less of it is known to cost no less."""
    asked = []

    def release(spent, delta):
        noise = spent[0][0].given.noise_multiplier
        asked.append(noise)
        price = 3 / noise**0.9 * (1 + 1e-6 * math.sin(1e5 * noise))
        return types.SimpleNamespace(epsilon=price, relation="add/remove")

    monkeypatch.setattr(solving.adversary_views, "release", release)
    monkeypatch.setattr(solving, "price", lambda filled: filled)
    for epsilon in (0.97, 3.3):
        asked.clear()
        make = maker("noise_multiplier", mechanism="central", participation=participation, rounds=1)
        found = solve(make, "noise", epsilon).price.plan.noise_multiplier
        assert found == pytest.approx((3 / epsilon) ** (1 / 0.9), rel=3e-4)
        assert len(asked) <= 8 + abs(math.log2(found))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.6, 1.5, 4.0])
def test_the_rounds_that_are_found_are_the_most_of_a_scan(epsilon):
    rounds = range(1, 260, 3 if epsilon > 1 else 1)
    fits = scanned("rounds", rounds, epsilon)
    found = solve(small("rounds"), "rounds", epsilon)
    assert found.price.plan.rounds >= max(fits)
    assert found.price.release.epsilon <= epsilon
    assert found.limit == ""


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_the_noise_that_is_found_is_the_smallest_of_a_scan(epsilon):
    noises = [0.2 * 1.05**step for step in range(80)]
    found = solve(small("noise_multiplier"), "noise", epsilon)
    assert found.price.release.epsilon <= epsilon
    assert found.price.plan.noise_multiplier <= min(scanned("noise_multiplier", noises, epsilon))
    # Before epsilon reaches 8, less noise no longer bears an add/remove claim.
    assert found.limit == "" or (epsilon == 8.0 and "of relation zero-out" in found.limit)


def test_the_ring_that_is_found_is_the_narrowest_of_a_scan():
    for epsilon in (0.9, 1.0, 1.2):
        fits = scanned("ring_bits", (16, 24, 32), epsilon)
        if fits:
            found = solve(small("ring_bits"), "bits", epsilon)
            assert found.price.plan.bits == min(fits)


@pytest.mark.slow
def test_a_search_that_something_else_ends_says_so():
    """Local noise of 0.0625 was called enough for 2 and for 8 alike, at the search's own limit."""
    make = small("noise_multiplier", "mechanism")
    found = {
        epsilon: solve(functools.partial(make, mechanism="local"), "noise", epsilon)
        for epsilon in (2.0, 8.0)
    }
    noises = [each.price.plan.noise_multiplier for each in found.values()]
    assert noises[0] > 1.5 * noises[1]
    for epsilon, each in found.items():
        assert each.limit or each.price.release.epsilon > 0.9 * epsilon
    everybody = solve(small("cohort"), "cohort", 1e3)
    assert everybody.price.plan.expected_cohort == 1500
    assert everybody.limit.startswith("more is refused: cohort must be in (0, population]")
    endless = functools.partial(
        fill, mechanism="central", participation="round_robin", population=10**7, cohort=1,
        noise_multiplier=100.0, max_participations=1, participation_window=10**7,
        secure_aggregation="ideal",
    )  # fmt: skip
    assert "rounds are not tried" in solve(endless, "rounds", 5.0).limit
