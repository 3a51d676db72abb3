"""The keys of a scenario: one TOML file describes one simulation, whole.

Sections become objects in `simulations.setup.experiment` and nowhere else; the library never sees a
scenario.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulations.scenario.corpora import AnyCorpus, EmbeddedCorpus, FolderCorpus, ProvidedCorpus
from simulations.scenario.sections import (
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Share,
    WholeNumber,
)

SCHEMA: Literal[2] = 2
MADE_BASES = ("shipped", "synthetic", "tuned")  # every other source of a base is a file


class BaseSettings(Section):
    """The frozen base model."""

    source: str = Field(
        default="shipped",
        description='Origin of the base: "shipped" (in the package: ten default words, or '
        'sentences), "synthetic" (trained on the synthesizer for this vocabulary, cached), "tuned" '
        "(for recorded sentences: the shipped base, trained further on public speakers, cached) or "
        "the path of a file made by `fedspeech pretrain`.",
    )
    sha256: str = Field(
        default="", description="SHA-256 that the file of a base must have; empty: any file."
    )


class ExamplePrivacySettings(Section):
    """DP-SGD on the phone, which hides single examples in what a phone sends.

    It is priced apart from the epsilons of the phone's user and never added to them.
    """

    noise_multiplier: NotNegative = Field(
        description="Standard deviation of a step's noise over `clip_norm`; 0 clips and promises "
        "nothing."
    )
    clip_norm: Positive = Field(default=1.0, description="L2 bound on the gradient of one example.")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-5, description="Delta of one example, for the whole run."
    )


class TrainingSettings(Section):
    """Adapter training on the phone."""

    optimizer: Literal["sgd", "adam"] = Field(
        default="sgd", description="Local optimizer; its state starts at zero in every round."
    )
    learning_rate: Positive = Field(default=0.1, description="Step size of the local optimizer.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Momentum of SGD; Adam does not read it."
    )
    batch_size: Count = Field(default=16, description="Number of examples in a step.")
    local_epochs: Count = Field(default=2, description="Number of passes over a phone's examples.")
    max_examples: Count = Field(
        default=64,
        description="Largest number of examples of a phone in a round, drawn without replacement; "
        "phones are padded to it.",
    )
    proximal_mu: NotNegative = Field(
        default=0.0, description="FedProx: weight of the squared distance from the global adapter."
    )
    negatives: WholeNumber = Field(
        default=12,
        description="Number of public training negatives on a phone: other words and silence, or "
        "public sentences.",
    )
    example_privacy: ExamplePrivacySettings | None = Field(
        default=None, description="DP-SGD on the phone. Not set: single examples are not hidden."
    )


class ServerOptimizerSettings(Section):
    """The server's step along the decoded mean delta."""

    optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = Field(
        default="fedavg", description="Server optimizer."
    )
    learning_rate: Positive = Field(default=1.0, description="Step size of the server optimizer.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9,
        description="Momentum of FedAvgM; decay of the first moment of FedAdam and FedYogi.",
    )
    beta_2: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.99, description="Decay of the second moment of FedAdam and FedYogi."
    )
    adaptivity: Positive = Field(default=1e-3, description="Tau of FedAdam and FedYogi.")


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


class PrivacySettings(Section):
    """The privacy plan, which prices, sizes, privatizes and decodes."""

    mechanism: Literal["distributed", "skellam", "central", "local", "none"] = Field(
        default="distributed",
        description='Party that adds noise: phones their shares ("distributed", "skellam"), the '
        'server ("central"), each phone enough for itself ("local") or nobody ("none").',
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
    noise_multiplier: NotNegative = Field(
        default=3.0,
        description='Standard deviation of the noise over the clip norm: of the sum, for "local" '
        'of one phone. Not read where mechanism is "none".',
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
    min_cohort_share: Fraction = Field(
        default=0.7,
        description="Minimum cohort size as a share of the expected cohort; below it a round is "
        "abandoned.",
    )
    min_survivors_share: Fraction = Field(
        default=0.67,
        description="Minimum number of reporting phones as a share of the expected cohort; noise "
        "is sized for it.",
    )
    colluders: WholeNumber = Field(
        default=0, description="Number of phones that may work with the adversary."
    )
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.04,
        description="Share of phones that would take part and vanish before they send, each for "
        "itself; the minimum sizes and the graph of a masked sum are made for it, and the "
        "simulator plays it.",
    )
    ring_bits: Literal[16, 24, 32] | None = Field(
        default=None,
        description="Width of the ring, in bits. Not set: the narrowest that rounds well.",
    )
    delta: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Delta of the guarantee. Not set: 1 / (10 x population)."
    )
    epsilon_budget: Annotated[float, Field(gt=0, allow_inf_nan=True)] = Field(
        default=1.0,
        description="Limit on epsilon_release: the round that would exceed it is refused; inf: no "
        'limit. Not read where mechanism is "none".',
    )


class PersonalizationSettings(Section):
    """Adaptation of a held-out phone, and the guard that limits it."""

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


class DecodingSettings(Section):
    """Search for transcripts; not read where words are spotted."""

    beam_width: Count = Field(default=24, description="Number of prefixes kept.")
    language_model_weight: NotNegative = Field(
        default=0.9, description="Weight of the bigram language model of public sentences."
    )
    word_insertion_bonus: NotNegative = Field(
        default=1.0, description="Log-probability added for every word."
    )
    contextual_bias: NotNegative = Field(
        default=2.0,
        description="Log-probability added per character of a name in the phone's contextual "
        "biasing list, where that is used.",
    )
    evaluated_each_round: Count = Field(
        default=3,
        description="Number of sentences of each held-out phone, and of each public validation "
        "speaker, evaluated after every round.",
    )
    examples: WholeNumber = Field(
        default=8, description="Number of transcripts in the report; of synthetic speech only."
    )


class EvaluationSettings(Section):
    """Figures and their segments."""

    min_segment_phones: Count = Field(
        default=5,
        description="Smallest number of phones in a segment; smaller ones are merged or withheld.",
    )
    false_accept_rate: Fraction = Field(
        default=0.05, description="False accept rate at which the false reject rate is stated."
    )
    false_accepts_per_hour: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="False accepts per hour of a stream at which false rejects are stated instead, "
        "as a wake word is judged; without it, clips judge.",
    )
    stream_minutes: Annotated[float, Field(gt=0, le=6000)] = Field(
        default=30.0,
        description="Minutes of synthesized sound without target words in that stream.",
    )


class FaultSettings(Section):
    """Faults of nodes by a schedule from the seed, as shares of the requests."""

    silent: Share = Field(default=0.0, description="Share of requests whose answer is lost.")
    late: Share = Field(default=0.0, description="Share of requests answered after the deadline.")
    twice: Share = Field(default=0.0, description="Share of requests answered twice.")
    fails: Share = Field(default=0.0, description="Share of requests that a node says failed.")
    wrong_round: Share = Field(default=0.0, description="Share of answers that name another round.")
    wrong_shapes: Share = Field(
        default=0.0, description="Share of answers with arrays of other shapes."
    )
    nan: Share = Field(default=0.0, description="Share of answers with arrays of NaN.")
    stale_source: Share = Field(
        default=0.0, description="Share of answers from a node with other code."
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
    faults: FaultSettings = Field(
        default=FaultSettings(), description="Faults of nodes, in any engine."
    )


class TimeSettings(Section):
    """Virtual time: hour of each round, availability and speed of phones."""

    first_round_h: Annotated[float, Field(ge=0, lt=24)] = Field(
        default=2.0, description="Hour of the day at which the first round is called."
    )
    every_h: Positive = Field(
        default=24.0, description="Hours from one round to the next; 24: a round a night."
    )
    deadline_s: Positive = Field(
        default=20.0,
        description="Seconds from the cohort list after which a phone's answer is too late.",
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
    adapter: Literal["head", "affine", "bottleneck", "frame_affine", "frame_bottleneck"] = Field(
        default="head",
        description="Adapter after the frozen encoder: the first three for words, the "
        "others for sentences.",
    )  # fmt: skip
    corpus: Annotated[AnyCorpus, Field(discriminator="kind")] = Field(
        default=EmbeddedCorpus(), description="Speakers and what they say."
    )
    base: BaseSettings = Field(default=BaseSettings(), description="The frozen base model.")
    training: TrainingSettings = Field(
        default=TrainingSettings(), description="Adapter training on the phone."
    )
    server_optimizer: ServerOptimizerSettings = Field(
        default=ServerOptimizerSettings(), description="The server's step."
    )
    privacy: PrivacySettings = Field(default=PrivacySettings(), description="The privacy plan.")
    personalization: PersonalizationSettings = Field(
        default=PersonalizationSettings(), description="Adaptation of held-out phones."
    )
    decoding: DecodingSettings = Field(
        default=DecodingSettings(), description="Search for transcripts."
    )
    evaluation: EvaluationSettings = Field(default=EvaluationSettings(), description="Figures.")
    simulation: Simulation = Field(default=Simulation(), description="Settings of the simulator.")
    time: TimeSettings | None = Field(
        default=None,
        description="Virtual time. Not set: rounds take none, and no phone is away or late.",
    )

    @property
    def task(self) -> Literal["kws", "asr"]:
        """What is recognized, which the corpus decides."""
        return "kws" if isinstance(self.corpus, EmbeddedCorpus | FolderCorpus) else "asr"

    @model_validator(mode="after")
    def _adapter_fits(self) -> Self:
        if isinstance(self.corpus, ProvidedCorpus):
            return self  # its task says what fits
        frames = self.adapter.startswith("frame_")
        if frames != (self.task == "asr"):
            what, other = ("words", "head or affine") if frames else (
                "sentences", "frame_affine or frame_bottleneck"
            )  # fmt: skip
            raise ValueError(f"adapter {self.adapter} does not recognize {what}; take {other}")
        if self.training.example_privacy and self.task == "asr":
            raise ValueError("training.example_privacy clips gradients of words, not of sentences")
        return self

    def with_absolute_paths(self) -> Scenario:
        """The same scenario, whose paths hold wherever it is run from."""
        paths = {
            name: str(Path(named).absolute())
            for name in ("path", "noise", "held_out_speakers")
            if (named := getattr(self.corpus, name, None))
        }
        changes: dict[str, Section] = {"corpus": self.corpus.model_copy(update=paths)}
        if self.base.source not in MADE_BASES:
            source = str(Path(self.base.source).absolute())
            changes["base"] = self.base.model_copy(update={"source": source})
        return self.model_copy(update=changes)
