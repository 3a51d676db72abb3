"""Named streams repeat and never meet; keystreams are ChaCha20 and know seeded from secret."""

import gc
import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.seeds import (
    SEEDED_NOISE_NOTICE,
    Keystream,
    NoiseEntropy,
    Streams,
    canonical,
    secret_generator,
    stream,
)

NAMES = st.lists(
    st.one_of(st.text(max_size=6), st.integers(-(2**70), 2**70), st.binary(max_size=6)), max_size=4
)


@settings(max_examples=40)
@given(NAMES, NAMES)
def test_different_names_never_share_an_encoding(first, second):
    same = [(type(n), n) for n in first] == [(type(n), n) for n in second]
    assert (canonical(*first) == canonical(*second)) == same


def test_names_that_look_alike_do_not_collide():
    alike = [(), ("",), ("ab",), ("a", "b"), (b"ab",), (1,), ("1",), (b"1",), (-1,), (12,), (1, 2)]
    assert len({canonical(*names) for names in alike}) == len(alike)


@pytest.mark.parametrize("name", [True, 1.0, None])
def test_a_name_that_equals_another_of_another_type_is_refused(name):
    with pytest.raises(TypeError, match="must be str, int or bytes"):
        canonical("x", name)


def test_a_numpy_integer_names_the_same_stream_as_the_number():
    assert canonical(np.int64(7)) == canonical(7)


def test_the_same_names_give_the_same_stream_and_others_another():
    draws = {
        names: stream(*names).integers(2**63, size=4).tobytes()
        for names in [(1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1,), (-1, "a")]
    }
    assert stream(1, "a").integers(2**63, size=4).tobytes() == draws[1, "a"]
    assert len(set(draws.values())) == len(draws)


def test_streams_of_neighboring_names_are_uncorrelated():
    # 28 pairs of 20,000 normals: a correlation above 5.5 / sqrt(20,000) has chance 28 * 4e-8.
    drawn = [stream(0, "batches", number).normal(size=20_000) for number in range(8)]
    for first, second in itertools.combinations(drawn, 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < 5.5 / np.sqrt(20_000)


def test_the_keystream_is_chacha20_from_block_zero():
    # RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, blocks 0 and 1.
    expected = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    assert Keystream(bytes(32)).bytes(128) == expected
    split = Keystream(bytes(32))
    assert split.bytes(5) + split.bytes(123) == expected
    assert Keystream(bytes(32)).uint64(2).tolist() == [
        int.from_bytes(expected[:8], "little"), int.from_bytes(expected[8:16], "little"),
    ]  # fmt: skip


def test_uniforms_lie_in_the_unit_interval_on_a_grid_of_53_bits():
    values = NoiseEntropy.seeded(1, "run").keystream("uniform").uniform(100_000)
    assert values.min() >= 0
    assert values.max() < 1
    assert (values * 2.0**53 % 1 == 0).all()
    # Six standard errors of a mean of 100,000 uniforms: false alarm 2e-9.
    assert abs(values.mean() - 0.5) < 6 / np.sqrt(12 * 100_000)


def test_a_key_of_another_length_is_refused_and_a_stream_never_prints_its_key():
    with pytest.raises(ValueError, match="must be 32 bytes, got 31 bytes"):
        Keystream(bytes(31))
    stream_ = Keystream(b"k" * 32)
    stream_.bytes(3)
    assert repr(stream_) == "Keystream(<3 bytes read>)"


def test_the_operating_system_never_repeats_and_needs_no_notice():
    entropy = NoiseEntropy.os()
    assert entropy.notice is None
    assert entropy.keystream("noise", 1).bytes(32) != entropy.keystream("noise", 1).bytes(32)


def test_a_seeded_repeats_by_seed_run_and_name_says_so_and_hides_its_root():
    def first_bytes(seed, run, *names):
        return NoiseEntropy.seeded(seed, run).keystream(*names).bytes(32)

    assert first_bytes(1, "r", "noise", 0) == first_bytes(1, "r", "noise", 0)
    uses = [(1, "r", "noise", 0), (2, "r", "noise", 0), (1, "s", "noise", 0), (1, "r", "noise", 1),
            (1, "r", "rounding", 0)]  # fmt: skip
    assert len({first_bytes(*use) for use in uses}) == len(uses)
    assert NoiseEntropy.seeded(1, "r").notice == SEEDED_NOISE_NOTICE
    assert "seeded" in repr(NoiseEntropy.seeded(1, "secret-run"))
    assert "secret-run" not in repr(NoiseEntropy.seeded(1, "secret-run"))


def test_the_keys_of_a_seeded_are_hkdf_of_seed_run_and_names():
    """RFC 5869 as the cryptography library computes it, extract and expand in one."""
    hkdf = HKDF(hashes.SHA256(), length=32, salt=None, info=canonical("noise", b"rid", 3))
    key = hkdf.derive(canonical("fedspeech seeded noise", 7, "run"))
    drawn = NoiseEntropy.seeded(7, "run").keystream("noise", b"rid", 3)
    assert drawn.bytes(64) == Keystream(key).bytes(64)


def test_streams_are_opened_where_they_are_asked_for_and_nowhere_else():
    opened = []

    def open_one(number):
        opened.append(number)
        return stream(1, "batches", number)

    streams = Streams(open_one, [5, 8, 9])
    assert (len(streams), len(streams[1:]), opened) == (3, 2, [])
    assert streams[1:][0].bytes(8) == stream(1, "batches", 8).bytes(8)
    assert [rng.bytes(8) for rng in streams] == [
        stream(1, "batches", n).bytes(8) for n in (5, 8, 9)
    ]
    assert opened == [8, 5, 8, 9]


def test_a_secret_generator_reads_every_word_from_the_keystream():
    key = bytes(range(32))
    assert secret_generator(Keystream(key)).bytes(40) == Keystream(key).bytes(40)
    np.testing.assert_array_equal(
        secret_generator(Keystream(key)).random(5), Keystream(key).uniform(5)
    )
    drawn = secret_generator(Keystream(key)).integers(2**64, size=5, dtype=np.uint64)
    np.testing.assert_array_equal(drawn, Keystream(key).uint64(5))
    # The bit generator has no state to look at, nor to copy.
    assert not hasattr(secret_generator(Keystream(key)).bit_generator, "state")


def test_a_secret_generator_outlives_who_made_it():
    made = [secret_generator(Keystream(bytes([number]) * 32)) for number in range(200)]
    gc.collect()
    assert len({one.bytes(8) for one in made}) == 200
