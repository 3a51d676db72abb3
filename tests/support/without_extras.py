"""Runs the command line as where no extra is installed: `python without_extras.py simulate ...`."""

import sys

from fedspeech.extras import EXTRAS

REFUSED = {module for extra in EXTRAS.values() for module in extra.modules}


class Refusing:
    """A finder before all others, to which no module of an extra exists."""

    def find_spec(self, name, path=None, target=None):
        """Refuses as Python does where nothing is found."""
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, Refusing())
    from simulations.cli import main

    main()
