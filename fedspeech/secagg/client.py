"""One phone in one session: five stages, each checked, each answered once.

The server is not trusted. A phone recomputes everything that it can (context, graph, threshold),
believes of the rest only what is signed, and leaves the session for good when a rule is broken:
every refusal erases its secrets. What it holds between stages is `Phone.save`, and
`Phone.restore` refuses a state older than what the phone has already done.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.secagg import shamir
from fedspeech.secagg.exchange import Advertisement, Inbox, Quorum, SealedShares
from fedspeech.secagg.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Directory,
    Secret,
    public_key,
    seal,
    unseal,
)
from fedspeech.secagg.masks import Masks, Words, cut, word_type
from fedspeech.secagg.phone_state import PhoneState, drawn_graph, private_key
from fedspeech.secagg.primitives import Primitives, SignedStatements
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    SEALED_BYTES,
    Bytes,
    CohortList,
    Context,
    Members,
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
    share_info,
    table,
    unmasked_statement,
)
from fedspeech.secagg.refusals import (
    BadSignature,
    CiphertextMissing,
    CohortBelowMinimum,
    CohortListNotMine,
    Malformed,
    NeighborsBelowThreshold,
    NoQuorum,
    ReportingInconsistent,
    SharersInconsistent,
)
from fedspeech.secagg.ring import RingVector


class Phone(PhoneState):
    """One phone in one session, stage by stage; the only implementation there is."""

    # Stage advertise.

    def advertise(self) -> Advertisement:
        """Makes the session's keys and says what they are."""
        with self._step(Stage.NONE, Stage.ADVERTISE):
            self._seal_key = Secret(self._random(KEY_BYTES))
            self._mask_key = Secret(self._random(KEY_BYTES))
            self._nonce = Secret(self._random(KEY_BYTES))
            seal_key = public_key(private_key(self._seal_key))
            mask_key = public_key(private_key(self._mask_key))
            commitment = commitment_to(bytes(self._nonce))
            terms = self._terms
            statement = advertisement_statement(
                terms.round_id, terms.round, self.number, seal_key, mask_key, commitment
            )
            self._mine = seal_key + mask_key + commitment
            return Advertisement(
                phone=self.number,
                seal_key=seal_key,
                mask_key=mask_key,
                commitment=commitment,
                signature=self._identity.sign(statement),
            )

    def accept(self, cohort_list: CohortList, purpose: bytes) -> bytes:
        """Takes the one cohort list and purpose of the session, and reveals the nonce for them.

        `purpose` is the hash of all else that must be alike, 32 bytes, recomputed by the caller.
        The nonce is 32 bytes; empty where everybody is everybody's neighbor.

        Raises:
          CohortListNotMine: if it lacks this phone's own advertisement.
          CohortBelowMinimum: if it is shorter than this phone's minimum.
          BadSignature, UnknownPhone: if an advertisement is not that of an enrolled phone.
          SecondAnswer: for a second cohort list.
        """
        with self._step(Stage.ADVERTISE, Stage.ACCEPT):
            terms = self._terms
            if not isinstance(cohort_list, CohortList):
                raise Malformed("expected a cohort list")
            if not isinstance(purpose, bytes) or len(purpose) != HASH_BYTES:
                raise Malformed(f"a purpose must be {HASH_BYTES} bytes")
            place = cohort_list.members.place(self.number)
            if place is None:
                raise CohortListNotMine(f"the cohort list lacks phone {self.number}")
            # Whoever puts other keys in this phone's name opens what its neighbors seal for it.
            shown = cohort_list.seal_rows[place] + cohort_list.mask_rows[place]
            if self._mine != shown + cohort_list.commitments[place].tobytes():
                raise CohortListNotMine(f"the cohort list shows other keys for phone {self.number}")
            if len(cohort_list) < terms.min_cohort:
                raise CohortBelowMinimum(
                    f"phone {self.number} takes part among at least {terms.min_cohort} phones, "
                    f"got {len(cohort_list)}"
                )
            context = bind(terms, purpose, cohort_list)
            try:
                complete = context.parameters.complete
            except ValueError as error:
                raise CohortBelowMinimum(
                    f"no graph for a cohort list of {len(cohort_list)}: {error}"
                ) from None
            if not self._primitives.verify_all(_advertised(context, self._directory)):
                raise BadSignature("an advertisement in the cohort list is not signed by its phone")
            self.context = context
            # Out only now that all commitments are fixed: nobody picks a nonce, and thereby a
            # graph, by those of others.
            return b"" if complete else bytes(self._nonce)

    # Stage share.

    def share(self, nonces: Sequence[bytes]) -> SealedShares:
        """Splits seed and mask key among the neighbors, each part sealed for one of them.

        Args:
          nonces: of all phones in the cohort list's order; none for the complete graph.

        Raises:
          NonceMismatch: if one is missing or is not what its phone committed to.
        """
        with self._step(Stage.ACCEPT, Stage.SHARE):
            context = self._bound
            if not isinstance(nonces, (tuple, list)) or not set(map(type, nonces)) <= {bytes}:
                raise Malformed("nonces must be a list of bytes")
            self.graph = drawn_graph(context, tuple(nonces))
            self._nonce.wipe()
            self._seed = Secret(self._random(KEY_BYTES))
            k, t = context.parameters.neighbors, context.parameters.threshold
            secrets = np.concatenate(
                [shamir.to_limbs(bytes(self._seed)), shamir.to_limbs(bytes(self._mask_key))]
            )
            shares = shamir.share(secrets, t, k, self._random)
            plain = rows(shares.astype("<u4").view(np.uint8))
            infos = [share_info(context.digest, self._own, other) for other in self._neighbors]
            keys = self._agree(self._seal_key, context.cohort_list.seal_rows, self._places, infos)
            sealed = [
                # The place decides at which x the share lies, so it is bound in too.
                seal(key, share, info + place.to_bytes(4, "big"))
                for place, (key, share, info) in enumerate(zip(keys, plain, infos, strict=True))
            ]
            # What was shared in clear is not left in memory for the rest of the session.
            shares[:] = 0
            secrets[:] = 0
            commitment = commitment_to(bytes(self._seed))
            statement = seed_statement(context.digest, self._own, commitment)
            return SealedShares(
                sealed=table(sealed, SEALED_BYTES),
                commitment=commitment,
                signature=self._identity.sign(statement),
            )

    # Stage mask.

    def mask(self, inbox: Inbox) -> tuple[bytes, Masks]:
        """Opens what the neighbors left, and says which masks its vector gets.

        Returns the signature to send with the vector, and the masks, which are secret; a simulator
        may apply those of many phones together.

        Raises:
          SharersInconsistent: if the list of sharers leaves out this phone or names a stranger.
          CohortBelowMinimum: if it is shorter than the minimum of reporting phones.
          NeighborsBelowThreshold: if too few neighbors stand in it.
          BadSignature: if a neighbor did not sign its commitment.
          CiphertextMissing: if a neighbor in it left nothing that opens.
        """
        with self._step(Stage.SHARE, Stage.MASK):
            if not isinstance(inbox, Inbox):
                raise Malformed("expected an inbox")
            context, sharers = self._bound, inbox.sharers
            self._check_sharers(context, sharers)
            k, t = context.parameters.neighbors, context.parameters.threshold
            check_bytes("sealed", inbox.sealed, k, SEALED_BYTES)
            check_bytes("commitments", inbox.commitments, k, HASH_BYTES)
            check_bytes("signatures", inbox.signatures, k, SIGNATURE_BYTES)
            present = self._present(sharers)
            if len(present) < t:
                raise NeighborsBelowThreshold(
                    f"at least {t} neighbors must have shared, got {len(present)}"
                )
            self._check_signed(
                present,
                rows(inbox.signatures),
                [
                    seed_statement(context.digest, other, commitment)
                    for other, commitment in zip(
                        self._neighbors, rows(inbox.commitments), strict=True
                    )
                ],
            )
            self._open_shares(present, rows(inbox.sealed))
            masks = self._masks(context, present)
            self.sharers = sharers
            statement = masked_statement(context.digest, self._own, sharers.digest)
            return self._identity.sign(statement), masks

    def _check_sharers(self, context: Context, sharers: Members) -> None:
        if not isinstance(sharers, Members) or not sharers.within(context.cohort_list.members):
            raise SharersInconsistent("the list of sharers names a phone outside the cohort list")
        if sharers.place(self.number) is None:
            raise SharersInconsistent(f"the list of sharers leaves out phone {self.number}")
        if len(sharers) < self._terms.min_reporting:
            raise CohortBelowMinimum(
                f"a phone masks among at least {self._terms.min_reporting} sharers, "
                f"got {len(sharers)}"
            )

    def _open_shares(self, present: list[int], sealed: list[bytes]) -> None:
        """Keeps what each neighbor sealed for this phone."""
        context, places = self._bound, self._back_places
        infos = [share_info(context.digest, self._neighbors[place], self._own) for place in present]
        others = [self._places[place] for place in present]
        keys = self._agree(self._seal_key, context.cohort_list.seal_rows, others, infos)
        held = np.zeros((len(self._places), 2 * shamir.LIMBS), np.uint32)
        opened = []
        for place, key, info in zip(present, keys, infos, strict=True):
            share = unseal(key, sealed[place], info + places[place].to_bytes(4, "big"))
            # Never passed over: a server that withholds what crosses two cuts of the ring would
            # else read the sum of the arc between them.
            if share is None:
                raise CiphertextMissing(
                    f"phone {self.neighbors[place]} is said to have shared, and left phone "
                    f"{self.number} nothing that opens"
                )
            opened.append(share)
        joined = np.frombuffer(b"".join(opened), dtype="<u4").reshape(len(present), -1)
        # Seen here it costs this phone alone; given on to the server it would end the round.
        if joined.size and int(joined.max()) >= shamir.PRIME:
            raise Malformed("a share must be below the prime of the field")
        held[present] = joined
        self._held = Secret(held.tobytes())

    def _masks(self, context: Context, present: list[int]) -> Masks:
        """The phone's own mask, and one per neighbor: added for later phones, else taken off."""
        others = [self._neighbors[place] for place in present]
        infos = [mask_info(context.digest, *sorted((self._own, other))) for other in others]
        places = [self._places[place] for place in present]
        keys = self._agree(self._mask_key, context.cohort_list.mask_rows, places, infos)
        own = bytes(self._seed)
        for spent in (self._mask_key, self._seal_key, self._seed):
            spent.wipe()
        # Both ends compare the same numbers, so the mask of an edge cancels in the sum.
        added = [other > self._own for other in others]
        return [(own, True), *zip(keys, added, strict=True)]

    # Stage agree.

    def agree(self, reporting: Members, signatures: Bytes) -> bytes:
        """Signs the one pair of lists that this phone will unmask for.

        A neighbor's share is given only if that neighbor itself masked under the same list of
        sharers: its own signature says so. `signatures` holds the neighbors', in the order of the
        graph, shape (k, 64); rows of neighbors that did not survive are not read.

        Raises:
          ReportingInconsistent: if the list is no part of the sharers or leaves out this phone.
          CohortBelowMinimum: if it is shorter than the minimum.
          BadSignature: if a surviving neighbor did not sign the same list of sharers.
        """
        with self._step(Stage.MASK, Stage.AGREE):
            context, sharers = self._bound, self.sharers
            assert sharers is not None
            if not isinstance(reporting, Members) or not reporting.within(sharers):
                raise ReportingInconsistent("the reporting phones must be some of those who shared")
            if reporting.place(self.number) is None:
                raise ReportingInconsistent(f"the reporting phones leave out phone {self.number}")
            if len(reporting) < self._terms.min_reporting:
                raise CohortBelowMinimum(
                    f"a sum has at least {self._terms.min_reporting} phones, got {len(reporting)}"
                )
            check_bytes("signatures", signatures, context.parameters.neighbors, SIGNATURE_BYTES)
            # A server that shows a neighbor another list of sharers could else open the vector of
            # that neighbor alone.
            self._check_signed(
                self._present(reporting),
                rows(signatures),
                [
                    masked_statement(context.digest, other, sharers.digest)
                    for other in self._neighbors
                ],
            )
            self.reporting = reporting
            self._choose_shares(sharers, reporting)
            return self._identity.sign(
                agreed_statement(context.digest, sharers.digest, reporting.digest)
            )

    def _choose_shares(self, sharers: Members, reporting: Members) -> None:
        """Keeps one share of each neighbor, the one to be given, and forgets the other."""
        held = np.frombuffer(self._held, np.uint32).reshape(-1, 2 * shamir.LIMBS)
        chosen = np.zeros((len(held), shamir.LIMBS), np.uint32)
        # One share of each neighbor stays, before the signature leaves: seed and mask key together
        # open the vector of one phone, and from here on nobody can get the other.
        alive = self._present(reporting)
        gone = sorted(set(self._present(sharers)).difference(alive))
        chosen[alive] = held[alive, : shamir.LIMBS]
        chosen[gone] = held[gone, shamir.LIMBS :]
        del held  # or its bytes could not be replaced
        self._held.wipe()
        self._held = Secret(chosen.tobytes())

    # Stage unmask.

    def unmask(self, quorum: Quorum) -> tuple[bytes, NDArray[np.uint32]]:
        """Gives, once, one share of each neighbor: of the seed if it survived, else of the key.

        Returns:
          A signature over the shares and both lists; and the shares, one row per neighbor in the
          order of the graph, shape (k, 9), zeros for neighbors that never shared.

        Raises:
          NoQuorum: if not more than half of the cohort list and the colluders signed.
          BadSignature: if one of the signatures is not over this phone's pair of lists.
        """
        with self._step(Stage.AGREE, Stage.UNMASK):
            context, sharers, reporting = self._bound, self.sharers, self.reporting
            assert sharers is not None
            assert reporting is not None
            if not isinstance(quorum, Quorum) or not isinstance(quorum.members, Members):
                raise Malformed("expected a quorum")
            if not quorum.members.within(reporting):
                raise NoQuorum("signatures must be those of reporting phones")
            check_bytes("signatures", quorum.signatures, len(quorum.members), SIGNATURE_BYTES)
            if len(quorum.members) < context.quorum:
                raise NoQuorum(
                    f"at least {context.quorum} reporting phones must have signed the same lists, "
                    f"got {len(quorum.members)}"
                )
            statement = agreed_statement(context.digest, sharers.digest, reporting.digest)
            if not self._primitives.verify_all(_agreed(self._directory, quorum, statement)):
                raise BadSignature(
                    "a reporting phone did not sign the lists that this phone signed"
                )
            shares = np.frombuffer(bytes(self._held), np.uint32).reshape(-1, shamir.LIMBS).copy()
            self.erase()  # before the answer: no path leads to a second one
            statement = unmasked_statement(
                context.digest, id_bytes(self.number), sharers.digest, reporting.digest,
                shares.tobytes(),
            )  # fmt: skip
            return self._identity.sign(statement), shares


def mask_vectors(
    vectors: Sequence[RingVector], masks: Sequence[Masks], primitives: Primitives, bits: int
) -> list[Words]:
    """Applies to each vector the masks that its phone named; the vectors are left as they are."""
    words = [vector.astype(word_type(bits)) for vector in vectors]
    primitives.add_masks(words, masks)
    return [cut(own, bits) for own in words]


@functools.lru_cache(maxsize=4)
def _advertised(context: Context, directory: Directory) -> SignedStatements:
    """Every phone's signature over its own advertisement."""
    publics = [directory.public(phone) for phone in context.cohort_list.members.ids.tolist()]
    return SignedStatements(publics, context.advertisements, rows(context.cohort_list.signatures))


@functools.lru_cache(maxsize=4)
def _agreed(directory: Directory, quorum: Quorum, statement: bytes) -> SignedStatements:
    """Every signer's signature over one pair of lists."""
    publics = [directory.public(phone) for phone in quorum.members.ids.tolist()]
    return SignedStatements(publics, [statement] * len(publics), rows(quorum.signatures))
