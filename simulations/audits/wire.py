"""A job run over messages, recorded: what its server, its readers and its network see."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedspeech.audits.transcript import SeenRound, Transcript
from fedspeech.errors import require
from fedspeech.job import Job, rotation_seed
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from fedspeech.vectors import FloatVector, Vector
from server.rounds import RoundRecord, run_rounds
from simulations.audits.playing import NOBODY
from simulations.engines.in_process import CLIENT_APP, InProcessGrid
from simulations.engines.recorded import SERVER, RecordedNodes


class Recorder:
    """Keeps what a run shows while it goes on: each released model, and each sum that is opened."""

    def __init__(self, job: Job, state: ServerState, wire: RecordedNodes) -> None:
        """Starts before the first round."""
        self._job, self._state, self._wire = job, state, wire
        self._releases: list[FloatVector] = [state.model]
        self._rounds: list[SeenRound] = []

    def __call__(self, record: RoundRecord, after: ServerState) -> None:
        """Keeps a round that is over; see `server.rounds.OnRound`."""
        if record.total is not None:
            senders, total = self._wire.senders(record.round), self._decoded(record)
            self._rounds.append(
                SeenRound(number=record.round, sent=self._state.sent, senders=senders, total=total)
            )
            self._releases.append(after.model)
        self._state = after

    def _decoded(self, record: RoundRecord) -> Vector:
        """The opened sum as the server decodes it: seeded noise comes out as it did."""
        job, key, noise = self._job, self._job.round_key(record.round), self._state.noise
        decoded = job.plan.decode(
            record.total,  # type: ignore[arg-type]
            rotation_seed=rotation_seed(key),
            clip_norm=record.clip_norm,
            noise=job.entropy().keystream("server noise", key.round_id, key.attempt)
            if noise is None
            else noise.row(key.round),
        )
        return decoded.mean * job.plan.expected_cohort

    def server(self) -> Transcript:
        """What the server saw."""
        return Transcript(
            observer="server", plan=self._job.plan, releases=np.stack(self._releases),
            rounds=tuple(self._rounds), messages=tuple(self._wire.crossed),
        )  # fmt: skip


def recorded(job: Job) -> Transcript:
    """Runs a job in this process through its own protocol, and returns what the server saw.

    Where secure aggregation is "masked" the phones mask. Nothing is charged to anybody: the ledger
    goes with the call.

    Raises:
      ValueError: if noise is the operating system's, or a round has several sums, which no engine
        asks for.
    """
    seeded = job.noise_entropy == "seeded"
    require(seeded, 'noise_entropy must be "seeded"', noise_entropy=job.noise_entropy)
    rule = "rounds over messages have one sum: privacy.groups must be 1"
    require(job.plan.groups == 1, rule, groups=job.plan.groups)
    with tempfile.TemporaryDirectory(prefix="fedspeech-audit-") as made:
        folder = Path(made)
        job = replace(job, durable_state=str(folder / "phones"), simulation_only="")
        job.save(folder / "job.json")
        ledger = Ledger.open(
            folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
        )
        state = ServerState.initial(job, job.load_arrays())
        path = {"job": str(folder / "job.json")}
        with InProcessGrid(CLIENT_APP, job.num_shards, path) as grid:
            wire = RecordedNodes(grid)
            recorder = Recorder(job, state, wire)
            run_rounds(wire, job, ledger, state, recorder)
    return recorder.server()


def for_reader(server: Transcript) -> Transcript:
    """What readers of the released models saw of the same run."""
    rounds = tuple(SeenRound(number=one.number, sent=one.sent, senders=NOBODY)
                   for one in server.rounds)  # fmt: skip
    return replace(server, observer="reader", rounds=rounds, messages=())


def for_network(server: Transcript) -> Transcript:
    """What whoever carried the messages of the same run saw."""
    return replace(server, observer="network", rounds=(), releases=server.releases[:0])


def traffic(network: Transcript) -> tuple[tuple[str, str, int, int, int], ...]:
    """Messages of each kind and direction: how many, and the smallest and largest in bytes.

    Equal sizes tell the network nothing but that there was a message.
    """
    sizes: dict[tuple[str, str], list[int]] = {}
    for message in network.messages:
        way = "to nodes" if message.sender == SERVER else "to the server"
        sizes.setdefault((message.kind, way), []).append(message.size_bytes)
    return tuple((*key, len(found), min(found), max(found)) for key, found in sizes.items())
