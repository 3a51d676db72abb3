"""What one observer saw of a run: all that an attack gets of it.

    observer        sees
    "server"        models it sent, who sent something in which round, and what it could decode: the
                    sum of a round, and where secure aggregation is off every single contribution;
                    sizes and times of messages
    "reader"        the released models
    "cohort_member" the released models, and of each round that it was in the list of its cohort
                    and what it sent itself
    "recipient"     personalized models that left their phones, each as its difference from the
                    last release
    "network"       sizes and times of encrypted messages

A transcript holds no truth: no speaker, no label, no clip of a phone. It is made from what crossed
the wire or lies in a run folder (`simulations.audits`), and whoever makes it leaves out what its
observer did not see; it refuses to hold more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.vectors import FloatVector, Vector

Observer = Literal["server", "reader", "cohort_member", "recipient", "network"]
OBSERVERS: tuple[Observer, ...] = get_args(Observer)

# What of a round an observer may hold, beside its number and the model that was sent.
_MAY_HOLD: dict[Observer, frozenset[str]] = {
    "server": frozenset({"senders", "singles", "total"}),
    "reader": frozenset(),
    "cohort_member": frozenset({"own", "senders"}),
    "recipient": frozenset({"singles"}),
    "network": frozenset(),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenMessage:
    """One message as whoever carries it sees it: encrypted.

    Attributes:
      time_s: since the first message of the run.
      sender: "server", or a node by its number.
      receiver: likewise.
      kind: of the request that it is, or answers.
      size_bytes: of its content.
    """

    time_s: float
    sender: str
    receiver: str
    kind: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenRound:
    """What an observer holds of one completed round, or of one sum of a round that had several.

    Attributes:
      number: of the round, from 0.
      sent: the model that phones trained on, shape (d,), float32.
      senders: transport identities of the phones in the sum, shape (n,), int64, in the order of
        `singles`; of a member the list of its cohort; empty where the observer sees none.
      singles: single contributions as the observer decodes them, shape (n, d), float64; None where
        it has sums only.
      total: the decoded sum of the contributions, server noise included, shape (d,), float64; None
        where it has none.
      own: what the observer itself sent, as it decodes, noise included, shape (d,), float64; None
        where it sent nothing.

    Raises:
      ValueError: if shapes do not fit together.
    """

    number: int
    sent: FloatVector
    senders: NDArray[np.int64]
    singles: NDArray[np.float64] | None = None
    total: Vector | None = None
    own: Vector | None = None

    def __post_init__(self) -> None:
        """Checks shapes."""
        d = len(self.sent)
        for name in ("total", "own"):
            vector = getattr(self, name)
            if vector is not None and vector.shape != (d,):
                raise ValueError(f"{name} must have shape ({d},), got {vector.shape}")
        if self.singles is None:
            return
        rows = len(self.senders) or len(self.singles)
        if self.singles.shape != (rows, d):
            raise ValueError(f"singles must have shape ({rows}, {d}), got {self.singles.shape}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Transcript:
    """Everything that one observer saw of one run. Printing it shows sizes only.

    Attributes:
      observer: who saw it.
      plan: of the run; public.
      releases: released models, the initial one first, shape (rounds + 1, d), float32; no rows for
        the network.
      rounds: that were completed, in order; for the server one for each sum that it opened.
      messages: that crossed the wire, in order, for the server and the network.

    Raises:
      ValueError: if it holds what the observer does not see.
    """

    observer: Observer
    plan: PrivacyPlan
    releases: NDArray[np.float32]
    rounds: tuple[SeenRound, ...] = ()
    messages: tuple[SeenMessage, ...] = ()

    def __post_init__(self) -> None:
        """Refuses what the observer does not see."""
        for seen in self.rounds:
            held = {name for name in ("singles", "total", "own") if getattr(seen, name) is not None}
            held |= {"senders"} if len(seen.senders) else set()
            if more := sorted(held - _MAY_HOLD[self.observer]):
                raise ValueError(f"observer {self.observer!r} does not see {more}")
        if self.observer == "network" and (self.rounds or len(self.releases)):
            raise ValueError("observer 'network' sees sizes and times only")
        if self.observer not in ("network", "server") and self.messages:
            raise ValueError(f"observer {self.observer!r} sees no messages")

    def __repr__(self) -> str:
        """Shows the observer and sizes."""
        return (
            f"Transcript({self.observer!r}, rounds={len(self.rounds)}, "
            f"observations={len(self.observations)}, messages={len(self.messages)})"
        )

    def require(self, observers: tuple[Observer, ...]) -> None:
        """Refuses an attack on what its observers do not see.

        Raises:
          ValueError: if the observer is none of them.
        """
        if self.observer not in observers:
            raise ValueError(f"expected a transcript of {observers}, got {self.observer!r}")

    @property
    def single(self) -> bool:
        """Whether the observer has single contributions."""
        return any(seen.singles is not None for seen in self.rounds)

    @cached_property
    def observations(self) -> NDArray[np.float64]:
        """The finest that the observer has of each round, shape (trials, d).

        Single contributions where it has them, round after round; else one row a round: the decoded
        sum, or for readers the difference between two releases.
        """
        if self.single:
            found = [seen.singles for seen in self.rounds if seen.singles is not None]
            return np.concatenate(found)
        totals = [seen.total for seen in self.rounds if seen.total is not None]
        if totals:
            return np.stack(totals)
        if len(self.releases) < 2:
            return np.zeros((0, self.releases.shape[1] if self.releases.ndim == 2 else 0))
        return np.asarray(np.diff(self.releases.astype(np.float64), axis=0))

    @cached_property
    def observed_in(self) -> NDArray[np.int64]:
        """The place in `rounds` that each row of `observations` is of, shape (trials,)."""
        sizes = [
            len(seen.singles) if seen.singles is not None else int(not self.single)
            for seen in self.rounds
        ]
        return np.repeat(np.arange(len(sizes)), sizes)

    @cached_property
    def senders(self) -> NDArray[np.int64]:
        """Transport identity behind each row of `observations`, shape (trials,); -1: not seen."""
        known = [
            seen.senders if len(seen.senders) else np.full(len(seen.singles), -1)
            for seen in self.rounds
            if seen.singles is not None
        ]
        return np.concatenate(known) if known else np.full(len(self.observations), -1)
