"""`fedspeech phone show`: everything of a phone but its content."""

import json

import numpy as np
import pytest
from phone import AREA, CLIP, Phone, Time

import fedspeech as fs
from fedspeech.device.egress import Door, ProtectedUpdate
from fedspeech.device.scheduler import Condition
from fedspeech.device.uploader import Uploader
from fedspeech.errors import FedspeechError, StoreRefused
from simulations.console import Console

ONLINE = Condition(charging=True, wifi=True, idle=True, speaking=False, cool=True, battery=0.8)


def lost_from(number):
    """A network that takes so many parcels and loses the others."""
    taken = []

    def send(content):
        taken.append(content)
        if len(taken) > number:
            raise ConnectionError("no route to host")

    return send


@pytest.fixture
def phone(tmp_path):
    """A phone of 2040, so that no record of it has expired by the clock of this machine."""
    phone = Phone(tmp_path, Time(2_208_988_800.0))
    phone.agree()
    revoked = phone.agree(purpose="analytics")
    phone.keep("event", b"e", purpose="analytics")
    phone.vault.revoke(revoked.id)
    for _ in range(3):
        phone.keep()
    phone.agree(purpose="debug")
    record = phone.keep("debug", CLIP, purpose="debug")
    phone.use(record, purpose="debug", who="engineer 4", why="false accept")
    door = Door(consents=phone.consents, area=AREA, vector_length=4, bits=8,
                stages={})  # fmt: skip
    words = np.arange(4, dtype=np.uint32)
    uploader = Uploader(phone.vault, lost_from(1), area=AREA)
    for number in range(3):  # the first arrives, the second is lost, the third waits
        update = ProtectedUpdate(round_id=bytes([number]) * 16, words=words)
        parcel = door.let_out(update, made_s=phone.time())
        purpose, until_s = "federated_training", phone.time() + 10**6
        uploader.post(parcel, purpose=purpose, until_s=until_s)
        if number < 2:
            phone.time.seconds = parcel.release_s
            uploader.tick(ONLINE)
    phone.store.close()
    return tmp_path


def test_it_says_what_is_held_left_and_gone_and_shows_no_content(phone, capsys):
    page = fs.phone_show(phone / "phone", keys=phone / "keys")
    page.print(Console(width=160))
    shown, record = capsys.readouterr().out, json.dumps(page.record())
    for text in (
        "federated_training in wake_word", "2040-", "clip", "ProtectedUpdate", "1,024",
        "consent revoked", "1 accesses for debugging; 1 consents revoked",
    ):  # fmt: skip
        assert text in shown
    assert "MARKER" not in shown + record
    assert repr(page).endswith("6 records)")
    found = json.loads(record)
    assert [row["who"] for row in found["accessed"]] == ["engineer 4"]
    assert found["revocation_epoch"] == 1
    assert len(found["held"]) == 4 + 2  # two parcels wait
    assert [row["round"][:2] for row in found["left"]] == ["00"]
    assert [row["round"][:2] for row in found["may_have_left"]] == ["01"]
    assert "May have left" in shown


def test_it_makes_no_phone_where_there_is_none_and_waits_for_none_that_is_open(phone):
    for folder, keys, what in (("none", "keys", "store"), ("phone", "none", "keys")):
        with pytest.raises(FedspeechError, match=f"no folder of a phone's {what}"):
            fs.phone_show(phone / folder, keys=phone / keys)
    assert not (phone / "none").exists()
    held = Phone(phone)
    with pytest.raises(StoreRefused, match="cannot be used"):
        fs.phone_show(phone / "phone", keys=phone / "keys")
    held.store.close()
