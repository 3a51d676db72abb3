"""The server of one session: routes what it cannot read, opens the sum and nothing else.

Each method closes one stage and keeps what the phones get next. Messages that do not hold are left
out, like those of a phone that vanished; `ProtocolAbort` names the stage at which too few are left.
What each column of a message holds, with shape and type, is said in `fedspeech.messages`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import CohortTooSmall, FedspeechError, ProtocolAbort
from fedspeech.secagg.exchange import Inbox, Quorum
from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import KEY_BYTES, SIGNATURE_BYTES, Directory, is_weak
from fedspeech.secagg.masks import Words, cut, word_type
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    COHORT_LIST_COLUMNS,
    HASH_BYTES,
    SEALED_BYTES,
    Bytes,
    CohortList,
    Context,
    Indices,
    Members,
    SessionTerms,
    Stage,
    advertisement_statement,
    agreed_statement,
    bind,
    check_bytes,
    commitment_to,
    id_bytes,
    masked_statement,
    rows,
    seed_statement,
    table,
    unmasked_statement,
)
from fedspeech.secagg.ring import RingVector
from fedspeech.secagg.shamir import LIMBS
from fedspeech.secagg.unmasking import Unmasking


class NoncesMissing(ProtocolAbort):
    """Phones vanished after they had advertised; the session must restart without them.

    Attributes:
      present: phones that are still there.
    """

    def __init__(self, present: Indices, cohort_list: int) -> None:
        super().__init__(
            f"advertise: {cohort_list - len(present)} of {cohort_list} nonces are missing"
        )
        self.present = present


class Server:
    """One session, from the first advertisement to the sum."""

    def __init__(self, terms: SessionTerms, directory: Directory, primitives: Primitives) -> None:
        self._terms, self._directory, self._primitives = terms, directory, primitives
        self._total: Words = np.zeros(terms.dimension, word_type(terms.bits))
        self._arrived: dict[int, bytes] = {}
        self.stage = Stage.NONE  # the last one that was closed

    # Stage advertise.

    def close_cohort_list(
        self,
        ids: Indices,
        seal_keys: Bytes,
        mask_keys: Bytes,
        commitments: Bytes,
        signatures: Bytes,
    ) -> CohortList:
        """Makes the cohort list of all advertisements that hold, from rows in any order.

        One that is not signed by its phone, or repeats a phone, key or commitment, is left out: the
        phones would refuse the whole cohort list for it. So is a key of low order, for which its
        neighbors would leave.

        Raises:
          CohortTooSmall: if fewer phones than the minimum are left.
        """
        self._at(Stage.NONE)
        columns = dict(
            zip(COHORT_LIST_COLUMNS, (seal_keys, mask_keys, commitments, signatures), strict=True)
        )
        for name, column in columns.items():
            check_bytes(name, column, len(ids), COHORT_LIST_COLUMNS[name])
        # By number, as the cohort list is: whose message came first does not decide who is left
        # out.
        kept: list[int] = []
        seen: set[bytes | int] = set()
        entries = [rows(column) for column in columns.values()]
        for place in np.argsort(ids, kind="stable").tolist():
            phone = int(ids[place])
            seal_key, mask_key, commitment, signature = (column[place] for column in entries)
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
        advertised = {name: column[kept] for name, column in columns.items()}
        self.cohort_list = CohortList(members=Members(ids[kept]), **advertised)
        self.stage = Stage.ADVERTISE
        return self.cohort_list

    def bind(self, purpose: bytes) -> Context:
        """Fixes what the sum is for.

        Raises:
          ProtocolAbort: if there is no graph for so few phones.
        """
        self._at(Stage.ADVERTISE)
        context = bind(self._terms, purpose, self.cohort_list)
        try:
            context.parameters  # noqa: B018  (computed here, to fail here)
        except ValueError as error:
            raise ProtocolAbort(f"advertise: no graph for the cohort list: {error}") from None
        self.context = context
        return context

    def close_nonces(self, ids: Indices, nonces: Bytes) -> tuple[bytes, ...]:
        """Returns all nonces in the list's order; none where everybody is everybody's neighbor.

        Raises:
          NoncesMissing: if none came for a phone that fits its commitment. A nonce is never skipped
            or replaced: that would be a choice among graphs. One in the name of a phone that
            committed to another is not that phone's, and is not looked at.
        """
        self._at(Stage.ADVERTISE)
        in_order: tuple[bytes, ...] = ()
        if not self.context.parameters.complete:
            check_bytes("nonces", nonces, len(ids), KEY_BYTES)
            told: dict[int, bytes] = {}
            members, commitments = self.cohort_list.members, rows(self.cohort_list.commitments)
            for phone, nonce in zip(ids.tolist(), rows(nonces), strict=True):
                place = members.place(phone)
                if place is not None and commitment_to(nonce) == commitments[place]:
                    told[phone] = nonce
            fits = [phone in told for phone in members.ids.tolist()]
            if not all(fits):
                raise NoncesMissing(members.ids[fits], len(members))
            in_order = tuple(told[phone] for phone in members.ids.tolist())
        self.graph: Graph = self.context.graph(in_order)
        self.stage = Stage.ACCEPT
        return in_order

    # Stage share.

    def close_shares(
        self, ids: Indices, sealed: Bytes, commitments: Bytes, signatures: Bytes
    ) -> Members:
        """Collects what phones sealed for their neighbors; returns the list of sharers.

        Raises:
          ProtocolAbort: if fewer than the minimum of reporting phones are left.
        """
        self._at(Stage.ACCEPT)
        self._minimum("share", len(ids), self._terms.min_reporting)
        self._require_rows("share: expected sealed shares", sealed, ids, np.uint8, SEALED_BYTES)
        check_bytes("commitments", commitments, len(ids), HASH_BYTES)
        digest, told = self.context.digest, rows(commitments)
        self.sharers, first = self._signed(
            ids,
            signatures,
            self.cohort_list.members,
            lambda row, phone: seed_statement(digest, phone, told[row]),
        )
        self._minimum("share", len(self.sharers), self._terms.min_reporting)
        self._sealed = self._by_place(self.sharers, sealed[first])
        self._commitments = self._by_place(self.sharers, commitments[first])
        self._seed_signatures = self._by_place(self.sharers, signatures[first])
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
        at = np.array(self._places(ids), dtype=np.int64)
        found: Bytes = self._sealed[self.graph.neighbors[at], self.graph.places[at]]
        return found

    def seed_commitments(self) -> tuple[Bytes, Bytes]:
        """Commitments of all sharers, shape (m, 32), and their signatures, shape (m, 64)."""
        at = self._places(self.sharers.ids)
        return self._commitments[at], self._seed_signatures[at]

    # Stage mask.

    def add_masked(self, phone: int, words: Words, signature: bytes) -> bool:
        """Adds one masked vector to the sum; says whether it was one."""
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
          ProtocolAbort: if fewer than the minimum of reporting phones are left.
        """
        self._at(Stage.SHARE)
        self.stage = Stage.MASK  # first: a vector that comes now would be in no list
        reporting = sorted(self._arrived)
        self.reporting = Members(np.array(reporting, dtype=np.int64))
        self._minimum("mask", len(self.reporting), self._terms.min_reporting)
        told = table([self._arrived[phone] for phone in reporting], SIGNATURE_BYTES)
        self._masked_signatures = self._by_place(self.reporting, told)
        return self.reporting

    def neighbors_signatures(self, phone: int) -> Bytes:
        """What the neighbors of one phone signed with their masked vectors, shape (k, 64)."""
        found: Bytes = self._masked_signatures[self.graph.neighbors[self._place(phone)]]
        return found

    def masked_signatures(self) -> Bytes:
        """What all reporting phones signed with their masked vectors, shape (m, 64)."""
        found: Bytes = self._masked_signatures[self._places(self.reporting.ids)]
        return found

    # Stage agree.

    def close_agreement(self, ids: Indices, signatures: Bytes) -> Quorum:
        """Collects signatures over the pair of lists.

        Raises:
          ProtocolAbort: if there are fewer than a quorum.
        """
        self._at(Stage.MASK)
        statement = agreed_statement(
            self.context.digest, self.sharers.digest, self.reporting.digest
        )
        signers, first = self._signed(ids, signatures, self.reporting, lambda *_: statement)
        self._minimum("agree", len(signers), self.context.quorum)
        self.stage = Stage.AGREE
        return Quorum(signers, signatures[first])

    # Stage unmask.

    def open(self, ids: Indices, shares: NDArray[np.uint32], signatures: Bytes) -> RingVector:
        """Takes all masks off the sum of the reporting phones' vectors, mod 2^bits.

        Returns:
          Shape (dimension,), uint32.

        Raises:
          ProtocolAbort: if a phone's secret cannot be put together, or is not the one it committed
            to: then some phone lied and there is no sum.
        """
        self._at(Stage.AGREE)
        self._require_rows("unmask: expected shares", shares, ids, np.uint32, LIMBS)
        digest, lists = self.context.digest, (self.sharers.digest, self.reporting.digest)
        givers, first = self._signed(
            ids,
            signatures,
            self.reporting,
            lambda row, phone: unmasked_statement(digest, phone, *lists, shares[row].tobytes()),
        )
        self._minimum("unmask", len(givers), self.context.parameters.threshold)
        cohort_list = self.cohort_list.members.ids
        unmasking = Unmasking(
            context=self.context,
            graph=self.graph,
            commitments=self._commitments,
            shared=np.isin(cohort_list, self.sharers.ids),
            alive=np.isin(cohort_list, self.reporting.ids),
        )
        # The vectors were added up as they came; what is left is to take their masks off.
        given, by_place = np.isin(cohort_list, givers.ids), self._by_place(givers, shares[first])
        masks = unmasking.masks(given, by_place, self._primitives)
        self._primitives.add_masks([self._total], [masks])
        self.stage = Stage.UNMASK
        return cut(self._total, self._terms.bits).astype(np.uint32)

    # Behind the stages.

    def _at(self, stage: Stage) -> None:
        """Refuses a step out of turn: stages are closed in order, and each once."""
        if self.stage != stage:
            raise ProtocolAbort(
                f"the session is past stage {self.stage.word}, and this step follows {stage.word}"
            )

    def _require_rows(
        self, what: str, value: NDArray[Any], ids: Indices, kind: type[np.generic], width: int
    ) -> None:
        """Refuses a table that has not one row of k entries for each phone."""
        shape = (len(ids), self.context.parameters.neighbors, width)
        if value.dtype != kind or value.shape != shape:
            raise ProtocolAbort(f"{what} of shape {shape}, got {value.shape}")

    def _signed(
        self,
        ids: Indices,
        signatures: Bytes,
        among: Members,
        statement: Callable[[int, bytes], bytes],
    ) -> tuple[Members, list[int]]:
        """Finds who of a list signed a row in its own name, and the first such row of each.

        Rows of strangers and rows that do not hold are left out: a liar can write any number into
        a row, and must not keep an honest phone's own row from counting.
        """
        check_bytes("signatures", signatures, len(ids), SIGNATURE_BYTES)
        found: dict[int, int] = {}
        for row, (phone, signature) in enumerate(zip(ids.tolist(), rows(signatures), strict=True)):
            if phone in found or among.place(phone) is None:
                continue
            if self._holds(phone, statement(row, id_bytes(phone)), signature):
                found[phone] = row
        members = Members(np.array(sorted(found), dtype=np.int64))
        return members, [found[phone] for phone in sorted(found)]

    def _by_place(self, members: Members, values: NDArray[Any]) -> NDArray[Any]:
        """Rows of some phones as a table over the cohort list, zeros in all others' places."""
        found = np.zeros((len(self.cohort_list), *values.shape[1:]), values.dtype)
        found[self._places(members.ids)] = values
        return found

    def _places(self, ids: Indices) -> list[int]:
        return [self._place(phone) for phone in ids.tolist()]

    def _place(self, phone: int) -> int:
        place = self.cohort_list.members.place(phone)
        if place is None:
            raise ProtocolAbort(f"phone {phone} is not in the cohort list")
        return place

    def _holds(self, phone: int, statement: bytes, signature: bytes) -> bool:
        try:
            public = self._directory.public(phone)
        except FedspeechError:
            return False
        return self._primitives.verify(public, statement, signature)

    def _minimum(self, stage: str, count: int, minimum: int) -> None:
        if count < minimum:
            raise ProtocolAbort(f"{stage}: {count} phones are left, and {minimum} are needed")
