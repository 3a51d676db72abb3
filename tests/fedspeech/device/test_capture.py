"""Sound is kept by a trigger, with consent, lossless and encrypted; and in no other way."""

import numpy as np
import pytest
from phone import AREA, Phone

from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.device.capture import OPUS_RATES_HZ, Capture, decoded, encoded
from fedspeech.device.retention import Retention
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
    flac, raw = encoded(SAID[-24_000:], 16_000, "flac"), SAID[-24_000:].tobytes()
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


@pytest.fixture(scope="module")
def speech():
    """Two seconds of a synthetic voice, int16."""
    corpus = SyntheticCorpus(pretraining_spec(("yes", "no"), seed=5, num_public=2))
    waves = corpus.waveforms(list(corpus.utterances[:2])).ravel()
    return np.round(waves / np.abs(waves).max() * 20_000).astype(np.int16)


def test_the_policy_may_keep_clips_as_opus_in_a_third_of_the_bytes(phone, speech):
    """What comes back has the length, the moment and the sound of what went in."""
    phone.agree()
    heard = RingBuffer(seconds=2.0, rate_hz=16_000)
    heard.write(speech)
    sizes = {}
    for clip_format in ("flac", "opus"):
        phone.store.retention = Retention(clip_format=clip_format)
        clip = Capture(heard, phone.vault, area=AREA).trigger(2.0, purpose="federated_training")
        content = phone.use(clip).content
        sizes[clip_format] = len(content)
        samples, rate_hz = decoded(content)
        assert (samples.shape, samples.dtype, rate_hz) == (speech.shape, np.int16, 16_000)
    assert content.startswith(b"OggS")
    assert sizes["opus"] < sizes["flac"] / 3
    shifted = [np.corrcoef(np.roll(samples, shift), speech)[0, 1] for shift in range(-40, 41)]
    assert int(np.argmax(shifted)) == 40
    assert max(shifted) > 0.9


@pytest.mark.parametrize("rate_hz", OPUS_RATES_HZ)
def test_opus_takes_its_rates(speech, rate_hz):
    samples, found_hz = decoded(encoded(speech[:4_000], rate_hz, "opus"))
    assert (len(samples), found_hz) == (4_000, rate_hz)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "clip_format", "said"),
    [(10, 44_100, "opus", "Opus takes"), (0, 16_000, "opus", "has samples"),
     (0, 16_000, "flac", "has samples")],
)  # fmt: skip
def test_what_no_clip_can_be_made_of_is_refused(samples, rate_hz, clip_format, said):
    with pytest.raises(ValueError, match=said):
        encoded(np.zeros(samples, dtype=np.int16), rate_hz, clip_format)


def test_a_format_that_is_none_is_refused():
    with pytest.raises(ValueError, match="clip_format must be"):
        Retention(clip_format="mp3")
