"""The source code that both sides of a round must share, and its digest."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path

from fedspeech.seeds import canonical

SOURCE_PACKAGES = ("fedspeech", "clients", "server")
SOURCE_SUFFIXES = (".py", ".json")
"""Of code, and of what code reads of the package itself: the schema of telemetry."""


def source_files() -> dict[str, bytes]:
    """The source files of the library and both sides of the app, by path from their parent."""
    return {
        f"{package}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for package in SOURCE_PACKAGES
        for root in [Path(str(resources.files(package)))]
        for path in sorted(root.rglob("*"))
        if path.suffix in SOURCE_SUFFIXES
    }


@functools.cache
def source_sha256() -> str:
    """Digest of the source files of the library and both sides of the app, hex.

    Flower's engines import the two sides from different places, and stale code would run silently.
    """
    digest = hashlib.sha256()
    for name, content in source_files().items():
        digest.update(canonical(name, content))
    return digest.hexdigest()
