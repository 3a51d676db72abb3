"""How fast does the gate read what a team shares?

    python -m benchmarks.sharing_gate [--megabytes 100] [--json]

Files of the kinds and sizes that runs leave, in the proportions of a run of `quick` with its
export, no two alike: four fifths are pages, most of each the code that draws its charts, and a
sixth models and adapters. How long a megabyte of each kind takes is printed, for other proportions.
The seconds are of this machine; the ratio is against reading the same bytes with a hash.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.gate import check
from fedspeech.sharing.manifest import Kind, Manifest, PrivacyClaim, Tensor
from fedspeech.sharing.policy import Policy
from simulations.api.sharing import share_recheck
from simulations.report.document import scripts
from simulations.report.publishing import with_our_scripts

KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
SHARES = {
    "report.html": 0.78, "model.tflite": 0.14, "adapter.safetensors": 0.04, "analysis.json": 0.02,
    "rows.jsonl": 0.01, "cells.csv": 0.005, "notes.md": 0.005,
}  # fmt: skip
"""Of all bytes, by kind of file."""
BYTES = {".safetensors": 480_000, ".tflite": 550_000, ".html": 60_000, ".json": 150_000}
"""Of one file, the code of a page apart; 20,000 where a kind is not named."""
KINDS: dict[str, Kind] = {
    ".safetensors": "adapter", ".tflite": "model", ".jsonl": "report", ".csv": "table",
    ".json": "summary", ".html": "report", ".md": "text",
}  # fmt: skip
_SYLLABLES = (
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "la",
    "me",
    "ni",
    "po",
    "ru",
    "sa",
    "te",
    "vi",
    "xo",
    "kra",
)


def names(count: int, rng: np.random.Generator) -> list[str]:
    """Pseudo-words."""
    return ["".join(rng.choice(_SYLLABLES, rng.integers(2, 5))) for _ in range(count)]


def sentence(words: list[str], rng: np.random.Generator) -> str:
    """Some words and a figure, as reports have them."""
    chosen = [words[place] for place in rng.integers(0, len(words), rng.integers(8, 20))]
    chosen.insert(int(rng.integers(1, len(chosen))), f"{rng.uniform(0, 100):.1f} %")
    return " ".join(chosen).capitalize() + "."


def row(words: list[str], rng: np.random.Generator) -> dict[str, object]:
    """A figure of a segment."""
    low, rate, high = sorted(rng.uniform(0, 1, 3).round(4).tolist())
    return {"accent": str(rng.choice(words)), "phones": int(rng.integers(60, 9000) * 40),
            "rate": rate, "low": low, "high": high}  # fmt: skip


def content(suffix: str, size: int, words: list[str], rng: np.random.Generator) -> bytes:
    """A file of about a size."""
    if suffix == ".safetensors":
        values = rng.normal(0, 1e-4, size // 4).astype("<f4")
        header = {"kernel": {"dtype": "F32", "shape": [len(values)],
                             "data_offsets": [0, values.nbytes]}}  # fmt: skip
        head = json.dumps(header).encode()
        return struct.pack("<Q", len(head)) + head + values.tobytes()
    if suffix == ".tflite":
        return model(rng.normal(0, 20, size).clip(-127, 127).astype(np.int8).tobytes())
    parts: list[str] = []
    make: dict[str, Callable[[], str]] = {
        ".jsonl": lambda: json.dumps({"round": len(parts), "rows": [row(words, rng)] * 1}),
        ".csv": lambda: ",".join(map(str, row(words, rng).values())),
        ".json": lambda: json.dumps({"title": sentence(words, rng),
                                     "rows": [row(words, rng) for _ in range(20)]}),
        ".html": lambda: f"<h2>{sentence(words, rng)}</h2><p>{sentence(words, rng)}</p>"
                         f"<table><tr><td>{rng.uniform():.4f}</td></tr></table>",
        ".md": lambda: f"{sentence(words, rng)} {sentence(words, rng)}\n",
    }  # fmt: skip
    written = 0
    while written < size:
        parts.append(make[suffix]())
        written += len(parts[-1]) + 1
    lines = "\n".join(parts)
    match suffix:
        case ".csv":
            return ("accent,phones,rate,low,high\n" + lines + "\n").encode()
        case ".json":
            return f'{{"rows": [{",".join(parts)}]}}'.encode()
        case ".html":
            code = "".join(f"<script>{script}</script>" for script in scripts())
            return f"<!doctype html><html><body>{lines}{code}</body></html>".encode()
    return lines.encode()


def model(weights: bytes) -> bytes:
    """A TensorFlow Lite file of one buffer."""
    builder = flatbuffers.Builder(0)
    vector = builder.CreateByteVector(weights)
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    table = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(table)
    listed = builder.EndVector()
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(4, listed, 0)
    builder.Finish(builder.EndObject(), b"TFL3")
    return bytes(builder.Output())


def fill(folder: Path, size: int, seed: int = 0) -> collections.Counter[str]:
    """Makes files with their manifests; returns bytes by kind."""
    rng = np.random.default_rng(seed)
    words, made = names(3000, rng), collections.Counter[str]()
    for name, share in SHARES.items():
        stem, suffix = name.split(".")[0], "." + name.split(".")[1]
        number = 0
        while made[name] < share * size:
            data = content(suffix, BYTES.get(suffix, 20_000), words, rng)
            path = folder / f"{stem}-{number}{suffix}"
            path.write_bytes(data)
            length = BYTES[".safetensors"] // 4
            tensors = {"kernel": Tensor(dtype="float32", shape=(length,))}
            manifest = Manifest(
                kind=KINDS[suffix], file=path.name, sha256=hashlib.sha256(data).hexdigest(),
                tier="partner", purpose="a measurement", expires="2099-12-31", consent_epoch=0,
                contributors=240, plan_fingerprint="cd" * 32, parents=(), steps=(),
                claim=PrivacyClaim(epsilon=6.02, delta=4e-4, mechanism="distributed",
                                   relation="zero-out", ledger_head=f"41:{'ab' * 32}"),
                norm_bound=2.0 if suffix == ".safetensors" else None,
                tensors=tensors if suffix == ".safetensors" else {},
            )  # fmt: skip
            path.with_name(path.name + ".manifest.json").write_bytes(manifest.sign(KEY).write())
            made[name] += len(data)
            number += 1
    return made


def write_policy(folder: Path, rng: np.random.Generator) -> Path:
    """Of a team with 200 names in its data and 500 sentences."""
    people, said = names(400, rng), names(2000, rng)
    known = [f"{a}ov {b}sson" for a, b in zip(people[::2], people[1::2], strict=True)]
    (folder / "people.txt").write_text("\n".join(known))
    (folder / "said.txt").write_text("\n".join(" ".join(rng.choice(said, 8)) for _ in range(500)))
    written = folder / "policy.toml"
    written.write_text(
        f'tier = "partner"\nsigners = ["{KEY.public}"]\n'
        'identities = "people.txt"\ntranscripts = "said.txt"\n'
    )
    return written


def measure(folder: Path, held: Policy) -> dict[str, tuple[float, collections.Counter[str]]]:
    """CPU seconds and findings by kind of file."""
    found: dict[str, tuple[float, collections.Counter[str]]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".manifest.json"):
            continue
        begin = time.process_time()
        verdict = check(path, path.with_name(path.name + ".manifest.json").read_bytes(), held)
        spent = time.process_time() - begin
        before, rules = found.get(path.suffix, (0.0, collections.Counter[str]()))
        rules.update({finding.rule for finding in verdict.findings})
        found[path.suffix] = (before + spent, rules)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Prints a row for each kind of file and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "shared"
        folder.mkdir()
        made = fill(folder, int(given.megabytes * 1e6))
        policy = write_policy(Path(name), np.random.default_rng(1))
        begin = time.process_time()
        for path in folder.iterdir():
            hashlib.sha256(path.read_bytes()).digest()
        hashed = time.process_time() - begin
        begin = time.perf_counter()
        share_recheck(folder, policy=policy, workers=os.cpu_count() or 1)
        wall = time.perf_counter() - begin
        found = measure(folder, with_our_scripts(Policy.load(policy)))
    rows = []
    for kind, (seconds, rules) in found.items():
        size = next(count for file, count in made.items() if file.endswith(kind)) / 1e6
        rows.append({"kind": kind, "megabytes": round(size, 2), "seconds": round(seconds, 2),
                     "per_megabyte": round(seconds / size, 3), "rules": dict(rules)})  # fmt: skip
    whole = sum(row["seconds"] for row in rows)  # type: ignore[misc]
    if given.json:
        print(
            json.dumps(
                {"rows": rows, "cpu_seconds": whole, "wall_seconds": wall, "hash_seconds": hashed}
            )
        )
        return
    for row in rows:
        print(f"{row['kind']:13} {row['megabytes']:7} MB {row['seconds']:7} CPU s "
              f"{row['per_megabyte']:6} s/MB  {row['rules']}")  # fmt: skip
    size = sum(made.values()) / 1e6
    print(f"{size:.1f} MB: {wall:.1f} s by share_recheck on {os.cpu_count()} cores; "
          f"{whole:.1f} CPU s in one process, {whole / hashed:.0f} times a hash")  # fmt: skip


if __name__ == "__main__":
    main()
