"""What a run stands on: this machine and the installed packages."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

from fedspeech.models.compute import compute_device
from simulations.results.environment import Engine, Environment

# What bits and files depend on: a resumed run replays a round only under the same versions.
PACKAGES = (
    "fedspeech",
    "ai-edge-litert",
    "cryptography",
    "dp-accounting",
    "flwr",
    "numpy",
    "opacus",
    "plotly",
    "safetensors",
    "scipy",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
)


def capture_environment(
    *, torch_threads: int | None, source_sha256: str = "", engine: Engine = "inprocess"
) -> Environment:
    """Describes this machine and the installed packages, naming neither host, user nor path."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Environment(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_model(),
        cores=os.cpu_count() or 0,
        torch_threads=torch_threads,
        versions=versions,
        source_sha256=source_sha256,
        engine=engine,
        device=str(compute_device()),
        started_on=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _cpu_model() -> str:
    """The processor's name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
