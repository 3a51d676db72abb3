"""What attacks find beside what a plan promises."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused
from simulations.console import Console, Printed, table
from simulations.progress import RunProgress, progress_for

if TYPE_CHECKING:
    from fedspeech.audits.games import Finding
    from fedspeech.privacy.plan import PrivacyPlan
    from simulations.audits.results import Attacked, CanaryBound
    from simulations.scenario.schema import Scenario
    from simulations.setup.definition import Experiment

CLAIM_VIOLATED = "CLAIM VIOLATED"
FEWEST, MOST = 100, 1_000_000
_WATCHERS = {"release": "readers of the models", "server": "the server"}
_NOT_PRIVATE = (
    "A bound above a claim disproves it. A bound below proves only what it says: these attacks, so "
    "often, showed no more. That no attack succeeded is not privacy; the claim rests on the "
    "argument of the accountant (docs/privacy.md)."
)


@dataclass(frozen=True, eq=False)
class Audit(Printed):
    """What was played, and what it proved.

    Attributes:
      name: of the scenario.
      rounds: of the plan that were played.
      findings: a bound for every game and observer.
      skipped: what was not played, and why.
      attacked: what attacks on speech found; None where none was asked for.
      page: where `audit.html` stands; None likewise.
    """

    name: str
    rounds: int
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]
    attacked: Attacked | None = None
    page: Path | None = None

    @property
    def broken(self) -> bool:
        """Whether a claim is disproven."""
        by_attacks = self.attacked is not None and bool(self.attacked.broken)
        return by_attacks or any(finding.broken for finding in self.findings)

    def record(self) -> dict[str, Any]:
        """Everything as plain data."""
        findings = [{**asdict(found), "broken": found.broken} for found in self.findings]
        return {
            "scenario": self.name, "rounds": self.rounds, "broken": self.broken,
            "findings": findings, "skipped": list(self.skipped),
            "attacks": None if self.attacked is None else self.attacked.model_dump(mode="json"),
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints tables, what they prove, and what they do not; a broken claim before all else."""
        if self.broken:
            console.print(f"{CLAIM_VIOLATED}: an attack proves more than is promised.\n")
        if self.findings or self.skipped:
            self._print_bounds(console)
        if self.attacked is not None:
            self._print_attacks(console, self.attacked)

    def _print_attacks(self, console: Console, attacked: Attacked) -> None:
        from simulations.audits.page import NOT_PRIVATE, in_short

        gap = "\n" if self.findings or self.skipped else ""
        console.print(f"{gap}{self.name}: attacks on {attacked.phones:,} phones\n")
        for words in (*in_short(attacked), "", NOT_PRIVATE, "", f"page: {self.page}"):
            console.print(words, soft_wrap=True)

    def _print_bounds(self, console: Console) -> None:
        from fedspeech.privacy.phrasing import rounded_up

        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        console.print(f"{self.name}: canaries in {rounds} of its plan\n")
        rows = [
            (
                _WATCHERS[found.observer], found.game, found.relation, rounded_up(found.claimed),
                _at_least(found.bound.epsilon), "DISPROVEN" if found.broken else "stands",
            )
            for found in self.findings
        ]  # fmt: skip
        header = ("observer", "game", "relation", "claimed at most", "shown at least", "claim")
        console.print(table(header, rows, right=("claimed at most", "shown at least")))
        for found in self.findings:
            console.print(
                f"\n{_WATCHERS[found.observer]}, {found.game}: {found.bound.says} "
                f"({found.bound.confidence:.4g} confidence, delta {found.delta:.3g}).",
                soft_wrap=True,
            )
            if found.bound.reach < found.claimed:
                console.print(
                    f"So few runs could show {_at_least(found.bound.reach)} at most, were there no "
                    "noise at all: more runs, or more noise, would test this claim.",
                    soft_wrap=True,
                )
        for words in self.skipped:
            console.print(f"\nnot played: {words}", soft_wrap=True)
        console.print(f"\n{_NOT_PRIVATE}", soft_wrap=True)

    def __repr__(self) -> str:
        """How many claims were attacked, and how many fell."""
        fallen = sum(found.broken for found in self.findings)
        return f"Audit({self.name!r}, {len(self.findings)} claims, {fallen} disproven)"


def audit(
    what: Experiment | Scenario | str | Path,
    *,
    attacks: Iterable[str] | None = None,
    out: str | Path | None = None,
    rounds: int = 1,
    runs: int = 2000,
    confidence: float = 0.99,
    seed: int | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    progress: bool | RunProgress | None = None,
) -> Audit:
    """Attacks a scenario: its plan by canaries, its phones by what observers see of them.

    Attacks on phones ask, of what each observer sees under each protection, whose voice it is, who
    took part, and what else it tells of a speaker; `Audit.page` shows all of them. They stop and go
    on: what was found stands in `out`, and is not played again. See docs/audit.md.

    A canary is a phone that says the most that its plan lets it say. Rounds are played by the code
    that runs play them by, with and without it; from how often an observer can tell follows a lower
    bound on epsilon, with an exact confidence, beside the epsilon that is claimed for the same
    rounds. Where a bound exceeds its claim, the code does not do what the accountant prices.

        >>> import fedspeech as fs
        >>> fs.audit("quick", attacks=["canaries"], runs=200)                   # doctest: +SKIP
        Audit('quick', 3 claims, 0 disproven)

    Args:
      what: an experiment, a scenario, its name or file, or a run folder.
      attacks: secrets such as "speaker", "membership" or "accent", single attacks such as
        "speaker:weight-cosine", and "canaries"; None: all.
      out: folder of what attacks find; None: `audit` in the run folder, or audits/NAME.
      rounds: first rounds of the plan that canaries are played in.
      runs: of canaries, of either world.
      confidence: of every bound.
      seed: of noise that canaries can repeat; None: noise of the operating system, as in a release.
      workers: processes; None: one per core.
      cache: where features are kept; None: the user's cache.
      progress: whether to show how far it is; None: where somebody watches.

    Raises:
      ArgumentRefused: if a number is out of range or an attack unknown; names in backticks are
        arguments.
      ScenarioError: if phones of this scenario cannot be attacked; the message says why.
    """
    from simulations.api.budget import budget
    from simulations.api.scenarios import experiment_of
    from simulations.audits.attacks import chosen
    from simulations.audits.auditing import PAGE, attack

    _check(runs, confidence)
    wanted, with_canaries = chosen(attacks)
    found = _scenario_in(what)
    experiment = experiment_of(found)
    plan = budget(experiment).plan
    if not 1 <= rounds <= plan.rounds:
        raise ArgumentRefused(f"`rounds` must be 1 to {plan.rounds}, got {rounds}")
    name, shown = experiment.scenario.name, progress_for(progress)
    findings: tuple[Finding, ...] = ()
    skipped: tuple[str, ...] = ()
    with shown:
        if with_canaries:
            settings = (rounds, runs, confidence, seed)
            findings, skipped = _canaries(plan, *settings, shown)
        if not wanted:
            return Audit(name, rounds, findings, skipped)
        folder = _folder(what, name) if out is None else Path(out)
        attacked = attack(
            experiment if experiment.in_memory else experiment.scenario, wanted, folder,
            cache=None if cache is None else Path(cache), workers=workers, progress=shown,
            bounds=tuple(_on_page(one) for one in findings),
        )  # fmt: skip
    return Audit(name, rounds, findings, skipped, attacked, folder / PAGE)


def _folder(what: Any, name: str) -> Path:
    """Where an audit's results stand if nobody says where."""
    is_run = isinstance(what, str | Path) and Path(what).is_dir()
    return Path(what) / "audit" if is_run else Path("audits") / name


def _canaries(
    plan: PrivacyPlan,
    rounds: int,
    runs: int,
    confidence: float,
    seed: int | None,
    shown: RunProgress,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Plays both games of canaries; what was found, and what was not played and why."""
    from fedspeech.audits import canaries, many_canaries
    from fedspeech.audits.games import OBSERVERS, NothingPromised
    from fedspeech.seeds import NoiseEntropy

    entropy = NoiseEntropy.os() if seed is None else NoiseEntropy.seeded(seed, "audit")
    findings: list[Finding] = []
    skipped: list[str] = []
    games = (
        (canaries, canaries.small(plan, rounds), runs),
        (many_canaries, canaries.first(plan, rounds), max(1, runs // 100)),
    )
    for game, played, times in games:
        for observer in OBSERVERS:
            name = f"{_WATCHERS[observer]}: {game.GAME}"
            try:
                with shown.stage(name, times):
                    found = game.play(
                        played, observer, entropy, runs=times, confidence=confidence,
                        tell=lambda done, total=times: shown.advance(done, total),
                    )  # fmt: skip
            except NothingPromised as error:
                skipped.append(f"{game.GAME}: {error}")
                continue
            findings.append(found)
    return tuple(findings), tuple(skipped)


def _on_page(found: Finding) -> CanaryBound:
    """A bound as the page has it."""
    from simulations.audits.results import CanaryBound

    name = f"{_WATCHERS[found.observer]}, {found.game}"
    fallen = "CLAIM VIOLATED" if found.broken else "the claim stands"
    return CanaryBound(
        game=found.game, observer=_WATCHERS[found.observer], relation=found.relation,
        claimed=found.claimed, at_least=found.bound.epsilon, broken=found.broken,
        says=f"{fallen}: {name}: epsilon is at least {_at_least(found.bound.epsilon)} "
        f"({found.bound.confidence:.4g} confidence), and {found.claimed:.3f} is claimed: "
        f"{found.bound.says}",
    )  # fmt: skip


def _check(runs: int, confidence: float) -> None:
    if not FEWEST <= runs <= MOST:
        raise ArgumentRefused(f"`runs` must be {FEWEST} to {MOST}, got {runs}")
    if not 0.5 <= confidence <= 1 - 1e-9:
        raise ArgumentRefused(f"`confidence` must be 0.5 to below 1, got {confidence}")


def _scenario_in(what: Any) -> Any:
    """The scenario of a run folder; anything else as it is."""
    from simulations.results.run_folder import RunFolder

    if isinstance(what, str | Path) and Path(what).is_dir():
        return RunFolder(Path(what)).scenario
    return what


def _at_least(bound: float) -> str:
    """A bound that something exceeds, never rounded up."""
    return f"{math.floor(bound * 1000) / 1000:.3f}"
