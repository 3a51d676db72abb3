"""The cost of a masked sum, beside the bound that its primitives set.

One session with random vectors runs on one core, every phone and the server in this process. Then
the primitives that it used (as many exchanges, derivations, signatures, keystreams, ...) run alone,
in loops of their own: no protocol could be faster with them.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fedspeech.errors import ArgumentRefused, ProtocolAbort, ScenarioError
from simulations.console import Console, Printed, table
from simulations.scenario.renamed import new_value

if TYPE_CHECKING:
    from fedspeech.secagg.session import Opened


@dataclass(frozen=True)
class Traffic:
    """Bytes that one phone sends and receives in one stage."""

    sent: int
    received: int


@dataclass(frozen=True)
class Cost(Printed):
    """What one masked sum cost.

    Attributes:
      dropped: phones that vanished, a third each after their shares, after their vector and before
        they unmask.
      colluders: corrupt phones that the graph withstands.
      quorum: signatures without which nobody unmasks.
      reporting: phones in the sum.
      cpu_seconds: of the whole session, each shared computation done once.
      cpu_seconds_unshared: the same with every computation where it is asked for; None if not
        measured.
      primitives_cpu_seconds: the primitives of `cpu_seconds` alone.
      peak_memory_bytes: of this process, vectors included.
    """

    phones: int
    dimension: int
    bits: int
    dropped: int
    colluders: int
    threat_model: Literal["malicious", "semi_honest"]
    neighbors: int
    threshold: int
    quorum: int
    reporting: int
    cpu_seconds: float
    cpu_seconds_unshared: float | None
    primitives_cpu_seconds: float
    primitives: dict[str, float]
    operations: dict[str, int]
    ratio: float
    bytes_per_phone: dict[str, Traffic]
    peak_memory_bytes: int
    processor: str
    python: str

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        return dataclasses.asdict(self)

    def print(self, console: Console) -> None:
        """Prints a cost as a person reads it."""
        console.print(
            f"{self.phones:,} phones, {self.dropped:,} vanish, vectors of {self.dimension:,} x "
            f"{self.bits} bits; against a {self.threat_model.replace('_', '-')} server with "
            f"{self.colluders:,} colluding phones: {self.neighbors} neighbors, threshold "
            f"{self.threshold}, quorum {self.quorum:,}"
        )
        primitives = [
            (name, f"{self.operations[name]:,}", f"{seconds:.3f}")
            for name, seconds in self.primitives.items()
        ]
        primitives.append(("all primitives", "", f"{self.primitives_cpu_seconds:.3f}"))
        primitives.append(("whole session", "", f"{self.cpu_seconds:.3f}"))
        header = ("primitive", "operations", "CPU s alone")
        console.print(table(header, primitives, right=header[1:]))
        console.print(
            f"ratio {self.ratio:.2f}; the sum of {self.reporting:,} reporting phones is exact"
        )
        if self.cpu_seconds_unshared is not None:
            console.print(
                f"with every computation where it is asked: {self.cpu_seconds_unshared:.3f}"
            )
        traffic = [
            (stage, f"{one.sent:,}", f"{one.received:,}")
            for stage, one in self.bytes_per_phone.items()
        ]
        header = ("bytes of one phone", "sent", "received")
        console.print(table(header, traffic, right=header[1:]))
        console.print(f"peak memory {self.peak_memory_bytes / 1e6:,.0f} MB, vectors included")


def secagg_cost(
    phones: int = 100,
    dimension: int = 10_000,
    *,
    bits: int = 16,
    dropout: float = 0.1,
    threat_model: Literal["malicious", "semi_honest"] = "malicious",
    colluders: int | None = None,
    unshared: bool = False,
) -> Cost:
    """Runs one masked sum on one core, and its primitives alone: CPU seconds, bytes, neighbors.

        >>> import fedspeech as fs
        >>> cost = fs.secagg_cost(12, 40, bits=24, dropout=0.25)
        >>> cost.reporting, cost.bytes_per_phone["mask"].sent
        (11, 184)

    Args:
      phones: on the cohort list, at least 2.
      dimension: coordinates of a vector.
      bits: of the ring, 1 to 32.
      dropout: share of phones that vanish, a third each at three stages.
      threat_model: the server that the graph withstands.
      colluders: corrupt phones that it withstands; None: a tenth of the phones.
      unshared: also without computing shared things once.

    Raises:
      ScenarioError: if a number is out of range, there is no graph for them, or so few phones are
        left that nothing can be opened.
    """
    if threat_model not in ("malicious", "semi_honest"):
        new = new_value("privacy.threat_model", threat_model)
        said = f", and {threat_model} is now {new}" if new else f", got {threat_model}"
        raise ArgumentRefused(f"`threat_model` must be malicious or semi_honest{said}")
    try:
        return _measured(
            phones=phones, dimension=dimension, bits=bits, dropout=dropout,
            threat_model=threat_model, unshared=unshared,
            colluders=phones // 10 if colluders is None else colluders,
        )  # fmt: skip
    except (ValueError, ProtocolAbort) as error:
        raise ScenarioError(f"no session of this kind: {error}") from error


def _measured(
    *,
    phones: int,
    dimension: int,
    bits: int,
    dropout: float,
    threat_model: Literal["malicious", "semi_honest"],
    colluders: int,
    unshared: bool,
) -> Cost:
    """Runs one session and its primitives alone."""
    import numpy as np

    from fedspeech.secagg import shamir
    from fedspeech.secagg.costs import bytes_per_phone, operations, primitives_alone
    from fedspeech.secagg.keys import IdentityDirectory
    from fedspeech.secagg.primitives import Primitives, SharedPrimitives
    from fedspeech.secagg.protocol import SessionTerms, Stage
    from fedspeech.secagg.ring import ring_sum
    from fedspeech.secagg.session import sum_vectors

    minimum = max(2, (phones - int(dropout * phones)) // 2)
    terms = SessionTerms(
        round_id=os.urandom(16), round=0, dimension=dimension, bits=bits, min_cohort=phones,
        min_reporting=minimum, colluders=colluders, dropped_share=max(dropout, 0.1),
        threat_model=threat_model,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    vectors = {
        phone: rng.integers(0, 2**bits - 1, dimension, dtype=np.uint32, endpoint=True)
        for phone in range(phones)
    }
    vanishing = rng.permutation(phones)[: int(dropout * phones)].tolist()
    stages = (Stage.SHARE, Stage.MASK, Stage.AGREE)
    last = {phone: stages[i % len(stages)] for i, phone in enumerate(vanishing)}
    identities = IdentityDirectory(os.urandom(32), b"benchmark", phones)
    for phone in range(phones):
        identities.public(phone)  # identities are made once in a phone's life, not in a session

    # Tables of the field and of this threshold are made once in a process, not in a session.
    expected_graph = terms.parameters(phones)
    shamir.share(
        np.zeros(1, np.int64), expected_graph.threshold, expected_graph.neighbors, os.urandom
    )
    shamir.reconstruct(np.zeros((1, 1), np.intp), np.zeros((1, 1, 1), np.uint32))

    def run(primitives: Primitives) -> tuple[Opened, float]:
        # CPU time, since other programs on the machine would change a ratio of wall times.
        started = time.process_time()
        opened = sum_vectors(
            vectors, terms=terms, purpose=bytes(32), identities=identities, primitives=primitives,
            last_stage=lambda phone: last.get(phone, Stage.UNMASK),
        )  # fmt: skip
        return opened, time.process_time() - started

    opened, cpu_seconds = run(SharedPrimitives())
    expected = ring_sum([vectors[phone] for phone in opened.reporting.ids.tolist()], bits)
    if not np.array_equal(opened.total, expected):
        raise AssertionError("the sum is wrong")
    parameters = opened.context.parameters
    gone = sum(stage < Stage.UNMASK for stage in last.values())
    signing = len(opened.reporting) - sum(stage == Stage.MASK for stage in last.values())
    unmasking = signing - sum(stage == Stage.AGREE for stage in last.values())
    counts = operations(opened, signing, unmasking)
    alone = primitives_alone(counts, parameters, dimension, bits)
    return Cost(
        phones=phones,
        dimension=dimension,
        bits=bits,
        dropped=gone,
        colluders=colluders,
        threat_model=threat_model,
        neighbors=parameters.neighbors,
        threshold=parameters.threshold,
        quorum=opened.context.quorum,
        reporting=len(opened.reporting),
        cpu_seconds=cpu_seconds,
        cpu_seconds_unshared=run(Primitives())[1] if unshared else None,
        primitives_cpu_seconds=sum(alone.values()),
        primitives=alone,
        operations=counts,
        ratio=cpu_seconds / sum(alone.values()),
        bytes_per_phone={
            stage: Traffic(sent=sent, received=received)
            for stage, (sent, received) in bytes_per_phone(
                phones, parameters, dimension, bits
            ).items()
        },
        # The system counts in bytes on macOS and in kibibytes on Linux.
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        processor=platform.processor() or platform.machine(),
        python=platform.python_version(),
    )
