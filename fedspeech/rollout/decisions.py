"""One roll-out: what was decided, when and why, as rows of a chain that nobody edits.

    rollout = Rollout.start(folder, plan, release=..., control=..., bound={...})
    look = rollout.look(window)             # promotes, pauses or rolls back by itself
    rollout.promote("the team listened to it"); rollout.pause(...); rollout.rollback(...)
    rollout.serves(secret)                  # the version that one phone has

Rows of `rollout.jsonl`, a chain of `fedspeech.hash_chain`:

| kind | meaning |
|---|---|
| `started` | plan, forecast, key of the stages, and what is rolled out, by content |
| `look` | counts of one window, what the guardrails say, and what follows, with its reason |
| `promoted`, `paused`, `resumed`, `rolled_back` | somebody decided by hand, with a reason |
| `recovered` | a line torn by a kill was found; it decided nothing |

A decision is one row, and a look's decision stands in the look's own row: a kill leaves it out or
in. Which version a phone has follows from the rows and the phone's draw alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from fedspeech.errors import RolloutDamaged, RolloutRefused
from fedspeech.hash_chain import Head, KeptChain, Row
from fedspeech.rollout.bound import Bound, require_pair
from fedspeech.rollout.checked_json import canonical_json
from fedspeech.rollout.guardrails import Window
from fedspeech.rollout.look import Decision, Look, look_at
from fedspeech.rollout.plan import RolloutPlan, Stage, percent
from fedspeech.rollout.power import Detectable, Forecast, forecast
from fedspeech.rollout.registry import Registry
from fedspeech.rollout.stages import KEY_BYTES, StageStatement, takes
from fedspeech.rollout.version import Version

CHAIN_FILE = "rollout.jsonl"
State = Literal["watching", "paused", "complete", "rolled back"]


class Rollout:
    """A roll-out's folder. Use `start` once, then `open`.

    Attributes:
      folder: where it is.
      rows: of the chain, in order.
      looks: in order.
      state: what it is doing.
      stage_number: of the stage that is open, from 0.
    """

    def __init__(self, folder: Path) -> None:
        """Prepares an empty one."""
        self.folder = folder
        self.rows: list[Row] = []
        self.looks: list[Look] = []
        self.state: State = "watching"
        self.stage_number = 0
        self._plan: RolloutPlan | None = None
        self._windows: list[Window] = []  # of the open stage
        self._chain = KeptChain(
            folder / CHAIN_FILE,
            self._take,
            RolloutDamaged,
            "nothing is decided until somebody has looked",
        )

    @classmethod
    def start(
        cls,
        folder: Path,
        plan: RolloutPlan,
        *,
        release: Bound,
        control: Bound | None,
        bound: Mapping[str, str | None] | None = None,
        key: bytes | None = None,
    ) -> Rollout:
        """Opens the first stage.

        Args:
          folder: of the new roll-out.
          plan: as it was written; small segments are merged.
          release: the version that is rolled out.
          control: the one that other phones keep; None: the base alone.
          bound: what else it rests on, name to hash: registry head, ledger head, evaluation plan.
          key: of the stages; None: a fresh one.

        Raises:
          RolloutRefused: if a stage could find nothing, with what would do; if the versions are of
            other bases or models; or if the folder has a roll-out.
        """
        found = forecast(plan)
        if found.refused:
            raise RolloutRefused("; ".join(found.reason(stage) for stage in found.refused))
        require_pair(release, control)
        folder.mkdir(parents=True, exist_ok=True)
        opened = cls(folder)
        with opened._chain.opened() as file:
            if opened.rows:
                raise RolloutRefused(f"{folder} has a roll-out already")
            opened._chain.add(file, _started(found, release, control, bound or {}, key))
        return opened

    @classmethod
    def open(cls, folder: Path) -> Rollout:
        """Reads a roll-out.

        Raises:
          FedspeechError: if there is none.
          RolloutDamaged: if a row was changed or cut.
        """
        found = cls(folder)
        found._chain.take_all(
            "roll-out", lambda: found._plan is not None, "started: start it again"
        )
        return found

    @property
    def plan(self) -> RolloutPlan:
        """The plan that is carried out, with small segments merged."""
        assert self._plan is not None
        return self._plan

    @property
    def release(self) -> Bound:
        """The version that is rolled out."""
        return Bound(**self.rows[0]["release"])

    @property
    def control(self) -> Bound | None:
        """The version that other phones keep."""
        found = self.rows[0]["control"]
        return None if found is None else Bound(**found)

    @property
    def detectable(self) -> tuple[Detectable, ...]:
        """What each segment could show in each stage, as it was printed before the start."""
        return tuple(Detectable(**one) for one in self.rows[0]["forecast"])

    @property
    def stage(self) -> Stage:
        """The stage that is open."""
        return self.plan.stages[self.stage_number]

    @property
    def share_ppm(self) -> int:
        """Share of the phones that have the new version now, in millionths."""
        return 0 if self.state == "rolled back" else self.stage.share_ppm

    @property
    def reason(self) -> str:
        """Why it stands where it stands."""
        return next((row["reason"] for row in reversed(self.rows) if "reason" in row), "")

    @property
    def head(self) -> Head | None:
        """The last row, to be kept by whoever wants to check that none was cut off."""
        return self._chain.head

    def serves(self, secret: bytes) -> str | None:
        """The version that the phone with this secret has; None: the base alone."""
        if takes(bytes.fromhex(self.rows[0]["key"]), secret, self.share_ppm):
            return self.release.version
        return None if self.control is None else self.control.version

    def statement(self, expires_s: int) -> StageStatement:
        """What phones are told of the stage; the publisher's key signs it.

        Its number is that of the last row, so it rises with every decision.
        """
        return StageStatement(
            model=self.release.model,
            version=Version.parse(self.release.version),
            key=self.rows[0]["key"],
            share_ppm=self.share_ppm,
            number=len(self.rows),
            expires_s=expires_s,
            reset_after_days=self.plan.reset_after_days,
        )

    def require(self, registry: Registry) -> None:
        """Holds what is rolled out against what was published.

        Raises:
          RolloutDamaged: if the registry has another adapter under a version's number, or none.
          RegistryDamaged: if a bundle is not the one that was published.
        """
        for bound in filter(None, (self.release, self.control)):
            line = registry.line(bound.base_sha256, bound.model)
            named = [one for one in line if str(one.version) == bound.version]
            for one in named:
                if Bound.of(bound.model, one.version, registry.content(one)) == bound:
                    break
            else:
                raise RolloutDamaged(
                    f"{bound.model} {bound.version} of {registry.folder} is not what this roll-out "
                    f"serves: adapter {bound.adapter_sha256[:12]}..."
                )

    def look(self, window: Window) -> Look:
        """Judges the guardrails after one more window, and acts: promotes, pauses or rolls back.

        The same window again gives the same look and changes nothing.

        Raises:
          RolloutRefused: if the roll-out is over, the stage has had its windows, the window is not
            after the last, or the same days come with other counts.
        """
        evidence = _sha256(canonical_json(dataclasses.asdict(window)))
        days = (window.first_day, window.last_day)
        with self._chain.opened() as file:
            for earlier in self.looks:
                if earlier.window == days and earlier.evidence_sha256 == evidence:
                    return earlier
                if days[0] <= earlier.window[1]:
                    raise RolloutRefused(
                        f"days {days[0]} to {days[1]} are not after {earlier.window[0]} to "
                        f"{earlier.window[1]}, which were looked at: a window counts once"
                    )
            self._require_open("looked at")
            if len(self._windows) == self.stage.windows:
                raise RolloutRefused(
                    f"the stage of {percent(self.stage.share)} has had the {self.stage.windows} "
                    "windows of its plan, and its chance of a false alarm is spent: promote or "
                    "roll back"
                )
            self._chain.add(file, self._look_row(window, evidence))
        return self.looks[-1]

    def promote(self, reason: str) -> None:
        """Opens the next stage by hand, whatever the guardrails say.

        Raises:
          RolloutRefused: if the roll-out is over.
        """
        self._decide("promoted", reason, ("watching", "paused"))

    def pause(self, reason: str) -> None:
        """Keeps the share as it is; windows are still looked at, and harm still rolls back.

        Raises:
          RolloutRefused: if the roll-out is over or paused.
        """
        self._decide("paused", reason, ("watching",))

    def resume(self, reason: str) -> None:
        """Ends a pause.

        Raises:
          RolloutRefused: if it is not paused.
        """
        self._decide("resumed", reason, ("paused",))

    def rollback(self, reason: str) -> None:
        """Gives every phone the old version back; also after the last stage.

        Raises:
          RolloutRefused: if it was rolled back.
        """
        self._decide("rolled_back", reason, ("watching", "paused", "complete"))

    def _decide(self, kind: str, reason: str, allowed: tuple[State, ...]) -> None:
        if not reason.strip():
            raise RolloutRefused("a decision by hand needs a reason in words")
        with self._chain.opened() as file:
            if self.state not in allowed:
                raise RolloutRefused(
                    f"a roll-out that is {self.state} cannot be {kind.replace('_', ' ')}: "
                    f"{self.reason}"
                )
            self._chain.add(file, {"kind": kind, "reason": reason})

    def _require_open(self, done: str) -> None:
        if self.state in ("complete", "rolled back"):
            raise RolloutRefused(f"a roll-out that is {self.state} is not {done}: {self.reason}")

    def _look_row(self, window: Window, evidence: str) -> Row:
        counted = window.merged(self.rows[0]["merged"])
        asked = self.plan.cells
        if unknown := sorted({one.segment for one in (*counted.new, *counted.old)} - set(asked)):
            raise RolloutRefused(
                f"the plan watches {', '.join(asked)}; got counts of {', '.join(unknown)}"
            )
        look = look_at([*self._windows, counted], self.plan, self.stage_number, evidence,
                       paused=self.state == "paused")  # fmt: skip
        return {"kind": "look", **dataclasses.asdict(look), "counts": dataclasses.asdict(counted)}

    def _take(self, row: Row) -> None:
        match row["kind"]:
            case "started":
                self._plan = RolloutPlan.from_record(row["plan"])
                self._enter(0)
            case "look":
                look = Look.of_record(row)
                self.looks.append(look)
                self._windows.append(Window.of_record(row["counts"]))
                self._follow(look.decision)
            case "promoted":
                self._follow("promote")
            case "paused":
                self._follow("pause")
            case "resumed":
                self.state = "watching"
            case "rolled_back":
                self._follow("roll back")
            case "recovered":
                return
            case kind:
                raise RolloutDamaged(f"{self.folder} has a row of the unknown kind {kind!r}")
        self.rows.append(row)

    def _follow(self, decision: Decision) -> None:
        match decision:
            case "promote":
                self._enter(self.stage_number + 1)
            case "pause":
                self.state = "paused"
            case "roll back":
                self.state = "rolled back"
            case "watch":
                pass

    def _enter(self, stage: int) -> None:
        self.stage_number, self._windows = stage, []
        self.state = "complete" if self.stage.share == 1 else "watching"


def _started(
    found: Forecast,
    release: Bound,
    control: Bound | None,
    bound: Mapping[str, str | None],
    key: bytes | None,
) -> Row:
    return {
        "kind": "started",
        "plan": found.plan.to_record(),
        "plan_sha256": found.plan.sha256,
        "merged": dict(found.merged),
        "forecast": [dataclasses.asdict(one) for one in found.detectable],
        "release": dataclasses.asdict(release),
        "control": None if control is None else dataclasses.asdict(control),
        "bound": dict(bound),
        "key": (os.urandom(KEY_BYTES) if key is None else key).hex(),
        "reason": f"the plan begins with {percent(found.plan.stages[0].share)} of the phones",
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
