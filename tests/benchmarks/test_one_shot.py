"""The prototype of a one-shot sum adds exactly, and tells wrong shares from right ones."""

import numpy as np
import pytest

from benchmarks.one_shot import Committee, block_size, play, widest_ring
from fedspeech.secagg.shamir import PRIME

COMMITTEE = Committee(9, 2)


@pytest.mark.parametrize("bits", [8, 16])
def test_sums_are_the_plain_ones_though_members_vanish(bits):
    gone = COMMITTEE.size - COMMITTEE.quorum
    assert play(5, 40, bits, COMMITTEE, secret=30, gone=gone)["phone_bytes_sent"] > 4 * 40
    with pytest.raises(ValueError, match="6 members must answer, got 5"):
        play(2, 10, bits, COMMITTEE, secret=30, gone=gone + 1)


def test_one_wrong_share_is_seen_where_one_more_member_answers_than_must():
    secret = np.arange(10)
    shares = COMMITTEE.share(secret)
    places = np.arange(COMMITTEE.quorum + 1)
    np.testing.assert_array_equal(COMMITTEE.open(places, shares[places], 10), secret)
    shares[3, 0] = (shares[3, 0] + 1) % PRIME
    with pytest.raises(ValueError, match="wrong"):
        COMMITTEE.open(places, shares[places], 10)
    assert (COMMITTEE.open(places[:-1], shares[places[:-1]], 10) != secret).any()


def test_vectors_as_short_as_the_secret_add_up_without_a_mask():
    vectors = np.random.default_rng(0).integers(0, 1 << 16, (5, 40))
    shares = sum(COMMITTEE.share(vector) for vector in vectors) % PRIME
    places = np.arange(2, COMMITTEE.size)
    np.testing.assert_array_equal(COMMITTEE.open(places, shares[places], 40), vectors.sum(axis=0))


def test_the_estimate_is_that_of_the_standard():
    """Albrecht et al. 2018, Homomorphic Encryption Standard, Table 1: n = 1024, log2 q = 29.

    Uniform secret, stddev 3.2, 128 bits where BKZ costs 8 d 2^(0.292 beta + 16.4) (Section 2.1.2).
    """
    beta = block_size(1024, 29, 3.2)
    assert 0.292 * beta + 16.4 + np.log2(8 * 2 * 1024) == pytest.approx(128, abs=4)


def test_a_longer_secret_holds_a_wider_ring():
    assert widest_ring(1024, 300, 1024) < 24 <= widest_ring(2048, 300, 1024)
