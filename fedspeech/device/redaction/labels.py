"""What a command asks for, as one of few words: all that analytics may learn of a transcript."""

from __future__ import annotations

from enum import StrEnum

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.slots import GIVING, Action, Slot, find_slots
from fedspeech.device.redaction.vocabulary import FILLERS, listed


class Label(StrEnum):
    """The closed vocabulary of labels."""

    CALL_CONTACT = "CALL_CONTACT"
    CALL_NUMBER = "CALL_NUMBER"
    CALL_OTHER = "CALL_OTHER"
    MESSAGE_CONTACT = "MESSAGE_CONTACT"
    MESSAGE_NUMBER = "MESSAGE_NUMBER"
    MESSAGE_OTHER = "MESSAGE_OTHER"
    NAVIGATE = "NAVIGATE"
    PAY = "PAY"
    TIMER = "TIMER"
    ALARM = "ALARM"
    REMINDER = "REMINDER"
    CALENDAR = "CALENDAR"
    MEDIA = "MEDIA"
    VOLUME = "VOLUME"
    HOME = "HOME"
    WEATHER = "WEATHER"
    OTHER = "OTHER"
    EMPTY = "EMPTY"


_TRIGGERS = {
    word: label
    for label, said in (
        (Label.NAVIGATE, "navigate directions drive route navigiere"),
        (Label.PAY, "pay transfer wire venmo paypal zelle bezahl uberweise"),
        (Label.TIMER, "timer stopwatch countdown minuteur"),
        (Label.ALARM, "alarm wake wecker reveil"),
        (Label.REMINDER, "remind reminder reminders erinnere rappelle"),
        (Label.CALENDAR, "calendar appointment meeting schedule termin kalender"),
        (Label.MEDIA, "play song music playlist album podcast radio spiel spiele joue"),
        (Label.VOLUME, "volume louder quieter mute unmute lautstarke"),
        (Label.HOME, "lights light thermostat lamp heating temperature licht lumiere"),
        (Label.WEATHER, "weather forecast wetter meteo"),
    )
    for word in said.split()
}  # fmt: skip
_NAMES = {
    Action.CALL: (Label.CALL_CONTACT, Label.CALL_NUMBER, Label.CALL_OTHER),
    Action.MESSAGE: (Label.MESSAGE_CONTACT, Label.MESSAGE_NUMBER, Label.MESSAGE_OTHER),
}
_NEXT_CLAUSE = listed("when if about and because saying that und et")
_REACH = 9


def label_of(draft: Draft, unsure: frozenset[int]) -> Label:
    """The label of a transcript whose rules have run.

    Args:
      draft: after all rules.
      unsure: words of slots that were taken although no contact bears that name.
    """
    if all(word.text in FILLERS for word in draft.words):
        return Label.EMPTY
    slots = {slot.verb: slot for slot in reversed(find_slots(draft))}
    for index, word in enumerate(draft.words):
        if index in slots:
            return _of_slot(draft, slots[index], unsure)
        if word.text in _TRIGGERS and draft.kind_at(index) is None:
            return _TRIGGERS[word.text]
    return Label.OTHER


def _of_slot(draft: Draft, slot: Slot, unsure: frozenset[int]) -> Label:
    contact, number, other = _NAMES[slot.action]
    for index in range(slot.first, min(slot.start + _REACH, len(draft.words))):
        if index > slot.first and (
            draft.ends_sentence(index - 1) or draft.word(index) in _NEXT_CLAUSE
        ):  # fmt: skip
            break
        kind = draft.kind_at(index)
        if kind is Kind.AMOUNT and draft.word(slot.verb) in GIVING:
            return Label.PAY
        if kind is Kind.CONTACT:
            return other if index in unsure else contact
        if kind is Kind.PHONE or index in draft.emergencies:
            return number
    return other
