"""What a phone holds in a session and between its stages, in which order they come, and its place.

The stages themselves are `fedspeech.secagg.client.Phone`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedspeech.secagg.graph import Graph
from fedspeech.secagg.keys import Directory, Identity, Secret
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    CohortList,
    Context,
    Members,
    SessionTerms,
    Stage,
    bind,
    commitment_to,
    id_bytes,
    rows,
)
from fedspeech.secagg.refusals import (
    BadSignature,
    Malformed,
    NonceMismatch,
    OutOfOrder,
    Refusal,
    Replayed,
    SecondAnswer,
    StaleState,
)


class PhoneState:
    """The secrets of one session, what the phone has seen of it, and the stage it is at.

    Args:
      directory: identity keys of all phones, from somebody who is not the server.
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
        self.number = number
        self.stage = Stage.NONE
        self.context: Context | None = None
        self.graph: Graph | None = None
        self.sharers: Members | None = None
        self.reporting: Members | None = None
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
        left = ", left" if self._left else ""
        return f"Phone({self.number}, stage {self.stage.word}{left})"

    def erase(self) -> None:
        """Overwrites the session's secrets, as far as Python can."""
        for secret in (self._seal_key, self._mask_key, self._nonce, self._seed, self._held):
            secret.wipe()

    def save(self) -> bytes:
        """What the phone must keep to go on in another process. Secret; for this session only."""
        parts = (
            bytes([self.stage, self._left]), self._mine, self._seal_key, self._mask_key,
            self._nonce, self._seed, *self._digests(), self._held,
        )  # fmt: skip
        return b"".join(len(part).to_bytes(4, "big") + bytes(part) for part in parts)

    def restore(
        self,
        saved: bytes,
        *,
        stage: Stage,
        cohort_list: CohortList | None,
        purpose: bytes,
        nonces: Sequence[bytes] = (),
        sharers: Members | None = None,
        reporting: Members | None = None,
    ) -> Self:
        """Goes on from what `save` gave, with the public lists kept beside it.

        `stage` is the latest that this phone has answered. It comes from a place that no older copy
        of the state can overwrite, such as a monotonic counter of the phone.

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
            if context and cohort_list is not None:
                self.context = bind(self._terms, purpose, cohort_list)
                if self.stage >= Stage.SHARE:
                    self.graph = drawn_graph(self.context, tuple(nonces))
            self.sharers = sharers if sharing else None
            self.reporting = reporting if surviving else None
            if self._digests() != [context, sharing, surviving]:
                raise Malformed("a list kept beside the state is not the one that this phone saw")
        except BaseException:
            self._left = True
            self.erase()
            raise
        return self

    def _digests(self) -> list[bytes]:
        seen = (self.context, self.sharers, self.reporting)
        return [b"" if one is None else one.digest for one in seen]

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
        numbers: list[int] = self._bound.cohort_list.members.ids[self._places].tolist()
        return numbers

    @property
    def _bound(self) -> Context:
        assert self.context is not None
        return self.context

    @functools.cached_property
    def _row(self) -> int:
        """Own place in the cohort list."""
        place = self._bound.cohort_list.members.place(self.number)
        assert place is not None
        return place

    @functools.cached_property
    def _places(self) -> list[int]:
        """The neighbors' places in the cohort list."""
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
        id_rows = self._bound.cohort_list.id_rows
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
        return self._primitives.agree(private_key(private), publics[self._row], others, infos)


@functools.lru_cache(maxsize=4)
def drawn_graph(context: Context, nonces: tuple[bytes, ...]) -> Graph:
    """Checks every nonce against its commitment and draws the graph from them.

    A function of public values: the phones of one process that were told the same share it.
    """
    if context.parameters.complete:
        return context.graph(())
    if len(nonces) != len(context.cohort_list):
        raise NonceMismatch(f"a graph needs {len(context.cohort_list)} nonces, got {len(nonces)}")
    commitments = rows(context.cohort_list.commitments)
    if any(commitment_to(nonce) != c for nonce, c in zip(nonces, commitments, strict=True)):
        raise NonceMismatch("a nonce is not the one that its phone committed to")
    return context.graph(nonces)


def private_key(secret: Secret) -> X25519PrivateKey:
    """The key that a secret's bytes are."""
    return X25519PrivateKey.from_private_bytes(bytes(secret))
