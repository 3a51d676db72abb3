"""The registry hands out what its publisher signed, and shows when somebody changed it."""

import pytest
from adapters_to_send import BASE, DAY, NOW, adapter_file
from killed import in_child

from fedspeech.errors import FedspeechError, RegistryDamaged, UpdateRefused
from fedspeech.rollout.bundle import make_new_keys
from fedspeech.rollout.phone import Phone
from fedspeech.rollout.registry import Registry
from fedspeech.rollout.version import Version

UNTIL = NOW + 90 * DAY


@pytest.fixture
def registry(tmp_path, keys):
    return Registry.create(tmp_path / "registry", keys.ours.trust)


def publish(registry, content, key, model="kitchen", expires_s=UNTIL):
    return registry.publish(content, key, model=model, expires_s=expires_s)


def ask(registry, phone):
    """What a phone asks for, as its app does."""
    state = phone.state
    return registry.latest(
        state.base_sha256, have=state.current.version, epoch=state.trust.epoch, model=state.model,
        now_s=NOW,
    )  # fmt: skip


def update(registry, phone):
    """Asks and applies until there is nothing more; returns how many bundles that took."""
    for count in range(10):
        bundle = ask(registry, phone)
        if bundle is None:
            return count
        phone.apply(bundle, NOW)
    raise AssertionError("there was always something more")


def test_a_phone_gets_the_difference_to_what_it_has_or_the_whole(
    tmp_path, registry, keys, versions
):
    for content in versions:
        publish(registry, content, keys.ours.signing)
    for number, _ in enumerate(versions, start=1):
        have = Version(0, number)
        phone = Phone.enroll(
            tmp_path / str(number), versions[number - 1], keys.ours.trust, model="kitchen",
            version=have,
        )  # fmt: skip
        bundle = ask(registry, phone)
        if number == len(versions):
            assert bundle is None
            continue
        known = registry.releases[-1].bundles
        assert len(bundle) == (known.get(str(have)) or known["whole"]).size_bytes
        phone.apply(bundle, NOW)
        assert phone.adapter_file.read_bytes() == versions[-1]
        assert ask(registry, phone) is None
    assert set(registry.releases[-1].bundles) == {"whole", "0.4", "0.3", "0.2"}
    assert known["0.4"].size_bytes < known["whole"].size_bytes


def test_a_registry_reads_back_and_counts_on(registry, keys, versions):
    publish(registry, versions[0], keys.ours.signing)
    again = Registry.open(registry.folder)
    assert again.releases == registry.releases
    assert publish(again, versions[1], keys.ours.signing).version == Version(0, 2)
    assert publish(again, versions[1], keys.ours.signing, model="bath").version == Version(0, 1)
    with pytest.raises(FedspeechError, match="has bath, kitchen for this base: name one"):
        again.latest(BASE, have=None, now_s=NOW)


def test_only_the_publisher_publishes_and_nothing_personal(registry, keys, versions):
    with pytest.raises(FedspeechError, match=r"is signed by .* since epoch 0, got the key"):
        publish(registry, versions[0], keys.thief.signing)
    own = adapter_file(stage="personal", phone="phone-7")
    with pytest.raises(UpdateRefused, match="own one of the phone phone-7"):
        publish(registry, own, keys.ours.signing)
    assert Registry.open(registry.folder).releases == []


def test_another_base_and_an_expired_release_are_refused_in_words(registry, keys, versions):
    publish(registry, versions[0], keys.ours.signing, expires_s=NOW - 1)
    with pytest.raises(FedspeechError, match="published nothing for any model of the base cdcd"):
        registry.latest("cd" * 32, have=None, now_s=NOW)
    with pytest.raises(FedspeechError, match=r"0\.1 of kitchen has expired: publish it again"):
        registry.latest(BASE, have=None, now_s=NOW)


def test_new_keys_come_first_and_then_the_adapter_under_them(tmp_path, registry, keys, versions):
    publish(registry, versions[0], keys.ours.signing)
    phone = Phone.enroll(
        tmp_path / "phone", versions[0], keys.ours.trust, model="kitchen", version=Version(0, 1)
    )
    for thief in (keys.thief.recovery, keys.ours.signing):
        with pytest.raises(UpdateRefused, match="recovery key"):
            registry.replace_keys(make_new_keys(keys.next.trust, thief))
    registry.replace_keys(make_new_keys(keys.next.trust, keys.ours.recovery))
    assert ask(registry, phone).startswith(b"FSKEY001")
    with pytest.raises(FedspeechError, match="since epoch 1, got the key"):
        publish(registry, versions[1], keys.ours.signing)
    phone.apply(ask(registry, phone), NOW)
    with pytest.raises(FedspeechError, match="not published under the keys of epoch 1 yet"):
        ask(registry, phone)
    release = publish(registry, versions[1], keys.next.signing)
    # A difference to a version of the epoch before is a difference all the same.
    assert set(release.bundles) == {"whole", "0.1"}
    assert update(registry, phone) == 1
    assert phone.adapter_file.read_bytes() == versions[1]


def test_a_phone_that_is_ahead_shows_that_rows_are_missing(registry, keys, versions):
    publish(registry, versions[0], keys.ours.signing)
    with pytest.raises(FedspeechError, match="rows of this registry are missing"):
        registry.latest(BASE, have=Version(0, 2), now_s=NOW)


def test_a_changed_row_a_cut_and_a_changed_bundle_are_damage(registry, keys, versions):
    for content in versions[:2]:
        publish(registry, content, keys.ours.signing)
    chain = registry.folder / "registry.jsonl"
    whole = chain.read_bytes()
    chain.write_bytes(whole.replace(b'"version": "0.1"', b'"version": "0.7"'))
    with pytest.raises(RegistryDamaged, match="edited, inserted or removed; nothing is handed"):
        Registry.open(registry.folder)
    chain.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(RegistryDamaged, match="cut off its end"):
        Registry.open(registry.folder)
    chain.write_bytes(whole)
    found = Registry.open(registry.folder)
    stored = found.folder / "bundles" / found.releases[-1].bundles["whole"].file
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(RegistryDamaged, match="is not the bundle that was published"):
        found.latest(BASE, have=None, now_s=NOW)


def test_a_bundle_of_another_release_under_the_right_name_is_damage(registry, keys, versions):
    first = publish(registry, versions[0], keys.ours.signing)
    second = publish(registry, versions[1], keys.ours.signing)
    folder = registry.folder / "bundles"
    stolen = (folder / first.bundles["whole"].file).read_bytes()
    (folder / second.bundles["whole"].file).write_bytes(stolen)
    with pytest.raises(RegistryDamaged):
        registry.latest(BASE, have=None, now_s=NOW)


def test_a_registry_is_created_once_and_one_without_a_chain_is_none(tmp_path, registry, keys):
    with pytest.raises(FedspeechError, match="is a registry already"):
        Registry.create(registry.folder, keys.ours.trust)
    with pytest.raises(FedspeechError, match="is no registry"):
        Registry.open(tmp_path / "nothing")


@pytest.mark.slow
def test_a_kill_at_any_step_of_publishing_leaves_it_out_or_in(registry, keys, versions):
    """Half a release is never handed out, and the next one takes the number that is free."""
    publish(registry, versions[0], keys.ours.signing)
    work = lambda: publish(Registry.open(registry.folder), versions[1], keys.ours.signing)  # noqa: E731
    numbers = []
    for step in range(40):
        status = in_child(work, kill_at=step)
        found = Registry.open(registry.folder)
        numbers.append(found.releases[-1].version.number)
        assert found.latest(BASE, have=None, now_s=NOW)
        if status == 0:
            break
    steps = [after - before for before, after in zip([1, *numbers], numbers, strict=False)]
    assert set(steps) <= {0, 1}
    assert steps[0] == 0
    assert steps[-1] == 1
    assert len(numbers) >= 8
