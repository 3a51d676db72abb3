"""Runs the command line as where no extra is installed: `python without_extras.py simulate ...`.

    python without_extras.py --but tflite export run        # one extra is

Modules of the extras are found by nobody, neither by an import nor by whoever only asks.
"""

import sys

from fedspeech.extras import EXTRAS


class Without:
    """A finder that does not find some modules, and else does what another one does."""

    def __init__(self, finder, hidden):
        self._finder, self._hidden = finder, hidden

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        """Finds nothing, as Python does where nothing is installed."""
        if name.partition(".")[0] in self._hidden:
            return None
        return self._finder.find_spec(name, path, target)


if __name__ == "__main__":
    there = ()
    if sys.argv[1] == "--but":
        there = EXTRAS[sys.argv[2]].modules
        del sys.argv[1:3]
    hidden = {module for extra in EXTRAS.values() for module in extra.modules} - set(there)
    sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]
    from simulations.cli import main

    main()
