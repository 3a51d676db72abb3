"""A publisher with keys, and a phone that trusts it."""

from types import SimpleNamespace

import pytest
from adapters_to_send import DAY, NOW, adapter_file, stepped

from fedspeech.rollout.bundle import make_update
from fedspeech.rollout.phone import Phone
from fedspeech.rollout.signing import PrivateKey, make_keys
from fedspeech.rollout.version import Version


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    """Signing and recovery key of epoch 0, of a thief, and of epoch 1."""
    folder = tmp_path_factory.mktemp("keys")
    found = SimpleNamespace(folder=folder)
    for name, epoch in (("ours", 0), ("thief", 0), ("next", 1)):
        trust = make_keys(folder / name, epoch)
        pair = {
            office: PrivateKey.load(folder / name / f"{office}.pem")
            for office in ("signing", "recovery")
        }
        setattr(found, name, SimpleNamespace(trust=trust, **pair))
    return found


@pytest.fixture(scope="session")
def versions():
    """Adapter files of successive versions, each a small step from the one before."""
    found = [adapter_file()]
    for seed in range(4):
        found.append(stepped(found[-1], seed=seed))
    return found


@pytest.fixture
def send(keys, versions):
    """Makes the bundle of one version: the whole, or the difference to another."""

    def made(number, parent=None, *, key=None, content=None, **changes):
        settings = {"model": "kitchen", "version": Version(0, number), "expires_s": NOW + 90 * DAY}
        return make_update(
            versions[number] if content is None else content,
            key or keys.ours.signing,
            parent=None if parent is None else versions[parent],
            **settings | changes,
        )

    return made


@pytest.fixture
def phone(tmp_path, keys, versions):
    return Phone.enroll(tmp_path / "phone", versions[0], keys.ours.trust, model="kitchen")
