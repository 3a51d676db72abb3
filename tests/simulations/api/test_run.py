"""A run from Python: what is handed back, and what becomes of speech that is in memory alone."""

import logging

import pytest
from tiny_experiment import cache, tiny_scenario
from tones import tone_base, tone_speakers

import fedspeech as fs
from fedspeech.errors import CorpusError, FedspeechError, ScenarioError
from fedspeech.models.base import Base, default_base_path
from simulations.results.run_folder import RunFolder, read
from simulations.run import runner


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A run whose speakers this program made, without any output."""
    scenario = tiny_scenario("name=tones", "privacy.noise_multiplier=0.2", "privacy.clip_norm=1.0")
    scenario = scenario.model_copy(update={"corpus": fs.read_scenario("quick").corpus})
    experiment = fs.Experiment(
        scenario=scenario, speakers=tone_speakers(), base=tone_base(),
        corpus={"kind": "provided"},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tones") / "run"
    return fs.simulate(experiment, out=folder, workers=1, cache=cache(), progress=False)


@pytest.mark.slow
def test_rows_and_figures_are_those_of_the_folder(tones):
    results = read(tones.path)
    assert tones.rounds.column("round") == [row.round for row in results.rows] == [1, 2]
    assert tones.rounds[1]["epsilon_server"] == tones.guarantee.epsilon_server
    wrong = tones.metrics.where(section="error", model="federated")
    (metric,) = (
        metric for metric in results.summary.section("error").metrics
        if metric.model == "federated"
    )  # fmt: skip
    assert wrong.column("value") == [metric.value]
    assert tones.complete
    assert f"report: {tones.path / 'report.html'}" in str(tones)
    assert "epsilon_server = " in str(tones.guarantee)


@pytest.mark.slow
def test_nothing_is_printed_and_every_line_is_logged(tmp_path, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="fedspeech"):
        fs.simulate(tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache(), progress=False)
    assert capsys.readouterr().out == ""
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "12 phones federate" in said
    assert "epsilon release" in said
    assert {record.name for record in caplog.records if "phones" in record.getMessage()} == {
        "fedspeech"
    }


@pytest.mark.slow
def test_speech_in_memory_is_handed_over_again_and_never_guessed(tones):
    with pytest.raises(ScenarioError, match="a Python program handed over the speech"):
        fs.load_run(tones.path).export()
    with pytest.raises(FedspeechError, match="none of 'tones'"):
        fs.load_run(tones.path, experiment=tones.experiment).export()
    assert fs.load_run(tones.path).rounds[0]["status"] == "completed", "results need no speech"


@pytest.mark.slow
def test_a_stopped_run_of_objects_goes_on_from_its_folder(tmp_path, monkeypatch):
    """Its base is kept there; an interrupt leaves the folder in order and is no SystemExit."""
    base = Base.load(default_base_path())
    experiment = fs.Experiment(scenario=tiny_scenario(), base=base)
    whole = fs.simulate(
        experiment, out=tmp_path / "whole", workers=1, cache=cache(), progress=False
    )

    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.Run, "personalize", stop)
        with pytest.raises(KeyboardInterrupt):
            fs.simulate(experiment, out=tmp_path / "cut", workers=1, cache=cache(), progress=False)
    cut = fs.load_run(tmp_path / "cut")
    assert not cut.complete
    assert cut.summary.stopped == "interrupted"
    resumed = cut.resume(workers=1, cache=cache(), progress=False)
    assert resumed.complete
    assert resumed.metrics == whole.metrics
    assert fs.compare(whole, resumed).settings == ()
    kept = [sorted(RunFolder(run.path).adapter.glob("*.safetensors")) for run in (whole, resumed)]
    assert [file.read_bytes() for file in kept[0]] == [file.read_bytes() for file in kept[1]]
    assert kept[0]


@pytest.mark.slow
def test_people_who_come_later_adapt_alone_and_nobody_who_trained(tmp_path):
    run = fs.simulate(
        tiny_scenario(), out=tmp_path / "run", workers=1, cache=cache(), progress=False
    )
    own = fs.personalize(run, progress=False, cache=cache(), workers=1)
    after = run.summary.section("accuracy").by_model()["personalized"].value
    assert own.after == pytest.approx(after), "the headline, phone by phone"
    others = fs.Experiment(scenario=tiny_scenario("seed=9")).speakers
    people = Some(others.corpus, [phone.speaker_id for phone in others.partition.held_out])
    found = fs.personalize(run, people, shots=1, progress=False, cache=cache(), workers=1)
    assert [phone.phone for phone in found.phones] == sorted(people.names)
    assert {phone.judged for phone in found.phones} <= set(range(10, 60))
    assert found.phones[0].parameters.keys() == own.phones[0].parameters.keys()
    trained = fs.Experiment(scenario=tiny_scenario()).speakers
    memory = Some(trained.corpus, [phone.speaker_id for phone in trained.partition.federated])
    with pytest.raises(CorpusError, match="a phone of the run trained on"):
        fs.personalize(run, memory, progress=False, cache=cache(), workers=1)


class Some:
    """Some speakers of a corpus."""

    name, license, skipped = "some", "CC0-1.0", ()

    def __init__(self, corpus, names):
        self.names, self.waveforms, self.fingerprint = names, corpus.waveforms, corpus.fingerprint
        self.speakers = {name: corpus.speakers[name] for name in names}
        self.utterances = [clip for clip in corpus.utterances if clip.speaker_id in names]


def test_records_are_one_table():
    table = fs.Records([{"a": 1, "b": None}, {"a": 2.5, "c": "x"}])
    assert table.columns == ("a", "b", "c")
    assert table[0] == {"a": 1, "b": None, "c": None}
    assert table[1:].column("c") == ["x"]
    assert len(table.where(a=1)) == 1
    assert repr(table).splitlines()[0].split() == ["a", "b", "c"]
    assert "<td>2.5</td>" in table._repr_html_()
    with pytest.raises(KeyError, match="there are a, b, c"):
        table.column("d")


def test_a_table_without_rows_keeps_its_columns_and_says_so():
    none = fs.Records([{"a": 1, "b": 2}]).where(a=3)
    assert none.columns == none[:1].columns == ("a", "b")
    assert len(none.where(b=2)) == 0
    assert repr(none).splitlines() == ["a  b", "no rows"]
    assert "no rows" in none._repr_html_()


def test_records_escape_what_a_corpus_may_be_called(tmp_path):
    table = fs.Records([{"name": "<script>alert(1)</script>"}])
    assert "<script>" not in table._repr_html_()
    file = table.to_csv(tmp_path / "table.csv")
    assert file.read_text().splitlines() == ["name", "<script>alert(1)</script>"]


def test_a_data_frame_where_pandas_is_there():
    table = fs.Records([{"a": 1}, {"a": 2}])
    pandas = pytest.importorskip(
        "pandas", reason="a data frame needs pandas, which no extra brings"
    )
    assert table.to_pandas().equals(pandas.DataFrame({"a": [1, 2]}))


def test_a_missing_pandas_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(FedspeechError, match="pip install pandas"):
        fs.Records([{"a": 1}]).to_pandas()
