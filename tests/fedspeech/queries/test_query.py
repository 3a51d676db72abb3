"""What a job may name as its query, and what a node refuses to import."""

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import bounded_mean
import pytest
from bounded_mean import BoundedMean
from tiny_job import TRAINING, make_job

from fedspeech.errors import ProtocolAbort, ScenarioError
from fedspeech.job import Job, check_key
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.queries.query import open_query, query_class
from fedspeech.queries.training import AdapterTraining


@pytest.mark.parametrize(
    "query",
    [
        TRAINING,
        BoundedMean(most=8),
        dataclasses.replace(
            TRAINING,
            example_privacy=ExamplePrivacy(noise_multiplier=1.0, clip_norm=1.0, delta=1e-5),
        ),
    ],
    ids=["training", "another package", "clips hidden"],
)
def test_what_a_job_file_says_of_a_query_builds_the_same_one(query):
    assert open_query(json.loads(json.dumps(query.described()))) == query


def named(folder, address):
    """A job whose file names another query."""
    path, _, _ = make_job(folder)
    values = json.loads(path.read_text())
    values["query"]["class"] = address
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    "address",
    [
        "antigravity:fly",
        "os:system",
        "bounded_mean:Impostor",  # its package is installed and declares another class
        "fedspeech.seeds:NoiseEntropy",
        "fedspeech.queriesque:Query",
        "",
    ],
)
def test_a_job_imports_only_what_is_installed_as_a_query(tmp_path, address):
    """Whoever writes a job file names code: an import runs it."""
    sys.modules.pop("antigravity", None)
    with pytest.raises(ScenarioError, match="declared as an entry point"):
        Job.load(named(tmp_path, address))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("fedspeech.queries.training:ServerOptimizer", "a query must be of fedspeech.queries"),
        ("fedspeech.queries.query:Query", "must be a class of queries"),
        ("fedspeech.queries.query:open_query", "must be a class of queries"),
        ("fedspeech.queries.training:Missing", "cannot be imported"),
        ("fedspeech.queries.missing:Missing", "cannot be imported"),
        ("fedspeech.queries.training", "cannot be imported"),
        ("fedspeech.queries.training:functools.partial", "a query must be of fedspeech.queries"),
    ],
)
def test_what_is_no_query_is_refused(address, words):
    with pytest.raises(ScenarioError, match=words):
        query_class(address)


def test_a_package_that_declares_what_is_no_query_is_refused(tmp_path, monkeypatch):
    info = tmp_path / "impostor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: impostor\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedspeech.queries]\nx = bounded_mean:Impostor\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ScenarioError, match="must be a class of queries"):
        query_class("bounded_mean:Impostor")


def test_the_query_belongs_to_the_identity_of_a_run(tmp_path):
    _, job, _ = make_job(tmp_path, query=BoundedMean(), clip_norm=1.0)
    other = dataclasses.replace(job, query=BoundedMean(most=8))
    assert job.run_id != other.run_id
    assert job.fingerprint != other.fingerprint


def test_settings_that_hide_settings_of_the_job_are_refused(tmp_path):
    """Or two jobs that differ in them would draw the same noise."""

    class Hiding(AdapterTraining):
        def identity(self):
            return {**super().identity(), "seed": 1}

    query = Hiding(**{f.name: getattr(TRAINING, f.name) for f in dataclasses.fields(TRAINING)})
    _, job, _ = make_job(tmp_path)
    with pytest.raises(ValueError, match=r"must not name its settings like the job's: \['seed'\]"):
        dataclasses.replace(job, query=query).fingerprint  # noqa: B018


def test_a_phone_refuses_a_round_of_another_version_of_an_installed_query(tmp_path, monkeypatch):
    _, job, _ = make_job(tmp_path, query=BoundedMean(), clip_norm=1.0)
    key = job.round_key(0)
    check_key(dataclasses.replace(job), key)
    changed = tmp_path / "bounded_mean.py"
    changed.write_bytes(Path(bounded_mean.__file__).read_bytes() + b"\n# a new version\n")
    monkeypatch.setattr(bounded_mean, "__file__", str(changed))
    with pytest.raises(ProtocolAbort, match="source code is not this phone's"):
        check_key(dataclasses.replace(job), key)


def test_plan_and_query_have_the_same_dimension(tmp_path):
    _, job, _ = make_job(tmp_path)
    with pytest.raises(ValueError, match="dimension of the plan must be that of the query, 1, got"):
        dataclasses.replace(job, query=BoundedMean())


def test_a_run_that_trains_no_adapter_says_so():
    with pytest.raises(ScenarioError, match="its query is bounded_mean:BoundedMean"):
        AdapterTraining.of(BoundedMean())


def test_a_query_with_a_trainer_of_its_own_stands_in_no_job(tmp_path):
    _, job, _ = make_job(tmp_path)
    job = dataclasses.replace(job, query=dataclasses.replace(TRAINING, trainer=lambda *_: []))
    with pytest.raises(TypeError, match="no name in a job file"):
        job.save(tmp_path / "job.json")


def test_recorded_runs_keep_their_noise():
    """The identity of this query as it was when the first results were recorded, by digest.

    A setting that is added later and left at what was always done must not change it: it would give
    every recorded run other noise, and other results.
    """
    text = json.dumps(TRAINING.identity(), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1a4700e4b0f2e03d"
