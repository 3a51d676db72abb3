"""A phone's store: whole or absent, unreadable without its keys, and nothing left of what went."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from phone import CLIP, Time

from fedspeech.device import key_store
from fedspeech.device.database import Database
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.retention import DAY_S, MonotoneClock, Retention
from fedspeech.device.store import Store
from fedspeech.errors import (
    FedspeechError,
    KeyRefused,
    StoreDamaged,
    StoreForeign,
    StoreFull,
    StoreRefused,
)

ROOT = Path(__file__).parents[3]
TEXT = b"call MARKER-OF-A-NAME at nine"


def opened(folder, time=None):
    return Store(
        folder / "phone", SoftwareKeyStore(folder / "keys"), clock=MonotoneClock(time or Time())
    )


def files(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def secrets_used(monkeypatch):
    """Every key and sealed content of a test, as they were made."""
    used, seal = [], key_store.seal

    def watched(key, content, bound_to):
        sealed = seal(key, content, bound_to)
        used.append((key, sealed))
        return sealed

    for module in ("key_store", "store", "record_keys"):
        monkeypatch.setattr(f"fedspeech.device.{module}.seal", watched)
    return used


def test_what_was_put_is_there_after_a_restart_and_says_what_it_is(tmp_path):
    store = opened(tmp_path)
    record = store.put("clip", CLIP, consent="receipt-1")
    store.close()
    found = opened(tmp_path).get(record)
    assert (found.content, found.kind, found.consent) == (CLIP, "clip", "receipt-1")
    assert found.expires_s == 1_000_000 + 7 * DAY_S
    assert "MARKER" not in repr(found)


def test_no_file_ever_holds_a_clip_a_transcript_or_a_key(tmp_path, secrets_used):
    store = opened(tmp_path)
    others = store.put_all([("event", os.urandom(300)) for _ in range(40)], consent="r")
    clip, text = store.put("clip", CLIP, consent="r"), store.put("transcript", TEXT, consent="r")
    going = [sealed for _, sealed in secrets_used[-4:]]  # two contents and their wrapped keys
    record_keys = {key for key, _ in secrets_used}
    wrapping = {file.read_bytes() for file in (tmp_path / "keys").iterdir()}
    for where in ("while open", "erased", "closed"):
        if where == "erased":
            store.erase([clip, text, *others[::3]], "the user asked for it")
        elif where == "closed":
            store.close()
        for file, content in files(tmp_path).items():
            assert b"MARKER" not in content, (where, file)
            for key in record_keys - wrapping:
                assert key not in content, (where, file)
            if where != "while open":
                for secret in (*wrapping, *(one[12:44] for one in going if len(one) > 44)):
                    assert secret not in content, (where, file)
                assert clip.encode() not in content or file.name == "log.jsonl", (where, file)
    for other in others[1::3]:
        assert len(opened_again(tmp_path).get(other).content) == 300


def opened_again(folder, _open={}):  # noqa: B006
    """One store for many reads."""
    if folder not in _open:
        _open[folder] = opened(folder)
    return _open[folder]


def test_a_copy_from_before_an_erasure_opens_with_no_key_that_is_left(tmp_path):
    store = opened(tmp_path)
    record = store.put("clip", CLIP, consent="r")
    store.close()
    shutil.copytree(tmp_path / "phone", tmp_path / "copy")
    store = opened(tmp_path)
    receipt = store.erase([record], "consent revoked")
    assert receipt["records"] == [record]
    assert receipt["destroyed_key"] not in {f.stem for f in (tmp_path / "keys").iterdir()}
    assert store.erase([record], "again") is None
    with pytest.raises(StoreForeign, match="a copy from before an erasure"):
        Store(tmp_path / "copy", SoftwareKeyStore(tmp_path / "keys"))


def test_another_device_and_a_wrong_key_are_refused_and_nothing_is_lost(tmp_path):
    store = opened(tmp_path)
    record = store.put("clip", CLIP, consent="r")
    with pytest.raises(StoreRefused, match="cannot be used"):
        opened(tmp_path)  # held by this process
    store.close()
    with pytest.raises(StoreForeign, match="made on another device"):
        Store(tmp_path / "phone", SoftwareKeyStore(tmp_path / "other keys"))
    (file,) = (tmp_path / "keys").iterdir()
    right = file.read_bytes()
    file.write_bytes(os.urandom(32))
    with pytest.raises(KeyRefused):
        opened(tmp_path)
    file.write_bytes(right)
    assert opened(tmp_path).get(record).content == CLIP


def test_no_nonce_and_no_key_repeats_over_restarts_and_copies(tmp_path, secrets_used):
    opened(tmp_path).close()
    for copy in range(3):
        shutil.copytree(tmp_path / "phone", tmp_path / f"copy {copy}")
        store = Store(tmp_path / f"copy {copy}", SoftwareKeyStore(tmp_path / "keys"))
        store.put_all([("event", b"the same")] * 20, consent="r")
        store.close()
    nonces = [(key, sealed[:12]) for key, sealed in secrets_used]
    assert len(set(nonces)) == len(nonces) == 2 * 60 + 1


def test_a_flipped_bit_is_refused_by_name_and_others_stay(tmp_path):
    store = opened(tmp_path)
    contents = {
        store.put("event", bytes([n]) * 900, consent="r"): bytes([n]) * 900 for n in range(9)
    }
    store.close()
    file, rng, refused = tmp_path / "phone" / "store.sqlite", random.Random(1), 0
    whole = file.read_bytes()
    for _ in range(40):
        place = rng.randrange(len(whole))
        file.write_bytes(
            whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
        )
        try:
            store = opened(tmp_path)
        except StoreRefused:
            refused += 1
            continue
        lost = 0
        for record, content in contents.items():
            try:
                assert store.get(record).content == content
            except StoreRefused:
                lost += 1
        refused += lost > 0
        store.close()
        (tmp_path / "phone" / "log.jsonl").unlink(missing_ok=True)
    assert refused > 12
    file.write_bytes(whole)
    assert [opened_again(tmp_path).get(record).content for record in contents] == [
        *contents.values()
    ]


@pytest.mark.parametrize(
    "change", ["kind = 'clip'", "expires_s = expires_s + 1", "consent = 'another'", "id = 'x'"]
)
def test_what_stands_beside_a_content_is_authenticated(tmp_path, change):
    store = opened(tmp_path)
    record = store.put("event", TEXT, consent="r")
    store.close()
    with sqlite3.connect(tmp_path / "phone" / "store.sqlite") as connection:
        connection.execute(f"UPDATE records SET {change}")
        connection.execute("UPDATE keys SET id = (SELECT id FROM records)")
    connection.close()
    with pytest.raises(StoreDamaged, match="not what was written"):
        opened(tmp_path).get("x" if change.startswith("id") else record)


def test_rows_exchanged_between_records_are_refused(tmp_path):
    store = opened(tmp_path)
    one, two = store.put_all([("event", b"one"), ("event", b"two")], consent="r")
    store.close()
    with sqlite3.connect(tmp_path / "phone" / "store.sqlite") as connection:
        connection.execute("UPDATE records SET id = id || 'x'")
        connection.execute("UPDATE records SET id = ? WHERE id = ?", (two, one + "x"))
    connection.close()
    with pytest.raises(StoreDamaged):
        opened(tmp_path).get(two)


def test_a_full_disk_refuses_a_record_and_still_erases(tmp_path):
    store = opened(tmp_path)
    kept = [store.put("clip", CLIP, consent="r") for _ in range(5)]
    connection = store._database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull, match="nothing is lost"):
        store.put_all([("clip", CLIP)] * 3, consent="r")
    assert [store.get(record).content for record in kept] == [CLIP] * 5
    assert store.erase(kept[:2], "revoked")["records"] == sorted(kept[:2])
    assert [entry.id for entry in store.entries()] == kept[2:]


ON_A_FULL_DISK = """
import os, sys
from pathlib import Path
from fedspeech.device.consent import Consents, Scope
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.store import Store
from fedspeech.device.vault import Vault
from fedspeech.errors import StoreFull

disk = Path(sys.argv[1])
store = Store(disk / "phone", SoftwareKeyStore(disk / "keys"))
consents = Consents(store.log, store.now, ask=lambda scope: True)
vault = Vault(store, consents)
consent = consents.request(Scope(purpose="analytics", area="a"), days=9)
kept = []
try:
    while True:
        kept.append(vault.keep("clip", os.urandom(40_000), purpose="analytics", area="a"))
except StoreFull:
    pass
try:
    with open(disk / "other", "wb", buffering=0) as other:
        while other.write(bytes(512)):
            pass
except OSError:
    pass
for record in kept:
    assert len(store.get(record).content) == 40_000
try:
    store.put("event", bytes(900_000), consent="r")
    raise SystemExit("there was room")
except StoreFull:
    pass
receipt = vault.revoke(consent.id)
assert sorted(receipt["records"]) == sorted(kept), receipt
assert consents.epoch == 1
assert not store.entries()
store.put("event", b"there is room again", consent="r")
store.close()
print("erased on a full disk")
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full_refuses_and_still_erases(tmp_path):
    """On a disk of 6 MB in a name space of its own; skipped where the system grants none."""
    script = (
        f'mount -t tmpfs -o size=6m tmpfs {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    )
    command = ["unshare", "-rm", "sh", "-c", script, ON_A_FULL_DISK]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command[:4], "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no name spaces here")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "erased on a full disk\n", done.stderr


def at_line(number, work):
    """Runs work in a child that dies at the given line of the store's code; whether it died."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    left = number

    def step(frame, event, _):
        nonlocal left
        if "/fedspeech/" not in frame.f_code.co_filename or "/tests/" in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return step

    sys.settrace(step)
    try:
        work()
    except BaseException:
        os._exit(3)
    os._exit(0)


LINES = [pytest.param(offset, marks=() if offset == 0 else pytest.mark.slow) for offset in range(4)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("offset", LINES)
def test_killed_at_any_line_a_record_is_whole_or_absent_and_a_receipt_is_written_once(
    tmp_path, offset
):
    store = opened(tmp_path)
    _, goes = store.put_all([("clip", CLIP), ("clip", b"goes" * 99)], consent="r")
    store.close()

    def work():
        store = opened(place)
        store.put("event", TEXT, consent="r")
        store.erase([goes], "revoked")
        store.close()

    number, stride, erased = 1 + offset * 20, 80, []
    while True:
        place = tmp_path / str(number)
        for part in ("phone", "keys"):
            shutil.copytree(tmp_path / part, place / part)
        died = at_line(number, work)
        store = opened(place)
        contents = {record.content for record in map(store.get, (e.id for e in store.entries()))}
        assert CLIP in contents
        assert contents <= {CLIP, TEXT, b"goes" * 99}
        receipts = [row["records"] for row in store.log.rows if row["kind"] == "erased"]
        assert receipts == ([] if b"goes" * 99 in contents else [[goes]])
        assert len(list((place / "keys").glob("*.key"))) == 1
        assert (b"goes" * 99 in contents) or TEXT in contents, "in the order of the calls"
        store.put("event", b"goes on", consent="r")
        store.close()
        erased.append(bool(receipts))
        shutil.rmtree(place)
        if not died:
            break
        number += stride
    assert erased == sorted(erased)
    assert not erased[0]
    assert erased[-1]
    assert len(erased) > 4


WRITES_FOR_EVER = """
import os, sys
from pathlib import Path
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.store import Store

folder = Path(sys.argv[1])
store = Store(folder / "phone", SoftwareKeyStore(folder / "keys"))
while True:
    records = store.put_all([("event", n.to_bytes(4, "big") * 500) for n in range(8)], consent="r")
    print("put", *records, flush=True)
    store.erase(records[:4], "revoked")
    print("erased", *records[:4], flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_loses_nothing_it_acknowledged(tmp_path):
    rng, put, erased = random.Random(2), set(), set()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        first = child.stdout.readline()
        time.sleep(rng.uniform(0, 0.4))
        child.send_signal(signal.SIGKILL)
        lines = [first, *child.stdout.read().splitlines()]
        child.wait()
        for line in (line.split() for line in lines if line):
            (put if line[0] == "put" else erased).update(line[1:])
        store = opened(tmp_path)
        held = {entry.id for entry in store.entries()}
        assert (
            put - erased - held == set() or len(put - erased - held) == 4
        )  # unacknowledged erasure
        assert not erased & held
        for record in held:
            content = store.get(record).content
            assert content == content[:4] * 500
        receipts = [one for row in store.log.rows for one in row.get("records", ())]
        assert len(receipts) == len(set(receipts))
        assert erased <= set(receipts)
        put, erased = held, erased | set(receipts)
        store.close()
    assert len(erased) > 20


def test_each_kind_expires_after_its_own_days_and_the_sweep_gives_one_receipt(tmp_path):
    now = Time()
    store = opened(tmp_path, now)
    clip, event = store.put_all([("clip", CLIP), ("event", b"e")], consent="r")
    now.seconds += 7 * DAY_S - 1
    assert store.sweep() is None
    now.seconds += 1
    with pytest.raises(StoreRefused, match="has expired"):
        store.get(clip)
    assert [entry.id for entry in store.entries()] == [event]
    receipt = store.sweep()
    assert (receipt["records"], receipt["reason"]) == ([clip], "expired")


def test_a_clock_set_back_revives_nothing_and_stops_no_time(tmp_path):
    now = Time()
    store = opened(tmp_path, now)
    clip = store.put("clip", CLIP, consent="r")
    now.seconds += 6 * DAY_S
    store.put("event", b"e", consent="r")  # the time is kept with it
    store.close()
    now.seconds -= 1000 * DAY_S
    store = opened(tmp_path, now)
    assert store.now() == 1_000_000 + 6 * DAY_S
    now.seconds += DAY_S - 1
    assert store.get(clip).content == CLIP
    now.seconds += 1
    with pytest.raises(StoreRefused, match="has expired"):
        store.get(clip)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_clock_that_tells_no_time_stands_still_and_goes_on(tmp_path, broken):
    time = Time()
    store = opened(tmp_path, time)
    record = store.put("clip", b"sound", consent="r")
    before = store.now()
    time.seconds = broken
    assert store.now() == before
    time.seconds = 0.0
    assert store.now() == before, "set back after it, it runs back no more than at any time"
    assert store.get(record).content == b"sound"
    time.seconds += 8 * DAY_S
    assert store.now() == before + 8 * DAY_S
    assert store.sweep() is not None


def test_a_record_needs_a_known_kind_and_a_receipt(tmp_path):
    store = opened(tmp_path)
    with pytest.raises(ValueError, match=r"kind must be one of clip, .*got kind='audio'"):
        store.put("audio", CLIP, consent="r")
    with pytest.raises(ValueError, match="needs the id of a consent receipt, got consent=''"):
        store.put("clip", CLIP, consent="")
    with pytest.raises(ValueError, match="clip must be positive and finite"):
        Retention(clip=0)
    assert store.entries() == []


def test_an_edited_log_stops_the_phone_and_a_database_that_is_none_is_named(tmp_path):
    store = opened(tmp_path)
    store.erase([store.put("clip", CLIP, consent="r")], "revoked")
    store.close()
    log = tmp_path / "phone" / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole.replace("revoked", "expired"))
    with pytest.raises(FedspeechError, match=r"log\.jsonl.*takes part in nothing"):
        opened(tmp_path)
    log.write_text(whole)
    opened(tmp_path).close()
    (tmp_path / "phone" / "store.sqlite").write_bytes(b"no database " * 999)
    with pytest.raises(StoreDamaged):
        Database(tmp_path / "phone")
