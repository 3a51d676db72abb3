"""The server of one session: routes what it cannot read, opens the sum and nothing else.

Each method closes one stage and keeps what the phones get next. Messages that do not hold are left
out, like those of a phone that vanished; `ProtocolAbort` names the stage at which too few are left.
Two checks keep a lying phone from a wrong sum: a seed must fit its commitment, and a mask key its
public key.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedspeech.errors import CohortTooSmall, FedspeechError, ProtocolAbort
from fedspeech.secagg import shamir
from fedspeech.secagg.exchange import Inbox, Quorum
from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, Directory, is_weak, public_key
from fedspeech.secagg.masks import Words, cut, word_type
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    SEALED_BYTES,
    Bytes,
    Context,
    Indices,
    Members,
    Roster,
    SessionTerms,
    Stage,
    advertisement_statement,
    agreed_statement,
    bind,
    check_bytes,
    commitment_to,
    id_bytes,
    mask_info,
    masked_statement,
    rows,
    seed_statement,
    unmasked_statement,
)
from fedspeech.secagg.ring import RingVector


class NoncesMissing(ProtocolAbort):
    """Phones vanished after they had advertised; the session must restart without them.

    Attributes:
      present: phones that are still there.
    """

    def __init__(self, present: Indices, roster: int) -> None:
        """Says how many are missing."""
        super().__init__(f"advertise: {roster - len(present)} of {roster} nonces are missing")
        self.present = present


class Server:
    """One session, from the first advertisement to the sum.

    Args:
      terms: of the session, as the phones hold them.
      directory: identity keys.
      primitives: what it computes with.
    """

    def __init__(self, terms: SessionTerms, directory: Directory, primitives: Primitives) -> None:
        """Has heard nothing yet."""
        self._terms, self._directory, self._primitives = terms, directory, primitives
        self._total: Words = np.zeros(terms.dimension, word_type(terms.bits))
        self._arrived: dict[int, bytes] = {}
        self.stage = Stage.NONE  # the last one that was closed

    # Stage advertise.

    def close_roster(
        self,
        ids: Indices,
        seal_keys: Bytes,
        mask_keys: Bytes,
        commitments: Bytes,
        signatures: Bytes,
    ) -> Roster:
        """Makes the roster of all advertisements that hold.

        One that is not signed by its phone, or repeats a phone, key or commitment, is left out: the
        phones would refuse the whole roster for it. So is a key of low order, for which its
        neighbors would leave.

        Args:
          ids: phones, shape (m,), int64, in any order.
          seal_keys: shape (m, 32), uint8.
          mask_keys: shape (m, 32).
          commitments: shape (m, 32).
          signatures: shape (m, 64).

        Raises:
          CohortTooSmall: if fewer phones than the floor are left.
        """
        self._at(Stage.NONE)
        for name, column, width in (
            ("seal_keys", seal_keys, KEY_BYTES), ("mask_keys", mask_keys, KEY_BYTES),
            ("commitments", commitments, HASH_BYTES), ("signatures", signatures, SIGNATURE_BYTES),
        ):  # fmt: skip
            check_bytes(name, column, len(ids), width)
        kept: list[int] = []
        seen: set[bytes | int] = set()
        columns = [rows(column) for column in (seal_keys, mask_keys, commitments, signatures)]
        for place in np.argsort(ids, kind="stable").tolist():
            phone = int(ids[place])
            seal_key, mask_key, commitment, signature = (column[place] for column in columns)
            fresh = {phone, seal_key, mask_key, commitment}
            if phone < 0 or len(fresh) < 4 or fresh & seen:
                continue
            if is_weak(seal_key) or is_weak(mask_key):
                continue
            statement = advertisement_statement(
                self._terms.round_id, self._terms.round, phone, seal_key, mask_key, commitment
            )
            if self._holds(phone, statement, signature):
                seen |= fresh
                kept.append(place)
        if len(kept) < self._terms.min_cohort:
            raise CohortTooSmall(
                f"advertise: {len(kept)} phones joined, the plan's minimum is "
                f"{self._terms.min_cohort}"
            )
        self.roster = Roster(
            members=Members(ids[kept]),
            seal_keys=seal_keys[kept],
            mask_keys=mask_keys[kept],
            commitments=commitments[kept],
            signatures=signatures[kept],
        )
        self.stage = Stage.ADVERTISE
        return self.roster

    def bind(self, purpose: bytes) -> Context:
        """Fixes what the sum is for.

        Raises:
          ProtocolAbort: if there is no graph for so few phones.
        """
        self._at(Stage.ADVERTISE)
        context = bind(self._terms, purpose, self.roster)
        try:
            context.parameters  # noqa: B018  (computed here, to fail here)
        except ValueError as error:
            raise ProtocolAbort(f"advertise: no graph for the roster: {error}") from None
        self.context = context
        return context

    def close_nonces(self, ids: Indices, nonces: Bytes) -> tuple[bytes, ...]:
        """Collects the nonces; there are none where everybody is everybody's neighbor.

        Returns:
          All of them in the roster's order.

        Raises:
          NoncesMissing: if none came for a phone that fits its commitment. A nonce is never skipped
            or replaced: that would be a choice among graphs. One in the name of a phone that
            committed to another is not that phone's, and is not looked at.
        """
        self._at(Stage.ADVERTISE)
        if self.context.parameters.complete:
            nonces_in_order: tuple[bytes, ...] = ()
        else:
            check_bytes("nonces", nonces, len(ids), KEY_BYTES)
            told: dict[int, bytes] = {}
            commitments = rows(self.roster.commitments)
            for phone, nonce in zip(ids.tolist(), rows(nonces), strict=True):
                place = self.roster.members.place(phone)
                if place is not None and commitment_to(nonce) == commitments[place]:
                    told[phone] = nonce
            numbers = self.roster.members.ids.tolist()
            fits = [phone in told for phone in numbers]
            if not all(fits):
                raise NoncesMissing(self.roster.members.ids[fits], len(numbers))
            nonces_in_order = tuple(told[phone] for phone in numbers)
        self.graph: Graph = self.context.graph(nonces_in_order)
        self.stage = Stage.ACCEPT
        return nonces_in_order

    # Stage share.

    def close_shares(
        self, ids: Indices, sealed: Bytes, commitments: Bytes, signatures: Bytes
    ) -> Members:
        """Collects what phones sealed for their neighbors.

        Args:
          ids: phones that shared, shape (m,), int64.
          sealed: shape (m, k, 88), uint8.
          commitments: of their seeds, shape (m, 32).
          signatures: over them, shape (m, 64).

        Returns:
          The list of sharers, to be shown to all of them.

        Raises:
          ProtocolAbort: if fewer than the floor on survivors are left.
        """
        self._at(Stage.ACCEPT)
        self._floor("share", len(ids), self._terms.min_survivors)
        n, k = len(self.roster), self.context.parameters.neighbors
        if sealed.dtype != np.uint8 or sealed.shape != (len(ids), k, SEALED_BYTES):
            raise ProtocolAbort(f"share: expected sealed shares of shape ({len(ids)}, {k}, "
                                f"{SEALED_BYTES}), got {sealed.shape}")  # fmt: skip
        check_bytes("commitments", commitments, len(ids), HASH_BYTES)
        check_bytes("signatures", signatures, len(ids), SIGNATURE_BYTES)
        self._sealed = np.zeros((n, k, SEALED_BYTES), np.uint8)
        self._commitments = np.zeros((n, HASH_BYTES), np.uint8)
        self._seed_signatures = np.zeros((n, SIGNATURE_BYTES), np.uint8)
        held = np.zeros(n, dtype=bool)
        commitment_rows, signature_rows = rows(commitments), rows(signatures)
        for at, phone in enumerate(ids.tolist()):
            place = self.roster.members.place(phone)
            if place is None or held[place]:
                continue
            commitment = commitment_rows[at]
            statement = seed_statement(self.context.digest, id_bytes(phone), commitment)
            if self._holds(phone, statement, signature_rows[at]):
                held[place] = True
                self._sealed[place] = sealed[at]
                self._commitments[place] = commitments[at]
                self._seed_signatures[place] = signatures[at]
        self.sharers = Members(self.roster.members.ids[held])
        self._floor("share", len(self.sharers), self._terms.min_survivors)
        self.stage = Stage.SHARE
        return self.sharers

    def inbox(self, phone: int) -> Inbox:
        """What one phone gets before it masks."""
        place = self._place(phone)
        neighbors = self.graph.neighbors[place]
        return Inbox(
            sharers=self.sharers,
            sealed=self._sealed[neighbors, self.graph.places[place]],
            commitments=self._commitments[neighbors],
            signatures=self._seed_signatures[neighbors],
        )

    def sealed_for(self, ids: Indices) -> Bytes:
        """What was sealed for some phones, shape (m, k, 88), neighbors in the graph's order."""
        at = np.array([self._place(phone) for phone in ids.tolist()], dtype=np.int64)
        found: Bytes = self._sealed[self.graph.neighbors[at], self.graph.places[at]]
        return found

    def seed_commitments(self) -> tuple[Bytes, Bytes]:
        """Commitments of all sharers, shape (m, 32), and their signatures, shape (m, 64)."""
        at = [self._place(phone) for phone in self.sharers.ids.tolist()]
        return self._commitments[at], self._seed_signatures[at]

    # Stage mask.

    def add_masked(self, phone: int, words: Words, signature: bytes) -> bool:
        """Adds one masked vector to the sum; says whether it was one.

        Args:
          phone: that sent it.
          words: shape (dimension,), in the words of the ring.
          signature: over the list of sharers under which it was masked.
        """
        if self.stage != Stage.SHARE or phone in self._arrived:
            return False
        if self.sharers.place(phone) is None:
            return False
        if words.shape != self._total.shape or words.dtype != self._total.dtype:
            return False
        statement = masked_statement(self.context.digest, id_bytes(phone), self.sharers.digest)
        if not self._holds(phone, statement, signature):
            return False
        np.add(self._total, words, out=self._total)
        self._arrived[phone] = signature
        return True

    def close_masked(self) -> Members:
        """Ends the stage: whose vector has arrived is in the sum.

        Raises:
          ProtocolAbort: if fewer than the floor on survivors are left.
        """
        self._at(Stage.SHARE)
        self.stage = Stage.MASK
        self.survivors = Members(np.array(sorted(self._arrived), dtype=np.int64))
        self._floor("mask", len(self.survivors), self._terms.min_survivors)
        self._masked_signatures = np.zeros((len(self.roster), SIGNATURE_BYTES), np.uint8)
        for phone, signature in self._arrived.items():
            self._masked_signatures[self._place(phone)] = np.frombuffer(signature, np.uint8)
        return self.survivors

    def neighbors_signatures(self, phone: int) -> Bytes:
        """What the neighbors of one phone signed with their masked vectors, shape (k, 64)."""
        found: Bytes = self._masked_signatures[self.graph.neighbors[self._place(phone)]]
        return found

    def masked_signatures(self) -> Bytes:
        """What all survivors signed with their masked vectors, shape (m, 64)."""
        at = [self._place(phone) for phone in self.survivors.ids.tolist()]
        found: Bytes = self._masked_signatures[at]
        return found

    # Stage agree.

    def close_agreement(self, ids: Indices, signatures: Bytes) -> Quorum:
        """Collects signatures over the pair of lists.

        Args:
          ids: signers, shape (m,), int64.
          signatures: shape (m, 64), uint8.

        Raises:
          ProtocolAbort: if there are fewer than a quorum.
        """
        self._at(Stage.MASK)
        check_bytes("signatures", signatures, len(ids), SIGNATURE_BYTES)
        statement = agreed_statement(
            self.context.digest, self.sharers.digest, self.survivors.digest
        )
        told: dict[int, bytes] = {}
        for phone, signature in zip(ids.tolist(), rows(signatures), strict=True):
            known = self.survivors.place(phone) is not None and phone not in told
            if known and self._holds(phone, statement, signature):
                told[phone] = signature
        self._floor("agree", len(told), self.context.quorum)
        self.stage = Stage.AGREE
        signers = np.array(sorted(told), dtype=np.int64)
        joined = b"".join(told[phone] for phone in signers.tolist())
        table = np.frombuffer(joined, np.uint8).reshape(-1, SIGNATURE_BYTES)
        return Quorum(Members(signers), table)

    # Stage unmask.

    def open(self, ids: Indices, shares: NDArray[np.uint32], signatures: Bytes) -> RingVector:
        """Takes all masks off the sum.

        Args:
          ids: phones that unmasked, shape (m,), int64.
          shares: theirs, shape (m, k, 9), uint32.
          signatures: over them, shape (m, 64); the first row of a phone that it signed counts.

        Returns:
          The sum of the survivors' vectors, mod 2^bits, shape (dimension,), uint32.

        Raises:
          ProtocolAbort: if a phone's secret cannot be put together, or is not the one it committed
            to: then some phone lied and there is no sum.
        """
        self._at(Stage.AGREE)
        n, k = len(self.roster), self.context.parameters.neighbors
        if shares.dtype != np.uint32 or shares.shape != (len(ids), k, shamir.LIMBS):
            raise ProtocolAbort(f"unmask: expected shares of shape ({len(ids)}, {k}, "
                                f"{shamir.LIMBS}), got {shares.shape}")  # fmt: skip
        check_bytes("signatures", signatures, len(ids), SIGNATURE_BYTES)
        answered, by_place = np.zeros(n, dtype=bool), np.zeros((n, k, shamir.LIMBS), np.uint32)
        for at, (phone, signature) in enumerate(zip(ids.tolist(), rows(signatures), strict=True)):
            if self.survivors.place(phone) is None or answered[place := self._place(phone)]:
                continue
            statement = unmasked_statement(
                self.context.digest, id_bytes(phone), self.sharers.digest, self.survivors.digest,
                shares[at].tobytes(),
            )  # fmt: skip
            if self._holds(phone, statement, signature):
                answered[place], by_place[place] = True, shares[at]
        self._floor("unmask", int(answered.sum()), self.context.parameters.threshold)
        alive = np.isin(self.roster.members.ids, self.survivors.ids)
        shared = np.isin(self.roster.members.ids, self.sharers.ids)
        needed = alive | (shared & ~alive & alive[self.graph.neighbors].any(axis=1))
        secrets = self._secrets(np.flatnonzero(needed), answered, by_place)
        masks: list[tuple[bytes, bool]] = []
        for place, secret in secrets.items():
            if alive[place]:
                masks.append((self._seed(place, secret), False))
            else:
                masks += self._edges(place, secret, alive)
        self._primitives.add_masks([self._total], [masks])
        self.stage = Stage.UNMASK
        return cut(self._total, self._terms.bits).astype(np.uint32)

    def _secrets(
        self, owners: Indices, answered: NDArray[np.bool_], shares: NDArray[np.uint32]
    ) -> dict[int, bytes]:
        """Puts each owner's secret together from the first t shares that came, by roster place."""
        t = self.context.parameters.threshold
        neighbors, places = self.graph.neighbors[owners], self.graph.places[owners]
        there = answered[neighbors]
        counts = there.sum(axis=1)
        if counts.size and counts.min() < t:
            phone = self.roster.members.ids[owners[int(counts.argmin())]]
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

    def _seed(self, place: int, secret: bytes) -> bytes:
        """A survivor's seed, if it is the one that it committed to."""
        if commitment_to(secret) != self._commitments[place].tobytes():
            raise self._lied(place, "seed does not fit its commitment")
        return secret

    def _edges(
        self, place: int, secret: bytes, alive: NDArray[np.bool_]
    ) -> list[tuple[bytes, bool]]:
        """The masks that a dropped phone's surviving neighbors put on, to be taken off."""
        private = X25519PrivateKey.from_private_bytes(secret)
        roster = self.roster
        if (public := public_key(private)) != roster.mask_rows[place]:
            raise self._lied(place, "mask key does not fit its public key")
        own, others = roster.id_rows[place], self.graph.neighbors[place]
        living = [int(other) for other in others if alive[other]]
        infos, added = [], []
        for other in living:
            low, high = sorted((own, roster.id_rows[other]))
            infos.append(mask_info(self.context.digest, low, high))
            added.append(roster.id_rows[other] > own)  # that phone took it off
        publics = [roster.mask_rows[other] for other in living]
        try:
            keys = self._primitives.agree(private, public, publics, infos)
        except ProtocolAbort as error:
            raise ProtocolAbort(f"unmask: {error}") from None
        return list(zip(keys, added, strict=True))

    # Behind the stages.

    def _at(self, stage: Stage) -> None:
        """Refuses a step out of turn: stages are closed in order, and each once."""
        if self.stage != stage:
            raise ProtocolAbort(
                f"the session is past stage {self.stage.word}, and this step follows {stage.word}"
            )

    def _lied(self, place: int, how: str) -> ProtocolAbort:
        phone = self.roster.members.ids[place]
        return ProtocolAbort(f"unmask: phone {phone} or its neighbors lied: its {how}")

    def _place(self, phone: int) -> int:
        place = self.roster.members.place(phone)
        if place is None:
            raise ProtocolAbort(f"phone {phone} is not in the roster")
        return place

    def _holds(self, phone: int, statement: bytes, signature: bytes) -> bool:
        try:
            public = self._directory.public(phone)
        except FedspeechError:
            return False
        return self._primitives.verify(public, statement, signature)

    def _floor(self, stage: str, count: int, floor: int) -> None:
        if count < floor:
            raise ProtocolAbort(f"{stage}: {count} phones are left, and {floor} are needed")
