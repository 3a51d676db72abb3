"""A mask goes on and comes off again, word for word, and is the keystream of its key."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.secagg.masks import apply_mask, cut, keystream, pack, unpack, word_type

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
BLOCK_BYTES = 2**18
EDGES = {
    bits: [BLOCK_BYTES // width + by for by in (-1, 0, 1)] + [2 * BLOCK_BYTES // width + 3]
    for bits, width in ((16, 2), (32, 4))
}
SIZES = [(bits, size) for bits, edges in EDGES.items() for size in (0, 1, 7, 8, 9, *edges)]
BITS = [1, 2, 8, 15, 16, 17, 24, 31, 32]


def ring_words(bits, size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2**bits, size, dtype=np.uint64).astype(word_type(bits))


def counter_mode(key, size_bytes):
    """NIST SP 800-38A, 6.5, with the counter blocks 0, 1, 2, ... (big-endian), block by block."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    counters = b"".join(i.to_bytes(16, "big") for i in range(-(-size_bytes // 16)))
    return encryptor.update(counters)[:size_bytes]


@pytest.mark.parametrize("bits", range(1, 33))
def test_words_are_as_wide_as_the_ring_needs(bits):
    assert word_type(bits) == (np.uint16 if bits <= 16 else np.uint32)


@pytest.mark.parametrize("bits", [-1, 0, 33])
def test_a_ring_that_no_word_holds_is_refused(bits):
    with pytest.raises(ValueError, match=r"1\.\.32"):
        word_type(bits)


@pytest.mark.parametrize(("bits", "size"), SIZES)
def test_a_mask_is_the_counter_mode_keystream_of_its_key(bits, size):
    words = keystream(KEY, size, bits)
    assert words.astype(words.dtype.newbyteorder("<")).tobytes() == counter_mode(KEY, words.nbytes)


@pytest.mark.parametrize("size", [2, 1000, BLOCK_BYTES // 2 + 2])
def test_narrow_and_wide_words_read_the_same_bytes(size):
    narrow, wide = keystream(KEY, size, 16), keystream(KEY, size // 2, 32)
    assert narrow.astype("<u2").tobytes() == wide.astype("<u4").tobytes()


@pytest.mark.parametrize("bits", BITS)
def test_a_mask_added_and_taken_off_leaves_nothing(bits):
    vector = ring_words(bits, 5000)
    masked = vector.copy()
    apply_mask(KEY, [(masked, True)])
    assert (masked != vector).mean() > 0.99
    apply_mask(KEY, [(masked, False)])
    np.testing.assert_array_equal(masked, vector)


@pytest.mark.parametrize("bits", BITS)
def test_a_mask_comes_off_a_vector_that_was_cut_to_the_ring(bits):
    vector = ring_words(bits, 5000)
    masked = vector.copy()
    apply_mask(KEY, [(masked, True)])
    apply_mask(OTHER, [(masked, False)])
    cut(masked, bits)
    apply_mask(OTHER, [(masked, True)])
    apply_mask(KEY, [(masked, False)])
    np.testing.assert_array_equal(cut(masked, bits), vector)


@pytest.mark.parametrize(("bits", "size"), SIZES)
def test_masks_of_every_size_go_on_and_come_off(bits, size):
    vector = ring_words(bits, size)
    masked = vector.copy()
    apply_mask(KEY, [(masked, True)])
    expected = vector + keystream(KEY, size, bits)
    np.testing.assert_array_equal(masked, expected)
    apply_mask(KEY, [(masked, False)])
    np.testing.assert_array_equal(masked, vector)


@pytest.mark.parametrize(("bits", "size"), SIZES)
def test_one_expansion_for_both_ends_equals_two(bits, size):
    together = [ring_words(bits, size, seed) for seed in range(3)]
    apart = [vector.copy() for vector in together]
    signs = [True, False, True]
    apply_mask(KEY, list(zip(together, signs, strict=True)))
    for vector, added in zip(apart, signs, strict=True):
        apply_mask(KEY, [(vector, added)])
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_array_equal(one, other)


def test_masks_of_two_keys_share_no_word_more_often_than_chance():
    # 100,000 pairs of 32-bit words: one pair alike has chance 2.4e-5.
    assert not (keystream(KEY, 100_000, 32) == keystream(OTHER, 100_000, 32)).any()


def test_a_longer_mask_begins_with_the_shorter_one():
    longer = keystream(KEY, BLOCK_BYTES, 16)
    for size in (1, 100, BLOCK_BYTES // 2 - 1, BLOCK_BYTES // 2 + 1):
        np.testing.assert_array_equal(keystream(KEY, size, 16), longer[:size])


@given(st.sampled_from(range(1, 33)), st.lists(st.integers(0, 2**32 - 1), max_size=9))
def test_cut_reduces_words_to_the_ring_in_place(bits, values):
    words = np.array(values, dtype=np.uint32).astype(word_type(bits))
    expected = [int(word) % 2**bits for word in words]
    found = cut(words, bits)
    assert found is words
    assert found.dtype == word_type(bits)
    assert found.tolist() == expected


@pytest.mark.parametrize("bits", range(1, 33))
def test_packed_words_take_whole_bytes_and_come_back(bits):
    for count, dimension in ((3, 7), (1, 1), (2, 0)):
        words = ring_words(bits, count * dimension).reshape(count, dimension)
        packed = pack(words, bits)
        assert packed.dtype == np.uint8
        assert packed.shape == (count, dimension * -(-bits // 8))
        found = unpack(packed, bits)
        assert found.dtype == word_type(bits)
        np.testing.assert_array_equal(found, words)


def test_no_rows_come_back_as_no_rows():
    none = np.zeros((0, 7), np.uint32)
    assert unpack(pack(none, 24), 24).shape == (0, 7)


def test_packed_words_are_little_endian():
    words = np.array([[0x030201, 0x060504]], dtype=np.uint32)
    assert pack(words, 24).tolist() == [[1, 2, 3, 4, 5, 6]]
    assert pack(words, 32).tolist() == [[1, 2, 3, 0, 4, 5, 6, 0]]


@pytest.mark.parametrize(("bits", "num_bytes"), [(16, 5), (24, 4), (32, 6)])
def test_what_is_no_whole_number_of_words_is_refused(bits, num_bytes):
    with pytest.raises(ValueError, match=f"got {num_bytes}"):
        unpack(np.zeros((2, num_bytes), np.uint8), bits)


def test_threads_mask_side_by_side():
    """With a buffer in common two threads spoiled 1 to 2 % of such masks: 600 show it."""
    keys = [bytes([number]) * 32 for number in range(3)]
    expected = {key: keystream(key, 100_000, 32) for key in keys}

    def wrong(key):
        return sum((keystream(key, 100_000, 32) != expected[key]).any() for _ in range(200))

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(wrong, keys)) == 0
