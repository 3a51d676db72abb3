"""`fedspeech ota` and `fedspeech registry`: from an adapter file to a phone, and back."""

import json

import pytest
from adapters_to_send import BASE, adapter_file, stepped

import fedspeech as fs
from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.hash_chain import forget_head
from simulations.commands import ota, registry


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a publisher's keys, three adapter files, a registry and a phone."""
    monkeypatch.chdir(tmp_path)
    ota.keys(tmp_path / "keys")
    content = adapter_file()
    for number in (1, 2, 3):
        (tmp_path / f"a{number}.safetensors").write_bytes(content)
        content = stepped(content, seed=number)
    registry.begin(tmp_path / "registry", trust=tmp_path / "keys" / "trust.json")
    ota.enroll(
        tmp_path / "phone", adapter=tmp_path / "a1.safetensors", model="kitchen",
        trust=tmp_path / "keys" / "trust.json", version="0.1",
    )  # fmt: skip
    yield tmp_path
    forget_head(tmp_path / "registry" / "registry.jsonl")


def publish(place, number, keys="keys"):
    registry.publish(
        place / "registry", place / f"a{number}.safetensors", model="kitchen",
        key=place / keys / "signing.pem",
    )  # fmt: skip


def printed(capsys, command, *arguments, **options):
    capsys.readouterr()
    command(*arguments, as_json=True, **options)
    return json.loads(capsys.readouterr().out)


def next_bundle(place, capsys, have, **options):
    return printed(
        capsys, registry.latest, place / "registry", out=place / "next.bundle", base=BASE,
        have=have, **options,
    )  # fmt: skip


def test_from_release_to_phone_and_back(place, capsys):
    publish(place, 1)
    publish(place, 2)
    assert next_bundle(place, capsys, "0.1")["version"] == "0.2"
    shown = printed(
        capsys, ota.verify, place / "next.bundle", trust=place / "keys" / "trust.json",
        delta_from=place / "a1.safetensors",
    )  # fmt: skip
    assert shown["privacy"]["epsilon_server"] == 4.0
    state = printed(capsys, ota.apply, place / "next.bundle", place / "phone")
    assert (state["current"]["version"], state["confirmed"]) == ("0.2", False)
    assert (place / state["adapter_file"]).read_bytes() == (place / "a2.safetensors").read_bytes()
    assert next_bundle(place, capsys, "0.2") == {"kind": "none"}
    state = printed(capsys, ota.rollback, place / "phone")
    assert (state["current"]["version"], state["newest"]) == ("0.1", "0.2")
    with pytest.raises(fs.UpdateRefused, match=r"0\.2 is not above 0\.2"):
        ota.apply(place / "next.bundle", place / "phone")


def test_keys_are_replaced_by_the_way_of_the_registry(place, capsys):
    publish(place, 1)
    ota.rotate(
        place / "new-keys", out=place / "r.bundle", recovery=place / "keys" / "recovery.pem",
        trust=place / "keys" / "trust.json",
    )  # fmt: skip
    registry.rotate(place / "registry", place / "r.bundle")
    publish(place, 2, keys="new-keys")
    assert next_bundle(place, capsys, "0.1")["kind"] == "keys"
    assert printed(capsys, ota.apply, place / "next.bundle", place / "phone")["trust"]["epoch"] == 1
    assert next_bundle(place, capsys, "0.1", epoch=1)["version"] == "1.1"
    ota.apply(place / "next.bundle", place / "phone")
    ota.confirm(place / "phone")
    releases = printed(capsys, registry.list_releases, place / "registry")["releases"]
    assert [row["version"] for row in releases] == ["0.1", "1.1"]
    with pytest.raises(ScenarioError, match="is not the key that --trust names"):
        ota.rotate(
            place / "newer", out=place / "r.bundle", recovery=place / "keys" / "recovery.pem",
            trust=place / "new-keys" / "trust.json",
        )  # fmt: skip


def test_what_is_printed_names_version_and_phones(place, capsys):
    publish(place, 1)
    text = capsys.readouterr().out
    assert "kitchen  " in text
    assert "0.1" in text
    ota.make(
        place / "a3.safetensors", out=place / "m.bundle", key=place / "keys" / "signing.pem",
        model="kitchen", version="0.9", delta_from=place / "a2.safetensors",
    )  # fmt: skip
    assert "all phones" in capsys.readouterr().out
    with pytest.raises(fs.UpdateRefused, match="ask for the whole"):
        ota.apply(place / "m.bundle", place / "phone")


def test_wrong_arguments_are_said_with_their_options(place):
    make = {"out": place / "m.bundle", "key": place / "keys" / "signing.pem"}
    file = place / "a1.safetensors"
    with pytest.raises(ScenarioError, match=r"EPOCH\.NUMBER"):
        ota.make(file, model="kitchen", version="7", **make)
    with pytest.raises(ScenarioError, match="--valid-days must be above 0"):
        ota.make(file, model="kitchen", version="0.7", valid_days=0.0, **make)
    with pytest.raises(ScenarioError, match="not an exported adapter"):
        ota.make(place / "keys" / "trust.json", model="kitchen", version="0.7", **make)
    with pytest.raises(ScenarioError, match="is no base, and no SHA-256"):
        registry.latest(place / "registry", out=place / "x", base="nothing")
    with pytest.raises(ScenarioError, match="keys go into a new folder"):
        ota.keys(place / "keys")
    assert not (place / "m.bundle").exists()


def test_a_file_that_is_too_long_is_not_read_into_memory(place):
    with (place / "long.bundle").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(FedspeechError, match="must be at most"):
        ota.apply(place / "long.bundle", place / "phone")
