"""`fedspeech resume`: go on with a run that stopped."""

from __future__ import annotations

import fedspeech as fs
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
    fs.resume(run, workers=workers, cache=cache, device=device)
