"""`fedspeech secagg`: the cost of a masked sum, beside the bound that its primitives set.

One session with random vectors runs on one core, every phone and the server in this process. Then
the primitives that it used (as many exchanges, derivations, signatures, keystreams, ...) run alone,
in loops of their own: no protocol could be faster with them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedspeech.errors import ProtocolAbort, ScenarioError
from simulations.commands.options import JsonOption
from simulations.console import Console, table
from simulations.scenario.renamed import new_value

if TYPE_CHECKING:
    from fedspeech.secagg.session import Opened


def bench(
    phones: Annotated[int, typer.Option(min=2, help="On the cohort list.")] = 100,
    dimension: Annotated[int, typer.Option(min=1, help="Coordinates.")] = 10_000,
    bits: Annotated[int, typer.Option(min=1, max=32, help="Of the ring.")] = 16,
    dropout: Annotated[float, typer.Option(min=0, max=0.99, help="Share that vanishes.")] = 0.1,
    threat_model: Annotated[
        str,
        typer.Option(help="Server that the graph withstands: malicious or semi_honest."),
    ] = "malicious",
    colluders: Annotated[
        int | None, typer.Option(min=0, help="Default: a tenth of the phones.")
    ] = None,
    unshared: Annotated[
        bool, typer.Option("--unshared", help="Also without computing shared things once.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one masked sum on one core, and its primitives alone: CPU seconds, bytes, neighbors."""
    if threat_model not in ("malicious", "semi_honest"):
        new = new_value("privacy.threat_model", threat_model)
        said = f", and {threat_model} is now {new}" if new else f", got {threat_model}"
        raise ScenarioError(f"--threat-model must be malicious or semi_honest{said}")
    try:
        cost = measure(
            phones=phones,
            dimension=dimension,
            bits=bits,
            dropout=dropout,
            threat_model="malicious" if threat_model == "malicious" else "semi_honest",
            colluders=phones // 10 if colluders is None else colluders,
            unshared=unshared,
        )
    except (ValueError, ProtocolAbort) as error:
        raise ScenarioError(f"no session of this kind: {error}") from error
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(cost), indent=1))
    else:
        show(cost, Console())


@dataclass(frozen=True)
class Traffic:
    """Bytes that one phone sends and receives in one stage."""

    sent: int
    received: int


@dataclass(frozen=True)
class Cost:
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


def measure(
    *,
    phones: int,
    dimension: int,
    bits: int,
    dropout: float,
    threat_model: Literal["malicious", "semi_honest"],
    colluders: int,
    unshared: bool = False,
) -> Cost:
    """Runs one session and its primitives alone.

    Raises:
      ValueError: if a number is out of range, or there is no graph for them.
      ProtocolAbort: if so few phones are left that nothing can be opened.
    """
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
        threat_model="malicious" if threat_model == "malicious" else "semi_honest",
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


def show(cost: Cost, console: Console) -> None:
    """Prints a cost as a person reads it."""
    console.print(
        f"{cost.phones:,} phones, {cost.dropped:,} vanish, vectors of {cost.dimension:,} x "
        f"{cost.bits} bits; against a {cost.threat_model.replace('_', '-')} server with "
        f"{cost.colluders:,} colluding phones: {cost.neighbors} neighbors, threshold "
        f"{cost.threshold}, quorum {cost.quorum:,}"
    )
    primitives = [
        (name, f"{cost.operations[name]:,}", f"{seconds:.3f}")
        for name, seconds in cost.primitives.items()
    ]
    primitives.append(("all primitives", "", f"{cost.primitives_cpu_seconds:.3f}"))
    primitives.append(("whole session", "", f"{cost.cpu_seconds:.3f}"))
    header = ("primitive", "operations", "CPU s alone")
    console.print(table(header, primitives, right=header[1:]))
    console.print(
        f"ratio {cost.ratio:.2f}; the sum of {cost.reporting:,} reporting phones is exact"
    )
    if cost.cpu_seconds_unshared is not None:
        console.print(f"with every computation where it is asked: {cost.cpu_seconds_unshared:.3f}")
    traffic = [
        (stage, f"{one.sent:,}", f"{one.received:,}") for stage, one in cost.bytes_per_phone.items()
    ]
    header = ("bytes of one phone", "sent", "received")
    console.print(table(header, traffic, right=header[1:]))
    console.print(f"peak memory {cost.peak_memory_bytes / 1e6:,.0f} MB, vectors included")
