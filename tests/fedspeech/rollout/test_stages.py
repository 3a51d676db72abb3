"""Stages are nested, every phone finds its own, and a statement cannot be bent for one phone."""

import dataclasses
import hmac

import numpy as np
import pytest
from adapters_to_send import DAY, NOW

from fedspeech.errors import UpdateRefused
from fedspeech.rollout.bundle import make_new_keys
from fedspeech.rollout.phone import Phone
from fedspeech.rollout.phone_stage import PhoneStage
from fedspeech.rollout.stages import Heard, StageStatement, draw, takes
from fedspeech.rollout.version import Version

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PHONES = [number.to_bytes(32, "big") for number in range(5_000)]
SHARES = (10_000, 100_000, 500_000, 1_000_000)


@pytest.fixture(scope="module")
def stages():
    """Which phones take the version at each share."""
    return np.array([[takes(KEY, phone, share) for phone in PHONES] for share in SHARES])


def test_stages_are_as_large_as_planned_and_nested(stages):
    """False-alarm rate 1e-4: four standard deviations of a binomial count."""
    shares = np.array(SHARES) / 1e6
    error = 4 * np.sqrt(shares * (1 - shares) / len(PHONES))
    assert (abs(stages.mean(1) - shares) <= error).all()
    assert (stages[1:] >= stages[:-1]).all()
    assert stages[-1].all()
    assert not any(takes(KEY, phone, 0) for phone in PHONES)


def test_another_roll_out_draws_other_phones(stages):
    """Independent draws share 10 %^2 of the phones; false-alarm rate 1e-4."""
    other = np.array([takes(OTHER, phone, 100_000) for phone in PHONES])
    both = (other & stages[1]).mean()
    assert abs(both - 0.01) < 4 * np.sqrt(0.01 / len(PHONES))


def test_a_draw_is_the_hmac_that_an_app_would_write():
    """Each part of the message with its kind and its length, big-endian."""
    message = b"s" + (19).to_bytes(8, "big") + b"place in a roll-out"
    message += b"i" + (1).to_bytes(8, "big") + b"1" + b"b" + (32).to_bytes(8, "big") + PHONES[7]
    digest = hmac.new(KEY, message, "sha256").digest()
    assert draw(KEY, PHONES[7]) == int.from_bytes(digest[:8], "big")
    with pytest.raises(ValueError, match="secret must be 32 bytes long, got 3"):
        draw(KEY, b"abc")


def statement(**changes):
    fields = {
        "model": "kitchen", "version": Version(0, 5), "key": KEY.hex(), "share_ppm": 10_000,
        "number": 1, "expires_s": NOW + DAY, "reset_after_days": 60,
    }  # fmt: skip
    return StageStatement(**fields | changes)


def hear(heard, keys, found, signer=None, now_s=NOW):
    signed = found.signed(signer or keys.ours.signing)
    return heard.hear(signed, keys.ours.trust, "kitchen", now_s)


def test_a_phone_follows_stages_as_they_grow_and_takes_a_rollback(keys):
    heard = Heard()
    for number, share in enumerate((10_000, 10_000, 100_000, 0)):
        heard = hear(heard, keys, statement(number=number, share_ppm=share))
    assert heard.statement.share_ppm == 0
    heard = hear(heard, keys, statement(version=Version(0, 6), key=OTHER.hex(), number=0))
    assert heard.statement.key == OTHER.hex()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share_ppm": 5_000, "number": 3}, "must not fall from 100000 to 5000"),
        ({"key": OTHER.hex(), "number": 3}, "another key of its stages"),
        ({"share_ppm": 200_000, "number": 2}, "statement 2 of 0.5 is not after 2"),
        ({"version": Version(0, 4), "number": 9}, "heard of 0.5"),
        ({"model": "bath", "number": 9}, "of the model bath"),
        ({"expires_s": NOW - 1, "number": 9}, "expired"),
    ],
    ids=["shrunk", "key", "replayed", "older", "model", "late"],
)
def test_a_statement_that_does_not_go_on_from_the_last_is_refused(keys, changes, why):
    heard = hear(Heard(), keys, statement(share_ppm=100_000, number=2))
    with pytest.raises(UpdateRefused, match=why):
        hear(heard, keys, statement(**{"share_ppm": 100_000} | changes))


def test_a_rolled_back_version_does_not_come_again(keys):
    heard = hear(Heard(), keys, statement(share_ppm=0, number=5))
    with pytest.raises(UpdateRefused, match="must not fall from 0 to 10000"):
        hear(heard, keys, statement(number=6))


def test_only_the_publisher_states_a_stage_and_no_bit_of_it_changes(keys):
    signed = statement().signed(keys.ours.signing)
    assert StageStatement.read(signed, keys.ours.trust) == statement()
    with pytest.raises(UpdateRefused, match="signing key"):
        hear(Heard(), keys, statement(), keys.thief.signing)
    for place in range(len(signed)):
        changed = bytearray(signed)
        changed[place] ^= 1
        with pytest.raises(UpdateRefused):
            StageStatement.read(bytes(changed), keys.ours.trust)
    with pytest.raises(UpdateRefused):
        StageStatement.read(signed + b"x", keys.ours.trust)


@pytest.mark.parametrize(
    "changes",
    [{"key": "ab"}, {"share_ppm": 1_000_001}, {"number": -1}, {"reset_after_days": 0}],
    ids=str,
)
def test_a_statement_out_of_range_is_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(statement(), **changes)


def test_a_phone_is_told_to_take_to_wait_and_to_go_back(phone, keys, send):
    """Its secret is drawn once; what it heard outlives the process and a rotation of keys."""
    stage = PhoneStage(phone.folder)
    secret = stage.secret
    assert PhoneStage(phone.folder).secret == secret
    assert oct((phone.folder / "stage.secret").stat().st_mode)[-3:] == "600"

    def told(number, share_ppm):
        found = statement(version=Version(0, 1), number=number, share_ppm=share_ppm)
        return PhoneStage(phone.folder).hear(found.signed(keys.ours.signing), NOW)

    assert not stage.drops_own_adapter(0, 10**6)  # nobody said anything yet
    assert told(0, 1) == "wait"  # one phone in a million has a secret for which this fails
    assert told(1, 1_000_000) == "take"
    phone.apply(send(1), NOW)
    assert told(2, 1_000_000) == "wait"
    assert told(3, 0) == "go back"
    Phone.open(phone.folder).rollback()
    assert told(4, 0) == "wait"
    with pytest.raises(UpdateRefused, match="must not fall from 0 to 1000000"):
        told(5, 1_000_000)
    assert not stage.drops_own_adapter(100, 159)
    assert stage.drops_own_adapter(100, 160)
    phone.apply(make_new_keys(keys.next.trust, keys.ours.recovery), NOW)
    assert PhoneStage(phone.folder).heard.statement.number == 4
    (phone.folder / "stage.json").write_bytes(b"{}")
    with pytest.raises(UpdateRefused, match="without it older stages would pass"):
        told(6, 0)
