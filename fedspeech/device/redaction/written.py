"""What its writing gives away: addresses of the net, coordinates, ids, cards, postcodes."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address

from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.vocabulary import words

# Every repetition is bounded or cannot overlap what follows it, so that no text takes long.
_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_ENDINGS = "|".join(sorted(words("top level domains") - {"in", "me", "it", "is", "at", "be", "no"}))
_PATH = r"(?::\d{1,5})?(?:[/?#]\S*)?"
_POSTCODE = (
    r"(?:gir ?0aa|(?:[a-pr-uwyz](?:\d{1,2}|[a-hk-y]\d{1,2}|\d[a-hjks-uw]|[a-hk-y]\d[a-y]))"
    r" ?\d[abd-hjlnp-uw-z]{2})"
)
_UK_POSTCODE = re.compile(_POSTCODE)
_ANY_REGION = ""


def _luhn(digits: str) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    doubled = (int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits)))
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits are as many as a card's and satisfy its check digit."""
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and _luhn(digits)


def is_iban(text: str) -> bool:
    """Whether text is an account number by ISO 13616: its remainder by 97 is 1."""
    plain = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[a-z]{2}\d{2}[a-z0-9]{11,30}", plain):
        return False
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except AddressValueError:
        return False


def _is_card_written(text: str) -> bool:
    return is_card(re.sub(r"\D", "", text))


def _no_ordinal(text: str) -> bool:
    return not text.endswith(("st", "nd", "rd", "th"))


_Rule = tuple[Kind, str, str, Callable[[str], bool] | None]
# Kind, regions in which it is looked for, pattern, and what else must hold of what it finds.
_RULES: tuple[_Rule, ...] = (
    (Kind.LOCATION, _ANY_REGION, r"\bgeo:[-+\d.,;=a-z]{3,60}", None),
    (Kind.URL, _ANY_REGION, r"\b(?:https?|ftp|file|wss?)://\S+", None),
    (Kind.EMAIL, _ANY_REGION,
     # The last part of a domain begins with a letter: "CPU @ 2.50GHz" is no address.
     r"(?<![\w.+%-])[\w.+%'-]{1,64} ?@ ?[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[^\W\d_][\w-]{0,62}",
     None),
    (Kind.ACCOUNT, _ANY_REGION, r"(?<![\w.-])[\w.-]{2,64}@[a-z]{2,20}\b", None),
    (Kind.LOCATION, _ANY_REGION, r"///[^\W\d_]{2,30}\.[^\W\d_]{2,30}\.[^\W\d_]{2,30}", None),
    (Kind.LOCATION, _ANY_REGION,
     r"(?<![\w+])(?=[a-z]{0,7}\d)[2-9cfghjmpqrvwx]{4,8}\+[2-9cfghjmpqrvwx]{2,3}\b", None),
    (Kind.LOCATION, _ANY_REGION,
     r"\d{1,3}°\s?\d{1,2}'\s?(?:\d{1,2}(?:\.\d{1,6})?(?:\"|'')\s?)?[nsew]\b"
     r"(?:[,\s]{0,3}\d{1,3}°\s?\d{1,2}'\s?(?:\d{1,2}(?:\.\d{1,6})?(?:\"|'')\s?)?[nsew]\b)?", None),
    (Kind.LOCATION, _ANY_REGION,
     r"(?<![\d.])\d{1,3}(?:\.\d{1,12})?\s?°?\s?[ns]\b[,\s]{1,3}"
     r"\d{1,3}(?:\.\d{1,12})?\s?°?\s?[ew]\b", None),
    (Kind.LOCATION, _ANY_REGION,
     r"(?<![\d.])[-+]?\d{1,2}\.\d{3,15}°?\s?[,;/ ]\s?[-+]?\d{1,3}\.\d{3,15}(?![\d.]\d)°?", None),
    (Kind.ID_NUMBER, _ANY_REGION, r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", None),
    (Kind.ID_NUMBER, _ANY_REGION, r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b", None),
    (Kind.IP, _ANY_REGION, rf"(?<![\d.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\d|\.\d)(?:[:/]\d{{1,5}})?",
     None),
    (Kind.IP, _ANY_REGION, r"(?<![\w:])[0-9a-f:]{2,39}(?![\w:])", _is_ipv6),
    (Kind.ACCOUNT, _ANY_REGION, r"\b(?:bc1[a-z0-9]{25,60}|0x[0-9a-f]{40})\b", None),
    (Kind.ACCOUNT, _ANY_REGION, r"\b[a-z]{2}\d{2}[a-z]{0,4}\d{8,26}\b", None),
    (Kind.CARD, _ANY_REGION, r"(?<![\d-])(?<!\d\.)\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}(?!-?\d)",
     _is_card_written),
    (Kind.CARD, _ANY_REGION, r"(?<![\d-])(?<!\d\.)3\d{3}([ -]?)\d{6}\1\d{5}(?!-?\d)",
     _is_card_written),
    (Kind.ID_NUMBER, _ANY_REGION, r"(?<![\d-])\d{3}-\d{2}-\d{4}(?!-?\d)", None),
    (Kind.ID_NUMBER, "US", r"(?<!\d)(?<!\d )\d{3} \d{2} \d{4}(?! ?\d)", None),
    (Kind.ID_NUMBER, _ANY_REGION, r"\b[a-ceghj-prtw-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[a-d]\b", None),
    (Kind.ID_NUMBER, "IN", r"\b[a-z]{5}\d{4}[a-z]\b", None),
    (Kind.ID_NUMBER, "IN", r"(?<!\d)(?<!\d[ .-])[2-9]\d{3}([ -]?)\d{4}\1\d{4}(?![ -]?\d)", None),
    (Kind.ID_NUMBER, "FR",
     r"(?<!\d)(?<!\d\.)[12] ?\d{2} ?[01]\d ?\d[\dab] ?\d{3} ?\d{3}(?: ?\d{2})?(?!\d)", None),
    (Kind.POSTCODE, _ANY_REGION, rf"\b{_POSTCODE}\b", _no_ordinal),
    (Kind.POSTCODE, "CA", r"\b[a-z]\d[a-z] ?\d[a-z]\d\b", None),
    (Kind.POSTCODE, "US", r"(?<![\d-])\d{5}-\d{4}(?!-?\d)", None),
)  # fmt: skip
_COMPILED = tuple((kind, region, re.compile(text), more) for kind, region, text, more in _RULES)
_IBAN = re.compile(r"\b[a-z]{2}\d{2}(?:[ -][a-z0-9]{4}){2,7}(?:[ -][a-z0-9]{1,3})?\b")
_DOMAIN = re.compile(
    rf"(?<![\w@.-])(?:www\d?\.[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{0,5}}"
    rf"|[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{0,4}}\.(?:{_ENDINGS})){_PATH}(?![\w@-])"
)


def is_uk_postcode(text: str) -> bool:
    """Whether lower-case text without spaces is a postcode of the United Kingdom."""
    return bool(_UK_POSTCODE.fullmatch(text))


def patterns(draft: Draft) -> None:
    """Takes what its writing alone gives away."""
    for kind, region, pattern, holds in _COMPILED:
        if region in (_ANY_REGION, draft.region):
            for found in pattern.finditer(draft.text):
                if holds is None or holds(found[0]):
                    _take_trimmed(draft, *found.span(), kind)


def domains(draft: Draft) -> None:
    """Takes names of the net without "http", such as example.com/page."""
    for found in _DOMAIN.finditer(draft.text):
        if re.search(r"[^\W\d_]", found[0]):
            _take_trimmed(draft, *found.span(), Kind.URL)


def ibans(draft: Draft) -> None:
    """Takes account numbers in groups, whose check digits tell where they end."""
    for found in _IBAN.finditer(draft.text):
        ends = [place.start() for place in re.finditer(r"[ -]|$", found[0])]
        for end in reversed(ends):
            if is_iban(found[0][:end]):
                draft.take(found.start(), found.start() + end, Kind.ACCOUNT)
                break


def _take_trimmed(draft: Draft, start: int, end: int, kind: Kind) -> None:
    """Takes without the punctuation that ends the sentence, and without spaces."""
    text = draft.text[start:end]
    end -= len(text) - len(text.rstrip(" .,;:!?)'\""))
    start += len(text) - len(text.lstrip(" "))
    draft.take(start, end, kind)
