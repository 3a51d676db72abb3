"""A small run as it would really look, for the tests of results, report and comparison."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fedspeech.privacy.guarantee import Guarantee
from simulations.results.records import (
    Account,
    Accuracies,
    Accuracy,
    Confusion,
    DetCurve,
    Environment,
    ExportedFile,
    FamilyFile,
    FrrAtFar,
    Headline,
    Interval,
    Listening,
    OperatingPoint,
    PhoneAccuracies,
    RoundRow,
    SegmentResult,
    ServerRound,
    ShareWorse,
    SimulatorRound,
    StageChoice,
    Summary,
    Take,
    Utility,
)
from simulations.results.run_folder import RunFolder

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
noise = "rehearsal"

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
        "server": "lying",
        "trust": "at least 180 of the phones whose update is summed add their share of the noise",
        "accountant": "RDP of sums of discrete Gaussians",
        "rounds": round(spent * ROUNDS),
        "quota": 15,
        "failure_probability": 1e-9,
        "reason": "",
    }
    around: dict[str, object] = {
        "noise_notice": "noise reproducible from the seed: a rehearsal, not a release",
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
                    reason="survivors must be at least 180, got 171",
                    server=ServerRound(cohort=219, survivors=171, clip_norm=0.1),
                    seconds=0.9,
                )
            )
        cohort = int(rng.binomial(3_000, 0.1))
        found.append(
            RoundRow(
                **promise,
                **traffic,
                round=number,
                attempt=2 if number == 12 else 1,
                status="completed",
                server=ServerRound(
                    cohort=cohort,
                    survivors=int(rng.binomial(cohort, 0.95)),
                    wrap_warning=number == 30,
                    accumulated_signal_to_noise=1.4 * learned,
                    signal_to_noise=0.9 + 0.6 * (1 - learned) + 0.05 * rng.standard_normal(),
                    clip_norm=0.1,
                    validation_accuracy=0.72 + 0.14 * learned + 0.006 * rng.standard_normal(),
                    validation_loss=0.95 - 0.47 * learned + 0.012 * rng.standard_normal(),
                ),
                simulator=SimulatorRound(
                    mean_training_loss=0.88 - 0.45 * learned + 0.015 * rng.standard_normal(),
                    share_clipped=0.55 + 0.2 * learned,
                    true_wraps=0,
                    unseen_accuracy=0.70 + 0.135 * learned + 0.005 * rng.standard_normal(),
                ),
                seconds=1.3,
            )
        )
    return found


def accuracy(shares: np.ndarray) -> Accuracy:
    """Mean, worst decile and a normal interval."""
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else 0.0
    worst = np.sort(shares)[: max(1, len(shares) // 10)]
    return Accuracy(
        mean=mean,
        worst_decile=float(worst.mean()),
        phones=len(shares),
        interval=Interval(low=mean - half, high=min(1.0, mean + half)),
    )


def worse_off(share: float) -> ShareWorse:
    """Phones made worse, beside a chance of 21 %."""
    return ShareWorse(share=share, expected_by_chance=0.21, phones=PHONES, changed=PHONES - 2)


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

    def four(chosen: np.ndarray) -> Accuracies:
        return Accuracies(**{name: accuracy(values[chosen]) for name, values in shares.items()})

    def cell(chosen: np.ndarray, **more: object) -> SegmentResult:
        worse = shares["personalized"][chosen] < shares["federated"][chosen]
        return SegmentResult(
            accuracy=four(chosen),
            share_worse=ShareWorse(
                share=float(worse.mean()),
                expected_by_chance=0.21,
                phones=int(chosen.sum()),
                changed=int(chosen.sum()),
            ),
            **more,
        )

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
        "best_round": ROUNDS,
        "adapter": "affine",
        "parameters": 908,
        "clips_per_word": 2,
        "accuracy": four(everyone),
        "share_worse": worse_off(4 / 60),
        "share_worse_federated": worse_off(5 / 60),
        "share_worse_without_guard": worse_off(7 / 60),
        "share_worse_control": worse_off(24 / 60),
        "segments": {
            "accent": {
                name: cell(accents == name, heard_by_base=bool(name == "plain"))
                for name in ("plain", "northern", "drawl", "clipped")
            },
            "device": {
                "handset": cell(devices == "handset"),
                "other": cell(devices != "handset", merged=("far-field", "headset")),
            },
        },
        "minimum_segment_phones": 5,
        "takes": tuple(
            Take(
                clips_per_word=clips,
                personalized=accuracy(judged(skill + (0.45 + gain) * (1 - skill))),
                without_guard=accuracy(judged(skill + (0.45 + 0.97 * gain) * (1 - skill))),
                control=accuracy(judged(skill + (0.45 - 0.02 * clips) * (1 - skill))),
            )
            for clips, gain in enumerate((0.0, 0.20, 0.33, 0.39))
        ),
        "frr_at_far": FrrAtFar(
            far=0.05, base=0.29, federated=0.153, personalized=0.071, control=0.16
        ),
        "det": {
            name: DetCurve(
                far=tuple(map(float, curve)),
                frr=tuple(map(float, np.clip(level * curve**-0.35, 0, 1))),
            )
            for name, level in (
                ("base", 0.11), ("federated", 0.055), ("personalized", 0.025), ("control", 0.058),
            )
        },
        "headline": Headline(
            measure="false rejects at 5 % false accepts",
            base=0.29,
            federated=0.153,
            personalized=0.071,
            control=0.16,
            counted=1_440,
            non_words=720,
            non_words_are="other words and silence of the phones themselves",
        ),
        "stage_choice": StageChoice(
            measure="false rejects at 5 % false accepts",
            base=0.31,
            federated=0.17,
            clips=672,
            speakers=24,
            chosen="federated",
        ),
        "operating_points": {
            "base": OperatingPoint(threshold=0.91, target_words_found=0.7, false_accepts=0.052),
            "federated": OperatingPoint(
                threshold=0.88, target_words_found=0.83, false_accepts=0.05
            ),
            "personalized": OperatingPoint(
                threshold=0.9, target_words_found=0.92, false_accepts=0.047
            ),
            "control": OperatingPoint(threshold=0.9, target_words_found=0.82, false_accepts=0.051),
        },
        "target_accuracy": four(everyone),
        "confusion": Confusion(
            model="personalized", labels=LABELS, counts=tuple(tuple(row) for row in counts)
        ),
        "phone_accuracies": PhoneAccuracies(
            **{name: tuple(map(float, values)) for name, values in shares.items()},
            clips=(CLIPS,) * PHONES,
        ),
        "utility": Utility(
            base=0.72, federated=0.86, clips=672, signal_to_noise=1.4, collapsed=False
        ),
        "bytes_up": 8_192,
        "bytes_down": 5_640,
        "bytes_once": 412_000,
        "seconds": {
            "corpus": 41.0, "trunk": 33.0, "rounds": 52.0, "personalizing": 17.0, "export": 31.0,
            "report": 2.0,
        },
        "cpu_seconds": {"corpus": 78.0, "trunk": 33.0, "rounds": 50.0},
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


class ExampleRun:
    """The builders under one name, so that a test asks for one fixture."""

    scenario = SCENARIO
    account = staticmethod(account)
    rows = staticmethod(rows)
    summary = staticmethod(summary)
    environment = staticmethod(environment)
    write = staticmethod(write_run)


@pytest.fixture
def example() -> ExampleRun:
    """Builders of a realistic run."""
    return ExampleRun()
