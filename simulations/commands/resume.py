"""`fedspeech resume`: go on with a run that stopped."""

from __future__ import annotations

from simulations.commands.options import (
    CacheOption,
    RunArgument,
    WorkersOption,
)


def resume(
    run: RunArgument,
    workers: WorkersOption = None,
    cache: CacheOption = None,
) -> None:
    """Go on with a run that was killed, interrupted or out of disk."""
    from simulations.run.resume import resume as go_on

    go_on(run, workers=workers, cache=cache)
