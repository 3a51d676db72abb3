"""`fedspeech resume`: go on with a run that stopped."""

from __future__ import annotations

from simulations.commands.options import (
    CacheOption,
    DeviceOption,
    RunArgument,
    WorkersOption,
)


def resume(
    run: RunArgument,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
) -> None:
    """Go on with a run that was killed, interrupted or out of disk."""
    del device  # its callback has acted on it
    from simulations.run.resume import resume as go_on

    go_on(run, workers=workers, cache=cache)
