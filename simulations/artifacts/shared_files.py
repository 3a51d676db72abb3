"""Files that a run hands to an audience, each with a manifest, and none that the gate refuses.

The public gets figures of at least `k_min` phones and the price against readers of the models. A
partner gets the adapter of the last round as well. Nothing of single phones, of rounds, of time or
of the server's desk is in the data from which the files are made.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import numpy as safetensors_numpy

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.evaluation.metric import Metric
from fedspeech.job import Job
from fedspeech.models.adapters.files import load_adapter
from fedspeech.models.base import Base
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.queries.training import AdapterTraining
from fedspeech.rollout.signing import PrivateKey
from fedspeech.sharing.access_log import AccessLog, Visitor
from fedspeech.sharing.claim_rules import norm_of
from fedspeech.sharing.finding import Candidate
from fedspeech.sharing.gate import GateRefused, check_content
from fedspeech.sharing.manifest import Manifest, PrivacyClaim, Tensor
from fedspeech.sharing.policy import Policy
from fedspeech.sharing.reading import read as read_artifact
from fedspeech.sharing.release_rules import counted
from simulations.results.redaction import published
from simulations.results.run_folder import Results, RunFolder, read
from simulations.results.spent import account, stated

SUMMARY, ADAPTER = "summary.json", "adapter.safetensors"


@dataclass(frozen=True, eq=False)
class SharedFiles:
    """Files of a run for one audience.

    Attributes:
      files: content by name, manifests among them.
    """

    files: Mapping[str, bytes]


def shared_files(
    run: Path, *, policy: Policy, key: PrivateKey, visitor: Visitor, expires: str,
    seeded_noise: bool = False,
) -> SharedFiles:  # fmt: skip
    """Makes the files of a run for an audience, and holds each against its policy.

    Args:
      run: its folder.
      policy: of the audience; its log gets a row for what is read, and for what is given away.
      key: signs the manifests.
      visitor: who gives it away, and why.
      expires: last day of use, ISO 8601.
      seeded_noise: whether noise from a seed is meant, as in a trial.

    Raises:
      FedspeechError: if the run has no end.
      ArgumentRefused: if its noise could be computed from its seed; names in backticks are
        arguments.
      GateRefused: naming file, rule and place.
      AccessRefused: if the role of the visitor gives nothing away.
    """
    assert policy.log is not None, "every policy that is read from a file has a log"
    log = AccessLog(policy.log)
    with log.opened():  # held until the rows stand: two releases at once would not see each other
        log.require(visitor, "release", run.name, "")
        made = _made(run, policy, visitor, seeded_noise)
        log.read(visitor, f"{run.name}/summary.json", made.parent, "internal")
        return SharedFiles(_passed(made, policy, key, visitor, expires, log))


@dataclass(frozen=True, eq=False)
class _Made:
    """Content of files and what their manifests say, before the gate.

    Attributes:
      contents: by name, each with what its manifest alone says.
      common: what all manifests say.
      parent: SHA-256 of the summary that they are made from.
    """

    contents: Mapping[str, tuple[bytes, dict[str, Any]]]
    common: Mapping[str, Any]
    parent: str


def _made(run: Path, policy: Policy, visitor: Visitor, seeded_noise: bool) -> _Made:
    folder, results = RunFolder(run), read(run)
    if results.summary is None:
        raise FedspeechError(f"{run} has no summary.json: its run was killed before it could end")
    job = Job.load(folder.job)
    if job.noise_entropy == "seeded" and job.plan.noise_multiplier > 0 and not seeded_noise:
        raise ArgumentRefused(
            f"the noise of {run.name} is drawn from its seed, so whoever guesses the seed computes "
            'it: run it with noise_entropy = "os", or say by `seeded_noise` that it is a trial'
        )
    ledger = account(folder, job, results.summary)
    guarantee = stated(ledger, results.rows, job)
    head = str(ledger.head)
    parent = _sha256(folder.summary.read_bytes())
    common: dict[str, Any] = {
        "tier": policy.tier, "purpose": visitor.purpose, "contributors": job.plan.population,
        "consent_epoch": policy.revocation_epoch, "plan_fingerprint": job.plan.fingerprint,
        "claim": PrivacyClaim.of(guarantee, head), "parents": (parent,),
    }  # fmt: skip
    made = {SUMMARY: (_summary(results, guarantee, policy.k_min), _of_a_summary())}
    if policy.tier != "public":
        made[ADAPTER] = _adapter(folder, job)
    return _Made(made, common, parent)


def _passed(
    made: _Made, policy: Policy, key: PrivateKey, visitor: Visitor, expires: str, log: AccessLog
) -> dict[str, bytes]:
    """Files and manifests that the gate lets by, in the log before they are handed over."""
    files: dict[str, bytes] = {}
    given = []
    for name, (content, own) in made.contents.items():
        sha256 = _sha256(content)
        said = Manifest(file=name, sha256=sha256, expires=expires, **made.common, **own).sign(key)
        findings = check_content(name, content, said.write(), policy).findings
        if findings:
            broken = ", ".join(sorted({each.rule for each in findings}))
            log.refuse(visitor, name, sha256, f"the gate: {broken}")
            raise GateRefused.of(name, findings)
        given.append((name, sha256, counted(Candidate(read_artifact(name, content), said, policy))))
        files |= {name: content, f"{name}.manifest.json": said.write()}
    for name, sha256, cells in given:
        log.release(visitor, name, sha256, policy.tier, cells)
    return files


def _of_a_summary() -> dict[str, Any]:
    steps = ("figures of the server and of single phones removed", "small segments withheld")
    return {"kind": "summary", "steps": steps}


def _summary(results: Results, guarantee: Guarantee, k_min: int) -> bytes:
    """Figures of enough phones, and the price against those who read them."""
    summary = published(results).summary
    assert summary is not None
    tables = [
        {"name": section.key, "metrics": [dict(_row(metric)) for metric in enough]}
        for section in summary.sections
        if (enough := list(_of_enough(section.metrics, k_min)))
    ]
    kept = sum(len(table["metrics"]) for table in tables)
    withheld = sum(len(section.metrics) for section in summary.sections) - kept
    document: dict[str, Any] = {
        "scenario": summary.scenario,
        "rounds": summary.adapter_rounds,
        "adapter": summary.adapter,
        "parameters": summary.parameters,
        "k_min": k_min,
        "note": summary.noise_notice or "",
        "withheld": f"{withheld} figures of fewer than {k_min} phones",
        "sections": tables,
    }
    if math.isfinite(guarantee.epsilon_release):
        document["privacy"] = {
            "epsilon": guarantee.epsilon_release, "delta": guarantee.delta,
            "relation": guarantee.relation_release, "mechanism": guarantee.mechanism,
            "unit": guarantee.unit, "accountant": guarantee.accountant, "trust": guarantee.trust,
        }  # fmt: skip
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def _of_enough(metrics: Sequence[Metric], k_min: int) -> Iterator[Metric]:
    """Figures of enough phones, of segments that leave as many over, or none.

    Of an attribute, the smallest segments go until those that are withheld are `k_min` phones
    together: the rest of everybody is theirs.
    """
    everybody = max((metric.phones or 0 for metric in metrics if not metric.segment), default=0)
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for metric in metrics:
        if metric.segment is not None:
            sizes[metric.segment.name][metric.segment.value] = metric.phones or 0
    named = set()
    for attribute, parts in sizes.items():
        kept = sorted((size, value) for value, size in parts.items() if size >= k_min)
        while kept and 0 < everybody - sum(size for size, _ in kept) < k_min:
            del kept[0]
        named |= {(attribute, value) for _, value in kept}
    for metric in metrics:
        segment = metric.segment
        if (metric.phones or 0) >= k_min and (
            segment is None or (segment.name, segment.value) in named
        ):
            yield metric


def _row(metric: Metric) -> Iterator[tuple[str, Any]]:
    yield from (("name", metric.name), ("value", metric.value), ("unit", metric.unit))
    yield from (("phones", metric.phones), ("model", metric.model), ("variant", metric.variant))
    if metric.visibility == "public":
        yield "corpus", "public"  # other people than those whom the other figures count
    if metric.segment is not None:
        yield "segment", f"{metric.segment.name}: {metric.segment.value}"
    if metric.interval is not None:
        yield from (("low", metric.interval.low), ("high", metric.interval.high))


def _adapter(folder: RunFolder, job: Job) -> tuple[bytes, dict[str, Any]]:
    """Tensors of the adapter of the last round, and how long a run can make them."""
    base = Base.load(folder.base)
    adapter, tensors = load_adapter(folder.adapter, base)
    start = adapter.initial(base.head_weight, base.head_bias)
    declared = {
        name: Tensor(dtype=str(array.dtype), shape=array.shape) for name, array in tensors.items()
    }
    return safetensors_numpy.save(dict(tensors)), {
        "kind": "adapter",
        "steps": (f"{job.plan.rounds} rounds of sums", "the adapter after the last round"),
        "tensors": declared,
        "norm_bound": norm_of(start) + _reach(job),
    }


def _reach(job: Job) -> float:
    """How far rounds can move an adapter whose means the plan bounds; infinity if nobody knows."""
    plan, query = job.plan, job.query
    optimizer = query.optimizer if isinstance(query, AdapterTraining) else None
    if not isinstance(optimizer, FedOpt) or plan.adaptive_clipping is not None:
        return math.inf
    return optimizer.reach(plan.norm_bound * plan.clip_norm / plan.expected_in_sum, plan.rounds)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
