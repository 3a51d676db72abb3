"""A transcript without what names or finds a person, on the phone and before anything leaves it.

    >>> redact("call Anna's office on 555 0123", ["Anna Lee"], "US")
    Redacted(redacted="call [CONTACT]'s office on [PHONE]", label='CALL_CONTACT')

Rules run in one order over one draft (docs/redaction.md). What a rule decides, none after it
changes: secrets come first, since anything may be one; quantities, dates and times are kept before
numbers are judged; names of contacts come last, in what is still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from phonenumbers import SUPPORTED_REGIONS

from fedspeech.device.redaction import (
    coordinates,
    identifiers,
    internet,
    numbers,
    places,
    quantities,
    secrets,
    written,
)
from fedspeech.device.redaction.contacts import Contacts, known_contacts
from fedspeech.device.redaction.draft import Draft
from fedspeech.device.redaction.labels import label_of
from fedspeech.device.redaction.unknown_names import unknown_names
from fedspeech.errors import require

RULES = (
    secrets.secrets,
    written.ibans,
    identifiers.identifiers,
    written.patterns,
    internet.spoken_emails,
    written.domains,
    internet.spoken_urls,
    internet.spoken_ips,
    coordinates.spoken_coordinates,
    quantities.amounts,
    places.addresses,
    quantities.quantities,
    identifiers.spelled,
    numbers.numbers,
)
"""In this order; contacts follow."""

_ALIASES = {"UK": "GB", "EN": "GB"}


class Redacted(NamedTuple):
    """What is left of a transcript.

    Attributes:
      redacted: the text with placeholders; it may stay on the phone and nowhere else.
      label: what the command asked for, of the closed vocabulary `labels.Label`: this may leave.
    """

    redacted: str
    label: str


class Redactor:
    """Redacts transcripts of one phone."""

    def __init__(self, contacts: Sequence[str] = (), region: str | None = None) -> None:
        """Reads the address book.

        Args:
          contacts: names as the user wrote them.
          region: ISO 3166 code of the country whose phone numbers need no prefix, such as "GB"
            ("UK" is taken for it); None where it is not known.

        Raises:
          ValueError: if phone numbers of the region are not known.
        """
        code = region.upper() if region else None
        self.region = _ALIASES.get(code, code) if code else None
        require(
            self.region is None or self.region in SUPPORTED_REGIONS,
            "region must be an ISO 3166 code such as US, GB, DE, FR or IN", region=region,
        )  # fmt: skip
        self.contacts = Contacts(contacts, self.region)

    def redact(self, text: str) -> Redacted:
        """Replaces what names or finds a person, in time that grows with the text's length."""
        draft = Draft(text, self.region)
        for rule in RULES:
            rule(draft)
        known_contacts(draft, self.contacts)
        unsure = unknown_names(draft)
        return Redacted(draft.redacted(), str(label_of(draft, unsure)))


def redact(text: str, contacts: Sequence[str] = (), region: str | None = None) -> Redacted:
    """Redacts one transcript; `Redactor` says what its arguments are.

    Raises:
      ValueError: if phone numbers of the region are not known.
    """
    return Redactor(contacts, region).redact(text)
