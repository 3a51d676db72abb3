"""One phone in one session: five stages, each checked, each answered once.

The server is not trusted. A phone recomputes everything that it can (context, graph, threshold),
believes of the rest only what is signed, and leaves the session for good when a rule is broken:
every refusal erases its secrets. What it holds between stages is `Phone.save`, and
`Phone.restore` refuses a state older than what the phone has already done.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedspeech.secagg import shamir
from fedspeech.secagg.exchange import Advertisement, Inbox, Quorum, SealedShares
from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Directory,
    Identity,
    Secret,
    public_key,
    seal,
    unseal,
)
from fedspeech.secagg.masks import Masks, Words, cut, word_type
from fedspeech.secagg.primitives import Primitives, SignedStatements
from fedspeech.secagg.protocol import (
    HASH_BYTES,
    SEALED_BYTES,
    Bytes,
    Context,
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
    share_info,
    table,
    unmasked_statement,
)
from fedspeech.secagg.refusals import (
    BadSignature,
    CiphertextMissing,
    CohortBelowFloor,
    Malformed,
    NeighborsBelowThreshold,
    NonceMismatch,
    NoQuorum,
    OutOfOrder,
    Refusal,
    Replayed,
    RosterNotMine,
    SecondAnswer,
    SharersInconsistent,
    StaleState,
    SurvivorsInconsistent,
)
from fedspeech.secagg.ring import RingVector


class Phone:
    """One phone in one session; the only implementation there is.

    Args:
      number: of the phone, as in the directory.
      identity: what it signs with.
      directory: identity keys of all phones, from somebody who is not the server.
      terms: the phone's own.
      primitives: what it computes with.
      random: secret bytes; the operating system's, except in tests with fixed keys.
    """

    def __init__(
        self,
        number: int,
        identity: Identity,
        directory: Directory,
        terms: SessionTerms,
        primitives: Primitives,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Has done nothing yet."""
        self.number = number
        self.stage = Stage.NONE
        self.context: Context | None = None
        self.graph: Graph | None = None
        self.sharers: Members | None = None
        self.survivors: Members | None = None
        self._own = id_bytes(number)
        self._identity, self._directory, self._terms = identity, directory, terms
        self._primitives, self._random = primitives, random
        # Secrets of the session. Shares of neighbors are held as words: 18 a neighbor, and from
        # stage agree on the nine that will be given.
        self._seal_key, self._mask_key = Secret(), Secret()
        self._nonce, self._seed = Secret(), Secret()
        self._held = Secret()
        self._mine = b""  # the public keys and the commitment of the own advertisement
        self._left = False
        self._steps = threading.Lock()

    def __repr__(self) -> str:
        """Shows number and stage only."""
        left = ", left" if self._left else ""
        return f"Phone({self.number}, stage {self.stage.word}{left})"

    # Stage advertise.

    def advertise(self) -> Advertisement:
        """Makes the session's keys and says what they are.

        Raises:
          SecondAnswer: if asked again.
        """
        with self._step(Stage.NONE, Stage.ADVERTISE):
            self._seal_key = Secret(self._random(KEY_BYTES))
            self._mask_key = Secret(self._random(KEY_BYTES))
            self._nonce = Secret(self._random(KEY_BYTES))
            seal_key = public_key(_private(self._seal_key))
            mask_key = public_key(_private(self._mask_key))
            commitment = commitment_to(bytes(self._nonce))
            terms = self._terms
            statement = advertisement_statement(
                terms.rid, terms.round, self.number, seal_key, mask_key, commitment
            )
            self._mine = seal_key + mask_key + commitment
            return Advertisement(
                phone=self.number,
                seal_key=seal_key,
                mask_key=mask_key,
                commitment=commitment,
                signature=self._identity.sign(statement),
            )

    def accept(self, roster: Roster, purpose: bytes) -> bytes:
        """Takes the one roster and the one purpose of the session, and reveals the nonce for them.

        Args:
          roster: all advertisements.
          purpose: 32 bytes; the hash of all else that must be alike, recomputed by the caller.

        Returns:
          The nonce, 32 bytes; empty where everybody is everybody's neighbor.

        Raises:
          RosterNotMine: if it lacks this phone's own advertisement.
          CohortBelowFloor: if it is shorter than this phone's floor.
          BadSignature, UnknownPhone: if an advertisement is not that of an enrolled phone.
          SecondAnswer: for a second roster.
        """
        with self._step(Stage.ADVERTISE, Stage.ACCEPT):
            terms = self._terms
            if not isinstance(roster, Roster):
                raise Malformed("expected a roster")
            if not isinstance(purpose, bytes) or len(purpose) != HASH_BYTES:
                raise Malformed(f"a purpose must be {HASH_BYTES} bytes")
            place = roster.members.place(self.number)
            if place is None:
                raise RosterNotMine(f"the roster lacks phone {self.number}")
            shown = roster.seal_rows[place] + roster.mask_rows[place]
            if self._mine != shown + roster.commitments[place].tobytes():
                raise RosterNotMine(f"the roster shows other keys for phone {self.number}")
            if len(roster) < terms.min_cohort:
                raise CohortBelowFloor(
                    f"phone {self.number} takes part among at least {terms.min_cohort} phones, "
                    f"got {len(roster)}"
                )
            context = bind(terms, purpose, roster)
            try:
                complete = context.parameters.complete
            except ValueError as error:
                raise CohortBelowFloor(f"no graph for a roster of {len(roster)}: {error}") from None
            if not self._primitives.verify_all(_advertised(context, self._directory)):
                raise BadSignature("an advertisement in the roster is not signed by its phone")
            self.context = context
            return b"" if complete else bytes(self._nonce)

    # Stage share.

    def share(self, nonces: Sequence[bytes]) -> SealedShares:
        """Splits seed and mask key among the neighbors, each part sealed for one of them.

        Args:
          nonces: of all phones in the roster's order; none for the complete graph.

        Raises:
          NonceMismatch: if one is missing or is not what its phone committed to.
        """
        with self._step(Stage.ACCEPT, Stage.SHARE):
            context = self._bound
            if not isinstance(nonces, (tuple, list)) or not set(map(type, nonces)) <= {bytes}:
                raise Malformed("nonces must be a list of bytes")
            self.graph = _graph(context, tuple(nonces))
            self._nonce.wipe()
            self._seed = Secret(self._random(KEY_BYTES))
            k, t = context.parameters.neighbors, context.parameters.threshold
            secrets = np.concatenate(
                [shamir.to_limbs(bytes(self._seed)), shamir.to_limbs(bytes(self._mask_key))]
            )
            shares = shamir.share(secrets, t, k, self._random)
            plain = rows(shares.astype("<u4").view(np.uint8))
            infos = [share_info(context.digest, self._own, other) for other in self._neighbors]
            keys = self._agree(self._seal_key, context.roster.seal_rows, self._places, infos)
            sealed = [
                seal(key, share, info + place.to_bytes(4, "big"))
                for place, (key, share, info) in enumerate(zip(keys, plain, infos, strict=True))
            ]
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

        `masked_vector` applies them for one phone; a simulator may apply those of many phones
        together.

        Args:
          inbox: from the server.

        Returns:
          The signature to send with the vector, and the masks, which are secret.

        Raises:
          SharersInconsistent: if the list of sharers leaves out this phone or names a stranger.
          CohortBelowFloor: if it is shorter than the floor on survivors.
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
        if not isinstance(sharers, Members) or not sharers.within(context.roster.members):
            raise SharersInconsistent("the list of sharers names a phone outside the roster")
        if sharers.place(self.number) is None:
            raise SharersInconsistent(f"the list of sharers leaves out phone {self.number}")
        if len(sharers) < self._terms.min_survivors:
            raise CohortBelowFloor(
                f"a phone masks among at least {self._terms.min_survivors} sharers, "
                f"got {len(sharers)}"
            )

    def _open_shares(self, present: list[int], sealed: list[bytes]) -> None:
        """Keeps what each neighbor sealed for this phone."""
        context, places = self._bound, self._back_places
        infos = [share_info(context.digest, self._neighbors[place], self._own) for place in present]
        keys = self._agree(
            self._seal_key,
            context.roster.seal_rows,
            [self._places[place] for place in present],
            infos,
        )
        held = np.zeros((len(self._places), 2 * shamir.LIMBS), np.uint32)
        opened = []
        for place, key, info in zip(present, keys, infos, strict=True):
            share = unseal(key, sealed[place], info + places[place].to_bytes(4, "big"))
            if share is None:
                raise CiphertextMissing(
                    f"phone {self.neighbors[place]} is said to have shared, and left phone "
                    f"{self.number} nothing that opens"
                )
            opened.append(share)
        joined = np.frombuffer(b"".join(opened), dtype="<u4").reshape(len(present), -1)
        if joined.size and int(joined.max()) >= shamir.PRIME:
            raise Malformed("a share must be below the prime of the field")
        held[present] = joined
        self._held = Secret(held.tobytes())

    def _masks(self, context: Context, present: list[int]) -> Masks:
        """The phone's own mask, and one per neighbor: added for later phones, else taken off."""
        digest, me = context.digest, self._own
        others = [self._neighbors[place] for place in present]
        added = [other > me for other in others]
        infos = [
            mask_info(digest, me, other) if later else mask_info(digest, other, me)
            for other, later in zip(others, added, strict=True)
        ]
        places = [self._places[place] for place in present]
        keys = self._agree(self._mask_key, context.roster.mask_rows, places, infos)
        own = bytes(self._seed)
        for spent in (self._mask_key, self._seal_key, self._seed):
            spent.wipe()
        return [(own, True), *zip(keys, added, strict=True)]

    # Stage agree.

    def agree(self, survivors: Members, signatures: Bytes) -> bytes:
        """Signs the one pair of lists that this phone will unmask for.

        A neighbor's share is given only if that neighbor itself masked under the same list of
        sharers: its own signature says so.

        Args:
          survivors: phones whose masked vector arrived.
          signatures: the neighbors' over the list of sharers, in the order of the graph, shape
            (k, 64); rows of neighbors that did not survive are not read.

        Raises:
          SurvivorsInconsistent: if the list is no part of the sharers or leaves out this phone.
          CohortBelowFloor: if it is shorter than the floor.
          BadSignature: if a surviving neighbor did not sign the same list of sharers.
        """
        with self._step(Stage.MASK, Stage.AGREE):
            context, sharers = self._bound, self.sharers
            assert sharers is not None
            if not isinstance(survivors, Members) or not survivors.within(sharers):
                raise SurvivorsInconsistent("the survivors must be some of those who shared")
            if survivors.place(self.number) is None:
                raise SurvivorsInconsistent(f"the survivors leave out phone {self.number}")
            if len(survivors) < self._terms.min_survivors:
                raise CohortBelowFloor(
                    f"a sum has at least {self._terms.min_survivors} phones, got {len(survivors)}"
                )
            check_bytes("signatures", signatures, context.parameters.neighbors, SIGNATURE_BYTES)
            self._check_signed(
                self._present(survivors),
                rows(signatures),
                [
                    masked_statement(context.digest, other, sharers.digest)
                    for other in self._neighbors
                ],
            )
            self.survivors = survivors
            self._choose_shares(sharers, survivors)
            return self._identity.sign(
                agreed_statement(context.digest, sharers.digest, survivors.digest)
            )

    def _choose_shares(self, sharers: Members, survivors: Members) -> None:
        """Keeps one share of each neighbor, the one to be given, and forgets the other."""
        held = np.frombuffer(self._held, np.uint32).reshape(-1, 2 * shamir.LIMBS)
        chosen = np.zeros((len(held), shamir.LIMBS), np.uint32)
        alive = self._present(survivors)
        gone = sorted(set(self._present(sharers)).difference(alive))
        chosen[alive] = held[alive, : shamir.LIMBS]
        chosen[gone] = held[gone, shamir.LIMBS :]
        del held  # or its bytes could not be replaced
        self._held.wipe()
        self._held = Secret(chosen.tobytes())

    # Stage unmask.

    def unmask(self, quorum: Quorum) -> tuple[bytes, NDArray[np.uint32]]:
        """Gives, once, one share of each neighbor: of the seed if it survived, else of the key.

        Args:
          quorum: signatures of survivors over the pair of lists that this phone signed.

        Returns:
          A signature over the shares and both lists; and the shares, one row per neighbor in the
          order of the graph, shape (k, 9), zeros for neighbors that never shared.

        Raises:
          NoQuorum: if not more than half of the roster and the colluders signed.
          BadSignature: if one of the signatures is not over this phone's pair of lists.
        """
        with self._step(Stage.AGREE, Stage.UNMASK):
            context, sharers, survivors = self._bound, self.sharers, self.survivors
            assert sharers is not None
            assert survivors is not None
            if not isinstance(quorum, Quorum) or not isinstance(quorum.members, Members):
                raise Malformed("expected a quorum")
            if not quorum.members.within(survivors):
                raise NoQuorum("signatures must be those of survivors")
            check_bytes("signatures", quorum.signatures, len(quorum.members), SIGNATURE_BYTES)
            if len(quorum.members) < context.quorum:
                raise NoQuorum(
                    f"at least {context.quorum} survivors must have signed the same lists, "
                    f"got {len(quorum.members)}"
                )
            statement = agreed_statement(context.digest, sharers.digest, survivors.digest)
            if not self._primitives.verify_all(_agreed(self._directory, quorum, statement)):
                raise BadSignature("a survivor did not sign the lists that this phone signed")
            shares = np.frombuffer(bytes(self._held), np.uint32).reshape(-1, shamir.LIMBS).copy()
            self.erase()
            statement = unmasked_statement(
                context.digest, id_bytes(self.number), sharers.digest, survivors.digest,
                shares.tobytes(),
            )  # fmt: skip
            return self._identity.sign(statement), shares

    # Between stages.

    def erase(self) -> None:
        """Overwrites the session's secrets, as far as Python can."""
        for secret in (self._seal_key, self._mask_key, self._nonce, self._seed, self._held):
            secret.wipe()

    def save(self) -> bytes:
        """What the phone must keep to go on in another process. Secret; for this session only."""
        digests = [
            b"" if seen is None else seen.digest
            for seen in (self.context, self.sharers, self.survivors)
        ]
        parts = (
            bytes([self.stage, self._left]), self._mine, self._seal_key, self._mask_key,
            self._nonce, self._seed, *digests, self._held,
        )  # fmt: skip
        return b"".join(len(part).to_bytes(4, "big") + bytes(part) for part in parts)

    def restore(
        self,
        saved: bytes,
        *,
        stage: Stage,
        roster: Roster | None,
        purpose: bytes,
        nonces: Sequence[bytes] = (),
        sharers: Members | None = None,
        survivors: Members | None = None,
    ) -> Phone:
        """Goes on from what `save` gave, with the public lists kept beside it.

        Args:
          saved: from `save`.
          stage: the latest that this phone has answered, from a place that no older copy of the
            state can overwrite (a monotonic counter of the phone).
          roster: that was accepted, if one was.
          purpose: that came with it.
          nonces: of the session.
          sharers: list that was masked under.
          survivors: list that was agreed to.

        Raises:
          StaleState: if the state is older than `stage`.
          Malformed: if a list is not the one that this phone saw.
        """
        parts, at = [], 0
        while at < len(saved):
            size = int.from_bytes(saved[at : at + 4], "big")
            parts.append(saved[at + 4 : at + 4 + size])
            at += 4 + size
        flags, mine, seal_key, mask_key, nonce, seed, context, sharing, surviving, held = parts
        self.stage, self._left, self._mine = Stage(flags[0]), bool(flags[1]), mine
        self._seal_key, self._mask_key = Secret(seal_key), Secret(mask_key)
        self._nonce, self._seed, self._held = Secret(nonce), Secret(seed), Secret(held)
        try:
            if self.stage < stage:
                raise StaleState(
                    f"phone {self.number} has answered stage {stage.word}, and its stored state "
                    f"is from stage {self.stage.word}"
                )
            if context and roster is not None:
                self.context = bind(self._terms, purpose, roster)
                if self.stage >= Stage.SHARE:
                    self.graph = _graph(self.context, tuple(nonces))
            self.sharers = sharers if sharing else None
            self.survivors = survivors if surviving else None
            seen = (self.context, self.sharers, self.survivors)
            found = [b"" if one is None else one.digest for one in seen]
            if found != [context, sharing, surviving]:
                raise Malformed("a list kept beside the state is not the one that this phone saw")
        except BaseException:
            self._left = True
            self.erase()
            raise
        return self

    @contextlib.contextmanager
    def _step(self, stage: Stage, after: Stage) -> Iterator[None]:
        """Runs one step of a session: in order, once, and never again after a refusal.

        Threads wait for each other: two that asked at once would else get two masks, or one would
        erase what the other computes with.
        """
        with self._steps:
            try:
                self._claim(stage, after)
                yield
            except BaseException as error:
                self._left = True
                self.erase()
                if isinstance(error, Refusal):
                    error.args = (f"{after.word}: {error}",)
                raise

    def _claim(self, stage: Stage, after: Stage) -> None:
        """Moves on to a stage before anything is computed for it, if it is the next one."""
        if self._left:
            raise Replayed(f"phone {self.number} has left this session")
        if self.stage > stage:
            raise SecondAnswer(
                f"phone {self.number} answered stage {after.word}: no second answer is computed"
            )
        if self.stage < stage:
            raise OutOfOrder(
                f"phone {self.number} is at stage {self.stage.word} and was asked for "
                f"stage {after.word}"
            )
        self.stage = after

    # What the phone knows of its place in the graph.

    @functools.cached_property
    def neighbors(self) -> list[int]:
        """The neighbors' numbers, in the order of the graph."""
        numbers: list[int] = self._bound.roster.members.ids[self._places].tolist()
        return numbers

    @property
    def _bound(self) -> Context:
        assert self.context is not None
        return self.context

    @functools.cached_property
    def _row(self) -> int:
        """Own place in the roster."""
        place = self._bound.roster.members.place(self.number)
        assert place is not None
        return place

    @functools.cached_property
    def _places(self) -> list[int]:
        """The neighbors' places in the roster."""
        assert self.graph is not None
        places: list[int] = self.graph.neighbors[self._row].tolist()
        return places

    @functools.cached_property
    def _back_places(self) -> list[int]:
        """This phone's place among the neighbors of each neighbor."""
        assert self.graph is not None
        places: list[int] = self.graph.places[self._row].tolist()
        return places

    @functools.cached_property
    def _neighbors(self) -> list[bytes]:
        """The neighbors' numbers as bytes."""
        id_rows = self._bound.roster.id_rows
        return [id_rows[place] for place in self._places]

    def _present(self, members: Members) -> list[int]:
        """Which neighbors, by place among the neighbors, stand in a list."""
        return members.present(self.neighbors)

    def _check_signed(
        self, places: list[int], signatures: list[bytes], statements: list[bytes]
    ) -> None:
        """Checks what some neighbors signed."""
        numbers = self.neighbors
        public, verify = self._directory.public, self._primitives.verify
        for place in places:
            other = numbers[place]
            if not verify(public(other), statements[place], signatures[place]):
                raise BadSignature(f"the signature of phone {other} does not hold")

    def _agree(
        self, private: Secret, publics: list[bytes], places: list[int], infos: list[bytes]
    ) -> list[bytes]:
        """One key per neighbor."""
        others = [publics[place] for place in places]
        return self._primitives.agree(_private(private), publics[self._row], others, infos)


def masked_vector(
    phone: Phone, inbox: Inbox, vector: RingVector, primitives: Primitives, bits: int
) -> tuple[Words, bytes]:
    """Masks one phone's vector: `Phone.mask`, applied.

    Args:
      phone: that has shared.
      inbox: from the server.
      vector: shape (dimension,), uint32, below 2^bits.
      primitives: what to compute with.
      bits: of the ring.

    Returns:
      The masked words, shape (dimension,), and the signature to send with them.
    """
    signature, masks = phone.mask(inbox)
    (words,) = mask_vectors([vector], [masks], primitives, bits)
    return words, signature


def mask_vectors(
    vectors: Sequence[RingVector], masks: Sequence[Masks], primitives: Primitives, bits: int
) -> list[Words]:
    """Applies to each vector the masks that its phone named; the vectors are left as they are.

    Args:
      vectors: of one shape (dimension,), uint32, below 2^bits.
      masks: from `Phone.mask`, one entry per vector.
      primitives: what to compute with.
      bits: of the ring.

    Returns:
      The masked words of each vector, below 2^bits.
    """
    words = [vector.astype(word_type(bits)) for vector in vectors]
    primitives.add_masks(words, masks)
    return [cut(own, bits) for own in words]


@functools.lru_cache(maxsize=4)
def _graph(context: Context, nonces: tuple[bytes, ...]) -> Graph:
    """Checks every nonce against its commitment and draws the graph from them.

    A function of public values: the phones of one process that were told the same share it.
    """
    if context.parameters.complete:
        return context.graph(())
    if len(nonces) != len(context.roster):
        raise NonceMismatch(f"a graph needs {len(context.roster)} nonces, got {len(nonces)}")
    commitments = rows(context.roster.commitments)
    if any(commitment_to(nonce) != c for nonce, c in zip(nonces, commitments, strict=True)):
        raise NonceMismatch("a nonce is not the one that its phone committed to")
    return context.graph(nonces)


@functools.lru_cache(maxsize=4)
def _advertised(context: Context, directory: Directory) -> SignedStatements:
    """Every phone's signature over its own advertisement."""
    publics = [directory.public(phone) for phone in context.roster.members.ids.tolist()]
    return SignedStatements(publics, context.advertisements, rows(context.roster.signatures))


@functools.lru_cache(maxsize=4)
def _agreed(directory: Directory, quorum: Quorum, statement: bytes) -> SignedStatements:
    """Every signer's signature over one pair of lists."""
    publics = [directory.public(phone) for phone in quorum.members.ids.tolist()]
    return SignedStatements(publics, [statement] * len(publics), rows(quorum.signatures))


def _private(secret: Secret) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes(secret))
