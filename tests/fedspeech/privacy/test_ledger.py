import dataclasses
import hashlib
import json
import math
import multiprocessing
import os

import pytest

from fedspeech import hash_chain
from fedspeech.errors import BudgetExhausted, LedgerDamaged, ScenarioError
from fedspeech.hash_chain import Head
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.events import cost_to_record
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import SEEDED_NOISE_NOTICE

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=18, min_cohort=215,
    min_reporting=215,
    delta=1 / 30_000, epsilon_budget=0.5,
)  # fmt: skip
NONE = dataclasses.replace(PLAN, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf)


def rid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def opened(path, plan=PLAN, run_id="a run", source="seeded"):
    return Ledger.open(path, plan, run_id, source)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def torn(path, content):
    """Leaves the file as a kill in the middle of a row would: its head was not kept yet."""
    path.write_bytes(content)
    hash_chain.forget_head(path)
    for line in content.splitlines(keepends=True):
        if line.startswith(b'{"') and line.endswith(b"}\n"):
            row = json.loads(line)
            hash_chain.keep_head(path, Head(row["sequence"], row["sha256"]))


def spend_all(ledger, start=0):
    for count in range(start, start + 60):  # more than the budget covers, or it is not enforced
        try:
            ledger.charge(count, 0, rid(count))
        except BudgetExhausted:
            return count
    raise AssertionError("a budget was spent and every further round was charged")


def test_a_charge_is_on_disk_when_it_returns_with_all_that_stands_beside_an_epsilon(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0), "a commitment")
    row = rows(path)[-1]
    expected = PLAN.guarantee(1)
    assert ledger.guarantee() == expected
    for name in (
        "epsilon_release",
        "epsilon_server",
        "delta",
        "unit",
        "relation_release",
        "relation_server",
        "trust",
        "accountant",
        "rounds",
        "max_participations",
    ):
        assert row[name] == getattr(expected, name)
    assert row["fingerprint"] == PLAN.fingerprint
    assert (row["secure_aggregation"], row["server_simulated"]) == ("ideal", True)
    assert row["noise"] == SEEDED_NOISE_NOTICE
    assert (row["round"], row["attempt"], row["rid"]) == (0, 0, rid(0).hex())
    assert row["noise_commitment"] == "a commitment"


def test_file_and_folder_are_flushed_before_a_charge_returns(path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real(fd)))
    ledger = opened(path)
    state = hash_chain.head_file(path)
    kept = [state.stat().st_ino, state.parent.stat().st_ino]
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino, *kept]
    del synced[:]
    ledger.charge(0, 0, rid(0))
    kept = [state.stat().st_ino, state.parent.stat().st_ino]
    assert synced == [path.stat().st_ino, *kept]


def test_real_noise_carries_no_seeded_notice(path):
    opened(path, source="os").charge(0, 0, rid(0))
    assert rows(path)[-1]["noise"] == "noise from the operating system"


def test_the_round_beyond_the_budget_is_refused_and_leaves_no_trace(path):
    ledger = opened(path)
    count = spend_all(ledger)
    assert PLAN.guarantee(count).epsilon_release <= PLAN.epsilon_budget
    assert PLAN.guarantee(count + 1).epsilon_release > PLAN.epsilon_budget
    size = path.stat().st_size
    with pytest.raises(BudgetExhausted, match="nothing was sent"):
        ledger.charge(count, 0, rid(count))
    with pytest.raises(BudgetExhausted, match=r"epsilon_budget=0\.5"):
        ledger.require_budget(count)
    assert path.stat().st_size == size
    assert ledger.rounds_charged == count


def test_asking_for_budget_charges_nothing(path):
    ledger = opened(path)
    ledger.require_budget(0)
    assert ledger.rounds_charged == 0
    assert ledger.guarantee().epsilon_release == 0.0


def test_failed_rounds_and_retries_stay_charged(path):
    ledger = opened(path)
    ledger.outcome(ledger.charge(0, 0, rid(0)), False, "too few reporting phones")
    ledger.outcome(ledger.charge(0, 1, rid(1)), True)
    assert ledger.rounds_charged == 2
    again, expected = opened(path).guarantee(), PLAN.guarantee(2)
    assert again.rounds == 2
    # Another run of the plan may abandon rounds of its own.
    assert again.epsilon_release >= expected.epsilon_release
    assert again.epsilon_release == pytest.approx(expected.epsilon_release, rel=1e-3)
    assert [row["completed"] for row in rows(path) if row["kind"] == "outcome"] == [False, True]


def test_a_rid_is_never_used_twice_even_by_another_run(path):
    opened(path).charge(0, 0, rid(7))
    with pytest.raises(ValueError, match="rid must never be used twice"):
        opened(path, run_id="another").charge(3, 0, rid(7))
    with pytest.raises(ValueError, match="at least 16 bytes"):
        opened(path).charge(4, 0, b"short")


def test_runs_with_other_plans_are_composed_not_forgotten(path):
    opened(path).charge(0, 0, rid(0))
    weaker = dataclasses.replace(PLAN, noise_multiplier=4.0)
    ledger = opened(path, plan=weaker, run_id="second")
    ledger.charge(0, 0, rid(1))
    spent = ledger.guarantee()
    assert spent.rounds == 2
    assert weaker.guarantee(2).epsilon_release < spent.epsilon_release
    assert spent.epsilon_release < PLAN.guarantee(2).epsilon_release
    assert spent.max_participations == PLAN.max_participations + weaker.max_participations


def test_each_row_costs_what_the_plan_costs_that_it_was_charged_for(path):
    first = opened(path)
    for count in range(5):
        first.charge(count, 0, rid(count))
    quiet = dataclasses.replace(PLAN, noise_multiplier=12.0, epsilon_budget=math.inf)
    second = opened(path, plan=quiet, run_id="second")
    second.charge(0, 0, rid(5))
    assert second.guarantee().epsilon_server >= PLAN.guarantee(5).epsilon_server
    first.refresh()
    assert first.guarantee().epsilon_server == second.guarantee().epsilon_server
    assert first.guarantee().epsilon_server < PLAN.guarantee(6).epsilon_server


def test_a_second_run_of_the_same_plan_has_a_participation_limit_of_its_own(path):
    """Its phones count anew, so one of them can send twice its participation limit."""
    plan = dataclasses.replace(PLAN, max_participations=2, epsilon_budget=100.0)
    for run, start in (("first", 0), ("second", 10)):
        ledger = opened(path, plan=plan, run_id=run, source="os")
        for number in range(start, start + 4):
            ledger.charge(number, 0, rid(number))
    four = dataclasses.replace(plan, max_participations=4).guarantee(8).epsilon_server
    assert ledger.guarantee().epsilon_server == pytest.approx(four, rel=1e-9)
    assert four > 1.3 * plan.guarantee(8).epsilon_server


def test_one_run_without_noise_ends_all_promises(path):
    opened(path, plan=NONE).charge(0, 0, rid(0))
    assert rows(path)[-1]["epsilon_release"] == "infinite"
    with pytest.raises(BudgetExhausted):
        opened(path).charge(0, 0, rid(1))


def test_a_ledger_belongs_to_one_population(path):
    opened(path)
    other = dataclasses.replace(PLAN, population=2990)
    with pytest.raises(ScenarioError, match="ledger of another population"):
        opened(path, plan=other)


def _spend(path, start, results):
    results.put(spend_all(opened(path, run_id=f"run {start}"), start) - start)


def test_two_runs_cannot_both_spend_the_last_of_it(path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    runs = [context.Process(target=_spend, args=(path, start, results)) for start in (0, 1000)]
    for run in runs:
        run.start()
    shares = [results.get(timeout=60) for _ in runs]
    for run in runs:
        run.join()
    assert PLAN.guarantee(sum(shares)).epsilon_release <= PLAN.epsilon_budget
    assert PLAN.guarantee(sum(shares) + 1).epsilon_release > PLAN.epsilon_budget
    assert opened(path).rounds_charged == sum(shares)


def test_a_torn_line_is_told_and_counted_at_every_place_where_a_kill_can_tear(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    before = path.stat().st_size
    ledger.charge(1, 0, rid(1))
    whole = path.read_bytes()
    for length in range(before + 1, len(whole) - 1, 97):
        torn(path, whole[:length])
        again = opened(path)
        assert "torn by a kill" in again.notices[0]
        assert again.rounds_charged == 2  # one known, one that may have been
        again.charge(2, 0, rid(2))
        later = opened(path)
        assert later.rounds_charged == 3
        assert later.notices == []


def test_a_whole_line_that_lost_only_its_newline_counts_once(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    path.write_bytes(path.read_bytes()[:-1])
    again = opened(path)
    assert (again.rounds_charged, again.notices) == (1, [])
    with pytest.raises(ValueError, match="rid must never be used twice"):
        again.charge(1, 0, rid(0))
    assert opened(path).rounds_charged == 1


def test_a_line_torn_during_recovery_is_recovered_too(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    path.write_bytes(path.read_bytes() + b'{"kind": "cha')
    size = path.stat().st_size
    opened(path)
    recovered = path.read_bytes()
    end = recovered.index(b"\n", size + 1)  # of the recovered row
    for length in (size + 2, size + 30, end - 1, end):
        torn(path, recovered[:length])
        assert opened(path).rounds_charged == 2
        again = opened(path)
        assert (again.rounds_charged, again.notices) == (2, [])


def test_a_torn_first_line_charges_nothing_and_starts_over(path):
    opened(path)
    torn(path, path.read_bytes()[:40])
    assert opened(path).rounds_charged == 0


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_an_edited_line_is_refused_wherever_it_stands(path, line):
    ledger = opened(path)
    for number in range(3):
        ledger.charge(number, 0, rid(number))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"ideal"', b'"Ideal"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerDamaged, match="was edited"):
        opened(path)
    with pytest.raises(LedgerDamaged, match=f"row {line + 1} "):
        opened(path)


def test_removing_swapping_or_repeating_lines_is_refused(path):
    ledger = opened(path)
    for number in range(3):
        ledger.charge(number, 0, rid(number))
    a, b, c, d = path.read_bytes().splitlines(keepends=True)
    for edited in (a + b + d, b + c + d, a + c + b + d, a + b + b + c + d, a + b"junk\n" + b):
        path.write_bytes(edited)
        with pytest.raises(LedgerDamaged):
            opened(path)


def test_an_edited_line_with_a_fresh_checksum_breaks_the_chain(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    ledger.charge(1, 0, rid(1))
    from fedspeech.hash_chain import _checksum

    first, second, third = rows(path)
    second["round"] = 5
    second["sha256"] = _checksum(second)
    path.write_text("".join(json.dumps(row) + "\n" for row in (first, second, third)))
    with pytest.raises(LedgerDamaged):
        opened(path)


def test_a_file_cut_while_in_use_is_noticed(path):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LedgerDamaged, match="was cut"):
        ledger.charge(1, 0, rid(1))


def test_an_unknown_noise_source_is_refused(path):
    with pytest.raises(ValueError, match="noise_source"):
        opened(path, source="numpy")


def test_a_row_that_a_full_disk_cut_is_taken_back_and_nothing_is_charged(path, monkeypatch):
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    before, real = path.read_bytes(), os.fsync

    def full(descriptor):
        os.truncate(path, len(before) + 40)  # as much of the row as there was room for
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ledger.charge(1, 0, rid(1))
    monkeypatch.setattr(os, "fsync", real)
    assert path.read_bytes() == before
    ledger.charge(1, 0, rid(1))
    assert opened(path).rounds_charged == 2


def resumed(path, *, source="seeded", plan=PLAN, run_id="a run", row=0):
    return Ledger.resume(path, plan, run_id, source, row)


def test_a_resumed_seeded_pays_for_a_replayed_round_once_and_writes_nothing_new(path):
    ledger = opened(path)
    ledger.outcome(ledger.charge(0, 0, rid(0), "c0"), True)
    ledger.charge(1, 0, rid(1), "c1")
    before = path.read_bytes()
    again = resumed(path)
    assert [charge.round for charge in again.charges] == [0, 1]
    assert [again.settled(charge) for charge in again.charges] == [True, False]
    again.require_budget(1)
    charge = again.charge(1, 0, rid(1), "c1")
    assert path.read_bytes() == before
    assert again.rounds_charged == 2
    again.outcome(charge, True)
    again.outcome(charge, True)  # a second replay ends as the first did
    assert sum(row["kind"] == "outcome" for row in rows(path)) == 2
    again.charge(2, 0, rid(2), "c2")
    assert again.rounds_charged == 3


def test_a_replayed_round_is_paid_for_though_the_budget_is_spent(path):
    ledger = opened(path)
    count = spend_all(ledger)
    resumed(path).require_budget(count - 1)
    with pytest.raises(BudgetExhausted):
        resumed(path).require_budget(count)


@pytest.mark.parametrize("change", [{"round": 2}, {"attempt": 1}, {"noise_commitment": "other"}])
def test_a_replay_of_another_round_or_of_other_noise_is_refused(path, change):
    opened(path).charge(1, 0, rid(1), "c1")
    asked = {"round": 1, "attempt": 0, "rid": rid(1), "noise_commitment": "c1", **change}
    with pytest.raises(LedgerDamaged, match=r"paid for another round|other noise"):
        resumed(path).charge(**asked)


def test_under_noise_of_the_operating_system_a_resumed_run_never_reuses_a_charge(path):
    opened(path, source="os").charge(0, 0, rid(0))
    with pytest.raises(ValueError, match="rid must never be used twice"):
        resumed(path, source="os").charge(0, 0, rid(0))


def test_a_ledger_is_resumed_only_by_the_run_and_plan_that_opened_it(path):
    opened(path)
    weaker = dataclasses.replace(PLAN, noise_multiplier=4.0)
    for other in ({"run_id": "another"}, {"plan": weaker}, {"source": "os"}):
        with pytest.raises(ValueError, match="opened another run or plan"):
            resumed(path, **other)
    with pytest.raises(LedgerDamaged, match="opens no run"):
        resumed(path, row=1)
    path.unlink()
    with pytest.raises(LedgerDamaged, match="is gone"):
        resumed(path)


def test_a_run_killed_before_it_kept_its_row_takes_it_up_or_opens_one(path):
    opened(path)
    assert resumed(path, row=None).opened == 0
    assert resumed(path, row=None, run_id="another").opened == 1
    assert len(rows(path)) == 2


# --- Runs of several purposes, read back ----------------------------------------------------------


def test_what_is_charged_outlives_runs_whatever_they_were_for(path):
    tuned = dataclasses.replace(PLAN, noise_multiplier=6.0)
    tuning = Ledger.open(path, tuned, "tuning", "seeded", "tuning")
    charge = tuning.charge(0, 0, rid(100))
    tuning.outcome(charge, completed=False, reason="too few phones")
    training = opened(path)
    training.outcome(training.charge(0, 0, rid(0)), completed=True)
    account = Ledger.inspect(path)
    assert [(run.purpose, run.charged, run.completed) for run in account.runs] == [
        ("tuning", 1, 0),
        ("training", 1, 1),
    ]
    assert account.runs[0].plan == tuned
    assert account.guarantee() == training.guarantee()
    assert training.runs_charged == account.runs_charged == 2
    assert training.guarantee().epsilon_release > PLAN.guarantee(1).epsilon_release


def test_looking_changes_nothing_and_counts_a_torn_line(path):
    opened(path).charge(0, 0, rid(0))
    whole = path.read_bytes()
    torn(path, whole[:-7])
    account = Ledger.inspect(path)
    assert path.read_bytes() == whole[:-7]
    assert account.rounds_charged == 1  # the torn row may have been the charge
    assert len(account.notices) == 1
    path.write_bytes(whole.replace(b'"round": 0', b'"round": 1'))
    with pytest.raises(LedgerDamaged, match="edited"):
        Ledger.inspect(path)
    path.unlink()
    with pytest.raises(LedgerDamaged, match="no ledger at"):
        Ledger.inspect(path)
    torn(path, b"")
    with pytest.raises(LedgerDamaged, match="holds no run"):
        Ledger.inspect(path)


def test_one_simulated_sum_makes_the_whole_account_simulated(path):
    masked = dataclasses.replace(PLAN, secure_aggregation="masked")
    opened(path).charge(0, 0, rid(0))
    ledger = opened(path, plan=masked, run_id="second")
    assert masked.guarantee(1).secure_aggregation == "masked"
    ledger.charge(0, 0, rid(1))
    assert ledger.guarantee().secure_aggregation == "ideal"


def test_a_run_without_noise_and_one_that_adapts_its_clip_norm_read_back(path):
    adaptive = AdaptiveClipping(
        target_quantile=0.5, bit_noise=0.5, min_clip_norm=0.01, max_clip_norm=10.0
    )
    plans = [
        dataclasses.replace(PLAN, adaptive_clipping=adaptive),
        dataclasses.replace(
            PLAN, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf
        ),
    ]  # fmt: skip
    for number, plan in enumerate(plans):
        opened(path, plan=plan, run_id=f"run {number}").charge(0, 0, rid(number))
    assert [run.plan for run in Ledger.inspect(path).runs] == plans


def rewritten(path, change):
    """Rewrites every row, its checksum and what names it, as whoever has the code can."""
    previous, lines = "0" * 64, []
    for number, row in enumerate(change(rows(path))):
        body = {**row, "sequence": number, "previous": previous}
        del body["sha256"]
        previous = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        lines.append(json.dumps({**body, "sha256": previous}, sort_keys=True) + "\n")
    path.write_text("".join(lines))


def two_runs(path):
    for number in range(2):
        ledger = opened(path, run_id=f"run {number}")
        for count in range(3):
            ledger.outcome(ledger.charge(count, 0, rid(10 * number + count)), True)
    return ledger


def every_reading(path, ledger):
    """What reads a ledger, as functions that must refuse."""
    return (
        lambda: Ledger.inspect(path),
        lambda: opened(path, run_id="a third"),
        lambda: Ledger.resume(path, PLAN, "run 0", "seeded", 0),
        lambda: ledger.charge(9, 0, rid(99)),
        lambda: ledger.require_budget(9),
        ledger.refresh,
    )


@pytest.mark.parametrize("left", range(14))
def test_a_ledger_cut_between_two_rows_is_refused_wherever_it_is_read(path, left):
    ledger = two_runs(path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 14
    path.write_bytes(b"".join(lines[:left]))
    for read in every_reading(path, ledger):
        with pytest.raises(LedgerDamaged, match="cut"):
            read()
    assert path.read_bytes() == b"".join(lines[:left]), "nothing was added"


def test_a_ledger_that_is_gone_is_not_begun_anew(path):
    ledger = two_runs(path)
    path.unlink()
    for read in every_reading(path, ledger):
        with pytest.raises(LedgerDamaged):
            read()


def cheaper(written):
    """The rows at the price of ten times the noise."""
    cost = cost_to_record(dataclasses.replace(PLAN, noise_multiplier=30.0).cost)
    return [{**row, "cost": cost} if row["kind"] == "opened" else row for row in written]


def shorter(written):
    """The first run without its rounds, and rows enough for the place of the head."""
    more = {**written[0], "run_id": "one that did nothing"}
    return [more] * 7 + written[7:]


@pytest.mark.parametrize("change", [cheaper, shorter])
def test_a_ledger_that_was_written_anew_is_refused_wherever_it_is_read(path, change):
    ledger = two_runs(path)
    rewritten(path, change)
    for read in every_reading(path, ledger):
        with pytest.raises(LedgerDamaged):
            read()
    hash_chain.forget_head(path)
    assert Ledger.inspect(path).runs, "a chain like any other: only the head outside tells"


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "refund", "opened": 0},
        {"kind": "charge", "opened": 5, "rid": "00"},
        {"kind": "charge", "opened": 0},
        {"kind": "outcome", "charge": 0, "completed": True},
        {"kind": "opened", "plan": []},
        {"kind": ["charge"]},
    ],
)
def test_a_row_that_no_ledger_has_is_damage_though_the_chain_checks(path, row):
    opened(path)
    rewritten(path, lambda written: [*written, {**row, "sha256": ""}])
    for read in (lambda: Ledger.inspect(path), lambda: opened(path, run_id="next")):
        with pytest.raises(LedgerDamaged, match=r"row 2: (no row of a ledger|its plan is none)"):
            read()


def test_a_head_that_somebody_kept_tells_where_no_other_is_kept(path):
    ledger = two_runs(path)
    head = Head.parse(str(ledger.head))
    assert head == ledger.head
    first = opened(path, run_id="another user's").head
    hash_chain.forget_head(path)
    Ledger.inspect(path, head=head)  # it went on
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))
    with pytest.raises(LedgerDamaged, match="cut off its end"):
        Ledger.inspect(path, head=head)
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerDamaged, match="written anew"):
        Ledger.inspect(path, head=Head(head.sequence, first.sha256))
    for wrong in ("", "1", "x:" + "0" * 64, "1:" + "g" * 64, "-1:" + "0" * 64):
        with pytest.raises(ValueError, match="NUMBER:SHA256"):
            Head.parse(wrong)


def test_rows_of_somebody_else_are_no_damage(path):
    ledger = two_runs(path)
    kept = hash_chain.kept_head(path)
    other = opened(path, run_id="another user's")
    hash_chain.keep_head(path, kept)  # theirs is kept in their own folder
    ledger.charge(9, 0, rid(99))
    assert hash_chain.kept_head(path) == ledger.head
    other.refresh()
    assert other.head == ledger.head


def test_a_head_that_cannot_be_kept_is_said_and_ends_no_run(path, monkeypatch):
    (path.parent / "file").write_text("")
    monkeypatch.setenv("FEDSPEECH_STATE", str(path.parent / "file"))
    ledger = opened(path)
    ledger.charge(0, 0, rid(0))
    (notice,) = ledger.notices
    assert "rows cut off its end would not show" in notice
    for name in ("FEDSPEECH_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("none")))
    (notice,) = opened(path, run_id="homeless").notices
    assert "no home folder" in notice


def test_a_head_that_cannot_be_read_is_damage_not_absence(path):
    two_runs(path)
    hash_chain.head_file(path).write_text("{")
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        Ledger.inspect(path)


def test_a_scratch_ledger_leaves_nothing_behind(path):
    Ledger.open(path, PLAN, "a run", "seeded", scratch=True).charge(0, 0, rid(0))
    assert hash_chain.kept_head(path) is None
