"""What `fedspeech ledger` says was checked is what was checked."""

import json

import pytest

from fedspeech import hash_chain
from fedspeech.errors import LedgerDamaged, ScenarioError
from fedspeech.hash_chain import Head
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from simulations.commands.ledger import ledger as statement

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=18, min_cohort=215,
    min_reporting=215,
    delta=1 / 30_000, epsilon_budget=0.5,
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.jsonl", PLAN, "a run", "seeded")
    ledger.charge(0, 0, bytes(16))
    return tmp_path / "ledger.jsonl"


def said(capsys, path, **options):
    statement(path, as_json=False, **options)
    return capsys.readouterr().out


def test_where_the_head_is_kept_all_rows_are_said_to_be_there(path, capsys):
    text = said(capsys, path)
    assert "its 2 rows are those that were written" in text
    assert "NOT CHECKED" not in text
    assert "Whoever can change both" in text
    assert str(hash_chain.kept_head(path)) in text


def test_without_a_head_it_is_said_what_would_not_show(path, capsys):
    head = str(hash_chain.kept_head(path))
    hash_chain.forget_head(path)
    text = said(capsys, path)
    assert "NOT CHECKED" in text
    assert "cut off its end, or the whole file was written anew" in text
    assert "NOT CHECKED" not in said(capsys, path, head=head)


def test_rows_after_the_head_are_said_to_be_uncovered(path, capsys):
    row = json.loads(path.read_text().splitlines()[0])
    hash_chain.keep_head(path, Head(0, row["sha256"]))
    assert "NOT CHECKED: whether rows were cut off after its 2 rows" in said(capsys, path)


def test_a_cut_ledger_has_no_statement(path, capsys):
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    for as_json in (True, False):
        with pytest.raises(LedgerDamaged, match="cut off its end"):
            statement(path, as_json=as_json)
    assert capsys.readouterr().out == ""


def test_data_name_the_heads_and_a_head_that_is_none_is_refused(path, capsys):
    statement(path, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["head"] == found["kept_head"] == str(hash_chain.kept_head(path))
    assert found["named_head"] is None
    with pytest.raises(ScenarioError, match=r"--head: .*NUMBER:SHA256"):
        statement(path, head="12", as_json=True)
