"""Nothing is kept, read or held without a consent that covers it now."""

import random

import pytest
from phone import AREA, CLIP, Phone

from fedspeech.device.consent import PURPOSES, Scope
from fedspeech.device.retention import DAY_S
from fedspeech.errors import ConsentMissing, StoreFull, StoreRefused

TRAINING = Scope(purpose="federated_training", area=AREA)


@pytest.fixture
def phone(tmp_path):
    return Phone(tmp_path)


def test_by_default_nothing_is_agreed_to_and_nothing_is_kept(phone):
    for purpose in PURPOSES:
        with pytest.raises(ConsentMissing, match=f"has not agreed to {purpose} in wake_word"):
            phone.vault.keep(
                "debug" if purpose == "debug" else "clip", CLIP, purpose=purpose, area=AREA
            )
    assert phone.store.entries() == []


def test_a_user_who_declines_is_asked_once_and_keeps_nothing(phone):
    phone.answer = False
    with pytest.raises(ConsentMissing, match="declined federated_training in wake_word"):
        phone.agree()
    assert [row["kind"] for row in phone.store.log.rows] == ["declined"]
    with pytest.raises(ConsentMissing):
        phone.keep()


def test_a_record_serves_the_purpose_and_area_of_its_own_receipt_alone(phone):
    phone.agree()
    record = phone.keep()
    assert phone.use(record).content == CLIP
    for purpose, area in (("analytics", AREA), ("federated_training", "keyboard")):
        with pytest.raises(ConsentMissing, match="does not cover"):
            phone.use(record, purpose=purpose, area=area)
        # A new scope is a new question, and its answer covers nothing from before.
        asked = len(phone.asked)
        phone.agree(purpose=purpose, area=area)
        assert phone.asked[asked:] == [Scope(purpose=purpose, area=area)]
        with pytest.raises(ConsentMissing, match="does not cover"):
            phone.use(record, purpose=purpose, area=area)


def test_revocation_stops_use_destroys_what_came_and_moves_the_epoch(phone):
    first, kept = phone.agree(), phone.keep()
    derived = phone.keep("adapter", b"weights")
    other = phone.agree(purpose="analytics")
    event = phone.keep("event", b"e", purpose="analytics")
    assert other.epoch == phone.consents.epoch == 0
    receipt = phone.vault.revoke(first.id)
    assert sorted(receipt["records"]) == sorted([kept, derived])
    assert phone.consents.epoch == 1
    with pytest.raises(ConsentMissing):
        phone.keep()
    with pytest.raises(StoreRefused):
        phone.use(kept)
    assert phone.use(event, purpose="analytics").content == b"e"
    with pytest.raises(ConsentMissing, match="no consent"):
        phone.vault.revoke(first.id)
    assert phone.agree().epoch == 1
    phone.restart()
    assert phone.consents.epoch == 1


def test_work_that_was_begun_before_a_revocation_brings_nothing_in(phone):
    begun = phone.agree()
    phone.vault.revoke(begun.id)
    phone.agree()
    with pytest.raises(ConsentMissing, match="ended while a record of it was made"):
        phone.keep("adapter", b"weights", begun=begun.id)
    assert phone.store.entries() == []


def test_a_kill_between_revocation_and_erasure_changes_nothing(phone):
    receipt = phone.agree()
    record = phone.keep()
    phone.consents.revoke(receipt.id)  # and here the phone is killed
    with pytest.raises(ConsentMissing):
        phone.use(record)
    phone.restart()
    assert phone.store.entries() == []
    assert phone.store.log.rows[-1]["records"] == [record]


def test_a_consent_ends_with_its_time_and_with_a_new_text(phone):
    phone.agree(days=2)
    record = phone.keep()
    phone.time.seconds += 2 * DAY_S - 1
    assert phone.use(record)
    phone.time.seconds += 1
    with pytest.raises(ConsentMissing):
        phone.use(record)
    phone.vault.sweep()
    assert phone.store.entries() == []
    phone.agree()
    phone.keep()
    phone.restart(text=2)
    with pytest.raises(ConsentMissing):
        phone.keep()
    assert phone.store.entries() == []


def test_debug_records_are_nobodys_by_default_live_shortly_and_every_access_is_a_row(phone):
    phone.agree()
    with pytest.raises(ValueError, match="go together"):
        phone.keep("debug", CLIP)
    phone.agree(purpose="debug")
    record = phone.keep("debug", CLIP, purpose="debug")
    with pytest.raises(ValueError, match="opened by somebody, for a reason"):
        phone.use(record, purpose="debug")
    for reason in ("false accept 17", "false accept 18"):
        phone.use(record, purpose="debug", who="engineer 4", why=reason)
    rows = [row for row in phone.store.log.rows if row["kind"] == "accessed"]
    assert [(row["record"], row["who"], row["why"]) for row in rows] == [
        (record, "engineer 4", "false accept 17"), (record, "engineer 4", "false accept 18"),
    ]  # fmt: skip
    phone.time.seconds += 3 * DAY_S
    with pytest.raises(StoreRefused, match="has expired"):
        phone.use(record, purpose="debug", who="engineer 4", why="too late")


def test_an_access_that_cannot_be_logged_does_not_happen(phone, monkeypatch):
    phone.agree(purpose="debug")
    record = phone.keep("debug", CLIP, purpose="debug")

    def full(*_, **__):
        raise StoreFull("the disk is full")

    monkeypatch.setattr(phone.store.log, "add", full)
    with pytest.raises(StoreFull):
        phone.use(record, purpose="debug", who="engineer 4", why="false accept")


def test_clips_go_after_training_where_the_policy_says_so(phone):
    phone.agree()
    clip, event = phone.keep(), phone.keep("event", b"e")
    assert phone.vault.trained([clip, event])["records"] == [clip]
    assert [entry.id for entry in phone.store.entries()] == [event]


def test_a_random_life_never_shows_what_no_consent_covers(phone):
    """Against a model of three lines: a record is usable while its receipt and its days last."""
    rng, receipts, records, revoked = random.Random(7), [], {}, set()
    for _ in range(60):
        match rng.choice(["agree", "keep", "keep", "revoke", "time", "restart"]):
            case "agree":
                receipts.append(phone.agree(days=rng.choice([1, 3, 20])))
            case "keep":
                live = [
                    r for r in receipts if r.id not in revoked and r.until_s > phone.time.seconds
                ]
                if live:
                    records[phone.keep()] = (live[-1], phone.time.seconds + 7 * DAY_S)
                else:
                    with pytest.raises(ConsentMissing):
                        phone.keep()
            case "revoke" if receipts and receipts[-1].id not in revoked:
                revoked.add(receipts[-1].id)
                phone.vault.revoke(receipts[-1].id)
            case "time":
                phone.time.seconds += rng.choice([0.1, 0.7, 3]) * DAY_S
            case "restart":
                phone.restart()
        now = phone.time.seconds
        usable = {
            record
            for record, (receipt, expires_s) in records.items()
            if receipt.id not in revoked and now < min(receipt.until_s, expires_s)
        }
        found = phone.vault.usable("clip", purpose="federated_training", area=AREA)
        assert {entry.id for entry in found} == usable
    assert len(records) > 10
    assert revoked
