"""What a run leaves on disk, as frozen types: one row a round, one summary.

Every figure belongs to an eye. The *server's* eye sees messages only; the *simulator's* eye sees
every phone, as nobody does outside a simulation; *public* figures come from public validation
speakers, from the plan, or from accounting. Rows keep the first two apart as `row.server` and
`row.simulator`; `EYES` says it for every field of the summary.

Files are JSON without NaN; an infinite epsilon is the string "Infinity". Where they stand and how
they are written: `simulations.results.run_folder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

from fedspeech.evaluation.personalization import AccuracyOverPhones
from fedspeech.privacy.examples import ExampleGuarantee
from fedspeech.privacy.guarantee import Guarantee

SCHEMA_VERSION = 1

Eye = Literal["public", "server", "simulator"]
Engine = Literal["inprocess", "flower", "deployment"]
How = Literal["greedy", "prior", "prior and list"]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Epsilon = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen piece of a result: unknown fields are refused, NaN is never written."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def _stored(kind: type[Guarantee] | type[ExampleGuarantee]) -> PlainValidator:
    """Reads a guarantee from the record that it makes of itself, unless it is one."""

    def read(value: object) -> object:
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"a guarantee is a table of figures, got {value!r}")
        return kind.from_record(value)

    return PlainValidator(read)


StoredGuarantee = Annotated[Guarantee, _stored(Guarantee), PlainSerializer(Guarantee.to_record)]
StoredExamples = Annotated[
    ExampleGuarantee, _stored(ExampleGuarantee), PlainSerializer(ExampleGuarantee.to_record)
]


class Account(Record):
    """What is promised, and what only a ledger knows of it.

    Attributes:
      guarantee: both epsilons with everything without which an epsilon says nothing.
      noise_notice: `NoiseEntropy.notice`: set when the noise can be reproduced from the seed.
      runs_charged: runs on this population that were charged, this one included.
      epsilon_budget: where `guarantee.epsilon_release` must stop; None: no budget.
    """

    guarantee: StoredGuarantee
    noise_notice: str | None
    runs_charged: Count = 1
    epsilon_budget: Epsilon | None = None

    def account(self) -> Account:
        """Returns the account alone, also from a row or a summary, which carry one."""
        return Account(**{name: getattr(self, name) for name in Account.model_fields})


class ServerRound(Record):
    """What the server sees of a round. All but the validation figures is the operator's own.

    Attributes:
      cohort: phones that were asked or came; None if no message left.
      survivors: phones whose update is in the sum; None if there is no sum.
      wrap_warning: a coordinate of the sum came near the edge of the ring.
      signal_to_noise: estimated L2 norm of the signal in the decoded mean divided by the expected
        norm of its noise; 0: nothing but noise is seen. None without noise.
      accumulated_signal_to_noise: the same of the sum of all decoded means so far.
      clip_norm: the clip norm of this round.
      validation_accuracy: after the round, on public validation speakers.
      validation_loss: cross-entropy in nats, same clips.
    """

    cohort: Count | None = None
    survivors: Count | None = None
    wrap_warning: bool = False
    signal_to_noise: Positive | None = None
    accumulated_signal_to_noise: Positive | None = None
    clip_norm: Positive | None = None
    validation_accuracy: Share | None = None
    validation_loss: Finite | None = None


class RoundTime(Record):
    """A round in virtual time. Seconds count from the call; a phone's, from the roster.

    Attributes:
      called_h: hours from the midnight before the first round to the call.
      called: phones whose coin said yes.
      joined: of these, phones that were there.
      late: of these, phones that missed the deadline.
      phone_s_median: seconds until a phone that joined had sent its last message.
      phone_s_90: seconds within which nine in ten had.
      enough_s: when as many answers had come as the floor on survivors needs; None: never.
      finished_s: when the round was over: at the deadline, or before it if nobody was missing.
    """

    called_h: Positive
    called: Count
    joined: Count
    late: Count
    phone_s_median: Positive | None = None
    phone_s_90: Positive | None = None
    enough_s: Positive | None = None
    finished_s: Positive


class SimulatorRound(Record):
    """What only a simulator can know of a round.

    Attributes:
      mean_training_loss: over the cohort's phones, nats.
      share_clipped: phones whose delta was longer than the clip norm.
      true_wraps: coordinates of the sum that really left the ring.
      unseen_accuracy: after the round, on phones never trained on.
      time: the round in virtual time; None without a time axis.
    """

    mean_training_loss: Finite | None = None
    share_clipped: Share | None = None
    true_wraps: Count | None = None
    unseen_accuracy: Share | None = None
    time: RoundTime | None = None


class RoundRow(Account):
    """One line of metrics.jsonl, with the account as of the end of the round.

    Attributes:
      round: counted from 1.
      attempt: counted from 1; a retry has the same round.
      status: "completed", "abandoned" (nothing usable came of it; it is charged all the same if
        its phones were asked for updates) or "refused" (not started: the budget would not
        cover it).
      reason: why it was abandoned or refused; the operator's own.
      server: the server's eye.
      simulator: the simulator's eye.
      seconds: wall time of the round; the operator's own.
      bytes_up: sent by one phone that took part.
      bytes_down: sent to one phone that took part.
    """

    round: Annotated[int, Field(ge=1)]
    attempt: Annotated[int, Field(ge=1)] = 1
    status: Literal["completed", "abandoned", "refused"]
    reason: str | None = None
    server: ServerRound = ServerRound()
    simulator: SimulatorRound = SimulatorRound()
    seconds: Positive | None = None
    bytes_up: Count
    bytes_down: Count


class Interval(Record):
    """A confidence interval.

    Attributes:
      low: lower end.
      high: upper end.
      level: coverage aimed at.
      method: how it was computed, such as "bootstrap over phones".
    """

    low: Finite
    high: Finite
    level: Share = 0.95
    method: str = "bootstrap over phones"

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must not exceed high, got low={self.low}, high={self.high}")
        return self


class Accuracy(Record):
    """Accuracy over phones: each phone counts once, whatever its number of clips.

    Attributes:
      mean: mean over phones of the share of clips answered correctly.
      worst_decile: mean over the worst tenth of phones.
      phones: how many.
      interval: of the mean.
    """

    mean: Share
    worst_decile: Share
    phones: Annotated[int, Field(ge=1)]
    interval: Interval | None = None

    @classmethod
    def of(cls, found: AccuracyOverPhones) -> Accuracy:
        """As results have it."""
        return cls(
            mean=found.mean,
            worst_decile=found.worst_decile,
            phones=found.phones,
            interval=Interval(low=found.low, high=found.high),
        )


class Accuracies(Record):
    """The four figures that only mean something side by side, on the same phones and clips.

    Attributes:
      base: the shared model before anything federated.
      federated: with the best federated adapter.
      personalized: then adapted on the phone with its own clips, guard included.
      control: the same procedure, guard included, with another phone's clips.
    """

    base: Accuracy
    federated: Accuracy | None = None
    personalized: Accuracy | None = None
    control: Accuracy | None = None


class ShareWorse(Record):
    """Phones that make more mistakes than before, beside what chance alone would give.

    A mistake is a clip that is answered wrongly, or a wrong word of a sentence.

    Attributes:
      share: observed.
      expected_by_chance: if before and after were equally good on every phone.
      phones: how many.
      changed: phones with at least one clip that changed; if there is none, `share` says nothing.
    """

    share: Share
    expected_by_chance: Share
    phones: Annotated[int, Field(ge=1)]
    changed: Count


class StageChoice(Record):
    """Which stage ships, chosen on public speakers who are neither phones nor judged.

    Attributes:
      measure: the error that was counted, in words.
      base: error of the base.
      federated: error of the adapter of the last completed round.
      clips: on how many clips.
      speakers: of how many speakers.
      chosen: the stage with the smaller error; the base unless the federated one is smaller.
    """

    measure: str
    base: Positive
    federated: Positive
    clips: Count
    speakers: Count
    chosen: Literal["base", "federated"]


class Headline(Record):
    """The one error by which stages are compared, for words and for sentences; less is better.

    Attributes:
      measure: what is counted, in words: false rejects at a stated rate of false accepts, or the
        word error rate.
      base: of the shared model before anything federated.
      federated: of the adapter of the last completed round.
      personalized: of phones that adapted with their own clips.
      control: of phones that adapted with another phone's clips.
      counted: clips of target words, or words said.
      non_words: clips without a target word behind the false accepts; 0 for sentences.
      non_words_are: what these clips are, in words.
    """

    measure: str
    base: Positive
    federated: Positive
    personalized: Positive
    control: Positive
    counted: Count
    non_words: Count = 0
    non_words_are: str = ""


class SegmentResult(Record):
    """One cell of a segment.

    Attributes:
      accuracy: of the cell's phones.
      share_worse: personalized against federated.
      merged: values that were too small to stand alone and are pooled here; empty otherwise.
      heard_by_base: whether the base's speakers included this value; None if unknown.
    """

    accuracy: Accuracies
    share_worse: ShareWorse | None = None
    merged: tuple[str, ...] = ()
    heard_by_base: bool | None = None


class Take(Record):
    """Accuracy after a phone gave so many own clips per target word, judged on its other clips.

    Attributes:
      clips_per_word: 0 is the federated adapter untouched.
      personalized: with the local guard.
      without_guard: adapted in any case.
      control: another phone's clips, with the guard.
    """

    clips_per_word: Count
    personalized: Accuracy
    without_guard: Accuracy | None = None
    control: Accuracy | None = None


class FrrAtFar(Record):
    """False rejects of target words at one false accept rate, each model with its own threshold.

    Attributes:
      far: share of unknown and silence clips taken for a target word.
      base: false reject rate.
      federated: false reject rate.
      personalized: false reject rate.
      control: false reject rate.
    """

    far: Share
    base: Share | None = None
    federated: Share | None = None
    personalized: Share | None = None
    control: Share | None = None


class DetCurve(Record):
    """Trade-off of false rejects and false accepts as the threshold moves.

    Attributes:
      far: false accept rates, ascending.
      frr: false reject rates, as many.
    """

    far: tuple[Share, ...]
    frr: tuple[Share, ...]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.far) != len(self.frr):
            raise ValueError(f"far and frr must be as long, got {len(self.far)}, {len(self.frr)}")
        return self


class OperatingPoint(Record):
    """One stage with a threshold that was set on guard negatives, judged on others.

    Attributes:
      threshold: least probability of a target word that counts as detected.
      target_words_found: share of clips of target words in which that very word is detected.
      false_accepts: share of evaluation clips without a target word in which one is detected.
    """

    threshold: Share
    target_words_found: Share
    false_accepts: Share


class Confusion(Record):
    """Counts of clips by what was said and what was answered.

    Attributes:
      model: whose answers: "base", "federated", "personalized" or "control".
      labels: the model's labels.
      counts: row: said; column: answered.
    """

    model: Literal["base", "federated", "personalized", "control"]
    labels: tuple[str, ...]
    counts: tuple[tuple[Count, ...], ...]

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.labels)
        if len(self.counts) != size or any(len(row) != size for row in self.counts):
            raise ValueError(f"counts must be {size} by {size}, one row and column per label")
        return self


class PhoneAccuracies(Record):
    """Accuracy phone by phone, no identity attached, the same phones in the same order.

    Attributes:
      base: one share per phone.
      federated: one share per phone.
      personalized: one share per phone.
      control: one share per phone.
      clips: judged clips per phone.
    """

    base: tuple[Share, ...]
    federated: tuple[Share, ...]
    personalized: tuple[Share, ...]
    control: tuple[Share, ...] = ()
    clips: tuple[Count, ...] = ()

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        lengths = {len(self.base), len(self.federated), len(self.personalized)}
        lengths |= {len(values) for values in (self.control, self.clips) if values}
        if len(lengths) != 1:
            raise ValueError(f"every list must have one entry per phone, got {sorted(lengths)}")
        return self


class Utility(Record):
    """What the server may know of its own success; the operator's own, since noise is beside it.

    Attributes:
      base: accuracy on public validation speakers before the first round.
      federated: after the last completed one.
      clips: judged each time.
      signal_to_noise: of the sum of all decoded means; None without noise.
      by_noise: median accuracy of models that noise of this size alone makes of the base; None
        where the model is not worse than its base.
      collapsed: worse than its base by more than three standard errors, at least half of which
        noise alone costs in nearly every draw (`fedspeech.evaluation.collapse`).
    """

    base: Share
    federated: Share
    clips: Count
    signal_to_noise: Positive | None
    collapsed: bool
    by_noise: Share | None = None


class Rate(Record):
    """Errors over what was said, summed over phones, then divided; above 1 if much is inserted.

    Attributes:
      value: the rate.
      counted: words or characters said.
      interval: of the rate.
    """

    value: Positive
    counted: Count
    interval: Interval | None = None


class Rates(Record):
    """One error rate of the four models, on the same sentences of the same phones.

    Attributes:
      base: the shared model before anything federated.
      federated: with the best federated adapter.
      personalized: then adapted on the phone.
      control: the same procedure with another phone's sentences.
    """

    base: Rate
    federated: Rate
    personalized: Rate
    control: Rate


class Search(Record):
    """One way of finding transcripts, on personalized phones.

    Attributes:
      how: "greedy", "prior" (beam with a public word prior) or "prior and list" (and the phone's
        own names, which it tells nobody).
      wer: word error rate.
      sentence_accuracy: share of sentences without an error.
      entity_recall: share of own names said that were written; None if none was said.
      false_insertion_rate: own names written though not said, per sentence.
      sentences: judged.
      names: own names said in them.
    """

    how: How
    wer: Positive
    sentence_accuracy: Share
    entity_recall: Share | None
    false_insertion_rate: Positive
    sentences: Count
    names: Count


class Example(Record):
    """A sentence that nobody said, for it was synthesized, and what each model made of it."""

    said: str
    base: str
    federated: str
    personalized: str
    control: str


class RunTime(Record):
    """A run in virtual time, over its rounds.

    Attributes:
      days: from the first call to the end of the last round.
      finish_s: median seconds from call to end of a round.
      enough_s: median seconds from call until the floor on survivors was reached; None: never.
      phone_s: median over rounds of the median phone's seconds; None if nobody joined.
      share_away: of the phones whose coin said yes.
      share_late: of those who joined.
      over_selection: mean number of phones that joined over the floor on survivors; 1 is none to
        spare.
    """

    days: Positive
    finish_s: Positive
    enough_s: Positive | None = None
    phone_s: Positive | None = None
    share_away: Share
    share_late: Share
    over_selection: Positive


class ExportedFile(Record):
    """The file for the phone, and how closely it computes what the trained model does.

    Attributes:
      file: name inside the run folder.
      size_bytes: its size.
      parity_max_abs: largest difference of a logit from the trained model.
      parity_limit: what was allowed.
      argmax_agreement: share of inputs with the same answer.
      inputs: how many were compared.
      speech_inputs: how many of them were speech.
      sha256: of the file, hex.
    """

    file: str
    size_bytes: Count
    parity_max_abs: Positive
    parity_limit: Positive
    argmax_agreement: Share
    inputs: Count
    speech_inputs: Count
    sha256: str | None = None


class FamilyFile(Record):
    """One file of the exported family: what passed, or why it was not published.

    Attributes:
      kind: which of the family: "float", "int8", "personal", ...
      file: its name.
      size_bytes: its size; None if it was refused.
      agreement: share of held-out clips, or of inputs, with the trained model's answer.
      accuracy_drop: mean over held-out users, in accuracy (1.0 = 100 points); None if every logit
        was compared instead.
      refused: why it was not published.
    """

    kind: str
    file: str
    size_bytes: Count | None = None
    agreement: Share | None = None
    accuracy_drop: float | None = None
    refused: str | None = None


class Listening(Record):
    """How often the streaming file is wrong while it listens, hop by hop.

    A threshold that lets few false accepts pass is chosen on the very hours that count them, so
    that its rate is the kinder one of the two.

    Attributes:
      file: its name.
      threshold: smoothed probability from which a word is detected.
      keywords: target words said by phones never trained on, each after its left context.
      rejected: how many of them were not found.
      hours: synthesized, without a target word: sentences, rooms, noises.
      false_accepts: detections in them.
      quiet_rate: false accepts per hour that a quieter threshold may have.
      quiet_threshold: the lowest with at most so many; None: none has so few.
      quiet_rejected: keywords that are not found at it.
    """

    file: str
    threshold: Share
    keywords: Count
    rejected: Count
    hours: Positive
    false_accepts: Count
    quiet_rate: Positive = 0.0
    quiet_threshold: Share | None = None
    quiet_rejected: Count | None = None


def exported_fields(
    whole: ExportedFile | None,
    published: Sequence[FamilyFile],
    refused: Mapping[str, str],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """The summary's `export`, `export_family` and `export_refused`.

    Args:
      whole: the float file.
      published: every file that passed.
      refused: why, by kind, of those that did not.
      files: names by kind.
    """
    said = "; ".join(f"{files[kind]}: {why}" for kind, why in refused.items())
    missing = [
        FamilyFile(kind=kind, file=files[kind], refused=why) for kind, why in refused.items()
    ]
    return {
        "export": whole,
        "export_family": (*published, *missing),
        "export_refused": said or None,
    }


class Environment(Record):
    """What the run stood on; no host name, no user, no path.

    Attributes:
      python: version.
      platform: operating system and machine type.
      cpu: model name.
      cores: logical cores.
      torch_threads: threads that torch computed with.
      versions: package to version, installed packages only.
      source_sha256: of the library and both sides of the app, hex; "" if unknown.
      engine: what carried the messages: "inprocess", "flower" or "deployment".
      started_on: date, in UTC; "" if unknown.
    """

    python: str
    platform: str
    cpu: str
    cores: Count
    torch_threads: int | None
    versions: dict[str, str]
    source_sha256: str = ""
    engine: Engine = "inprocess"
    started_on: str = ""


EYES: Mapping[str, Eye] = {
    "headline": "simulator",
    "stage_choice": "public",
    "accuracy": "simulator",
    "share_worse": "simulator",
    "share_worse_federated": "simulator",
    "share_worse_without_guard": "simulator",
    "share_worse_control": "simulator",
    "segments": "simulator",
    "takes": "simulator",
    "frr_at_far": "simulator",
    "det": "simulator",
    "operating_points": "simulator",
    "target_accuracy": "simulator",
    "confusion": "simulator",
    "phone_accuracies": "simulator",
    "utility": "server",
    "wer": "simulator",
    "cer": "simulator",
    "wer_segments": "simulator",
    "wer_from_corrections": "simulator",
    "searches": "simulator",
    "examples": "simulator",
    "guarantee": "public",
    "examples_hidden": "public",
    "bytes_up": "public",
    "bytes_down": "public",
    "bytes_once": "public",
    "recordings_sha256": "simulator",
    "time": "simulator",
    "seconds": "simulator",
    "best_round": "server",
    "rounds": "server",
    "export": "public",
    "export_family": "simulator",
    "listening": "simulator",
}


class Summary(Account):
    """summary.json: what came of the run. What a partial run did not reach is None or empty.

    Attributes:
      schema_version: of this file.
      scenario: name of the scenario.
      corpus: name of the corpus.
      seed: of the run; None only where it is withheld.
      command: what was typed, without machine paths.
      status: "complete" or "partial"; a complete one has all four accuracies.
      stopped: why it stopped early ("interrupted", "budget reached before round 31"), else None.
      rounds: completed rounds.
      rounds_planned: rounds asked for.
      phones: population: every phone that may be asked.
      voices: distinct voices from which the phones were drawn; None: each has a voice of its own.
      participation: probability q of a phone's presence in a round.
      best_round: the round whose adapter phones personalize from and that is exported; 0 is the
        base's own.
      best_chosen_by: "last completed round" or "public validation speakers".
      stage_choice: how it was chosen; None where nobody could choose.
      headline: the one error of all four models, side by side.
      adapter: its kind: "head", "affine" or "bottleneck".
      parameters: number of trained parameters.
      clips_per_word: own clips per target word, or own sentences, behind
        `accuracy.personalized`.
      accuracy: share of all judged clips that are answered rightly, clips without a target word
        counted, on phones never trained on; of sentences the share that is right as a whole.
      target_accuracy: share of clips of target words for which their word is the likeliest target
        word: unknown and silence are not among the answers, so false accepts do not count.
      share_worse: personalized against the stage that phones started from, guard included.
      share_worse_federated: federated against base.
      share_worse_without_guard: as `share_worse`, without the guard.
      share_worse_control: control against the stage that phones started from.
      segments: segment to value to figures; small cells are merged.
      segments_withheld: segment to phones left out because even merged they were too few.
      minimum_segment_phones: under which a cell was merged.
      takes: by own clips per word, ascending.
      frr_at_far: at one stated false accept rate.
      det: model ("base", "federated", ...) to curve.
      operating_points: model to what it does at its threshold; empty for sentences.
      confusion: one matrix.
      phone_accuracies: the distribution over phones.
      utility: by the server's own eye; None if there was no round or nobody to validate on.
      wer: word error rates of sentences; None where words are spotted, like what follows.
      cer: character error rates.
      wer_segments: segment to value to word error rates; cells as in `segments`.
      wer_from_corrections: personalized on what phones wrote themselves, names corrected by their
        users, instead of transcripts.
      searches: the same sentences searched with and without prior and own list.
      examples: sentences of synthetic speech; none of real speech.
      bytes_up: per phone and round.
      bytes_down: per phone and round.
      bytes_once: the base, sent once to a phone.
      recordings_sha256: of who says what in the run, recordings included; by it they are known
        again. "" in a summary of an earlier version.
      time: in virtual time; None without a time axis.
      seconds: stage to wall seconds.
      cpu_seconds: stage to CPU seconds.
      examples_hidden: what one example of a phone is promised, apart from `guarantee` and added to
        none of its figures; None where training promises it nothing.
      export: the exported float file; None if none was made.
      export_family: every exported file, the float one included.
      listening: rates of errors of the streaming file; None if none was made.
      export_refused: why there is none, if it was refused.
      eyes: figure to the eye that sees it, always `EYES`.
    """

    schema_version: Literal[1] = 1
    scenario: str
    corpus: str
    seed: int | None
    command: str = ""
    status: Literal["complete", "partial"]
    stopped: str | None = None
    rounds: Count
    rounds_planned: Count
    phones: Count
    voices: Count | None = None
    participation: Share | None = None
    best_round: Count | None = None
    best_chosen_by: str = "last completed round"
    stage_choice: StageChoice | None = None
    headline: Headline | None = None
    adapter: str = ""
    parameters: Count | None = None
    clips_per_word: Count | None = None
    accuracy: Accuracies | None = None
    target_accuracy: Accuracies | None = None
    share_worse: ShareWorse | None = None
    share_worse_federated: ShareWorse | None = None
    share_worse_without_guard: ShareWorse | None = None
    share_worse_control: ShareWorse | None = None
    segments: dict[str, dict[str, SegmentResult]] = {}
    segments_withheld: dict[str, Count] = {}
    minimum_segment_phones: Count | None = None
    takes: tuple[Take, ...] = ()
    frr_at_far: FrrAtFar | None = None
    det: dict[str, DetCurve] = {}
    operating_points: dict[str, OperatingPoint] = {}
    confusion: Confusion | None = None
    phone_accuracies: PhoneAccuracies | None = None
    utility: Utility | None = None
    wer: Rates | None = None
    cer: Rates | None = None
    wer_segments: dict[str, dict[str, Rates]] = {}
    wer_from_corrections: Rate | None = None
    searches: tuple[Search, ...] = ()
    examples: tuple[Example, ...] = ()
    bytes_up: Count = 0
    bytes_down: Count = 0
    bytes_once: Count = 0
    recordings_sha256: str = ""
    time: RunTime | None = None
    seconds: dict[str, Positive] = {}
    cpu_seconds: dict[str, Positive] = {}
    examples_hidden: StoredExamples | None = None
    export: ExportedFile | None = None
    export_family: tuple[FamilyFile, ...] = ()
    listening: Listening | None = None
    export_refused: str | None = None
    eyes: dict[str, Eye] = Field(default_factory=lambda: dict(EYES))

    @model_validator(mode="after")
    def _complete_means_complete(self) -> Self:
        if self.status == "complete":
            found = self.accuracy
            if not (found and found.federated and found.personalized and found.control):
                raise ValueError(
                    "a complete summary needs accuracy of base, federated, personalized and control"
                )
        return self
