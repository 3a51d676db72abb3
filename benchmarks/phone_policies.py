"""What does it cost to ask little of phones? One scenario under several rules of its phones.

    python -m benchmarks.phone_policies [--seeds 1 2] [--only NAME ...]

1,500 phones drawn from 120 voices train the head of the shipped base in 24 rounds. Clip norm,
noise, coins and steps stay; only when phones work, who agrees and what they hold changes, and with
it how many train in a round. Accuracy is the federated adapter's on held-out phones, of the last
round and of the best; days are virtual (`RunTime.converged_days`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import fedspeech as fs
from simulations.results.run_folder import read
from simulations.scenario.reading import read_scenario

BASE: dict[str, Any] = {
    "corpus.federated_phones": 1500, "corpus.voices": 120, "corpus.held_out_phones": 24,
    "privacy.rounds": 24, "privacy.max_participations": 24, "privacy.noise_multiplier": 1.5,
    "privacy.participation_probability": 0.3, "privacy.epsilon_budget": 1000.0,
    "privacy.secure_aggregation": "ideal", "privacy.min_cohort_share": 0.5,
    "privacy.min_reporting_share": 0.45, "export.at_end": False, "time.first_round_h": 2.0,
}  # fmt: skip
DAYTIME: dict[str, Any] = {"time.every_h": 6.0}
POLICIES: dict[str, dict[str, Any]] = {
    "a round a night, all asked for": {},
    "the same, a metered network allowed": {"device.policy.wifi": False},
    "the same, no charger needed": {"device.policy.charging": False},
    "every 6 hours, all asked for": DAYTIME,
    "every 6 hours, no charger needed": DAYTIME | {"device.policy.charging": False},
    "every 6 hours, use allowed": DAYTIME | {"device.policy.idle": False},
    "every 6 hours, nothing asked but 30 % of battery": DAYTIME
    | {f"device.policy.{name}": False for name in ("wifi", "charging", "idle")},
    "a round a night, half agree": {"device.consent_rate": 0.5},
    "a round a night, 2 % take it back each day": {"device.revoked_a_day": 0.02},
    "a round a night, 2 clips a day for 7 days": {"device.captures_a_day": 2.0},
    "a round a night, 2 clips a day for 2 days": {
        "device.captures_a_day": 2.0,
        "device.clip_days": 2.0,
    },
}


def main() -> None:
    """Prints a line per policy and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    options = parser.parse_args()
    for name in options.only:
        for seed in options.seeds:
            print(json.dumps({"policy": name, "seed": seed, **measured(name, seed)}), flush=True)


def measured(policy: str, seed: int) -> dict[str, Any]:
    """Runs the scenario once under a policy, in a folder that is removed."""
    changes = BASE | {"time.every_h": 24.0, "device.policy.minutes_a_day": 30.0} | POLICIES[policy]
    with tempfile.TemporaryDirectory() as folder:
        texts = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        scenario = read_scenario("quick", [*texts, f"seed={seed}"])
        run = fs.simulate(scenario, out=Path(folder) / "run", progress=False, workers=1)
        summary, rows = run.summary, read(run.path).rows
    time = summary.time
    assert time is not None
    accuracies = [row.simulation_only.held_out_accuracy or 0.0 for row in rows]
    played = [row.simulation_only.time for row in rows if row.simulation_only.time]
    return {
        "trained a round": round(sum(one.trained for one in played) / len(played)),
        "epsilon": round(summary.guarantee.epsilon_release, 2),
        "last accuracy": round(100 * accuracies[-1], 1),
        "best accuracy": round(100 * max(accuracies), 1),
        "days": round(time.days, 1),
        "days to nine tenths of the gain": time.converged_days and round(time.converged_days, 1),
        "kB a phone and round": round((summary.bytes_up + summary.bytes_down) / 1000, 1),
        "MB of all phones": round(time.bytes_in_all / 1e6, 1),
    }


if __name__ == "__main__":
    main()
