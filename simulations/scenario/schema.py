"""The keys of a scenario: one TOML file describes one simulation, whole.

A section is the dataclass of the library that it becomes, where the two have the same keys; every
other section becomes an object in `simulations.setup`. The library never sees a scenario.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fedspeech.aggregation.early_stopping import EarlyStopping
from fedspeech.aggregation.optimizers import FedOpt, ServerOptimizer
from fedspeech.aggregation.own_optimizer import OwnOptimizer
from fedspeech.aggregation.robust import Defense, RobustRule
from fedspeech.anonymization.voices import MethodName, Per
from fedspeech.corpora.written import spoken
from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.user_rates import UserRates
from fedspeech.device.virtual_time import RoundTimes
from fedspeech.faults import Faults
from fedspeech.limits import (
    Count,
    Decay,
    Fraction,
    NotNegative,
    Positive,
    Probability,
    Share,
    WholeNumber,
)
from fedspeech.models.decoding import BeamSettings
from fedspeech.models.encoder_spec import ENCODERS
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.privacy.rules import MOST_GROUPS
from fedspeech.training.settings import LocalTraining
from simulations.scenario.corpora import AnyCorpus, EmbeddedCorpus, FolderCorpus, ProvidedCorpus
from simulations.scenario.sections import Section
from simulations.scenario.stages import Stage

SCHEMA: Literal[2] = 2
MADE = "synthetic"  # base.source of a base that the run trains
TUNED = "tuned"  # of the shipped one, fine-tuned on public speakers
PROVIDED = "provided"  # of one that a Python program hands over
EMBEDDING = "speech-embedding"  # of the encoder in the wheel pyopen-wakeword
MADE_BASES = ("shipped", MADE, TUNED, PROVIDED, EMBEDDING)  # every other source is a path
MADE_FOR_TASK = (MADE, EMBEDDING)  # whose labels are those of the task


ADAPTERS = ("head", "affine", "bottleneck", "lora", "frame_affine", "frame_bottleneck")


class BaseSettings(Section):
    """The frozen base model."""

    source: str = Field(
        default="shipped",
        description='Origin of the base: "shipped" (in the package: ten default words, or '
        'sentences), "synthetic" (trained on the synthesizer for this vocabulary, cached), "tuned" '
        "(for recorded sentences: the shipped base, trained further on public speakers, cached), "
        '"speech-embedding" (for words: Google\'s public encoder, which the extra of that name '
        'installs), "provided" (a Python program hands it over, and the run folder keeps it) or '
        "the path of a file made by `fedspeech pretrain` or of a folder with a base.toml "
        "(docs/own-model.md).",
    )
    sha256: str = Field(
        default="", description="SHA-256 that the file of a base must have; empty: any file."
    )
    encoder: str = Field(
        default="standard",
        description='Encoder of a "synthetic" base for words: "standard", or "micro" or "esphome" '
        "for microcontrollers (docs/microcontrollers.md). Other bases bring their own.",
    )

    hard_negative_hours: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=0.0,
        description="Hours of synthesized sound without a target word that are mined for the "
        "windows that a base takes most for one. A base of words that the run makes (source = "
        f'"{MADE}") is trained further on them; on "{EMBEDDING}" a small network on windows of 1 s '
        "is fit with them. The hardest ship to phones among the training negatives. 0: nothing is "
        "mined.",
    )

    @model_validator(mode="after")
    def _hard_negatives_are_mined_where_a_head_is_fit(self) -> Self:
        if self.hard_negative_hours and self.source not in (EMBEDDING, MADE):
            raise ValueError(
                f'hard_negative_hours is for source = "{EMBEDDING}" or "{MADE}", whose head the '
                f'run fits, got {self.hard_negative_hours:g} with "{self.source}"'
            )
        return self

    @model_validator(mode="after")
    def _encoder_is_chosen_where_one_is_trained(self) -> Self:
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder is one of {', '.join(ENCODERS)}, got {self.encoder!r}")
        if self.encoder != "standard" and self.source != MADE:
            raise ValueError(
                f'encoder = "{self.encoder}" is for source = "{MADE}", which the run trains; the '
                f"base {self.source!r} has its own encoder"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(LocalTraining):
    """Adapter training on the phone.

    Attributes:
      negatives: number of public training negatives on a phone: other words and silence, or public
        sentences.
      example_privacy: DP-SGD on the phone. Not set: single examples are not hidden.
      trainer: own local training, as "module:attr" of an installed package that declares it
        (docs/own-server.md); empty: this library's.
      trainer_settings: what an own trainer is made with. Not set: nothing.
    """

    negatives: WholeNumber = 12
    example_privacy: ExamplePrivacy | None = None
    trainer: str = ""
    trainer_settings: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ServerOptimizerSettings(FedOpt):
    """The server's step along the decoded mean delta.

    Attributes:
      robust_rule: what makes one mean of the sums of a round's groups (privacy.groups): "mean",
        "median" of each coordinate, or "trimmed_mean" without its largest and smallest quarter.
      max_loss_rise: nats by which a step may raise the loss on public validation clips; a round
        whose step would raise it more is paid for and not used. Not set: every step is taken.
      rule: own rule, as "module:attr" of an installed package that declares it
        (docs/own-server.md); the optimizer and its settings are then not read. Empty: `optimizer`.
      settings: what an own rule is made with. Not set: nothing.
    """

    robust_rule: RobustRule = "mean"
    max_loss_rise: NotNegative | None = None
    rule: str = ""
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuses settings without the rule that they are for."""
        super().__post_init__()
        if self.settings and not self.rule:
            raise ValueError(f"settings must stand beside a rule, got settings={self.settings}")

    def defense(self) -> Defense | None:
        """What stands between sums and step; None: nothing."""
        chosen = Defense(rule=self.robust_rule, max_loss_rise=self.max_loss_rise)
        return None if chosen == Defense() else chosen

    def built(self) -> ServerOptimizer:
        """The optimizer of a job."""
        if self.rule:
            return OwnOptimizer(rule=self.rule, settings=self.settings or {})
        return FedOpt(**{key: getattr(self, key) for key in FedOpt.__dataclass_fields__})


class AdaptiveClippingSettings(Section):
    """A clip norm that follows a quantile of the norms of deltas."""

    target_quantile: Fraction = Field(
        description="Share of deltas whose norm should be within the clip norm."
    )
    learning_rate: Positive = Field(default=0.2, description="Step size of the geometric update.")
    bit_noise: Positive = Field(
        default=0.05,
        description="Standard deviation of the noise on the sum of clip bits, over the expected "
        "cohort.",
    )
    min_clip_norm: Positive | None = Field(
        default=None, description="Smallest clip norm. Not set: a hundredth of the first one."
    )
    max_clip_norm: Positive | None = Field(
        default=None, description="Largest clip norm. Not set: a hundred times the first one."
    )


class FactorizationSettings(Section):
    """Noise of a round that takes back noise of earlier ones."""

    min_separation: Count | None = Field(
        default=None,
        description="Smallest number of rounds from one participation of a phone to its next; each "
        "phone keeps it. Not set: as many as its turns are apart.",
    )
    bands: Count | None = Field(
        default=None,
        description="Number of rounds whose noise stands in one round, its own included; 1: "
        "independent noise. Not set: min_separation, or all rounds if they are fewer.",
    )
    momentum: Decay | None = Field(
        default=None,
        description="Momentum of the steps in which noise is to cancel; touches accuracy alone. "
        "Not set: that of the server optimizer.",
    )


class PrivacySettings(Section):
    """The privacy plan, which prices, sizes, privatizes and decodes."""

    mechanism: Literal[
        "distributed", "skellam", "central", "matrix_factorization", "local", "none"
    ] = Field(
        default="distributed",
        description='Party that adds noise: phones their shares ("distributed", "skellam"), the '
        'server ("central"; "matrix_factorization": correlated over rounds), each phone enough for '
        'itself ("local") or nobody ("none").',
    )
    matrix_factorization: FactorizationSettings | None = Field(
        default=None,
        description="Correlation of the noise of rounds, for the mechanism of that name. Not set: "
        "its defaults.",
    )
    secure_aggregation: Literal["masked", "ideal"] = Field(
        default="masked",
        description='Sum of contributions: "masked" (the protocol, in which phones hide what they '
        'send from the server) or "ideal" (a plain sum that stands for it in a simulation: the '
        "same bits, faster).",
    )
    threat_model: Literal["malicious", "semi_honest"] = Field(
        default="malicious",
        description='Server that the masked protocol withstands: "malicious" (breaks any rule and '
        'chooses who drops out) or "semi_honest" (keeps the rules and looks).',
    )
    clip_norm: Positive = Field(
        default=0.1, description="L2 bound on a delta; of the first round if it adapts."
    )
    sizing: Literal["scenario", "public"] = Field(
        default="scenario",
        description='Origin of clip norm and server learning rate: "scenario" (its keys) or '
        '"public" (public speakers train one round as if they were phones: then the key clip_norm '
        "is not read, and the server's learning rate is the largest that is taken). For words; a "
        "plan costs the same.",
    )
    noise_multiplier: NotNegative = Field(
        default=3.0,
        description='Standard deviation of the noise over the clip norm: of the sum, for "local" '
        'of one phone, for "matrix_factorization" of what a round draws afresh. Not read where '
        'mechanism is "none".',
    )
    adaptive_clipping: AdaptiveClippingSettings | None = Field(
        default=None, description="A clip norm that moves. Not set: it stays."
    )
    participation: Literal["poisson", "fixed_size", "round_robin"] = Field(
        default="poisson",
        description='Choice of a cohort: "poisson" (each phone tosses its own coin), "fixed_size" '
        '(a random cohort of the expected size) or "round_robin" (phones take turns); the last two '
        "round the expected cohort to whole phones.",
    )
    participation_probability: Fraction = Field(
        default=0.1, description="Probability of one phone in one round."
    )
    rounds: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=40, description="Number of planned rounds."
    )
    max_participations: Count = Field(
        default=15, description="Largest number of rounds in which a phone takes part."
    )
    participation_window: Count | None = Field(
        default=None,
        description='For "round_robin": number of rounds after which a phone counts its '
        "participations anew. Not set: never.",
    )
    cohort_cap: Count | None = Field(
        default=None,
        description='For "poisson": largest number of phones in a round. Not set: no cap.',
    )
    groups: Annotated[int, Field(ge=1, le=MOST_GROUPS)] = Field(
        default=1,
        description="Number of sums of a round, each of a group of phones that were dealt at "
        "random, with minimums and full noise of its own, for a server_optimizer.robust_rule; 1: "
        'one sum. Above 1 for secure_aggregation = "ideal" (docs/poisoning.md).',
    )
    min_cohort_share: Fraction = Field(
        default=0.7,
        description="Minimum cohort size as a share of the cohort expected in a sum; below it a "
        "round is abandoned.",
    )
    min_reporting_share: Fraction = Field(
        default=0.67,
        description="Minimum number of reporting phones as a share of the cohort expected in a "
        "sum; noise is sized for it.",
    )
    colluders: WholeNumber = Field(
        default=0, description="Number of phones that may work with the adversary."
    )
    dropout_rate: Decay = Field(
        default=0.04,
        description="Share of phones that would take part and vanish before they send, each for "
        "itself; the minimum sizes and the graph of a masked sum are made for it, and the "
        "simulator plays it.",
    )
    ring_bits: Literal[16, 24, 32] | None = Field(
        default=None,
        description="Width of the ring, in bits. Not set: the narrowest that rounds well.",
    )
    delta: Probability | None = Field(
        default=None, description="Delta of the guarantee. Not set: 1 / (10 x population)."
    )
    epsilon_budget: Annotated[float, Field(gt=0, allow_inf_nan=True)] = Field(
        default=1.0,
        description="Limit on epsilon_release: the round that would exceed it is refused; inf: no "
        'limit. Not read where mechanism is "none".',
    )


class PersonalizationSettings(Section):
    """Adaptation of a held-out phone, and what limits it."""

    rule: Literal["sgd", "ridge"] = Field(
        default="sgd",
        description='How a phone adapts: "sgd" (steps on its examples and public negatives, then '
        'the guard) or "ridge" (its head in closed form, pulled to the global one, from its '
        "examples and altered copies of them; then unknown and silence are recalibrated, at every "
        "stage; for words and a head that `ridge` has fit on whitened features).",
    )

    shots: tuple[Count, ...] = Field(
        default=(1, 2, 3),
        description="Numbers of own examples to try, per target word, or of own sentences; all are "
        "evaluated on the same other utterances.",
    )
    headline_shots: Count = Field(
        default=2, description="Number of own examples behind the headline."
    )
    learning_rate: Positive = Field(
        default=0.1, description="Step size of SGD with momentum 0.9, all examples in one batch."
    )
    epochs: Count = Field(default=20, description="Number of passes over a phone's examples.")
    negatives: Count = Field(
        default=24,
        description="Number of public training negatives on a phone: other words and silence, or "
        "public sentences.",
    )
    max_false_accept_rise: Share = Field(
        default=0.02, description="Largest rise of the false accept rate on guard negatives."
    )
    weak_labels: bool = Field(
        default=False,
        description="Whether held-out phones also adapt on what simulated users correct and retry, "
        "for a panel of the report; for words. Users are those of `telemetry`, or the usual ones.",
    )
    retry_weight: Share = Field(
        default=0.5, description="What a retried clip counts there; a corrected one counts 1."
    )
    pull: Positive = Field(
        default=50.0,
        description='For "ridge": weight of the squared distance from the global head; an example '
        "weighs 1.",
    )
    copies: WholeNumber = Field(
        default=6,
        description='For "ridge": number of altered copies of each example, in other noise, at '
        "another level, place and speed.",
    )
    own_share: Share = Field(
        default=0.5,
        description='For "ridge": share of an example\'s weight that its recording has; its copies '
        "share the rest.",
    )


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(BeamSettings):
    """Search for transcripts; not read where words are spotted.

    Attributes:
      evaluated_each_round: number of sentences of each held-out phone, and of each public
        validation speaker, evaluated after every round.
      examples: number of transcripts in the report; of synthetic speech only.
    """

    evaluated_each_round: Count = 3
    examples: WholeNumber = 8


class EvaluationSettings(Section):
    """Figures and their segments."""

    min_segment_phones: Count = Field(
        default=5,
        description="Smallest number of phones in a segment; smaller ones are merged or withheld.",
    )
    false_accept_rate: Fraction = Field(
        default=0.05, description="False accept rate at which the false reject rate is stated."
    )
    false_accepts_per_hour: Positive | None = Field(
        default=None,
        description="False accepts per hour of a stream at which false rejects are stated instead, "
        "as a wake word is judged; without it, clips judge.",
    )
    stream_minutes: Annotated[float, Field(gt=0, le=6000)] = Field(
        default=30.0,
        description="Minutes of synthesized sound without target words in that stream.",
    )


class ListeningSettings(Section):
    """The detection recipe of exported streaming files; not read where sentences are recognized."""

    false_accepts_per_hour: Positive = Field(
        default=0.5,
        description="False accepts per hour, of all words together, for which thresholds, "
        "smoothing and cooldown are chosen.",
    )
    hours: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=0.1,
        description="Synthesized hours without a target word on which they are chosen. A rate is "
        "told from none where one false accept of a word is counted; in fewer hours none is "
        "allowed, and the card's interval says what that proves.",
    )


class CallbackSettings(Section):
    """Loggers that follow a run; of a run with noise of the operating system, public figures alone.

    A figure's name begins with who could see it: `public/`, `server/` or `simulation/`.
    """

    csv: bool = Field(
        default=False, description="Whether figures.csv in the run folder gets every figure."
    )
    tensorboard: str = Field(
        default="",
        description="Folder of TensorBoard's event files; a relative one begins at the run folder. "
        "Empty: none.",
    )
    mlflow: str = Field(
        default="",
        description='URI of an MLflow tracking store, such as "sqlite:///mlflow.db". Empty: none.',
    )
    wandb: str = Field(
        default="",
        description="Project at Weights and Biases; WANDB_MODE=offline keeps it on this machine. "
        "Empty: none.",
    )


class ExportSettings(Section):
    """The files for the phone."""

    at_end: bool = Field(
        default=True,
        description="Whether a run ends with the files for the phone, which takes longer than a "
        "small run itself. `fedspeech export` makes them, and more kinds of them, at any time.",
    )


class Simulation(Section):
    """Settings of the simulator; none of them touches the guarantee."""

    shards: Count = Field(
        default=4, description="Number of Flower nodes, each of which hosts a share of the phones."
    )
    deadline_s: NotNegative = Field(
        default=0.0,
        description="Seconds after which a node that has not answered is silent; 0: never. With "
        "one worker in process there is no deadline.",
    )
    faults: Faults = Field(default=Faults(), description="Faults of nodes, in any engine.")


class AnonymizationSettings(Section):
    """Other voices for all speech of a run."""

    method: MethodName = Field(
        default="mcadams",
        description='How voices are changed (docs/anonymization.md): "mcadams", "resampling", '
        '"f0-reversion" (needs the extra `world`) or "noise".',
    )
    per: Per = Field(
        default="utterance",
        description='What is given a voice of its own: each "utterance", or each "speaker", which '
        "is pseudonymization.",
    )


class Scenario(Section):
    """One simulation."""

    schema_version: Literal[2] = Field(
        default=SCHEMA, alias="schema", description="Version of the keys; another one is refused."
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="Name of the scenario, part of the name of its run folders."
    )
    description: str = Field(default="", description="What the scenario is, in one sentence.")
    seed: int = Field(
        default=1, description="Seed of speakers, cohorts, training and seeded noise."
    )
    stage: Stage = Field(
        default=4,
        description="Stage of the product: 1 inference only, 2 and analytics, 3 and "
        "personalization on the phone, 4 and federated training; a later part is refused by name "
        "(docs/stages.md).",
    )
    noise_entropy: Literal["seeded", "os"] = Field(
        default="seeded",
        description='Source of noise: "seeded" (reproducible, for simulations) or "os" (the '
        "operating system).",
    )
    vocabulary: tuple[str, ...] = Field(
        default=("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
        description="Target words. Empty with recordings: the words of the base if a file is "
        "named, else those said most often by held-out phones, at most twelve and two thirds of "
        "them.",
    )
    lexicon: dict[str, str] = Field(
        default={},
        description="Words that the built-in lexicon lacks, as ARPAbet strings: "
        'fedspeech = "F EH D S P IY CH".',
    )
    adapter: str = Field(
        default="head",
        description='What phones train: "head", "affine", "bottleneck" or "lora" for words, '
        '"frame_affine" or "frame_bottleneck" for sentences, or module:Class of an installed '
        "package.",
    )
    corpus: Annotated[AnyCorpus, Field(discriminator="kind")] = Field(
        default=EmbeddedCorpus(), description="Speakers and what they say."
    )
    base: BaseSettings = BaseSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    server_optimizer: ServerOptimizerSettings = ServerOptimizerSettings()
    privacy: PrivacySettings = PrivacySettings()
    personalization: PersonalizationSettings = PersonalizationSettings()
    decoding: DecodingSettings = DecodingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    listening: ListeningSettings = ListeningSettings()
    simulation: Simulation = Simulation()
    callbacks: CallbackSettings = CallbackSettings()
    export: ExportSettings = ExportSettings()
    early_stopping: EarlyStopping | None = Field(
        default=None,
        description="The end of a run before its last round, by public validation speakers. Not "
        "set: all planned rounds run.",
    )
    time: RoundTimes | None = Field(
        default=None,
        description="Virtual time. Not set: rounds take none, and no phone is away or late.",
    )
    device: PhoneRules | None = Field(
        default=None,
        description="What lives on a phone and when it works (docs/device.md), where there is "
        "virtual time. Not set: its defaults, and everybody agrees.",
    )
    anonymization: AnonymizationSettings | None = Field(
        default=None,
        description="Other voices for every clip that is embedded: of phones, of public speakers "
        "and of those who evaluate; streams are listened to as they are. It enters no epsilon. Not "
        "set: clips are as recorded.",
    )
    telemetry: UserRates | None = Field(
        default=None,
        description="Simulated users, whose phones remember events for queries to count "
        "(docs/telemetry.md). Not set: phones remember nothing.",
    )

    @property
    def task(self) -> Literal["kws", "asr"]:
        """What is recognized, which the corpus decides."""
        words = EmbeddedCorpus | FolderCorpus | ProvidedCorpus
        return "kws" if isinstance(self.corpus, words) else "asr"

    @property
    def fitting_adapters(self) -> tuple[str, ...]:
        """The built-in adapters that recognize what this scenario asks for."""
        frames = self.task == "asr"
        return tuple(name for name in ADAPTERS if name.startswith("frame_") == frames)

    @model_validator(mode="after")
    def _phones_live_in_time(self) -> Self:
        if self.device is not None and self.time is None:
            raise ValueError(
                "[device] needs [time]: consent, clips and work depend on the hour of a round; "
                "set time.every_h=24 for a round a night"
            )
        return self

    @field_validator("vocabulary")
    @classmethod
    def _spelled_as_in_corpora(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(spoken, words))

    @model_validator(mode="after")
    def _adapter_fits(self) -> Self:
        if isinstance(self.corpus, ProvidedCorpus):
            return self  # its task says what fits
        if self.base.source == EMBEDDING and self.task != "kws":
            raise ValueError(f'base.source = "{EMBEDDING}" spots words and writes no sentences')
        if self.base.encoder != "standard" and self.task != "kws":
            raise ValueError(f'base.encoder = "{self.base.encoder}" spots words, no sentences')
        if ":" in self.adapter:
            return self  # imported later; what it answers is checked then
        if self.adapter not in ADAPTERS:
            raise ValueError(
                f"adapter is one of {', '.join(ADAPTERS)}, or module:Class, got {self.adapter!r}"
            )
        frames = self.adapter.startswith("frame_")
        if frames != (self.task == "asr"):
            what, other = ("words", "head or affine") if frames else (
                "sentences", "frame_affine or frame_bottleneck"
            )  # fmt: skip
            raise ValueError(f"adapter {self.adapter} does not recognize {what}; take {other}")
        if self.training.example_privacy and self.training.trainer:
            raise ValueError(
                "training.example_privacy cannot be promised of an own trainer, "
                f"{self.training.trainer}: what its steps do with an example is not known"
            )
        if self.training.example_privacy and self.task == "asr":
            raise ValueError("training.example_privacy clips gradients of words, not of sentences")
        return self

    def with_seed(self, seed: int) -> Scenario:
        """The same scenario under another seed."""
        return self.model_copy(update={"seed": seed})

    def with_absolute_paths(self) -> Scenario:
        """The same scenario, whose paths hold wherever it is run from."""
        paths = {
            name: str(Path(named).absolute())
            for name in ("path", "noise", "other_words", "held_out_speakers")
            if (named := getattr(self.corpus, name, None))
        }
        changes: dict[str, Section] = {"corpus": self.corpus.model_copy(update=paths)}
        if self.base.source not in MADE_BASES:
            source = str(Path(self.base.source).absolute())
            changes["base"] = self.base.model_copy(update={"source": source})
        return self.model_copy(update=changes)
