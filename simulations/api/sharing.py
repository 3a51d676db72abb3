"""The gate as functions: may this file leave, and may those that left before still be used?"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.files import write_whole
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from fedspeech.sharing.finding import Finding
    from fedspeech.sharing.policy import Policy

_WORTH_WORKERS = 8 << 20  # bytes
MANIFEST = ".manifest.json"
"""What is appended to the name of an artifact for its manifest."""


@dataclass(frozen=True, eq=False)
class ShareCheck(Printed):
    """What the gate says of a file.

    Attributes:
      file: that was checked.
      findings: rule, place and reason of everything that keeps it here.
    """

    file: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether it may leave."""
        return not self.findings

    def record(self) -> dict[str, Any]:
        """Whether it passed, and the findings, as plain data."""
        return {"passed": self.passed, "findings": [asdict(found) for found in self.findings]}

    def print(self, console: Console) -> None:
        """Prints a line for each finding."""
        if self.passed:
            console.print(f"{self.file}: passes every rule")
            return
        console.print(f"{self.file}: stays here\n")
        rows = [(found.rule, found.where, found.why) for found in self.findings]
        console.print(table(("rule", "where", "why"), rows), soft_wrap=True)

    def __repr__(self) -> str:
        """Whether it passed."""
        said = "passes" if self.passed else f"{len(self.findings)} findings"
        return f"ShareCheck({self.file!r}, {said})"


@dataclass(frozen=True, eq=False)
class ShareRecheck(Printed):
    """What the gate says today of files that were made before.

    Attributes:
      checks: of every file of a folder.
    """

    checks: tuple[ShareCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all of them may still be used."""
        return all(each.passed for each in self.checks)

    def record(self) -> dict[str, Any]:
        """Every file and its findings as plain data."""
        files = [{"file": each.file, **each.record()} for each in self.checks]
        return {"passed": self.passed, "files": files}

    def print(self, console: Console) -> None:
        """Prints a line for each file, and the findings of those that must be taken back."""
        for each in self.checks:
            each.print(console)
        kept = sum(each.passed for each in self.checks)
        console.print(f"\n{kept} of {len(self.checks)} files pass every rule")

    def __repr__(self) -> str:
        """How many files pass."""
        return f"ShareRecheck({sum(each.passed for each in self.checks)} of {len(self.checks)})"


@dataclass(frozen=True, eq=False)
class Shared(Printed):
    """What a run handed to an audience.

    Attributes:
      folder: where the files lie.
      files: their names, manifests among them.
      tier: the audience.
    """

    folder: Path
    files: tuple[str, ...]
    tier: str

    def record(self) -> dict[str, Any]:
        """Folder, audience and files as plain data."""
        return {"folder": str(self.folder), "tier": self.tier, "files": list(self.files)}

    def print(self, console: Console) -> None:
        """Prints where they lie."""
        console.print(f"for {self.tier} use, each file passed the gate:")
        for name in self.files:
            console.print(f"  {self.folder / name}", soft_wrap=True)

    def __repr__(self) -> str:
        """How many files for whom."""
        return f"Shared({str(self.folder)!r}, {self.tier!r}, {len(self.files)} files)"


def share(
    run: str | Path,
    *,
    to: str,
    out: str | Path,
    policy: str | Path,
    key: str | Path,
    purpose: str,
    days: float = 180.0,
    seeded_noise: bool = False,
    actor: str = "owner",
    role: str = "owner",
) -> Shared:
    """Makes the files of a run for an audience, signs them, and writes those that the gate lets by.

    What was read of the run, and what is given away, stands in the access log of the policy first.

        >>> import fedspeech as fs
        >>> fs.share("runs/quick", to="public", out="published",
        ...          policy="public.toml", key="signing.pem",
        ...          purpose="table 2 of the paper")                            # doctest: +SKIP
        Shared('published', 'public', 2 files)

    Args:
      run: a run folder.
      to: the audience: "public", "partner" or "internal".
      out: a folder that is new or empty.
      policy: of the audience, a TOML file.
      key: an Ed25519 key that signs the manifests (`fedspeech ota keys` makes one).
      purpose: why the files are shared, in words.
      days: for how long they may be used.
      seeded_noise: whether noise that could be computed from a seed is meant, as in a trial.
      actor: who gives it away, as the access log names them.
      role: theirs: "owner", "analyst", "auditor" or "partner".

    Raises:
      AccessRefused: if the role gives nothing away.
      ArgumentRefused: if the policy is of another audience, or `out` holds something.
      GateRefused: if a file does not pass; then none is written.
    """
    from fedspeech.rollout.signing import PrivateKey
    from fedspeech.sharing.access_log import Visitor
    from fedspeech.sharing.policy import Policy
    from simulations.artifacts.shared_files import shared_files

    place, held = Path(out), Policy.load(Path(policy))
    if held.tier != to:
        raise ArgumentRefused(f"`to` is {to}, and the policy is for {held.tier} use")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ArgumentRefused(f"`out` must be a new or empty folder, got {place}")
    if not 1 <= days <= 3650:
        raise ArgumentRefused(f"`days` must be 1 to 3650, got {days}")
    last = held.today + datetime.timedelta(days=days)
    visitor = Visitor(actor, role, purpose, held.today)  # type: ignore[arg-type]
    made = shared_files(
        Path(run), policy=held, key=PrivateKey.load(Path(key)), visitor=visitor,
        expires=last.isoformat(), seeded_noise=seeded_noise,
    )  # fmt: skip
    place.mkdir(parents=True, exist_ok=True)
    for name, content in made.files.items():
        write_whole(place / name, content)
    return Shared(place, tuple(made.files), to)


def share_check(
    file: str | Path, *, policy: str | Path, manifest: str | Path | None = None
) -> ShareCheck:
    """Holds a file against every rule of the gate.

        >>> import fedspeech as fs
        >>> fs.share_check("report.html", policy="policy.toml")                 # doctest: +SKIP
        ShareCheck('report.html', 3 findings)

    Args:
      file: what somebody wants to share.
      policy: of the audience, a TOML file.
      manifest: what the file says of itself; None: FILE.manifest.json beside it.

    Raises:
      ScenarioError: if the policy cannot be read.
      FedspeechError: if the file cannot be read.
    """
    from fedspeech.sharing.policy import Policy
    from simulations.report.publishing import with_our_scripts

    given = Path(manifest) if manifest is not None else None
    return _check(Path(file), given, with_our_scripts(Policy.load(Path(policy))))


def share_recheck(folder: str | Path, *, policy: str | Path, workers: int = 1) -> ShareRecheck:
    """Holds every file of a folder against the rules of today, each with the manifest beside it.

    A revocation of consent, a new rule, an expiry or another budget may call back what passed.

        >>> import fedspeech as fs
        >>> fs.share_recheck("given-to-partners", policy="policy.toml")         # doctest: +SKIP
        ShareRecheck(11 of 12)

    Args:
      folder: of artifacts.
      policy: of the audience, a TOML file.
      workers: processes, where the files are many megabytes; a script that asks for several needs
        `if __name__ == "__main__"` around what it runs.

    Raises:
      ScenarioError: if the policy cannot be read.
      FedspeechError: if the folder holds no file, or one cannot be read.
    """
    from fedspeech.sharing.policy import Policy
    from simulations.report.publishing import with_our_scripts

    held = with_our_scripts(Policy.load(Path(policy)))
    root = Path(folder)
    files = [each for each in sorted(root.rglob("*")) if not each.is_dir()]
    artifacts = [each for each in files if not each.name.endswith(MANIFEST)]
    alone = [
        each for each in files
        if each.name.endswith(MANIFEST) and _artifact_of(each) not in artifacts
    ]  # fmt: skip
    if not artifacts:
        raise FedspeechError(f"{root} holds no file to check")
    checks = _check_all(artifacts, held, root, workers)
    return ShareRecheck((*checks, *(_gone(each, root) for each in alone)))


def _check_all(files: Sequence[Path], policy: Policy, root: Path, workers: int) -> list[ShareCheck]:
    """Checks many files, by several processes where the files are large enough to pay for them."""
    check = functools.partial(_check_below, policy=policy, root=root)
    size = sum(file.stat().st_size for file in files if file.exists())
    if workers < 2 or size < _WORTH_WORKERS:
        return list(map(check, files))
    from fedspeech.training.workers import WorkerPool, worker_deaths_said

    with (
        worker_deaths_said("not every file was checked"),
        WorkerPool(min(workers, len(files)), _prepared) as pool,
    ):
        return list(pool.map(check, files))


def _prepared() -> None:
    """Loads the rules before files wait for them."""
    import fedspeech.sharing.gate  # noqa: F401


def _check_below(file: Path, policy: Policy, root: Path) -> ShareCheck:
    return _check(file, None, policy, str(file.relative_to(root)))


def _check(file: Path, manifest: Path | None, policy: Policy, name: str = "") -> ShareCheck:
    from fedspeech.sharing.gate import check

    beside = file.with_name(file.name + MANIFEST)
    source = manifest if manifest is not None else beside
    try:
        said = source.read_bytes() if manifest is not None or beside.exists() else None
        found = check(file, said, policy)
    except OSError as error:
        raise FedspeechError(f"{error.filename}: {error.strerror}") from error
    return ShareCheck(name or file.name, found.findings)


def _artifact_of(manifest: Path) -> Path:
    return manifest.with_name(manifest.name.removesuffix(MANIFEST))


def _gone(manifest: Path, root: Path) -> ShareCheck:
    """A manifest whose artifact is not there: nobody can say what became of it."""
    from fedspeech.sharing.finding import Finding

    missing = Finding("artifact-missing", "file", "there is a manifest, and no artifact beside it")
    return ShareCheck(str(manifest.relative_to(root)), (missing,))
