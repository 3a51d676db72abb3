"""Settings of an experiment from Python objects: each becomes the section of a scenario that it is.

There is one description of a run, the scenario, whether a file or a program says it: a program's
settings are checked by the same rules, priced by the same plan and kept in the same run folder.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.aggregation.own_optimizer import OwnOptimizer
from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.own_code import hand_over
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws
from fedspeech.tasks.task import Task
from fedspeech.training.own_trainer import OwnTrainer
from simulations.scenario.reading import read_scenario, scenario_from
from simulations.scenario.schema import MADE, PROVIDED, PrivacySettings, Scenario
from simulations.scenario.sections import Section
from simulations.scenario.writing import to_toml

START = "default"
STARTS = {
    "folder": "real-commands", "provided": "real-commands", "sentences": "asr-default",
    "joined": "asr-joined", "transcribed": "asr-an4",
}  # fmt: skip
"""By kind of corpus, the shipped scenario whose settings hold where a program gives none."""
_WHOLE = ("corpus", "lexicon")  # replaced: of another kind each key may be another


def start_of(scenario: Scenario | str | Path | None, kind: str | None) -> Scenario:
    """The scenario that an experiment starts from.

    Args:
      scenario: itself, a shipped name or a file; None: the shipped one that suits the corpus.
      kind: of the corpus; None: not given.

    Raises:
      ScenarioError: if there is none of that name.
    """
    if isinstance(scenario, Scenario):
        return scenario
    return read_scenario(str(scenario or STARTS.get(kind or "", START)))


def described(start: Scenario, name: str, changes: Mapping[str, Any]) -> Scenario:
    """A scenario with sections changed by objects or by mappings of keys.

    A mapping or an object changes the keys that it has, and None as a value takes a key back to its
    default.

    Args:
      start: whose other keys stay.
      name: of the experiment.
      changes: key or section to value; None: unchanged.

    Raises:
      ScenarioError: naming the key and the nearest valid one.
    """
    document = tomllib.loads(to_toml(start)) | {"name": name}
    if name != start.name:
        document["description"] = ""  # of another experiment
    for key, value in changes.items():
        kept, found = document.get(key), _table(value)
        if isinstance(found, Mapping) and isinstance(kept, dict) and key not in _WHOLE:
            document[key] = _plain({**kept, **found})
        elif value is not None:
            document[key] = _plain(found)
    return scenario_from(document, f"experiment {name}").with_absolute_paths()


def _table(value: Any) -> Any:
    """An object of settings as a table; any other value as it is."""
    if isinstance(value, BaseModel):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _plain(value: Any) -> Any:
    """A value as a TOML file would have it: sections as tables, without what is not set."""
    value = _table(value)
    if isinstance(value, Mapping):
        return {name: _plain(found) for name, found in value.items() if found is not None}
    if isinstance(value, Path):
        return str(value.absolute())
    return value


def adapter_settings(adapter: str | type[Adapter] | LoraSettings | None) -> dict[str, Any]:
    """The keys of an adapter: by name, low-rank factors by their settings, or a class of one's own.

    Raises:
      ScenarioError: if it is none of these, or a class that has no address.
    """
    match adapter:
        case None:
            return {}
        case str():
            return {"adapter": adapter}
        case LoraSettings():
            return {"adapter": "lora", "lora": adapter}
        case type() if Adapter in adapter.__mro__:
            return {"adapter": hand_over(adapter)}
    raise ScenarioError(
        f"adapter is a name, LoraSettings or a subclass of Adapter, got {adapter!r:.80}"
    )


def corpus_settings(found: dict[str, Any] | None, start: Scenario) -> dict[str, Any] | None:
    """The section `corpus`: what a program gave, over the start's keys where its kind is the same.

    Args:
      found: by `section_of`, with the keys of the division; None: as in the start.
      start: the scenario that the experiment starts from.
    """
    if found is None or found.get("kind", start.corpus.kind) != start.corpus.kind:
        return found
    return {**_plain(start.corpus), **found}


def section_of(
    corpus: object, task: Task | None, division: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The keys of the section `corpus` that a program gave.

    Args:
      corpus: a folder, settings of a section, a mapping of keys, an open corpus or None.
      task: of the experiment, if it was given.
      division: keys by which speakers are divided.

    Raises:
      ScenarioError: if sentences are no folder.
    """
    found = _section_of(corpus, task)
    return {**(found or {}), **division} if division else found


def _section_of(corpus: object, task: Task | None) -> dict[str, Any] | None:
    sentences = isinstance(task, Asr)
    match corpus:
        case None:
            return {"kind": "sentences"} if sentences else None
        case str() | Path():
            kind = "transcribed" if sentences else "folder"
            return {"kind": kind, "path": str(Path(corpus).absolute())}
        case Section():
            return dict(_plain(corpus))
        case Mapping():
            return dict(_plain(corpus))
    sentences = sentences or getattr(corpus, "sentences", False)
    folder, share = getattr(corpus, "folder", None), getattr(corpus, "max_unusable_share", None)
    if folder is not None:
        kind = "transcribed" if sentences else "folder"
        found = {"kind": kind, "path": str(Path(folder).absolute())}
        return found if share is None else {**found, "max_unusable_share": share}
    if sentences:
        raise ScenarioError(
            "sentences are read from a folder: write a manifest with a column transcript and give "
            "the folder, as in Experiment(task=Asr(), corpus='recordings')"
        )
    return {"kind": "provided"}


def task_settings(task: Task | None) -> dict[str, Any]:
    """The keys that a shipped task stands for; of another task, none.

    A setting that equals the task's own default is left to the scenario.
    """
    match task:
        case Kws(roles=roles, false_accept_rate=rate, stream=stream):
            evaluation: dict[str, Any] = {}
            if rate != Kws().false_accept_rate:
                evaluation["false_accept_rate"] = rate
            if stream is not None:
                evaluation["false_accepts_per_hour"] = stream.false_accepts_per_hour
                evaluation["stream_minutes"] = stream.minutes
            found: dict[str, Any] = {"evaluation": evaluation}
            return found | ({"vocabulary": list(roles.targets)} if roles.targets else {})
        case Asr(beam=beam, each_round=each_round, examples=examples):
            decoding = _plain(beam) if beam != Asr().beam else {}
            if each_round is not None:
                decoding["evaluated_each_round"] = each_round
            return {"decoding": decoding | ({"examples": examples} if examples else {})}
    return {}


def server_settings(rule: object) -> object:
    """The section `server_optimizer`: settings or a mapping as they are, own rules by their name.

    Raises:
      ScenarioError: if no file could name the rule's class.
    """
    if rule is None or isinstance(rule, Mapping | FedOpt):
        return rule
    own = OwnOptimizer.of(rule)
    return {"rule": own.rule, "settings": dict(own.settings)}


def training_settings(training: object) -> object:
    """The section `training`: settings or a mapping, whose `trainer` may be a function or object.

    Raises:
      ScenarioError: if no file could name the trainer.
    """
    if not isinstance(training, Mapping) or isinstance(training.get("trainer") or "", str):
        return training
    own = OwnTrainer.of(training["trainer"])
    return {**training, "trainer": own.trainer, "trainer_settings": dict(own.settings)}


def privacy_settings(plan: object) -> object:
    """The section `privacy` for what a program gave: a whole plan, settings or a mapping."""
    if not isinstance(plan, PrivacyPlan):
        return plan
    expected = plan.expected_in_sum
    same = {
        name: _plain(getattr(plan, name))
        for name in PrivacySettings.model_fields
        if hasattr(plan, name)
    }
    return same | {
        "matrix_factorization": plan.factorization and dataclasses.asdict(plan.factorization),
        "min_cohort_share": plan.min_cohort / expected,
        "min_reporting_share": plan.min_reporting / expected,
    }


def base_settings(
    base: Base | str | Path | None, vocabulary: list[str] | None, start: Scenario
) -> dict[str, str] | None:
    """The section `base` for what a program gave."""
    if isinstance(base, Base):
        if start.base.source == PROVIDED and start.base.sha256 not in ("", base.sha256):
            raise ScenarioError(
                f"base.sha256: the base that was handed over must have {start.base.sha256}, got "
                f"{base.sha256}"
            )
        return {"source": PROVIDED, "sha256": base.sha256}
    if base is not None:
        return {"source": str(base), "sha256": ""}
    shipped = start.base.source == "shipped" and start.task == "kws"
    if vocabulary and shipped and set(vocabulary) != set(start.vocabulary):
        return {"source": MADE, "sha256": ""}
    return None


def ships(task: Task | None) -> bool:
    """Whether settings alone describe a task: none was given, or it is one that ships."""
    return task is None or isinstance(task, Kws | Asr)
