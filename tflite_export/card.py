"""The card: what the exported model is, what it was measured at, and what protects its speakers.

It stands beside the model as `card.json` and `card.md`, and inside the .tflite file as metadata, so
that a file that travels alone still says what it promises.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.written import listed
from fedspeech.errors import ExportRefused
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.privacy.phrasing import paragraphs, rounded_up
from tflite_export.checks import Check, at_most, logit_difference, same_answer
from tflite_export.front_end import in_numpy, in_words, render
from tflite_export.weights import Trained

FORMAT = 4
CARD_FILE = "card.json"

LATER_TRAINING_NOTICE = (
    "Training that a phone does after this export, such as personalizing on its own clips, is not "
    "covered by the stated epsilons unless it is done with train_dp and its steps are accounted "
    "for. They hold for what is in this file. On a phone, noise and sums are floating-point "
    "numbers: a price of train_dp is computed for real numbers, and does not cover what the last "
    "bits of a delta may tell."
)
JUDGED_NOTICE = (
    "The accuracies are exact statistics of the phones that were judged, which never trained: no "
    "epsilon covers them. If these were real people, a group of few may single somebody out."
)
PERSONAL_NOTICE = (
    "PERSONAL: this adapter was also trained, after the federated rounds, on the clips of one "
    "phone's user. The stated epsilons do not cover that. It belongs on that phone and nowhere "
    "else."
)
STAGES = {
    "base": "which holds nothing that phones trained",
    "federated": "what phones trained together",
    "personal": "what one phone trained on its own",
}
BASE_NOTICE = (
    "BASE: nothing that phones trained is in this file. It answers as the base does. The epsilons "
    "say what the run's rounds have cost all the same."
)
INTEGER_NOTICE = (
    "Full-integer file: agreement with the trained model is measured with two sets of kernels, "
    "LiteRT's own choice on x86-64 (XNNPACK) and its reference kernels. Their logits differ from "
    "each other and from the trained model's: card.json beside it has the largest difference, "
    "parity.json the figures of both. "
    "Other kernels round in their own way."
)
FIGURES_NOTICE = (
    "*Same answer*: the share of inputs (of windows, where sentences are written) to which a file "
    "gives the trained model's answer; *largest logit difference*: from the trained model's, over "
    "the same inputs. Both are the worst of all ways in and, for full-integer files, of both sets "
    "of kernels."
)
DETECTION_NOTICE = (
    "A word's score is the mean of its probability over the smoothing. The word that exceeds its "
    "threshold by most, in log-odds, is detected; then nothing is for the cooldown. The counts are "
    "of the streams that chose the recipe, so they flatter it; intervals are exact, of 95 %."
)
FIRMWARE = {
    "arena, bytes": "arena_bytes",
    "multiply-adds a second": "multiply_adds_per_second",
}
"""Checks of files for microcontrollers whose figures the card lists, and the fields they are in."""
RUNTIME_NOTICE = (
    "Builtin operators of TensorFlow Lite alone; list these in an op resolver. Multiply-adds are "
    "those of convolutions and matrices; a stream spends those of `hop` every hop. Agreement was "
    "measured with the kernels named; those of a DSP or an NPU must be measured on the device."
)
_PACKAGES = ("fedspeech", "torch", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "numpy")


@dataclass(frozen=True, kw_only=True)
class SegmentAccuracy:
    """Accuracy of one cell of a segment.

    Attributes:
      segment, value: such as "accent" and "coastal"; "all" and "all" for everybody.
      phones: how many phones the figures are means over.
      accuracy: model ("base", "federated", ...) to mean share of clips answered correctly.

    Raises:
      ValueError: if there is no phone or a share is outside [0, 1].
    """

    segment: str
    value: str
    phones: int
    accuracy: Mapping[str, float]

    def __post_init__(self) -> None:
        """Checks the figures."""
        if self.phones < 1:
            raise ValueError(f"a cell must have phones, got phones={self.phones}")
        for model, share in self.accuracy.items():
            if not 0 <= share <= 1:
                raise ValueError(f"accuracy must be in [0, 1], got {share} for {model}")


@dataclass(frozen=True, kw_only=True)
class TaskOnCard:
    """What a card says of the task, as the family of the task's files words it.

    Attributes:
      name: of the task, as scenarios call it.
      title: what such a model is called.
      output: what the outputs are.
      input: what the files take, in words: called with the front end and the frames of context.
    """

    name: str
    title: str
    output: str
    input: Callable[[FrontendSpec, int], str]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Make one with `Card.of`, which reads from base and adapter what they know themselves.

    Attributes:
      labels: meaning of the outputs, in order.
      frontend: of the built-in encoder; None: the encoder comes from elsewhere.
      context_frames: frames of left context before a clip; 0 for sentences.
      base_sha256: hash of the base's file.
      adapter: name, number of parameters, their shapes and a hash of their values.
      stage: whose adapter it is: "base", untrained; "federated"; "personal", a phone's own.
      privacy: both epsilons with everything they mean nothing without.
      noise_notice: `NoiseEntropy.notice`, when the noise can be reproduced from a seed.
      metrics_visibility: who can know the metrics: "simulation_only" or "public".
      data_licenses: corpus to license.
      versions: package to version, of what made the file.
      phone: pseudonym of the phone whose own adapter this is; None for the global one.
      file: which file of the family the card is in; None in the card beside them.
      calibration: what a full-integer file was calibrated on; see `Calibration.to_json`.
      encoder: what an encoder from elsewhere takes; None: it is the built-in one.
      example_level: what one clip of a phone was promised, in words; apart from `privacy`.
    """

    task: TaskOnCard
    labels: tuple[str, ...]
    frontend: FrontendSpec | None
    context_frames: int
    base_sha256: str
    base_provenance: Mapping[str, str | int | float]
    adapter: Mapping[str, Any]
    stage: Literal["base", "federated", "personal"]
    privacy: Guarantee
    noise_notice: str | None
    metrics: tuple[SegmentAccuracy, ...]
    metrics_visibility: Literal["simulation_only", "public"]
    data_licenses: Mapping[str, str]
    versions: Mapping[str, str]
    phone: str | None = None
    file: str | None = None
    calibration: Mapping[str, Any] | None = None
    example_level: str | None = None
    encoder: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        trained: Trained,
        *,
        task: TaskOnCard,
        privacy: Guarantee,
        noise_notice: str | None,
        metrics: tuple[SegmentAccuracy, ...],
        metrics_visibility: Literal["simulation_only", "public"],
        data_licenses: Mapping[str, str],
        phone: str | None = None,
        example_level: str | None = None,
    ) -> Card:
        """Describes a trained model.

        Raises:
          ValueError: if the parameters do not fit the adapter.
        """
        base = trained.base
        return cls(
            task=task,
            labels=base.vocabulary.labels,
            **_heard(base),
            base_sha256=base.sha256,
            base_provenance=dict(base.provenance),
            adapter=_describe(trained),
            stage="personal" if phone else "base" if trained.is_the_base else "federated",
            privacy=privacy,
            noise_notice=noise_notice,
            metrics=metrics,
            metrics_visibility=metrics_visibility,
            data_licenses=dict(data_licenses),
            versions=_versions(),
            phone=phone,
            example_level=example_level,
        )

    def inside(self, file: str, calibration: Mapping[str, Any] | None = None) -> Card:
        """The card that goes into one file of the family, and what that was calibrated on."""
        return dataclasses.replace(self, file=file, calibration=calibration)

    @property
    def notices(self) -> tuple[str, ...]:
        """What must be read with the figures."""
        noise = (self.noise_notice,) if self.noise_notice else ()
        whose = {"personal": (PERSONAL_NOTICE,), "base": (BASE_NOTICE,)}.get(self.stage, ())
        hidden = self.metrics and self.metrics_visibility == "simulation_only"
        judged = (JUDGED_NOTICE,) if hidden else ()
        integers = (INTEGER_NOTICE,) if self.calibration else ()
        return (*whose, self.task.output, LATER_TRAINING_NOTICE, *integers, *judged, *noise)

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values; an infinite epsilon is the string "Infinity"."""
        # Fields whose JSON form is not that of their dataclass are laid over it.
        card = dataclasses.asdict(self)
        card |= {"task": self.task.name, "privacy": self.privacy.to_record()}
        card["frontend"] = _written(self.frontend)
        if self.encoder is None:  # that of most files; what they never have is left out
            del card["encoder"]
        return {
            "format": FORMAT,
            "outputs": "logits",
            **card,
            **self._front_end(),
            "labels": list(self.labels),
            "metrics": list(card["metrics"]),
            "notices": list(self.notices),
        }

    def _front_end(self) -> dict[str, Any]:
        """The front end as steps and as a program; nothing where the encoder brings its own."""
        if self.frontend is None:
            return {}
        return {
            "frontend_steps": list(in_words(self.frontend)),
            "frontend_numpy": in_numpy(self.frontend),
        }

    @property
    def input(self) -> str:
        """What the files take, in words."""
        if self.frontend is not None:
            return self.task.input(self.frontend, self.context_frames)
        assert self.encoder is not None
        before, clip = self.encoder["context_samples"], self.encoder["clip_samples"]
        return (
            f"One clip of {clip} samples at {self.encoder['rate_hz']} Hz, full scale 1, after the "
            f"{before} samples heard before it: {before + clip} together. The file has the front "
            "end of the encoder in it."
        )

    def to_markdown(self) -> str:
        """Returns the card for people."""
        models = list(dict.fromkeys(model for row in self.metrics for model in row.accuracy))
        return render(
            "card.md",
            card=self,
            labels=listed(self.labels),
            table=_table,
            paragraphs=paragraphs(self.privacy),
            # As they are: rounded to the nearest, half of them would promise too much.
            privacy={name: _whole(value) for name, value in vars(self.privacy).items()},
            segment_header=("segment", "value", "phones", *models),
            accuracies=[
                (row.segment, row.value, row.phones, *(row.accuracy.get(m) for m in models))
                for row in self.metrics
            ],
            frontend=self.encoder or _written(self.frontend),
            steps=in_words(self.frontend) if self.frontend else (),
            program=in_numpy(self.frontend) if self.frontend else "",
            base=[("sha256", self.base_sha256), *self.base_provenance.items()],
            adapter=[("stage", self.stage), *self.adapter.items()],
            whose=STAGES[self.stage],
            epsilons=[
                "none" if value is None else rounded_up(value)
                for value in (self.privacy.epsilon_release, self.privacy.epsilon_server)
            ],
            everybody=next((row for row in self.metrics if row.segment == "all"), None),
        )


def require_identity(card: Mapping[str, Any], trained: Trained, task: str) -> None:
    """Checks that a card's JSON values speak of this task, base, adapter and parameters.

    Raises:
      ExportRefused: if the card speaks of another; names what differs.
    """
    base = trained.base
    expected = {
        "format": FORMAT,
        "outputs": "logits",
        "task": task,
        "base_sha256": base.sha256,
        "labels": list(base.vocabulary.labels),
        "adapter": _describe(trained),
        **_heard(base),
    }
    if isinstance(expected["frontend"], FrontendSpec):
        expected["frontend"] = _written(expected["frontend"])
    # Format first: a card of another format may hold the rest under other names.
    for name, value in expected.items():
        if card.get(name) != value:
            raise ExportRefused(f"card: expected {name} {value}, got {card.get(name)}")


def file_list(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`verification.Verification` as mappings -> the files as the card beside them lists them."""
    listed = {}
    for entry in entries:
        checks = [Check(**check) for check in entry["checks"]]
        listed[entry["file"]] = {
            **{key: entry[key] for key in ("kind", "sha256", "size_bytes")},
            "same_answer": same_answer(checks),
            "largest_logit_difference": logit_difference(checks),
            "kernels": _kernels(checks) if entry["multiply_adds"] else [],
            **{key: dict(entry[key]) for key in ("operators", "multiply_adds")},
            **({"detection": entry["detection"]} if entry.get("detection") else {}),
        }
        if firmware := {check.name: check.figure for check in checks if check.name in FIRMWARE}:
            listed[entry["file"]] |= {FIRMWARE[name]: int(n) for name, n in firmware.items()}
    return listed


def _kernels(checks: Sequence[Check]) -> list[str]:
    """Sets of kernels that a file was measured with."""
    further = {
        "LiteRT reference": any(check.name.startswith("reference kernels") for check in checks),
        "TensorFlow Lite Micro": any(check.name in FIRMWARE for check in checks),
    }
    return ["LiteRT on CPU (XNNPACK)", *(name for name, measured in further.items() if measured)]


def files_table(files: Mapping[str, Mapping[str, Any]]) -> str:
    """What `file_list` gives, as Markdown."""
    header = ("file", "bytes", "same answer", "largest logit difference", "SHA-256")
    columns = ("same_answer", "largest_logit_difference", "sha256")
    rows = [
        (name, f"{entry['size_bytes']:,}", *(entry[column] for column in columns))
        for name, entry in files.items()
    ]
    text = f"## Files\n\n{FIGURES_NOTICE}\n\n{_table(header, rows)}\n"
    for name, entry in files.items():
        if "arena_bytes" in entry:
            needs = [(field, f"{entry[field]:,}") for field in FIRMWARE.values()]
            needs.append(("operators", entry["operators"]))
            text += f"\n{_table((f'{name} on a microcontroller', ''), needs)}\n"
    return text


def runtime_table(files: Mapping[str, Mapping[str, Any]]) -> str:
    """What the models of `file_list` ask of a runtime, as Markdown."""
    header = ("file", "kernels measured", "multiply-adds of one call", "operators")
    rows = [
        (
            name,
            ", ".join(entry["kernels"]),
            {call: f"{count:,}" for call, count in entry["multiply_adds"].items() if count},
            ", ".join(entry["operators"]),
        )
        for name, entry in files.items()
        if entry["multiply_adds"]
    ]
    return f"\n## What a runtime needs\n\n{RUNTIME_NOTICE}\n\n{_table(header, rows)}\n"


def detection_table(files: Mapping[str, Mapping[str, Any]]) -> str:
    """How the files of `file_list` detect words in a stream, as Markdown; empty if none does."""
    recipes = {name: entry["detection"] for name, entry in files.items() if "detection" in entry}
    if not recipes:
        return ""
    header = ("file", "smoothing, ms", "cooldown, ms", "thresholds", "false accepts", "missed")
    rows = [
        (
            name,
            found["smoothing_hops"] * found["hop_ms"],
            found["cooldown_hops"] * found["hop_ms"],
            {word: f"{value:.6f}" for word, value in found["thresholds"].items()},
            f"{found['false_accepts']} in {found['hours']:.2f} hours"
            + _interval(found["false_accepts_per_hour_interval"], "{:.2f}", " an hour"),
            f"{found['rejected']} of {found['keywords']}"
            + _interval(found["frr_interval"], "{:.1%}", ""),
        )
        for name, found in recipes.items()
    ]
    one = next(iter(recipes.values()))
    return (
        f"\n## Detection recipe\n\nFor {one['false_accepts_per_hour_asked_for']:g} false accepts "
        f"an hour, all words together, chosen on {one['chosen_on']}. {DETECTION_NOTICE}\n\n"
        f"{_table(header, rows)}\n"
    )


def _interval(ends: Sequence[float] | None, form: str, unit: str) -> str:
    return "" if ends is None else f" ({form.format(ends[0])} to {form.format(ends[1])}{unit})"


def require_listed(file: Path, sha256: str, beside: Sequence[Path]) -> Check:
    """Checks a file's hash against the card that was published with it.

    The first of the folders `beside` that has a `card.json` is asked.

    Raises:
      ExportRefused: if there is no card, or the card lists no file of this hash.
    """
    for folder in beside:
        try:
            card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
            listed = {entry["sha256"] for entry in card["files"].values()}
        # A file that was copied elsewhere is looked up where its run published it.
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportRefused(f"{folder / CARD_FILE} is no card of a family: {error}") from error
        return at_most(
            f"{file.name}, SHA-256 that the card does not list", float(sha256 not in listed), 0,
            f"the {len(listed)} files of {folder / CARD_FILE}; this one is {sha256}",
        )  # fmt: skip
    raise ExportRefused(
        f"{file.name}: no {CARD_FILE} lists its SHA-256; it was published in "
        f"{' or '.join(map(str, beside))}, where there is none: export again"
    )


def _written(frontend: FrontendSpec | None) -> dict[str, Any] | None:
    """A front end as JSON; what only that of ESPHome has is left out of others."""
    if frontend is None:
        return None
    fields = dataclasses.asdict(frontend)
    return fields if frontend.kind else {k: v for k, v in fields.items() if k != "kind"}


def _heard(base: Base) -> dict[str, Any]:
    """What a base's encoder takes, as fields of a card."""
    if isinstance(base.encoder, ForeignEncoder):
        declared = base.encoder.declared.to_metadata()
        return {"frontend": None, "context_frames": 0, "encoder": declared}
    return {
        "frontend": base.built_in.frontend,
        "context_frames": base.built_in.context_frames,
    }


def _describe(trained: Trained) -> dict[str, Any]:
    spec = trained.adapter.spec
    # The bytes of the adapter file's array and of what `save` gives, so that anybody can hash them;
    # little-endian on every machine, so that one adapter has one hash.
    values = spec.flatten(trained.parameters).astype("<f4").tobytes()
    return {
        "name": trained.adapter.name,
        "parameters": spec.size,
        "shapes": {name: list(shape) for name, shape in spec.shapes},
        "sha256": hashlib.sha256(values).hexdigest(),
    }


def _versions() -> dict[str, str]:
    """Versions of the installed packages that made the file."""
    installed = {}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[package] = metadata.version(package)
    return installed


def _table(header: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    """Renders a Markdown table."""
    lines = [header, ("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _whole(value: object) -> object:
    """A finite number with all of its digits, anything else as it is."""
    return repr(value) if isinstance(value, float) and math.isfinite(value) else value


def _cell(value: object) -> str:
    # A bar or a line break would end the cell.
    if value is None:
        return "none"
    if isinstance(value, float):
        return "infinity" if math.isinf(value) else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")
