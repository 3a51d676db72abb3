"""A plan file: one question to phones, the days it is about, and what the answer may cost.

    query = "histogram"
    segments = ["device"]
    k_min = 20
    epsilon = 1.0

    [window]
    first_day = 0
    days = 7

    [where]
    event = ["wake_trigger"]

    [bound]
    max_cells = 4
    max_per_cell = 5

    [settings]
    axes = ["day_part"]

It names no phones: the scenario that it is run with does.
"""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, ValidationError

from fedspeech.errors import ScenarioError
from fedspeech.limits import Count, Decay, Fraction, Probability, WholeNumber
from simulations.scenario.sections import Section, keys_of, sections_in

Days = Literal[1, 7]
EVALUATION, WORDS = "evaluation", "heavy_hitters"


class WindowSettings(Section):
    """The days that the question is about."""

    first_day: Annotated[WholeNumber, Field(strict=True)] = Field(
        description="First day of the window, from 0."
    )
    days: Days = Field(default=7, description="Length: a day (1) or a week (7).")

    @property
    def last_day(self) -> int:
        """Of the window, included."""
        return self.first_day + self.days - 1


class BoundSettings(Section):
    """What one phone adds at most; it truncates before it contributes."""

    max_cells: Annotated[Count, Field(strict=True)] = Field(
        default=1, description="Number of cells that one phone adds to at most."
    )
    max_per_cell: Annotated[Count, Field(strict=True)] | None = Field(
        default=None,
        description="Largest count that one phone adds to a cell. Not set: 1, or what a named "
        "metric says.",
    )


class AskingSettings(Section):
    """How phones are asked, where not as the scenario's section `privacy` says."""

    mechanism: Literal["distributed", "skellam", "central", "local", "none"] | None = Field(
        default=None, description="Party that adds noise. Not set: as in the scenario."
    )
    participation: Literal["poisson", "fixed_size", "round_robin"] | None = Field(
        default=None, description="Choice of the phones. Not set: as in the scenario."
    )
    participation_probability: Annotated[Fraction, Field(strict=True)] = Field(
        default=1.0, description="Probability of one phone in one round; 1: everybody is asked."
    )
    secure_aggregation: Literal["masked", "ideal"] | None = Field(
        default=None, description="Way of the sums. Not set: as in the scenario."
    )
    threat_model: Literal["malicious", "semi_honest"] | None = Field(
        default=None, description="Server that masks withstand. Not set: as in the scenario."
    )
    min_cohort_share: Annotated[Fraction, Field(strict=True)] | None = Field(
        default=None, description="Minimum cohort as a share. Not set: as in the scenario."
    )
    min_reporting_share: Annotated[Fraction, Field(strict=True)] | None = Field(
        default=None,
        description="Minimum number of reporting phones as a share; sizes the noise. Not set: as "
        "in the scenario.",
    )
    dropout_rate: Annotated[Decay, Field(strict=True)] | None = Field(
        default=None, description="Share of phones that vanish. Not set: as in the scenario."
    )
    colluders: Annotated[WholeNumber, Field(strict=True)] | None = Field(
        default=None, description="Phones that may collude. Not set: as in the scenario."
    )
    ring_bits: Literal[16, 24, 32] | None = Field(
        default=None, description="Width of the ring. Not set: the narrowest that rounds well."
    )
    epsilon_budget: Annotated[float, Field(gt=0, allow_inf_nan=True, strict=True)] | None = Field(
        default=None,
        description="Limit on what the population's ledger adds up to, this release included. Not "
        "set: as in the scenario.",
    )


class PlanFile(Section):
    """One question to the phones of a population, answered once about its window."""

    name: str = Field(default="", description="Part of the name of folders. Not set: the file's.")
    description: str = Field(default="", description="What is asked and why, in a sentence.")
    query: str = Field(
        description='What is counted: "sum", "ratio", "histogram", "confusion", "quantile", '
        '"heavy_hitters", "evaluation" (of an adapter on the phones\' own clips), a named metric, '
        'or "module:Class" of an installed package.'
    )
    segments: tuple[str | dict[str, Any], ...] = Field(
        default=(),
        description="Attributes that divide the phones, each a name or a table with name, "
        "leave_out and merged; each combination of values is a segment.",
    )
    shares: dict[str, dict[str, Fraction]] = Field(
        default={},
        description="By attribute of `segments` and value, the share of the phones as it is "
        "publicly known: segments that would hold fewer than 2 x k_min phones are merged before "
        "anybody is asked. Not set: none is merged.",
    )
    k_min: Annotated[Count, Field(strict=True)] = Field(
        default=20,
        description="Cells whose noisy count is smaller are withheld, and so is what they follow "
        "from.",
    )
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=True, strict=True)] = Field(
        description="Epsilon of this release against readers, at most; the noise follows from it. "
        'inf: none, for mechanism "none" alone.'
    )
    delta: Annotated[Probability, Field(strict=True)] | None = Field(
        default=None, description="Of the guarantee. Not set: 1 / (10 x population)."
    )
    ledger: str = Field(
        default="",
        description="The population's ledger, from the folder of this file. Not set: the one that "
        "the command names.",
    )
    window: WindowSettings
    where: dict[str, tuple[str, ...]] = Field(
        default={}, description="By column, values that an event must have to be counted."
    )
    bound: BoundSettings = BoundSettings()
    settings: dict[str, Any] = Field(default={}, description="Of the query.")
    privacy: AskingSettings = AskingSettings()

    def to_toml(self) -> str:
        """The file with everything that is set."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def plan_names() -> list[str]:
    """Names of the plan files that ship with the package."""
    folder = resources.files("simulations.analytics") / "shipped"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".toml"))


def read_plan(name_or_file: str) -> PlanFile:
    """Reads a shipped plan file by name, or a TOML file.

    Raises:
      ScenarioError: naming the file, the key, the rule and the value.
    """
    try:
        document = tomllib.loads(_text(name_or_file))
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name_or_file} is not valid TOML: {error}") from error
    return plan_from(document, name_or_file)


def plan_from(document: dict[str, Any], name: str) -> PlanFile:
    """Checks a plan that was read, or that a program describes.

    A ledger, adapters and a roll-out are named from the folder of the file.

    Raises:
      ScenarioError: naming the key, the rule and the value.
    """
    try:
        found = PlanFile.model_validate(document)
    except ValidationError as error:
        raise ScenarioError(_explain(name, error)) from error
    changes: dict[str, Any] = {"name": found.name or Path(name).stem}
    here = Path(name).absolute().parent
    if found.ledger:
        changes["ledger"] = str(here / found.ledger)
    if found.query == EVALUATION:
        named = {key: found.settings.get(key, "base") for key in ("adapter", "old", "rollout")}
        placed = {key: str(here / str(one)) for key, one in named.items() if one != "base"}
        changes["settings"] = {**found.settings, **placed}
    return found.model_copy(update=changes)


def _text(name_or_file: str) -> str:
    """The text of a file, or of a plan that ships.

    Raises:
      ScenarioError: if there is none, with the nearest name, or the file is no text.
    """
    if name_or_file.endswith(".toml"):
        try:
            return Path(name_or_file).read_text(encoding="utf-8-sig")
        except OSError as error:
            raise ScenarioError(
                f"there is no plan file {name_or_file}: {error.strerror}"
            ) from error
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{name_or_file} must be UTF-8 text: {error}") from error
    names = plan_names()
    if name_or_file in names:
        file = resources.files("simulations.analytics") / "shipped" / f"{name_or_file}.toml"
        return file.read_text(encoding="utf-8")
    near = difflib.get_close_matches(name_or_file, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ScenarioError(
        f"there is no plan {name_or_file!r}{hint} (shipped: {', '.join(names)}; or give a file "
        "that ends in .toml)"
    )


def _explain(name: str, error: ValidationError) -> str:
    """Turns pydantic's findings into one line each: key, rule, value, nearest key."""
    lines = []
    for finding in error.errors():
        path, given = [str(part) for part in finding["loc"]], finding.get("input")
        where = ".".join(path)
        match finding["type"]:
            case "extra_forbidden":
                near = difflib.get_close_matches(path[-1], _keys_beside(path), 1)
                hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
                lines.append(f"unknown key {where}{hint}")
            case "missing":
                lines.append(f"{where} is required: {_meaning(path)}")
            case _:
                lines.append(f"{where}: {finding['msg']}, got {given!r:.60}")
    return f"{name} is not a valid plan file:\n  " + "\n  ".join(lines)


def _keys_beside(path: list[str]) -> list[str]:
    """Valid keys of the section in which a key stands."""
    section: type[Any] = PlanFile
    for part in path[:-1]:
        section = next(sections_in(keys_of(section)[part]))
    return list(keys_of(section))


def _meaning(path: list[str]) -> str:
    """What a key that is missing means."""
    section: type[Any] = PlanFile
    for part in path[:-1]:
        section = next(sections_in(keys_of(section)[part]))
    field = keys_of(section)[path[-1]]
    if field.description:
        return field.description
    return f"a section [{path[-1]}] with {', '.join(keys_of(next(sections_in(field))))}"
