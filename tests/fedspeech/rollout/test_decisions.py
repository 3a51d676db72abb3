"""A roll-out decides by its guardrails, remembers why, and no kill makes a phone change twice."""

import dataclasses
import itertools
import math

import pytest
from killed import in_child

from fedspeech.errors import FedspeechError, RolloutDamaged, RolloutRefused
from fedspeech.hash_chain import forget_head
from fedspeech.rollout.bound import Bound
from fedspeech.rollout.decisions import Rollout
from fedspeech.rollout.guardrails import SegmentCounts, Window
from fedspeech.rollout.plan import Evaluation, RolloutPlan, Stage
from fedspeech.rollout.version import Version

PLAN = RolloutPlan(
    phones=100_000,
    segments={"accent": {"north": 0.7, "south": 0.3}},
    stages=(Stage(share=0.1, windows=3), Stage(share=0.5, windows=3), Stage(share=1.0)),
    evaluation=Evaluation(epsilon=math.inf, phone_stddev=0.1, clips=20),
)
KEY = bytes(range(32))
PHONES = [number.to_bytes(32, "big") for number in range(400)]


@pytest.fixture
def pair(versions):
    """The version that is rolled out, and the one before."""
    return Bound.of("kitchen", Version(0, 2), versions[1]), Bound.of(
        "kitchen", Version(0, 1), versions[0]
    )


@pytest.fixture
def start(tmp_path, pair):
    folder = tmp_path / "rollout"

    def started(plan=PLAN, **changes):
        options = {"release": pair[0], "control": pair[1], "bound": {"ledger": "7:ab"}, "key": KEY}
        return Rollout.start(folder, plan, **options | changes)

    yield started
    forget_head(folder / "rollout.jsonl")


def window(first_day, south=0.9, north=0.9, total=20_000.0, old=0.9):
    """A week in which phones with the new version are this accurate."""

    def side(accuracies, total):
        return tuple(
            SegmentCounts(segment=name, correct=value * total, total=total, noise_stddev=0.0)
            for name, value in accuracies.items()
        )

    new = {"accent=north": north, "accent=south": south}
    return Window(
        first_day=first_day, last_day=first_day + 6,
        new=side(new, total), old=side(dict.fromkeys(new, old), 5 * total),
    )  # fmt: skip


def served(rollout):
    return [rollout.serves(phone) for phone in PHONES]


def test_a_harmless_update_reaches_everybody_and_says_why(start):
    rollout = start()
    assert 10 < served(rollout).count("0.2") < 80
    assert rollout.look(window(1)).decision == "promote"
    assert rollout.stage_number == 1
    rollout.look(window(8))
    assert rollout.state == "complete"
    assert set(served(rollout)) == {"0.2"}
    assert "every segment lost less than 2 points" not in rollout.reason
    assert rollout.reason == "every segment lost less than 5 points, after 1 window at 50 %"
    with pytest.raises(RolloutRefused, match="that is complete is not looked at"):
        rollout.look(window(15))


def test_harm_to_one_segment_rolls_back_with_its_name(start):
    rollout = start()
    look = rollout.look(window(1, south=0.8))
    assert look.decision == "roll back"
    assert look.reason.startswith("accent=south lost 10.0 points of accuracy, at least ")
    assert set(served(rollout)) == {"0.1"}
    assert rollout.statement(0).share_ppm == 0
    with pytest.raises(RolloutRefused, match="rolled back cannot be promoted: accent=south"):
        rollout.promote("try again")


def test_a_window_counts_once_and_windows_go_forward(start):
    rollout = start()
    first = rollout.look(window(8, south=0.87, total=2_000.0))
    assert first.decision == "watch"
    rows = len(rollout.rows)
    assert Rollout.open(rollout.folder).look(window(8, south=0.87, total=2_000.0)) == first
    assert len(Rollout.open(rollout.folder).rows) == rows
    for again in (window(8, south=0.86), window(14), window(1)):
        with pytest.raises(RolloutRefused, match="a window counts once"):
            rollout.look(again)


def test_too_little_to_decide_pauses_after_the_last_window(start):
    rollout = start()
    looks = [rollout.look(window(day, south=0.875, total=600.0)) for day in (1, 8, 15)]
    assert [look.decision for look in looks] == ["watch", "watch", "pause"]
    assert "accent=south was neither harmed nor cleared of a loss of 5 points" in rollout.reason
    with pytest.raises(RolloutRefused, match="has had the 3 windows of its plan"):
        rollout.look(window(22))
    rollout.promote("a larger share will tell")
    assert rollout.stage_number == 1
    assert rollout.look(window(22)).number == 1


def test_a_pause_holds_the_share_and_harm_still_rolls_back(start):
    rollout = start()
    rollout.pause("a holiday")
    assert rollout.look(window(1)).decision == "watch"
    assert rollout.state == "paused"
    rollout.resume("it is over")
    rollout.pause("again")
    assert rollout.look(window(8, north=0.7)).decision == "roll back"
    for decide in (rollout.pause, rollout.resume, rollout.rollback):
        with pytest.raises(RolloutRefused, match="rolled back cannot be"):
            decide("no")


def test_decisions_by_hand_are_rows_with_a_reason(start):
    rollout = start()
    with pytest.raises(RolloutRefused, match="needs a reason"):
        rollout.promote(" ")
    rollout.promote("heard it"), rollout.promote("heard it again")
    assert rollout.state == "complete"
    rollout.rollback("users complain")
    kinds = [row["kind"] for row in Rollout.open(rollout.folder).rows]
    assert kinds == ["started", "promoted", "promoted", "rolled_back"]
    assert set(served(rollout)) == {"0.1"}


def test_a_segment_that_is_withheld_is_not_cleared_and_one_unasked_is_refused(start):
    rollout = start()
    full = window(1)
    look = rollout.look(dataclasses.replace(full, new=full.new[:1]))
    assert look.decision == "watch"
    assert look.segments[1].total is None
    assert look.segments[1].difference is None
    other = SegmentCounts(segment="accent=west", correct=1.0, total=2.0, noise_stddev=0.0)
    with pytest.raises(RolloutRefused, match="got counts of accent=west"):
        rollout.look(dataclasses.replace(window(8), new=(other,)))


def test_a_roll_out_is_bound_to_what_it_serves_by_content(start, pair, versions):
    rollout = Rollout.open(start().folder)
    assert rollout.release == pair[0]
    assert rollout.rows[0]["bound"] == {"ledger": "7:ab"}
    assert rollout.rows[0]["plan_sha256"] == PLAN.sha256
    other = Bound.of("kitchen", Version(0, 2), versions[2])
    assert other.adapter_sha256 != pair[0].adapter_sha256
    assert other.base_sha256 == pair[0].base_sha256


def test_a_roll_out_that_cannot_be_is_refused_and_leaves_nothing(start, pair, tmp_path):
    few = dataclasses.replace(PLAN, phones=500)
    with pytest.raises(RolloutRefused, match="could not find a loss of 5 points"):
        start(few)
    with pytest.raises(RolloutRefused, match="must be above the old one"):
        start(release=pair[1], control=pair[0])
    with pytest.raises(RolloutRefused, match="must be of one base_sha256"):
        start(control=dataclasses.replace(pair[1], base_sha256="cd" * 32))
    assert not (tmp_path / "rollout").exists()
    start()
    with pytest.raises(RolloutRefused, match="has a roll-out already"):
        start()
    with pytest.raises(FedspeechError, match="is no roll-out"):
        Rollout.open(tmp_path / "nothing")


def test_an_edited_row_stops_it(start):
    rollout = start()
    rollout.look(window(1, south=0.8))
    chain = rollout.folder / "rollout.jsonl"
    whole = chain.read_bytes()
    chain.write_bytes(whole.replace(b'"decision": "roll back"', b'"decision": "promote"'))
    with pytest.raises(RolloutDamaged, match="edited, inserted or removed"):
        Rollout.open(rollout.folder)
    chain.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(RolloutDamaged, match="cut off its end"):
        Rollout.open(rollout.folder)


def test_without_an_old_version_other_phones_keep_the_base(start):
    assert set(served(start(control=None))) == {"0.2", None}


def script(folder):
    """What an operator's job does in a month; each step is tried again until it is done."""
    yield lambda: Rollout.open(folder).look(window(1))
    yield lambda: Rollout.open(folder).pause("night")
    yield lambda: Rollout.open(folder).resume("day")
    yield lambda: Rollout.open(folder).look(window(8, south=0.7))


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", range(6))
def test_a_kill_at_any_write_changes_no_phone_twice(start, kill_at):
    """Of each phone: the old version, then the new one, then after the rollback the old one."""
    rollout = start()
    seen, kills = [served(rollout)], 0
    for step in script(rollout.folder):
        rows = len(Rollout.open(rollout.folder).rows)
        status = in_child(step, kill_at=kill_at)
        found = Rollout.open(rollout.folder)  # the next process repairs what is torn
        assert len(found.rows) in (rows, rows + 1)
        seen.append(served(found))
        if status == -9:
            kills += 1
            if len(found.rows) == rows:
                step()
        else:
            assert status == 0
        seen.append(served(Rollout.open(rollout.folder)))
    final = Rollout.open(rollout.folder)
    assert final.state == "rolled back"
    assert len(final.rows) == 5
    assert kills or kill_at > 2
    for phone in zip(*seen, strict=True):
        changes = sum(a != b for a, b in itertools.pairwise(phone))
        assert changes <= 1 + (phone[0] == "0.1")
        assert phone[-1] == "0.1"
