"""When a trial is not worth its remaining rounds, and who pays for those that it runs."""

import numpy as np
import pytest
from tiny_experiment import tiny_scenario
from tiny_job import make_job

from fedspeech.privacy.ledger import Ledger
from fedspeech.training.dataset import LocalDataset
from simulations.progress import RunProgress
from simulations.tuning import search
from simulations.tuning.search import Ground, Search
from simulations.tuning.space import Space
from simulations.tuning.trial import Hopeless, Panel, marks, run_trial


class Judges:
    """Two judges whom every adapter pleases alike."""

    visibility, clips = "server", 20

    def accuracies(self, vector):
        return np.array([0.5, 0.75])


class Tones:
    """A task of which nobody has heard: how far off each tone is."""

    accuracy = "tones told apart"

    def mistakes(self, vector, clips):
        return np.abs(clips.labels - int(vector[0]))


def test_settings_are_compared_by_the_mistakes_that_a_task_counts():
    clips = LocalDataset(np.zeros((4, 1, 1), np.float32), np.array([1, 1, 2, 3]))
    panel = Panel("simulation_only", Tones(), (clips, clips.take(np.array([0]))), ({}, {}))
    assert panel.accuracies(np.array([1.0], np.float32)).tolist() == [0.5, 1.0]
    assert panel.accuracies(np.array([3.0], np.float32)).tolist() == [0.25, 0.0]


def test_a_trial_is_judged_at_quarters_and_at_its_end():
    assert marks(8) == (2, 4, 6, 8)
    assert marks(1) == (1,)
    assert marks(3) == (1, 2, 3)


def test_hopeless_is_below_the_base_or_below_peers_at_half_time_and_not_before():
    alone = Hopeless(base=0.8, rounds=8)
    assert not alone({2: 0.1})
    assert alone({2: 0.8, 4: 0.74})
    assert not alone({2: 0.8, 4: 0.76})
    peers = tuple({4: accuracy, 8: accuracy} for accuracy in (0.80, 0.82, 0.84, 0.86))
    among = Hopeless(base=0.7, rounds=8, peers=peers)
    assert among({4: 0.79})
    assert not among({4: 0.83})
    assert not Hopeless(base=0.7, rounds=8, peers=peers[:3])({4: 0.79})


def charged_job(folder):
    folder.mkdir()
    return make_job(folder, rounds=2, secure_aggregation="ideal", noise_entropy="os")[1]


def test_a_charged_trial_charges_the_population_and_an_uncharged_one_nobody(tmp_path):
    job, path = charged_job(tmp_path / "job"), tmp_path / "population.jsonl"
    hopeless = Hopeless(base=0.5, rounds=2, visibility="server")
    free = run_trial(job, Judges(), hopeless, None, tmp_path)
    assert free.spent is None
    assert not path.exists()
    paid = run_trial(job, Judges(), hopeless, path, tmp_path)
    account = Ledger.inspect(path)
    (run,) = account.runs
    assert (run.purpose, run.charged, run.completed) == ("tuning", 2, 2)
    assert account.guarantee().epsilon_release > 0
    assert paid.spent.guarantee.rounds == 2
    assert paid.spent.guarantee.epsilon_release == account.guarantee().epsilon_release
    run_trial(job, Judges(), hopeless, path, tmp_path)
    assert Ledger.inspect(path).rounds_charged == 4


@pytest.mark.slow
@pytest.mark.parametrize("charged", [True, False])
def test_every_trial_of_a_charged_search_is_told_who_pays(tmp_path, monkeypatch, charged):
    job, told = charged_job(tmp_path / "job"), []
    path = tmp_path / "population.jsonl" if charged else None

    def record(job, panel, hopeless, ledger, scratch):
        told.append(ledger)
        return run_trial(job, panel, hopeless, None, scratch).model_copy()

    monkeypatch.setattr(search, "run_trial", record)
    space = Space.around(tiny_scenario(), clip_norm=(0.1, 0.2), noise_multiplier=(1.0,))
    with Search(
        tmp_path / "study.db", [Ground(1, job, Judges(), 0.5)], job.plan, space,
        directions=("maximize",), workers=4 if charged else 1, progress=RunProgress(),
        charge=path,
    ) as found:  # fmt: skip
        found.evaluate(space.settings())
    assert told == [path, path]
