"""What is signed, what is refused before it is read, and what never travels."""

import hashlib
import json

import numpy as np
import pytest
from adapters_to_send import BASE, LABELS, adapter_file
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.errors import FedspeechError, UpdateRefused
from fedspeech.rollout import bundle
from fedspeech.rollout.adapter_file import AdapterFile
from fedspeech.rollout.bundle import make_new_keys, make_update, read_new_keys, read_update
from fedspeech.rollout.checked_json import canonical_json
from fedspeech.rollout.signing import PrivateKey, Trust, make_keys
from fedspeech.rollout.version import Version

OF_KITCHEN = {"model": "kitchen", "version": Version(0, 1), "expires_s": 2**40}


def test_an_update_says_what_is_in_it(keys, versions, send):
    update, payload = read_update(send(1, parent=0), keys.ours.trust)
    old, new = versions[0], versions[1]
    assert (update.model, str(update.version), update.base_sha256) == ("kitchen", "0.1", BASE)
    assert update.parent_sha256 == hashlib.sha256(old).hexdigest()
    assert update.unpack(payload, {update.parent_sha256: old}) == new
    card = AdapterFile.from_bytes(new).card_text
    assert update.card_sha256 == hashlib.sha256(card.encode()).hexdigest()
    assert len(send(1, parent=0)) < len(send(1))


def test_a_flipped_bit_is_refused_wherever_it_is(keys, send):
    """Of magic, length, header, signature and payload; the phone then reads nothing further."""
    content = send(1, parent=0)
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        with pytest.raises(UpdateRefused):
            read_update(bytes(changed), keys.ours.trust)


def test_a_cut_anywhere_and_bytes_behind_the_end_are_refused(keys, send):
    content = send(1, parent=0)
    for end in range(len(content)):
        with pytest.raises(UpdateRefused):
            read_update(content[:end], keys.ours.trust)
    with pytest.raises(UpdateRefused, match="bytes of payload, of the"):
        read_update(content + b"\0", keys.ours.trust)


@settings(max_examples=50)
@given(content=st.binary(max_size=200), magic=st.sampled_from([b"", b"FSUPD001", b"FSKEY001"]))
def test_anything_else_is_refused_in_words(content, magic):
    trust = Trust(0, "00" * 32, "01" * 32)
    for read in (read_update, read_new_keys):
        with pytest.raises(UpdateRefused):
            read(magic + content, trust)


def test_a_header_of_a_million_bytes_is_refused_before_it_is_read(keys, send):
    content = send(1)
    for length in (4097, 2**20, 2**32 - 1):
        changed = content[:8] + length.to_bytes(4, "little") + content[12:] + bytes(2**20)
        with pytest.raises(UpdateRefused, match=f"at most 4096 bytes long, got {length}"):
            read_update(changed, keys.ours.trust)
    with pytest.raises(UpdateRefused, match="a bundle is at most"):
        read_update(content + bytes(bundle.MAX_BUNDLE_BYTES), keys.ours.trust)


@pytest.mark.parametrize("office", ["signing", "recovery"])
def test_keys_of_others_and_keys_of_another_office_sign_no_update(keys, send, office):
    strangers = [keys.thief.signing, keys.next.signing, keys.thief.recovery]
    if office == "recovery":
        strangers = [keys.ours.recovery]
    for key in strangers:
        with pytest.raises(UpdateRefused, match="not signed by the publisher's signing key"):
            read_update(send(1, key=key), keys.ours.trust)


def signed(header, key, payload=b""):
    """A bundle of any header, as a careless or malicious publisher's program may sign it."""
    return (
        bundle.UPDATE + len(header).to_bytes(4, "little") + header
        + key.sign(bundle.UPDATE + header) + payload
    )  # fmt: skip


def header_of(content):
    return json.loads(content[12 : 12 + int.from_bytes(content[8:12], "little")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": 1}, "expected the fields"),
        ({"version": "0.01"}, "EPOCH.NUMBER"),
        ({"version": "0.0"}, "count from 1"),
        ({"version": "0.99999999999"}, "EPOCH.NUMBER"),
        ({"version": 7}, "version must be str"),
        ({"expires_s": True}, "expires_s must be int"),
        ({"expires_s": 1.5}, "expires_s must be int"),
        ({"content_bytes": 2**40}, "content_bytes must be 1 to"),
        ({"content_bytes": 0}, "content_bytes must be 1 to"),
        ({"base_sha256": "AB" * 32}, "base_sha256 must be 64 hex digits"),
        ({"parent_sha256": "../../etc"}, "parent_sha256 must be 64 hex digits"),
        ({"model": "../kitchen"}, "small letters, digits and hyphens"),
    ],
)
def test_a_signed_header_out_of_its_form_is_refused(keys, send, change, words):
    """A signature says who speaks, and not that it makes sense."""
    content = send(1)
    header = canonical_json(header_of(content) | change)
    with pytest.raises(UpdateRefused, match=words):
        read_update(signed(header, keys.ours.signing), keys.ours.trust)


def test_a_header_has_one_form(keys, send):
    """Two readers of one signed text must not see two headers: no doubled name, no spaces."""
    text = canonical_json(header_of(send(1)))
    doubled = b'{"model":"other",' + text[1:]
    spaced = text.replace(b":", b": ", 1)
    for header in (doubled, spaced):
        with pytest.raises(UpdateRefused, match="canonical form"):
            read_update(signed(header, keys.ours.signing), keys.ours.trust)


def test_a_personal_adapter_does_not_travel_unless_it_is_marked(keys):
    own = adapter_file(stage="personal", phone="phone-7")
    for given_name in (None, "phone-8"):
        with pytest.raises(UpdateRefused, match="own one of the phone phone-7, trained on one"):
            make_update(own, keys.ours.signing, phone=given_name, **OF_KITCHEN)
    marked = make_update(own, keys.ours.signing, phone="phone-7", **OF_KITCHEN)
    assert read_update(marked, keys.ours.trust)[0].phone == "phone-7"
    with pytest.raises(UpdateRefused, match="is of all phones, and not of the phone phone-7"):
        make_update(adapter_file(), keys.ours.signing, phone="phone-7", **OF_KITCHEN)


@pytest.mark.parametrize("card", [{"stage": "personal"}, {"phone": "phone-7"}])
def test_a_card_that_hides_whose_adapter_it_is_is_refused(keys, card):
    with pytest.raises(ValueError, match="names the phone"):
        make_update(adapter_file(**card), keys.ours.signing, **OF_KITCHEN)


def test_noise_that_can_be_computed_is_not_released_unless_it_is_marked(keys):
    notice = "seeded noise: reproducible from the seed, so not for release"
    seeded = adapter_file(noise_notice=notice)
    with pytest.raises(UpdateRefused, match=f"must not be released: {notice}"):
        make_update(seeded, keys.ours.signing, **OF_KITCHEN)
    marked = make_update(seeded, keys.ours.signing, seeded_noise=True, **OF_KITCHEN)
    assert read_update(marked, keys.ours.trust)[0].seeded_noise
    # Nothing that phones trained is in the base's own adapter.
    make_update(adapter_file(noise_notice=notice, stage="base"), keys.ours.signing, **OF_KITCHEN)


def test_accuracies_that_only_a_simulation_knows_stay_at_home(keys):
    metrics = [{"segment": "all", "value": "all", "phones": 2, "accuracy": {"base": 0.123456}}]
    adapter = adapter_file(metrics=metrics, metrics_visibility="simulation_only")
    update, payload = read_update(
        make_update(adapter, keys.ours.signing, **OF_KITCHEN), keys.ours.trust
    )
    content = update.unpack(payload, {})
    assert b"0.123456" in adapter
    assert b"0.123456" not in content
    assert AdapterFile.from_bytes(content).card["labels"] == LABELS
    public = adapter_file(metrics=metrics, metrics_visibility="public")
    update, payload = read_update(
        make_update(public, keys.ours.signing, **OF_KITCHEN), keys.ours.trust
    )
    assert update.unpack(payload, {}) == public


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 10_001.0, -10_001.0])
def test_values_that_a_phone_would_not_restore_are_not_signed(keys, bad):
    with pytest.raises(ValueError, match="finite and at most 10000"):
        make_update(adapter_file([0.1, bad]), keys.ours.signing, **OF_KITCHEN)
    make_update(adapter_file([0.1, -10_000.0]), keys.ours.signing, **OF_KITCHEN)


def test_a_card_of_another_base_or_size_is_not_signed(keys):
    for card in ({"base_sha256": "cd" * 32}, {"adapter": {"parameters": 61}}):
        with pytest.raises(ValueError, match="the card is of base"):
            make_update(adapter_file(**card), keys.ours.signing, **OF_KITCHEN)


def test_new_keys_are_signed_by_the_recovery_key_alone(keys):
    statement = make_new_keys(keys.next.trust, keys.ours.recovery)
    assert read_new_keys(statement, keys.ours.trust) == keys.next.trust
    for thief in (keys.ours.signing, keys.thief.recovery, keys.next.recovery):
        with pytest.raises(UpdateRefused, match="not signed by the publisher's recovery key"):
            read_new_keys(make_new_keys(keys.next.trust, thief), keys.ours.trust)


def test_a_statement_of_keys_is_no_update_and_an_update_none_of_keys(keys, send):
    """The signature covers the kind: renaming it gives a bundle that nobody signed."""
    statement = make_new_keys(keys.next.trust, keys.ours.recovery)
    both = Trust(0, keys.ours.trust.recovery, keys.ours.trust.signing)
    with pytest.raises(UpdateRefused, match="not signed"):
        read_update(bundle.UPDATE + statement[8:], both)
    with pytest.raises(UpdateRefused, match="not signed"):
        read_new_keys(bundle.NEW_KEYS + send(1)[8:], both)


def test_one_key_for_both_offices_is_refused(keys):
    with pytest.raises(ValueError, match="must not both sign bundles and replace keys"):
        Trust(0, keys.ours.trust.signing, keys.ours.trust.signing)


def test_private_keys_are_for_their_user_alone(tmp_path, keys):
    make_keys(tmp_path / "keys", 0)
    file = tmp_path / "keys" / "signing.pem"
    assert file.stat().st_mode & 0o077 == 0
    assert "PRIVATE" not in repr(PrivateKey.load(file))
    file.chmod(0o640)
    with pytest.raises(FedspeechError, match="other users of this machine may read"):
        PrivateKey.load(file)
    with pytest.raises(FileExistsError):
        make_keys(tmp_path / "keys", 0)
    with pytest.raises(FedspeechError, match="holds no private key"):
        PrivateKey.load(tmp_path / "keys" / "trust.json")


def test_versions_are_ordered_by_epoch_and_have_one_spelling():
    assert Version(0, 2**31 - 1) < Version(1, 1) < Version(1, 2) == Version.parse("1.2")
    for text in ("1", "1.", "01.2", "1.02", "-1.2", "1.2 ", "1.٢", "1.2.3"):
        with pytest.raises(ValueError, match=r"EPOCH\.NUMBER"):
            Version.parse(text)
