"""The door: an artifact passes every rule, or it stays.

    verdict = check(Path("summary.json"), manifest, policy)
    verdict.passed, verdict.findings

What cannot be read has not passed. A rule that fails itself has found something, for it did not
see the file to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedspeech.errors import FedspeechError
from fedspeech.files import read_at_most
from fedspeech.sharing import claim_rules, content_rules, people_rules, release_rules
from fedspeech.sharing.finding import Candidate, Finding, Rule, rule_id
from fedspeech.sharing.manifest import BadManifest, Manifest
from fedspeech.sharing.policy import Policy
from fedspeech.sharing.reading import MOST_BYTES, Forbidden, Unreadable, read

RULES: tuple[Rule, ...] = (
    claim_rules.manifest_missing,
    claim_rules.manifest_of_another_file,
    claim_rules.signature,
    claim_rules.access_tier,
    claim_rules.expiry,
    claim_rules.consent,
    content_rules.file_type,
    content_rules.unread_script,
    content_rules.no_audio,
    content_rules.encoded_data,
    content_rules.long_array,
    content_rules.unit_vector,
    content_rules.unknown_key,
    content_rules.fine_time,
    content_rules.local_path,
    content_rules.audio_file_name,
    content_rules.network_address,
    people_rules.identity,
    people_rules.private_transcript,
    people_rules.personal_text,
    people_rules.small_cell,
    people_rules.cell_by_subtraction,
    people_rules.rate_without_count,
    people_rules.row_per_person,
    release_rules.differencing,
    claim_rules.privacy_claim,
    claim_rules.token_claim,
    claim_rules.adapter_tensors,
    claim_rules.adapter_norm,
    claim_rules.log_chain,
)

UNREADABLE = "unreadable"
MOST_FINDINGS = 20
"""Findings of one rule that are listed; what follows is counted."""


class GateRefused(FedspeechError):
    """A file does not pass the gate; it was not written."""

    @classmethod
    def of(cls, name: str, findings: Sequence[Finding]) -> GateRefused:
        """Says which rules refuse a file, where and why."""
        listed = "\n".join(f"  {each.rule}, {each.where}: {each.why}" for each in findings)
        return cls(f"{name} does not pass the gate; nothing was written\n{listed}")


@dataclass(frozen=True)
class Verdict:
    """What the gate says of an artifact.

    Attributes:
      findings: what every rule found.
    """

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether it may leave."""
        return not self.findings


def check(file: Path, manifest: bytes | None, policy: Policy) -> Verdict:
    """Holds a file against every rule.

    Args:
      file: the artifact.
      manifest: content of its manifest; None: there is none.
      policy: of the audience.

    Raises:
      FileNotFoundError: if there is no such file.
    """
    try:
        content = read_at_most(file, MOST_BYTES)
    except ValueError as error:
        return Verdict((Finding(UNREADABLE, "file", str(error)),))
    return check_content(file.name, content, manifest, policy)


def check_content(name: str, content: bytes, manifest: bytes | None, policy: Policy) -> Verdict:
    """Holds bytes under a name against every rule; see `check`."""
    said, findings = None, []
    try:
        said = None if manifest is None else Manifest.read(manifest)
    except BadManifest as error:
        findings.append(Finding("bad-manifest", "manifest", str(error)))
    try:
        candidate = Candidate(read(name, content), said, policy)
    except Forbidden as error:
        return Verdict((*findings, Finding("file-type", "file", str(error))))
    except Unreadable as error:
        return Verdict((*findings, Finding(UNREADABLE, "file", str(error))))
    for rule in RULES:
        findings += _findings(rule, candidate)
    return Verdict(tuple(findings))


def _findings(rule: Rule, candidate: Candidate) -> list[Finding]:
    """What one rule finds, each place once."""
    name, found = rule_id(rule), dict[tuple[str, str], None]()
    try:
        for where, why in rule(candidate):
            found[_safe(where), why] = None
    except Exception as error:  # fail closed: what it did not reach, it did not see
        found["rule", f"the rule could not read the artifact: {type(error).__name__}"] = None
    listed = [Finding(name, where, why) for where, why in list(found)[:MOST_FINDINGS]]
    if len(found) > MOST_FINDINGS:
        listed.append(Finding(name, "elsewhere", f"{len(found) - MOST_FINDINGS} more places"))
    return listed


def _safe(where: str) -> str:
    """A place without control characters, and not longer than a line."""
    plain = "".join(char if char.isprintable() else "?" for char in where)
    return plain if len(plain) <= 160 else plain[:157] + "..."
