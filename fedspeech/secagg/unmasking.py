"""From the shares that phones gave to the masks that are still on the sum.

A reporting phone's own mask comes from its seed; a dropped phone's mask key gives the masks that
its surviving neighbors put on for it. Two checks keep a malicious phone from a wrong sum: a seed
must fit its commitment, and a mask key its public key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedspeech.errors import ProtocolAbort
from fedspeech.secagg import shamir
from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import public_key
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import Bytes, Context, Indices, commitment_to, mask_info

SignedMasks = list[tuple[bytes, bool]]  # keys, and whether their masks are added or taken off


@dataclass(frozen=True, eq=False, kw_only=True)
class Unmasking:
    """One session at its last stage; all tables are by place in the cohort list.

    Attributes:
      commitments: to the seeds of those who shared, shape (n, 32).
      shared: who shared, shape (n,), bool.
      alive: whose vector is in the sum, shape (n,), bool.
    """

    context: Context
    graph: Graph
    commitments: Bytes
    shared: NDArray[np.bool_]
    alive: NDArray[np.bool_]

    def masks(
        self, answered: NDArray[np.bool_], shares: NDArray[np.uint32], primitives: Primitives
    ) -> SignedMasks:
        """The masks that lead from the masked sum to the sum.

        Args:
          answered: who gave shares, shape (n,).
          shares: of each neighbor, shape (n, k, 9).
          primitives: what to compute with.

        Raises:
          ProtocolAbort: if a phone's secret cannot be put together, or is not the one it committed
            to: then some phone lied and there is no sum.
        """
        alive, neighbors = self.alive, self.graph.neighbors
        # A phone that dropped out without a surviving neighbor left no mask on the sum.
        needed = alive | (self.shared & alive[neighbors].any(axis=1))
        masks: SignedMasks = []
        for place, secret in self._secrets(np.flatnonzero(needed), answered, shares).items():
            if alive[place]:
                if commitment_to(secret) != self.commitments[place].tobytes():
                    raise self._lied(place, "seed does not fit its commitment")
                masks.append((secret, False))
            else:
                masks += self._edges(place, secret, primitives)
        return masks

    def _secrets(
        self, owners: Indices, answered: NDArray[np.bool_], shares: NDArray[np.uint32]
    ) -> dict[int, bytes]:
        """Puts each owner's secret together from the first t shares that came, by cohort place."""
        t = self.context.parameters.threshold
        neighbors, places = self.graph.neighbors[owners], self.graph.places[owners]
        there = answered[neighbors]
        counts = there.sum(axis=1)
        if counts.size and counts.min() < t:
            phone = self.context.cohort_list.members.ids[owners[int(counts.argmin())]]
            raise ProtocolAbort(
                f"unmask: {t} shares are needed for phone {phone}, {counts.min()} came"
            )
        first = np.sort(np.argsort(~there, axis=1, kind="stable")[:, :t], axis=1)
        chosen = np.take_along_axis(neighbors, first, axis=1)
        columns = np.take_along_axis(places, first, axis=1)
        try:
            limbs = shamir.reconstruct(first, shares[chosen, columns])
            return {
                int(owner): shamir.from_limbs(row) for owner, row in zip(owners, limbs, strict=True)
            }
        except ValueError as error:
            raise ProtocolAbort(f"unmask: shares that make no secret: {error}") from None

    def _edges(self, place: int, secret: bytes, primitives: Primitives) -> SignedMasks:
        """The masks that a dropped phone's surviving neighbors put on, to be taken off."""
        private, cohort_list = X25519PrivateKey.from_private_bytes(secret), self.context.cohort_list
        if (public := public_key(private)) != cohort_list.mask_rows[place]:
            raise self._lied(place, "mask key does not fit its public key")
        own = cohort_list.id_rows[place]
        living = [int(other) for other in self.graph.neighbors[place] if self.alive[other]]
        others = [cohort_list.id_rows[other] for other in living]
        infos = [mask_info(self.context.digest, *sorted((own, other))) for other in others]
        publics = [cohort_list.mask_rows[other] for other in living]
        try:
            keys = primitives.agree(private, public, publics, infos)
        except ProtocolAbort as error:
            raise ProtocolAbort(f"unmask: {error}") from None
        # A later phone took off the mask that it shares with an earlier one.
        return [(key, other > own) for key, other in zip(keys, others, strict=True)]

    def _lied(self, place: int, how: str) -> ProtocolAbort:
        phone = self.context.cohort_list.members.ids[place]
        return ProtocolAbort(f"unmask: phone {phone} or its neighbors lied: its {how}")
