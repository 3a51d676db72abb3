"""Good artifacts with their manifests, and what makes each of them bad."""

import base64
import copy
import datetime
import hashlib
import io
import json
import struct
import wave
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedspeech.hash_chain import HashChain, Head
from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.cells import Cell
from fedspeech.sharing.manifest import Manifest, PrivacyClaim, Tensor
from fedspeech.sharing.policy import Policy

KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
STRANGER = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
HEAD = f"41:{'ab' * 32}"
CLAIM = PrivacyClaim(
    epsilon=6.02, delta=4e-4, mechanism="distributed", relation="zero-out", ledger_head=HEAD
)
POLICY = Policy(
    tier="public",
    signers=(KEY.public,),
    revocation_epoch=3,
    identities=("Zoë Marchetti", "spk-0042", "Björn Ångström", "QX7715"),
    transcripts=("remind me to call the dentist on friday", "where is my blue umbrella"),
    today=datetime.date(2026, 11, 30),
)
LAST_RELEASE = (("98" * 32, (Cell(frozenset({("accent", "north")}), 62),)),)
PARTNER = replace(POLICY, tier="partner")


@dataclass(frozen=True)
class Case:
    """A file, its manifest and the policy that it is held against."""

    name: str
    content: bytes
    manifest: Manifest | None
    policy: Policy = POLICY
    signed: bool = True

    def manifest_bytes(self):
        if self.manifest is None:
            return None
        return (self.manifest.sign(KEY) if self.signed else self.manifest).write()


def manifest_of(name, content, kind, **changes):
    given = {
        "kind": kind, "file": name, "sha256": hashlib.sha256(content).hexdigest(),
        "tier": "public", "purpose": "a table of a paper", "expires": "2027-06-30",
        "consent_epoch": 3, "contributors": 240, "plan_fingerprint": "cd" * 32,
        "parents": ("ef" * 32,), "steps": ("averaged over phones",), "claim": CLAIM,
    }  # fmt: skip
    return Manifest(**{**given, **changes})


def case(name, content, kind="table", policy=POLICY, signed=True, **changes):
    content = content.encode() if isinstance(content, str) else content
    return Case(name, content, manifest_of(name, content, kind, **changes), policy, signed)


def in_json(document, **changes):
    return case("table.json", json.dumps(document), **changes)


def row(**changes):
    return {"accent": "north", "phones": 60, "rate": 0.125, "low": 0.1, "high": 0.15} | changes


HIDDEN = {"accent": "", "phones": None, "rate": None, "low": None, "high": None}


def rows(*more, **changes):
    whole = [row(), row(accent="south", phones=80), row(accent="coast", phones=100), *more]
    return {"title": "false rejects by accent", "rows": [{**each, **changes} for each in whole]}


def without(name):
    return [{key: value for key, value in each.items() if key != name} for each in rows()["rows"]]


def sound():
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setnchannels(1), opened.setsampwidth(2), opened.setframerate(16_000)
        opened.writeframes(bytes(range(256)) * 8)
    return file.getvalue()


def tensors(arrays, metadata=None, rest=b""):
    header, body = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {
            "dtype": {"float32": "F32", "int64": "I64"}[str(array.dtype)],
            "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)],
        }  # fmt: skip
        body += data
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + body + rest


WEIGHTS = {
    "kernel": np.linspace(-0.1, 0.1, 64 * 12, dtype=np.float32).reshape(64, 12),
    "bias": np.zeros(12, dtype=np.float32),
}
DECLARED = {
    name: Tensor(dtype=str(array.dtype), shape=array.shape) for name, array in WEIGHTS.items()
}


def adapter(content=None, **changes):
    content = tensors(WEIGHTS, {"format": "pt"}) if content is None else content
    given = {"tier": "partner", "tensors": DECLARED, "norm_bound": 2.0} | changes
    return case("adapter.safetensors", content, "adapter", policy=PARTNER, **given)


def log(change=lambda lines: lines, heads=True, folder=Path("/dev/shm")):
    path = folder / f"access-{hashlib.sha256(repr(change).encode()).hexdigest()[:12]}.jsonl"
    path.unlink(missing_ok=True)
    chain = HashChain(path)
    with chain.locked() as file:
        for number in range(4):
            day = f"2026-11-{20 + number}"
            chain.append(file, {"kind": "read", "role": "auditor", "day": day, "purpose": "audit"})
    content = b"".join(change(path.read_bytes().splitlines(keepends=True)))
    head = chain.head
    path.unlink()
    policy = replace(PARTNER, heads={"access.jsonl": head} if heads else {})
    return case("access.jsonl", content, "log", policy=policy, tier="partner", claim=None)


def page(body="<p>False rejects fall from 16 to 3 percent.</p>", scripts=()):
    return case("report.html", f"<!doctype html><html><body>{body}</body></html>", "report",
                policy=replace(POLICY, scripts=frozenset(scripts)))  # fmt: skip


def unit(length=32):
    vector = np.sin(np.arange(1, length + 1))
    return [round(float(x), 6) for x in vector / np.linalg.norm(vector)]


def text(words, **changes):
    return case("notes.md", f"# Notes\n\n{words}\n", "text", **changes)


def encoded(content):
    return base64.b64encode(content).decode()


def good():
    """Twenty artifacts that pass."""
    epsilon = {"epsilon": 6.02, "delta": 4e-4, "mechanism": "distributed", "relation": "zero-out"}
    return {
        "table": in_json(rows()),
        "rows with a total that adds up": in_json(rows(row(accent="all", phones=240))),
        "withheld twice": in_json(rows(
            HIDDEN | {"accent": "a"}, HIDDEN | {"accent": "b"}, row(accent="all", phones=300),
        )),
        "csv": case("table.csv", "accent,phones,rate\nnorth,60,0.125\nsouth,80,0.25\n"),
        "tsv": case("table.tsv", "accent\tphones\trate\nnorth\t60\t0.125\n"),
        "csv with a withheld cell": case("t.csv", "accent,phones,rate\nnorth,60,0.1\nsouth,,\n"),
        "toml": case("plan.toml", 'scenario = "quick"\nclip_norm = 0.1\nrounds = 8\n', "summary"),
        "a table in notes": text("| group | phones |\n|---|---|\n| north | 1,200 |"),
        "words": text("Shares of phones, by accent. Three of them are withheld."),
        "words with an epsilon": text("The run has spent epsilon 6.02 at delta 4e-4."),
        "a version and a day": text("Version 0.1.0 of 2026-11-30, see docs/privacy.md."),
        "summary": case("summary.json", json.dumps({"privacy": epsilon, **rows()}), "summary"),
        "page": page(),
        "page with known code": page(
            "<script>draw()</script>", [hashlib.sha256(b"draw()").hexdigest()]
        ),
        "page with figures": page(
            '<script type="application/json" id="figures">[{"key": "a", "height": 3}]</script>'
        ),
        "adapter": adapter(),
        "adapter without metadata": adapter(tensors(WEIGHTS)),
        "log": log(),
        "made for the public, given to a partner": replace(in_json(rows()), policy=PARTNER),
        "last day": in_json(rows(), expires="2026-11-30"),
        "no claim and none made": in_json(rows(), claim=None),
        "short list": case("curve.json", json.dumps({"x": [0, 0.5, 1], "y": [0.3, 0.2, 0.1]}),
                           "report"),
        "digest": case("s.json", json.dumps({"base_sha256": "0f" * 32}), "summary"),
    }  # fmt: skip


def bad():
    """Artifacts, each with the rule that is meant for it."""
    table = in_json(rows())
    claimed = rows() | {"epsilon": 6.02, "delta": 4e-4, "mechanism": "d", "relation": "zero-out"}
    long, one_each = list(range(100)), [0.5 + 0.001 * n for n in range(40)]
    cells = {("north", "f"): 30, ("north", "m"): None, ("south", "f"): None, ("south", "m"): 40,
             ("north", "all"): 70, ("south", "all"): 90}  # fmt: skip
    both = [{"accent": accent, "sex": sex, "phones": n} for (accent, sex), n in cells.items()]
    return {
        "no manifest": ("manifest-missing", Case("table.json", table.content, None)),
        "hash of other bytes": ("manifest-of-another-file", in_json(rows(), sha256="12" * 32)),
        "name of another file": ("manifest-of-another-file", in_json(rows(), file="other.json")),
        "unsigned": ("signature", replace(table, signed=False)),
        "policy without signers": ("signature", replace(table, policy=replace(POLICY, signers=()))),
        "made for a partner": ("access-tier", in_json(rows(), tier="partner")),
        "made for the house": ("access-tier", in_json(rows(), tier="internal")),
        "for the operator": ("access-tier", page("<h2>For the operator only</h2>")),
        "expired": ("expiry", in_json(rows(), expires="2026-11-29")),
        "older than a revocation": ("consent", in_json(rows(), consent_epoch=2)),
        "adapter for everybody": ("file-type", replace(adapter(tier="public"), policy=POLICY)),
        "pickle": ("file-type", case("table.json", b"\x80\x04\x95" + bytes(8) + b"K\x01.")),
        "zip": ("file-type", case("table.json", b"PK\x03\x04" + bytes(30))),
        "gzip": ("file-type", case("table.csv", b"\x1f\x8b\x08" + bytes(30))),
        "NumPy array": ("file-type", case("table.json", b"\x93NUMPY\x01\x00" + bytes(90))),
        "database": ("file-type", case("table.json", b"SQLite format 3\x00" + bytes(90))),
        "PDF": ("file-type", case("notes.md", b"%PDF-1.7\n" + b"x" * 90)),
        "wav": ("file-type", case("table.json", sound())),
        "flac named as a text": ("file-type", case("notes.md", b"fLaC\x00\x00" + bytes(40))),
        "mp3": ("file-type", case("notes.md", b"ID3\x04" + bytes(40))),
        "code in a page": ("unread-script", page("<script>fetch('x')</script>")),
        "code in an attribute": ("unread-script", page('<p onclick="send()">words</p>')),
        "code from elsewhere": ("unread-script", page('<script src="draw.js"></script>')),
        "sound in a tensor": (
            "no-audio",
            adapter(tensors(WEIGHTS | {"bias": np.frombuffer(b"RIFFfourWAVEfmt " * 3, np.float32)}),
                    norm_bound=1e32),
        ),
        "sound as base64": ("no-audio", in_json(rows(note=encoded(sound()[:14])))),
        "bytes as base64": ("encoded-data", in_json(rows(note=encoded(bytes(range(90, 200)))))),
        "a hundred numbers": ("long-array", in_json({"rows": long})),
        "a hundred numbers and a gap": ("long-array", in_json({"rows": [*long, None]})),
        "a hundred numbers, one of them endless": (
            "long-array", case("table.json", json.dumps({"rows": long})[:-2] + ", 1e999]}")
        ),
        "a column that the first row lacks": (
            "long-array",
            in_json({"rows": [{"word": "w"}, *({"word": "w", "value": n} for n in long)]}),
        ),
        "a hundred answers of yes or no": ("long-array", in_json({"rows": [True, False] * 50})),
        "a hundred numbers in rows": ("long-array", in_json({"rows": np.eye(10).tolist()})),
        "a hundred rows of one number": (
            "long-array", case("t.csv", "value\n" + "\n".join(map(str, long)) + "\n")
        ),
        "numbers as words": ("long-array", text(", ".join(f"{x}.5" for x in long))),
        "one number for each person": ("long-array", in_json({"rows": one_each}, contributors=40)),
        "embedding": ("unit-vector", in_json({"rows": unit()})),
        "embedding as words": ("unit-vector", text(" ".join(map(str, unit())))),
        "embedding under names": (
            "unit-vector", in_json({"rows": dict(zip("abcdefghijklmopq", unit(16), strict=True))},
                                   policy=replace(POLICY, keys=tuple("abcdefghijklmopq")))
        ),
        "unknown key": ("unknown-key", in_json(rows(embedding=1))),
        "unknown column": ("unknown-key", case("t.csv", "accent,phones,weather\nnorth,60,wet\n")),
        "hour": ("fine-time", in_json(rows(note="2026-11-30T14:05"))),
        "clock": ("fine-time", text("Most of them woke at 19:45.")),
        "seconds since 1970": (
            "fine-time",
            in_json(rows(created=1796000000), policy=replace(POLICY, keys=("created",))),
        ),
        "day and time in a name": ("fine-time", text("See quick-20261130-211327.")),
        "path": ("local-path", in_json(rows(note="/home/ann/run"))),
        "path of Windows": ("local-path", in_json(rows(note=r"C:\Users\ann"))),
        "home": ("local-path", text("It lies in ~/runs.")),
        "address of a file": ("local-path", text("file://host/run")),
        "name of a recording": ("audio-file-name", in_json(rows(note="kitchen_07.wav"))),
        "opus": ("audio-file-name", text("as in take3.opus")),
        "IPv4": ("network-address", in_json(rows(note="10.0.4.17"))),
        "IPv6": ("network-address", text("from fe80::1ff:fe23:4567:890a")),
        "MAC": ("network-address", text("00:1a:2b:3c:4d:5e")),
        "name": ("identity", text("Zoë Marchetti gains most.")),
        "name without accents": ("identity", text("ZOE MARCHETTI gains most.")),
        "name in another form of letters": ("identity", text("Ｚｏë Ｍarchetti gains most.")),
        "name with hidden characters": ("identity", text("Zo\u200bë Mar\u00adchetti gains.")),
        "id with other separators": ("identity", in_json(rows(note="SPK_0042"))),
        "id within a name": ("identity", in_json(rows(note="spk0042take"))),
        "hash of an id": (
            "identity", in_json(rows(note=hashlib.sha256(b"spk-0042").hexdigest()))
        ),
        "start of a hash": ("identity", text(hashlib.md5(b"QX7715").hexdigest()[:16])),
        "what was said": ("private-transcript", text("as in CALL THE DENTIST, which")),
        "what was said, in a table": ("private-transcript", in_json(rows(note="my blue umbrella"))),
        "telephone number": ("personal-text", text("Ask at +1 650 253 0000, please.")),
        "number in words": ("personal-text", text("call five five five one two three four")),
        "e-mail": ("personal-text", in_json(rows(note="write to ann@example.org"))),
        "address": ("personal-text", text("She lives at 221 Baker Street, London.")),
        "card": ("personal-text", text("It is 4111 1111 1111 1111 that pays.")),
        "password": ("personal-text", text("the password is hunter seven")),
        "four people": ("small-cell", in_json(rows(row(accent="isle", phones=4)))),
        "four people in a page": (
            "small-cell",
            page("<table><tr><th>group</th><th>phones</th></tr>"
                 "<tr><th>isle</th><td> <b>4</b></td></tr></table>"),
        ),
        "four people in notes": (
            "small-cell", text("| group | phones |\n|---|---|\n| north | 1,200 |\n| isle | 4 |")
        ),
        "nobody": ("small-cell", in_json(rows(row(accent="isle", phones=0)))),
        "few contributors": ("small-cell", in_json(rows(), contributors=12)),
        "missing part": ("cell-by-subtraction", in_json(rows(row(accent="all", phones=244)))),
        "one withheld": (
            "cell-by-subtraction",
            in_json(rows(HIDDEN | {"accent": "isle"}, row(accent="all", phones=300))),
        ),
        "two withheld of few": (
            "cell-by-subtraction",
            in_json(rows(HIDDEN | {"accent": "a"}, HIDDEN | {"accent": "b"},
                         row(accent="all", phones=252))),
        ),
        "by two columns": ("cell-by-subtraction", in_json({"rows": both})),
        "missing part of an earlier round": (
            "cell-by-subtraction",
            in_json({"rows": [
                {"round": n, "accent": accent, "phones": phones}
                for n, total in ((1, 144), (2, 140))
                for accent, phones in (("north", 60), ("south", 80), ("all", total))
            ]}, policy=replace(POLICY, keys=("round",))),
        ),
        "the other sex": (
            "cell-by-subtraction",
            in_json({"rows": [
                {"segment": name, "phones": n}
                for name, n in ((None, 60), ("sex: female", 42), ("accent: north", 60))
            ]}),
        ),
        "in an object": (
            "cell-by-subtraction",
            in_json({"phones": {"total": 104, "north": 60, "south": 40}},
                    policy=replace(POLICY, keys=("north", "south"))),
        ),
        "rate without a count": ("rate-without-count", in_json({"rows": without("phones")})),
        "share without a count": (
            "rate-without-count", in_json({"rows": [{"value": 0.5, "unit": "share"}]})
        ),
        "row of a speaker": (
            "row-per-person",
            in_json({"rows": [{"speaker": "a", "count": 30}, {"speaker": "b", "count": 40}]},
                    policy=replace(POLICY, keys=("speaker",))),
        ),
        "row of a speaker, after others": (
            "row-per-person",
            in_json({"rows": [{"count": 50}, {"speaker": "a", "count": 30}]},
                    policy=replace(POLICY, keys=("speaker",))),
        ),
        "as many rows as people": (
            "row-per-person",
            in_json({"rows": [{"word": f"w{n}", "note": ""} for n in range(30)]}, contributors=30),
        ),
        "two fewer than in the last release": (
            "differencing", in_json(rows(), policy=replace(POLICY, released=LAST_RELEASE))
        ),
        "all but a few of the last release": (
            "differencing",
            in_json(
                {"rows": [row(sex="female", phones=52)]},
                policy=replace(POLICY, released=LAST_RELEASE),
            ),
        ),
        "claim without a manifest's": ("privacy-claim", in_json(claimed, claim=None)),
        "smaller epsilon than the ledger's": (
            "privacy-claim", in_json(claimed | {"epsilon": 0.98})
        ),
        "epsilon alone": ("privacy-claim", in_json(rows() | {"epsilon": 6.02})),
        "words without a claim": ("privacy-claim", text("It is anonymous.", claim=None)),
        "small epsilon in words": ("privacy-claim", text("The run has spent epsilon 0.98.")),
        "tokens that are called private": (
            "token-claim", text("Our speech tokens are LDP, with epsilon 15.")
        ),
        "over the budget": (
            "privacy-claim", in_json(rows(), claim=replace(CLAIM, epsilon=60.0))
        ),
        "delta too large": ("privacy-claim", in_json(rows(), claim=replace(CLAIM, delta=0.01))),
        "claim without a plan": ("privacy-claim", in_json(rows(), plan_fingerprint="")),
        "undeclared tensor": (
            "adapter-tensors", adapter(tensors(WEIGHTS | {"voice": np.ones(4, np.float32) / 9}))
        ),
        "missing tensor": ("adapter-tensors", adapter(tensors({"bias": WEIGHTS["bias"]}))),
        "other shape": (
            "adapter-tensors", adapter(tensors(WEIGHTS | {"bias": np.zeros(13, np.float32)}))
        ),
        "not a number": (
            "adapter-tensors",
            adapter(tensors(WEIGHTS | {"bias": np.full(12, np.nan, np.float32)})),
        ),
        "metadata": ("adapter-tensors", adapter(tensors(WEIGHTS, {"operator": "ann"}))),
        "too long": ("adapter-norm", adapter(norm_bound=0.5)),
        "length not stated": ("adapter-norm", adapter(norm_bound=None)),
        "bytes after the tensors": ("unreadable", adapter(tensors(WEIGHTS, rest=b"hello"))),
        "edited row": (
            "log-chain", log(lambda rows: [rows[0].replace(b"audit", b"visit"), *rows[1:]])
        ),
        "rows in another order": ("log-chain", log(lambda rows: [rows[at] for at in (0, 2, 1, 3)])),
        "rows cut off": ("log-chain", log(lambda rows: rows[:-1])),
        "no head kept": ("log-chain", log(heads=False)),
        "key twice": ("unreadable", case("table.json", '{"rows": [], "rows": [1]}')),
        "NaN": ("unreadable", case("table.json", '{"value": NaN}')),
        "torn JSON": ("unreadable", case("table.json", '{"rows": [')),
        "nested deeply": ("unreadable", case("table.json", "[" * 200 + "]" * 200)),
        "empty": ("unreadable", case("table.json", "")),
        "ragged table": ("unreadable", case("t.csv", "a,b\n1\n")),
        "unknown type": ("unreadable", case("table.xyz", "words")),
        "bytes": ("unreadable", case("table.json", b"\xff\xfe\x00\x01 not text")),
    }  # fmt: skip


__all__ = ["KEY", "POLICY", "STRANGER", "Case", "Head", "bad", "copy", "good"]
