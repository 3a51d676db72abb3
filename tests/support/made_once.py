"""What several modules need is made once in a test run, whichever worker asks first.

folder = made_once("quick", lambda folder: fs.simulate("quick", out=folder / "run"))
"""

import os
from pathlib import Path

from fedspeech.files import hold


def made_once(name, make):
    """The folder of that name, which `make` fills. Whoever changes what is in it takes a copy."""
    root = Path(os.environ["FEDSPEECH_MADE_ONCE"])  # of `conftest.py`, the same in every worker
    folder, done = root / name, root / f"{name}.made"
    with hold(root / f"{name}.lock", wait_s=1200):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


def quick_run():
    """A whole run of the scenario `quick`, with the files that it exports."""
    import fedspeech as fs

    def make(folder):
        fs.simulate("quick", out=folder / "run", progress=False, workers=1)

    return made_once("quick", make) / "run"


def tiny_run():
    """A whole run of `tiny_scenario` with the files that a run exports."""
    from tiny_experiment import cache, tiny_scenario

    from simulations.run.runner import simulate

    def make(folder):
        tiny = tiny_scenario("export.at_end=true")
        simulate(tiny, out=folder / "run", workers=1, cache=cache())

    return made_once("tiny", make) / "run"
