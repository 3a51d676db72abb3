"""Encoder outputs of many clips: computed once, in fixed blocks, kept on disk by content.

The encoder is frozen, so its output for a clip never changes: a phone computes it once, and so does
the simulator. The name of a cached file is a hash over the base, the recordings' fingerprints in
their order and the version of this code; a second run opens the file and starts at once.

    outputs = encoder_outputs(base, corpus, utterances, Path("cache"), workers=2)   # (n, 13, 64)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.left_context import LEFT_CONTEXT_VERSION
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.models.compute import compute_device
from fedspeech.models.encoder import Encoder
from fedspeech.models.exported.encoder import Verdicts, accept_verdicts, verdicts
from fedspeech.seeds import canonical
from fedspeech.training.one_thread import one_thread
from fedspeech.training.workers import WorkerPool, worker_deaths_said

CODE_VERSION = 2
"""Raised by whoever changes what the front end or the encoder computes."""

BLOCK_CLIPS = 64
"""Clips per call of the encoder: always this many, so that the matrix products are always the same
and bits depend neither on how many clips there are nor on who computes them."""

CHUNK_CLIPS = 8 * BLOCK_CLIPS
"""Clips per unit of work, and per checksum."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Store:
    """One cached array: raw float32 values beside a log of the checksums of finished chunks."""

    folder: Path
    shape: tuple[int, int, int]

    def open(self) -> NDArray[np.float32]:
        """Maps the array for writing; makes the file, full of zeros, if it is not there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "outputs.f32"
        # To append: what an interrupted run has computed stays.
        with path.open("ab") as file:
            size = 4 * int(np.prod(self.shape))
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a full disk must not show as a bus error later
                os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(path, dtype="<f4", mode="r+", shape=self.shape)

    def open_finished(self) -> NDArray[np.float32]:
        """Maps the array for reading."""
        return np.memmap(self.folder / "outputs.f32", dtype="<f4", mode="r", shape=self.shape)

    def record(self, chunk: int, sha256: str) -> None:
        """Notes that a chunk is written; a torn last line only costs computing it again."""
        with (self.folder / "chunks.jsonl").open("a") as log:
            # The line break in front ends a line that was torn, which would take this one with it.
            log.write("\n" + json.dumps({"chunk": chunk, "sha256": sha256}) + "\n")

    def finished(self, values: NDArray[np.float32]) -> set[int]:
        """Returns the chunks whose bytes still have the checksum that was noted for them."""
        # The file has its full size from the start, so only a checksum tells a finished chunk from
        # zeros, or from damage.
        noted: dict[int, str] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "chunks.jsonl").read_text().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    noted[int(entry["chunk"])] = str(entry["sha256"])
        return {chunk for chunk, sha256 in noted.items() if _digest(values, chunk) == sha256}


def encoder_outputs(
    base: Base,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    cache_dir: Path,
    *,
    adapter: Adapter | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Returns the encoder output of every utterance, (n, windows, f), mapped from the cache.

    Of an inner adapter, which cuts the encoder, it is the output of what stands before the cut.

    Killed half-way, the next call goes on where this one stopped. Chunks whose bytes no longer
    match their checksum are computed again. The bits do not depend on the number of worker
    processes, for which the corpus must be picklable; progress is told clips done and in all.

    Raises:
      ValueError: if there are no utterances or no workers.
    """
    if not utterances or workers < 1:
        raise ValueError(
            f"expected at least one utterance and one worker, got {len(utterances)}, {workers}"
        )
    encoder = _encoder(base, adapter)
    shape = (len(utterances), encoder.num_windows, encoder.num_features)
    store = _Store(cache_dir / "encoder" / _key(encoder, corpus, utterances), shape)
    values = store.open()
    finished = store.finished(values)
    chunks = range(-(-len(utterances) // CHUNK_CLIPS))
    missing = [chunk for chunk in chunks if chunk not in finished]

    done = len(utterances) - sum(len(_members(utterances, chunk)) for chunk in missing)
    computed = _compute(base, adapter, corpus, utterances, store, missing, workers)
    with contextlib.closing(computed):  # whatever happens here, the workers end now
        for chunk, sha256 in computed:
            store.record(chunk, sha256)
            done += len(_members(utterances, chunk))
            if progress is not None:
                progress(done, len(utterances))
    return store.open_finished()


def _encoder(base: Base, adapter: Adapter | None) -> Encoder:
    return base.encoder if adapter is None else adapter.encoder(base)


def _compute(
    base: Base,
    adapter: Adapter | None,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    store: _Store,
    missing: Sequence[int],
    workers: int,
) -> Generator[tuple[int, str], None, None]:
    """Writes the missing chunks and yields number and checksum of each as it is ready."""
    # A worker takes about two seconds to import torch, as long as a chunk takes.
    workers = min(workers, len(missing) // 2)
    if workers <= 1:
        with one_thread():
            values, encoder = store.open(), _encoder(base, adapter)
            for chunk in missing:
                members = _members(utterances, chunk)
                yield chunk, _write(base, encoder, corpus, members, values, chunk)
        return
    # Only an adapter that cuts the encoder is sent: a class of one's own may not be picklable.
    inner = None if _encoder(base, adapter) is base.encoder else adapter
    with (
        worker_deaths_said("what was finished before is kept, and the same command goes on"),
        WorkerPool(
            workers, _start_worker, base.to_bytes(), verdicts(), inner, corpus, store
        ) as pool,
    ):
        futures = [
            pool.submit(_write_in_worker, list(_members(utterances, chunk)), chunk)
            for chunk in missing
        ]
        for future in as_completed(futures):
            yield future.result()


_worker: tuple[Base, Encoder, Corpus, NDArray[np.float32]]


def _start_worker(
    data: bytes, probed: Verdicts, adapter: Adapter | None, corpus: Corpus, store: _Store
) -> None:
    """Runs once in every worker process."""
    global _worker
    torch.set_num_threads(1)
    accept_verdicts(probed)
    base = Base.from_bytes(data)
    _worker = (base, _encoder(base, adapter), corpus, store.open())


def _write_in_worker(utterances: Sequence[Utterance], chunk: int) -> tuple[int, str]:
    """Writes one chunk with what `_start_worker` prepared."""
    base, encoder, corpus, values = _worker
    return chunk, _write(base, encoder, corpus, utterances, values, chunk)


def _write(
    base: Base,
    encoder: Encoder,
    corpus: Corpus,
    utterances: Sequence[Utterance],
    values: NDArray[np.float32],
    chunk: int,
) -> str:
    """Computes one chunk block by block into its place; returns its checksum."""
    waveforms = base.heard(corpus, utterances)
    start = chunk * CHUNK_CLIPS
    for first in range(0, len(waveforms), BLOCK_CLIPS):
        block = waveforms[first : first + BLOCK_CLIPS]
        padded = np.zeros((BLOCK_CLIPS, *waveforms.shape[1:]), dtype=np.float32)
        padded[: len(block)] = block
        outputs = encoder(padded).numpy()
        values[start + first : start + first + len(block)] = outputs[: len(block)]
    return _digest(values, chunk)


def _members(utterances: Sequence[Utterance], chunk: int) -> Sequence[Utterance]:
    """The utterances of one chunk."""
    return utterances[chunk * CHUNK_CLIPS : (chunk + 1) * CHUNK_CLIPS]


def _digest(values: NDArray[np.float32], chunk: int) -> str:
    """Hex SHA-256 of one chunk's bytes."""
    members = values[chunk * CHUNK_CLIPS : (chunk + 1) * CHUNK_CLIPS]
    return hashlib.sha256(members.tobytes()).hexdigest()


def _key(encoder: Encoder, corpus: Corpus, utterances: Sequence[Utterance]) -> str:
    """Names an array by all that its bits depend on."""
    # The encoder's hash and not the base's: a new head costs no new pass.
    # And the device's: bits of an accelerator never stand for a CPU's.
    versions = (CODE_VERSION, LEFT_CONTEXT_VERSION, torch.__version__, compute_device().type)
    digest = hashlib.sha256(canonical("encoder cache", *versions, encoder.sha256))
    for utterance in utterances:
        # All of 32 bytes: no other list of clips runs together to the same bytes.
        digest.update(bytes.fromhex(corpus.fingerprint(utterance)))
    return digest.hexdigest()
