"""What a run stood on: versions and machine, no name and no path."""

from __future__ import annotations

from typing import Literal

from simulations.results.record import Count, Record

Engine = Literal["inprocess", "flower", "deployment"]


class Environment(Record):
    """What the run stood on; no host name, no user, no path.

    Attributes:
      python: version.
      platform: operating system and machine type.
      cpu: model name.
      cores: logical cores.
      torch_threads: threads that torch computed with.
      versions: package to version, installed packages only.
      source_sha256: of the library and both sides of the app, hex; "" if unknown.
      engine: what carried the messages: "inprocess", "flower" or "deployment".
      device: where encoder and cohorts were computed, such as "cuda".
      started_on: date, in UTC; "" if unknown.
    """

    python: str
    platform: str
    cpu: str
    cores: Count
    torch_threads: int | None
    versions: dict[str, str]
    source_sha256: str = ""
    engine: Engine = "inprocess"
    device: str = "cpu"
    started_on: str = ""
