"""One TOML file describes one simulation; an unknown key is an error that names the nearest one.

Sections become objects in `simulations.setup.experiment` and nowhere else; the library never sees a
scenario.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.errors import ScenarioError

Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

MOST_SPOKEN = 100_000  # phones whose every clip is synthesized before the first round


class Section(BaseModel):
    """Frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class EmbeddedCorpus(Section):
    """The synthesizer: speakers are recipes, spoken on demand.

    Attributes:
      federated_phones: population that trains.
      voices: so many distinct voices, each of which speaks twice the clips of one phone; a phone is
        one of them with a random half of its clips (`fedspeech.training.virtual_phones`), and the
        unit of privacy is the phone. Without it each phone has a voice of its own.
      unseen_phones: phones that never train; personalization is judged on them.
      validation_speakers: public speakers that the server may decide on.
      clips_per_phone: mean number of training clips of target words per federated phone.
      unknown_per_phone: clips of other words per federated phone.
      silence_per_phone: clips without speech per federated phone.
      quantity_skew: spread of the log number of target clips over federated phones; 0: all alike.
      takes_per_word: clips per target word of an unseen phone.
      unheard_accents: share of federated and unseen phones whose accent the base never heard.
    """

    kind: Literal["embedded"] = "embedded"
    federated_phones: Count = 3000
    voices: Count | None = None
    unseen_phones: Count = 60
    validation_speakers: Count = 24
    clips_per_phone: Count = 10
    unknown_per_phone: Annotated[int, Field(ge=0)] = 4
    silence_per_phone: Annotated[int, Field(ge=0)] = 1
    quantity_skew: Annotated[float, Field(ge=0)] = 0.4
    takes_per_word: Annotated[int, Field(ge=2)] = 8
    unheard_accents: Annotated[float, Field(ge=0, le=1)] = 0.8

    @model_validator(mode="after")
    def _can_be_spoken(self) -> Self:
        if self.voices is None and self.federated_phones > MOST_SPOKEN:
            raise ValueError(
                f"above {MOST_SPOKEN:,} federated_phones set voices, the number of voices from "
                f"which they are drawn, got federated_phones={self.federated_phones}"
            )
        if self.voices is not None and self.voices > self.federated_phones:
            raise ValueError(
                f"voices must be at most federated_phones={self.federated_phones}, "
                f"got voices={self.voices}"
            )
        return self


class FolderCorpus(Section):
    """Recordings in a folder: a manifest, or the Speech Commands layout.

    Attributes:
      path: the folder.
      federated_speakers: this many speakers, drawn by the seed, federate; those who are neither
        public nor validate are unseen. Without it speakers with at least 30 clips are unseen if the
        corpus has both kinds, else 30 % of the speakers (40 % if nobody is spared for the public).
      unseen_speakers: a file that names who is unseen, one a line, such as an official test list.
      public_speakers: so many, drawn by the seed: their other words ship to every phone, and others
        of them guard. Without it 15 % of the speakers who are not heavy; none of fewer
        than 20.
      validation_speakers: so many likewise; they choose which stage ships. Without it 10 %.
      devices_per_speaker: simulated devices per real speaker; above 1 the unit of privacy is the
        phone, and is called so.
      quantity_skew: spread of the log share of its clips that a federated phone keeps; 0: all.
      noise: a folder of background noise for the silence label; the synthesizer's rooms without.
    """

    kind: Literal["folder"] = "folder"
    path: str
    federated_speakers: Count | None = None
    unseen_speakers: str | None = None
    public_speakers: Annotated[int, Field(ge=0)] | None = None
    validation_speakers: Annotated[int, Field(ge=0)] | None = None
    devices_per_speaker: Count = 1
    quantity_skew: Annotated[float, Field(ge=0)] = 0.0
    noise: str | None = None


class SentenceCorpus(Section):
    """The synthesizer's sentences: digits, codes, commands, names of each phone's own contacts.

    Attributes:
      federated_phones: population that trains.
      unseen_phones: phones that never train; personalization is judged on them.
      validation_speakers: public speakers that the server may decide on.
      sentences_per_phone: training sentences of a federated phone.
      sentences_per_unseen_phone: sentences of an unseen phone, own takes included.
      contacts: names in a phone's own list; half of all names were never said to the base.
      unheard_accents: share of federated and unseen phones whose accent the base never heard.
    """

    kind: Literal["sentences"] = "sentences"
    federated_phones: Count = 3000
    unseen_phones: Count = 60
    validation_speakers: Count = 24
    sentences_per_phone: Count = 4
    sentences_per_unseen_phone: Annotated[int, Field(ge=3)] = 24
    contacts: Annotated[int, Field(ge=2, le=60)] = 12
    unheard_accents: Annotated[float, Field(ge=0, le=1)] = 0.8


class JoinedSentences(Section):
    """Sentences joined from the word clips of one real speaker each, in one room each.

    Attributes:
      path: a folder of recorded words, as for `FolderCorpus`.
      public_speakers: drawn by the seed; the base goes on learning from them.
      validation_speakers: likewise; the server may decide on them.
      federated_speakers: likewise; the rest are unseen.
      words_per_sentence: fewest and most words.
      sentences_per_speaker: as many as a speaker's clips allow, at most this.
    """

    kind: Literal["joined"] = "joined"
    path: str
    public_speakers: Count = 40
    validation_speakers: Count = 10
    federated_speakers: Count = 100
    words_per_sentence: tuple[Count, Count] = (2, 4)
    sentences_per_speaker: Count = 12


class TranscribedCorpus(Section):
    """Real sentences with transcripts: sound, or features of the base's own front end.

    Attributes:
      path: a folder with a manifest that has a column `transcript`.
      public_speakers: drawn by the seed; the base goes on learning from them.
      validation_speakers: likewise; the server may decide on them.
      federated_speakers: likewise; the rest are unseen.
    """

    kind: Literal["transcribed"] = "transcribed"
    path: str
    public_speakers: Count = 24
    validation_speakers: Count = 6
    federated_speakers: Count = 28


MADE_BASES = ("shipped", "synthetic", "tuned")  # every other source of a base is a file


class BaseSettings(Section):
    """Where the frozen base comes from.

    Attributes:
      source: "shipped" (in the package: ten default words, or sentences), "synthetic" (made by the
        synthesizer for this vocabulary, cached), "tuned" (for real sentences: the shipped base,
        taught by the corpus's public speakers, cached) or the path of a file made by `fedspeech
        pretrain`.
      sha256: the digest that a file must have; empty for any.
    """

    source: str = "shipped"
    sha256: str = ""


class ExamplePrivacySettings(Section):
    """DP-SGD on the phone: hides single clips in what a phone sends; `training.dp_sgd` says how.

    It is priced apart from the phone's own epsilons and never added to them.

    Attributes:
      noise_multiplier: stddev of a step's noise over `clip_norm`; 0 clips and promises nothing.
      clip_norm: L2 bound on one clip's gradient.
      delta: of one clip, for the whole run.
    """

    noise_multiplier: Annotated[float, Field(ge=0)]
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5


class TrainingSettings(Section):
    """Adapter training on the phone."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    batch_size: Count = 16
    local_epochs: Count = 2
    max_examples: Count = 64
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    background_clips: Annotated[int, Field(ge=0)] = 12
    example_privacy: ExamplePrivacySettings | None = None


class ServerSettings(Section):
    """What the server does with the decoded mean."""

    optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedyogi"] = "fedavg"
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    adaptivity: Annotated[float, Field(gt=0)] = 1e-3


class AdaptiveClippingSettings(Section):
    """A clip norm that follows a quantile of the deltas' norms; `fedspeech.privacy` says how.

    Attributes:
      target_quantile: share of deltas whose norm should be within the clip norm.
      learning_rate: of the geometric update.
      bit_noise: stddev of the noise on the sum of clip bits, over the expected cohort.
      min_clip_norm: default a hundredth of the first clip norm.
      max_clip_norm: default a hundred times the first clip norm.
    """

    target_quantile: Fraction
    learning_rate: Annotated[float, Field(gt=0)] = 0.2
    bit_noise: Annotated[float, Field(gt=0)] = 0.05
    min_clip_norm: Annotated[float, Field(gt=0)] | None = None
    max_clip_norm: Annotated[float, Field(gt=0)] | None = None


class PrivacySettings(Section):
    """What becomes the `PrivacyPlan`; `fedspeech.privacy.plan` says what each number means.

    Attributes:
      mechanism: who adds noise: phones their shares ("distributed", "skellam"), the server
        ("central"), each phone enough for itself ("local") or nobody ("none").
      noise_multiplier: not read where mechanism is "none".
      participation: "poisson" (coins), "fixed_size" (a random cohort of the expected size) or
        "limited" (turns); the expected cohort is rounded to whole phones for the last two.
      quota: rounds that a phone takes part in at most.
      quota_window: for "limited": rounds after which a phone counts anew.
      cohort_cap: for "poisson": most phones of a round.
      adaptive_clipping: a clip norm that moves; `clip_norm` is the first one.
      min_cohort_share: floor on the roster as a share of the expected cohort (at most 0.75).
      min_survivors_share: floor on the survivors, likewise; noise is sized for it.
      secure_aggregation: "masked" (the protocol, in which phones hide what they send from the
        server) or "ideal" (a plain sum that stands for it: the same bits, faster, for sweeps).
      server: whom the masked protocol is made to withstand: "lying" or "curious".
      colluders: phones that may work with the adversary.
      dropout_rate: share of phones that would take part and vanish before they send, each for
        itself, a third each before the roster, after it and after the shares; two thirds as many
        again vanish later. The model behind the floors and behind what the graph of a masked sum
        is made to lose, and what the simulator plays.
      ring_bits: width of the ring (16, 24 or 32); default the narrowest that rounds well.
      delta: default 1 / (10 x population).
      epsilon_budget: limit on epsilon_release; the round that would exceed it is refused. Not read
        where mechanism is "none".
    """

    mechanism: Literal["distributed", "skellam", "central", "local", "none"] = "distributed"
    secure_aggregation: Literal["masked", "ideal"] = "masked"
    server: Literal["lying", "curious"] = "lying"
    clip_norm: Annotated[float, Field(gt=0)] = 0.1
    noise_multiplier: Annotated[float, Field(ge=0)] = 3.0
    adaptive_clipping: AdaptiveClippingSettings | None = None
    participation: Literal["poisson", "fixed_size", "limited"] = "poisson"
    participation_probability: Fraction = 0.1
    rounds: Annotated[int, Field(ge=1, le=10_000)] = 40
    quota: Count = 15
    quota_window: Count | None = None
    cohort_cap: Count | None = None
    min_cohort_share: Fraction = 0.7
    min_survivors_share: Fraction = 0.67
    colluders: Annotated[int, Field(ge=0)] = 0
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.04
    ring_bits: Literal[16, 24, 32] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    epsilon_budget: Annotated[float, Field(gt=0, allow_inf_nan=True)] = 1.0  # inf: no limit


class PersonalizationSettings(Section):
    """How an unseen phone adapts, and when the guard says no.

    Attributes:
      takes: own clips per target word, or own sentences, to try; all are judged on the same others.
      headline_takes: the number behind the headline.
      learning_rate: of SGD with momentum 0.9, all clips in one batch.
      epochs: passes over them.
      background_clips: public unknown and silence clips, or public sentences, on the phone.
      max_false_accept_rise: how much the guard lets false accepts rise on held-back clips.
    """

    takes: tuple[Count, ...] = (1, 2, 3)
    headline_takes: Count = 2
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    epochs: Count = 20
    background_clips: Count = 24
    max_false_accept_rise: Annotated[float, Field(ge=0, le=1)] = 0.02


class DecodingSettings(Section):
    """How a phone searches for transcripts; not read where words are spotted.

    Attributes:
      width: prefixes kept.
      prior_weight: of the word prior, which is made of public sentences.
      word_bonus: added for every word.
      list_bonus: per character of a name in the phone's own list, where that is used.
      judged_each_round: sentences of each unseen phone, and of each public validation speaker,
        judged after every round.
      examples: transcripts shown in the report; of synthetic speech only, whatever is asked for.
    """

    width: Count = 24
    prior_weight: Annotated[float, Field(ge=0)] = 0.9
    word_bonus: Annotated[float, Field(ge=0)] = 1.0
    list_bonus: Annotated[float, Field(ge=0)] = 2.0
    judged_each_round: Count = 3
    examples: Annotated[int, Field(ge=0)] = 8


class EvaluationSettings(Section):
    """How figures are cut.

    Attributes:
      min_segment_phones: smaller segments are merged or withheld.
      false_accept_rate: at which the false reject rate is stated.
    """

    min_segment_phones: Count = 5
    false_accept_rate: Fraction = 0.05


class FaultSettings(Section):
    """What nodes do wrong, as shares of the requests; `fedspeech.job.Faults` says what each is."""

    silent: Share = 0.0
    late: Share = 0.0
    twice: Share = 0.0
    fails: Share = 0.0
    wrong_round: Share = 0.0
    wrong_shapes: Share = 0.0
    nan: Share = 0.0
    stale_source: Share = 0.0


class Simulation(Section):
    """How the simulator runs it; none of this touches the guarantee.

    Attributes:
      shards: Flower nodes, each hosting a share of the phones; part of the scenario, never of the
        number of workers.
      deadline_s: seconds after which a node that has not answered is silent; 0: never. With one
        worker in process nobody is waited for, and there is none.
      faults: what nodes do wrong, by a schedule from the seed, in any engine.
    """

    shards: Count = 4
    deadline_s: Annotated[float, Field(ge=0)] = 0.0
    faults: FaultSettings = FaultSettings()


AnyCorpus = EmbeddedCorpus | FolderCorpus | SentenceCorpus | JoinedSentences | TranscribedCorpus
_CORPORA: dict[str, type[Section]] = {
    corpus.model_fields["kind"].default: corpus for corpus in get_args(AnyCorpus)
}


class TimeSettings(Section):
    """Virtual time; `fedspeech.device.virtual_time` says who is there and how fast, with sources.

    Attributes:
      first_round_h: hour of the day at which the first round is called.
      every_h: hours from one call to the next: 24 is a round a night.
      deadline_s: seconds from the roster after which a phone's answer is too late.
    """

    first_round_h: Annotated[float, Field(ge=0, lt=24)] = 2.0
    every_h: Annotated[float, Field(gt=0)] = 24.0
    deadline_s: Annotated[float, Field(gt=0)] = 20.0


class Scenario(Section):
    """One simulation, whole."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    seed: int = 1
    noise: Literal["rehearsal", "os"] = "rehearsal"
    # Target words; empty with recordings: the base's words if a base file is named, else the words
    # said most often by unseen phones, at most twelve and two thirds of them.
    vocabulary: tuple[str, ...] = (
        "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
    )  # fmt: skip
    # Words that the built-in lexicon lacks, as ARPAbet strings: {"fedspeech": "F EH D S P IY CH"}.
    lexicon: dict[str, str] = {}
    # After the trunk: the first three for words, the others for sentences.
    adapter: Literal["head", "affine", "bottleneck", "frame_affine", "frame_bottleneck"] = "head"
    corpus: Annotated[AnyCorpus, Field(discriminator="kind")] = EmbeddedCorpus()
    base: BaseSettings = BaseSettings()
    training: TrainingSettings = TrainingSettings()
    server: ServerSettings = ServerSettings()
    privacy: PrivacySettings = PrivacySettings()
    personalization: PersonalizationSettings = PersonalizationSettings()
    decoding: DecodingSettings = DecodingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    simulation: Simulation = Simulation()
    # Without it rounds take no virtual time, and nobody is away or late.
    time: TimeSettings | None = None

    @property
    def task(self) -> Literal["words", "sentences"]:
        """What is recognized, which the corpus decides."""
        return "words" if isinstance(self.corpus, EmbeddedCorpus | FolderCorpus) else "sentences"

    @model_validator(mode="after")
    def _adapter_fits(self) -> Self:
        frames = self.adapter.startswith("frame_")
        if frames != (self.task == "sentences"):
            other = "frame_affine or frame_bottleneck" if not frames else "head or affine"
            raise ValueError(f"adapter {self.adapter} does not recognize {self.task}; take {other}")
        if self.training.example_privacy and self.task == "sentences":
            raise ValueError("training.example_privacy clips gradients of words, not of sentences")
        return self

    def with_absolute_paths(self) -> Scenario:
        """The same scenario, whose paths hold wherever it is run from."""
        paths = {
            name: str(Path(named).absolute())
            for name in ("path", "noise")
            if (named := getattr(self.corpus, name, None))
        }
        changes: dict[str, Section] = {"corpus": self.corpus.model_copy(update=paths)}
        if self.base.source not in MADE_BASES:
            source = str(Path(self.base.source).absolute())
            changes["base"] = self.base.model_copy(update={"source": source})
        return self.model_copy(update=changes)

    def to_toml(self) -> str:
        """The whole scenario as it would be read back; keys without a value as comments."""
        return "".join(_toml(self, ""))


def _toml(section: Section, name: str) -> Iterator[str]:
    """Yields the lines of a section, then those of the tables in it."""
    tables: list[tuple[str, Section | Mapping[str, str]]] = []
    for key, value in section:
        if isinstance(value, Section | Mapping):
            tables.append((f"{name}{key}", value))
        elif value is None:
            yield f"# {key} is not set\n"
        else:
            yield tomli_w.dumps(section.model_dump(mode="json", include={key}))
    for path, table in tables:
        yield f"\n[{path}]\n"
        yield from (
            _toml(table, f"{path}.") if isinstance(table, Section) else [tomli_w.dumps(table)]
        )


def scenario_names() -> list[str]:
    """Names of the scenarios that ship with the package."""
    folder = resources.files("simulations.scenario") / "shipped"
    return sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".toml"))


def read_scenario(name_or_file: str, changes: Iterable[str] = ()) -> Scenario:
    """Reads a shipped scenario by name, or a TOML file, and applies `a.b=value` changes.

    Args:
      name_or_file: "default", or a path that ends in .toml.
      changes: what `--set` was given; values are TOML, bare words are taken as strings.

    Raises:
      ScenarioError: naming the file, the key and the nearest valid one.
    """
    if name_or_file.endswith(".toml"):
        path = Path(name_or_file)
        if not path.is_file():
            raise ScenarioError(f"there is no scenario file {name_or_file}")
        try:
            text = path.read_text(encoding="utf-8-sig")  # editors of Windows begin with a mark
        except UnicodeDecodeError as error:
            raise ScenarioError(f"{name_or_file} must be UTF-8 text: {error}") from error
    elif name_or_file in scenario_names():
        file = resources.files("simulations.scenario") / "shipped" / f"{name_or_file}.toml"
        text = file.read_text(encoding="utf-8")
    else:
        near = difflib.get_close_matches(name_or_file, scenario_names(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ScenarioError(
            f"there is no scenario {name_or_file!r}{hint} "
            f"(shipped: {', '.join(scenario_names())}; or give a file that ends in .toml)"
        )
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name_or_file} is not valid TOML: {error}") from error
    for change in changes:
        _apply(document, change)
    if isinstance(corpus := document.get("corpus"), dict):
        corpus.setdefault("kind", "folder" if "path" in corpus else "embedded")
    try:
        scenario = Scenario.model_validate(document)
        if scenario.vocabulary or scenario.corpus.kind == "embedded":
            Vocabulary(scenario.vocabulary)
    except ValidationError as error:
        raise ScenarioError(_explain(name_or_file, error)) from error
    except ValueError as error:
        raise ScenarioError(f"{name_or_file}: vocabulary: {error}") from error
    return scenario


def _apply(document: dict[str, Any], change: str) -> None:
    """Applies one `a.b=value` to a TOML document."""
    path, equals, text = change.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ScenarioError(f"--set takes section.key=value, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in keys[:-1]:
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ScenarioError(f"--set {path}: {key!r} is a value, not a section")
    document[keys[-1]] = value


def _explain(name: str, error: ValidationError) -> str:
    """Turns pydantic's findings into one line each: path, rule, value, nearest key."""
    lines = []
    for finding in error.errors():
        path = [str(part) for part in finding["loc"] if part not in _CORPORA]
        where = ".".join(path)
        if finding["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path[-1], _keys_beside(path, finding["loc"]), 1)
            hint = f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else ""
            lines.append(f"unknown key {where}{hint}")
        elif not where:  # parts that do not fit each other
            lines.append(finding["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{where}: {finding['msg']}, got {finding.get('input')!r:.60}")
    return f"{name} is not a valid scenario:\n  " + "\n  ".join(lines)


def _keys_beside(path: list[str], location: tuple[int | str, ...]) -> Mapping[str, Any]:
    """Valid keys of the section in which an unknown key stands."""
    model: type[BaseModel] = Scenario
    for part in path[:-1]:
        if part == "corpus":
            model = next((kind for name, kind in _CORPORA.items() if name in location), model)
        else:
            annotation = model.model_fields[part].annotation
            kinds = get_args(annotation) or (annotation,)  # a section may be left out
            model = next(kind for kind in kinds if kind is not None and issubclass(kind, BaseModel))
    return model.model_fields
