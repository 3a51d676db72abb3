"""Jobs for Flower's own engines, and keys for a deployment on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.api.run import path_of
from simulations.api.scenarios import require_part, runnable
from simulations.progress import RunProgress, progress_for
from simulations.scenario.schema import Scenario

if TYPE_CHECKING:
    from simulations.setup.definition import Experiment


def prepare(
    what: Experiment | Scenario | str | Path,
    out: str | Path,
    *,
    seed: int | None = None,
    progress: bool | RunProgress | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    ledger: str | Path | None = None,
) -> Path:
    """Writes the job of an experiment, and all it needs, to a folder for `flwr run`.

        >>> import fedspeech as fs
        >>> job = fs.prepare("quick", "job", progress=False)                    # doctest: +SKIP
        >>> job.name                                                            # doctest: +SKIP
        'job.json'

    Args:
      what: an experiment, a scenario, its name or file.
      out: a new or empty folder.
      seed: as in `simulate`.
      progress: as in `simulate`.
      workers: processes; None: one per core.
      cache: where features are kept; None: the user's cache.
      ledger: the population's privacy ledger; None: one for this job.

    Returns:
      The job file.

    Raises:
      FedspeechError: if another job, or a run of one, is there.
      ScenarioError: if the product is at a stage without federated training (docs/stages.md).
    """
    from simulations.run.preparing import prepare as run

    chosen = runnable(what, seed)
    require_part(chosen, "prepare")
    run(
        chosen, out=Path(out), workers=workers, cache=path_of(cache),
        ledger=path_of(ledger), progress=progress_for(progress),
    )  # fmt: skip
    return Path(out) / "job.json"


def deployment_keys(
    folder: str | Path, address: str, *, nodes: int = 4, valid_days: int = 365
) -> Path:
    """Makes certificates and keys for a deployment on several machines.

        >>> import fedspeech as fs
        >>> folder = fs.deployment_keys("keys", "127.0.0.1", nodes=1)
        >>> sorted(path.name for path in folder.iterdir())[:3]
        ['ca.pem', 'node-0', 'node-0.pub']

    Args:
      folder: a new one, for this user alone.
      address: IP address of the SuperLink.
      nodes: SuperNodes, at least 1.
      valid_days: of certificates, at least 1.

    Raises:
      ScenarioError: if the folder is there.
      ArgumentRefused: if the address is none.
    """
    from simulations.engines.certificates import Authority

    try:
        authority = Authority(Path(folder), valid_days)
        authority.server(address)
    except FileExistsError:
        raise ScenarioError(f"keys go into a new folder, and {folder} is there") from None
    except ValueError as error:
        raise ArgumentRefused(f"`address`: {error}") from None
    for number in range(nodes):
        authority.node(f"node-{number}")
    return Path(folder)
