"""Placeholders are one for a person within a release, and nobody's once its key is gone."""

import re

import pytest

from fedspeech.errors import FedspeechError
from fedspeech.sharing.placeholders import LENGTH, ReleaseKey

PEOPLE = ("Zoë Marchetti", "spk-0042", "Ann", "Ann Lee")


@pytest.fixture
def key(tmp_path):
    return ReleaseKey.create(tmp_path / "release.key")


def test_the_same_person_has_one_placeholder_in_a_release_and_another_in_the_next(key, tmp_path):
    spellings = ("Zoë Marchetti", "ZOE MARCHETTI", "zoe_marchetti")
    assert len({key.placeholder(each) for each in spellings}) == 1
    assert key.placeholder("Ann") != key.placeholder("Ann Lee")
    assert ReleaseKey.load(key.path).placeholder("Ann") == key.placeholder("Ann")
    other = ReleaseKey.create(tmp_path / "next.key")
    assert other.placeholder("Ann") != key.placeholder("Ann")
    assert re.fullmatch(f"person-[a-z]{{{LENGTH}}}", key.placeholder("Ann"))


def test_a_text_has_nobody_left(key):
    text = key.replaced("ANN LEE and Ann heard Spk_0042; zoë  marchetti annoyed spk00423.", PEOPLE)
    lee, ann, spk, zoe = map(key.placeholder, ("Ann Lee", "Ann", "spk-0042", "Zoë Marchetti"))
    assert text == f"{lee} and {ann} heard {spk}; {zoe} annoyed spk00423."


def test_a_destroyed_key_is_gone_from_its_file_and_from_memory(key):
    before = key.placeholder("Ann")
    key.destroy()
    assert not key.path.exists()
    assert key.placeholder("Ann") != before
    with pytest.raises(FedspeechError, match="No such file"):
        ReleaseKey.load(key.path)


def test_a_key_is_its_owners_alone_and_never_replaced(key):
    assert key.path.stat().st_mode & 0o077 == 0
    with pytest.raises(FedspeechError, match="exists"):
        ReleaseKey.create(key.path)
    key.path.write_bytes(bytes(32))
    with pytest.raises(FedspeechError, match="no key of a release"):
        ReleaseKey.load(key.path)
