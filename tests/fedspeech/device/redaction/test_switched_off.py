"""Each group of rules is needed: switched off, cases of its own fail."""

import json
import re
from pathlib import Path

import pytest

from fedspeech.device.redaction import contacts, draft, numbers, quantities, redactor
from fedspeech.device.redaction.draft import Draft, Kind
from fedspeech.device.redaction.labels import Label
from fedspeech.device.redaction.redactor import Redacted, redact

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("cases.jsonl").read_text("utf-8").splitlines()
]
SENTENCES = ("several", "mixed")
"""Of the groups, those that show rules together and are none."""


def without_step(*names):
    """Leaves steps out of the order in which rules run."""

    def switch(patch):
        left = tuple(rule for rule in redactor.RULES if rule.__name__ not in names)
        assert len(left) == len(redactor.RULES) - len(names)
        patch.setattr(redactor, "RULES", left)

    return switch


def without_kind(kind, *, spoken=False):
    """Lets no rule take anything for a kind; if `spoken`, none without digits."""
    take = Draft.take

    def switch(patch):
        def taken(self, start, end, one):
            left = one is kind and not (spoken and re.search(r"\d", self.text[start:end]))
            return False if left else take(self, start, end, one)

        patch.setattr(Draft, "take", taken)

    return switch


def answering(module, name, answer):
    """Has a function answer one thing, whatever it is asked."""
    return lambda patch: patch.setattr(module, name, lambda *_: answer)


def no_emergencies(patch):
    for module in (quantities, numbers):
        patch.setattr(module, "is_emergency", lambda *_: False)


SWITCHES = {
    "secret": without_step("secrets"),
    "account": without_kind(Kind.ACCOUNT),
    "id number": without_kind(Kind.ID_NUMBER),
    "card": without_kind(Kind.CARD),
    "email": without_kind(Kind.EMAIL),
    "url": without_kind(Kind.URL),
    "ip": without_kind(Kind.IP),
    "location": without_kind(Kind.LOCATION),
    "amount": without_step("amounts"),
    "address": without_step("addresses"),
    "kept": without_step("quantities"),
    "emergency": no_emergencies,
    "phone": without_kind(Kind.PHONE),
    "spoken phone": without_kind(Kind.PHONE, spoken=True),
    "postcode": without_kind(Kind.POSTCODE),
    "number": without_kind(Kind.NUMBER),
    "contact": answering(redactor, "known_contacts", None),
    "ambiguous contact": answering(contacts, "_places", set()),
    "unknown name": answering(redactor, "unknown_names", frozenset()),
    "label": answering(redactor, "label_of", Label.OTHER),
    "placeholder": lambda patch: patch.setattr(draft, "_PLACEHOLDER", re.compile("(?!)")),
}


def redacted(case):
    return redact(case["text"], case["contacts"], case["region"])


def fails(case):
    return redacted(case) != Redacted(case["redacted"], case["label"])


def test_there_is_a_switch_for_each_group():
    assert {*SWITCHES, *SENTENCES} == {case["rule"] for case in CASES}


@pytest.mark.parametrize("rule", SWITCHES)
def test_a_group_that_is_switched_off_fails_cases_of_its_own(rule, monkeypatch):
    own = [case for case in CASES if case["rule"] == rule]
    SWITCHES[rule](monkeypatch)
    assert sum(map(fails, own)) > len(own) / 10
    monkeypatch.undo()
    assert not any(map(fails, own))


@pytest.mark.parametrize("step", [rule.__name__ for rule in redactor.RULES])
def test_a_step_that_is_left_out_fails_the_suite(step, monkeypatch):
    without_step(step)(monkeypatch)
    assert any(map(fails, CASES))


def test_the_switches_together_leave_every_placeholder_out(monkeypatch):
    monkeypatch.setattr(redactor, "RULES", ())
    monkeypatch.setattr(redactor, "known_contacts", lambda *_: None)
    monkeypatch.setattr(redactor, "unknown_names", lambda *_: frozenset())
    assert not [case for case in CASES if case["rule"] != "placeholder"
                and redacted(case).redacted != case["text"]]  # fmt: skip
