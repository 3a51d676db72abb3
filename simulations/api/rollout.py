"""Roll-outs: what could be found, the stages of a new version, looks, and decisions by hand."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, RolloutRefused, ScenarioError
from simulations.api.bundles import VALID_DAYS, expires_s, in_words, read_file
from simulations.api.rollout_counts import (
    MOST_BYTES,
    window_of,
    window_of_release,
    window_of_releases,
)
from simulations.api.rollout_reports import RolloutForecast, RolloutReport, RolloutSimulation
from simulations.api.scenarios import require_part, scenario_of
from simulations.api.shown import Page

if TYPE_CHECKING:
    from fedspeech.rollout.plan import RolloutPlan
    from simulations.scenario.schema import Scenario


def rollout_forecast(plan: str | Path | RolloutPlan) -> RolloutForecast:
    """Says the smallest loss of accuracy that each segment shows in each stage of a plan.

        >>> import fedspeech as fs
        >>> fs.rollout_forecast(fs.RolloutPlan(phones=1_000_000))
        RolloutForecast(may start)

    Args:
      plan: a TOML file, or the object.

    Raises:
      ScenarioError: if the file is no plan.
      ArgumentRefused: if a value of it is out of range.
    """
    from fedspeech.rollout.power import forecast

    return RolloutForecast(forecast(_plan(plan)))


def rollout_start(
    folder: str | Path,
    plan: str | Path | RolloutPlan,
    *,
    registry: str | Path,
    model: str,
    base: str | None = None,
    ledger: str | Path | None = None,
    evaluation: str | Path | None = None,
    scenario: Scenario | str | Path | None = None,
) -> RolloutReport:
    """Opens the first stage of the newest version in a registry, against the one before it.

        >>> import fedspeech as fs
        >>> keys, adapter = fs.ota_keys("keys-of-rollout"), "runs/quick/export/adapter.safetensors"
        >>> found = fs.registry("rolling", trust=keys / "trust.json")
        >>> found = fs.registry_publish("rolling", adapter, model="kitchen",
        ...                             key=keys / "signing.pem", seeded_noise=True)
        >>> fs.rollout_start("rollout", fs.RolloutPlan(phones=1_000_000), registry="rolling",
        ...                  model="kitchen")
        RolloutReport('kitchen', 0.1, watching, 1%)

    Args:
      folder: of the roll-out, a new one.
      plan: a TOML file, or the object.
      registry: folder in which the versions were published.
      model: line of adapters.
      base: SHA-256 of the base; None: the only one with that model.
      ledger: of the run that trained the adapter; its head is kept in the first row.
      evaluation: plan file of the federated evaluation; its hash is kept in the first row.
      scenario: of the phones: its `stage` says whether the product is that far; None: nobody asks.

    Raises:
      ScenarioError: if the scenario's stage comes before counts of phones, which guard a roll-out.
      RolloutRefused: if a stage could find nothing, with the population or epsilon that would do.
      FedspeechError: if the registry has no such version.
      RegistryDamaged: if a row or a bundle of it was changed.
      LedgerDamaged: if the ledger was changed.
    """
    from fedspeech.rollout.bound import Bound
    from fedspeech.rollout.decisions import Rollout
    from fedspeech.rollout.registry import Registry

    if scenario is not None:
        require_part(scenario_of(scenario), "rollout")
    published = Registry.open(Path(registry))
    line = published.line_of(model, base)
    pair = [Bound.of(model, one.version, published.content(one)) for one in line[-2:]]
    bound = {
        "registry": str(published.head),
        "ledger": None if ledger is None else _ledger_head(Path(ledger)),
        "evaluation_plan": None if evaluation is None else _sha256(Path(evaluation)),
    }
    control = pair[0] if len(pair) == 2 else None
    return RolloutReport(
        Rollout.start(Path(folder), _plan(plan), release=pair[-1], control=control, bound=bound)
    )


def rollout_look(
    folder: str | Path,
    window: str | Path | Mapping[str, Any] | None = None,
    *,
    new: str | Path | None = None,
    old: str | Path | None = None,
) -> RolloutReport:
    """Looks at the guardrails after one more window, and promotes, pauses or rolls back.

        >>> import fedspeech as fs
        >>> fs.rollout_look("no-rollout", {"first_day": 1})
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      window: JSON file, or the same as an object, with `first_day`, `last_day`, `new` and `old`:
        lists of counts with `segment`, `correct`, `total` and `noise_stddev`. The same window again
        changes nothing. Or the folder of a release of `analyze` by version, in which each phone
        scored the one that it serves. None: it is that of two releases.
      new: folder of a release of `analyze` that evaluates the new version in the window.
      old: likewise of the old version.

    Raises:
      ArgumentRefused: if neither a window nor both releases are given.
      RolloutRefused: if the roll-out is over, the window was counted with other numbers, or a
        release is of another adapter or window.
      RolloutDamaged: if a row was changed or cut.
      ScenarioError: if the file is no window.
    """
    from fedspeech.rollout.decisions import Rollout

    found = Rollout.open(Path(folder))
    if window is not None and new is None and old is None:
        if isinstance(window, str | Path) and Path(window).is_dir():
            found.look(window_of_release(found, window))
        else:
            found.look(window_of(window))
    elif window is None and new is not None and old is not None:
        found.look(window_of_releases(found, new, old))
    else:
        raise ArgumentRefused("give the counts of a window, or both `new` and `old`")
    return RolloutReport(found)


def rollout_promote(folder: str | Path, reason: str) -> RolloutReport:
    """Opens the next stage by hand, whatever the guardrails say.

        >>> import fedspeech as fs
        >>> fs.rollout_promote("no-rollout", "we listened to it")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      reason: in words; it stands in the row.

    Raises:
      RolloutRefused: if the roll-out is over.
    """
    return _decided(folder, "promote", reason)


def rollout_pause(folder: str | Path, reason: str) -> RolloutReport:
    """Keeps the share as it is; windows are still looked at, and harm still rolls back.

        >>> import fedspeech as fs
        >>> fs.rollout_pause("no-rollout", "a holiday")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      reason: in words; it stands in the row.

    Raises:
      RolloutRefused: if the roll-out is over or paused.
    """
    return _decided(folder, "pause", reason)


def rollout_resume(folder: str | Path, reason: str) -> RolloutReport:
    """Ends a pause.

        >>> import fedspeech as fs
        >>> fs.rollout_resume("no-rollout", "the holiday is over")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      reason: in words; it stands in the row.

    Raises:
      RolloutRefused: if it is not paused.
    """
    return _decided(folder, "resume", reason)


def rollout_rollback(folder: str | Path, reason: str) -> RolloutReport:
    """Gives every phone the old version back; also after the last stage.

        >>> import fedspeech as fs
        >>> fs.rollout_rollback("no-rollout", "users complain")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      reason: in words; it stands in the row.

    Raises:
      RolloutRefused: if it was rolled back.
    """
    return _decided(folder, "rollback", reason)


def rollout_status(folder: str | Path, *, registry: str | Path | None = None) -> RolloutReport:
    """Checks a roll-out's rows and says where it stands.

        >>> import fedspeech as fs
        >>> fs.rollout_status("no-rollout")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      registry: in which its versions were published: they are compared by content; None: they
        are not.

    Raises:
      RolloutDamaged: if a row was changed or cut, or the registry holds another adapter under the
        version's number.
    """
    from fedspeech.rollout.decisions import Rollout
    from fedspeech.rollout.registry import Registry

    found = Rollout.open(Path(folder))
    if registry is not None:
        found.require(Registry.open(Path(registry)))
    return RolloutReport(found)


def rollout_page(folder: str | Path, out: str | Path | None = None) -> Page:
    """Writes a roll-out as one offline page: stages, guardrails, intervals, decisions and reasons.

        >>> import fedspeech as fs
        >>> fs.rollout_page("no-rollout")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      out: the file; None: `rollout.html` in the folder.

    Raises:
      RolloutDamaged: if a row was changed or cut.
    """
    from fedspeech.files import write_text
    from fedspeech.rollout.decisions import Rollout
    from simulations.report.rollout_page import render

    target = Path(folder) / "rollout.html" if out is None else Path(out)
    write_text(target, render(Rollout.open(Path(folder))))
    return Page(target)


def rollout_statement(
    folder: str | Path, out: str | Path, *, key: str | Path, valid_days: float = VALID_DAYS
) -> Path:
    """Signs what every phone is told of the stage that is open: share, key, version.

        >>> import fedspeech as fs
        >>> fs.rollout_statement("no-rollout", "stage.bundle", key="keys/signing.pem")
        Traceback (most recent call last):
        fedspeech.errors.FedspeechError: no-rollout is no roll-out: it has no rollout.jsonl

    Args:
      folder: of the roll-out.
      out: the statement.
      key: the publisher's signing key.
      valid_days: for how long phones act on it.

    Raises:
      FedspeechError: if the key cannot be read.
      RolloutDamaged: if a row was changed or cut.
    """
    from fedspeech.files import write_whole
    from fedspeech.rollout.decisions import Rollout
    from fedspeech.rollout.signing import PrivateKey

    found = Rollout.open(Path(folder))
    signed = found.statement(expires_s(valid_days)).signed(PrivateKey.load(Path(key)))
    write_whole(Path(out), signed)
    return Path(out)


def rollout_hear(statement: str | Path, phone: str | Path) -> str:
    """Hands a statement of a stage to a phone, which finds out for itself what to do.

        >>> import fedspeech as fs
        >>> fs.rollout_hear("stage.bundle", "no-phone")
        Traceback (most recent call last):
        fedspeech.errors.UpdateRefused: no-phone is no phone's folder: it has no phone.json

    Args:
      statement: as `rollout_statement` wrote it.
      phone: folder of the phone, as `ota_enroll` made it.

    Returns:
      "take": fetch and apply the version; "wait": keep what is there; "go back": roll back.

    Raises:
      UpdateRefused: if the statement breaks a rule; nothing has changed then.
    """
    from fedspeech.rollout.phone_stage import MAX_STATEMENT_BYTES, PhoneStage

    stage = PhoneStage(Path(phone))
    return stage.hear(read_file(statement, MAX_STATEMENT_BYTES), time.time())


def rollout_simulate(
    plan: str | Path | RolloutPlan,
    *,
    losses: Mapping[str, float] | None = None,
    seeds: int = 200,
) -> RolloutSimulation:
    """Carries a plan out many times with an update of known effect, and counts how it ends.

        >>> import fedspeech as fs
        >>> fs.rollout_simulate(fs.RolloutPlan(phones=1_000_000), seeds=5)
        RolloutSimulation(5 seeds, reached 100%, rolled back 0%)

    Args:
      plan: a TOML file, or the object.
      losses: full name of a segment, such as "accent=scottish", to the accuracy that the update
        costs it, as a share.
      seeds: how many.

    Raises:
      RolloutRefused: if a stage could find nothing.
      ArgumentRefused: if a segment is not in the plan, or there are no seeds.
    """
    from fedspeech.rollout.power import forecast
    from fedspeech.rollout.simulation import simulate

    if not 1 <= seeds <= 100_000:
        raise ArgumentRefused(f"`seeds` must be 1 to 100000, got {seeds}")
    found = forecast(_plan(plan))
    if found.refused:
        raise RolloutRefused("; ".join(found.reason(stage) for stage in found.refused))
    given = dict(losses or {})
    outcomes = in_words(lambda: simulate(found.plan, losses=given, seeds=range(seeds)))
    return RolloutSimulation(found.plan, given, outcomes)


def _decided(folder: str | Path, decision: str, reason: str) -> RolloutReport:
    from fedspeech.rollout.decisions import Rollout

    found = Rollout.open(Path(folder))
    getattr(found, decision)(reason)
    return RolloutReport(found)


def _plan(plan: str | Path | RolloutPlan) -> RolloutPlan:
    from fedspeech.rollout.plan import RolloutPlan

    if isinstance(plan, RolloutPlan):
        return plan
    try:
        text = read_file(plan, MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{plan} must be UTF-8 text: {error}") from error
    return in_words(lambda: RolloutPlan.from_toml(text))


def _ledger_head(file: Path) -> str:
    from fedspeech.privacy.ledger import Ledger

    return str(Ledger.inspect(file).head)


def _sha256(file: Path) -> str:
    return hashlib.sha256(read_file(file, MOST_BYTES)).hexdigest()
