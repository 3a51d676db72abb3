"""What came of a run: the server's figures of public speakers, the simulation's of every phone.

Held-out phones are scored as base, federated, personalized and control on the same examples, over
all and by segment, beside what chance would have done. What a mistake is, and what else there is to
say of it, the evaluation of the task knows (`simulations.evaluation.task`).

Two stages may ship: the base and the federated adapter. Public validation speakers choose, who are
neither phones nor scored; phones personalize from the stage that was chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation import metric as metrics
from fedspeech.evaluation.metric import (
    Axis,
    Chart,
    Curve,
    Metric,
    Model,
    Section,
    Segment,
)
from fedspeech.evaluation.personalization import (
    accuracy_metrics,
    accuracy_over_phones,
    phone_accuracies,
    regression_metric,
)
from fedspeech.evaluation.segments import cut
from fedspeech.models.decoding import BeamSettings
from fedspeech.seeds import stream
from fedspeech.tasks.asr import Asr
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from fedspeech.training.personalize import Guard, Personalized, personalize
from fedspeech.vectors import FloatVector
from simulations.evaluation.asr import AsrEvaluation
from simulations.evaluation.kws import KwsEvaluation
from simulations.evaluation.task import TaskEvaluation
from simulations.scenario.corpora import SentenceCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.experiment import UnseenPhone, World

PhoneMistakes = list[NDArray[np.int64]]
Found = Mapping[Model, Sequence[Any]]
Cells = Mapping[Segment, tuple[int, ...]]


def task_evaluation(world: World, scenario: Scenario) -> TaskEvaluation[Any]:
    """How the task of a scenario is scored."""
    if isinstance(world.task, Asr):
        settings = scenario.decoding
        return AsrEvaluation(
            adapter=world.adapter,
            alphabet=world.task.labels,
            language_model=world.task.prior,
            beam=BeamSettings(
                width=settings.beam_width,
                prior_weight=settings.language_model_weight,
                word_bonus=settings.word_insertion_bonus,
                list_bonus=settings.contextual_bias,
            ),
            each_round=settings.evaluated_each_round,
            # What people said is shown to nobody.
            examples=settings.examples if isinstance(scenario.corpus, SentenceCorpus) else 0,
            seed=scenario.seed,
        )
    return KwsEvaluation(
        adapter=world.adapter,
        labels=world.task.labels.labels,
        evaluation_negatives=world.strangers,
        guard_negatives=world.held_back,
        false_accept_rate=scenario.evaluation.false_accept_rate,
        non_words=world.task.negatives,
        seed=scenario.seed,
    )


@dataclass(frozen=True, kw_only=True)
class StageChoice:
    """Which stage ships, chosen on public speakers who are neither phones nor scored.

    Attributes:
      measure: name of the error that was counted.
      base: error of the base.
      federated: error of the adapter of the last completed round.
      clips: on how many examples.
      speakers: of how many speakers.
    """

    measure: str
    base: float
    federated: float
    clips: int
    speakers: int

    @property
    def chosen(self) -> Literal["base", "federated"]:
        """The stage with the smaller error; the base unless the federated one is smaller."""
        return "federated" if self.federated < self.base else "base"

    def section(self) -> Section:
        """As results have it."""
        errors: dict[Model, float] = {"base": self.base, "federated": self.federated}
        return Section(
            key=metrics.VALIDATION,
            title="On public validation speakers",
            says="The stage with the smaller error ships; the base, if they are equal.",
            metrics=tuple(
                Metric(
                    name=self.measure,
                    value=error,
                    lower_is_better=True,
                    visibility="public",
                    model=model,
                    phones=self.speakers,
                    counted=self.clips,
                )
                for model, error in errors.items()
            ),
        )


class Evaluator:
    """Scores adapters on the examples of a world.

    Args:
      world: whose phones.
      scenario: how they personalize and how figures are cut.
      task: how answers are scored; None: as the scenario's task is.
    """

    def __init__(
        self, world: World, scenario: Scenario, task: TaskEvaluation[Any] | None = None
    ) -> None:
        """Keeps the base's own adapter to compare with."""
        self._world, self._scenario = world, scenario
        self._task = task or task_evaluation(world, scenario)
        arrays = world.job.load_arrays()
        self._base, self._validation = arrays.initial, arrays.validation

    @property
    def validation_clips(self) -> int:
        """Examples of public validation speakers."""
        return len(self._validation)

    def validation(self, vector: FloatVector) -> dict[str, float]:
        """What the server sees: accuracy and loss on public validation speakers."""
        if not len(self._validation):
            return {}
        clips = self._validation
        if self._task.each_round is not None:
            speakers = len(self._world.partition.validation)
            count = min(len(clips), self._task.each_round * speakers)
            clips = clips.take(np.linspace(0, len(clips) - 1, count).astype(np.int64))
        accuracy, loss = self._task.validation(vector, clips)
        return {"validation_accuracy": accuracy, "validation_loss": loss}

    def held_out_accuracy(self, vector: FloatVector) -> float:
        """What only a simulation sees: mean over held-out phones of one adapter's accuracy."""
        return float(phone_accuracies(self.correct(vector, self._task.each_round)).mean())

    def correct(self, vector: FloatVector, most: int | None = None) -> list[NDArray[np.bool_]]:
        """Per held-out phone, which of its first `most` examples one adapter answers rightly."""
        return [
            self._task.mistakes(vector, phone.judged.take(np.arange(len(phone.judged))[:most])) == 0
            for phone in self._phones
        ]

    def choose(self, federated: FloatVector) -> StageChoice | None:
        """What the server decides: which stage ships, by the error on public validation speakers.

        The federated adapter must make fewer errors than the base to be chosen; with as many, what
        phones contributed has bought nothing.

        Returns:
          None if no public speaker of the phones' own corpus validates: on other speech, such as
          the synthesizer's beside recordings, the stages would be compared in another world.
        """
        if not self._world.validates or not len(self._validation):
            return None
        base, last = (
            self._task.validation_error(vector, self._validation)
            for vector in (self._base, federated)
        )
        if base is None or last is None:
            return None
        return StageChoice(
            measure=self._task.error,
            base=base,
            federated=last,
            clips=len(self._validation),
            speakers=len(self._world.partition.validation),
        )

    def shipped(self, federated: FloatVector, choice: StageChoice | None) -> FloatVector:
        """The adapter of the stage that was chosen; without a choice the federated one."""
        return self._base if choice is not None and choice.chosen == "base" else federated

    def personalization(
        self, federated: FloatVector, choice: StageChoice | None = None
    ) -> dict[str, Any]:
        """Adapts every held-out phone to its own and to another phone's examples, and scores all.

        Args:
          federated: the adapter of the last round.
          choice: the stage from which phones adapt; None: the federated one.

        Returns:
          Fields of `Summary`.
        """
        start = self.shipped(federated, choice)
        settings = self._scenario.personalization
        counts = sorted({*settings.shots, settings.headline_shots})
        own = {count: self._adapt(start, count, control=False) for count in counts}
        control = {count: self._adapt(start, count, control=True) for count in counts}
        cells, withheld = self._cells()
        sections = self._sections(federated, start, own, control, cells)
        if choice is not None:
            sections = [*sections, choice.section()]
        return {
            "sections": tuple(sections),
            "shots": settings.headline_shots,
            "minimum_segment_phones": self._scenario.evaluation.min_segment_phones,
            "segments_withheld": withheld,
        }

    def _sections(
        self,
        federated: FloatVector,
        start: FloatVector,
        own: Mapping[int, Sequence[Personalized]],
        control: Mapping[int, Sequence[Personalized]],
        cells: Cells,
    ) -> list[Section]:
        """Every figure of held-out phones."""
        task, phones = self._task, self._phones
        shots = self._scenario.personalization.headline_shots
        vectors: dict[Model, list[FloatVector]] = {
            "base": [self._base] * len(phones),
            "federated": [federated] * len(phones),
            "personalized": [phone.adapter(start) for phone in own[shots]],
            "control": [phone.adapter(start) for phone in control[shots]],
        }
        mistakes = {model: self._mistakes(found) for model, found in vectors.items()}
        before = mistakes["base" if start is self._base else "federated"]
        unguarded = self._mistakes([phone.adapter(start, guarded=False) for phone in own[shots]])
        scores: dict[Model, list[Any]] = {
            model: [task.score(vector, phone) for vector, phone in zip(found, phones, strict=True)]
            for model, found in vectors.items()
        }
        return [
            *self._errors(scores, cells, self._weakly_labeled(start)),
            self._accuracy(mistakes, cells),
            *task.sections(scores, vectors, phones),
            _regression(mistakes, before, unguarded, cells),
            self._shots(before, start, own, control),
        ]

    def personal(self, shipped: FloatVector, phone_id: str) -> tuple[FloatVector, dict[str, float]]:
        """One held-out phone's own adapter at the headline's shots, and its accuracies.

        Raises:
          KeyError: if there is no such phone.
        """
        names = [unseen.phone.phone_id for unseen in self._phones]
        if phone_id not in names:
            raise KeyError(phone_id)
        index = names.index(phone_id)
        takes = self._scenario.personalization.headline_shots
        own = self._adapt(shipped, takes, control=False)[index].adapter(shipped)
        vectors = {"base": self._base, "federated": shipped, "personalized": own}
        if np.array_equal(shipped, self._base):
            del vectors["federated"]
        judged = self._phones[index].judged
        return own, {
            model: float((self._task.mistakes(vector, judged) == 0).mean())
            for model, vector in vectors.items()
        }

    @property
    def _phones(self) -> tuple[UnseenPhone, ...]:
        return self._world.unseen

    def _mistakes(self, vectors: Sequence[FloatVector]) -> PhoneMistakes:
        """Mistakes in the examples of each held-out phone by its adapter."""
        return [
            self._task.mistakes(vector, phone.judged)
            for vector, phone in zip(vectors, self._phones, strict=True)
        ]

    def _adapt(self, start: FloatVector, takes: int, *, control: bool) -> list[Personalized]:
        """Personalizes every held-out phone with so many shots."""
        phones = self._phones
        givers = _derangement(len(phones), self._scenario.seed) if control else range(len(phones))
        return self._adapted(start, [phones[giver].own[takes] for giver in givers], takes)

    def _adapted(
        self, start: FloatVector, own: Sequence[LocalDataset], takes: int
    ) -> list[Personalized]:
        """Personalizes every held-out phone with some examples of its own, or of another phone."""
        settings, world = self._scenario.personalization, self._world
        public = world.background.take(np.arange(min(settings.negatives, len(world.background))))
        most = max(len(clips) for clips in own) + len(public)
        return personalize(
            world.adapter,
            world.adapter.spec.unflatten(start),
            own,
            public,
            world.held_back,
            LocalTraining(
                learning_rate=settings.learning_rate,
                batch_size=most,
                local_epochs=settings.epochs,
                max_examples=most,
            ),
            Guard(max_false_accept_rise=settings.max_false_accept_rise),
            [
                stream(self._scenario.seed, "personalize", takes, phone.phone.phone_id)
                for phone in world.unseen
            ],
            world.task,
        )

    def _weakly_labeled(self, start: FloatVector) -> list[Any]:
        """Scores of phones that adapted on labels which they have by themselves; often none."""
        shots = self._scenario.personalization.headline_shots
        own = [self._task.weak_labels(start, phone, shots) for phone in self._phones]
        labeled = [clips for clips in own if clips is not None]
        if len(labeled) < len(own):
            return []
        return [
            self._task.score(adapted.adapter(start), phone)
            for adapted, phone in zip(
                self._adapted(start, labeled, shots), self._phones, strict=True
            )
        ]

    def _errors(self, scores: Found, cells: Cells, weak: Sequence[Any]) -> Iterator[Section]:
        """The error by which models are compared, over all and by segment."""
        task = self._task
        found = [task.error_metric(of_model, model) for model, of_model in scores.items()]
        if any(error is None for error in found):
            return
        if weak:
            found.append(task.error_metric(weak, "personalized", variant="from corrections"))
        found += [
            task.error_metric([of_model[i] for i in members], model, segment=segment)
            for segment, members in cells.items()
            for model, of_model in scores.items()
        ]
        yield Section(
            key=metrics.ERROR,
            title=task.error[:1].upper() + task.error[1:],
            on=task.error_on(scores["base"]),
            metrics=tuple(error for error in found if error is not None),
        )

    def _accuracy(self, mistakes: Mapping[Model, PhoneMistakes], cells: Cells) -> Section:
        """Accuracy over all phones, phone by phone and by segment: each phone counts once."""
        everybody: dict[Segment | None, tuple[int, ...]] = {None: tuple(range(len(self._phones)))}
        found = [
            metric
            for segment, members in (everybody | dict(cells)).items()
            for model, of_model in mistakes.items()
            for metric in accuracy_metrics(
                [of_model[i] == 0 for i in members],
                stream(self._scenario.seed, "bootstrap", model),
                name=self._task.accuracy,
                model=model,
                segment=segment,
            )
        ]
        return Section(
            key=metrics.ACCURACY,
            title=self._task.accuracy[:1].upper() + self._task.accuracy[1:],
            says=f"Mean over {len(self._phones)} phones, each counting once. Dot: mean; bar: 95 % "
            "interval, bootstrap over phones; tick: worst decile.",
            metrics=tuple(found),
            charts=(self._by_phone(mistakes),),
        )

    def _by_phone(self, mistakes: Mapping[Model, PhoneMistakes]) -> Chart:
        """Accuracy phone by phone, no identity attached."""
        phones = tuple(float(place) for place in range(1, len(self._phones) + 1))
        return Chart(
            name="Accuracy of each phone",
            says="Phones are numbered and never named.",
            x=Axis(name="phone", unit="number"),
            y=Axis(name=self._task.accuracy),
            curves=tuple(
                Curve(
                    name=model,
                    x=phones,
                    y=tuple(map(float, phone_accuracies([clips == 0 for clips in found]))),
                    model=model,
                )
                for model, found in mistakes.items()
            ),
            counted=tuple(len(phone.judged) for phone in self._phones),
            single_phones=True,
        )

    def _shots(
        self,
        untouched: PhoneMistakes,
        start: FloatVector,
        own: Mapping[int, Sequence[Personalized]],
        control: Mapping[int, Sequence[Personalized]],
    ) -> Section:
        """Accuracy over shots; 0 is the adapter that phones start from."""

        def score(found: Sequence[Personalized], *, guarded: bool = True) -> PhoneMistakes:
            return self._mistakes([phone.adapter(start, guarded=guarded) for phone in found])

        guarded = {count: score(found) for count, found in own.items()}
        lines: tuple[tuple[str, Model, str, dict[int, PhoneMistakes]], ...] = (
            ("own examples", "personalized", "personalized", {0: untouched} | guarded),
            (
                "own examples, no guard",
                "personalized",
                "without_guard",
                {count: score(found, guarded=False) for count, found in own.items()},
            ),
            (
                "control",
                "control",
                "control",
                {count: score(found) for count, found in control.items()},
            ),
        )
        means, tails = [], []
        for name, model, draws, found in lines:
            x = tuple(float(count) for count in found)
            over = [
                accuracy_over_phones(
                    [clips == 0 for clips in mistakes],
                    stream(self._scenario.seed, "bootstrap", draws if count else "federated"),
                )
                for count, mistakes in found.items()
            ]
            means.append(
                Curve(
                    name=name,
                    x=x,
                    y=tuple(one.mean for one in over),
                    model=model,
                    low=tuple(one.low for one in over),
                    high=tuple(one.high for one in over),
                )
            )
            worst = tuple(one.worst_decile for one in over)
            tails.append(Curve(name=name, x=x, y=worst, model=model))
        axis = Axis(name=self._task.shots, unit="number")
        return Section(
            key=metrics.SHOTS,
            title=self._task.shots[:1].upper() + self._task.shots[1:],
            charts=(
                Chart(
                    name=f"Accuracy over {self._task.shots}",
                    says="Accuracy on a phone’s other examples after it adapted with so many. The "
                    "band is the interval of the mean over phones. Control: another phone’s "
                    "examples, as many.",
                    x=axis,
                    y=Axis(name=self._task.accuracy),
                    curves=tuple(means),
                ),
                Chart(
                    name=f"Worst decile over {self._task.shots}",
                    says="Mean accuracy of the tenth of phones that fare worst.",
                    x=axis,
                    y=Axis(name=metrics.WORST_DECILE),
                    curves=tuple(tails),
                ),
            ),
        )

    def _cells(self) -> tuple[Cells, dict[str, int]]:
        """Groups of phones that are large enough, and phones in groups that are not."""
        phones = [unseen.phone for unseen in self._phones]
        minimum = self._scenario.evaluation.min_segment_phones
        cells: dict[Segment, tuple[int, ...]] = {}
        withheld: dict[str, int] = {}
        for name in sorted({name for phone in phones for name in phone.segments}):
            for cell in cut([phone.segments.get(name) for phone in phones], minimum):
                if cell.withheld:
                    withheld[name] = cell.num_phones
                    continue
                heard = None
                if name == "accent" and self._world.heard_accents and not cell.merged:
                    heard = cell.value in self._world.heard_accents
                segment = Segment(
                    name=name, value=cell.value, merged=cell.merged, in_pretraining_data=heard
                )
                cells[segment] = cell.members
        return cells, withheld


def _regression(
    mistakes: Mapping[Model, PhoneMistakes],
    before: PhoneMistakes,
    unguarded: PhoneMistakes,
    cells: Cells,
) -> Section:
    """Phones that make more mistakes than before, beside chance."""
    personalized = mistakes["personalized"]
    return Section(
        key=metrics.REGRESSION,
        title="Phones worse off",
        says="A phone is worse off if it makes more mistakes on its examples than before: wrong "
        "answers, or wrong words of sentences. With few examples, luck alone makes some look so. "
        "Federated is held against the base, the others against what phones personalized from.",
        metrics=(
            regression_metric(mistakes["base"], mistakes["federated"], model="federated"),
            regression_metric(before, personalized, model="personalized"),
            regression_metric(before, unguarded, model="personalized", variant="without guard"),
            regression_metric(before, mistakes["control"], model="control"),
            *(
                regression_metric(
                    [before[i] for i in members],
                    [personalized[i] for i in members],
                    model="personalized",
                    segment=segment,
                )
                for segment, members in cells.items()
            ),
        ),
    )


def _derangement(count: int, seed: int) -> list[int]:
    """Another phone for every phone: one random cycle through all of them."""
    order = stream(seed, "control").permutation(count)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, 1)
    return [int(index) for index in giver]
