"""A small run as it would really look, for the tests of results, report and comparison."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedspeech.evaluation.metric import (
    MODELS,
    Axis,
    Chart,
    Curve,
    Interval,
    Matrix,
    Metric,
    Section,
    Segment,
)
from fedspeech.privacy.guarantee import Guarantee
from fedspeech.sharing.manifest import PrivacyClaim
from simulations.report.publishing import Behind
from simulations.results.account import Account
from simulations.results.environment import Environment
from simulations.results.exported import ExportedFile, FamilyFile, Listening
from simulations.results.rows import RoundRow, ServerRound, SimulationRound
from simulations.results.run_folder import RunFolder
from simulations.results.summary import Summary, Utility

ROUNDS = 40
GUARANTEE = {field.name for field in dataclasses.fields(Guarantee)} - set(Summary.model_fields)
PHONES = 60
CLIPS = 36
LABELS = (
    "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_",
)  # fmt: skip
SCENARIO = """\
name = "default"
seed = 7
noise_entropy = "seeded"

[corpus]
kind = "embedded"
federated_phones = 3000

[privacy]
clip_norm = 0.1
noise_multiplier = 3.0
participation_probability = 0.1
"""


def account(spent: float, **changes: object) -> Account:
    """The promise after a share of the rounds."""
    values: dict[str, object] = {
        "epsilon_release": 0.938 * spent**0.5,
        "epsilon_server": 6.21 * min(1.0, spent * ROUNDS / 15) ** 0.5,
        "delta": 1 / 30_000,
        "unit": "phone",
        "relation_release": "add/remove",
        "relation_server": "zero-out",
        "amplified": True,
        "mechanism": "distributed",
        "secure_aggregation": "ideal",
        "threat_model": "malicious",
        "trust": "at least 180 of the phones whose update is summed add their share of the noise",
        "accountant": "RDP of sums of discrete Gaussians",
        "rounds": round(spent * ROUNDS),
        "max_participations": 15,
        "failure_probability": 1e-9,
        "reason": "",
    }
    around: dict[str, object] = {
        "noise_notice": "seeded noise: reproducible from the seed, so not for release",
        "epsilon_budget": 1.0,
    }
    of_account = {name: changes.pop(name) for name in Account.model_fields if name in changes}
    return Account(guarantee=Guarantee(**(values | changes)), **(around | of_account))


def rows(**changes: object) -> list[RoundRow]:
    """Forty rounds, the twelfth of them abandoned and tried again."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(1, ROUNDS + 1):
        learned = 1 - float(np.exp(-number / 9))
        promise = dict(account(number / ROUNDS, **changes))
        traffic = {"bytes_up": 8_192, "bytes_down": 5_640}
        if number == 12:
            found.append(
                RoundRow(
                    **promise,
                    **traffic,
                    round=number,
                    status="abandoned",
                    reason="reporting phones must be at least 180, got 171",
                    server=ServerRound(cohort=219, reporting=171, clip_norm=0.1),
                    seconds=0.9,
                )
            )
        cohort = int(rng.binomial(3_000, 0.1))
        found.append(
            RoundRow(
                **promise,
                **traffic,
                round=number,
                status="completed",
                server=ServerRound(
                    cohort=cohort,
                    reporting=int(rng.binomial(cohort, 0.95)),
                    wrap_warning=number == 30,
                    accumulated_signal_to_noise=1.4 * learned,
                    signal_to_noise=0.9 + 0.6 * (1 - learned) + 0.05 * rng.standard_normal(),
                    clip_norm=0.1,
                    validation_accuracy=0.72 + 0.14 * learned + 0.006 * rng.standard_normal(),
                    validation_loss=0.95 - 0.47 * learned + 0.012 * rng.standard_normal(),
                ),
                simulation_only=SimulationRound(
                    share_clipped=0.55 + 0.2 * learned,
                    true_wraps=0,
                    held_out_accuracy=0.70 + 0.135 * learned + 0.005 * rng.standard_normal(),
                ),
                seconds=1.3,
            )
        )
    return found


NAME = "accuracy with non-words counted"
ERROR_NAME = "false rejects at 5 % false accepts"
ERRORS = dict(zip(MODELS, (0.29, 0.153, 0.071, 0.16), strict=True))


def interval(shares: np.ndarray) -> tuple[float, Interval]:
    """Mean and a normal interval."""
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    return mean, Interval(low=mean - half, high=min(1.0, mean + half))


def accuracy(
    shares: np.ndarray, model: str, segment: Segment | None = None, name: str = NAME
) -> tuple[Metric, Metric]:
    """Mean and worst decile."""
    mean, around = interval(shares)
    worst = float(np.sort(shares)[: max(1, len(shares) // 10)].mean())
    common = {"model": model, "segment": segment, "phones": len(shares)}
    return (
        Metric(name=name, value=mean, interval=around, headline=True, **common),
        Metric(name="worst decile", value=worst, **common),
    )


def worse_off(
    rate: float, model: str, variant: str = "", segment: Segment | None = None, phones: int = PHONES
) -> Metric:
    """Phones made worse, beside a chance of 21 %."""
    return Metric(
        name="phones worse off", value=rate, model=model, variant=variant, segment=segment,
        by_chance=0.21, phones=phones, counted=phones - 2, lower_is_better=True,
    )  # fmt: skip


def errors(on: str = "", **values: float) -> Section:
    """The error of the four models."""
    return Section(
        key="error",
        title=ERROR_NAME.capitalize(),
        on=on,
        metrics=tuple(
            Metric(name=ERROR_NAME, value=value, model=model, counted=1_440, headline=True,
                   lower_is_better=True, phones=PHONES)
            for model, value in (ERRORS | values).items()
        ),
    )  # fmt: skip


def validation(base: float = 0.31, federated: float = 0.17, speakers: int = 24) -> Section:
    """What public validation speakers chose by."""
    return Section(
        key="validation",
        title="On public validation speakers",
        metrics=tuple(
            Metric(name=ERROR_NAME, value=value, model=model, visibility="public",
                   phones=speakers, counted=672, lower_is_better=True)
            for model, value in (("base", base), ("federated", federated))
        ),
    )  # fmt: skip


def operating_points() -> Section:
    """What each model does at its threshold."""
    found = {"base": (0.91, 0.7, 0.052), "federated": (0.88, 0.83, 0.05),
             "personalized": (0.9, 0.92, 0.047), "control": (0.9, 0.82, 0.051)}  # fmt: skip
    return Section(
        key="operating_points",
        title="At one operating point",
        on="at the threshold set on guard negatives",
        metrics=tuple(
            Metric(name=name, value=value, model=model, headline=name != "threshold",
                   unit="probability" if name == "threshold" else "share")
            for model, values in found.items()
            for name, value in zip(
                ("threshold", "target words found", "false accepts"), values, strict=True
            )
        ),
    )  # fmt: skip


def changed_sections(found: Summary, *sections: Section, without: tuple[str, ...] = ()) -> Summary:
    """A summary with some sections in the place of those of their keys, and others left out."""
    new = {section.key: section for section in sections}
    kept = [new.pop(old.key, old) for old in found.sections if old.key not in without]
    return found.model_copy(update={"sections": (*kept, *new.values())})


def shot_curve(name: str, model: str, found: list[np.ndarray]) -> Curve:
    """Means and intervals over 0, 1, 2, ... shots."""
    over = [interval(shares) for shares in found]
    return Curve(
        name=name,
        model=model,
        x=tuple(float(shots) for shots in range(len(found))),
        y=tuple(mean for mean, _ in over),
        low=tuple(around.low for _, around in over),
        high=tuple(around.high for _, around in over),
    )


def summary(**changes: object) -> Summary:
    """What came of it, on sixty phones with accents of which the base heard one."""
    rng = np.random.default_rng(5)
    accents = np.repeat(["plain", "northern", "drawl", "clipped"], PHONES // 4)
    devices = np.array(["handset", "far-field", "headset"])[rng.integers(0, 3, PHONES)]
    skill = np.select([accents == "plain", accents == "drawl"], [0.90, 0.62], 0.70)
    skill = skill + 0.05 * rng.standard_normal(PHONES) - 0.05 * (devices == "far-field")

    def judged(chance: np.ndarray) -> np.ndarray:
        return rng.binomial(CLIPS, np.clip(chance, 0.05, 0.99)) / CLIPS

    shares = {
        "base": judged(skill),
        "federated": judged(skill + 0.45 * (1 - skill)),
        "personalized": judged(skill + 0.78 * (1 - skill)),
        "control": judged(skill + 0.43 * (1 - skill)),
    }

    def four(chosen: np.ndarray, segment: Segment | None = None, name: str = NAME) -> list[Metric]:
        return [
            metric
            for model, values in shares.items()
            for metric in accuracy(values[chosen], model, segment, name)
        ]

    def cell(chosen: np.ndarray, name: str, value: str, **more: object) -> None:
        segment = Segment(name=name, value=value, **more)
        in_cells.extend(four(chosen, segment))
        worse = float((shares["personalized"][chosen] < shares["federated"][chosen]).mean())
        regressions.append(worse_off(worse, "personalized", "", segment, int(chosen.sum())))

    in_cells: list[Metric] = []
    regressions: list[Metric] = [
        worse_off(5 / 60, "federated"),
        worse_off(4 / 60, "personalized"),
        worse_off(7 / 60, "personalized", "without guard"),
        worse_off(24 / 60, "control"),
    ]
    for name in ("plain", "northern", "drawl", "clipped"):
        cell(accents == name, "accent", name, in_pretraining_data=name == "plain")
    cell(devices == "handset", "device", "handset")
    cell(devices != "handset", "device", "other", merged=("far-field", "headset"))
    everyone = np.ones(PHONES, dtype=bool)
    curve = np.linspace(0.001, 0.3, 40)
    counts = [[0] * len(LABELS) for _ in LABELS]
    for i in range(len(LABELS)):
        counts[i][i] = 160 + int(rng.integers(0, 30))
        for j in rng.integers(0, len(LABELS), 5):
            counts[i][int(j)] += int(rng.integers(1, 9))
    counts[9][1] += 31
    values: dict[str, object] = {
        "scenario": "default",
        "corpus": "embedded synthesizer",
        "seed": 7,
        "command": "fedspeech simulate --scenario default --seed 7",
        "status": "complete",
        "rounds": ROUNDS,
        "rounds_planned": ROUNDS,
        "phones": 3_000,
        "participation": 0.1,
        "start_chosen_by": "public validation speakers",
        "adapter_rounds": ROUNDS,
        "adapter": "affine",
        "parameters": 908,
        "shots": 2,
        "minimum_segment_phones": 5,
        "sections": (
            errors(on="other words and silence of the phones themselves, 720 clips"),
            Section(
                key="accuracy",
                title=NAME.capitalize(),
                says="Mean over 60 phones, each counting once.",
                metrics=(*four(everyone), *in_cells),
                charts=(
                    Chart(
                        name="Accuracy of each phone",
                        says="Phones are numbered and never named.",
                        x=Axis(name="phone", unit="number"),
                        y=Axis(name=NAME),
                        curves=tuple(
                            Curve(name=model, model=model, x=tuple(map(float, range(1, 61))),
                                  y=tuple(map(float, values)))
                            for model, values in shares.items()
                        ),
                        counted=(CLIPS,) * PHONES,
                        single_phones=True,
                    ),
                ),
            ),
            Section(
                key="target_accuracy",
                title="Accuracy among target words",
                metrics=tuple(four(everyone, name="accuracy among target words")),
            ),
            operating_points(),
            Section(
                key="detection",
                title="Which errors remain",
                charts=(
                    Chart(
                        name="False rejects against false accepts",
                        says="Each point is one threshold.",
                        x=Axis(name="false accepts", logarithmic=True),
                        y=Axis(name="false rejects"),
                        curves=tuple(
                            Curve(name=model, model=model, x=tuple(map(float, curve)),
                                  y=tuple(map(float, np.clip(level * curve**-0.35, 0, 1))))
                            for model, level in zip(
                                MODELS, (0.11, 0.055, 0.025, 0.058), strict=True
                            )
                        ),
                        marked=0.05,
                    ),
                ),
                matrices=(
                    Matrix(
                        name="Said and answered, personalized",
                        says="Rows: what was said.",
                        labels=LABELS,
                        counts=tuple(tuple(row) for row in counts),
                    ),
                ),
            ),
            Section(key="regression", title="Phones worse off", metrics=tuple(regressions)),
            Section(
                key="shots",
                title="Own clips per target word",
                charts=(
                    Chart(
                        name="Accuracy over own clips per target word",
                        says="The band is the interval of the mean over phones.",
                        x=Axis(name="own clips per target word", unit="number"),
                        y=Axis(name=NAME),
                        curves=tuple(
                            shot_curve(name, model, [
                                judged(skill + (0.45 + gain) * (1 - skill)) for gain in gains
                            ])
                            for name, model, gains in (
                                ("own examples", "personalized", (0.0, 0.20, 0.33, 0.39)),
                                ("own examples, no guard", "personalized", (0.0, 0.19, 0.32, 0.38)),
                                ("control", "control", (0.0, -0.02, -0.04, -0.06)),
                            )
                        ),
                    ),
                ),
            ),
            validation(),
        ),
        "utility": Utility(
            base=0.72, federated=0.86, clips=672, signal_to_noise=1.4, collapsed=False
        ),
        "bytes_up": 8_192,
        "bytes_down": 5_640,
        "bytes_once": 412_000,
        "seconds": {
            "corpus": 41.0, "encoder": 33.0, "rounds": 52.0, "personalizing": 17.0, "export": 31.0,
            "report": 2.0,
        },
        "cpu_seconds": {"corpus": 78.0, "encoder": 33.0, "rounds": 50.0},
        "export": ExportedFile(
            file="export/model_float.tflite",
            size_bytes=97_400,
            parity_max_abs=7.6e-6,
            parity_limit=1e-4,
            argmax_agreement=1.0,
            inputs=500,
            speech_inputs=250,
            sha256="9f2c" * 16,
        ),
        "export_family": (
            FamilyFile(
                kind="float", file="model_float.tflite", size_bytes=97_400, agreement=1.0
            ),
            FamilyFile(
                kind="int8", file="model_int8.tflite", size_bytes=45_600, agreement=0.9962,
                accuracy_drop=-0.0014,
            ),
            FamilyFile(kind="fp16", file="model_fp16.tflite", refused="fp16 agreement"),
        ),
        "listening": Listening(
            file="model_streaming.tflite", threshold=0.8, keywords=60, rejected=15, hours=0.1,
            false_accepts=7, quiet_rate=10.0, quiet_threshold=0.9876, quiet_rejected=33,
        ),
    }  # fmt: skip
    promised = {name: changes.pop(name) for name in (*changes,) if name in GUARANTEE}
    return Summary(**(dict(account(1.0, **promised)) | values | changes))


def environment() -> Environment:
    """A machine."""
    return Environment(
        python="3.11.7",
        platform="Linux x86_64",
        cpu="Some Processor @ 2.50GHz",
        cores=2,
        torch_threads=1,
        versions={"fedspeech": "0.1.0", "numpy": "2.4.6", "torch": "2.13.0"},
        started_on="2026-11-29",
    )


def write_run(
    path: Path,
    *,
    found_rows: list[RoundRow] | None = None,
    found_summary: Summary | None = None,
    scenario: str = SCENARIO,
) -> Path:
    """A whole run folder."""
    folder = RunFolder.create(path, minimum_free_bytes=0)
    folder.write_scenario(scenario)
    folder.write_environment(environment())
    for row in rows() if found_rows is None else found_rows:
        folder.append(row)
    folder.write_summary(found_summary or summary())
    return folder.path


BEHIND = Behind(
    30_000,
    "cd" * 32,
    PrivacyClaim(
        epsilon=0.01,
        delta=1e-5,
        mechanism="distributed",
        relation="zero-out",
        ledger_head=f"1:{'ab' * 32}",
    ),
    5,
)
"""What stands behind an example that charged no ledger."""


class ExampleRun:
    """The builders under one name, so that a test asks for one fixture."""

    scenario = SCENARIO
    account = staticmethod(account)
    rows = staticmethod(rows)
    summary = staticmethod(summary)
    environment = staticmethod(environment)
    errors = staticmethod(errors)
    validation = staticmethod(validation)
    worse_off = staticmethod(worse_off)
    changed_sections = staticmethod(changed_sections)
    write = staticmethod(write_run)


@pytest.fixture
def unpriced(monkeypatch):
    """Pages for everybody of examples, which charged no ledger: where there is one has tests."""
    monkeypatch.setattr(
        "simulations.report.writing._restated", lambda folder, results: (results, BEHIND)
    )


@pytest.fixture(scope="session")
def example() -> ExampleRun:
    """Builders of a realistic run."""
    return ExampleRun()
