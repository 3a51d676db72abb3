"""Settings of all tests."""

from hypothesis import settings

# A crowded machine is no failure; speed is measured in `benchmarks/`.
settings.register_profile("fedspeech", deadline=None)
settings.load_profile("fedspeech")
