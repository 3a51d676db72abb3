"""What is said of a finished run's price is what the ledger says, under whatever plans it spent."""

import dataclasses
import json
import shutil

import pytest
from tiny_experiment import cache, tiny_scenario

from fedspeech.errors import FedspeechError, LedgerDamaged
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.phrasing import paragraphs
from fedspeech.sharing.policy import Policy
from simulations.artifacts.loaded_run import FinishedRun
from simulations.report.comparison import comparison
from simulations.report.phrasing import epsilon, price
from simulations.report.publishing import Gate
from simulations.report.writing import write_report
from simulations.results.run_folder import RunFolder, read
from simulations.run import runner
from simulations.run.runner import simulate

FIGURES = ("epsilon_release", "epsilon_server", "relation_release", "relation_server", "trust")

OF_FEW = Gate(policy=Policy(tier="public", k_min=2, most_numbers=256, epsilon=1e9, delta=0.5))
"""Runs of tests have twelve phones."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A run with little noise, then one with much, on one ledger; the folders of both."""
    place, said = tmp_path_factory.mktemp("shared"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.RunProgress, "say", lambda _, words: said.append(words))
        folders = [
            simulate(
                tiny_scenario(f"privacy.noise_multiplier={noise}", f"seed={seed}",
                              f"privacy.secure_aggregation={sums}"),
                out=place / f"noise-{noise}", workers=1, cache=cache(),
                ledger=place / "population.jsonl",
            )
            for noise, seed, sums in ((0.5, 1, "ideal"), (4.0, 2, "masked"))
        ]  # fmt: skip
    return place / "population.jsonl", folders, said


def test_cards_and_summaries_of_a_shared_ledger_say_what_the_ledger_says(shared):
    path, folders, _ = shared
    spent = Ledger.inspect(path).guarantee()
    assert spent.rounds == 4
    for folder in folders:
        run = FinishedRun.open(folder)
        _, card = run.trained()
        for name in FIGURES:
            assert getattr(card.privacy, name) == getattr(spent, name)
            assert getattr(run.accounted.guarantee, name) == getattr(spent, name)
        assert card.privacy.rounds == run.accounted.guarantee.rounds == spent.rounds
        assert run.accounted.runs_charged == 2


@pytest.mark.slow
def test_a_report_of_a_shared_ledger_says_what_later_runs_have_spent(shared):
    path, (first, second), _ = shared
    spent = Ledger.inspect(path).guarantee()
    alone = read(first).summary
    assert alone.guarantee.epsilon_server < spent.epsilon_server, "nothing would be shown otherwise"
    for folder in (first, second):
        for publish in (False, True):
            page = write_report(folder, publish, OF_FEW).read_text()
            assert epsilon(spent.epsilon_server) in page
            assert "of this run alone" not in page


def test_one_simulated_sum_is_said_of_every_run_on_the_ledger(shared):
    _, folders, _ = shared
    for folder in folders:
        assert FinishedRun.open(folder).accounted.guarantee.secure_aggregation == "ideal"
    assert read(folders[1]).summary.guarantee.secure_aggregation == "ideal"


def test_the_first_words_on_a_shared_ledger_are_what_it_has_spent(shared):
    path, (first, _), said = shared
    before, together = read(first).summary.guarantee, Ledger.inspect(path).guarantee()
    (spent,) = [words for words in said if words.startswith("The population has spent")]
    assert price(before, "charged") in spent
    (alone,) = [words for words in said if words.startswith("This run's plan alone")]
    assert "2 rounds planned" in alone
    (both,) = [words for words in said if words.startswith("Together")]
    assert paragraphs(together) in both
    after = said[said.index(spent) :]
    assert not any(words.startswith("Readers of the published") for words in after)


def test_a_run_folder_knows_that_its_ledger_was_cut(shared, tmp_path):
    path, (_, second), _ = shared
    whole = path.read_bytes()
    copy = tmp_path / "run"
    shutil.copytree(second, copy, symlinks=True)
    (copy / "ledger.jsonl").unlink()
    lines = whole.splitlines(keepends=True)
    (copy / "ledger.jsonl").write_bytes(b"".join(lines[:-3]))  # no head is kept of this place
    Ledger.inspect(copy / "ledger.jsonl")
    run = FinishedRun.open(copy)
    with pytest.raises(LedgerDamaged, match=r"holds 3 rounds, and when .* ended it held 4"):
        run.accounted  # noqa: B018


@pytest.fixture(scope="module")
def alone(shared, tmp_path_factory):
    """The first run with a ledger that nobody shares."""
    path, (first, _), _ = shared
    copy = tmp_path_factory.mktemp("alone") / "run"
    shutil.copytree(first, copy, symlinks=True)
    (copy / "ledger.jsonl").unlink()
    lines = path.read_bytes().splitlines(keepends=True)
    opened = [json.loads(line)["kind"] for line in lines].index("opened", 1)
    (copy / "ledger.jsonl").write_bytes(b"".join(lines[:opened]))
    return copy


def edited(run, tmp_path):
    """The run, and a summary in it that states 0.5 for what was spent."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    summary = json.loads((copy / "summary.json").read_text())
    summary["guarantee"] |= {"epsilon_release": 0.5, "epsilon_server": 0.5}
    (copy / "summary.json").write_text(json.dumps(summary))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("publish", [True, False])
def test_a_page_states_what_the_ledger_holds_whatever_the_summary_says(alone, tmp_path, publish):
    spent = Ledger.inspect(alone / "ledger.jsonl").guarantee()
    page = write_report(edited(alone, tmp_path), publish, OF_FEW).read_text()
    assert epsilon(spent.epsilon_server) in page
    assert "ε = 0.50" not in page


def test_a_comparison_says_which_summary_is_not_what_the_ledger_holds(alone, tmp_path):
    copy = edited(alone, tmp_path)
    assert not [words for words in comparison(alone, alone).warnings if "ledger" in words]
    (words,) = [words for words in comparison(alone, copy).warnings if "ledger" in words]
    spent = Ledger.inspect(alone / "ledger.jsonl").guarantee()
    assert f"its ledger holds {epsilon(spent.epsilon_release)}" in words


@pytest.mark.parametrize("publish", [True, False])
def test_no_page_is_made_of_a_run_whose_own_ledger_was_cut(alone, tmp_path, publish):
    copy = tmp_path / "run"
    shutil.copytree(alone, copy)
    lines = (copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "ledger.jsonl").write_bytes(b"".join(lines[:-2]))
    with pytest.raises(LedgerDamaged, match=r"holds 1 rounds, and when .* ended it held 2"):
        write_report(copy, publish)


def test_results_without_their_run_are_not_published(alone, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(alone, copy)
    (copy / "job.json").unlink()
    with pytest.raises(FedspeechError, match=r"not published: .* ledger, and job\.json"):
        write_report(copy, publish=True)


@pytest.mark.parametrize("publish", [True, False])
def test_at_which_stage_a_round_was_abandoned_does_not_show_in_what_is_published(
    shared, tmp_path, publish
):
    """The same run twice: a third round abandoned before it was charged, and after."""
    _, (first, _), _ = shared
    last = read(first).rows[-1]
    pages, prices = [], []
    for charged in (False, True):
        run = tmp_path / str(charged) / "run"
        shutil.copytree(first, run, symlinks=True)
        account = FinishedRun.open(first).job
        (run / "ledger.jsonl").unlink()
        ledger = Ledger.open(run / "ledger.jsonl", account.plan, account.run_id, "seeded")
        for number in range(2 + charged):
            ledger.charge(number, 0, bytes([number]) * 16)
        reason = "too few share" if charged else "too few came"
        spent = dataclasses.replace(last.guarantee, rounds=2 + charged)
        row = last.model_copy(update={"round": 3, "status": "abandoned", "reason": reason,
                                      "guarantee": spent})  # fmt: skip
        RunFolder(run).append(row)
        pages.append(write_report(run, publish, OF_FEW).read_text())
        prices.append(FinishedRun.open(run).trained()[1].privacy)
    assert (pages[0] == pages[1]) is publish
    assert prices[0] == prices[1], "cards are published too"
    assert prices[0].rounds == 3


def test_a_run_whose_ledger_is_gone_or_another_gets_no_card(shared, tmp_path):
    _, (first, _), _ = shared
    run = FinishedRun.open(first)
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    for name in ("summary.json", "scenario.toml", "job.json", "metrics.jsonl", "base.safetensors"):
        if (first / name).exists():
            (elsewhere / name).write_bytes((first / name).read_bytes())
    moved = FinishedRun.open(elsewhere)
    with pytest.raises(LedgerDamaged, match="no ledger at"):
        moved.accounted  # noqa: B018
    rows = [json.loads(line) for line in run.folder.ledger.read_text().splitlines()]
    other = Ledger.open(moved.folder.ledger, run.job.plan, "another run", "seeded")
    assert other.opened != rows[-1]["sequence"]
    with pytest.raises(LedgerDamaged, match="holds no run"):
        moved.accounted  # noqa: B018
