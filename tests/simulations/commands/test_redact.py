"""`fedspeech redact`: JSON lines in, JSON lines out, and bad lines refused without their text."""

import json
import subprocess
import sys

import pytest

import fedspeech as fs
from fedspeech.errors import FedspeechError

GOOD = '{"text": "call Anné", "contacts": ["Anne"], "region": "US"}'


def lines(tmp_path, content):
    file = tmp_path / "said.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return fs.redact_lines(file)


def test_objects_without_contacts_or_region_and_blank_lines_are_read(tmp_path):
    content = (
        f'\ufeff{GOOD}\n\n{{"text": "hello", "contacts": null, "region": null}}\r\n{{"text": ""}}'
    )
    assert [found.label for found in lines(tmp_path, content)] == ["CALL_CONTACT", "OTHER", "EMPTY"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{secret", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('["secret"]', "must be an object, got list"),
        ('{"text": 1}', "`text` must be a string, got int"),
        ('{"contacts": []}', "`text` must be a string, got NoneType"),
        ('{"text": "secret", "contacts": "secret"}', "`contacts` must be a list of strings"),
        ('{"text": "secret", "contacts": [1]}', "`contacts` must be a list of strings"),
        ('{"text": "secret", "region": 1}', "`region` must be a string, got int"),
        ('{"text": "secret", "region": "XX"}', "region must be an ISO 3166 code"),
        ('{"text": "x", "secret": 1}', "may have the fields text, contacts, region, and has 1"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
    ids=range(11),
)
def test_a_bad_line_is_refused_by_its_number_and_its_text_is_not_shown(tmp_path, bad, said):
    content = GOOD.encode() + b"\n" + (bad if isinstance(bad, bytes) else bad.encode())
    found = lines(tmp_path, content)
    assert next(found).label == "CALL_CONTACT"
    with pytest.raises(FedspeechError, match=f"line 2: .*{said}") as refused:
        next(found)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
def test_standard_input_is_read_and_ascii_is_written():
    done = subprocess.run(
        [sys.executable, "-m", "simulations.cli", "redact"],
        input=f'{GOOD}\n{{"text": "ça va"}}\n{{', capture_output=True, text=True, check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert [json.loads(line)["redacted"] for line in done.stdout.splitlines()] == [
        "call [CONTACT]",
        "ça va",
    ]
    assert done.stdout.isascii()
    assert done.returncode == 1
    assert done.stderr == "fedspeech: line 3: is no JSON\n"
