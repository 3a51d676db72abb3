"""Sound is kept by a trigger, with consent, lossless and encrypted; and in no other way."""

import numpy as np
import pytest
from phone import AREA, Phone

from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.device.capture import Capture, decoded, encoded
from fedspeech.errors import ConsentMissing

SAID = (8000 * np.sin(np.arange(32_000) / 9)).astype(np.int16)


@pytest.fixture
def phone(tmp_path):
    return Phone(tmp_path)


@pytest.fixture
def capture(phone):
    heard = RingBuffer(seconds=2.0, rate_hz=16_000)
    heard.write(SAID)
    return Capture(heard, phone.vault, area=AREA)


def test_a_clip_comes_back_bit_for_bit_and_smaller(phone, capture):
    phone.agree()
    record = capture.trigger(1.5, purpose="federated_training")
    found = phone.use(record)
    samples, rate_hz = decoded(found.content)
    np.testing.assert_array_equal(samples, SAID[-24_000:])
    assert (found.kind, rate_hz) == ("clip", 16_000)
    assert found.content.startswith(b"fLaC")
    assert len(found.content) < 2 * len(samples)


def test_without_consent_no_sample_leaves_the_buffer(phone, capture, monkeypatch):
    monkeypatch.setattr(RingBuffer, "last", lambda *_: pytest.fail("samples were taken"))
    for purpose in ("federated_training", "debug"):
        with pytest.raises(ConsentMissing):
            capture.trigger(1.0, purpose=purpose)
    phone.vault.revoke(phone.agree().id)
    with pytest.raises(ConsentMissing):
        capture.trigger(1.0, purpose="federated_training")


def test_listening_alone_writes_nothing(phone, capture):
    before = {file: file.stat().st_mtime_ns for file in phone.folder.rglob("*")}
    for block in np.split(SAID, 100):
        capture._heard.write(block)
    assert {file: file.stat().st_mtime_ns for file in phone.folder.rglob("*")} == before


def test_no_file_holds_the_clip_in_the_clear(phone, capture):
    phone.agree()
    capture.trigger(1.5, purpose="federated_training")
    flac, raw = encoded(SAID[-24_000:], 16_000), SAID[-24_000:].tobytes()
    for file in phone.folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            for clear in (flac, raw):
                assert clear[1000:1032] not in content
            assert b"fLaC" not in content


def test_a_debug_clip_is_a_debug_record(phone, capture):
    phone.agree(purpose="debug")
    record = capture.trigger(0.5, purpose="debug")
    assert phone.use(record, purpose="debug", who="engineer", why="false accept").kind == "debug"
