"""What holds of every transcript: nothing named survives, nothing takes long, nothing is random."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.device.redaction.folding import fold
from fedspeech.device.redaction.redactor import Redactor, redact

CARRIERS = (
    "{}", "call {}", "tell {} i'm late", "remind me to meet {} at ten", "where is {} now",
    "UH {} SAID HELLO", "it was {}, i think.", "anything from {}?", "{} and {} are here",
    "i will see {} in may", "play the song {} likes", "10 minutes to {}'s house",
)  # fmt: skip
NAMES = (
    "Anna", "Anna Lee", "José García", "Grace O'Brien", "Jean-Luc Picard", "Jürgen Müller",
    "Søren Ångström", "Nguyễn Văn Hùng", "Мария Иванова", "李小龙", "राम कुमार", "Mom", "Siobhán",
    "D'Angelo Russell", "Jan van der Berg", "Dr. Raj Patel",
)  # fmt: skip


def plain(text):
    return fold(text).text.replace("'", "").replace("-", "")


@pytest.mark.parametrize("name", NAMES)
def test_no_contact_survives(name):
    forms = {name, name.upper(), name.lower(), name.split()[-1], name.replace("'", "")}
    for carrier, form in itertools.product(CARRIERS, forms):
        found = redact(carrier.format(form, form), [name, "Zoe Quist"], "US").redacted
        assert "[CONTACT]" in found
        parts = plain(form).split()
        assert not [part for part in parts if part in plain(found).split() and part != "dr."], found


@pytest.mark.parametrize("region", ["US", "GB", "DE", "FR", "IN", None])
@given(whole=st.integers(0, 999), part=st.from_regex(r"\A[0-9]{1,25}\Z"))
def test_a_decimal_is_no_card_id_or_number_however_long_it_is(region, whole, part):
    for carrier in ("{}%", "the ratio is {}", "volume {}"):
        said = carrier.format(f"{whole}.{part}")
        assert redact(said, (), region).redacted == said


SENSITIVE = {
    "555-0142-867": ("555", "867"), "five five five oh one four two": ("five", "four"),
    "4111 1111 1111 1111": ("4111",), "john dot smith at example dot com": ("john", "smith"),
    "john_smith@example.com": ("smith",), "twenty one baker street": ("baker", "twenty"),
    "221b Baker Street": ("baker", "221"), "192.168.12.14": ("192", "168"),
    "https://example.com/secret": ("secret",), "my pin is four eight two one": ("eight",),
    "my password is blue falcon": ("falcon", "blue"), "GB82 WEST 1234 5698 7654 32": ("west",),
    "account number 12345678": ("12345678",), "fifty seven dollars": ("fifty", "seven"),
    "40.7128, -74.0060": ("40", "74"), "passport number X1234567": ("1234567",),
}  # fmt: skip
AROUND = ("{}", "call mom and say {}", "UM SO {} OKAY", "it is {}.", "note: {}\nthen stop",
          "set a timer for ten minutes. {}", "{} {}")  # fmt: skip


@pytest.mark.parametrize("said", SENSITIVE)
def test_no_value_survives_in_any_sentence(said):
    for around, region in itertools.product(AROUND, ("US", "GB", "DE", "FR", "IN", None)):
        found = plain(redact(around.format(said, said), ["Mom"], region).redacted)
        assert not [word for word in SENSITIVE[said] if word in found.split()], found


def test_the_order_of_contacts_does_not_matter():
    names = [*NAMES, "Will Smith", "May", "Rose", "Anna May Lee"]
    texts = [carrier.format(name, name) for carrier in CARRIERS for name in names]
    one, other = Redactor(names, "US"), Redactor(names[::-1], "US")
    assert [one.redact(text) for text in texts] == [other.redact(text) for text in texts]


def test_an_unknown_region_is_refused_by_name():
    with pytest.raises(ValueError, match=r"region must be an ISO 3166 code .* got region='Mars'"):
        redact("call anna", [], "Mars")
    assert redact("ring 020 7946 0958", [], "uk") == redact("ring 020 7946 0958", [], "GB")


HOSTILE = ("1 ", "one ", "1.", "192.168.", "a@", "a.", "password is ", "john dot at ", "call ",
           "twenty ", "https://", "rue de ", "code for 1 ", "anna ", "'", "12/", "((")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_length(piece):
    """Eight times the length takes about eight times as long; the square of it would be 64."""
    redactor = Redactor(["Anna Lee"], "US")

    def seconds(length):
        start = time.process_time()
        redactor.redact(piece * (length // len(piece)))
        return time.process_time() - start

    redactor.redact("warm up 555 0100")
    assert seconds(4_000) < 24 * max(min(seconds(500), seconds(500)), 0.002)


@pytest.mark.parametrize(
    "text", ["\ud800", "\0", "5\u200b5\u200b5 0\u200b1\u200b4\u200b2", "ﬁve", "²³"]
)
def test_strange_characters_are_read(text):
    assert redact(text, ["\ud800", "", " ", "😀"], None).redacted is not None


def test_digits_are_not_hidden_by_what_nobody_sees():
    for text in (
        "call 5\u200b5\u200b5 0\u200b1\u200b4\u200b2",
        "call ５５５ ０１４２",
        "call ٥٥٥ ٠١٤٢",
    ):
        assert redact(text, [], "US").redacted == "call [PHONE]"
