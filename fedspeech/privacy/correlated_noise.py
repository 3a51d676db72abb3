"""The server's noise of every round of a run, each row a function of one secret.

With C of integer coefficients K / 2^20, z_t fresh Gaussian noise and u_t the integers that the
ring sums in round t, the server publishes y_t = u_t + N_t, where

    N_t = round(z_t - sum_(i>=1) c_i N_(t-i)),

**What hides a phone.** From the y before, anybody can compute s_t = sum_(i>=1) c_i y_(t-i), and
y_t = round((C u)_t + z_t - s_t), because u_t is a whole number. So y_t is computed from
(C u)_t + z_t and from what was published, and all of them together from C u + z: the Gaussian
mechanism at the sensitivity of C (`factorization`), with u_t free to depend on y_0 ... y_(t-1)
(Denisov et al. 2022, Theorem 2.1). Rounding feeds back into the rows that follow, which is why it
needs no bound of its own: N = C^-1 (z + e) with |e| <= 1/2. Noise is added to whole numbers only,
and z_t, rounded about any center, is drawn exactly (`mechanisms.rounded_gaussian`).

**Rounds without a release.** Row t belongs to the round of index t, whatever became of it. A round
that was abandoned has a row that nobody sees; what others see is then a part of all y, which costs
no more. If the row went to the next round that completes instead, two rounds of a phone that are b
rounds apart would stand on rows nearer than b, and the sensitivity would be another one.

**Rounds that were interrupted.** A row is drawn from the secret and the index alone, so a resumed
run takes back the noise that was published and none other. Were earlier rows drawn anew, y_t would
hold noise of an independent run beside x_t: a mechanism that nobody has priced. No index is ever
used for two sums, whose difference would be without noise: the ledger refuses a second charge.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import deque

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.privacy.factorization import GRID, GRID_BITS, inverse
from fedspeech.privacy.mechanisms import rounded_gaussian
from fedspeech.privacy.sizing import PlanSizing
from fedspeech.seeds import Keystream, canonical

SECRET_BYTES = 32


class CorrelatedNoise:
    """The rows of a run. Printing it shows nothing of them; it keeps the last ones as it goes.

    Raises:
      ValueError: if the plan has no factorization, or the secret is too short.
    """

    def __init__(self, plan: PlanSizing, secret: bytes) -> None:
        """Draws nothing yet."""
        if plan.factorization is None:
            raise ValueError(f"mechanism {plan.mechanism!r} has no noise of other rounds")
        fits = len(secret) == SECRET_BYTES
        require(fits, f"a secret must have {SECRET_BYTES} bytes", length=len(secret))
        self._secret = secret
        self._plan = plan
        self._coefficients = plan.factorization.coefficients
        # The last row first; integers, since a row of floats would lose what is taken back.
        self._rows: deque[NDArray[np.int64]] = deque(maxlen=max(1, len(self._coefficients) - 1))
        self._next = 0
        self._weights = inverse(self._coefficients, plan.rounds)

    @classmethod
    def fresh(cls, plan: PlanSizing) -> CorrelatedNoise:
        """Noise of a secret from the operating system that nobody keeps."""
        return cls(plan, os.urandom(SECRET_BYTES))

    @property
    def commitment(self) -> str:
        """Names the secret and does not tell it, hex."""
        return self._derived("commitment", 0).hex()

    def row(self, round_number: int) -> NDArray[np.int64]:
        """The noise of a round, from 0, shape (padded dimension,); the same at every call.

        A row needs those before it: they are drawn again where they are not at hand.

        Raises:
          ValueError: if the plan has no such round.
        """
        known = 0 <= round_number < self._plan.rounds
        require(known, f"the plan has {self._plan.rounds} rounds", round=round_number)
        if round_number < self._next - 1:  # behind what is kept
            self._rows.clear()
            self._next = 0
        while self._next <= round_number:
            self._rows.appendleft(self._drawn(self._next))
            self._next += 1
        return self._rows[0].copy()

    def _drawn(self, round_number: int) -> NDArray[np.int64]:
        """The row after those that are kept."""
        taken_back = np.zeros(self._plan.padded_dimension, dtype=np.int64)
        for coefficient, row in zip(self._coefficients[1:], self._rows, strict=False):
            taken_back += coefficient * row
        # Whole numbers go past the Gaussian untouched; it sees the fraction alone, which is exact.
        whole, rest = taken_back >> GRID_BITS, taken_back & (GRID - 1)
        stream = Keystream(self._derived("server noise", round_number))
        return rounded_gaussian(stream, self._plan.server_stddev, -rest / GRID) - whole

    def _derived(self, purpose: str, number: int) -> bytes:
        # One block of the expand step of HKDF-SHA256 (RFC 5869).
        info = canonical("correlated noise", purpose, number) + b"\x01"
        return hmac.digest(self._secret, info, hashlib.sha256)

    def variance(self, round_number: int) -> float:
        """Variance of a round's noise, over that of what it draws afresh."""
        own = self._weights[: round_number + 1]
        return float(own @ own)

    def added(self, weights: NDArray[np.float64], round_number: int) -> NDArray[np.float64]:
        """How much fresh noise of each round a sum of rows holds with one row more.

        Args:
          weights: of the sum so far, shape (rounds,); empty: of no rows.
          round_number: of the row that joins, from 0.
        """
        found = np.zeros(self._plan.rounds) if not weights.size else weights.copy()
        found[: round_number + 1] += self._weights[round_number::-1]
        return found

    def __repr__(self) -> str:
        """Shows how far it has got."""
        return f"CorrelatedNoise(<{self._next} rounds>)"
