"""Each parcel arrives once, ends in time, or is withdrawn; every transition is one of the table."""

import dataclasses
import random

import pytest
from phone import AREA, Phone

from fedspeech.device.egress import Parcel
from fedspeech.device.retention import DAY_S
from fedspeech.device.scheduler import Condition
from fedspeech.device.uploader import FIRST_WINDOW_S, LONGEST_WINDOW_S, TRANSITIONS, Uploader
from fedspeech.errors import ConsentMissing, StoreFull

ONLINE = Condition(charging=True, wifi=True, idle=True, speaking=False, cool=True, battery=0.8)
OFFLINE = dataclasses.replace(ONLINE, wifi=False)
NOW = 1_000_000.0
END = NOW + 20 * 3600


class Network:
    """Takes bytes, or fails."""

    def __init__(self):
        self.works, self.sent = True, []

    def __call__(self, content):
        if not self.works:
            raise ConnectionError("no route to host")
        self.sent.append(content)


class Sender:
    """An uploader on a phone, and what happened to its states."""

    def __init__(self, folder):
        self.phone, self.network, self.draw = Phone(folder), Network(), 0.5
        self.receipt = self.phone.agree()
        self.seen = set()
        self.begin()

    def begin(self):
        self.uploader = Uploader(self.phone.vault, self.network, area=AREA, draw=lambda: self.draw)
        to = self.uploader._to

        def watched(way, state):
            self.seen.add((way.state, state))
            to(way, state)

        self.uploader._to = watched

    def restart(self):
        self.phone.restart()
        self.begin()

    def post(self, content=b"parcel", release_s=NOW, until_s=END):
        return self.uploader.post(
            Parcel(content=content, release_s=release_s), purpose="federated_training",
            until_s=until_s,
        )  # fmt: skip

    def tick(self, condition=ONLINE, later_s=0.0):
        self.phone.time.seconds += later_s
        self.uploader.tick(condition)
        return list(self.uploader.states.values())


@pytest.fixture
def sender(tmp_path):
    return Sender(tmp_path)


def test_a_parcel_waits_for_its_second_is_sent_once_and_erased(sender):
    sender.post(release_s=NOW + 100)
    assert sender.tick(later_s=99) == ["waiting"]
    assert sender.tick(later_s=1) == ["delivered"]
    assert sender.tick(later_s=DAY_S) == ["delivered"]
    assert sender.network.sent == [b"parcel"]
    assert sender.phone.store.entries("parcel") == []


def test_retries_wait_random_parts_of_windows_that_double_up_to_six_hours(sender):
    sender.network.works, sender.draw, waits = False, 1.0, []
    record = sender.post(until_s=NOW + DAY_S)
    for _ in range(9):
        sender.tick()
        wait_s = sender.uploader._ways[record].due_s - sender.phone.time()
        assert sender.tick(later_s=wait_s - 1) == ["backing off"], "not tried again before"
        sender.phone.time.seconds += 1
        waits.append(wait_s)
    assert waits == [min(LONGEST_WINDOW_S, FIRST_WINDOW_S * 2**n) for n in range(1, 10)]


def test_whoever_comes_back_after_weeks_sends_what_is_wanted_later_and_gives_up_the_rest(sender):
    sender.post(b"old", until_s=NOW + 3600)
    new = sender.post(b"new", until_s=NOW + 23 * 3600)
    assert sender.tick(OFFLINE) == ["offline", "offline"]
    assert sender.tick(OFFLINE, later_s=7200) == ["given up", "offline"]
    assert sender.tick(ONLINE) == ["given up", "waiting"]
    assert sender.network.sent == []
    assert sender.tick(later_s=FIRST_WINDOW_S / 2 - 1) == ["given up", "waiting"]
    assert sender.tick(later_s=1) == ["given up", "delivered"]
    assert sender.network.sent == [b"new"]
    assert sender.uploader.states[new] == "delivered"
    sender.post(b"forgotten", until_s=sender.phone.time() + 90 * DAY_S)
    assert sender.tick(OFFLINE, later_s=21 * DAY_S)[-1] == "withdrawn", "its days to live are over"


def test_a_clock_set_back_delays_nothing_for_ever_and_sends_nothing_early(sender):
    sender.post(release_s=NOW + 100, until_s=END)
    sender.tick(later_s=60)
    sender.phone.time.seconds -= 500 * DAY_S
    assert sender.tick() == ["waiting"]
    assert sender.tick(later_s=39) == ["waiting"]
    assert sender.tick(later_s=1) == ["delivered"]


def test_a_kill_at_any_time_sends_the_same_bytes_again(sender):
    sender.network.works = False
    sender.post(b"noised once")
    sender.tick()
    sender.restart()
    assert sender.tick() == ["waiting"]
    sender.network.works = True
    assert sender.tick(later_s=FIRST_WINDOW_S) == ["delivered"]
    assert sender.network.sent == [b"noised once"]
    sender.restart()
    assert sender.tick() == []


def test_revoking_withdraws_what_has_not_left(sender):
    sender.post(release_s=NOW + 50)
    sender.phone.vault.revoke(sender.receipt.id)
    assert sender.tick(later_s=60) == ["withdrawn"]
    assert sender.network.sent == []
    with pytest.raises(ConsentMissing):
        sender.post()


def test_a_metered_network_is_used_where_the_phone_says_so(sender):
    sender.uploader = Uploader(sender.phone.vault, sender.network, area=AREA, metered=True)
    sender.post()
    assert sender.tick(OFFLINE) == ["delivered"]


@pytest.mark.parametrize("steps", [150, pytest.param(900, marks=pytest.mark.slow)])
def test_in_a_random_life_every_transition_of_the_table_happens_and_no_other(sender, steps):
    rng = random.Random(5)
    for number in range(steps):
        sender.draw = rng.random()
        sender.network.works = rng.random() < 0.5
        if rng.random() < 0.15:
            now = sender.phone.time()
            sender.post(number.to_bytes(2, "big"), now + rng.choice([0, 40]),
                        now + rng.choice([60, 600, 9000]))  # fmt: skip
        if rng.random() < 0.04:
            sender.phone.vault.revoke(sender.receipt.id)
            sender.receipt = sender.phone.agree()
        sender.tick(rng.choice([ONLINE, ONLINE, OFFLINE]), later_s=rng.choice([0, 5, 30, 200]))
    sent = sender.network.sent
    assert len(sent) == len(set(sent)) > steps / 50
    table = {(state, after) for state, later in TRANSITIONS.items() for after in later}
    assert sender.seen <= table
    assert len(sender.seen) > 6
    if steps == 900:
        assert sender.seen == table


def kinds(sender):
    return [row["kind"] for row in sender.phone.store.log.rows if "parcel" in row]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("at", "again", "rows"),
    [
        ("sending", 1, ["sending", "left"]),  # nothing was sent and no row says so
        ("send", 1, ["sending", "left"]),
        ("left", 2, ["sending", "left"]),  # it arrived, and nobody knows: the same bytes again
        ("erased", 1, ["sending", "left"]),
    ],
)
def test_a_kill_at_any_step_neither_claims_a_leaving_nor_misses_one(tmp_path, monkeypatch, at,
                                                                    again, rows):  # fmt: skip
    sender = Sender(tmp_path)
    record = sender.post()
    log, store = sender.phone.store.log, sender.phone.store

    def stop(*_, **__):
        raise Killed

    add = log.add
    if at == "send":
        sender.uploader._send = stop
    elif at == "erased":
        monkeypatch.setattr(store, "erase", stop)
    else:
        monkeypatch.setattr(log, "add", lambda kind, **fields: stop() if kind == at
                            else add(kind, **fields))  # fmt: skip
    with pytest.raises(Killed):
        sender.uploader.tick(ONLINE)
    monkeypatch.undo()
    if at == "left":
        assert kinds(sender) == ["sending"], "it may have left, and the log says so"
    sender.restart()
    sender.phone.time.seconds = NOW + 3600
    sender.uploader.tick(ONLINE)
    assert kinds(sender) == rows
    assert len(sender.network.sent) == again
    assert len(set(sender.network.sent)) == 1
    assert record not in sender.uploader.states or sender.uploader.states[record] == "delivered"


def test_what_was_sent_and_never_known_to_arrive_is_a_row_when_its_way_ends(tmp_path):
    sender = Sender(tmp_path)
    sender.network.works = False
    sender.post()
    sender.uploader.tick(ONLINE)
    sender.phone.time.seconds = END
    sender.uploader.tick(ONLINE)
    assert kinds(sender) == ["sending", "kept_back"]
    sender.post(b"another", release_s=END, until_s=END - 1)
    sender.uploader.tick(ONLINE)
    assert kinds(sender) == ["sending", "kept_back"], "what was never sent did not leave"


def test_a_parcel_whose_row_has_no_room_is_not_sent(tmp_path, monkeypatch):
    sender = Sender(tmp_path)
    sender.post()

    def full(*_, **__):
        raise StoreFull("the disk is full")

    monkeypatch.setattr(sender.phone.store.log, "add", full)
    sender.uploader.tick(ONLINE)
    assert not sender.network.sent
    assert list(sender.uploader.states.values()) == ["backing off"]


def test_a_full_disk_stops_neither_the_start_nor_other_parcels_and_loses_no_row(
    tmp_path, monkeypatch
):
    """The row that a way ended waits for room; what else is due is done meanwhile."""
    sender = Sender(tmp_path)
    sender.network.works = False
    lost = sender.post(until_s=NOW + 60)
    sender.uploader.tick(ONLINE)  # sent perhaps
    sender.network.works = True
    other = sender.post(b"another", release_s=NOW + 100)
    log, add = sender.phone.store.log, sender.phone.store.log.add

    def full(kind, **fields):
        if kind == "kept_back":
            raise StoreFull("the disk is full")
        return add(kind, **fields)

    monkeypatch.setattr(log, "add", full)
    sender.tick(later_s=200)
    assert sender.uploader.states[other] == "delivered"
    assert TRANSITIONS[sender.uploader.states[lost]], "its way has not ended"
    monkeypatch.undo()
    sender.tick(later_s=1)
    assert sender.uploader.states[lost] == "given up"
    assert kinds(sender) == ["sending", "sending", "left", "kept_back"]


def test_an_uploader_starts_on_a_full_disk_and_writes_its_row_when_there_is_room(
    tmp_path, monkeypatch
):
    sender = Sender(tmp_path)
    sender.network.works = False
    sender.post()
    sender.uploader.tick(ONLINE)
    sender.phone.vault.revoke(sender.receipt.id)
    log = sender.phone.store.log

    def full(*_, **__):
        raise StoreFull("the disk is full")

    monkeypatch.setattr(log, "add", full)
    sender.begin()
    assert kinds(sender) == ["sending"]
    monkeypatch.undo()
    sender.begin()
    assert kinds(sender) == ["sending", "kept_back"]


def test_a_row_takes_the_reserve_of_a_full_disk(tmp_path, monkeypatch):
    sender = Sender(tmp_path)
    sender.network.works = False
    sender.post(until_s=NOW + 60)
    sender.uploader.tick(ONLINE)
    store, add, freed = sender.phone.store, sender.phone.store.log.add, []

    def full(kind, **fields):
        if not freed:
            raise StoreFull("the disk is full")
        return add(kind, **fields)

    monkeypatch.setattr(store.log, "add", full)
    monkeypatch.setattr(store, "make_room", lambda: freed.append(1) is None)
    sender.tick(later_s=100)
    assert kinds(sender) == ["sending", "kept_back"]
