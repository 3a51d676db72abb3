import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.secagg import shamir
from fedspeech.secagg.shamir import (
    LIMBS,
    MAX_SHARES,
    PRIME,
    from_limbs,
    reconstruct,
    share,
    to_limbs,
)

SIZES = [64, 65, 128, 300]
ELEMENTS = st.integers(0, PRIME - 1) | st.sampled_from([0, 1, PRIME - 2, PRIME - 1])


class Tape:
    """Random bytes that are given 32-bit words, in order."""

    def __init__(self, words):
        self.words = list(words)

    def __call__(self, size):
        taken, self.words = self.words[: size // 4], self.words[size // 4 :]
        return np.array(taken, dtype="<u4").tobytes()


def evaluated(coefficients, num_shares):
    """Shares in Python integers: row x - 1 is the polynomial at x."""
    powers = [[x**j for j in range(len(coefficients))] for x in range(1, num_shares + 1)]
    columns = list(zip(*coefficients, strict=True))
    return [[sum(map(int.__mul__, row, c)) % PRIME for c in columns] for row in powers]


def at_zero(places, shares):
    """Lagrange interpolation in Python integers."""
    values = [0] * len(shares[0])
    for place, row in zip(places, shares, strict=True):
        others = [other for other in places if other != place]
        above = math.prod(other + 1 for other in others)
        weight = above * pow(math.prod(other - place for other in others), -1, PRIME)
        values = [(v + weight * s) % PRIME for v, s in zip(values, row, strict=True)]
    return values


def seeded(seed):
    return np.random.default_rng(seed).bytes


def reference_shares():
    # the 31 bits of the second word are PRIME: drawn again; the top bit of the first does not count
    tape = Tape([987654321 | 2**31, PRIME, 555555555])
    return share(np.array([123456789]), 3, 5, tape)


def test_shares_are_those_of_the_reference_polynomial():
    expected = [1666666665, 26020357, 1643968806, 78061071, 1770748093]
    shares = reference_shares()
    assert shares.dtype == np.uint32
    assert shares[:, 0].tolist() == expected


@st.composite
def polynomials(draw):
    num_shares = draw(st.integers(1, 12))
    threshold = draw(st.integers(1, num_shares))
    width = draw(st.integers(1, 3))
    row = st.lists(ELEMENTS, min_size=width, max_size=width)
    return draw(st.lists(row, min_size=threshold, max_size=threshold)), num_shares


@pytest.mark.slow
@given(polynomials(), st.data())
def test_any_threshold_of_shares_reconstructs(case, data):
    coefficients, num_shares = case
    threshold = len(coefficients)
    tape = Tape([word for row in coefficients[1:] for word in row])
    shares = share(np.array(coefficients[0]), threshold, num_shares, tape)
    assert shares.tolist() == evaluated(coefficients, num_shares)

    orders = st.permutations(range(num_shares)).map(lambda order: order[:threshold])
    places = np.array(data.draw(st.lists(orders, min_size=1, max_size=4)))
    values = reconstruct(places, shares[places])
    assert values.dtype == np.int64
    assert values.tolist() == [coefficients[0]] * len(places)


@given(st.sets(st.integers(0, MAX_SHARES - 1), min_size=1, max_size=12), st.data())
def test_reconstruction_is_lagrange_interpolation_whatever_the_shares(places, data):
    row = st.lists(ELEMENTS, min_size=2, max_size=2)
    shares = data.draw(st.lists(row, min_size=len(places), max_size=len(places)))
    values = reconstruct(np.array([list(places)]), np.array([shares], dtype=np.uint32))
    assert values[0].tolist() == at_zero(list(places), shares)


def test_many_secrets_from_places_of_their_own_each():
    rng = np.random.default_rng(1)
    secrets = rng.integers(0, PRIME, size=(600, 2))
    shares = share(secrets.ravel(), 11, 20, rng.bytes).reshape(20, 600, 2)
    places = np.array([rng.permutation(20)[:11] for _ in secrets])
    chosen = shares[places, np.arange(600)[:, None]]
    np.testing.assert_array_equal(reconstruct(places, chosen), secrets)
    for row in (0, 255, 256, 599):
        assert secrets[row].tolist() == at_zero(places[row].tolist(), chosen[row].tolist())
    assert reconstruct(places[:0], chosen[:0]).shape == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [1, 2, *SIZES])
@pytest.mark.parametrize("spare", [0, 7])
def test_largest_elements_come_back(threshold, spare):
    num_shares = threshold + spare
    coefficients = [[PRIME - 1] * LIMBS] * threshold
    tape = Tape([PRIME - 1] * LIMBS * (threshold - 1))
    shares = share(np.array(coefficients[0]), threshold, num_shares, tape)
    assert shares.tolist() == evaluated(coefficients, num_shares)
    places = np.arange(spare, num_shares)[None, ::-1]
    assert reconstruct(places, shares[places]).tolist() == coefficients[:1]


def test_every_share_is_the_secret_when_one_is_enough():
    assert share(np.array([5, PRIME - 1]), 1, 3, Tape([])).tolist() == [[5, PRIME - 1]] * 3


@pytest.mark.parametrize("terms", SIZES)
@pytest.mark.parametrize("entry", [PRIME - 1, PRIME - 2, 0x7FFEFFFF])
def test_products_of_the_largest_entries_are_exact(terms, entry):
    # The odd ones matter: float64 holds sums of even numbers well beyond 2^53. The last has the
    # largest low half.
    left = np.full((3, terms), entry)
    left[1] -= 2 * np.arange(terms)
    right = np.full((terms, 2), PRIME - 2)
    expected = [[sum(a * (PRIME - 2) for a in row) % PRIME] * 2 for row in left.tolist()]
    product = shamir._product(shamir._halves(left), right.astype(np.float64))
    assert product.tolist() == expected


@pytest.mark.parametrize("terms", SIZES)
def test_reconstruction_is_exact_for_any_set_of_largest_shares(terms):
    rng = np.random.default_rng(2)
    places = np.array([rng.permutation(terms + 50)[:terms] for _ in range(4)])
    shares = np.full((4, terms, 1), PRIME - 1, dtype=np.uint32)
    shares[2:] -= rng.integers(0, 9, size=(2, terms, 1), dtype=np.uint32)
    expected = [at_zero(p, s) for p, s in zip(places.tolist(), shares.tolist(), strict=True)]
    assert reconstruct(places, shares).tolist() == expected


def test_weights_are_exact_over_the_whole_range_of_places():
    # the constant polynomial: weights sum to one, here with the longest sums of logarithms
    places = np.arange(MAX_SHARES)[None]
    shares = np.full((1, MAX_SHARES, 1), PRIME - 1, dtype=np.uint32)
    assert reconstruct(places, shares).tolist() == [[PRIME - 1]]
    weight = shamir._weights(places)[0]
    signs = [1 if x % 2 else -1 for x in range(1, MAX_SHARES + 1)]
    expected = [s * math.comb(MAX_SHARES, x + 1) % PRIME for x, s in enumerate(signs)]
    assert weight.tolist() == expected


@given(st.integers(0, PRIME - 1), st.integers(0, PRIME - 1))
def test_one_share_fewer_fits_every_secret(held, secret):
    # Given t - 1 shares the last share goes to the secret by an affine map of non-zero slope: a
    # bijection, so each secret has exactly one last share, hence one polynomial.
    def claimed(last):
        return int(reconstruct(places, np.array([[[held], [7], [last]]], np.uint32))[0, 0])

    places = np.array([[4, 0, 2]])
    slope = (claimed(1) - claimed(0)) % PRIME
    assert slope != 0
    assert claimed((secret - claimed(0)) * pow(slope, -1, PRIME) % PRIME) == secret


@pytest.mark.parametrize("secret", [0, PRIME - 1])
def test_one_share_fewer_is_uniform_whatever_the_secret(secret):
    # Two of three shares, 30,000 times, in 8 x 8 cells of their leading bits (equal but for one in
    # 2^28): chi-square at 1e-6, so a correct program fails at one seed of a million, and seed 3 is
    # fixed.
    shares = share(np.full(30_000, secret), 3, 5, seeded(3))
    for first, second in ((0, 1), (1, 4)):
        cells = (shares[first] >> 28) * 8 + (shares[second] >> 28)
        counts = np.bincount(cells, minlength=64)
        assert scipy.stats.chisquare(counts).pvalue > 1e-6


def test_no_coefficient_is_the_prime_however_often_it_is_drawn():
    # (PRIME, 1, PRIME), then PRIME and 4 for the first and last, then 3 for the first
    tape = Tape([PRIME, 1, 2**32 - 1, PRIME, 4, 3])
    shares = share(np.array([10, 20, 30]), 2, 2, tape)
    assert shares.tolist() == [[13, 21, 34], [16, 22, 38]]
    assert tape.words == []


def test_random_bytes_that_run_out_are_no_coefficients():
    with pytest.raises(ValueError, match="buffer"):
        share(np.zeros(3, dtype=np.int64), 2, 2, Tape([1, 2]))
    with pytest.raises(ValueError, match="buffer"):
        share(np.zeros(3, dtype=np.int64), 2, 2, Tape([PRIME, PRIME, PRIME, 1]))


def test_a_wrong_share_changes_the_secret():
    shares = reference_shares()
    places = np.array([[1, 3, 4]])
    for i in range(3):
        wrong = shares[places]
        wrong[0, i, 0] ^= 1
        assert reconstruct(places, wrong)[0, 0] != 123456789
    assert reconstruct(np.array([[1, 3, 2]]), shares[places])[0, 0] != 123456789


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31) + b"\x80", bytes(range(32))])
def test_two_secrets_survive_limbs_and_shares(secret):
    other = bytes(255 - byte for byte in secret)
    limbs = np.concatenate([to_limbs(secret), to_limbs(other)])
    places = np.array([[8, 1, 5, 0]])
    values = reconstruct(places, share(limbs, 4, 9, seeded(4))[places])[0]
    assert from_limbs(values[:LIMBS]) == secret
    assert from_limbs(values[LIMBS:]) == other


@given(st.binary(min_size=32, max_size=32))
def test_limbs_are_thirty_bits_each_least_significant_first(secret):
    limbs = to_limbs(secret)
    assert (limbs.shape, limbs.dtype) == ((LIMBS,), np.int64)
    assert sum(limb << 30 * i for i, limb in enumerate(limbs.tolist())) == int.from_bytes(
        secret, "little"
    )
    assert ((limbs >= 0) & (limbs < 2**30)).all()
    assert from_limbs(limbs) == secret


@pytest.mark.parametrize(("place", "limb"), [(0, 2**30), (7, 2**30), (8, 2**16), (3, -5)])
def test_limbs_of_no_secret_are_refused_without_their_value(place, limb):
    limbs = np.zeros(LIMBS, dtype=np.int64)
    limbs[place] = limb - 1 if limb > 0 else 0
    assert len(from_limbs(limbs)) == 32
    limbs[place] = limb
    with pytest.raises(ValueError, match=rf"limb {place} must be in 0\.\.2") as refusal:
        from_limbs(limbs)
    assert str(limb) not in str(refusal.value)


@pytest.mark.parametrize("size", [31, 33])
def test_secrets_of_another_length_are_refused(size):
    with pytest.raises(ValueError, match=f"32 bytes, got {size}"):
        to_limbs(bytes(size))


@pytest.mark.parametrize("limbs", [np.zeros(8, np.int64), np.zeros((1, 9), np.int64), np.zeros(9)])
def test_what_are_no_limbs_is_refused(limbs):
    with pytest.raises(ValueError, match="9 integers"):
        from_limbs(limbs)


@pytest.mark.parametrize(
    ("values", "threshold", "num_shares", "message"),
    [
        ([1], 0, 3, "threshold must be in 1..3, got threshold=0"),
        ([1], 4, 3, "threshold must be in 1..3, got threshold=4"),
        ([1], 1, 0, "num_shares must be in 1..1024, got num_shares=0"),
        ([1], 1, 1025, "num_shares must be in 1..1024, got num_shares=1025"),
        ([1, PRIME], 2, 3, "values must be in 0..PRIME-1"),
        ([-1, 1], 2, 3, "values must be in 0..PRIME-1"),
        ([[1]], 2, 3, r"values are int64 \(w,\), got int64 of shape \(1, 1\)"),
        (np.array([1.0]), 2, 3, "values are int64"),
        (np.array([1], dtype=np.uint32), 2, 3, "values are int64"),
    ],
)
def test_what_cannot_be_shared_is_refused(values, threshold, num_shares, message):
    with pytest.raises(ValueError, match=message):
        share(np.asarray(values), threshold, num_shares, seeded(5))


def ones(*shape, dtype=np.uint32):
    return np.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("places", "shares", "message"),
    [
        ([[0, 1], [2, 2]], ones(2, 2, 1), r"places must be distinct in each row, got \[2, 2\]"),
        ([[0, -1]], ones(1, 2, 1), r"places must be in 0\.\.1023, got -1\.\.0"),
        ([[0, 1024]], ones(1, 2, 1), r"places must be in 0\.\.1023, got 0\.\.1024"),
        ([[0.0, 1.0]], ones(1, 2, 1), "places are integers"),
        ([0, 1], ones(1, 2, 1), "places are integers"),
        (np.zeros((1, 0), int), ones(1, 0, 1), "places are integers"),
        ([[0, 1]], ones(1, 3, 1), r"uint32 \(1, 2, 'w'\), got uint32 \(1, 3, 1\)"),
        ([[0, 1]], ones(1, 2), "shares must be uint32"),
        ([[0, 1]], ones(1, 2, 1, dtype=np.int64), "shares must be uint32"),
        ([[0, 1]], ones(1, 2, 1) * np.uint32(PRIME), r"shares must be in 0\.\.PRIME-1"),
    ],
)
def test_what_cannot_be_reconstructed_is_refused(places, shares, message):
    with pytest.raises(ValueError, match=message):
        reconstruct(np.asarray(places), shares)
