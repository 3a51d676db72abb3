"""What the phones of a shard must not forget: a folder on their own disk, the only authority.

Flower's context ends with its node, is stored after an answer has left, and is another one in every
run. A phone that believed it would toss its coin for a round twice, answer twice, and start its
participation limit anew. So whoever answers for a shard takes hold of its durable state first,
reads there what the phones have done, and writes down what they do now before the answer leaves:
two processes, two threads and two runs on one folder are one after the other. It holds no secret.

One file per round; of older ones the last is kept. Only a simulator goes back: where noise is
seeded, `go_back` lets phones forget the rounds that a killed run did not finish, and a replay then
gives the same integers. Phones whose noise comes from the operating system would send a second
sample of one delta: for them it raises.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.files import hold, write_whole

# A replay of the round starts from the state before it.
_KEPT = 2  # files a shard: of this round and of the last one entered before it
_WAIT_S = 60.0


class DurableState:
    """Of one shard.

    Args:
      folder: of all shards of this node; made if it is not there.
      lasting: whether the phones outlive this process; else what is written need not be on disk.

    Raises:
      ProtocolAbort: while a resumed run sets this folder back.
    """

    def __init__(self, folder: Path, shard: int, *, lasting: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if lasting:
            _in_use(folder)
        self._folder, self._name, self._lasting = folder, f"shard-{shard:05d}", lasting

    @contextlib.contextmanager
    def held(self) -> Iterator[DurableState]:
        """Keeps everybody else from answering for these phones."""
        lock = hold(self._folder / f"{self._name}.lock", wait_s=_WAIT_S)
        if lock is None:
            raise ProtocolAbort("these phones are busy with another message")
        with lock:
            yield self

    def read(self) -> bytes | None:
        """Returns what was last written, or None; only while it is held."""
        files = _files(self._folder, self._name)
        return files[-1].read_bytes() if files else None

    def write(self, round_number: int, content: bytes) -> None:
        """Keeps what phones must remember from a round on; on disk when the call returns."""
        path = self._folder / f"{self._name}-round-{round_number:05d}"
        if self._lasting:
            write_whole(path, content)
        else:
            path.write_bytes(content)
        for old in _files(self._folder, self._name)[:-_KEPT]:
            old.unlink()


def go_back(folder: Path, first_round: int, noise: Literal["os", "seeded"]) -> None:
    """Lets the phones of a simulation forget a round and all later ones.

    Raises:
      FedspeechError: if the noise is not seeded, or phones are still at work.
    """
    if noise != "seeded":
        raise FedspeechError(
            "phones forget a round under seeded noise only: with noise of the operating system a "
            "second answer would be a second sample of one delta"
        )
    if not folder.is_dir():
        return
    with alone(folder):
        for file in _files(folder, "shard-*"):
            if _round_of(file) >= first_round:
                file.unlink()


def alone(folder: Path) -> BinaryIO:
    """Waits until no process hosts phones here, and keeps others out until the file is closed."""
    _in_use.cache_clear()  # this process itself may have hosted them
    held = hold(folder / "in-use", wait_s=_WAIT_S)
    if held is None:
        raise FedspeechError(f"a process of the killed run still hosts phones ({folder})")
    return held


def _files(folder: Path, shard: str) -> list[Path]:
    """Files of a shard, of older rounds first."""
    return sorted(folder.glob(f"{shard}-round-[0-9]*"), key=_round_of)


def _round_of(file: Path) -> int:
    return int(file.name.rpartition("-")[2])


@functools.lru_cache(maxsize=4)
def _in_use(folder: Path) -> BinaryIO:
    """Shows for as long as this process lives that it hosts phones here."""
    held = hold(folder / "in-use", shared=True)
    if held is None:
        raise ProtocolAbort(f"the durable state of these phones is being set back ({folder})")
    return held
