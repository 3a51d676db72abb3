"""A phone takes what its publisher signed for it, in order, and no more; a kill never harms."""

import json

import numpy as np
import pytest
from adapters_to_send import DAY, LABELS, NOW, adapter_file, stepped
from killed import in_child

from fedspeech.errors import UpdateRefused
from fedspeech.rollout import bundle as bundles
from fedspeech.rollout import phone as phones
from fedspeech.rollout.bundle import make_new_keys, make_update
from fedspeech.rollout.phone import Phone
from fedspeech.rollout.version import Version


def files(phone):
    return sorted(path.name for path in phone.folder.glob("adapter-*"))


def in_use(phone):
    """What an app reads that starts now."""
    return Phone.open(phone.folder).adapter_file.read_bytes()


def refused(phone, bundle, words, now_s=NOW):
    """Nothing changes where a bundle is refused."""
    before = {path.name: path.read_bytes() for path in phone.folder.iterdir()}
    with pytest.raises(UpdateRefused, match=words):
        phone.apply(bundle, now_s)
    assert {path.name: path.read_bytes() for path in phone.folder.iterdir()} == before | {
        "phone.lock": b""
    }


def test_whole_and_difference_give_the_same_bits(tmp_path, phone, keys, versions, send):
    other = Phone.enroll(tmp_path / "other", versions[0], keys.ours.trust, model="kitchen")
    phone.apply(send(1), NOW)
    other.apply(send(1, parent=0), NOW)
    assert in_use(phone) == in_use(other) == versions[1]
    assert phone.state.newest == other.state.current.version == Version(0, 1)


def test_versions_may_be_left_out_but_never_come_again(phone, versions, send):
    phone.apply(send(3), NOW)
    for number in (1, 2, 3):
        refused(phone, send(number), f"0.{number} is not above 0.3, which this phone has taken")
    phone.apply(send(4, parent=3), NOW)
    assert in_use(phone) == versions[4]


def test_another_key_base_model_or_time_is_refused(phone, keys, send):
    refused(phone, send(1, key=keys.thief.signing), "not signed by the publisher's signing key")
    elsewhere = adapter_file(base="cd" * 32)
    refused(phone, send(1, content=elsewhere), "for the base cdcd.*, the phone has abab")
    refused(phone, send(1, model="bath"), "for the model bath, the phone has kitchen")
    refused(phone, send(1, expires_s=NOW - 2 * DAY), "expired 2.0 days ago")
    refused(phone, send(1, version=Version(1, 1)), "for the epoch 1, the phone has 0")


def test_a_difference_to_another_adapter_is_refused_with_the_way_out(phone, send):
    refused(phone, send(3, parent=2), "difference to the adapter file .*: ask for the whole")


def test_an_adapter_of_another_size_or_other_labels_is_refused(phone, send):
    refused(phone, send(1, content=adapter_file(size=61)), "61 parameters, .* restores 60")
    swapped = adapter_file(labels=[LABELS[1], LABELS[0], LABELS[2]])
    refused(phone, send(1, content=swapped), "the app counts on")


def test_another_users_own_adapter_is_refused_and_ones_own_comes_back(tmp_path, keys, send):
    shipped = adapter_file()
    mine = Phone.enroll(
        tmp_path / "mine", shipped, keys.ours.trust, model="kitchen", phone="phone-7"
    )
    nobodys = Phone.enroll(tmp_path / "nobodys", shipped, keys.ours.trust, model="kitchen")
    own = adapter_file(seed=9, stage="personal", phone="phone-7")
    bundle = send(1, content=own, phone="phone-7")
    refused(nobodys, bundle, "the own adapter of the phone phone-7")
    mine.apply(bundle, NOW)
    assert in_use(mine) == own
    with pytest.raises(UpdateRefused, match="own one of the phone phone-7"):
        Phone.enroll(tmp_path / "third", own, keys.ours.trust, model="kitchen")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 10_001.0])
def test_a_publisher_whose_check_failed_does_not_reach_a_phone(monkeypatch, phone, send, bad):
    """The phone has the rule itself: here a publisher's program signs what it should not."""
    broken = adapter_file([bad] * 60)
    with monkeypatch.context() as careless:
        careless.setattr(bundles, "ADAPTER_LIMIT", np.inf)
        careless.setattr(bundles.np, "abs", lambda x: np.zeros_like(x))
        sent = send(1, content=broken)
    refused(phone, sent, "finite and at most 10000")


def test_rollback_goes_to_the_last_that_worked_and_what_it_left_never_comes_again(
    phone, versions, send
):
    phone.apply(send(1), NOW)
    phone.confirm()
    phone.apply(send(2), NOW)  # does not work, and nobody notices yet
    phone.apply(send(3), NOW)
    phone.rollback()
    assert in_use(phone) == versions[1]
    refused(phone, send(3), "0.3 is not above 0.3")
    with pytest.raises(UpdateRefused, match=r"no adapter before 0\.1"):
        phone.rollback()
    phone.apply(send(4, parent=1), NOW)
    assert in_use(phone) == versions[4]


def test_only_what_is_named_is_kept(phone, versions, send):
    foreign = phone.folder / "adapter-notes.txt"
    foreign.write_text("of the app")
    for number in (1, 2, 3):
        phone.apply(send(number), NOW)
        phone.confirm()
    assert files(phone) == sorted(
        ["adapter-notes.txt", phone.state.current.file, phone.state.previous.file]
    )


@pytest.mark.parametrize("damage", ["flip", "exchange"])
def test_a_damaged_adapter_is_noticed_and_is_no_parent_and_nothing_to_go_back_to(
    phone, versions, send, damage
):
    phone.apply(send(1), NOW)
    phone.confirm()
    content = bytearray(phone.adapter_file.read_bytes())
    content[-3] ^= 1
    phone.adapter_file.write_bytes(content if damage == "flip" else versions[3])
    with pytest.raises(UpdateRefused, match=r"0\.1 in .* is damaged"):
        phone.adapter()
    refused(phone, send(2, parent=1), "ask for the whole")
    phone.apply(send(2), NOW)
    assert phone.state.previous.version == Version(0, 0)
    assert len(phone.adapter().adapter) == 60


def test_new_keys_shut_out_the_old_and_stolen_numbers_are_worth_nothing(
    phone, keys, versions, send
):
    """A thief of the signing key takes the highest number; the recovery key ends it."""
    highest = Version(0, 2**31 - 1)
    phone.apply(send(1, key=keys.ours.signing, version=highest), NOW)
    refused(phone, send(2), "is not above")
    stolen = make_new_keys(keys.thief.trust, keys.ours.signing)
    refused(phone, stolen, "not signed by the publisher's recovery key")
    phone.apply(make_new_keys(keys.next.trust, keys.ours.recovery), NOW)
    assert in_use(phone) == versions[1]  # keys change no adapter
    refused(phone, send(2, version=Version(1, 1)), "not signed by the publisher's signing key")
    refused(phone, make_new_keys(keys.next.trust, keys.ours.recovery), "not signed|of epoch 1")
    phone.apply(send(2, key=keys.next.signing, version=Version(1, 1)), NOW)
    assert in_use(phone) == versions[2]
    assert phone.state.newest == Version(1, 1)


def test_keys_of_an_epoch_that_is_over_are_refused(phone, keys):
    back = make_new_keys(keys.thief.trust, keys.ours.recovery)
    refused(phone, back, "these keys are of epoch 0, and the phone trusts those of 0")


def test_a_phone_is_enrolled_once(phone, keys, versions):
    with pytest.raises(UpdateRefused, match="is a phone already; its state is what refuses"):
        Phone.enroll(phone.folder, versions[0], keys.ours.trust, model="kitchen")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state | {"newest": "0.-1"},
        lambda state: {name: value for name, value in state.items() if name != "newest"},
        lambda state: state | {"trust": {"epoch": 0}},
        lambda state: state | {"current": {"version": "0.1", "sha256": 5}},
        lambda state: state | {"format": 2},
        lambda state: [state],
    ],
)
def test_a_state_that_cannot_be_read_refuses_everything(phone, send, spoil):
    file = phone.folder / "phone.json"
    file.write_text(json.dumps(spoil(json.loads(file.read_text()))))
    with pytest.raises(UpdateRefused, match="without it replays would pass"):
        Phone.open(phone.folder)
    with pytest.raises(UpdateRefused, match="without it replays would pass"):
        phone.apply(send(1), NOW)


def steps_on_disk(phone, work):
    """Kills a phone before each of its steps on disk, in turn; yields what stands there then."""
    saved = {path.name: path.read_bytes() for path in phone.folder.iterdir()}
    for step in range(40):
        for path in phone.folder.iterdir():
            path.unlink()
        for name, content in saved.items():
            (phone.folder / name).write_bytes(content)
        status = in_child(work, kill_at=step)
        yield Phone.open(phone.folder)
        if status == 0:
            return
        assert status == -9
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("parent", [None, 0])
def test_a_kill_at_any_step_leaves_the_old_adapter_or_the_new_one(phone, versions, send, parent):
    seen = []
    for found in steps_on_disk(phone, lambda: phone.apply(send(1, parent=parent), NOW)):
        content, state = in_use(found), found.state
        assert content in (versions[0], versions[1])
        found.adapter()
        # Adapter and version change together: a replay is refused from the same moment on.
        assert (content == versions[1]) == (state.newest == state.current.version == Version(0, 1))
        seen.append(content == versions[1])
        if not seen[-1]:
            found.apply(send(1, parent=parent), NOW)
            assert in_use(found) == versions[1]
    assert seen == sorted(seen)
    assert len(seen) >= 6
    assert seen[-1]
    assert not seen[0]


def test_a_kill_at_any_step_of_a_rollback_leaves_one_of_both(phone, versions, send):
    phone.apply(send(1), NOW)
    contents = [in_use(found) for found in steps_on_disk(phone, phone.rollback)]
    assert set(contents) == {versions[0], versions[1]}


def test_what_a_kill_left_behind_is_removed_by_the_next_change(phone, versions, send):
    stale = phone.folder / f"adapter-{'0' * 64}.safetensors"
    stale.write_bytes(b"torn")
    phone.apply(send(1), NOW)
    assert stale.name not in files(phone)


def test_enrolling_that_was_killed_can_be_done_again(tmp_path, keys, versions):
    folder = tmp_path / "new"
    enroll = lambda: Phone.enroll(folder, versions[0], keys.ours.trust, model="kitchen")  # noqa: E731
    for step in range(40):
        status = in_child(enroll, kill_at=step)
        if status == 0:
            break
        if (folder / "phone.json").exists():
            assert in_use(Phone.open(folder)) == versions[0]
            return
    assert in_use(Phone.open(folder)) == versions[0]


def test_a_full_disk_leaves_the_old_adapter(monkeypatch, phone, versions, send):
    bundle = send(1)
    for name in ("write_whole", "write_text"):
        with monkeypatch.context() as full:

            def fails(*_):
                raise OSError(28, "No space left on device")

            full.setattr(phones, name, fails)
            with pytest.raises(OSError, match="No space"):
                phone.apply(bundle, NOW)
        assert in_use(phone) == versions[0]
    phone.apply(bundle, NOW)
    assert in_use(phone) == versions[1]


def test_small_steps_over_many_versions_never_drift(phone, keys, send):
    """Differences are exact: after many the phone has the publisher's bits."""
    content = adapter_file()
    for number in range(1, 9):
        parent, content = content, stepped(content, seed=number)
        phone.apply(
            make_update(
                content, keys.ours.signing, model="kitchen", version=Version(0, number),
                expires_s=NOW, parent=parent,
            ),
            NOW,
        )  # fmt: skip
    assert in_use(phone) == content
