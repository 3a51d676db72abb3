"""One federated run, described once: what the server and every shard of phones agree on.

A job is a file `job.json` and the arrays it names by path and SHA-256: cached embeddings of the
phones, a public background set that ships to every phone, public validation speakers, the initial
adapter. It reaches a node by path, and the node checks the digest. Phones take query, plan, clip
norm, noise and minimums from their own copy of the job and never from a message.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.early_stopping import EarlyStopping
from fedspeech.aggregation.robust import Defense
from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import PhoneWork, TimeAxis
from fedspeech.errors import ProtocolAbort, ScenarioError, require
from fedspeech.faults import Faults
from fedspeech.files import write_whole
from fedspeech.messages import RoundKey
from fedspeech.population import PopulationArrays
from fedspeech.privacy.examples import ExampleCost
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.query import Query, open_query
from fedspeech.secagg.dropouts import last_stage
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.primitives import Primitives, shared_primitives
from fedspeech.secagg.protocol import SessionTerms, Stage, session_round_id
from fedspeech.seeds import NoiseEntropy, Streams, canonical, secret_generator, stream, streams
from fedspeech.source import source_sha256
from fedspeech.training.virtual_phones import VirtualPhones
from fedspeech.vectors import FloatVector

SCHEMA_VERSION = 2  # of the job file and of what a run id is the hash of
# Where a job's parts are, not what they are.
_PLACES = ("arrays", "identities", "simulation_only", "durable_state")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Settings of one run; everything that must agree is in one of the frozen parts.

    Attributes:
      seed: of all streams that protect nobody.
      noise_entropy: "seeded" (keys from the seed) or "os" (the operating system's).
      num_shards: Flower nodes among which the phones are split.
      plan: what protects a phone.
      query: what a round asks of a phone, and what the server does with the decoded mean.
      base_sha256: of the base file behind the embeddings.
      arrays: folder of the arrays.
      arrays_sha256: their digest.
      virtual_phones: how phones are drawn from the voices in the arrays; None: one phone each.
      time: when rounds happen in virtual time; None: nobody is ever away or late.
      faults: what nodes do wrong, by a schedule from the seed.
      defense: how sums of groups become one mean, and which steps are taken; None: the one sum is
        used as it is.
      early_stopping: when no further round begins, by public validation clips; None: never.
      deadline_s: seconds after which a node that has not answered is silent; 0: never.
      identities: file with the secret behind the phones' simulated identities; read only where sums
        are masked.
      simulation_only: folder in which shards of a simulation leave what only the simulator may
        see; "" in a deployment.
      durable_state: folder in which shards keep what their phones must not forget: rounds entered,
        stages answered, inputs sent; "" only where the phones live no longer than the process that
        plays them, which then names a folder of its own. Phones without it answer nothing.
      repeats: run id of another job whose seeded coins and noise this one draws again, so that
        the two differ in their settings and not in their luck; "" for its own. Two sums with the
        same noise give away their difference: for public or synthetic speech only.

    Raises:
      ValueError: if `repeats` is given with noise of `os`, which is never drawn twice, or if more
        phones are away or late than the plan assumes, or plan and query differ in dimension.
    """

    seed: int
    noise_entropy: Literal["seeded", "os"]
    num_shards: int
    plan: PrivacyPlan
    query: Query
    base_sha256: str
    arrays: str
    arrays_sha256: str
    virtual_phones: VirtualPhones | None = None
    time: TimeAxis | None = None
    faults: Faults = dataclasses.field(default_factory=Faults)
    early_stopping: EarlyStopping | None = None
    defense: Defense | None = None
    deadline_s: float = 0.0
    identities: str = ""
    simulation_only: str = ""
    durable_state: str = ""
    repeats: str = ""

    def __post_init__(self) -> None:
        """Checks what depends on two values."""
        drawn_once = not self.repeats or self.noise_entropy != "os"
        require(drawn_once, 'repeats must be "" where noise_entropy is "os"', repeats=self.repeats)
        dimension = self.query.dimension
        rule = f"dimension of the plan must be that of the query, {dimension}"
        require(self.plan.dimension == dimension, rule, dimension=self.plan.dimension)
        if self.defense is not None:
            self.defense.check(self.plan)
        if self.time is not None:
            self._check_time(self.time)
        if self.staleness:
            self._check_overlap()

    def _check_time(self, time: TimeAxis) -> None:
        """Checks that the plan's minimums hold at every hour of the run and at the deadline."""
        plan = self.plan
        least, late = time.least_available(plan.rounds, plan.population), time.share_late(self.work)
        # Fewer phones than the plan counts on stand nearer to its minimums, where one of them
        # decides.
        if self.plan.availability > least:
            raise ValueError(
                f"at the worst hour {least:.1%} of the phones are there, the plan counts on "
                f"availability={self.plan.availability}"
            )
        most, minutes = time.most_minutes_a_day(self.work), time.rules.policy.minutes_a_day
        if most > minutes:
            raise ValueError(
                f"device.policy.minutes_a_day={minutes:g} could end before the day: a slow phone "
                f"that takes part every {time.every_h:g} hours works {most:.3g} minutes a day. "
                "Raise it, or time.every_h"
            )
        if late > self.plan.dropout_rate:
            raise ValueError(
                f"time.deadline_s={time.deadline_s:g} drops {late:.2%} of the phones, the plan "
                f"assumes dropout_rate={self.plan.dropout_rate}: raise either"
            )

    def _check_overlap(self) -> None:
        """Refuses what a round would have to know of rounds that are still open."""
        rule = "time.open_rounds must be 1 where"
        require(
            self.plan.adaptive_clipping is None,
            f"{rule} the clip norm adapts, which follows from the round before",
            open_rounds=self.staleness + 1,
        )
        require(
            not self.decides_by_public_loss,
            f"{rule} a run stops early or rejects steps, which rounds that are open would miss",
            open_rounds=self.staleness + 1,
        )

    @property
    def decides_by_public_loss(self) -> bool:
        """Whether the loss of each model on public validation clips decides something."""
        rejects = self.defense is not None and self.defense.max_loss_rise is not None
        return rejects or self.early_stopping is not None

    @property
    def staleness(self) -> int:
        """Completed rounds by which the model that phones train on is behind the latest."""
        return 0 if self.time is None else self.time.open_rounds - 1

    @functools.cached_property
    def work(self) -> PhoneWork:
        """What a phone does in a round at the expected cohort, at most."""
        plan = self.plan
        bytes_up, bytes_down = plan.bytes_per_phone(round(plan.expected_in_sum))
        return PhoneWork(
            bytes_up=bytes_up,
            bytes_down=bytes_down,
            round_trips=2 if plan.secure_aggregation == "ideal" else int(Stage.UNMASK),
            flops=self.query.flops,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every setting and digest, places on disk excepted; hex."""
        return _sha256(self._settings())

    @functools.cached_property
    def run_id(self) -> str:
        """What seeded noise is derived from beside the seed; the same job, the same noise.

        Every setting counts, defaults included: a default that changes gives an old scenario fresh
        noise, and never the noise of another plan.
        """
        if self.repeats:
            return self.repeats
        settings = self._settings()
        # Whatever goes wrong on the way and whichever node hosts a phone, the same bits come out.
        for name in ("faults", "deadline_s", "num_shards", "repeats"):
            del settings[name]
        settings.pop("early_stopping", None)  # the rounds before it are those of a run without it
        if self.time is None:  # else the way of the sums takes time, and decides who is late
            for name in ("secure_aggregation", "threat_model"):
                del settings["plan"][name]
        return _sha256(settings)[:16]

    def _settings(self) -> dict[str, Any]:
        """What makes the run what it is, by name; places on disk are left out."""
        settings = self._values() | {"plan": self.plan.identity()}
        for name in (*_PLACES, "query"):
            del settings[name]
        for name in ("early_stopping", "defense"):  # as in the runs before a job could have it
            if settings[name] is None:
                del settings[name]
        if self.time is not None and not self.staleness:
            del settings["time"]["open_rounds"]
        if self.time is not None and self.time.rules == PhoneRules():
            del settings["time"]["rules"]
        identity = self.query.identity()
        if shared := settings.keys() & identity.keys():  # one of the two would not be hashed
            raise ValueError(f"a query must not name its settings like the job's: {sorted(shared)}")
        return {"schema_version": SCHEMA_VERSION} | settings | identity

    def _values(self) -> dict[str, Any]:
        """Every field as the job file holds it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        parts = {
            name: dataclasses.asdict(value)
            for name, value in values.items()
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
        }
        return values | parts | {"query": self.query.described()}

    @property
    def example_cost(self) -> ExampleCost | None:
        """What this run costs one example of a phone; None where its query hides none."""
        return self.query.example_cost(self.plan.participations)

    def entropy(self) -> NoiseEntropy:
        """Returns the source of everything that protects somebody."""
        if self.noise_entropy == "os":
            return NoiseEntropy.os()
        return NoiseEntropy.seeded(self.seed, self.run_id)

    def round_key(self, round_number: int, attempt: int = 0) -> RoundKey:
        """Names an attempt at a round; under noise of `os` the round id is fresh at every call."""
        round_id = self.entropy().keystream("rid", round_number, attempt).bytes(16)
        return RoundKey(
            round=round_number,
            attempt=attempt,
            round_id=round_id,
            context=self.context(round_number, attempt, round_id),
        )

    def phone_rngs(self, key: RoundKey, phones: Sequence[int]) -> Streams:
        """Streams that phones draw a contribution from, each opened when asked for."""
        if not self.query.draws_secrets:
            return Streams(streams(self.seed, "batches", key.round), phones)
        return Streams(functools.partial(self.phone_rng, key), phones)

    def phone_rng(self, key: RoundKey, phone: int) -> np.random.Generator:
        """What a phone's contribution is drawn from: secret where it protects somebody."""
        if not self.query.draws_secrets:
            return stream(self.seed, "batches", key.round, phone)
        secret = self.entropy().keystream("example privacy", key.round_id, key.attempt, phone)
        if self.noise_entropy == "os":
            return secret_generator(secret)
        # Whoever knows the seed knows these bits anyway, and runs with a seed keep theirs.
        return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(secret.bytes(32), "big")))

    def context(self, round_number: int, attempt: int, round_id: bytes) -> bytes:
        """What both sides must have computed alike: job, source code and round."""
        code = (source_sha256(), self._own_code)
        parts = canonical(self.fingerprint, *code, round_number, attempt, round_id)
        return hashlib.sha256(parts).digest()

    @functools.cached_property
    def _own_code(self) -> bytes:
        """Source of every part of the query that another package brings."""
        return self.query.code()

    def purpose(self, key: RoundKey, model: bytes) -> bytes:
        """What a masked session is for: this job and round, and the one `model_sha256`.

        Phones that were sent different models have masks that never cancel.
        """
        parts = canonical("purpose", key.context, key.round_id, model)
        return hashlib.sha256(parts).digest()

    def terms(self, key: RoundKey, session: int) -> SessionTerms:
        """What a masked session of a round stands on; computed by each side, sent by neither.

        Its id is derived from job, source code, round and attempt, which the key's context holds:
        what phones sign under it is worth nothing anywhere else.
        """
        return self.plan.terms(session_round_id(key.context, session), key.round)

    def identity_directory(self) -> IdentityDirectory:
        """Opens the phones' simulated identities; once per process.

        Raises:
          ScenarioError: if there are none.
        """
        return _identity_directory(self.identities, self.run_id, self.plan.population)

    def primitives(self) -> Primitives:
        """What this process computes masks with: shared between phones only under seeded noise."""
        return shared_primitives() if self.noise_entropy == "seeded" else Primitives()

    def last_stage(self, round_number: int, phone: int) -> Stage:
        """The simulator's schedule: the last stage that a phone answers before it vanishes.

        On a time axis who is away answers nothing and who is late no longer sends its vector; the
        rest of the plan's drop-outs vanish at random, so that as many drop out as the plan assumes.
        """
        rate, time = self.plan.dropout_rate, self.time
        if time is None:
            return last_stage(rate, self.seed, round_number, phone)
        if not time.available(round_number, phone):
            return Stage.NONE
        late = time.share_late(self.work)
        stage = last_stage((rate - late) / (1 - late), self.seed, round_number, phone)
        if time.seconds(self.work, round_number, phone) > time.deadline_s:
            return min(stage, Stage.SHARE)
        return stage

    def last_stages(self, round_number: int, phones: Iterable[int]) -> NDArray[np.int64]:
        """The last stage of each of some phones, shape (phones,)."""
        if self.time is None and self.plan.dropout_rate == 0:  # nobody vanishes
            return np.full(len(list(phones)), Stage.UNMASK, dtype=np.int64)
        found = [self.last_stage(round_number, int(phone)) for phone in phones]
        return np.array(found, dtype=np.int64)

    def shard_phones(self, shard: int) -> range:
        """Phones of one shard: a contiguous part of the population."""
        population = self.plan.population
        return range(
            population * shard // self.num_shards, population * (shard + 1) // self.num_shards
        )

    def load_arrays(self) -> PopulationArrays:
        """Maps the arrays and checks their digest.

        Raises:
          ScenarioError: if they are missing, damaged, not those of this job or not for its query.
        """
        arrays = PopulationArrays.checked(Path(self.arrays), self.arrays_sha256)
        self.query.check(arrays)
        if self.decides_by_public_loss and not len(arrays.validation):
            what = "max_loss_rise" if self.early_stopping is None else "early_stopping"
            raise ScenarioError(
                f"{what} needs public validation speakers to decide by, and there are none"
            )
        return dataclasses.replace(arrays, virtual_phones=self.virtual_phones)

    def as_of(self, arrays: PopulationArrays, round_number: int) -> PopulationArrays:
        """What the phones hold when a round is called: of captured clips those that live then."""
        if self.time is None or self.time.rules.captures_a_day is None:
            return arrays
        return dataclasses.replace(arrays, held=functools.partial(self.time.held, round_number))

    def save(self, path: Path) -> None:
        """Writes the job as JSON."""
        written = {"schema_version": SCHEMA_VERSION} | self._values()
        write_whole(path, (json.dumps(written, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Job:
        """Reads a job and checks every part of it; places that are relative begin at its folder.

        All places are absolute from here on, so that they hold wherever a process of Flower's runs.

        Raises:
          ScenarioError: if there is none or it does not fit this version.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if (version := values.pop("schema_version", 1)) != SCHEMA_VERSION:
                raise ValueError(f"schema_version must be {SCHEMA_VERSION}, got {version}")
            values["plan"] = PrivacyPlan(**values["plan"])
            values["query"] = open_query(values["query"])
            values["faults"] = Faults(**values["faults"])
            kinds: dict[str, Callable[..., Any]] = {
                "time": TimeAxis.from_values,
                "virtual_phones": VirtualPhones,
                "early_stopping": EarlyStopping,
                "defense": Defense,
            }
            for name, kind in kinds.items():
                values[name] = kind(**values[name]) if values.get(name) else None
            for place in _PLACES:
                if values[place]:
                    values[place] = str(path.absolute().parent / values[place])
            return cls(**values)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ScenarioError(
                f"no usable job at {path} ({error}); `fedspeech prepare` makes one"
            ) from error


@functools.lru_cache(maxsize=4)
def _identity_directory(path: str, run_id: str, phones: int) -> IdentityDirectory:
    return IdentityDirectory.open(Path(path), run_id.encode(), phones)


def _sha256(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def check_key(job: Job, key: RoundKey) -> None:
    """The phone's check that server and phone mean the same job, code and round.

    Raises:
      ProtocolAbort: if they do not.
    """
    if key.context != job.context(key.round, key.attempt, key.round_id):
        raise ProtocolAbort(
            f"round {key.number}: the server's job, plan or source code is not this phone's"
        )


def model_sha256(model: FloatVector, clip_norm: float) -> bytes:
    """Digest of what phones of a round are sent: the model and the norm to clip to."""
    return hashlib.sha256(canonical(model.tobytes(), struct.pack("<d", clip_norm))).digest()


def group_seed(key: RoundKey) -> bytes:
    """Public seed by which the round's phones are dealt to groups, 32 bytes."""
    return hashlib.sha256(canonical("groups", key.round_id, key.round, key.attempt)).digest()


@functools.lru_cache(maxsize=8)
def rotation_seed(key: RoundKey) -> bytes:
    """Public seed of the round's random rotation, 32 bytes."""
    return hashlib.sha256(canonical("rotation", key.round_id, key.round, key.attempt)).digest()
