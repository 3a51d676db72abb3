"""Rules about what an artifact claims: its manifest, its privacy, its tensors, its log."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedspeech.errors import ChainDamaged
from fedspeech.hash_chain import HashChain
from fedspeech.sharing.artifact import Sought
from fedspeech.sharing.finding import Candidate, Found
from fedspeech.sharing.manifest import TIERS

_EPSILON = Sought(
    re.compile(r"(?:\bepsilon\b|\beps\b|ε)[^.\d]{0,40}(\d+(?:\.\d+)?)", re.I), parts=("eps", "ε")
)
_PRIVATE = Sought(
    re.compile(
        r"differential(?:ly)?[ -]privat?e?|differential privacy|\beps(?:ilon)?-l?dp\b|"
        r"anonymi[sz]ed|\banonymous\b|fully private|no personal data", re.I,
    ),
    parts=("differential", "eps", "anonym", "fully private", "no personal data"),
)  # fmt: skip
_TOKENS = Sought(
    re.compile(r"\btokens?\b|\bcodebooks?\b|\bcodecs?\b", re.I),
    parts=("token", "codebook", "codec"),
)
_OPERATORS = Sought(re.compile("For the operator only"), parts=("for the operator only",))
_PROMISE = re.compile(
    r"\bl?dp\b|differential|\bepsilon\b|\beps\b|ε|anonym|\bprivate\b|unlinkab", re.I
)  # fmt: skip
_CLAIM_KEYS = re.compile(r"^(?:epsilon|eps)(?:_|$)", re.I)
_METADATA = frozenset(("format", "adapter", "schema", "schema_version", "base_sha256"))


def manifest_missing(shared: Candidate) -> Found:
    """A manifest that can be read lies beside the artifact."""
    if shared.manifest is None:
        yield "manifest", "there is no manifest that can be read"


def manifest_of_another_file(shared: Candidate) -> Found:
    """The manifest speaks of these bytes, under this name."""
    if shared.manifest is None:
        return
    if not shared.manifest.of(shared.artifact.content):
        yield "manifest.sha256", "the manifest is of other bytes"
    if shared.manifest.file != shared.artifact.name:
        yield "manifest.file", "the manifest is of a file of another name"


def signature(shared: Candidate) -> Found:
    """One of those whom the policy names has signed the manifest."""
    if shared.manifest is None:
        return
    if not shared.policy.signers:
        yield "policy.signers", "the policy names nobody who may make artifacts"
    elif not shared.manifest.signed_by(shared.policy.signers):
        said = shared.manifest.signer[:16] or "nobody"
        yield (
            "manifest.signature",
            f"none of the signers of the policy signed this manifest, but {said}",
        )


def access_tier(shared: Candidate) -> Found:
    """The artifact was made for an audience as wide as this one."""
    for where, _ in shared.artifact.strings(_OPERATORS):
        yield where, "the page says that it is for the operator only"
    if shared.manifest is None:
        return
    if TIERS.index(shared.manifest.tier) > TIERS.index(shared.policy.tier):
        yield (
            "manifest.tier",
            (
                f"it was made for {shared.manifest.tier} use, and the policy is for "
                f"{shared.policy.tier} use"
            ),
        )


def expiry(shared: Candidate) -> Found:
    """The last day of its use is not over."""
    if shared.manifest is not None and shared.manifest.last_day() < shared.policy.today:
        yield "manifest.expires", f"its use ended on {shared.manifest.expires}"


def consent(shared: Candidate) -> Found:
    """It was made after the last revocation of consent."""
    if shared.manifest is None:
        return
    made, last = shared.manifest.consent_epoch, shared.policy.revocation_epoch
    if made < last:
        yield (
            "manifest.consent_epoch",
            (f"consent was revoked after it was made: it knows epoch {made} of {last}"),
        )


def privacy_claim(shared: Candidate) -> Found:
    """Whoever speaks of epsilon names delta, mechanism, relation and ledger, within the budget."""
    claim = shared.manifest.claim if shared.manifest else None
    for where, epsilon in _claimed(shared):
        if claim is None or claim.epsilon is None:
            yield where, "a claim of privacy, and the manifest has none"
        elif epsilon is not None and epsilon < claim.epsilon - 1e-9 and _of_everything(where):
            yield (
                where,
                (f"an epsilon of {epsilon:g} is claimed, and the ledger's is {claim.epsilon:g}"),
            )
    for where, row, _ in shared.artifact.objects_with(_CLAIM_KEYS.match):
        names = {key.lower() for key in row}
        missing = [
            word for word in ("delta", "mechanism", "relation")
            if not any(name.startswith(word) for name in names)
        ]  # fmt: skip
        if missing:
            yield where or "document", f"an epsilon without {', '.join(missing)}"
    if claim is None:
        return
    if claim.epsilon is not None and claim.epsilon > shared.policy.epsilon:
        yield (
            "manifest.claim.epsilon",
            (f"at most {shared.policy.epsilon:g} may have been spent, got {claim.epsilon:g}"),
        )
    if claim.delta > shared.policy.delta:
        yield "manifest.claim.delta", f"at most {shared.policy.delta:g}, got {claim.delta:g}"
    if shared.manifest and not shared.manifest.plan_fingerprint:
        yield "manifest.plan_fingerprint", "a claim of privacy without the plan that it is of"


def token_claim(shared: Candidate) -> Found:
    """Nothing is promised of tokens of speech: no mechanism of privacy makes them.

    A codec may be trained with Laplace noise, and its tokens are made without. A denial is found
    too: whoever reads half a sentence reads a promise.
    """
    for where, text in shared.artifact.strings(_TOKENS):
        for sentence in re.split(r"[.!?;](?:\s|$)|\n", text):
            if _TOKENS.pattern.search(sentence) and _PROMISE.search(sentence):
                yield where, "privacy is spoken of in one sentence with tokens of speech"


def adapter_tensors(shared: Candidate) -> Found:
    """An adapter holds the tensors that its manifest declares, finite, and nothing else."""
    if shared.artifact.kind != "safetensors" or shared.manifest is None:
        return
    declared, found = shared.manifest.tensors, shared.artifact.tensors
    for name in sorted(set(found) ^ set(declared)):
        missing = "is declared and missing" if name in declared else "is not declared"
        yield f"tensor {name}", f"it {missing}"
    for name in sorted(set(found) & set(declared)):
        array = found[name]
        if (str(array.dtype), array.shape) != (declared[name].dtype, declared[name].shape):
            yield (
                f"tensor {name}",
                (
                    f"declared {declared[name].dtype} {declared[name].shape}, "
                    f"got {array.dtype} {array.shape}"
                ),
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"tensor {name}", "numbers that are not finite"
    for key in sorted(set(shared.artifact.metadata) - _METADATA - set(shared.policy.keys)):
        yield f"metadata.{key}", "metadata that no adapter has"


def adapter_norm(shared: Candidate) -> Found:
    """An adapter is no longer than a run with clipped contributions can make it."""
    if shared.artifact.kind != "safetensors" or shared.manifest is None:
        return
    bound = shared.manifest.norm_bound
    if bound is None:
        yield "manifest.norm_bound", "an adapter's manifest says how long it can be"
        return
    length = norm_of(shared.artifact.tensors)
    if length > bound:  # what is not finite breaks the rule of tensors
        yield "tensors", f"a run can make a length of {bound:.4g} at most, got {length:.4g}"


def log_chain(shared: Candidate) -> Found:
    """A log is whole: its rows name one another, up to the head that is kept elsewhere."""
    if shared.manifest is None or shared.manifest.kind != "log":
        return
    chain = HashChain(Path(shared.artifact.name))
    try:
        for _ in chain.read(io.BytesIO(shared.artifact.content)):
            pass
        if chain.torn is not None:
            yield "end", "the last row is torn"
        head = shared.policy.heads.get(shared.artifact.name)
        if head is None:
            yield "policy.heads", "no head of this log is kept where the log is not"
        else:
            chain.require(head, "named by the policy")
    except (ChainDamaged, KeyError, TypeError, ValueError) as error:
        yield "rows", str(error)[:300]


def _claimed(shared: Candidate) -> Iterator[tuple[str, float | None]]:
    """Places that speak of privacy, and the epsilon where they give one."""
    for leaf in shared.artifact.leaves_of(_CLAIM_KEYS.match):
        if isinstance(leaf.value, int | float):
            yield leaf.where, float(leaf.value)
    for where, text in shared.artifact.strings(_EPSILON, _PRIVATE):
        found = list(_EPSILON.pattern.finditer(text))
        yield from ((where, float(each[1])) for each in found)
        if not found and _PRIVATE.pattern.search(text):
            yield where, None


def _of_everything(where: str) -> bool:
    """Whether a claim is of the whole and not of single rounds or budgets."""
    return not re.search(r"round|budget|target|history|spent_by|step", where, re.I)


def norm_of(tensors: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """Length of all tensors of numbers together."""
    floats = [
        each.astype(np.float64).ravel() for each in tensors.values() if each.dtype.kind == "f"
    ]
    return float(np.linalg.norm(np.concatenate(floats))) if floats else 0.0
