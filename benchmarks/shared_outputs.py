"""What of everything that a run leaves may be given away, and why not the rest?

    python -m benchmarks.shared_outputs RUN [FOLDER...] [--tier partner] [--k-min 20] [--json]

Each file is held against every rule with a manifest that says the truth about it, signed by a key
of the moment; epsilon is not bounded, since that is for a policy to say. Folders besides, such as
an export, an audit or a tuning, are taken as of the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

from fedspeech.job import Job
from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.gate import check_content
from fedspeech.sharing.manifest import Kind, Manifest, PrivacyClaim, Tensor
from fedspeech.sharing.policy import Policy
from fedspeech.sharing.reading import read
from simulations.report.figures import MOST_NUMBERS
from simulations.report.publishing import with_our_scripts
from simulations.results.run_folder import RunFolder
from simulations.results.run_folder import read as read_run
from simulations.results.spent import account, stated

KINDS: dict[str, Kind] = {
    ".html": "report", ".json": "summary", ".jsonl": "report", ".csv": "table", ".toml": "summary",
    ".safetensors": "adapter", ".tflite": "model", ".md": "text",
}  # fmt: skip


def truth(run: Path) -> tuple[int, str, PrivacyClaim | None]:
    """People behind a run, its plan, and what it promises readers."""
    folder, results = RunFolder(run), read_run(run)
    job = Job.load(folder.job)
    assert results.summary is not None
    ledger = account(folder, job, results.summary)
    claim = PrivacyClaim.of(stated(ledger, results.rows, job), str(ledger.head))
    return job.plan.population, job.plan.fingerprint, claim


def tensors(name: str, content: bytes) -> dict[str, Tensor]:
    """What an adapter holds; nothing where it cannot be read."""
    try:
        found = read(name, content).tensors
    except ValueError:
        return {}
    return {key: Tensor(dtype=str(one.dtype), shape=one.shape) for key, one in found.items()}


def outputs(
    folder: Path, behind: tuple[int, str, PrivacyClaim | None], tier: str, k_min: int
) -> list[tuple[str, int, tuple[str, ...]]]:
    """Every file of a folder: name, bytes, and what keeps it here."""
    people, plan, claim = behind
    key = PrivateKey.of_the_moment()
    policy = with_our_scripts(Policy(
        tier=tier, k_min=k_min, most_numbers=MOST_NUMBERS, epsilon=1e9, delta=0.5,
        signers=(key.public,),
    ))  # type: ignore[arg-type]  # fmt: skip
    rows = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        of_a_card = path.name in {"card.json", "adapter_config.json"}
        kind = "card" if of_a_card else KINDS.get(path.suffix, "text")
        said = Manifest(
            kind=kind, file=path.name, sha256=hashlib.sha256(content).hexdigest(),  # type: ignore[arg-type]
            tier=policy.tier, purpose="a check", expires=policy.today.isoformat(), consent_epoch=0,
            contributors=people, plan_fingerprint=plan, claim=claim,
        )  # fmt: skip
        if kind == "adapter":
            said = dataclasses.replace(said, tensors=tensors(path.name, content), norm_bound=1e9)
        found = check_content(path.name, content, said.sign(key).write(), policy).findings
        whys = tuple(dict.fromkeys(f"{each.rule}: {each.why}" for each in found))
        rows.append((str(path.relative_to(folder)), len(content), whys))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Prints a table for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("run", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--k-min", type=int, default=20)
    parser.add_argument("--tier", default="partner", choices=("public", "partner", "internal"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    behind = truth(given.run)
    for folder in (given.run, *given.folders):
        rows = outputs(folder, behind, given.tier, given.k_min)
        if given.json:
            print(json.dumps({"folder": folder.name, "rows": rows}))
            continue
        print(f"{folder.name}: {sum(not whys for *_, whys in rows)} of {len(rows)} files pass")
        for name, size, whys in rows:
            print(f"  {name} ({size / 1e3:,.0f} kB): {'passes' if not whys else ''}")
            for why in whys:
                print(f"      {why}")


if __name__ == "__main__":
    main()
