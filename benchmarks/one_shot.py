"""A sum from one message per phone, opened by a committee: costs beside the protocol of the house.

    python -m benchmarks.one_shot [--phones 297] [--dimension 1024] [--json]
    python -m benchmarks.one_shot --estimates

A prototype in the shape of OPA (Karthikeyan and Polychroniadou 2024, ePrint 2024/723), of its
arithmetic, signatures and sealing, and no protocol that a run could choose: docs/one_shot.md says
why. A phone masks its vector with A s + e mod q (learning with errors) under a secret s of its own
and shares s, packed, among a committee. Members add up the shares of all phones and answer once;
their answers open the sum of the secrets, and it the sum of the vectors.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedspeech.privacy.mechanisms import DiscreteGaussian
from fedspeech.secagg import session
from fedspeech.secagg.client import Phone
from fedspeech.secagg.costs import bytes_per_phone
from fedspeech.secagg.keys import IdentityDirectory, hkdf, public_key, seal, unseal, verify
from fedspeech.secagg.masks import keystream
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import SessionTerms
from fedspeech.secagg.ring import ring_sum
from fedspeech.secagg.shamir import PRIME
from fedspeech.seeds import Keystream

SECRET = 1024  # coordinates of s
STDDEV = 64.0  # of each coordinate of e
SECURITY = 128  # bits asked of the estimate
WRONG = 2.0**-40  # probability that some coordinate of a sum is wrong
Integers = NDArray[np.int64]


# Arithmetic mod q = 2^31 - 1.


def product(left: Integers, right: Integers) -> Integers:
    """Multiplies matrices (r, t) and (t, c) of entries in 0..PRIME-1, mod PRIME, exactly.

    A half of the left entry is below 2^16, so 64 products sum to less than 2^53 in float64.
    """
    low = np.zeros((left.shape[0], right.shape[1]), np.int64)
    high = low.copy()
    for start in range(0, left.shape[1], 64):
        block, other = left[:, start : start + 64], right[start : start + 64].astype(np.float64)
        low += ((block & 0xFFFF).astype(np.float64) @ other).astype(np.int64)
        high += ((block >> 16).astype(np.float64) @ other).astype(np.int64) % PRIME
    found: Integers = ((high % PRIME << 16) + low) % PRIME
    return found


def interpolation(at: Integers, to: Integers) -> Integers:
    """Lagrange's matrix, shape (len(to), len(at)): from values at points to values at others."""
    weights = np.ones((len(to), len(at)), np.int64)
    for i, x in enumerate(at.tolist()):
        bottom = 1
        for y in at.tolist():
            if y != x:
                weights[:, i] = weights[:, i] * ((to - y) % PRIME) % PRIME
                bottom = bottom * (x - y) % PRIME
        weights[:, i] = weights[:, i] * pow(bottom, -1, PRIME) % PRIME
    return weights


def uniform(count: int) -> Integers:
    """Integers uniform in 0..PRIME-1, shape (count,)."""
    drawn = np.zeros(0, np.uint32)
    while len(drawn) < count:
        words = np.frombuffer(os.urandom(4 * count), "<u4") & np.uint32(PRIME)
        drawn = np.concatenate([drawn, words[words < PRIME]])
    return drawn[:count].astype(np.int64)


def matrix(context: bytes, dimension: int, secret: int) -> Integers:
    """The public A of a round, shape (dimension, secret), from its context.

    PRIME itself, once in 2^31 entries, stands for 0.
    """
    words = keystream(hkdf(context, b"one shot matrix"), dimension * secret, 32)
    return (words & np.uint32(PRIME)).astype(np.int64).reshape(dimension, secret) % PRIME


# Who opens.


@dataclass(frozen=True)
class Committee:
    """How a secret is cut, so that colluders learn nothing and two sums are never opened.

    Attributes:
      size: C, members.
      colluders: c, corrupt phones, all of which may be members.
    """

    size: int
    colluders: int

    @property
    def quorum(self) -> int:
        """T, answers that open: two lists of phones would need more than C + c answers."""
        return (self.size + self.colluders) // 2 + 1

    @property
    def packed(self) -> int:
        """Values that one polynomial of degree T - 1 holds while c shares of it are uniform."""
        return self.quorum - self.colluders

    @property
    def xs(self) -> Integers:
        """Where members hold their shares."""
        return np.arange(1, self.size + 1)

    @property
    def _inside(self) -> Integers:
        """Where the packed values stand, then the random ones."""
        return PRIME - np.arange(1, self.quorum + 1)

    @functools.cached_property
    def _sharing(self) -> Integers:
        """From packed and random values to shares, shape (C, T)."""
        return interpolation(self._inside, self.xs)

    def share(self, secret: Integers) -> Integers:
        """Shares a secret, shape (C, polynomials)."""
        columns = -(-len(secret) // self.packed)
        values = uniform(self.quorum * columns).reshape(self.quorum, columns)
        padded = np.zeros(self.packed * columns, np.int64)
        padded[: len(secret)] = secret
        values[: self.packed] = padded.reshape(columns, self.packed).T
        return product(self._sharing, values)

    def open(self, places: Integers, shares: Integers, length: int) -> Integers:
        """Opens what T or more members hold; raises if their shares are not of one polynomial.

        Raises:
          ValueError: if too few answered, or somebody's share is wrong.
        """
        if len(places) < self.quorum:
            raise ValueError(f"{self.quorum} members must answer, got {len(places)}")
        xs, t = self.xs[places], self.quorum
        if (product(interpolation(xs[:t], xs[t:]), shares[:t]) != shares[t:]).any():
            raise ValueError("a share of a member or of a phone is wrong")
        values = product(interpolation(xs[:t], self._inside[: self.packed]), shares[:t])
        return values.T.reshape(-1)[:length]


# One message of each phone, one answer of each member.


@dataclass(frozen=True)
class Round:
    """What everybody knows of a round.

    Attributes:
      context: 32 bytes.
      bits: of the ring.
      a: the public matrix.
      committee: who opens.
      keys: the members' public keys.
    """

    context: bytes
    bits: int
    a: Integers
    committee: Committee
    keys: list[bytes]

    def encode(self, vector: NDArray[np.uint32]) -> Integers:
        """The ring's integers, spread over 0..PRIME-1; sums wrap as the ring does."""
        spread = vector.astype(np.int64) * PRIME + (1 << self.bits - 1) >> self.bits
        return spread % PRIME

    def decode(self, noisy: Integers) -> NDArray[np.uint32]:
        """The nearest integers of the ring."""
        return (((noisy << self.bits) + PRIME // 2) // PRIME % (1 << self.bits)).astype(np.uint32)

    def info(self, phone: int, member: int) -> bytes:
        """What a sealed share is for."""
        return b"one shot share" + self.context + phone.to_bytes(8, "big") + bytes([member])

    def statement(self, phone: int, key: bytes, masked: Integers) -> bytes:
        """What a phone signs."""
        digest = hashlib.sha256(masked.astype("<u4").tobytes()).digest()
        return b"one shot" + self.context + phone.to_bytes(8, "big") + key + digest


@dataclass(frozen=True)
class Sent:
    """What a phone sends: everything it ever sends."""

    phone: int
    key: bytes
    masked: Integers
    sealed: list[bytes]
    signature: bytes

    @property
    def num_bytes(self) -> int:
        """Four bytes a coordinate, the sealed shares, number, key and signature."""
        return 4 * len(self.masked) + sum(map(len, self.sealed)) + 8 + 32 + 64


def send(
    phone: int,
    vector: NDArray[np.uint32],
    of: Round,
    identities: IdentityDirectory,
    primitives: Primitives,
) -> Sent:
    """Masks a vector and shares the secret of its mask."""
    secret = uniform(of.a.shape[1])
    noise = DiscreteGaussian.of(STDDEV).draw(Keystream(os.urandom(32)), len(vector))
    masked = (product(of.a, secret[:, None])[:, 0] + noise + of.encode(vector)) % PRIME
    private = X25519PrivateKey.generate()
    key = public_key(private)
    infos = [of.info(phone, member) for member in range(of.committee.size)]
    shares = of.committee.share(secret).astype("<u4")
    keys = primitives.agree(private, key, of.keys, infos)
    sealed = [seal(k, share.tobytes(), i) for k, share, i in zip(keys, shares, infos, strict=True)]
    signature = identities.identity(phone).sign(of.statement(phone, key, masked))
    return Sent(phone, key, masked, sealed, signature)


def answer(
    member: int,
    private: X25519PrivateKey,
    sent: list[Sent],
    of: Round,
    identities: IdentityDirectory,
    primitives: Primitives,
) -> Integers:
    """Adds up what phones sealed for one member, shape (polynomials,): its only answer.

    Raises:
      ValueError: if a phone did not sign, or left nothing that opens.
    """
    total = np.zeros(1, np.int64)
    infos = [of.info(one.phone, member) for one in sent]
    keys = primitives.agree(private, of.keys[member], [one.key for one in sent], infos)
    for one, key, info in zip(sent, keys, infos, strict=True):
        said = of.statement(one.phone, one.key, one.masked)
        if not primitives.verify(identities.public(one.phone), said, one.signature):
            raise ValueError(f"phone {one.phone} did not sign")
        share = unseal(key, one.sealed[member], info)
        if share is None:
            raise ValueError(f"phone {one.phone} left nothing that opens")
        total = total + np.frombuffer(share, "<u4")
    return total % PRIME


def open_sum(
    sent: list[Sent], places: Integers, answers: Integers, of: Round
) -> NDArray[np.uint32]:
    """Takes the sum of all masks off the sum of all masked vectors."""
    masked = np.sum([one.masked for one in sent], axis=0) % PRIME
    secret = of.committee.open(places, answers, of.a.shape[1])
    return of.decode((masked - product(of.a, secret[:, None])[:, 0]) % PRIME)


def play(
    phones: int, dimension: int, bits: int, committee: Committee, secret: int, gone: int
) -> dict[str, Any]:
    """Plays one round; returns what it cost, if its sum is exact.

    In `simulated_s` the matrix and the members' signatures are computed once for all phones.

    Args:
      phones: that send.
      dimension: coordinates.
      bits: of the ring.
      committee: that opens.
      secret: coordinates of the secret.
      gone: members that do not answer.
    """
    identities = IdentityDirectory(os.urandom(32), b"one shot", phones + committee.size)
    vectors = np.random.default_rng(0).integers(0, 1 << bits, (phones, dimension), np.uint32)
    privates = [X25519PrivateKey.generate() for _ in range(committee.size)]
    keys = [public_key(private) for private in privates]
    context = hashlib.sha256(b"".join(keys)).digest()
    a, expanding = _timed(lambda: matrix(context, dimension, secret), times=5)
    of = Round(context, bits, a, committee, keys)
    signed = [identities.identity(phones + at).sign(key) for at, key in enumerate(keys)]
    publics = [identities.public(phones + at) for at in range(committee.size)]
    rows = list(zip(publics, keys, signed, strict=True))
    _, checking = _timed(lambda: [verify(*row) for row in rows], times=5)
    for phone in range(phones):
        identities.public(phone)
    members = np.arange(gone, committee.size)

    def all_send(primitives: Primitives) -> list[Sent]:
        return [send(p, vectors[p], of, identities, primitives) for p in range(phones)]

    def answers_of(members: Integers, primitives: Primitives) -> Integers:
        told = [answer(m, privates[m], sent, of, identities, primitives) for m in members.tolist()]
        return np.array(told)

    committee.share(np.zeros(secret, np.int64))  # makes its tables, once in a process
    shared = SharedPrimitives()
    _, alone = _timed(lambda: all_send(Primitives()))
    sent, together = _timed(lambda: all_send(shared))
    _, one_answers = _timed(lambda: answers_of(members[:1], Primitives()))
    answers, answering = _timed(lambda: answers_of(members, shared))
    total, opening = _timed(lambda: open_sum(sent, members, answers, of))
    if not np.array_equal(total, ring_sum(vectors, bits)):
        raise AssertionError("the sum is wrong")
    phone = expanding + checking + alone / phones
    return {
        "phone_ms": 1e3 * phone,
        "member_ms": 1e3 * one_answers,
        "server_ms": 1e3 * opening,
        "all_s": phones * phone + committee.size * one_answers + opening,
        "simulated_s": expanding + checking + together + answering + opening,
        "phone_bytes_sent": sent[0].num_bytes,
        "phone_bytes_received": committee.size * (8 + 32 + 64),
        "member_bytes_received": phones * (8 + 32 + 32 + 64 + len(sent[0].sealed[0])),
    }


def _timed(call: Callable[[], Any], times: int = 1) -> tuple[Any, float]:
    """What a call returns, and its CPU seconds: the median of several."""
    seconds = []
    for _ in range(times):
        started = time.process_time()
        found = call()
        seconds.append(time.process_time() - started)
    return found, statistics.median(seconds)


def play_masked(phones: int, dimension: int, bits: int, colluders: int) -> dict[str, Any]:
    """The protocol of the house: one phone that computes everything itself, among many.

    `all_s` is that of all phones, the server's own work left out; `simulated_s` is a session whose
    phones share what both ends of an edge compute.
    """
    spent = 0.0

    class Alone(Phone):
        """Phone 0 shares no computation, and its time is taken."""

        def __init__(self, number: int, *arguments: Any) -> None:
            """Takes primitives of its own."""
            *others, primitives, random = arguments
            super().__init__(number, *others, primitives if number else Primitives(), random)

    def timed(name: str) -> Callable[..., Any]:
        def call(self: Alone, *arguments: Any) -> Any:
            nonlocal spent
            found, seconds = _timed(lambda: getattr(Phone, name)(self, *arguments))
            if self.number == 0:
                spent += seconds
                if name == "mask":
                    words = np.zeros(dimension, np.uint16 if bits <= 16 else np.uint32)
                    spent += _timed(lambda: Primitives().add_masks([words], [found[1]]))[1]
            return found

        return call

    for name in ("advertise", "accept", "share", "mask", "agree", "unmask"):
        setattr(Alone, name, timed(name))
    vectors = dict.fromkeys(range(phones), np.zeros(dimension, np.uint32))
    terms = SessionTerms(
        round_id=os.urandom(16), round=0, dimension=dimension, bits=bits, min_cohort=2,
        min_reporting=2, colluders=colluders, dropped_share=0.15,
    )  # fmt: skip
    identities = IdentityDirectory(os.urandom(32), b"one shot", phones)
    with mock.patch.object(session, "Phone", Alone):
        opened, seconds = _timed(
            lambda: session.sum_vectors(
                vectors, terms=terms, purpose=bytes(32), identities=identities,
                primitives=SharedPrimitives(),
            )
        )  # fmt: skip
    parameters = opened.context.parameters
    stages = bytes_per_phone(phones, parameters, dimension, bits).values()
    return {
        "phone_ms": 1e3 * spent,
        "all_s": phones * spent,
        "simulated_s": seconds - spent,
        "neighbors": parameters.neighbors,
        "phone_bytes_sent": sum(sent for sent, _ in stages),
        "phone_bytes_received": sum(received for _, received in stages),
    }


# Estimates.


def block_size(secret: int, log2_q: float, stddev: float) -> int:
    """The block size of BKZ at which the primal attack finds s, any number of samples allowed.

    Albrecht, Goepfert, Virdia, Wunderer 2017 (ePrint 2017/815), Equation 2 (from ADPS16, ePrint
    2015/1092): stddev sqrt(beta) <= delta^(2 beta - d - 1) q^(m / d), d = m + n + 1, with s as
    short as e (a uniform s becomes that for n samples more).
    """
    m = np.arange(secret // 2, 6 * secret, 4)
    d = m + secret + 1
    low, high = 50, 4 * secret
    while low < high:
        beta = (low + high) // 2
        root = math.log((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e))
        right = (2 * beta - d - 1) * root / (2 * (beta - 1)) + m / d * log2_q * math.log(2)
        if (math.log(stddev * math.sqrt(beta)) <= right).any():
            high = beta
        else:
            low = beta + 1
    return low


def error_bound(phones: int, dimension: int) -> float:
    """What no coordinate of a sum's error passes, but with probability `WRONG`.

    P[|sum of n discrete Gaussians| > t] <= 2 exp(-t^2 / (2 n stddev^2)) for each coordinate; half a
    unit a phone of rounding.
    """
    tail = math.sqrt(2 * math.log(2 * dimension / WRONG))
    return tail * STDDEV * math.sqrt(phones) + phones / 2


def modulus_bits(bits: int, phones: int, dimension: int) -> float:
    """log2 of the smallest q under which sums of a ring of this width are right."""
    return bits + 1 + math.log2(error_bound(phones, dimension) + 1)


def widest_ring(secret: int, phones: int, dimension: int) -> int:
    """Widest ring whose modulus leaves `SECURITY` bits of core-SVP; errors hinted at by their sum.

    Who knows the sum of two errors knows each up to a discrete Gaussian of stddev / sqrt(2).
    """
    width = 0
    while width < 32:
        q = modulus_bits(width + 1, phones, dimension)
        if 0.292 * block_size(secret, q, STDDEV / math.sqrt(2)) < SECURITY:
            break
        width += 1
    return width


def corrupt_at_most(population: int, corrupt: int, size: int, log2_bound: float) -> int:
    """Colluders in a committee drawn by chance, but with probability 2^log2_bound."""

    def choose(n: int, k: int) -> int:
        return math.comb(n, k) if 0 <= k <= n else 0

    ways, tail = math.comb(population, size), 0
    for x in range(size, -1, -1):
        tail += choose(corrupt, x) * choose(population - corrupt, size - x)
        if tail and math.log2(tail) - math.log2(ways) > log2_bound:
            return x
    return 0


def too_few_answer(committee: Committee, rate: float) -> float:
    """Probability that fewer than T of C members answer, each gone with this probability."""
    c = committee.size
    return sum(math.comb(c, k) * (1 - rate) ** k * rate ** (c - k) for k in range(committee.quorum))


def print_estimates(phones: int, dimension: int) -> None:
    """Prints parameters, what they are estimated at, and what a committee withstands."""
    q = math.log2(PRIME)
    for what, stddev in (("alone", STDDEV), ("sum of errors known", STDDEV / math.sqrt(2))):
        beta = block_size(SECRET, q, stddev)
        print(f"n = {SECRET}, log2 q = {q:.0f}, stddev {stddev:.1f} ({what}): beta {beta}, "
              f"core-SVP {0.292 * beta:.0f} bits, quantum {0.265 * beta:.0f}")  # fmt: skip
    print("\nwidest ring with 128 bits of core-SVP")
    print("phones      " + "".join(f"n = {n:<8,}" for n in (1024, 1280, 1536, 2048)))
    for count in (phones, 1_000, 10_000):
        widths = [widest_ring(n, count, dimension) for n in (1024, 1280, 1536, 2048)]
        print(f"{count:<12,}" + "".join(f"{width:<12}" for width in widths))
    print("\ncommittee of 100; corrupt  answers T  packed  fewer than T answer: 4 %, 20 %, 30 %")
    for corrupt in (0, 15, 30, 50, 80):
        them = Committee(100, corrupt)
        lost = [too_few_answer(them, rate) for rate in (0.04, 0.2, 0.3)]
        print(f"{corrupt:>23}{them.quorum:>11}{them.packed:>8}   "
              + ", ".join(f"{p:.0e}" for p in lost))  # fmt: skip
    print("\ndrawn by chance from 3,000: corrupt members at most, but with probability 2^-40")
    for share in (0.005, 0.05, 0.1, 0.2, 0.33):
        print(f"{share:>6.1%}  {corrupt_at_most(3000, round(3000 * share), 100, -40)}")


def main() -> None:
    """Prints the costs, or the estimates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=297)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--bits", type=int, default=16)
    parser.add_argument("--colluders", type=int, default=15)
    parser.add_argument("--estimates", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    phones, dimension, bits = options.phones, options.dimension, options.bits
    if options.estimates:
        print_estimates(phones, dimension)
        return
    committee = Committee(100, options.colluders)
    rows = {
        "one shot": play(phones, dimension, bits, committee, SECRET, gone=7),
        "masked": play_masked(phones, dimension, bits, options.colluders),
    }
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    for name, row in rows.items():
        print(name, ", ".join(f"{key} {value:,.1f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
