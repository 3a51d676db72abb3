"""Counts of a window: from a file of one's own, or from two releases of a federated evaluation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import RolloutRefused, ScenarioError
from simulations.api.bundles import read_file

if TYPE_CHECKING:
    from fedspeech.rollout.bound import Bound
    from fedspeech.rollout.decisions import Rollout
    from fedspeech.rollout.guardrails import SegmentCounts, Window

MOST_BYTES = 2**22
ANSWER = "analysis.json"  # of a release of counts, in its folder


def window_of(given: str | Path | Mapping[str, Any]) -> Window:
    """The counts of one window, from a JSON file or an object.

    Raises:
      ScenarioError: if they are none.
    """
    from fedspeech.rollout.guardrails import Window

    try:
        if isinstance(given, Mapping):
            return Window.of_record(given)
        return Window.of_record(json.loads(read_file(given, MOST_BYTES)))
    except (TypeError, KeyError, ValueError) as error:
        raise ScenarioError(f"these are no counts of one window: {error}") from error


def window_of_releases(rollout: Rollout, new: str | Path, old: str | Path) -> Window:
    """The counts of one window, from a release for each version (`fedspeech analyze`).

    Raises:
      ScenarioError: if a folder holds no release of an evaluation of accuracy.
      RolloutRefused: if they are of different windows, of another adapter than is served, or more
        answers of a phone than the plan prices.
    """
    from fedspeech.rollout.guardrails import Window

    if rollout.plan.evaluation.answers != 2:
        raise RolloutRefused(
            "two releases are two answers of a phone in one window, and the plan prices "
            f"evaluation.answers = {rollout.plan.evaluation.answers}: set 2 in the plan of the "
            "roll-out, or give counts in which each phone answers for the version that it serves"
        )
    releases = [_Release(Path(folder)) for folder in (new, old)]
    for release, bound in zip(releases, (rollout.release, rollout.control), strict=True):
        release.require(bound)
    if releases[0].days != releases[1].days:
        raise RolloutRefused(
            f"both versions must be evaluated in the same window, got days {releases[0].days} and "
            f"{releases[1].days}"
        )
    first_day, last_day = releases[0].days
    return Window(
        first_day=first_day, last_day=last_day, new=releases[0].counts, old=releases[1].counts
    )


def window_of_release(rollout: Rollout, folder: str | Path) -> Window:
    """The counts of one window, from a release in which each phone scored the version it serves.

    Raises:
      ScenarioError: if the folder holds no release of an evaluation of accuracy by version.
      RolloutRefused: if it is of other adapters than are served.
    """
    from fedspeech.rollout.guardrails import Window

    release = _Release(Path(folder))
    release.require(rollout.release)
    release.require_old(rollout.control)
    first_day, last_day = release.days
    return Window(
        first_day=first_day, last_day=last_day, new=release.of("new"), old=release.of("old")
    )


class _Release:
    """One release of a federated evaluation."""

    def __init__(self, folder: Path) -> None:
        from fedspeech.rollout.guardrails import SegmentCounts

        self._folder = folder
        try:
            found = json.loads(read_file(folder / ANSWER, MOST_BYTES))
            evaluation = found["evaluation"]
            self.days: tuple[int, int] = evaluation["first_day"], evaluation["last_day"]
            self._adapter: str = evaluation["adapter_sha256"]
            self._old: str = evaluation.get("old_sha256", "")
            measure = evaluation["measure"]
            if measure != "accuracy":
                raise ValueError(f"guardrails read accuracy, got {measure}")
            self.counts: tuple[SegmentCounts, ...] = tuple(
                SegmentCounts(**one) for one in evaluation["segment_counts"]
            )
        except (OSError, TypeError, KeyError, ValueError) as error:
            raise ScenarioError(
                f"{folder} holds no release of an evaluation of accuracy: {error!r}"
            ) from error

    def require(self, bound: Bound | None) -> None:
        """Refuses counts of another adapter; the base alone has no file to compare with."""
        if bound is not None and self._adapter != bound.parameters_sha256:
            raise RolloutRefused(
                f"{self._folder} evaluates the adapter {self._adapter[:12]}..., and "
                f"{bound.model} {bound.version} is {bound.parameters_sha256[:12]}..."
            )

    def require_old(self, bound: Bound | None) -> None:
        """Refuses counts of one version, or of another old one."""
        if not self._old:
            raise ScenarioError(
                f"{self._folder} evaluates one adapter on every phone: give a release of each "
                "version, or one with the segment version (docs/roll-out.md)"
            )
        if bound is not None and self._old != bound.parameters_sha256:
            raise RolloutRefused(
                f"{self._folder} compares with the adapter {self._old[:12]}..., and {bound.model} "
                f"{bound.version} is {bound.parameters_sha256[:12]}..."
            )

    def of(self, version: str) -> tuple[SegmentCounts, ...]:
        """Counts of the phones that serve a version, their segments without its name."""
        before = f"version={version},"
        return tuple(
            dataclasses.replace(one, segment=one.segment.removeprefix(before))
            for one in self.counts
            if one.segment.startswith(before)
        )
