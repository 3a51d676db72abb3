"""Numbers of accounts, cards, papers and orders, known by the word before them."""

from __future__ import annotations

from fedspeech.device.redaction.codes import code_at, spelled_from
from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.vocabulary import listed
from fedspeech.device.redaction.written import is_uk_postcode

_CUES: dict[tuple[str, ...], Kind] = {
    tuple(cue.split()): kind
    for kind, cues in (
        (Kind.ACCOUNT, """account; acct; iban; bic; swift; swift code; routing number; routing;
         sort code; ifsc; ifsc code; branch code; kontonummer; konto; bankleitzahl; blz; compte;
         numero de compte; upi; upi id; wallet address; checking; savings"""),
        (Kind.CARD, """card; visa; mastercard; amex; american express; kreditkarte; ec karte; karte;
         carte; carte bleue; carte bancaire; maestro; rupay; discover card"""),
        (Kind.ID_NUMBER, """social security; social; ssn; passport; license; licence;
         driver's license; driving licence; drivers license; license plate; number plate; plate;
         registration; national insurance; ni number; nhs number; nhs; tax; tax id; tin; vat;
         aadhaar; aadhar; adhar; pan; pan card; aadhaar card; voter id; order; order id; tracking;
         shipment; parcel; package; invoice; ticket; case; booking; booking code; booking reference;
         confirmation; confirmation code; reference; reference code; ref; reservation; policy;
         insurance; member; membership; customer; client; patient; medical record; record;
         student; employee; staff; badge; serial; imei; vin; frequent flyer; loyalty; id;
         identity card; id card; library card; membership card; insurance card; loyalty card;
         steuernummer; steuer id; steueridentifikationsnummer; sozialversicherungsnummer;
         personalausweis; ausweisnummer; ausweis; reisepass; bestellnummer; bestellung;
         kundennummer; rechnungsnummer; auftragsnummer; vertragsnummer; numero de securite sociale;
         securite sociale; passeport; commande; numero de commande; carte d'identite; dossier;
         green card; medicare; medicaid; application; claim; prescription; pnr; gstin"""),
    )
    for cue in cues.split(";")
}  # fmt: skip
_LONGEST_CUE = 4
_BETWEEN = listed(
    """number numbers no num nr nummer numero id is was ist est it's its ending ends end in
    with on for my the code reference starting starts begins beginning begin um uh er of hai
    lautet please as digits last four first letters endet auf mit und and to plus ka are
    card"""
)
_FARTHEST = 7
# Words that ask for more digits, since numbers stand behind them for other reasons too.
_LOOSE = {
    "order": 4, "ticket": 4, "case": 4, "record": 4, "plate": 3, "package": 4, "parcel": 4,
    "flight": 99, "social": 4, "savings": 4, "checking": 4, "tax": 5, "application": 4, "claim": 4,
    "id": 3, "social security": 4, "staff": 3, "customer": 3, "registration": 3, "insurance": 4,
    "policy": 4, "card": 4, "carte": 4, "karte": 4, "client": 3, "student": 3, "patient": 3,
}  # fmt: skip
_FEWEST = 3


def identifiers(draft: Draft) -> None:
    """Takes the number that follows a word for an account, a card, a paper or an order."""
    index = 0
    while index < len(draft.words):
        found = _cue(draft, index)
        if found:
            index = _take(draft, index, *found)
        else:
            index += 1


def _cue(draft: Draft, index: int) -> tuple[int, Kind] | None:
    for length in range(_LONGEST_CUE, 0, -1):
        cue = tuple(draft.word(place) for place in range(index, index + length))
        kind = _CUES.get(cue)
        if kind:
            return index + length, kind
    return None


def _take(draft: Draft, cue: int, after: int, kind: Kind) -> int:
    """Takes the number behind a cue; where the search goes on."""
    index = after
    while index < after + _FARTHEST and not draft.ends_sentence(index - 1):
        if further := _cue(draft, index):  # "account card": the last word before a number decides
            return index if further[0] > index else after
        end, text = code_at(draft, index)
        if end > index and _identifies(text, " ".join(map(draft.word, range(cue, after)))):
            draft.take_words(index, end, kind)
            return end
        if draft.word(index) not in _BETWEEN:
            break
        index += 1
    return after


def _identifies(text: str, cue: str) -> bool:
    """Whether a code is long enough for its cue; letters alone must be many."""
    digits = sum(map(str.isdigit, text))
    fewest = _LOOSE.get(cue, _FEWEST)
    return digits >= fewest or (digits >= 1 and len(text) > fewest) or len(text) >= 5


def _is_extended(text: str) -> bool:
    """Whether a code is a phone number with its extension, such as 5552671x12."""
    before, _, behind = text.partition("x")
    return before.isdigit() and len(before) >= 7 and behind.isdigit()


def spelled(draft: Draft) -> None:
    """Takes codes that are spelled, "s w one a one a a", without a word that says what they are."""
    index = 0
    while index < len(draft.words):
        after, text = spelled_from(draft, index)
        digits = sum(map(str.isdigit, text))
        letters = len(text) - digits
        if after - index >= 2 and letters and is_uk_postcode(text):
            draft.take_words(index, after, Kind.POSTCODE)
        elif letters >= 1 and digits >= 3 and len(text) >= 6 and not _is_extended(text):
            draft.take_words(index, after, Kind.ID_NUMBER)
        index = max(after, index + 1)
