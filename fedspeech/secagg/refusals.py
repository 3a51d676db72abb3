"""Why a phone says no: a name for each rule of the protocol that somebody else can break.

A phone that refuses has erased its secrets of the round and answers nothing more in it. Texts name
rule, stage and public values; never a key, a share or a coordinate.
"""

from __future__ import annotations

from fedspeech.errors import ProtocolAbort


class Refusal(ProtocolAbort):
    """A phone leaves a session because a rule was broken; it answers nothing more in it."""


class Malformed(Refusal):
    """A message has the wrong type, length or order."""


class Replayed(Refusal):
    """A round, session or request was seen before, or comes too late."""


class SecondAnswer(Refusal):
    """A stage was answered; no second answer is computed, and no other one is given."""


class OutOfOrder(Refusal):
    """A stage was asked for before the one that must come first."""


class CohortBelowMinimum(Refusal):
    """Fewer phones than this phone's own minimum."""


class CohortListNotMine(Refusal):
    """The cohort list lacks this phone, or shows another message than the one it sent."""


class KeyReused(Refusal):
    """Two phones of a cohort list have the same key or commitment."""


class BadSignature(Refusal):
    """A signature is not that of the phone it is said to be from, over what it must be over."""


class UnknownPhone(Refusal):
    """The directory of identities has no such phone."""


class NonceMismatch(Refusal):
    """A nonce is missing or is not the one committed to."""


class SharersInconsistent(Refusal):
    """The list of sharers names a stranger, leaves out this phone or changed between stages."""


class CiphertextMissing(Refusal):
    """A neighbor that is said to have shared left no ciphertext that opens."""


class NeighborsBelowThreshold(Refusal):
    """Too few neighbors shared: this phone's mask could never be removed."""


class ReportingInconsistent(Refusal):
    """The list of reporting phones is no part of the sharers, or leaves out this phone."""


class NoQuorum(Refusal):
    """Too few phones signed the one pair of lists that this phone signed."""


class WeakKey(Refusal):
    """A public key of low order: anybody could compute what it leads to."""


class StaleState(Refusal):
    """The stored state is older than what this phone has already done."""


# Every kind, in the order in which a shard reports how many of its phones refused why.
KINDS: tuple[type[Refusal], ...] = (
    Malformed, Replayed, SecondAnswer, OutOfOrder, CohortBelowMinimum, CohortListNotMine, KeyReused,
    BadSignature, UnknownPhone, NonceMismatch, SharersInconsistent, CiphertextMissing,
    NeighborsBelowThreshold, ReportingInconsistent, NoQuorum, WeakKey, StaleState,
)  # fmt: skip
