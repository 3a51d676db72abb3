"""Where a command expects somebody's name: behind "call", before "'s number", and so on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum

from fedspeech.device.redaction.draft import Draft
from fedspeech.device.redaction.vocabulary import FILLERS, KIN, listed, words


class Action(StrEnum):
    """What is done to whoever stands in a slot."""

    CALL = "CALL"
    MESSAGE = "MESSAGE"


NO_VERB = -1


@dataclass(frozen=True)
class Slot:
    """A place for a name or a number.

    Attributes:
      action: of the command.
      verb: index of the word that commands it; NO_VERB where somebody's number is spoken of.
      first: the word behind the verb.
      start: the first word behind "my", "the", "brother" and the like.
      is_command: the verb stands where commands stand, so that a name is to be expected.
    """

    action: Action
    verb: int
    first: int
    start: int
    is_command: bool


_VERBS = {
    verb: action
    for action, verbs in (
        (Action.CALL, """call phone dial ring facetime skype redial telephone buzz ruf rufe anrufen
         appelle appeler appelez telephoner telephoniere telefoniere callback"""),
        (Action.MESSAGE, """text message sms whatsapp email mail tell write reply respond msg dm
         imessage schreib schreibe schreiben sag sage simse ecris ecrire dis textet mailen
         e-mail forward notify"""),
    )
    for verb in verbs.split()
}  # fmt: skip
GIVING = listed("ask send schick schicke sende envoie envoyer envoyez bhejo")
_ALWAYS_VERBS = listed("""call dial facetime redial ruf rufe appelle appeler telephoner""")
_LEADING = FILLERS | listed(
    """please to and then you can could just now lets let's wanna gonna want i i'll would
    quickly also or should i'd must need bitte mal siri alexa google cortana bixby assistant
    computer jarvis friday we we'll don't not video voice quick immediately next first
    kannst ich du il te veux pour"""
)
_DETERMINERS = listed(
    """a an the this that these those my your his her our their last missed next each every any
    no phone conference first new unread incoming recent previous one voice some more zoom
    group what which whose said for ein eine der die das mein meine un une le la mon ma"""
)
_ASSISTANTS = listed("siri google alexa cortana bixby assistant")
_TITLED = listed("play song movie album called named watch book")
_NO_OBJECT = listed("is was are has down number history log settings")
_NAMING = listed("what do does did")  # "what do you call a baby kangaroo"
_SKIPPED = FILLERS | listed(
    """to up my the a an back over again number both mit den die der dem das meine meinen mein
    ma mon mes au aux le la un une karo quickly audio now und mal bitte ans our with for hey"""
)
RELATIONS = (
    KIN
    | words("titles")
    | listed(
        """friend brother sister cousin boss neighbor neighbour colleague landlord landlady coach
    girlfriend boyfriend partner roommate flatmate teacher daughter son freund freundin
    kollege kollegin nachbar chef ami amie collegue voisin voisine"""
    )
)
_NOUNS = listed(
    """call calls message messages text texts email emails mail sms voicemail voicemails photo
    photos picture pictures note whatsapp conversation chat msg video nachricht anruf appel
    location selfie"""
)
_TO = listed("to for from with an von fur de pour avec by")
_FRENCH = frozenset({"FR", "BE", "CH", "CA", "LU", "MC"})
_ACTIVE = {
    verb: action
    for action, verbs in (
        (Action.CALL, "call called calling calls ring rang ringing phone phoned anrufen"),
        (Action.MESSAGE, """text texted texting message messaged email emailed write written wrote
         reply replied respond responded answer answered say said send sent"""),
    )
    for verb in verbs.split()
}  # fmt: skip
_ASKING = listed("did has have is was when if does kannst")
_HOLDINGS = listed(
    """number mobile cell phone contact voicemail message messages text texts email emails
    landline nummer handynummer numero"""
)


def find_slots(draft: Draft) -> list[Slot]:
    """Every place of a transcript where somebody's name may stand, in order."""
    found: list[Slot] = []
    for index in range(len(draft.words)):
        if draft.kind_at(index) is None:  # the word in [EMAIL] commands nothing
            found += _behind_verb(draft, index)
            found += _behind_noun(draft, index)
        found += _before_verb(draft, index)
    return found


def is_command(draft: Draft, index: int) -> bool:
    """Whether a word stands where a command begins."""
    if draft.word(index + 1) in _NO_OBJECT:
        return False
    if index == 0 or draft.ends_sentence(index - 1) or "," in draft.gap(index - 1):
        return True
    before = draft.word(index - 1)
    if _TITLED & {draft.word(place) for place in range(index - 3, index)}:
        return False
    if before == "you" and draft.word(index - 2) in _NAMING:
        return False
    if draft.word(index) in _ALWAYS_VERBS:
        return before not in _DETERMINERS and before not in ("we", "they")
    return before in _LEADING


def _behind_verb(draft: Draft, index: int) -> list[Slot]:
    word = draft.word(index)
    if word in _VERBS and is_command(draft, index):
        return [_slot(draft, _VERBS[word], index, index + 1, True)]
    if word == "ask" and draft.word(index + 1) in _ASSISTANTS:
        return []
    if word in GIVING:
        return _given(draft, index, Action.MESSAGE, index + 1)
    if word in ("give", "get", "let"):
        near = {draft.word(place) for place in range(index + 2, index + 7)}
        if draft.word(index + 1) in ("me", "us"):
            on_the_phone = word == "get" and near & {"phone", "line"}
            return [_slot(draft, Action.CALL, index, index + 2, False)] if on_the_phone else []
        if word == "let" and "know" in near:
            return [_slot(draft, Action.MESSAGE, index, index + 1, False)]
        if word != "let" and near & {"call", "ring", "phone", "buzz", "line"}:
            return [_slot(draft, Action.CALL, index, index + 1, False)]
    return []


def _given(draft: Draft, verb: int, action: Action, first: int) -> list[Slot]:
    """As in "send Will a photo" and "send a photo to Will"."""
    found = [_slot(draft, action, verb, first, False)]
    for index in range(first, min(first + 9, len(draft.words))):
        if draft.ends_sentence(index - 1):
            break
        if index > first and _leads_to_a_name(draft, index):
            found.append(_slot(draft, action, verb, index + 1, False))
    return found


def _leads_to_a_name(draft: Draft, index: int) -> bool:
    """Whether a word is "to", in German "an", in French the "à" that folds to "a"."""
    word = draft.word(index)
    return word in ("to", "an") or (word == "a" and draft.region in _FRENCH)


def _behind_noun(draft: Draft, index: int) -> list[Slot]:
    behind = draft.word(index + 1) in _TO or _leads_to_a_name(draft, index + 1)
    if draft.word(index) not in _NOUNS or not behind:
        return []
    if draft.ends_sentence(index):
        return []
    calls = draft.word(index) in ("call", "calls", "anruf", "appel") or (
        draft.word(index - 1) == "video"
    )
    return [_slot(draft, Action.CALL if calls else Action.MESSAGE, index, index + 2, False)]


def _before_verb(draft: Draft, index: int) -> list[Slot]:
    """As in "did Will call", "Rose's number", "Will ko call karo"."""
    behind = draft.word(index + 1)
    if draft.ends_sentence(index):
        return []
    if behind in _ACTIVE and draft.word(index - 1) in _ASKING:
        return [Slot(_ACTIVE[behind], index + 1, index, index, False)]
    if behind == "calling":
        return [Slot(Action.CALL, NO_VERB, index, index, False)]
    if behind in _HOLDINGS and draft.words[index].text.endswith("'s"):
        return [Slot(Action.CALL, NO_VERB, index, index, False)]
    if behind == "ko" and draft.word(index + 2) in {*_VERBS, "phone"}:
        return [Slot(_VERBS[draft.word(index + 2)], index + 2, index, index, True)]
    if behind == "anrufen":
        return [Slot(Action.CALL, index + 1, index, index, True)]
    return []


def _slot(draft: Draft, action: Action, verb: int, first: int, command: bool) -> Slot:
    start = first
    while draft.is_open_word(start) and draft.word(start) in _SKIPPED | RELATIONS:
        if draft.ends_sentence(start - 1) or start > first + 6:
            break
        start += 1
    return Slot(action, verb, first, start, command)


@functools.cache
def verbs_of(action: Action) -> frozenset[str]:
    """Words that command an action."""
    return frozenset(verb for verb, does in _VERBS.items() if does is action)
