"""Bad artifacts are found by the rule that is meant for them, and good ones pass."""

import hashlib
import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import shared_artifacts

from fedspeech.sharing import gate
from fedspeech.sharing.finding import rule_id

GOOD, BAD = shared_artifacts.good(), shared_artifacts.bad()
BEFORE_RULES = {"unreadable", "file-type", "bad-manifest"}


def verdict(case):
    return gate.check_content(case.name, case.content, case.manifest_bytes(), case.policy)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_artifact_passes(name):
    assert verdict(GOOD[name]).findings == ()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_artifact_is_found_by_its_rule(name):
    rule, case = BAD[name]
    assert rule in {finding.rule for finding in verdict(case).findings}


@pytest.mark.parametrize("name", [name for name in BAD if BAD[name][0] not in BEFORE_RULES])
def test_without_its_rule_a_bad_artifact_passes(name, monkeypatch):
    """So every rule is needed, and every case is about one thing."""
    rule, case = BAD[name]
    others = tuple(each for each in gate.RULES if rule_id(each) != rule)
    assert len(others) == len(gate.RULES) - 1
    monkeypatch.setattr(gate, "RULES", others)
    assert verdict(case).findings == ()


def mutated(content, rng):
    """Some bytes changed, cut, repeated or put in."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(data) + 1))
        size = int(rng.integers(1, 12))
        match rng.integers(0, 4):
            case 0:
                data[place : place + size] = rng.bytes(size)
            case 1:
                del data[place : place + size]
            case 2:
                data[place:place] = data[place : place + size] * 3
            case _:
                data[place:place] = rng.choice([b'"', b"{", b"]", b",", b"\x00", b"NaN", b"<!--"])
    return bytes(data)


def readable(case, content):
    """What other readers make of it."""
    try:
        match case.name.rpartition(".")[2]:
            case "json":
                json.loads(content.decode("utf-8-sig"))
            case "jsonl":
                [json.loads(line) for line in content.decode().split("\n") if line.strip()]
            case "toml":
                tomllib.loads(content.decode("utf-8-sig"))
            case "safetensors":
                safetensors.numpy.load(content)
            case _:
                content.decode()
    except (ValueError, safetensors.SafetensorError):
        return False
    return True


def fuzz(times, seed):
    rng = np.random.default_rng(seed)
    passed = 0
    for name, case in list(GOOD.items()) * (times // len(GOOD) + 1):
        content = mutated(case.content, rng)
        if content == case.content:
            continue
        stale = gate.check_content(case.name, content, case.manifest_bytes(), case.policy)
        assert not stale.passed, f"{name}: other bytes under an old manifest"
        sha256 = hashlib.sha256(content).hexdigest()
        fresh = replace(case, content=content, manifest=replace(case.manifest, sha256=sha256))
        found = verdict(fresh)
        passed += found.passed
        assert not found.passed or readable(case, content), f"{name}: {content!r}"
    return passed


def test_what_cannot_be_read_never_passes():
    assert fuzz(200, seed=1) > 0, "nothing would be shown if every mutation were refused"


@pytest.mark.adversarial
def test_five_thousand_mutations_never_pass_unread():
    assert fuzz(5_000, seed=2) > 0


def test_a_rule_that_fails_has_found_something(monkeypatch):
    def broken_rule(shared):
        raise RuntimeError("private words")
        yield

    monkeypatch.setattr(gate, "RULES", (broken_rule,))
    (found,) = verdict(GOOD["table"]).findings
    assert found.rule == "broken-rule"
    assert "private words" not in found.why


@pytest.mark.parametrize("name", BAD)
def test_findings_do_not_repeat_what_they_found(name):
    """They are printed and stand in logs."""
    secrets = ("Marchetti", "0042", "QX7715", "dentist", "umbrella", "10.0.4.17", "/ann")
    for finding in verdict(BAD[name][1]).findings:
        assert not any(secret in finding.why for secret in secrets)


@pytest.mark.parametrize("field", ["kind", "tier", "purpose", "expires", "contributors", "sha256"])
def test_a_manifest_without_a_field_is_none(field):
    case = GOOD["table"]
    record = json.loads(case.manifest_bytes())
    del record[field]
    found = gate.check_content(case.name, case.content, json.dumps(record).encode(), case.policy)
    assert "bad-manifest" in {finding.rule for finding in found.findings}


@pytest.mark.parametrize(
    ("field", "value"),
    [("contributors", 1e9), ("contributors", True), ("consent_epoch", "9"), ("tier", "everybody"),
     ("expires", "never"), ("sha256", "AB" * 32), ("schema", 2), ("claim", {"epsilon": 0.1})],
)  # fmt: skip
def test_a_manifest_of_another_form_is_none(field, value):
    case = GOOD["table"]
    record = json.loads(case.manifest_bytes()) | {field: value}
    found = gate.check_content(case.name, case.content, json.dumps(record).encode(), case.policy)
    assert "bad-manifest" in {finding.rule for finding in found.findings}


@pytest.mark.parametrize("field", ["tier", "contributors", "consent_epoch", "expires", "claim"])
def test_a_signed_manifest_cannot_be_changed(field):
    case = GOOD["table"]
    record = json.loads(case.manifest_bytes())
    record[field] = {"tier": "internal", "contributors": 5000, "consent_epoch": 99,
                     "expires": "2030-01-01", "claim": None}[field]  # fmt: skip
    found = gate.check_content(case.name, case.content, json.dumps(record).encode(), case.policy)
    assert "signature" in {finding.rule for finding in found.findings}


def test_a_strangers_signature_is_none():
    case = GOOD["table"]
    signed = case.manifest.sign(shared_artifacts.STRANGER).write()
    found = gate.check_content(case.name, case.content, signed, case.policy)
    assert {finding.rule for finding in found.findings} == {"signature"}


def model(buffers, outside=b""):
    """A TensorFlow Lite file of some buffers alone, as FlatBuffers writes it."""
    import flatbuffers

    builder = flatbuffers.Builder(0)
    tables = []
    for data in buffers:
        vector = builder.CreateByteVector(data)
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    listed = builder.EndVector()
    said = builder.CreateString(outside)
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(3, said, 0)
    builder.PrependUOffsetTRelativeSlot(4, listed, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


WEIGHTS = np.random.default_rng(0).integers(0, 256, 300_000).astype(np.uint8).tobytes()
CARD = json.dumps({"labels": ["yes"], "thresholds": {"yes": 0.5}, "files": {"a.tflite": {}},
                   "operators": {"MEAN": 3}, "phone": None}).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("buffers", "outside", "rules"),
    [
        ((WEIGHTS, CARD), b"a model of words", set()),
        ((WEIGHTS,), b"by Zoe Marchetti, see /home/ann", {"identity", "local-path"}),
        ((WEIGHTS, b"Zoe Marchetti and others"), b"", {"identity"}),
        ((WEIGHTS + b"\0Zoe Marchetti and the others\0" + WEIGHTS,), b"", {"identity"}),
        ((json.dumps({"rows": [{"accent": "isle", "phones": 4}]}).encode(),), b"", {"small-cell"}),
        ((json.dumps({"speaker": "spk-0042"}).encode(),), b"",
         {"identity", "unknown-key", "row-per-person"}),
        ((json.dumps({"thresholds": {"anna": 1}}).encode(),), b"", {"unknown-key"}),
    ],
)  # fmt: skip
def test_a_model_is_read_by_its_words_and_not_by_its_weights(buffers, outside, rules):
    """300,000 random weights hold paths, accounts and addresses by chance; they are no words."""
    pytest.importorskip("flatbuffers")
    found = verdict(shared_artifacts.case(
        "model.tflite", model(buffers, outside), "model", policy=shared_artifacts.PARTNER,
        tier="partner",
    ))  # fmt: skip
    assert {finding.rule for finding in found.findings} == rules


def test_a_model_whose_buffers_end_elsewhere_is_unreadable():
    pytest.importorskip("flatbuffers")
    whole = model((WEIGHTS,), b"words")
    for content in (whole[:-200_000], whole[:40], b"\xff\xff\xff\x7fTFL3" + whole[8:]):
        found = verdict(shared_artifacts.case(
            "model.tflite", content, "model", policy=shared_artifacts.PARTNER, tier="partner"
        ))  # fmt: skip
        assert [finding.rule for finding in found.findings] == ["unreadable"]


CODE = (
    'def f(x):\n    """Mean of 512 samples."""\n    return x[::320] / (400)[:-2] + 16000  # HTK\n'
)


@pytest.mark.parametrize(
    ("code", "found"),
    [(CODE, set()), (CODE.replace("HTK", "ask ann@example.org"), {"personal-text"}),
     (CODE.replace("16000", "16502530000"), {"personal-text"})],
)  # fmt: skip
def test_of_code_comments_and_literals_are_read_and_slices_are_no_addresses(code, found):
    case = shared_artifacts.in_json(shared_artifacts.rows() | {"note": code})
    assert {finding.rule for finding in verdict(case).findings} == found
