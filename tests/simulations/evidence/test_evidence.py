"""Evidence is what files show, and a lie in one of them shows nothing."""

import csv
import json
import re
import shutil

import pytest
from made_once import made_once, quick_run
from phone import Phone, Time
from tiny_experiment import cache, tiny_scenario

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, FedspeechError
from simulations.evidence import papers
from simulations.evidence.questions import QUESTIONS, unread
from simulations.run.runner import simulate

AUDIO, DELETION, CONSENT, SUMS, NOISE, COHORTS, QUALITY, PLAN, RISK, ROLLBACK = range(10)


def test_a_run_that_cannot_be_read_shows_nothing(tmp_path):
    with pytest.raises(FedspeechError, match="no run folder"):
        fs.evidence(tmp_path / "nowhere")
    found = fs.evidence(tmp_path, out=tmp_path / "papers")
    assert {each.says for each in found.answers} == {"not shown"}
    assert len(found.answers) == len(QUESTIONS) == 10
    sheet = (tmp_path / "papers" / "privacy-sheet.md").read_text()
    assert len(re.findall("^- ", sheet.split("## What we cannot promise")[1], re.M)) == 10
    with pytest.raises(ArgumentRefused, match="new or empty"):
        fs.evidence(tmp_path, out=tmp_path / "papers")


def test_a_question_is_about_one_risk_and_one_promise():
    assert [number for _, number, _ in papers._RISKS] == list(range(len(QUESTIONS)))
    assert len(papers._PROMISES) == len(unread("x"))


def test_every_dependency_has_a_version_and_a_license():
    rows = list(csv.DictReader(papers.dependencies({"numpy": "2"}).splitlines()))
    found = {row["package"]: row for row in rows}
    assert {"numpy", "torch", "flwr", "cryptography", "pydantic"} <= set(found)
    assert found["numpy"]["in the run"] == "2"
    assert "BSD" in found["numpy"]["license"]
    assert all(row["installed"] and row["license"] for row in rows)


def test_every_field_of_a_summary_is_explained():
    rows = list(csv.DictReader(papers.dictionary().splitlines()))
    assert not [row["field"] for row in rows if not row["meaning"]]
    assert ("utility", "server") in {(row["field"], row["visibility"]) for row in rows}


def test_no_cell_is_a_formula():
    assert papers._csv(("a",), [("=1+1",), ("@x",), ("-1",)]) == "a\n'=1+1\n'@x\n'-1\n"


RISKS = '[intents]\nhigh = ["call"]\n\n[high]\n'


@pytest.fixture
def run(tmp_path):
    """A copy of a run with noise of the operating system."""

    def make(folder):
        tiny = tiny_scenario("noise_entropy=os", "export.at_end=false")
        simulate(tiny, out=folder / "run", workers=1, cache=cache())

    return shutil.copytree(made_once("tiny-os", make) / "run", tmp_path / "run")


def says(run, **given):
    return [each.says for each in fs.evidence(run, **given).answers]


def edit(file, pattern, replacement, count=1):
    text = file.read_text()
    # Some files have a space behind a colon, others none.
    changed = re.sub(pattern.replace('": ', '": ?'), replacement, text, count=count)
    assert changed != text, pattern
    file.write_text(changed)


LIES = {
    "an epsilon of the ledger": (
        "ledger.jsonl", r'"epsilon_release": [\d.]+', '"epsilon_release": 0.1'
    ),
    "the plan of the ledger": ("ledger.jsonl", r'"noise_multiplier": [\d.]+',
                               '"noise_multiplier": 9.0'),
    "the noise of the job": ("job.json", r'"noise_multiplier": [\d.]+', '"noise_multiplier": 9.0'),
    "the clip of the job": ("job.json", r'"clip_norm": [\d.]+', '"clip_norm": 0.001'),
    "the sums of the job": ("job.json", '"secure_aggregation": "masked"',
                            '"secure_aggregation": "ideal"'),
    "the server of the job": ("job.json", '"threat_model": "malicious"',
                              '"threat_model": "semi_honest"'),
    "the least phones of the job": ("job.json", r'"min_reporting": \d+', '"min_reporting": 1'),
    "the noise of the scenario": ("scenario.toml", r"noise_multiplier = [\d.]+",
                                  "noise_multiplier = 9.0"),
    "the entropy of the scenario": ("scenario.toml", 'noise_entropy = "os"',
                                    'noise_entropy = "seeded"'),
    "the epsilon of the summary": ("summary.json", r'"epsilon_release": [\d.]+',
                                   '"epsilon_release": 0.01'),
    "the phones of the summary": ("summary.json", r'"phones": \d+', '"phones": 90000'),
    "a round left out": ("metrics.jsonl", r"^.+\n", ""),
    "a round that failed": ("metrics.jsonl", '"status": "completed"', '"status": "abandoned"'),
}  # fmt: skip
OF_OTHER_FILES = {RISK, ROLLBACK}


@pytest.mark.slow
def test_answers_have_files_and_lines_and_lies_show_nothing(run, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('tier = "public"\ntranscripts = "said.txt"\n')
    (tmp_path / "said.txt").write_text("where is my blue umbrella\n")
    risks = tmp_path / "risks.toml"
    risks.write_text(RISKS + "confirm = true\n")
    phone = Phone(tmp_path, Time(2_208_988_800.0))  # 2040: nothing has expired by our clock
    phone.agree()
    revoked = phone.agree(purpose="analytics")
    phone.keep("event", b"e", purpose="analytics")
    phone.vault.revoke(revoked.id)
    phone.keep()
    phone.store.close()
    given = {"policy": policy, "risk_policy": risks, "phone": tmp_path / "phone",
             "keys": tmp_path / "keys"}  # fmt: skip
    found = fs.evidence(run, out=tmp_path / "papers", **given)
    assert not found.contradictions
    assert [each.says for each in found.answers] == [
        "no", "yes", "yes", "yes", "yes", "yes", "not shown", "yes", "yes", "not shown"
    ]  # fmt: skip
    assert found.answers[QUALITY].why == "no figure is of a segment"  # of three held-out phones
    for answer in found.answers:
        for source in answer.sources:
            place = {"risks.toml": risks}.get(source.file, run / source.file)
            if place.exists():
                line = place.read_text().splitlines()[source.line - 1]
                assert line.strip(), source
        assert answer.sources or answer.says == "not shown"
    assert "clip_norm" in (run / "job.json").read_text().splitlines()[
        found.answers[NOISE].sources[0].line - 1
    ]  # fmt: skip
    names = {each.name for each in (tmp_path / "papers").iterdir()}
    assert names == {"evidence.json", "assessment.md", "privacy-sheet.md", "dependencies.csv",
                     "data-dictionary.csv", "transformations.csv", "access.csv"}  # fmt: skip
    assert json.loads((tmp_path / "papers" / "evidence.json").read_text()) == found.record()
    for name, (file, pattern, replacement) in LIES.items():
        original = (run / file).read_bytes()
        edit(run / file, pattern, replacement)
        lied = says(run, **given)
        shown = [n for n, word in enumerate(lied) if word == "yes" and n not in OF_OTHER_FILES]
        assert not shown, f"{name}: {shown}"
        assert lied[AUDIO] == "not shown"
        (run / file).write_bytes(original)
    (run / "ledger.jsonl").write_bytes(b"".join((run / "ledger.jsonl").read_bytes()
                                                .splitlines(keepends=True)[:-2]))  # fmt: skip
    assert "yes" not in says(run)


@pytest.mark.slow
def test_quality_is_shown_where_transcripts_were_looked_for(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('tier = "public"\ntranscripts = "said.txt"\n')
    (tmp_path / "said.txt").write_text("where is my blue umbrella\n")
    assert says(quick_run(), policy=policy)[QUALITY] == "yes"
    assert says(quick_run())[QUALITY] == "not shown"


@pytest.mark.slow
def test_what_files_hold_against_it_is_said(run, tmp_path):
    edit(run / "metrics.jsonl", r'"reporting": \d+', '"reporting": 1')
    assert says(run)[COHORTS] == "no"
    (run / "export" / "kitchen.bin").write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    assert says(run)[AUDIO] == "yes"
    (run / "export" / "kitchen.bin").unlink()
    edit(run / "environment.json", r'"source_sha256": "\w', '"source_sha256": "x')
    assert says(run)[AUDIO] == "not shown"
    (tmp_path / "said.txt").write_text("synthetic phones of five accents\n")
    edit(run / "summary.json", r'"command": "', '"command": "synthetic phones of five ')
    policy = tmp_path / "policy.toml"
    policy.write_text('tier = "public"\ntranscripts = "said.txt"\n')
    assert says(run, policy=policy)[QUALITY] == "no"
    risks = tmp_path / "risks.toml"
    for text, word in (("", "no"), ("unlock = false\n", "no"), ("unlock = true\n", "yes"),
                       ("unlock = 3\n", "not shown")):  # fmt: skip
        risks.write_text(RISKS + text)
        assert says(run, risk_policy=risks)[RISK] == word
    assert says(run, risk_policy=tmp_path / "none.toml")[RISK] == "not shown"
    assert says(run, rollout=tmp_path)[ROLLBACK] == "not shown"
