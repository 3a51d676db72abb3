"""Settings of all tests."""

import os
import tempfile

from hypothesis import settings

# A crowded machine is no failure; speed is measured in `benchmarks/`.
settings.register_profile("fedspeech", deadline=None)
settings.load_profile("fedspeech")

# What programs remember between runs belongs to the tests alone, in their subprocesses too.
_STATE = tempfile.TemporaryDirectory(prefix="fedspeech-state-")
os.environ["FEDSPEECH_STATE"] = _STATE.name
