"""Two steps of each rule by hand, from Reddi et al. 2021, Algorithm 2."""

import math

import numpy as np
import pytest

from fedspeech.aggregation.optimizers import FedOpt, GlobalState

START = np.array([1.0, -2.0])
DELTAS = [np.array([0.5, -0.1]), np.array([-0.2, 0.3])]


NAMES = ("fedavg", "fedavgm", "fedadam", "fedyogi")


def optimizer_of(name, **settings):
    rate = 0.01 if name in ("fedadam", "fedyogi") else 1.0
    defaults = {"learning_rate": rate, "momentum": 0.9, "beta_2": 0.99, "adaptivity": 1e-3}
    return FedOpt(optimizer=name, **defaults | settings)


def run(optimizer):
    state = optimizer.init(START)
    for delta in DELTAS:
        state = optimizer.apply(state, delta)
    return state.parameters


def test_fedavg_adds_the_mean_delta():
    np.testing.assert_allclose(run(optimizer_of("fedavg")), START + DELTAS[0] + DELTAS[1])
    np.testing.assert_allclose(
        run(optimizer_of("fedavg", learning_rate=2.0)), START + 2 * (DELTAS[0] + DELTAS[1])
    )


def test_momentum_remembers_with_decay():
    # x + eta m1 + eta (beta m1 + delta2)
    expected = START + 0.5 * (DELTAS[0] + (0.8 * DELTAS[0] + DELTAS[1]))
    np.testing.assert_allclose(
        run(optimizer_of("fedavgm", learning_rate=0.5, momentum=0.8)), expected
    )


@pytest.mark.parametrize("kind", ["fedadam", "fedyogi"])
def test_adaptive_steps_are_those_of_the_paper(kind):
    rate, b1, b2, tau = 0.1, 0.9, 0.99, 0.01
    expected = []
    for coordinate in range(2):
        x, m, v = START[coordinate], 0.0, tau**2
        for delta in DELTAS:
            d = delta[coordinate]
            m = b1 * m + (1 - b1) * d
            if kind == "fedadam":
                v = b2 * v + (1 - b2) * d * d
            else:
                v = v - (1 - b2) * d * d * math.copysign(1, v - d * d)
            x += rate * m / (math.sqrt(v) + tau)
        expected.append(x)
    optimizer = optimizer_of(kind, learning_rate=rate, momentum=b1, beta_2=b2, adaptivity=tau)
    np.testing.assert_allclose(run(optimizer), expected, rtol=1e-12)


def test_yogi_forgets_a_large_second_moment_slowly():
    adam, yogi = optimizer_of("fedadam"), optimizer_of("fedyogi")
    large = {"first": np.zeros(1), "second": np.array([100.0])}
    small = np.array([0.1])
    assert adam.apply(GlobalState(np.zeros(1), large), small).moments["second"] < 99.1
    assert yogi.apply(GlobalState(np.zeros(1), large), small).moments["second"] > 99.99


@pytest.mark.parametrize("optimizer", map(optimizer_of, NAMES), ids=NAMES)
def test_a_restored_state_goes_on_as_if_never_stored(optimizer):
    state = optimizer.apply(optimizer.init(START.astype(np.float32)), DELTAS[0])
    restored = GlobalState.from_arrays(state.to_arrays())
    np.testing.assert_array_equal(
        optimizer.apply(restored, DELTAS[1]).parameters,
        optimizer.apply(state, DELTAS[1]).parameters,
    )
    assert state.parameters.dtype == np.float64


@pytest.mark.parametrize("optimizer", map(optimizer_of, NAMES), ids=NAMES)
def test_states_are_never_changed_in_place(optimizer):
    state = optimizer.init(START)
    before = {name: array.copy() for name, array in state.to_arrays().items()}
    optimizer.apply(state, DELTAS[0])
    for name, array in state.to_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    assert np.array_equal(START, [1.0, -2.0])


def test_states_and_deltas_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="remembers"):
        optimizer_of("fedadam").apply(optimizer_of("fedavg").init(START), DELTAS[0])
    with pytest.raises(ValueError, match="shape"):
        optimizer_of("fedavg").apply(optimizer_of("fedavg").init(START), np.zeros(3))
    with pytest.raises(ValueError, match="parameters"):
        GlobalState.from_arrays({"first": START})
    with pytest.raises(ValueError, match="shape"):
        optimizer_of("fedavgm").apply(
            GlobalState.from_arrays({"parameters": START, "first": np.zeros(3)}), DELTAS[0]
        )


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("fedavg", {"learning_rate": 0.0}),
        ("fedavgm", {"momentum": 1.0}),
        ("fedadam", {"adaptivity": 0.0}),
        ("fedyogi", {"beta_2": -0.1}),
        ("fedyogi", {"learning_rate": math.inf}),
    ],
)
def test_rates_out_of_range_are_refused(kind, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        optimizer_of(kind, **settings)


def test_printing_a_state_shows_no_value():
    assert (
        repr(optimizer_of("fedadam").init(START))
        == "GlobalState(shape=(2,), moments=['first', 'second'])"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", [(1.0, 0.0), (0.6, 0.8)])
def test_no_sequence_of_means_moves_parameters_farther_than_the_reach(name, start):
    """Means of one direction go farthest; turning ones less far."""
    optimizer, rng = optimizer_of(name), np.random.default_rng(1)
    for turning in (False, True):
        state = optimizer.init(np.zeros(2))
        for _ in range(12):
            mean = rng.normal(size=2) if turning else np.array(start)
            state = optimizer.apply(state, 0.3 * mean / np.linalg.norm(mean))
        assert np.linalg.norm(state.parameters) <= optimizer.reach(0.3, 12) * (1 + 1e-12)


def test_the_reach_of_plain_averaging_is_met():
    optimizer = optimizer_of("fedavg", learning_rate=2.0)
    state = optimizer.init(np.zeros(2))
    for _ in range(5):
        state = optimizer.apply(state, np.array([0.6, 0.8]))
    np.testing.assert_allclose(np.linalg.norm(state.parameters), optimizer.reach(1.0, 5))
