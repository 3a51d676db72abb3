"""Cases of redaction, one JSON object a line, grouped by the rules of docs/redaction.md."""

import collections
import json
import re
from pathlib import Path

import pytest

from fedspeech.device.redaction.draft import Kind
from fedspeech.device.redaction.labels import Label
from fedspeech.device.redaction.redactor import Redacted, redact

ROOT = Path(__file__).parents[4]
LINES = Path(__file__).with_name("cases.jsonl").read_text("utf-8").splitlines()
CASES = [json.loads(line) for line in LINES]
RULES = list(dict.fromkeys(case["rule"] for case in CASES))
PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")


def redacted(case, text=None):
    return redact(case["text"] if text is None else text, case["contacts"], case["region"])


@pytest.mark.parametrize("rule", RULES)
def test_every_case_of_a_rule(rule):
    wrong = [
        (case["text"], found)
        for case in CASES
        if case["rule"] == rule
        and (found := redacted(case)) != Redacted(case["redacted"], case["label"])
    ]
    assert not wrong


def test_there_are_many_and_no_two_alike():
    assert len(CASES) >= 300
    keys = collections.Counter(
        (case["text"], *case["contacts"], case["region"], case["rule"]) for case in CASES
    )
    assert max(keys.values()) == 1


def test_every_rule_is_written_down():
    page = (ROOT / "docs" / "redaction.md").read_text("utf-8")
    assert not [rule for rule in RULES if f"| {rule} |" not in page]


def test_every_placeholder_and_every_label_is_shown_and_no_other():
    shown = {name for case in CASES for name in PLACEHOLDER.findall(case["redacted"])}
    assert shown == {f"[{kind}]" for kind in Kind}
    assert {case["label"] for case in CASES} == set(Label)


def test_what_was_redacted_is_not_redacted_again():
    assert not [case for case in CASES if redacted(case, case["redacted"])[0] != case["redacted"]]


@pytest.mark.slow
def test_case_does_not_matter():
    """Recognizers write in lower or in upper case."""
    for case in CASES:
        kinds = PLACEHOLDER.findall(case["redacted"])
        for text in (case["text"].upper(), case["text"].lower()):
            if case["rule"] != "placeholder":
                assert PLACEHOLDER.findall(redacted(case, text).redacted) == kinds, text


@pytest.mark.slow
def test_the_end_of_a_sentence_does_not_matter():
    for case in CASES:
        if case["text"].strip(" .") and not case["text"].endswith("."):
            found = redacted(case, case["text"] + ".").redacted
            assert found == case["redacted"] + ".", case["text"]
