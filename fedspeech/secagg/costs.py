"""What a session must cost: bytes by stage, operations by kind, and the primitives alone."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedspeech.secagg import keys, shamir
from fedspeech.secagg.graph import GraphParameters
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES
from fedspeech.secagg.masks import expand, word_type
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    ID_BYTES,
    ROUND_ID_BYTES,
    SEALED_BYTES,
    SHARE_BYTES,
)
from fedspeech.secagg.session import Opened
from fedspeech.secagg.shamir import LIMBS

LOOPS = 3000  # calls that one primitive is timed by; more are scaled up


def bytes_per_phone(
    num_phones: int, parameters: GraphParameters, dimension: int, bits: int
) -> dict[str, tuple[int, int]]:
    """Bytes that one phone sends and receives in each stage, without the transport's framing.

    Returns:
      For each stage (sent, received). Lists of phones count eight bytes a phone.
    """
    n, k = num_phones, parameters.neighbors
    advertisement = ID_BYTES + 2 * KEY_BYTES + HASH_BYTES + SIGNATURE_BYTES
    nonce = 0 if parameters.complete else KEY_BYTES
    vector = dimension * -(-bits // 8)
    return {
        "advertise": (advertisement + nonce, ROUND_ID_BYTES + n * advertisement),
        "share": (k * SEALED_BYTES + HASH_BYTES + SIGNATURE_BYTES, n * nonce),
        "mask": (
            vector + SIGNATURE_BYTES,
            n * ID_BYTES + k * (SEALED_BYTES + HASH_BYTES + SIGNATURE_BYTES),
        ),
        "agree": (SIGNATURE_BYTES, n * ID_BYTES + k * SIGNATURE_BYTES),
        "unmask": (k * LIMBS * 4 + SIGNATURE_BYTES, n * (ID_BYTES + SIGNATURE_BYTES)),
    }


def operations(opened: Opened, signing: int, unmasking: int) -> dict[str, int]:
    """Counts what a session must compute if nothing is computed twice.

    Args:
      opened: a session without restarts.
      signing: reporting phones that signed both lists.
      unmasking: those of them that gave shares.
    """
    cohort_list, graph = opened.context.cohort_list.members.ids, opened.graph
    shared, alive = (
        np.isin(cohort_list, opened.sharers.ids),
        np.isin(cohort_list, opened.reporting.ids),
    )
    gone = shared & ~alive
    n, k = graph.neighbors.shape
    at, other = np.repeat(np.arange(n), k), graph.neighbors.reshape(-1)
    once = at < other
    sealing = int((once & (shared[at] | shared[other])).sum())
    masking = int((once & shared[at] & shared[other] & (alive[at] | alive[other])).sum())
    cut = int((gone[at] & alive[other]).sum())  # edges of dropped phones that the server takes off
    opening = int((alive[at] & shared[other]).sum())
    reporting = int(alive.sum())
    sharers = int(shared.sum())
    return {
        "key pairs": 2 * n + int(gone.sum()),
        "exchanges": sealing + masking,
        "derivations": int(shared.sum()) * k + masking,
        "seals": sharers * k,
        "unseals": opening,
        "signatures": n + sharers + reporting + signing + unmasking,
        "verifications": n + sharers + reporting + signing + unmasking,
        "splits": sharers,
        "joins": reporting + int(gone.sum()),
        "keystreams": masking + 2 * reporting + cut,
        "ring additions": opening + 2 * reporting + cut,
    }


def primitives_alone(
    counts: dict[str, int], parameters: GraphParameters, dimension: int, bits: int
) -> dict[str, float]:
    """CPU seconds of so many calls of each primitive in loops of their own."""
    secret, info = os.urandom(32), os.urandom(70)
    private = X25519PrivateKey.generate()
    public = keys.public_key(X25519PrivateKey.generate())
    identity = keys.Identity(os.urandom(32))
    statement = os.urandom(150)
    signature = identity.sign(statement)
    sealed = keys.seal(secret, bytes(SHARE_BYTES), info)
    # As many vectors as a session has, or as no cache holds: each mask goes onto others.
    words = np.zeros(dimension, word_type(bits))
    vectors = [words.copy() for _ in range(min(256, parameters.num_phones))]
    turns = itertools.cycle(vectors)
    limbs = np.zeros(2 * shamir.LIMBS, np.int64)
    k, t = parameters.neighbors, parameters.threshold
    batch = min(256, max(1, counts["joins"]))
    places = np.tile(np.arange(t), (batch, 1))
    shares = np.zeros((batch, t, shamir.LIMBS), np.uint32)

    def ring_addition() -> None:
        vector = next(turns)
        np.add(vector, words, out=vector)

    buffer = bytearray(1 << 18)

    def keystream() -> None:
        for _ in expand(secret, words.nbytes, buffer):
            pass

    calls: dict[str, tuple[Callable[[], object], int]] = {
        "key pairs": (lambda: keys.public_key(X25519PrivateKey.from_private_bytes(secret)), 1),
        "exchanges": (lambda: keys.exchange(private, public), 1),
        "derivations": (lambda: keys.hkdf(secret, info), 1),
        "seals": (lambda: keys.seal(secret, bytes(SHARE_BYTES), info), 1),
        "unseals": (lambda: keys.unseal(secret, sealed, info), 1),
        "signatures": (lambda: identity.sign(statement), 1),
        "verifications": (lambda: keys.verify(identity.public, statement, signature), 1),
        "splits": (lambda: shamir.share(limbs, t, k, os.urandom), 1),
        "joins": (lambda: shamir.reconstruct(places, shares), batch),
        "keystreams": (keystream, 1),
        "ring additions": (ring_addition, 1),
    }
    return {name: _seconds(*calls[name], count) for name, count in counts.items()}


def _seconds(call: Callable[[], object], per_call: int, count: int) -> float:
    """CPU seconds of `count` operations, from as many calls or from `LOOPS` scaled up."""
    loops = max(1, min(LOOPS, count // per_call))
    # The first call fills caches, such as the tables of `shamir`.
    call()
    started = time.process_time()
    for _ in range(loops):
        call()
    return (time.process_time() - started) / (loops * per_call) * count
