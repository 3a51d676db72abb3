"""Own code: a query, an adapter or a server rule that another package or program brings.

A job and a scenario are files, and name such code as `module:attr`. A name runs code when it is
imported, so whoever writes the file could run anything on every node. A name is therefore imported
only in one of three cases:

* it is defined in the room of this package where code of its kind lives, if the kind has one;
* a package that is installed here declares it as an entry point of its kind's group:

      [project.entry-points."fedspeech.queries"]
      mean = "my_package.queries:Mean"

* the program that runs in this process has handed the object over (`hand_over`), which is a
  decision of that program's author. Another process, and a later one, does not know of it.

Server and phones compare `source_of` all own code of a job, beside the digest of this package
(`fedspeech.source`): two versions of an installed package do not run one round together.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from fedspeech.errors import ScenarioError
from fedspeech.seeds import canonical

_PACKAGE = "fedspeech"


@dataclass(frozen=True)
class CodeKind:
    """One kind of code that may be brought.

    Attributes:
      noun: what a message calls it, with its article: "a query".
      group: its group of entry points.
      room: the package of this library whose modules need no entry point; "": there is none, since
        what this library brings of the kind has keys of its own.
    """

    noun: str
    group: str
    room: str = ""

    def find(self, address: str) -> Any:
        """Imports `module:attr`, if it may be imported.

        What comes back is checked by the caller: it may be of any type.

        Raises:
          ScenarioError: if it is neither of this package, nor declared, nor handed over, or cannot
            be imported.
        """
        if address in _HANDED_OVER:
            return _HANDED_OVER[address]
        module, _, name = address.partition(":")
        if not self._declares(address):
            raise self._undeclared(address)
        try:
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise ScenarioError(
                f"{self.noun}, {address!r:.80}, cannot be imported: {error}"
            ) from error
        # A module of the room has imported others: without this, a dotted name would lead through
        # them to anything that Python can do, such as `room.module:os.system`.
        if not self._declared(address) and not _defined_at(found, address):
            raise self._undeclared(address)
        return found

    def named(self, part: Any) -> tuple[str, dict[str, Any]]:
        """Address and settings by which a job names an object that a Python program gives.

        The object is a function, or an instance of a dataclass whose fields are its settings. What
        no installed package declares is handed over to this process.

        Raises:
          ScenarioError: if no address leads to it, or its settings do not fit into a file.
        """
        whole = dataclasses.is_dataclass(part) and not isinstance(part, type)
        if not whole and not isinstance(part, FunctionType | type):
            raise ScenarioError(
                f"{self.noun} must be a function or a dataclass whose fields are its settings, "
                f"got a {type(part).__name__}"
            )
        found: Any = type(part) if whole else part
        settings = (
            {f.name: getattr(part, f.name) for f in dataclasses.fields(part)} if whole else {}
        )
        try:
            same = json.loads(json.dumps(settings)) == settings
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ScenarioError(
                f"the settings of {self.noun}, {address_of(found)}, must be numbers, texts, truth "
                f"values and lists or tables of them, got {settings!r:.200}"
            )
        if not self._declares(address_of(found)):
            hand_over(found)
        return address_of(found), settings

    def build(self, address: str, settings: Mapping[str, Any]) -> Any:
        """Finds own code and, if it is a class, makes the instance that has these settings.

        Raises:
          ScenarioError: if it may not be imported, or does not take the settings.
        """
        found = self.find(address)
        if not isinstance(found, type):
            if settings:
                raise ScenarioError(
                    f"{self.noun}, {address}, is no class, so it takes no settings, got "
                    f"{sorted(settings)}"
                )
            return found
        try:
            return found(**settings)
        except (TypeError, ValueError) as error:
            raise ScenarioError(
                f"{self.noun}, {address}, does not take the settings {dict(settings)}: {error}"
            ) from error

    def _declares(self, address: str) -> bool:
        """Whether any process on this machine may import the module of a name."""
        ours = bool(self.room) and address.startswith(f"{self.room}.")
        return ours or self._declared(address)

    def _declared(self, address: str) -> bool:
        return address in {point.value for point in entry_points(group=self.group)}

    def _undeclared(self, address: str) -> ScenarioError:
        ours = f"be of {self.room} or " if self.room else ""
        return ScenarioError(
            f"{self.noun} must {ours}be declared as an entry point of the group {self.group} by a "
            f"package that is installed here, got {address!r:.80}"
        )


# What the program of this process has handed over, by address. Names alone stand in a job, and the
# process that reads the job again must find the object behind them.
_HANDED_OVER: dict[str, Any] = {}


def hand_over(found: Any) -> str:
    """Lets a job of this process name a class or function that no package declares.

    Returns:
      Its address.

    Raises:
      ScenarioError: if it stands in a function or has no name, so that no address leads to it.
    """
    address = address_of(found)
    if "<" in address:  # <locals>, <lambda>
        raise ScenarioError(
            f"own code must stand at the top level of a module, under a name, got {address!r:.80}"
        )
    _HANDED_OVER[address] = found
    return address


def is_handed_over(found: Any) -> bool:
    """Whether only this process knows it; workers and later processes cannot import it."""
    return _HANDED_OVER.get(address_of(found)) is found


def address_of(found: Any) -> str:
    """The `module:attr` of a class or function."""
    return f"{found.__module__}:{found.__qualname__}"


def _defined_at(found: Any, address: str) -> bool:
    """Whether a class or function was defined under this very name."""
    return isinstance(found, FunctionType | type) and address_of(found) == address


def source_of(parts: Iterable[Any]) -> bytes:
    """Source of classes and functions that are not of this package; b"" if all of them are.

    Of a module in a package it is every Python file of that package, since a rule calls what stands
    beside it.
    """
    brought = sorted({part.__module__: part for part in parts if not _is_ours(part)}.items())
    return b"".join(canonical(module, _source(part)) for module, part in brought)


def _is_ours(part: Any) -> bool:
    return str(part.__module__).partition(".")[0] == _PACKAGE


def _source(part: Any) -> bytes:
    """The files of the outermost package around a module, or the module's own file."""
    module = sys.modules[part.__module__]
    package = _outermost(part.__module__)
    if package is not None:
        root = Path(str(package.__file__)).parent
        files = sorted(root.rglob("*.py"))
        return b"".join(
            canonical(file.relative_to(root).as_posix(), file.read_bytes()) for file in files
        )
    if getattr(module, "__file__", None):
        return Path(str(module.__file__)).read_bytes()
    return _typed(part)


def _outermost(name: str) -> ModuleType | None:
    """The outermost package with an `__init__` around a module; None if there is none."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = sys.modules.get(".".join(parts[:end]))
        if module is not None and hasattr(module, "__path__") and module.__file__:
            return module
    return None


def _typed(part: Any) -> bytes:
    """Source of what was typed into a notebook, whose module has no file: function by function."""
    functions = [part] if isinstance(part, FunctionType) else vars(part).values()
    typed = [inspect.unwrap(part) for part in functions if isinstance(part, FunctionType)]
    # What a decorator wrote has no source of its own: the `__init__` of a dataclass, or its
    # `__repr__`, which stands inside a function of the standard library.
    return "".join(
        inspect.getsource(function)
        for function in typed
        if function.__code__.co_filename != "<string>"
    ).encode()
