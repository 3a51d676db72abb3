"""A phone knows its owner's voice, and nothing of it can be carried away."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
from phone import AREA, Phone

from fedspeech.device.egress import AggregateCounts, Door, ProtectedUpdate, ProtocolMessage
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.speaker_space import _SHRINKAGE, SpeakerSpace, _discriminants
from fedspeech.device.store import Store
from fedspeech.device.voiceprint import Voiceprint
from fedspeech.errors import ConsentMissing, EgressRefused, StoreForeign, StoreRefused

MELS, FRAMES = 8, 20


def clips(speaker, count, rng):
    """Log-mel of a made-up voice: its own spectrum and its own liveliness, under noise."""
    own = np.random.default_rng(speaker)
    spectrum, liveliness = own.normal(0, 1.0, MELS), own.uniform(0.5, 1.5)
    loud = np.r_[np.zeros(FRAMES // 2), np.ones(FRAMES - FRAMES // 2)][:, np.newaxis]
    level = rng.normal(0, 2.0, (count, 1, 1))
    noise = rng.normal(0, liveliness, (count, FRAMES, MELS))
    return (loud * (4 + spectrum) + noise + level).astype(np.float32)


def public(speakers=range(100, 140), each=8):
    rng = np.random.default_rng(1)
    frames = np.concatenate([clips(one, each, rng) for one in speakers])
    return frames, np.repeat(np.arange(len(speakers)), each)


@pytest.fixture(scope="module")
def space():
    return SpeakerSpace.fit(*public())


@pytest.fixture
def owner(space):
    return Voiceprint.enroll(space, clips(1, 3, np.random.default_rng(2)))


def test_the_owner_is_known_and_others_are_not(space):
    """Of 40 owners and 40 others each 20 clips: rates far from chance, counted exactly."""
    rng = np.random.default_rng(3)
    mine, others = [], []
    for speaker in range(40):
        owner = Voiceprint.enroll(space, clips(speaker, 3, rng))
        mine.append(owner.verify(clips(speaker, 20, rng)).mean())
        others.append(owner.verify(clips(speaker + 1000, 20, rng)).mean())
    assert np.mean(mine) > 0.85
    assert np.mean(others) < 0.15


def test_level_does_not_matter(space, owner):
    heard = clips(1, 10, np.random.default_rng(4))
    np.testing.assert_allclose(space.place(heard), space.place(heard + 3), atol=1e-4)


def test_directions_are_those_of_a_reference():
    """Two classes: Fisher's direction is within^-1 (mean difference) (Bishop 2006, eq. 4.30)."""
    rng = np.random.default_rng(5)
    data = np.concatenate([rng.normal(0, 1, (50, 3)), rng.normal([2, 0, 1], 1, (50, 3))])
    speakers = np.repeat([0, 1], 50)
    _, _, directions = _discriminants(data, speakers)
    standard = (data - data.mean(axis=0)) / (data.std(axis=0) + 1e-6)
    means = np.stack([standard[speakers == one].mean(axis=0) for one in (0, 1)])
    inner = standard - means[speakers]
    within = inner.T @ inner / 98
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.trace(within) / 3 * np.eye(3)
    expected = np.linalg.solve(within, means[1] - means[0])
    cosine = directions[:, 0] @ expected / np.linalg.norm(directions[:, 0])
    assert abs(cosine) / np.linalg.norm(expected) == pytest.approx(1, abs=1e-9)
    assert directions.shape == (3, 1)


WAYS_OUT = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "json": json.dumps,
    "vars": vars,
    "iter": iter,
    "len": len,
    "bytes": bytes,
    "float": float,
    "state": lambda one: one.__getstate__(),
    "reduce": lambda one: one.__reduce__(),
    "save": lambda one: np.asarray(one, dtype=float),
    "made": lambda one: type(one)(),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_there_is_no_way_out(owner, way):
    with pytest.raises((TypeError, ValueError)):
        WAYS_OUT[way](owner)


def test_printing_shows_nothing_of_it(owner):
    assert {str(owner), repr(owner), f"{owner}", f"{[owner]}"} == {
        "Voiceprint(enrolled)",
        "[Voiceprint(enrolled)]",
    }
    public_names = {name for name in dir(owner) if not name.startswith("_")}
    assert public_names == {"enroll", "verify", "keep", "open", "delete"}


def test_deleted_it_answers_nothing_and_its_memory_is_overwritten(owner):
    memory = owner._center
    owner.delete()
    assert not memory.any()
    assert repr(owner) == "Voiceprint(deleted)"
    with pytest.raises(ValueError, match="the voiceprint was deleted"):
        owner.verify(clips(1, 1, np.random.default_rng(6)))


def test_it_is_kept_under_consent_and_its_record_is_erased(tmp_path, space, owner):
    phone = Phone(tmp_path)
    heard = clips(1, 10, np.random.default_rng(7))
    with pytest.raises(ConsentMissing):
        owner.keep(phone.vault, area="wake_word")
    phone.agree("personalization")
    record = owner.keep(phone.vault, area="wake_word")
    again = Voiceprint.open(space, phone.vault, record, area="wake_word")
    np.testing.assert_array_equal(owner.verify(heard), again.verify(heard))
    with pytest.raises(ValueError, match="the vault is needed"):
        Voiceprint.open(space, phone.vault, record, area="wake_word").delete()
    again.delete(phone.vault)
    with pytest.raises(StoreRefused):
        Voiceprint.open(space, phone.vault, record, area="wake_word")


def test_no_stand_in_for_a_vault_is_given_it(owner):
    class Thief:
        def keep(self, *args, **kwargs):
            pytest.fail("the voiceprint left")

    with pytest.raises(TypeError, match="only a phone's Vault"):
        owner.keep(Thief(), area="wake_word")


def test_the_door_does_not_let_it_out(tmp_path, owner):
    phone = Phone(tmp_path)
    phone.agree()
    door = Door(consents=phone.consents, area=AREA, vector_length=4, bits=20,
                stages={})  # fmt: skip
    with pytest.raises(EgressRefused, match="Voiceprint"):
        door.let_out(owner, made_s=0)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (np.zeros((1, FRAMES, MELS), np.float32), "enrolling takes 2 clips"),
        (np.full((2, FRAMES, MELS), np.nan, np.float32), "finite frames"),
        (np.zeros((2, FRAMES, MELS + 1), np.float32), "finite frames"),
        (np.zeros((2, 1, MELS), np.float32), "finite frames"),
    ],
)
def test_what_is_no_speech_is_refused(space, frames, said):
    with pytest.raises(ValueError, match=said):
        Voiceprint.enroll(space, frames)


def test_too_few_public_speakers_are_refused():
    with pytest.raises(ValueError, match="six speakers"):
        SpeakerSpace.fit(*public(range(100, 105)))


def test_at_rest_it_opens_with_a_key_of_the_devices_key_store_alone(tmp_path, space, owner):
    """No file of the phone holds it; without the key store, or with another, it is lost."""
    phone = Phone(tmp_path)
    phone.agree("personalization")
    content = owner._center.tobytes()
    record = owner.keep(phone.vault, area=AREA)
    phone.store.close()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 2
    assert not [file for file in files if content[:16] in file.read_bytes()]
    shutil.copytree(tmp_path / "phone", tmp_path / "stolen")
    with pytest.raises(StoreForeign):
        Store(tmp_path / "stolen", SoftwareKeyStore(tmp_path / "keys of a thief"))
    phone = Phone(tmp_path)
    Voiceprint.open(space, phone.vault, record, area=AREA).delete(phone.vault)
    phone.store.close()
    with pytest.raises(StoreForeign):  # its key is destroyed: a copy from before is of no use
        Store(tmp_path / "stolen", SoftwareKeyStore(tmp_path / "keys"))


def test_no_type_that_the_door_lets_out_can_carry_it(tmp_path, owner):
    """Neither the voiceprint nor its numbers, as what they are or dressed as a payload."""
    phone = Phone(tmp_path)
    phone.agree()
    phone.agree("analytics")
    numbers = owner._center
    door = Door(consents=phone.consents, area=AREA, vector_length=len(numbers), bits=20,
                stages={"share": 4096})  # fmt: skip
    for inside in (owner, numbers, numbers.astype(np.float32).view(np.uint32), numbers.tobytes()):
        for payload in (
            inside,
            ProtectedUpdate(round_id=bytes(16), words=inside),
            AggregateCounts(round_id=bytes(16), words=inside),
            ProtocolMessage(round_id=bytes(16), purpose="analytics", stage="voiceprint",
                            body=bytes(8)),
        ):  # fmt: skip
            with pytest.raises(EgressRefused):
                door.let_out(payload, made_s=0)
