"""One line of metrics.jsonl: a round, as the server sees it and as only a simulation can."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulations.results.account import Account
from simulations.results.record import Count, Finite, Positive, Record, Share


class ServerRound(Record):
    """What the server sees of a round. All but the validation figures is the operator's own.

    Attributes:
      cohort: phones that were asked or came; None if no message left.
      reporting: phones whose update is in the sum; None if there is no sum.
      wrap_warning: a coordinate of the sum came near the edge of the ring.
      signal_to_noise: estimated L2 norm of the signal in the decoded mean divided by the expected
        norm of its noise; 0: nothing but noise is seen. None without noise.
      accumulated_signal_to_noise: the same of the sum of all decoded means so far.
      clip_norm: the clip norm of this round.
      validation_accuracy: after the round, on public validation speakers.
      validation_loss: cross-entropy in nats, same clips.
    """

    cohort: Count | None = None
    reporting: Count | None = None
    wrap_warning: bool = False
    signal_to_noise: Positive | None = None
    accumulated_signal_to_noise: Positive | None = None
    clip_norm: Positive | None = None
    validation_accuracy: Share | None = None
    validation_loss: Finite | None = None


class RoundTime(Record):
    """A round in virtual time. Seconds count from the call; a phone's, from the cohort list.

    Attributes:
      called_h: hours from the midnight before the first round to the call.
      called: phones whose coin said yes.
      joined: of these, phones that were there.
      late: of these, phones that missed the deadline.
      trained: of these, phones whose update is in the sum, unless the round was abandoned.
      phone_s_median: seconds until a phone that joined had sent its last message.
      phone_s_90: seconds within which nine in ten had.
      enough_s: when as many answers had come as the minimum of reporting phones needs; None: never.
      finished_s: when the round was over: at the deadline, or before it if nobody was missing.
    """

    called_h: Positive
    called: Count
    joined: Count
    late: Count
    trained: Count = 0
    phone_s_median: Positive | None = None
    phone_s_90: Positive | None = None
    enough_s: Positive | None = None
    finished_s: Positive


class SimulationRound(Record):
    """What only a simulator can know of a round.

    Attributes:
      share_clipped: phones whose delta was longer than the clip norm.
      true_wraps: coordinates of the sum that really left the ring.
      held_out_accuracy: after the round, on phones that never train.
      time: the round in virtual time; None without a time axis.
    """

    share_clipped: Share | None = None
    true_wraps: Count | None = None
    held_out_accuracy: Share | None = None
    time: RoundTime | None = None


class RoundRow(Account):
    """One line of metrics.jsonl, with the account as of the end of the round.

    Attributes:
      schema_version: of this row.
      round: counted from 1.
      status: "completed", "abandoned" (nothing usable came of it; it is charged all the same if
        its phones were asked for updates) or "refused" (not started: the budget would not
        cover it).
      reason: why it was abandoned or refused, or what a defense did in it; the operator's own.
      server: what the server sees.
      simulation_only: what only a simulation sees.
      seconds: wall time of the round; the operator's own.
      bytes_up: sent by one phone that took part.
      bytes_down: sent to one phone that took part.
    """

    schema_version: Literal[3] = 3
    round: Annotated[int, Field(ge=1)]
    status: Literal["completed", "abandoned", "refused"]
    reason: str | None = None
    server: ServerRound = ServerRound()
    simulation_only: SimulationRound = SimulationRound()
    seconds: Positive | None = None
    bytes_up: Count
    bytes_down: Count
