"""`evidence`: what the files of a run show a reviewer."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.files import write_text
from simulations.console import Console, Printed, table

if TYPE_CHECKING:
    from simulations.evidence.files import Answer
    from simulations.evidence.questions import PhoneFiles


@dataclass(frozen=True, eq=False)
class Evidence(Printed):
    """What files show.

    Attributes:
      run: name of the run's folder.
      answers: to every question, with file and line.
      contradictions: in which files of the run disagree.
      folder: where the papers lie; None: none were written.
    """

    run: str
    answers: tuple[Answer, ...]
    contradictions: tuple[str, ...] = ()
    folder: Path | None = None

    def record(self) -> dict[str, Any]:
        """Answers and contradictions as plain data."""
        answers = [
            {"question": each.question, "answer": each.says, "why": each.why,
             "where": [str(source) for source in each.sources]}
            for each in self.answers
        ]  # fmt: skip
        return {
            "run": self.run, "answers": answers, "contradictions": list(self.contradictions)
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints a line for each question."""
        rows = [
            (each.question, each.says, each.why, ", ".join(map(str, each.sources)))
            for each in self.answers
        ]
        console.print(table(("question", "answer", "why", "where"), rows))
        for each in self.contradictions:
            console.print(f"contradiction: {each}", soft_wrap=True)
        if self.folder is not None:
            console.print(f"papers: {self.folder}", soft_wrap=True)

    def __repr__(self) -> str:
        """How many answers of each kind."""
        said = Counter(each.says for each in self.answers)
        return (
            f"Evidence({self.run!r}, " + ", ".join(f"{n} {word}" for word, n in said.items()) + ")"
        )


def evidence(
    run: str | Path,
    *,
    out: str | Path | None = None,
    policy: str | Path | None = None,
    phone: str | Path | None = None,
    keys: str | Path | None = None,
    rollout: str | Path | None = None,
    risk_policy: str | Path | None = None,
) -> Evidence:
    """Answers a reviewer's questions from files, each with the line that shows it.

        >>> import fedspeech as fs
        >>> fs.evidence("runs/quick", out="evidence")                            # doctest: +SKIP
        Evidence('quick', 2 no, 4 not shown, 4 yes)

    Files that contradict each other, or a ledger that does not check, show nothing.

    Args:
      run: a run folder.
      out: a new or empty folder for the papers: the assessment, the sheet for users, and the
        bundle for auditors; None: none are written.
      policy: whose transcripts the run is held against, and whose access log joins the bundle.
      phone: folder of a phone's store, with `keys`.
      keys: folder of its keys.
      rollout: folder of a roll-out.
      risk_policy: what phones ask before they act (`fedspeech mitigate`), a TOML file.

    Raises:
      FedspeechError: if there is no run folder.
      ArgumentRefused: if `out` holds something, or one of `phone` and `keys` is missing.
    """
    from fedspeech.sharing.access_log import AccessLog
    from fedspeech.sharing.policy import Policy
    from simulations.evidence import papers
    from simulations.evidence.files import RunFiles
    from simulations.evidence.questions import Given, answers, unread

    place, target = Path(run), None if out is None else Path(out)
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArgumentRefused(f"`out` must be a new or empty folder, got {target}")
    if (phone is None) != (keys is None):
        raise ArgumentRefused("`phone` and `keys` go together: no store opens without its keys")
    if not place.is_dir():
        raise FedspeechError(f"{place} is no run folder")
    held = None if policy is None else Policy.load(Path(policy))
    given = Given(
        phone=None if phone is None or keys is None else _phone(Path(phone), Path(keys)),
        rollout=None if rollout is None else Path(rollout),
        risk_policy=None if risk_policy is None else Path(risk_policy),
        transcripts=() if held is None else held.transcripts,
    )
    try:
        found = RunFiles.read(place)
        said, contradictions = answers(found, given), found.contradictions
    except FedspeechError as error:
        found, said, contradictions = None, unread(str(error)), (str(error),)
    result = Evidence(place.resolve().name, said, contradictions, target)
    if target is not None:
        log = AccessLog.rows_of(held.log) if held is not None and held.log is not None else ()
        environment = None if found is None else found.results.environment
        ran = {} if environment is None else environment.versions
        target.mkdir(parents=True, exist_ok=True)
        for name, text in {
            "evidence.json": json.dumps(result.record(), indent=2) + "\n",
            "assessment.md": papers.assessment(found, said),
            "privacy-sheet.md": papers.sheet(said),
            "dependencies.csv": papers.dependencies(ran),
            "data-dictionary.csv": papers.dictionary(),
            "transformations.csv": papers.transformations(found),
            "access.csv": papers.access(log),
        }.items():  # fmt: skip
            write_text(target / name, text)
    return result


def _phone(folder: Path, keys: Path) -> PhoneFiles:
    from simulations.api.phone import phone_show
    from simulations.evidence.questions import PhoneFiles

    page = phone_show(folder, keys=keys)
    return PhoneFiles(rows=page.log, held=page.held, consents=page.consents)
