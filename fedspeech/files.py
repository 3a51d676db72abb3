"""Files that survive a kill: written whole or not at all, and held by one process at a time."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file: a reader sees the old one or the new one, on disk when the call returns.

    Raises:
      OSError: if the disk is full or not writable; the old file stays.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            # Content before name: a power cut could else leave the new name on an empty file.
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by this text, UTF-8, as `write_whole` does."""
    write_whole(path, text.encode())


def read_at_most(path: Path, most: int) -> bytes:
    """Reads a file that somebody else made; one that is larger is refused unread.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: naming the file and both sizes.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path} may have at most {most} bytes, got {size}")
        content = file.read(most + 1)
    if len(content) > most:  # it grew meanwhile, or is a device whose size is stated as 0
        raise ValueError(f"{path} may have at most {most} bytes, got more")
    return content


def remove_made(files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Removes what a program made itself: files by name, then folders that hold nothing else.

    Args:
      files: those that are there are removed.
      folders: inner ones first; one in which somebody else put something stays.
    """
    for file in files:
        file.unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def hold(path: Path, *, shared: bool = False, wait_s: float = 0.0) -> BinaryIO | None:
    """Takes hold of a lock file until what is returned is closed, or the process ends.

    Args:
      path: the lock file, made if it is not there; its content means nothing.
      shared: whether others may hold it too, if they share.
      wait_s: how long to wait for others.

    Returns:
      The open file, or None if others hold it.
    """
    file = path.open("ab", buffering=0)
    # Asked again and again, because file locks know no timeout.
    deadline = time.monotonic() + wait_s
    while not lock(file, shared=shared, wait=False):
        if time.monotonic() >= deadline:
            file.close()
            return None
        time.sleep(0.05)
    return file


if sys.platform == "win32":
    import msvcrt

    def sync_folder(folder: Path) -> None:
        """Does nothing: Windows has no way to flush a folder."""

    def lock(file: BinaryIO, *, shared: bool = False, wait: bool = True) -> bool:
        """Locks an open file until it is closed; False if others have it and none waits.

        Windows has no shared locks here, so those who share take none.
        """
        if shared:
            return True
        place = file.tell()
        file.seek(1 << 40)  # one byte far beyond the end stands for the whole file
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            if wait:
                raise
            return False
        finally:
            file.seek(place)
        return True
else:
    import fcntl

    def sync_folder(folder: Path) -> None:
        """Makes new names in a folder survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(file: BinaryIO, *, shared: bool = False, wait: bool = True) -> bool:
        """Locks an open file until it is closed; False if others have it and none waits."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
