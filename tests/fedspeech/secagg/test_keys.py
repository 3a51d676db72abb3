"""Keys, seals and signatures are those of the standards; identities are one secret in one file."""

import multiprocessing
import os
import stat
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedspeech.errors import ScenarioError
from fedspeech.secagg import keys
from fedspeech.secagg.keys import (
    Identity,
    IdentityDirectory,
    Secret,
    exchange,
    hkdf,
    public_key,
    seal,
    unseal,
    verify,
)
from fedspeech.secagg.refusals import UnknownPhone, WeakKey
from fedspeech.seeds import Keystream

hexed = bytes.fromhex
BASE = (9).to_bytes(32, "little")


def private(secret):
    return X25519PrivateKey.from_private_bytes(secret)


@pytest.mark.parametrize(
    ("scalar", "point", "secret"),
    [  # RFC 7748, 5.2
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_the_exchange_is_x25519(scalar, point, secret):
    assert exchange(private(hexed(scalar)), hexed(point)) == hexed(secret)


def test_the_exchange_is_x25519_a_thousand_times_over():
    # RFC 7748, 5.2: scalar and point begin as 9; the result becomes the scalar, that the point
    results = []
    scalar = point = BASE
    for _ in range(1000):
        scalar, point = exchange(private(scalar), point), scalar
        results.append(scalar.hex())
    assert results[0] == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert results[-1] == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_two_phones_exchange_one_secret():
    # RFC 7748, 6.1
    alice = hexed("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = hexed("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    publics = [
        hexed("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"),
        hexed("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"),
    ]
    secret = hexed("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert [public_key(private(alice)), public_key(private(bob))] == publics
    assert exchange(private(alice), publics[1]) == secret
    assert exchange(private(bob), publics[0]) == secret


P = 2**255 - 19
# Points whose order divides 8 on the curve or its twist, in all encodings that are read as them
# (RFC 7748, 5: the top bit does not count, and p to 2^255 - 1 are reduced).
ORDER_EIGHT = [
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]
LOW_ORDER = [0, 1, *ORDER_EIGHT, P - 1, P, P + 1]


@pytest.mark.parametrize("top_bit", [0, 1])
@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_point_of_low_order_is_refused(point, top_bit):
    encoded = (point + (top_bit << 255)).to_bytes(32, "little")
    for scalar in (1, 2, 77):
        with pytest.raises(WeakKey, match="low order"):
            exchange(private(bytes([scalar]) * 32), encoded)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_what_is_no_point_is_refused(size):
    with pytest.raises(WeakKey):
        exchange(private(BASE), bytes([9]) * size)


# RFC 5869, appendix A: test cases 1 to 3 (SHA-256).
EXPANDED = [
    SimpleNamespace(
        secret=b"\x0b" * 22, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA)),
        key="3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    SimpleNamespace(
        secret=bytes(range(0x50)), salt=bytes(range(0x60, 0xB0)), info=bytes(range(0xB0, 0x100)),
        key="b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb"
        "41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    SimpleNamespace(
        secret=b"\x0b" * 22, salt=b"", info=b"",
        key="8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", EXPANDED)
def test_the_librarys_derivation_is_that_of_rfc_5869(case):
    key = hexed(case.key)
    assert HKDF(hashes.SHA256(), len(key), case.salt, case.info).derive(case.secret) == key


def test_keys_are_derived_without_salt():
    unsalted = EXPANDED[2]
    assert hkdf(unsalted.secret, unsalted.info) == hexed(unsalted.key)[:32]
    for case in EXPANDED:
        expected = HKDF(hashes.SHA256(), 32, bytes(32), case.info).derive(case.secret)
        assert hkdf(case.secret, case.info) == expected  # RFC 5869, 2.2: no salt is one of zeros


# RFC 8032, 7.1: tests 1, 2, 3 and 1024 (secret, public, message, signature).
LONG_MESSAGE = """
    08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98fa6e264bf09efe12ee50f8f54e
    9f77b1e355f6c50544e23fb1433ddf73be84d879de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a
    1b270b20329d658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc1a858efcb8550e
    e3a5e1998bd177e93a7363c344fe6b199ee5d02e82d522c4feba15452f80288a821a579116ec6dad2b3b310da9
    03401aa62100ab5d1a36553e06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbefef
    d75499da96bd68a8a97b928a8bbc103b6621fcde2beca1231d206be6cd9ec7aff6f6c94fcd7204ed3455c68c83
    f4a41da4af2b74ef5c53f1d8ac70bdcb7ed185ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532e
    d8a5aa3fb2d17ba70eb6248e594e1a2297acbbb39d502f1a8c6eb6f1ce22b3de1a1f40cc24554119a831a9aad6
    079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f27088d78b7e883c8759d2c4f5c65adb7553878ad575f9
    fad878e80a0c9ba63bcbcc2732e69485bbc9c90bfbd62481d9089beccf80cfe2df16a2cf65bd92dd597b0707e0
    917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128bab27af87a71314f318c782b23ebfe80
    8b82b0ce26401d2e22f04d83d1255dc51addd3b75a2b1ae0784504df543af8969be3ea7082ff7fc9888c144da2
    af58429ec96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47acdb751fb73e666c6c655ad
    e8297297d07ad1ba5e43f1bca32301651339e22904cc8c42f58c30c04aafdb038dda0847dd988dcda6f3bfd15c
    4b4c4525004aa06eeff8ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34dff7310f
    dc82aebfd904b01e1dc54b2927094b2db68d6f903b68401adebf5a7e08d78ff4ef5d63653a65040cf9bfd4aca7
    984a74d37145986780fc0b16ac451649de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939
    ae49e488acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a32ef5b52a1ecc820e308a
    a342721aac0943bf6686b64b2579376504ccc493d97e6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f25
    6656168e6c496afc5fb93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b50d334ba7
    7c225bc307ba537152f3f1610e4eafe595f6d9d90d11faa933a15ef1369546868a7f3a45a96768d40fd9d03412
    c091c6315cf4fde7cb68606937380db2eaaa707b4c4185c32eddcdd306705e4dc1ffc872eeee475a64dfac86ab
    a41c0618983f8741c5ef68d3a101e8a3b8cac60c905c15fc910840b94c00a0b9d0
"""
SIGNED = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        LONG_MESSAGE,
        "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350"
        "aa5371b1508f9f4528ecea23c436d94b5e8fcd4f681e30a6ac00a9704a188a03",
    ),
]


@pytest.mark.parametrize("case", SIGNED, ids=["1", "2", "3", "1024"])
def test_signatures_are_those_of_ed25519(case):
    secret, public, message, signature = map(hexed, case)
    identity = Identity(secret)
    assert identity.public == public
    assert identity.sign(message) == signature
    assert verify(public, message, signature)
    assert not verify(public, message + b"\0", signature)
    assert not verify(public, message, signature[::-1])


def test_what_is_no_key_or_no_signature_does_not_hold():
    identity = Identity(bytes(32))
    signature = identity.sign(b"said")
    assert verify(identity.public, b"said", signature)
    for public in (b"", identity.public[:-1], identity.public + b"\0", bytes(32)):
        assert not verify(public, b"said", signature)
    for other in (b"", signature[:-1], signature + b"\0", bytes(64)):
        assert not verify(identity.public, b"said", other)


@pytest.mark.parametrize(
    ("key", "block", "expected"),
    [  # RFC 8439, A.1: test vectors 3 and 4; 1 and 2 are in the tests of seeds
        (
            "00" * 31 + "01",
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            "00ff" + "00" * 30,
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ],
)
def test_the_keystream_of_fixed_keys_is_chacha20(key, block, expected):
    stream = Keystream(hexed(key))
    stream.bytes(64 * block)
    assert stream.bytes(64) == hexed(expected)


# McGrew and Viega, The Galois/Counter Mode of Operation, appendix B: test cases 13 to 16 (AES-256).
ZERO_NONCE_TAG = "530f8afbc74536b9a963b4f1c4cb738b"
ZERO_NONCE_BLOCK = "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"
GCM_KEY = "feffe9928665731c6d6a8f9467308308" * 2
GCM_TEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
GCM_SEALED = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
GCM_BOUND = "feedfacedeadbeeffeedfacedeadbeefabaddad2"


def test_seals_are_those_of_aes_gcm_under_the_zero_nonce():
    assert seal(bytes(32), b"", b"") == hexed(ZERO_NONCE_TAG)
    assert seal(bytes(32), bytes(16), b"") == hexed(ZERO_NONCE_BLOCK)


def test_the_librarys_seals_are_those_of_aes_gcm():
    nonce, cipher = hexed("cafebabefacedbaddecaf888"), AESGCM(hexed(GCM_KEY))
    text, sealed, bound = map(hexed, (GCM_TEXT, GCM_SEALED, GCM_BOUND))
    assert cipher.encrypt(nonce, text, b"") == sealed + hexed("b094dac5d93471bdec1a502270e3cc6c")
    short = sealed[:60] + hexed("76fc6ece0f4e1768cddf8853bb2d551b")
    assert cipher.encrypt(nonce, text[:60], bound) == short


def times(a, b):
    """The product in GF(2^128) of NIST SP 800-38D, 6.3: bit 0 is the leftmost one."""
    product = 0
    for i in range(127, -1, -1):
        product ^= b * (a >> i & 1)
        b = b >> 1 ^ (b & 1) * (0xE1 << 120)
    return product


def test_what_a_seal_is_bound_to_is_part_of_its_tag():
    # NIST SP 800-38D, 7.1, in Python integers: counter mode from block 2, tag by GHASH.
    key, text, bound = bytes(range(32)), bytes(range(40)), b"bound to a place and a context"
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
    stream = b"".join(block(bytes(12) + i.to_bytes(4, "big")) for i in (2, 3, 4))
    sealed = bytes(a ^ b for a, b in zip(text, stream, strict=False))
    padded = [part + bytes(-len(part) % 16) for part in (bound, sealed)]
    sizes = (8 * len(bound)).to_bytes(8, "big") + (8 * len(sealed)).to_bytes(8, "big")
    data, tag = b"".join([*padded, sizes]), 0
    for at in range(0, len(data), 16):
        tag = times(tag ^ int.from_bytes(data[at : at + 16]), int.from_bytes(block(bytes(16))))
    tag ^= int.from_bytes(block(bytes(15) + b"\1"))
    assert seal(key, text, bound) == sealed + tag.to_bytes(16)


def test_a_seal_opens_under_its_own_key_and_context_alone():
    key, text, bound = bytes(range(32)), bytes(range(72)), b"from 1 to 2"
    sealed = seal(key, text, bound)
    assert len(sealed) == len(text) + 16
    assert unseal(key, sealed, bound) == text
    assert unseal(bytes(32), sealed, bound) is None
    assert unseal(key, sealed, b"from 2 to 1") is None
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert unseal(key, changed, bound) is None
    for size in (0, 1, 15, 16, len(sealed) - 1):
        assert unseal(key, sealed[:size], bound) is None


def test_the_librarys_counter_mode_is_that_of_nist():
    # NIST SP 800-38A, F.5.5: CTR-AES256.Encrypt
    key = hexed("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    text = hexed(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    expected = hexed(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    counter = bytes(range(0xF0, 0x100))
    assert Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(text) == expected


# The directory of identities.

SECRET = bytes(range(100, 132))


def publics(identities, phones=5):
    return [identities.public(phone) for phone in range(phones)]


def test_the_same_secret_makes_the_same_identities():
    first, again = IdentityDirectory(SECRET, b"job", 5), IdentityDirectory(SECRET, b"job", 5)
    assert publics(first) == publics(again) == [first.identity(phone).public for phone in range(5)]
    assert len(set(publics(first))) == 5
    assert verify(first.public(3), b"said", again.identity(3).sign(b"said"))
    assert publics(IdentityDirectory(SECRET, b"job", 100)) == publics(first)


def test_another_secret_or_purpose_makes_other_identities():
    populations = [
        IdentityDirectory(SECRET, b"job", 5), IdentityDirectory(SECRET, b"job2", 5),
        IdentityDirectory(SECRET, b"", 5),
        IdentityDirectory(SECRET[::-1], b"job", 5), IdentityDirectory(bytes(32), b"job", 5),
    ]  # fmt: skip
    assert len({public for population in populations for public in publics(population)}) == 25


@pytest.mark.parametrize("phone", [-1, 5, 6, 2**40])
def test_nobody_outside_the_population_has_an_identity(phone):
    identities = IdentityDirectory(SECRET, b"job", 5)
    for ask in (identities.identity, identities.public):
        with pytest.raises(UnknownPhone, match=f"phone {phone} was never enrolled: there are 5"):
            ask(phone)


def test_identities_that_were_let_go_come_back_the_same(monkeypatch):
    monkeypatch.setattr(keys, "_KEPT_PUBLICS", 2)
    identities = keys.IdentityDirectory(bytes(32), b"population", 10**6)
    first = [identities.public(phone) for phone in range(5)]
    assert len(identities._publics) == 2
    assert [identities.public(phone) for phone in range(5)] == first


def test_printing_shows_no_secret():
    identities = IdentityDirectory(SECRET, b"job", 5)
    identity = Identity(SECRET)
    root = hkdf(SECRET, b"")
    for shown in (identities, identity, identities.identity(0), [identities], {0: identity}):
        for text in (repr(shown), str(shown), f"{shown}"):
            assert len(text) < 60
            for secret in (SECRET, root):
                assert secret.hex()[:8] not in text
                assert repr(secret)[2:10] not in text
    assert repr(identities) == "IdentityDirectory(5 phones, simulated)"
    assert repr(identity) == f"Identity({identity.public.hex()[:8]}...)"


def test_a_secret_can_be_overwritten():
    secret = Secret(SECRET)
    assert bytes(secret) == SECRET
    secret.wipe()
    assert bytes(secret) == bytes(32)


def test_a_secret_prints_its_length_only():
    secret = Secret(SECRET)
    for shown in (repr(secret), repr([secret]).strip("[]"), str(secret), f"{secret}"):
        assert shown == "Secret(<32 bytes>)"


def test_a_directory_equals_itself_only():
    first, again = IdentityDirectory(SECRET, b"job", 5), IdentityDirectory(SECRET, b"job", 5)
    assert first != again
    assert len({first, again, first}) == 2


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_user_can_read_the_secret(tmp_path, umask):
    before = os.umask(umask)
    try:
        IdentityDirectory.create(tmp_path / "deep" / "enrolment")
    finally:
        os.umask(before)
    file = tmp_path / "deep" / "enrolment"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_bytes()) == 32
    assert os.listdir(file.parent) == ["enrolment"]


def test_creating_again_keeps_the_first_secret(tmp_path):
    file = tmp_path / "enrolment"
    IdentityDirectory.create(file)
    first, population = file.read_bytes(), publics(IdentityDirectory.open(file, b"job", 5))
    IdentityDirectory.create(file)
    assert file.read_bytes() == first
    assert publics(IdentityDirectory.open(file, b"job", 5)) == population
    assert os.listdir(tmp_path) == ["enrolment"]


def test_two_files_hold_two_secrets(tmp_path):
    for name in ("one", "two"):
        IdentityDirectory.create(tmp_path / name)
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def create_and_read(folder, barrier, rounds, told):
    for number in range(rounds):
        barrier.wait()
        file = folder / str(number)
        IdentityDirectory.create(file)
        told.put((number, file.read_bytes()))


def test_processes_that_create_at_once_agree(tmp_path):
    context = multiprocessing.get_context("fork")
    processes, rounds = 4, 10
    barrier, told = context.Barrier(processes), context.Queue()
    running = [
        context.Process(target=create_and_read, args=(tmp_path, barrier, rounds, told))
        for _ in range(processes)
    ]
    for process in running:
        process.start()
    found = {told.get(timeout=30) for _ in range(processes * rounds)}
    for process in running:
        process.join()
    assert len(found) == rounds
    assert len({secret for _, secret in found}) == rounds
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, range(rounds)))


def test_who_comes_second_keeps_what_the_first_made(tmp_path, monkeypatch):
    # the other process finishes between this one's first and last step
    file, link = tmp_path / "enrolment", os.link
    others = bytes(range(32))

    def late(source, target):
        file.write_bytes(others)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    IdentityDirectory.create(file)
    assert file.read_bytes() == others
    assert os.listdir(tmp_path) == ["enrolment"]


def test_a_missing_enrolment_says_what_makes_one(tmp_path):
    file = tmp_path / "enrolment"
    with pytest.raises(ScenarioError, match=rf"at {file} \(No such file.*\); `fedspeech prepare`"):
        IdentityDirectory.open(file, b"job", 5)
    with pytest.raises(ScenarioError, match="no identities of phones"):
        IdentityDirectory.open(tmp_path, b"job", 5)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_an_enrolment_of_the_wrong_length_says_so_and_shows_nothing(tmp_path, size):
    file = tmp_path / "enrolment"
    file.write_bytes(b"S" * size)
    text = rf"at {file} must have 32 bytes, got {size}; delete it and prepare again"
    with pytest.raises(ScenarioError, match=text) as refusal:
        IdentityDirectory.open(file, b"job", 5)
    assert "SS" not in str(refusal.value)
