"""What an adversary who watches outcomes has learned: lower bounds on epsilon.

A lower bound is ln((p - delta) / q) for an event of probability p on one input and q on its
neighbor, with Clopper-Pearson limits. A sound claim is beaten with a probability under `RISK`; a
broken mechanism is beaten for certain.
"""

import hashlib
import math

import numpy as np
from scipy.stats import beta

from fedspeech.messages import RoundKey
from fedspeech.privacy import encoding
from fedspeech.seeds import NoiseEntropy, canonical

ENTROPY = NoiseEntropy.seeded(11, "distinguishers")
RISK = 1e-4


def audited_epsilon(scores_p, scores_q, thresholds, delta):
    """Best lower bound over events `score > t` and `score < t`, either input in either role."""
    tests = 4 * len(thresholds)
    n, risk = len(scores_p), RISK / (2 * tests)
    best = -math.inf
    for t in thresholds:
        for side in (1, -1):
            for one, other in ((scores_p, scores_q), (scores_q, scores_p)):
                hits = int((side * one > side * t).sum())
                misses = int((side * other > side * t).sum())
                low = beta.ppf(risk, hits, n - hits + 1) if hits else 0.0
                high = beta.ppf(1 - risk, misses + 1, n - misses) if misses < n else 1.0
                if low > delta:
                    best = max(best, math.log((low - delta) / high))
    return best


def send(plan, vector, *name):
    return plan.privatize(
        vector,
        rotation_seed=b"public",
        rounding=ENTROPY.keystream("round", *name),
        noise=ENTROPY.keystream("noise", *name),
    )


def turn(*names):
    """The key of a round of its own."""
    round_id = hashlib.sha256(canonical(*names)).digest()[:16]
    return RoundKey(round=0, attempt=0, round_id=round_id, context=bytes(32))


class Keyed:
    """An entropy whose keys are made of some of the names."""

    def __init__(self, kept):
        self._kept = kept

    def keystream(self, *names):
        return ENTROPY.keystream(*self._kept(*names))


class Silent:
    """A law of no noise at all."""

    def draw(self, keystream, num_values):
        return np.zeros(num_values, dtype=np.int64)


def clip_after_noise(plan, vector, *, rotation_seed, rounding, noise, clip_norm=None):
    """The right pieces in the wrong order: what is clipped has its noise already."""
    drawn = plan.noise_distribution.of(plan.stddev).draw(noise, plan.padded_dimension)
    noisy = encoding.rotate(vector, rotation_seed) * plan.scale + drawn
    noisy *= min(1, plan.clip_norm * plan.scale / np.linalg.norm(noisy))
    return encoding.to_ring(encoding.stochastic_round(noisy, rounding), plan.bits)
