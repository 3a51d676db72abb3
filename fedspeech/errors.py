"""The few exceptions that a caller acts on; every other bad value is a `ValueError`.

A message names the rule and the value. It may carry round, stage and pseudonymous client id, and
never audio, text, embeddings, deltas or keys.
"""

from __future__ import annotations


class FedspeechError(Exception):
    """A refusal that the user can act on; the command line prints it without a traceback."""


class BudgetExhausted(FedspeechError):
    """The next release would spend more privacy than the plan allows; nothing was sent."""


class AlreadyReleased(BudgetExhausted):
    """The same question about a day of the same window was answered before; nothing was sent."""


class CohortTooSmall(FedspeechError):
    """Fewer phones than the plan's minimum; the round is abandoned, never re-drawn."""


class ProtocolAbort(FedspeechError):
    """A protocol message broke a rule; nothing was revealed."""


class ChainDamaged(FedspeechError):
    """A file of rows that name one another was edited or cut; nothing is written to it."""


class LedgerDamaged(ChainDamaged):
    """The ledger file is torn or edited; no release is possible until somebody has looked."""


class CorpusError(FedspeechError):
    """A corpus cannot be read or has nothing usable in it."""


class TooFewSpeakers(CorpusError):
    """The speakers of a corpus do not fill the groups that a scenario asks for."""

    def __init__(self, message: str, speakers: int) -> None:
        """Keeps how many speakers there are to be divided."""
        super().__init__(message)
        self.speakers = speakers


class ScenarioError(FedspeechError):
    """A scenario asks for something that does not exist or does not fit together."""


class OwnCodeFailed(FedspeechError):
    """Code of another package or program broke a rule of its kind; nothing of it is used."""


class ArgumentRefused(ScenarioError):
    """Arguments of a function that do not fit together; their names stand in backticks.

    The command line, whose options bear the same names, says it with them.
    """


class ExportRefused(FedspeechError):
    """An exported file does not do what the trained model did; it is not published."""


class UpdateRefused(FedspeechError):
    """A bundle breaks a rule; a phone keeps the adapter that it has."""


class RegistryDamaged(ChainDamaged):
    """The registry's file is torn or edited; nothing is handed out until somebody has looked."""


class RolloutRefused(FedspeechError):
    """A roll-out cannot do that, or could not find what it is to guard against."""


class RolloutDamaged(ChainDamaged):
    """A roll-out's file is torn or edited; nothing is decided until somebody has looked."""


class ConsentMissing(FedspeechError):
    """The user has not agreed to this, or no longer does; nothing is kept, read or sent."""


class AccessRefused(FedspeechError):
    """A role may not read or give away this; the access log says that it was asked for."""


class EgressRefused(FedspeechError):
    """This has no way out of a phone; nothing left it."""


class StoreRefused(FedspeechError):
    """A phone's store cannot do that; what it holds is as it was."""


class StoreFull(StoreRefused):
    """The disk is full; nothing was kept, and nothing is lost."""


class StoreForeign(StoreRefused):
    """A store was made on another device, or is a copy from before an erasure: no key opens it."""


class StoreDamaged(StoreRefused, ChainDamaged):
    """Bytes of a store, a record or a phone's log are not what was written; they are not used."""


class KeyRefused(StoreRefused):
    """A key is not there, or is not the one that sealed this."""


class NoRoundRan(FedspeechError):
    """Not one round was completed: none can be paid, or the run is over and its folder in order."""


def require(holds: bool, rule: str, **values: object) -> None:
    """Refuses a bad value by name, rule and value.

    Raises:
      ValueError: if the rule does not hold.
    """
    if not holds:
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"{rule}, got {shown}")


def is_integer(value: object) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)
