"""`fedspeech resume`: go on with a run that stopped."""

from __future__ import annotations

import fedspeech as fs
from simulations.commands.options import (
    CacheOption,
    DeviceOption,
    RunArgument,
    WorkersOption,
    show,
)


def resume(
    run: RunArgument,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    device: DeviceOption = None,
) -> None:
    """Go on with a run, or a release of counts, that was killed, interrupted or out of disk."""
    if (run / "plan.toml").is_file():
        show(fs.resume_analysis(run, workers=workers, cache=cache), as_json=False)
        return
    fs.resume(run, workers=workers, cache=cache, device=device)
