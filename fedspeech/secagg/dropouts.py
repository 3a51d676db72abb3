"""Who vanishes when: the model that floors are priced by, and the schedule that simulations play.

Of the phones that would take part, a share `rate` never gets to send its masked vector: a third of
it before it has advertised, a third after that, a third after its shares. Two thirds as many again
send the vector and vanish before they sign or before they unmask. Each phone for itself, and
whatever its data.
"""

from __future__ import annotations

from fedspeech.secagg.protocol import Stage
from fedspeech.seeds import stream

# In units of a third of the rate, in the order in which a phone would reach the stage.
_VANISH_AT = (Stage.NONE, Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.AGREE)


def share_answering(rate: float, stage: Stage) -> float:
    """Returns the share of phones that answer a stage, of all that would take part.

    Args:
      rate: share that never sends its masked vector, in [0, 1).
      stage: in question.
    """
    return max(0.0, 1 - rate / 3 * sum(last < stage for last in _VANISH_AT))


def last_stage(rate: float, seed: int, round_number: int, phone: int) -> Stage:
    """Returns the last stage that a phone answers in a round: the seeded schedule of a simulation.

    Args:
      rate: as above.
      seed: of the run.
      round_number: of the round.
      phone: its number.
    """
    if rate == 0:
        return Stage.UNMASK
    place = int(stream(seed, "dropout", round_number, phone).random() / (rate / 3))
    return _VANISH_AT[place] if place < len(_VANISH_AT) else Stage.UNMASK
