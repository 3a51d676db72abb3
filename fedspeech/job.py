"""One federated run, described once: what the server and every shard of phones agree on.

A job is a file `job.json` and the arrays it names by path and SHA-256: cached embeddings of the
phones, a public background set that ships to every phone, public validation speakers, the initial
adapter. It reaches a node by path, and the node checks the digest. Phones take plan, clip norm,
noise and floors from their own copy of the job and never from a message.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import FedAdam, FedAvg, FedAvgM, FedYogi, ServerOptimizer
from fedspeech.device.virtual_time import PhoneWork, TimeAxis
from fedspeech.errors import ProtocolAbort, ScenarioError
from fedspeech.files import write_whole
from fedspeech.messages import RoundKey
from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.dropouts import last_stage
from fedspeech.secagg.keys import Enrolment
from fedspeech.secagg.primitives import Primitives, shared_primitives
from fedspeech.secagg.protocol import SessionTerms, Stage, session_rid
from fedspeech.seeds import NoiseEntropy, Streams, canonical, stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.dp_sgd import ExamplePrivacy
from fedspeech.training.local import LocalTraining
from fedspeech.training.virtual_phones import Recipes
from fedspeech.vectors import FloatVector

_PLACES = ("arrays", "enrolment", "eye", "memory")  # where a job's parts are, not what they are
SOURCE_PACKAGES = ("fedspeech", "clients", "server")


@dataclass(frozen=True, kw_only=True)
class AdapterShape:
    """Which adapter, after which trunk.

    Attributes:
      name: as `make_adapter` knows it.
      num_windows: windows of the trunk's output.
      num_features: features of the trunk's output.
      num_labels: outputs: unknown and silence, or the blank, included.
    """

    name: str
    num_windows: int
    num_features: int
    num_labels: int

    def build(self) -> Adapter:
        """Returns the adapter."""
        return make_adapter(self.name, self.num_windows, self.num_features, self.num_labels)


@dataclass(frozen=True, kw_only=True)
class ServerRule:
    """Which server optimizer, with which settings.

    Attributes:
      optimizer: "fedavg", "fedavgm", "fedadam" or "fedyogi".
      learning_rate: of the server.
      momentum: of FedAvgM; first decay of FedAdam and FedYogi.
      beta_2: second decay of FedAdam and FedYogi.
      adaptivity: tau of FedAdam and FedYogi.

    Raises:
      ValueError: if there is no optimizer of that name, or a setting is out of range.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    beta_2: float
    adaptivity: float

    def __post_init__(self) -> None:
        """Checks the settings."""
        self.build()

    def build(self) -> ServerOptimizer:
        """Returns the optimizer."""
        rate, momentum = self.learning_rate, self.momentum
        adaptive = {
            "learning_rate": rate,
            "beta_1": momentum,
            "beta_2": self.beta_2,
            "adaptivity": self.adaptivity,
        }
        match self.optimizer:
            case "fedavg":
                return FedAvg(learning_rate=rate)
            case "fedavgm":
                return FedAvgM(learning_rate=rate, momentum=momentum)
            case "fedadam":
                return FedAdam(**adaptive)
            case "fedyogi":
                return FedYogi(**adaptive)
        raise ValueError(
            f"optimizer must be fedavg, fedavgm, fedadam or fedyogi, got {self.optimizer!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How often nodes misbehave in a simulation: shares of the requests, each for itself.

    Attributes:
      silent: the answer is lost.
      late: it comes after the deadline, among the answers to a later request.
      twice: it comes twice.
      fails: the node says that it failed.
      wrong_round: it names another round.
      wrong_shapes: its arrays have other shapes.
      nan: its arrays are floats, and not numbers.
      stale_source: the node runs other code.

    Raises:
      ValueError: if a share is out of range, or they add up to more than one.
    """

    silent: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    fails: float = 0.0
    wrong_round: float = 0.0
    wrong_shapes: float = 0.0
    nan: float = 0.0
    stale_source: float = 0.0

    def __post_init__(self) -> None:
        """Checks the shares."""
        shares = dataclasses.asdict(self)
        if not all(0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
            raise ValueError(f"faults must be shares that add up to at most 1, got {shares}")

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self != Faults()


@dataclass(frozen=True, eq=False)
class JobArrays:
    """What the phones hold, memory-mapped. Printing it shows shapes only.

    Attributes:
      embeddings: clips of all phones, one phone after the other, (n, *embedding_shape), float32.
      labels: shape (n,), or (n, characters) of sentences, int64; see `LocalDataset`.
      offsets: phone p owns clips offsets[p] to offsets[p + 1]; shape (phones + 1,), int64.
      background: unknown and silence clips that ship to every phone.
      validation: public validation speakers; the only clips that the server sees.
      initial: the adapter before the first round, shape (d,), float32.
      recipes: where phones are drawn from voices: the clips are then those of voice p, and phones
        as many as the plan says; None: one phone per voice.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    background: LocalDataset
    validation: LocalDataset
    initial: FloatVector
    recipes: Recipes | None = None

    def __repr__(self) -> str:
        """Shows shapes only."""
        return f"JobArrays(voices={len(self.offsets) - 1}, embeddings={self.embeddings.shape})"

    def phone(self, index: int) -> LocalDataset:
        """Returns what one phone trains on: its own clips, then the background set."""
        own: slice | NDArray[np.int64]
        if self.recipes is None:
            own = slice(self.offsets[index], self.offsets[index + 1])
        else:
            own = self.recipes.clips(index, self.offsets)
        return LocalDataset(self.embeddings[own], self.labels[own]).joined(self.background)

    def save(self, folder: Path) -> None:
        """Writes one .npy file per array into a new folder, visible only when complete."""
        partial = folder.with_name(folder.name + f".partial-{os.getpid()}")
        partial.mkdir(parents=True)
        for name, array in self._flat().items():
            np.save(partial / f"{name}.npy", np.ascontiguousarray(array))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody else made the same folder first: same content
                raise

    @classmethod
    def load(cls, folder: Path) -> JobArrays:
        """Maps the arrays of a folder.

        Raises:
          ScenarioError: if one is missing or damaged.
        """
        arrays = {}
        for name in _ARRAY_NAMES:
            try:
                arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
            except (OSError, ValueError) as error:
                raise ScenarioError(f"job array {folder / name}.npy: {error}") from error
        return cls(
            embeddings=np.asarray(arrays["embeddings"]),  # mapped all the same
            labels=np.asarray(arrays["labels"]),
            offsets=np.array(arrays["offsets"]),
            background=LocalDataset(
                np.array(arrays["background_embeddings"]), np.array(arrays["background_labels"])
            ),
            validation=LocalDataset(
                np.array(arrays["validation_embeddings"]), np.array(arrays["validation_labels"])
            ),
            initial=np.array(arrays["initial"]),
        )

    def _flat(self) -> dict[str, NDArray[np.generic]]:
        return {
            "embeddings": self.embeddings,
            "labels": self.labels,
            "offsets": self.offsets,
            "background_embeddings": self.background.embeddings,
            "background_labels": self.background.labels,
            "validation_embeddings": self.validation.embeddings,
            "validation_labels": self.validation.labels,
            "initial": self.initial,
        }

    def sha256(self) -> str:
        """Digest over names, types, shapes and bytes of all arrays, hex."""
        digest = hashlib.sha256()
        for name, array in self._flat().items():
            digest.update(canonical(name, array.dtype.str, *array.shape))
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


_ARRAY_NAMES = (
    "embeddings", "labels", "offsets", "background_embeddings", "background_labels",
    "validation_embeddings", "validation_labels", "initial",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
    """Settings of one run; everything that must agree is in one of the frozen parts.

    Attributes:
      seed: of all streams that protect nobody.
      noise: "rehearsal" (keys from the seed) or "os".
      num_shards: Flower nodes among which the phones are split.
      plan: what protects a phone.
      training: what a phone does in a round.
      example_privacy: how training hides single clips of a phone; None: it does not.
      adapter: what is trained.
      server: what the server does with the decoded mean.
      base_sha256: of the base file behind the embeddings.
      arrays: folder of the arrays.
      arrays_sha256: their digest.
      recipes: how phones are drawn from the voices in the arrays; None: one phone each.
      time: when rounds happen in virtual time; None: nobody is ever away or late.
      faults: what nodes do wrong, by a schedule from the seed.
      deadline_s: seconds after which a node that has not answered is silent; 0: never.
      enrolment: file with the secret behind the phones' simulated identities; read only where sums
        are masked.
      eye: folder in which shards of a simulation leave what only the simulator may see; "" in a
        deployment.
      memory: folder in which shards keep what their phones must not forget: rounds entered, stages
        answered, inputs sent; "" only where the phones live no longer than the process that plays
        them, which then names a folder of its own. Phones without a memory answer nothing.
      repeats: run id of another job whose rehearsed coins and noise this one draws again, so that
        the two differ in their settings and not in their luck; "" for its own. Two sums with the
        same noise give away their difference: for public or synthetic speech only.

    Raises:
      ValueError: if `repeats` is given with `os` noise, which is never drawn twice, or if more
        phones are away or late than the plan assumes.
    """

    seed: int
    noise: Literal["rehearsal", "os"]
    num_shards: int
    plan: PrivacyPlan
    training: LocalTraining
    adapter: AdapterShape
    server: ServerRule
    base_sha256: str
    arrays: str
    arrays_sha256: str
    recipes: Recipes | None = None
    time: TimeAxis | None = None
    faults: Faults = Faults()
    deadline_s: float = 0.0
    enrolment: str = ""
    eye: str = ""
    memory: str = ""
    repeats: str = ""
    example_privacy: ExamplePrivacy | None = None

    def __post_init__(self) -> None:
        """Checks what depends on two values."""
        if self.repeats and self.noise == "os":
            raise ValueError(f'repeats must be "" where noise is "os", got {self.repeats!r}')
        if self.time is not None:
            self._check_time(self.time)

    def _check_time(self, time: TimeAxis) -> None:
        """Checks that the plan's floors hold at every hour of the run and at the deadline."""
        least, late = time.least_available(self.plan.rounds), time.share_late(self.work)
        if self.plan.availability > least:
            raise ValueError(
                f"at the worst hour {least:.1%} of the phones are there, the plan counts on "
                f"availability={self.plan.availability}"
            )
        if late > self.plan.dropout_rate:
            raise ValueError(
                f"time.deadline_s={time.deadline_s:g} drops {late:.2%} of the phones, the plan "
                f"assumes dropout_rate={self.plan.dropout_rate}: raise either"
            )

    @functools.cached_property
    def work(self) -> PhoneWork:
        """What a phone does in a round, at the expected cohort and with as many clips as it may."""
        plan, training = self.plan, self.training
        bytes_up, bytes_down = plan.bytes_per_phone(round(plan.expected_cohort))
        return PhoneWork(
            bytes_up=bytes_up,
            bytes_down=bytes_down,
            round_trips=2 if plan.secure_aggregation == "ideal" else int(Stage.UNMASK),
            # At most: forward and both halves of backward, each a product and a sum for each
            # parameter and window.
            flops=6.0
            * plan.dimension
            * self.adapter.num_windows
            * training.max_examples
            * training.local_epochs,
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over every setting and digest, places on disk excepted; hex."""
        return _sha256(self._settings())

    @functools.cached_property
    def run_id(self) -> str:
        """What rehearsal noise is derived from beside the seed; the same job, the same noise.

        How sums are taken does not count, nor which node hosts which phone, nor what goes wrong on
        the way: the same bits come out.
        Nor does a setting of the plan that holds its default, so an option that is not used changes
        no run.
        """
        if self.repeats:
            return self.repeats
        settings = self._settings()
        if self.recipes is None:
            del settings["recipes"]
        del settings["faults"], settings["deadline_s"], settings["num_shards"]
        del settings["repeats"]
        if self.time is None:  # else the way of the sums takes time, and decides who is late
            del settings["time"]
            for name in ("secure_aggregation", "server"):
                del settings["plan"][name]
        for field in dataclasses.fields(self.plan):
            if settings["plan"].get(field.name, field.default) == field.default:
                settings["plan"].pop(field.name, None)
        return _sha256(settings)[:16]

    def _settings(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self)
        for place in _PLACES:
            del settings[place]
        if self.example_privacy is None:
            del settings["example_privacy"]
        return settings

    def entropy(self) -> NoiseEntropy:
        """Returns the source of everything that protects somebody."""
        if self.noise == "os":
            return NoiseEntropy.os()
        return NoiseEntropy.rehearsal(self.seed, self.run_id)

    def round_key(self, round_number: int, attempt: int = 0) -> RoundKey:
        """Names an attempt at a round; under `os` noise the rid is fresh at every call."""
        rid = self.entropy().keystream("rid", round_number, attempt).bytes(16)
        return RoundKey(
            round=round_number,
            attempt=attempt,
            rid=rid,
            context=self.context(round_number, attempt, rid),
        )

    def training_rngs(self, key: RoundKey, phones: Sequence[int]) -> Streams:
        """Streams of local training, each opened when asked for.

        Args:
          key: of the round.
          phones: indices in the population.
        """
        return Streams(functools.partial(self.training_rng, key), phones)

    def training_rng(self, key: RoundKey, phone: int) -> np.random.Generator:
        """Draws what local training on a phone draws: batches; and what protects its clips, if any.

        Args:
          key: of the round.
          phone: index in the population.
        """
        if self.example_privacy is None:
            return stream(self.seed, "batches", key.round, phone)
        secret = self.entropy().keystream("example privacy", key.rid, key.attempt, phone)
        return np.random.Generator(np.random.PCG64DXSM(int.from_bytes(secret.bytes(32), "big")))

    def context(self, round_number: int, attempt: int, rid: bytes) -> bytes:
        """What both sides must have computed alike: job, source code and round."""
        parts = canonical(self.fingerprint, source_sha256(), round_number, attempt, rid)
        return hashlib.sha256(parts).digest()

    def purpose(self, key: RoundKey, model: bytes) -> bytes:
        """What a masked session is for: this job and round, and the one model phones were sent.

        Phones that were sent different models have masks that never cancel.

        Args:
          key: of the round.
          model: `model_sha256`.
        """
        parts = canonical("purpose", key.context, key.rid, model)
        return hashlib.sha256(parts).digest()

    def terms(self, key: RoundKey, session: int) -> SessionTerms:
        """What a masked session of a round stands on; computed by each side, sent by neither.

        Its id is derived from job, source code, round and attempt, which the key's context holds:
        what phones sign under it is worth nothing anywhere else.
        """
        return self.plan.terms(session_rid(key.context, session), key.round)

    def enrol(self) -> Enrolment:
        """Opens the phones' simulated identities; once per process.

        Raises:
          ScenarioError: if there are none.
        """
        return _enrolment(self.enrolment, self.run_id, self.plan.population)

    def primitives(self) -> Primitives:
        """What this process computes masks with: shared between phones in a rehearsal only."""
        return shared_primitives() if self.noise == "rehearsal" else Primitives()

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

    def shard_phones(self, shard: int) -> range:
        """Phones of one shard: a contiguous part of the population."""
        population = self.plan.population
        return range(
            population * shard // self.num_shards, population * (shard + 1) // self.num_shards
        )

    def load_arrays(self) -> JobArrays:
        """Maps the arrays and checks their digest.

        Raises:
          ScenarioError: if they are missing, damaged or not those of this job.
        """
        arrays = JobArrays.load(Path(self.arrays))
        if (found := arrays.sha256()) != self.arrays_sha256:
            raise ScenarioError(
                f"job arrays in {self.arrays} are not those of this job: expected SHA-256 "
                f"{self.arrays_sha256[:12]}..., got {found[:12]}..."
            )
        labels = np.concatenate([arrays.labels, arrays.background.labels])
        lowest = 0 if labels.ndim == 1 else -1  # after the last character of a sentence
        if labels.size and not lowest <= labels.min() <= labels.max() < self.adapter.num_labels:
            # Found here, where it stops everybody, not on the phone whose label it is.
            raise ScenarioError(f"job labels must be in [0, {self.adapter.num_labels})")
        return dataclasses.replace(arrays, recipes=self.recipes)

    def save(self, path: Path) -> None:
        """Writes the job as JSON."""
        write_whole(path, (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Job:
        """Reads a job and checks every part of it; places that are relative begin at its folder.

        All places are absolute from here on, so that they hold wherever a process of Flower's runs.

        Raises:
          ScenarioError: if there is none or it does not fit this version.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            clips = values.get("example_privacy")
            return cls(
                **{
                    **values,
                    "plan": PrivacyPlan(**values["plan"]),
                    "training": LocalTraining(**values["training"]),
                    "adapter": AdapterShape(**values["adapter"]),
                    "server": ServerRule(**values["server"]),
                    "faults": Faults(**values["faults"]),
                    "time": TimeAxis(**values["time"]) if values.get("time") else None,
                    "recipes": Recipes(**values["recipes"]) if values.get("recipes") else None,
                    **{
                        place: str(path.absolute().parent / values[place])
                        for place in _PLACES
                        if values[place]
                    },
                    "example_privacy": clips and ExamplePrivacy(**clips),
                }
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ScenarioError(
                f"no usable job at {path} ({error}); `fedspeech prepare` makes one"
            ) from error


@functools.lru_cache(maxsize=4)
def _enrolment(path: str, run_id: str, phones: int) -> Enrolment:
    return Enrolment.open(Path(path), run_id.encode(), phones)


def _sha256(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def check_key(job: Job, key: RoundKey) -> None:
    """The phone's check that server and phone mean the same job, code and round.

    Raises:
      ProtocolAbort: if they do not.
    """
    if key.context != job.context(key.round, key.attempt, key.rid):
        raise ProtocolAbort(
            f"round {key.round}: the server's job, plan or source code is not this phone's"
        )


def source_files() -> dict[str, bytes]:
    """The Python files of the library and both sides of the app, by path from their parent."""
    return {
        f"{package}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for package in SOURCE_PACKAGES
        for root in [Path(str(resources.files(package)))]
        for path in sorted(root.rglob("*.py"))
    }


@functools.cache
def source_sha256() -> str:
    """Digest of the Python files of the library and both sides of the app, hex.

    Flower's engines import the two sides from different places, and stale code would run silently.
    """
    digest = hashlib.sha256()
    for name, content in source_files().items():
        digest.update(canonical(name, content))
    return digest.hexdigest()


def model_sha256(adapter: FloatVector, clip_norm: float) -> bytes:
    """Digest of what phones of a round are sent: the global adapter and the norm to clip to."""
    return hashlib.sha256(canonical(adapter.tobytes(), struct.pack("<d", clip_norm))).digest()


@functools.lru_cache(maxsize=8)
def rotation_seed(key: RoundKey) -> bytes:
    """Public seed of the round's random rotation, 32 bytes."""
    return hashlib.sha256(canonical("rotation", key.rid, key.round, key.attempt)).digest()
