"""Settings of all tests."""

import gc
import os
import tempfile

from hypothesis import settings

# Thousands of tests are objects that stay: looking through them again and again for garbage is a
# quarter of the time that collecting them takes.
gc.disable()

# A crowded machine is no failure; speed is measured in `benchmarks/`. What fails once fails again:
# the default examples are drawn from the test itself. `--hypothesis-profile explore` draws others.
settings.register_profile("fedspeech", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("fedspeech")

# What programs remember between runs belongs to the tests alone, in their subprocesses too.
_STATE = tempfile.TemporaryDirectory(prefix="fedspeech-state-")
os.environ["FEDSPEECH_STATE"] = _STATE.name

# What `made_once` makes is for all workers: they are started with the environment of this process.
if "FEDSPEECH_MADE_ONCE" not in os.environ:
    _MADE_ONCE = tempfile.TemporaryDirectory(prefix="fedspeech-made-once-")
    os.environ["FEDSPEECH_MADE_ONCE"] = _MADE_ONCE.name


def pytest_make_parametrize_id(config, val, argname):
    """Name bytes by their number: what they hold may change with the clock, as gzip's header does.

    Workers that collect under different names run no test at all.
    """
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_finish(session):
    """Look for garbage among what tests make, and no more among the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()
