"""A server rule of another package: the same bits as ours, and what a broken one hears."""

import dataclasses
import re
import sys
import types

import numpy as np
import pytest
from sources import ROOT
from tiny_job import TRAINING, make_arrays, make_job

from fedspeech import own_code
from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.aggregation.own_optimizer import OwnOptimizer, open_optimizer
from fedspeech.aggregation.single_updates import SINGLE_UPDATES
from fedspeech.errors import OwnCodeFailed, ScenarioError
from fedspeech.job import Job
from fedspeech.vectors import GlobalState

START = np.array([1.0, -2.0])
DELTAS = [np.array([0.5, -0.1]), np.array([-0.2, 0.3])]


@pytest.fixture(autouse=True)
def nothing_handed_over(monkeypatch):
    monkeypatch.setattr(own_code, "_HANDED_OVER", {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Momentum:
    """FedAvgM, written by somebody else."""

    rate: float = 0.5
    decay: float = 0.8

    def init(self, parameters):
        return GlobalState(parameters, {"first": np.zeros_like(parameters)})

    def apply(self, state, mean_delta):
        first = self.decay * state.moments["first"] + mean_delta
        return GlobalState(state.parameters + self.rate * first, {"first": first})


def run(optimizer, state=None):
    state = state or optimizer.init(START)
    for delta in DELTAS:
        state = optimizer.apply(state, delta)
    return state


def test_an_own_rule_takes_the_steps_of_the_shipped_one():
    own = run(OwnOptimizer.of(Momentum()))
    shipped = run(FedOpt(optimizer="fedavgm", learning_rate=0.5, momentum=0.8))
    np.testing.assert_array_equal(own.parameters, shipped.parameters)


def test_its_state_survives_a_checkpoint_beside_the_servers_own_arrays(tmp_path):
    """`completed` is also an array of the checkpoint."""
    from fedspeech.round import ServerState
    from server.state import Checkpoint, load_checkpoint, save_checkpoint

    optimizer = OwnOptimizer.of(Counting())
    query = optimizer.apply(optimizer.init(START), DELTAS[0])
    state = ServerState(query, 1.0, completed=7, summed_means=START, noise_power=0.0)
    save_checkpoint(tmp_path / "last", Checkpoint(state=state, next_round=7, opened=0))
    restored = load_checkpoint(tmp_path / "last").state
    assert restored.completed == 7
    np.testing.assert_array_equal(
        optimizer.apply(restored.query, DELTAS[1]).parameters,
        optimizer.apply(query, DELTAS[1]).parameters,
    )


@dataclasses.dataclass(frozen=True)
class Counting:
    """Remembers one number under a name that the checkpoint has too."""

    def init(self, parameters):
        return GlobalState(parameters, {"completed": np.array(0.0)})

    def apply(self, state, mean_delta):
        steps = state.moments["completed"] + 1
        return GlobalState(state.parameters + mean_delta / steps, {"completed": np.array(steps)})


def test_a_job_file_names_it_and_builds_the_same(tmp_path):
    query = dataclasses.replace(TRAINING, optimizer=OwnOptimizer.of(Momentum(rate=0.25)))
    path, job, _ = make_job(tmp_path, query=query)
    assert Job.load(path) == job
    other = dataclasses.replace(query, optimizer=OwnOptimizer.of(Momentum(rate=0.5)))
    assert job.run_id != dataclasses.replace(job, query=other).run_id
    own_code._HANDED_OVER.clear()  # another process
    with pytest.raises(ScenarioError, match="a server rule must be declared as an entry point"):
        Job.load(path)


def test_its_source_is_compared_by_server_and_phones():
    query = dataclasses.replace(TRAINING, optimizer=OwnOptimizer.of(Momentum()))
    assert b"written by somebody else" in query.code()
    assert TRAINING.code() == b""


def test_the_job_of_a_shipped_rule_says_what_it_always_said():
    assert TRAINING.settings()["optimizer"] == {
        "optimizer": "fedavgm", "learning_rate": 0.5, "momentum": 0.5, "beta_2": 0.9,
        "adaptivity": 1e-3,
    }  # fmt: skip
    assert open_optimizer(TRAINING.settings()["optimizer"]) == TRAINING.optimizer


class Broken:
    """A rule that breaks one rule."""

    apply_with = None

    def init(self, parameters):
        return GlobalState(parameters)

    def apply(self, state, mean_delta):
        return type(self).apply_with(state, mean_delta)


def nan(state, mean):
    return GlobalState(state.parameters / np.zeros(2))


def too_large(state, mean):
    return GlobalState(state.parameters + 1e39)


def shorter(state, mean):
    return GlobalState(state.parameters[:1])


def narrower(state, mean):
    return GlobalState(state.parameters.astype(np.float32))


def in_place(state, mean):
    parameters = state.parameters
    parameters += mean
    return GlobalState(parameters)


def mean_in_place(state, mean):
    mean *= 2
    return GlobalState(state.parameters + mean)


def raising(state, mean):
    raise ZeroDivisionError("nothing to divide by")


def bare(state, mean):
    return state.parameters


def whole_numbers(state, mean):
    return GlobalState(state.parameters, {"steps": np.array([1])})


def at_random(state, mean, rng=np.random.default_rng(1)):  # noqa: B008 (the fault)
    return GlobalState(state.parameters + rng.normal(size=2))


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (nan, "return parameters that are finite as float32, got 2 of 2 that are not"),
        (too_large, "finite as float32, got 2 of 2"),
        (shorter, r"return parameters of shape \(2,\), got \(1,\)"),
        (narrower, "return parameters as a float64 array, got float32"),
        (in_place, "must not change the state or the mean in place"),
        (mean_in_place, "must not change the state or the mean in place"),
        (raising, "raised ZeroDivisionError: nothing to divide by"),
        (bare, "must return a GlobalState, got ndarray"),
        (whole_numbers, "return steps as a float64 array, got int64"),
        (at_random, "same state for the same state and mean"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_rule_is_named_before_a_round_is_paid_for(monkeypatch, apply, words):
    monkeypatch.setattr(Broken, "apply_with", apply)
    own_code.hand_over(Broken)
    rule = OwnOptimizer(rule=own_code.address_of(Broken))
    query = dataclasses.replace(TRAINING, optimizer=rule)
    arrays = dataclasses.replace(make_arrays(), initial=START.astype(np.float32))
    with pytest.raises(OwnCodeFailed, match=words) as refused:
        query.initial(arrays)
    assert "test_own_optimizer:Broken: apply" in str(refused.value)


@dataclasses.dataclass
class Remembering:
    """Keeps what it should return."""

    steps: int = 0

    def init(self, parameters):
        return GlobalState(parameters)

    def apply(self, state, mean_delta):
        self.steps += 1
        return GlobalState(state.parameters + self.steps)


def test_a_rule_that_remembers_beside_its_state_is_refused():
    """After a resume it would have forgotten, and the run would end with other bits."""
    with pytest.raises(OwnCodeFailed, match="belongs into the state's moments"):
        OwnOptimizer.of(Remembering()).init(START)


@dataclasses.dataclass(frozen=True)
class Elsewhere(Momentum):
    """Does not begin where it is told."""

    def init(self, parameters):
        return GlobalState(parameters + 1)


def test_it_begins_with_the_adapter_that_phones_have():
    with pytest.raises(OwnCodeFailed, match="begin with the parameters that it is given"):
        OwnOptimizer.of(Elsewhere()).init(START)


@pytest.mark.parametrize("name", ["Krum", "multi-krum", "median", "trimmed_mean", "fedbuff"])
def test_a_rule_that_needs_single_updates_is_refused_by_name(name):
    with pytest.raises(ValueError, match="opens the sum of a round and no single update") as why:
        FedOpt(optimizer=name)
    assert SINGLE_UPDATES[name.lower().replace("-", "").replace("_", "")] in str(why.value)
    assert "clipped" in str(why.value), "what can be done instead"


def test_a_strategy_of_flower_is_no_server_rule():
    strategy = pytest.importorskip("flwr.serverapp.strategy")
    own_code.hand_over(strategy.FedAvg)
    with pytest.raises(ScenarioError, match="aggregate_train, which reads the replies of single"):
        OwnOptimizer(rule=own_code.address_of(strategy.FedAvg))


def test_a_rule_without_its_functions_is_refused():
    own_code.hand_over(Half)
    with pytest.raises(ScenarioError, match=r"must have init and apply, and .* has no apply"):
        OwnOptimizer(rule=own_code.address_of(Half))


class Half:
    """Begins and never steps."""

    def init(self, parameters):
        return GlobalState(parameters)


@pytest.mark.parametrize("settings", [{"rates": 1.0}, {"rate": 0.1, "extra": 2}])
def test_settings_that_a_rule_does_not_take_are_refused(settings):
    own_code.hand_over(Momentum)
    with pytest.raises(ScenarioError, match="does not take the settings"):
        OwnOptimizer(rule=own_code.address_of(Momentum), settings=settings)


def test_the_rule_of_the_documentation_is_one(monkeypatch):
    """Its second step, by hand: the sign of 0.9 (0.01 delta_1) + 0.1 delta_2 in each place."""
    text = (ROOT / "docs" / "own-server.md").read_text("utf-8")
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    module = types.ModuleType("the_page")
    monkeypatch.setitem(sys.modules, "the_page", module)
    exec(block, vars(module))
    moved = run(OwnOptimizer.of(module.Lion(rate=1.0))).parameters
    signs = [np.sign(0.1 * DELTAS[0]), np.sign(0.9 * 0.01 * DELTAS[0] + 0.1 * DELTAS[1])]
    np.testing.assert_array_equal(moved, START + sum(signs))


def test_settings_that_no_file_holds_are_refused():
    with pytest.raises(ScenarioError, match="must be numbers, texts"):
        OwnOptimizer.of(Momentum(rate=np.float32(0.1)))
    with pytest.raises(ScenarioError, match="a dataclass whose fields are its settings"):
        OwnOptimizer.of(Half())
