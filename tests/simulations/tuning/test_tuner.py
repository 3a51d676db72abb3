"""Whose privacy is at stake is asked first; who pays is charged; a folder is of one search."""

import dataclasses
import json
import math

import numpy as np
import pytest
from tiny_experiment import TINY, cache, tiny_experiment, tiny_scenario

from fedspeech.errors import BudgetExhausted, FedspeechError, ScenarioError
from fedspeech.privacy.ledger import Ledger
from simulations.progress import RunProgress
from simulations.scenario.reading import read_scenario
from simulations.tuning.folder import open_folder
from simulations.tuning.results import Tuning
from simulations.tuning.search import Search
from simulations.tuning.space import Space
from simulations.tuning.tuner import Request, _ground, tune

RECORDINGS = read_scenario("real-commands", ["corpus.path=somewhere"])


def refused(scenario, tmp_path, **request):
    """What a request is told, before anything is built."""
    with pytest.raises(FedspeechError) as told:
        tune(
            scenario,
            Request(**{"mode": "grid", **request}),
            out=tmp_path / "tune",
            workers=1,
            cache=cache(),
        )
    assert not (tmp_path / "tune").exists()
    return str(told.value)


def test_recordings_are_not_tuned_on_for_nothing(tmp_path):
    told = refused(RECORDINGS, tmp_path)
    for remedy in ("synthetic scenario", "`public`", "`charge`"):
        assert remedy in told


@pytest.mark.parametrize(
    ("scenario", "request_", "rule"),
    [
        (RECORDINGS, {"public": True, "charge": "l"}, "not both"),
        (RECORDINGS, {"charge": "l", "seeds": 2}, "goes with one seed"),
        (RECORDINGS, {"charge": "nowhere/l"}, "there is no folder"),
        (read_scenario("quick"), {"public": True}, "makes its own speech"),
        (read_scenario("quick"), {"charge": "l"}, "makes its own speech"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_made(
    tmp_path, scenario, request_, rule
):
    if charge := request_.get("charge"):
        request_ = {**request_, "charge": tmp_path / charge}
    assert rule in refused(scenario, tmp_path, **request_)


def test_without_noise_there_is_nothing_to_charge(tmp_path):
    changes = ["corpus.path=x", "privacy.mechanism=none", "privacy.noise_multiplier=0"]
    told = refused(read_scenario("real-commands", changes), tmp_path, charge=tmp_path / "l")
    assert "nothing to charge" in told


def charged_search(tmp_path, budget):
    """A search on the tiny population as if it were private, with a budget."""
    built = tiny_experiment()
    plan = dataclasses.replace(built.job.plan, epsilon_budget=budget, secure_aggregation="ideal")
    ground = _ground(tiny_scenario("seed=1"), built, "charged")
    ground = dataclasses.replace(ground, job=dataclasses.replace(ground.job, plan=plan))
    return Search(
        tmp_path / "study.db",
        [ground],
        plan,
        Space.around(tiny_scenario(), clip_norm=(0.05, 0.1, 0.2), noise_multiplier=(1.0,)),
        directions=("maximize",),
        workers=4,
        progress=RunProgress(),
        charge=tmp_path / "population.jsonl",
    )


def rows(path, kind):
    return [row for row in map(json.loads, path.read_text().splitlines()) if row["kind"] == kind]


@pytest.mark.slow
def test_every_round_of_every_trial_is_charged_and_the_budget_ends_the_search(tmp_path):
    plan, ledger = tiny_experiment().job.plan, tmp_path / "population.jsonl"
    # Enough for two trials of two rounds by composition, and for half of a third.
    five = dataclasses.replace(plan, rounds=5, max_participations=5)
    price = Ledger.open(tmp_path / "price.jsonl", five, "price", "os")
    for number in range(5):
        price.charge(number, 0, bytes([number]) * 16)
    budget = price.guarantee().epsilon_release * 1.001
    with charged_search(tmp_path, budget) as search:
        settings = search.space.settings()
        evaluated = search.evaluate(settings)
    assert [found.setting.clip_norm for found in evaluated] == [0.05, 0.1]
    charges = rows(ledger, "charge")
    assert len(charges) == 4  # a trial that the budget does not cover is not begun
    assert {row["noise"] for row in charges} == {rows(ledger, "opened")[0]["noise"]}
    assert len({row["opened"] for row in charges}) == 2
    assert evaluated[-1].outcomes[0].spent.guarantee.rounds == 4
    assert evaluated[-1].outcomes[0].spent.guarantee.epsilon_release == pytest.approx(
        charges[-1]["epsilon_release"]
    )
    # Going on asks the ledger for nothing that is there already.
    with charged_search(tmp_path, budget) as search:
        again = search.evaluate(settings[:2])
    assert len(rows(ledger, "charge")) == 4
    assert [found.outcomes for found in again] == [found.outcomes for found in evaluated]


def test_more_rounds_than_the_budget_covers_are_refused_together(tmp_path):
    plan = dataclasses.replace(tiny_experiment().job.plan, rounds=9, max_participations=9)
    budget = plan.guarantee(3).epsilon_release * 1.001
    plan = dataclasses.replace(plan, epsilon_budget=budget)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", plan, "run", "seeded")
    ledger.require_budget(0, 3)
    with pytest.raises(BudgetExhausted, match="4 more rounds would bring"):
        ledger.require_budget(0, 4)
    assert ledger.rounds_charged == 0


def small(tmp_path, scenario=None, **request):
    return tune(
        scenario or tiny_scenario(),
        Request(
            **{"mode": "grid", "clip_norm": (0.05, 0.1), "noise_multiplier": (1.0, 30.0),
               "seeds": 1, **request}
        ),
        out=tmp_path / "tune",
        workers=1,
        cache=cache(),
    )  # fmt: skip


@pytest.mark.slow
def test_a_folder_is_gone_on_with_under_the_same_settings_only(tmp_path, capsys):
    folder = small(tmp_path)
    before = (folder / "results.json").read_text()
    capsys.readouterr()
    small(tmp_path)
    assert "trial 1" not in capsys.readouterr().out  # nothing is run again
    found, again = map(json.loads, (before, (folder / "results.json").read_text()))
    for timed in ("seconds", "cpu_seconds"):
        del found[timed], again[timed]
    assert found == again
    with pytest.raises(FedspeechError, match=r"clip norm was \[0\.05, 0\.1\], is \[0\.05, 0\.2\]"):
        small(tmp_path, clip_norm=(0.05, 0.2))
    with pytest.raises(FedspeechError, match=r"scenario\.privacy\.rounds was 2, is 1"):
        small(tmp_path, scenario=tiny_scenario("privacy.rounds=1"))


def test_a_setting_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(ScenarioError, match="stddev"):
        small(tmp_path, noise_multiplier=(1e-4, 1.0))
    assert not (tmp_path / "tune").exists()


def test_a_folder_in_use_is_left_to_who_uses_it(tmp_path):
    held = open_folder(tmp_path / "tune", {"mode": "grid"})
    with pytest.raises(FedspeechError, match="still going on in another process"):
        open_folder(tmp_path / "tune", {"mode": "grid"})
    held.close()
    open_folder(tmp_path / "tune", {"mode": "grid"}).close()


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "thesis.txt").write_text("dear")
    with pytest.raises(FedspeechError, match="holds other files"):
        small(tmp_path)
    assert (tmp_path / "tune" / "thesis.txt").read_text() == "dear"


@pytest.mark.slow
def test_the_words_carry_every_epsilon_with_its_terms(tmp_path):
    folder = small(tmp_path)
    found = Tuning.model_validate_json((folder / "results.json").read_text())
    said = " ".join(found.words)
    for term in (
        "against readers of the published models", "against the server", "delta", "unit one user",
        "planned", "Renyi divergences", "who must be honest", "on 3 phones over 1 seed",
        "synthetic",
    ):  # fmt: skip
        assert term in said, term
    page = (folder / "tuning.html").read_text()
    assert "so not for release" in page
    assert (folder / "recommended.toml").read_text().startswith("# Tuned by mode grid.\n# The pop")


@pytest.mark.slow
def test_nothing_within_the_budget_is_recommended_and_the_remedy_said(tmp_path, capsys):
    folder = small(tmp_path, scenario=tiny_scenario("privacy.epsilon_budget=0.001"))
    printed = capsys.readouterr().out
    assert "Nothing can be recommended" in printed
    assert "Search larger noise multipliers" in printed
    assert not (folder / "recommended.toml").exists()
    found = Tuning.model_validate_json((folder / "results.json").read_text())
    assert found.recommended is None
    assert all(math.isfinite(trial.accuracy.mean) for trial in found.tried)
    assert np.all([not trial.within_budget for trial in found.tried])


@pytest.mark.slow
def test_a_scenario_without_noise_can_be_tuned_and_says_what_it_is_worth(tmp_path):
    scenario = read_scenario(
        "no-privacy", [change for change in TINY if "privacy.noise" not in change]
    )
    folder = small(tmp_path, scenario=scenario, noise_multiplier=None)
    assert "∞ against readers" in (folder / "tuning.html").read_text()
