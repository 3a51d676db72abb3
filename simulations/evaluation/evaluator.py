"""What came of a run: the server's figures of public speakers, the simulation's of every phone.

Held-out phones are scored as base, federated, personalized and control on the same examples, over
all and by segment, beside what chance would have done. What a mistake is, and what else there is to
say of it, the evaluation of the task knows (`fedspeech.tasks.evaluation`).

Two stages may ship: the base and the federated adapter. Public validation speakers choose, who are
neither phones nor scored; phones personalize from the stage that was chosen. Where phones adapt by
ridge regression every stage is recalibrated on the same public negatives, so that no stage looks
better for accepting more.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.user_rates import UserRates
from fedspeech.device.weak_labels import LabelWeights
from fedspeech.errors import ScenarioError
from fedspeech.evaluation.metric import ERROR, VALIDATION, Metric, Model, Section
from fedspeech.evaluation.over_phones import (
    Cells,
    Mistakes,
    ShotLine,
    accuracy_section,
    cells,
    change_section,
    regression_section,
    shots_section,
)
from fedspeech.evaluation.personalization import phone_accuracies
from fedspeech.seeds import stream
from fedspeech.tasks.evaluation import HeldOutPhone, TaskEvaluation
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.personalize import Guard, Personalized, personalize
from fedspeech.training.ridge import Recalibration, Ridge, adapt_heads
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import FloatVector
from simulations.evaluation.weak_labels import Gains, gains, weak_label_section
from simulations.scenario.schema import Scenario
from simulations.setup.experiment import BuiltExperiment

Found = Mapping[Model, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class StageChoice:
    """Which stage ships, chosen on public speakers who are neither phones nor scored.

    `base` and `federated` are errors, the latter of the adapter of the last completed round, on so
    many clips of so many speakers.
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
            key=VALIDATION,
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
    """Scores adapters on the examples of an experiment."""

    def __init__(
        self, built: BuiltExperiment, scenario: Scenario, task: TaskEvaluation[Any] | None = None
    ) -> None:
        """Keeps the base's own adapter to compare with.

        Raises:
          ScenarioError: if weak labels are asked for, and phones hear more than words.
        """
        self._built, self._scenario = built, scenario
        self._task = task or built.evaluation()
        arrays = built.job.load_arrays()
        self._base, self._validation = arrays.initial, arrays.validation
        if scenario.personalization.weak_labels:
            heard = self._task.heard_words(self._base, self._validation.first(0))
            if heard is None:
                raise ScenarioError("personalization.weak_labels: users react to words alone")

    @property
    def validation_clips(self) -> int:
        """Examples of public validation speakers."""
        return len(self._validation)

    def validation(self, vector: FloatVector) -> dict[str, float]:
        """What the server sees: accuracy and loss on public validation speakers."""
        if not len(self._validation):
            return {}
        clips, vector = self._validation, self.ready(vector)
        if self._task.each_round is not None:
            speakers = len(self._built.partition.validation)
            count = min(len(clips), self._task.each_round * speakers)
            # Clips stand speaker by speaker, so the first ones would be of few speakers.
            clips = clips.take(np.linspace(0, len(clips) - 1, count).astype(np.int64))
        accuracy, loss = self._task.validation(vector, clips)
        return {"validation_accuracy": accuracy, "validation_loss": loss}

    def held_out_accuracy(self, vector: FloatVector) -> float:
        """What only a simulation sees: mean over held-out phones of one adapter's accuracy."""
        correct = self.correct(self.ready(vector), self._task.each_round)
        return float(phone_accuracies(correct).mean())

    def correct(self, vector: FloatVector, most: int | None = None) -> list[NDArray[np.bool_]]:
        """Per held-out phone, which of its first `most` examples one adapter answers rightly."""
        return [
            self._task.mistakes(vector, phone.judged.first(most)) == 0 for phone in self._phones
        ]

    def choose(self, federated: FloatVector) -> StageChoice | None:
        """What the server decides: which stage ships, by the error on public validation speakers.

        The federated adapter must make fewer errors than the base to be chosen; with as many, what
        phones contributed has bought nothing.

        Returns:
          None if no public speaker of the phones' own corpus validates: on other speech, such as
          the synthesizer's beside recordings, the stages would be compared on other speech.
        """
        if not self._built.validates or not len(self._validation):
            return None
        base, last = (
            self._task.validation_error(self.ready(vector), self._validation)
            for vector in (self._base, federated)
        )
        if base is None or last is None:
            return None
        return StageChoice(
            measure=self._task.error,
            base=base,
            federated=last,
            clips=len(self._validation),
            speakers=len(self._built.partition.validation),
        )

    def shipped(self, federated: FloatVector, choice: StageChoice | None) -> FloatVector:
        """The adapter of the stage that was chosen; without a choice the federated one."""
        return self.ready(self._base if _is_base(choice) else federated)

    def ready(self, vector: FloatVector) -> FloatVector:
        """An adapter as it ships: recalibrated, where phones recalibrate what they adapt."""
        if self._scenario.personalization.rule != "ridge":
            return vector
        return self._recalibration.recalibrated(
            self._built.adapter, vector, self._built.guard_negatives
        )

    @property
    def _recalibration(self) -> Recalibration:
        """The task, which must know answers for what is no target.

        Raises:
          ScenarioError: if it does not.
        """
        if not isinstance(task := self._built.task, Recalibration):
            raise ScenarioError(
                f'personalization.rule = "ridge" recalibrates unknown and silence, and the task '
                f'{task.name} has neither; set personalization.rule = "sgd"'
            )
        return task

    def personalization(
        self, federated: FloatVector, choice: StageChoice | None = None
    ) -> dict[str, Any]:
        """Adapts every held-out phone to its own and to another phone's examples, and scores all.

        Phones adapt from the stage that was chosen, else from the federated one. Returns fields of
        `Summary`.
        """
        start = self.shipped(federated, choice)
        settings = self._scenario.personalization
        counts = sorted({*settings.shots, settings.headline_shots})
        own = {count: self._adapt(start, count, control=False) for count in counts}
        control = {count: self._adapt(start, count, control=True) for count in counts}
        groups, withheld = cells(
            [held_out.phone.segments for held_out in self._phones],
            self._scenario.evaluation.min_segment_phones,
            self._built.speakers.pretraining_accents,
        )
        sections = self._sections(
            {"base": self.ready(self._base), "federated": self.ready(federated)},
            "base" if _is_base(choice) else "federated",
            own,
            control,
            groups,
        )
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
        stages: Mapping[Model, FloatVector],
        shipped: Model,
        own: Mapping[int, Sequence[Personalized]],
        control: Mapping[int, Sequence[Personalized]],
        groups: Cells,
    ) -> list[Section]:
        """Every figure of held-out phones; one of the stages is what they adapted from."""
        start = stages[shipped]
        task, phones = self._task, self._phones
        shots = self._scenario.personalization.headline_shots
        vectors: dict[Model, list[FloatVector]] = {
            **{stage: [vector] * len(phones) for stage, vector in stages.items()},
            "personalized": [phone.adapter(start) for phone in own[shots]],
            "control": [phone.adapter(start) for phone in control[shots]],
        }
        mistakes = {model: self._mistakes(found) for model, found in vectors.items()}
        before = mistakes[shipped]
        unguarded = self._mistakes([phone.adapter(start, guarded=False) for phone in own[shots]])
        scores: dict[Model, list[Any]] = {
            model: [task.score(vector, phone) for vector, phone in zip(found, phones, strict=True)]
            for model, found in vectors.items()
        }
        return [
            *self._errors(scores, groups, self._weakly_labeled(start)),
            *self._changes(scores, shipped),
            accuracy_section(mistakes, groups, task.accuracy, self._scenario.seed),
            *task.sections(scores, vectors, phones),
            regression_section(mistakes, before, unguarded, groups),
            shots_section(
                self._shots(before, start, own, control),
                task.accuracy,
                task.shots,
                self._scenario.seed,
            ),
            *self._reacted(start),
        ]

    def _reacted(self, start: FloatVector) -> Iterator[Section]:
        """What phones gain by weak labels, where the scenario asks for it."""
        settings = self._scenario.personalization
        if settings.weak_labels:
            found = self.weak_label_gains(start, settings.retry_weight)
            yield weak_label_section(*found, self._scenario.seed)

    def weak_label_gains(
        self, start: FloatVector, retry_weight: float, *, guarded: bool = True
    ) -> Gains:
        """Accuracies of held-out phones that adapt on their users' reactions to words."""
        settings, phones = self._scenario.personalization, self._phones
        shots = settings.headline_shots
        own = [phone.own[shots] for phone in phones]
        heard = [found for clips in own if (found := self._task.heard_words(start, clips))]

        def accuracies(
            kept: Sequence[NDArray[np.int64]], datasets: Sequence[LocalDataset]
        ) -> NDArray[np.float64]:
            if settings.rule == "ridge":
                copies = [
                    _copies_of(phone.copies.get(shots, mine.first(0)), places, len(mine))
                    for phone, places, mine in zip(phones, kept, own, strict=True)
                ]
                adapted = self._adapted_in_closed_form(start, datasets, copies)
            else:
                adapted = self._adapted(start, datasets, shots)
            vectors = [one.adapter(start, guarded=guarded) for one in adapted]
            pairs = zip(vectors, phones, strict=True)
            return np.array([self.accuracy(vector, phone) for vector, phone in pairs])

        return gains(
            own, [labels for labels, _ in heard], accuracies, words=heard[0][1],
            rates=self._scenario.telemetry or UserRates(),
            weights=LabelWeights(retry=retry_weight), seed=self._scenario.seed,
        )  # fmt: skip

    def personal(self, shipped: FloatVector, phone_id: str) -> tuple[FloatVector, dict[str, float]]:
        """One held-out phone's own adapter at the headline's shots, and its accuracies.

        Raises:
          KeyError: if there is no such phone.
        """
        names = [held_out.phone.phone_id for held_out in self._phones]
        if phone_id not in names:
            raise KeyError(phone_id)
        index = names.index(phone_id)
        shots = self._scenario.personalization.headline_shots
        own = self._adapt(shipped, shots, control=False)[index].adapter(shipped)
        base = self.ready(self._base)
        vectors = {"base": base, "federated": shipped, "personalized": own}
        if np.array_equal(shipped, base):
            del vectors["federated"]
        judged = self._phones[index].judged
        return own, {
            model: float((self._task.mistakes(vector, judged) == 0).mean())
            for model, vector in vectors.items()
        }

    def own_adapters(
        self, shipped: FloatVector, shots: int, *, guarded: bool = True
    ) -> list[FloatVector]:
        """Every held-out phone's own adapter with so many shots, in order, each shape (d,)."""
        own = self._adapt(shipped, shots, control=False)
        return [phone.adapter(shipped, guarded=guarded) for phone in own]

    def accuracy(self, vector: FloatVector, phone: HeldOutPhone) -> float:
        """Share of a phone's judged examples that an adapter answers rightly."""
        return float((self._task.mistakes(vector, phone.judged) == 0).mean())

    @property
    def _phones(self) -> tuple[HeldOutPhone, ...]:
        return self._built.held_out

    def _mistakes(self, vectors: Sequence[FloatVector]) -> Mistakes:
        """Mistakes in the examples of each held-out phone by its adapter."""
        return [
            self._task.mistakes(vector, phone.judged)
            for vector, phone in zip(vectors, self._phones, strict=True)
        ]

    def _adapt(self, start: FloatVector, shots: int, *, control: bool) -> list[Personalized]:
        """Personalizes every held-out phone with so many shots."""
        phones = self._phones
        order = _derangement(len(phones), self._scenario.seed) if control else range(len(phones))
        givers = [phones[giver] for giver in order]
        own = [giver.own[shots] for giver in givers]
        if self._scenario.personalization.rule == "ridge":
            copies = [giver.copies.get(shots, giver.own[shots].first(0)) for giver in givers]
            return self._adapted_in_closed_form(start, own, copies)
        return self._adapted(start, own, shots)

    def _adapted_in_closed_form(
        self, start: FloatVector, own: Sequence[LocalDataset], copies: Sequence[LocalDataset]
    ) -> list[Personalized]:
        """Personalizes every held-out phone by ridge regression."""
        settings, built = self._scenario.personalization, self._built
        return adapt_heads(
            built.adapter,
            start,
            own,
            copies,
            built.guard_negatives,
            Ridge(pull=settings.pull, own_share=settings.own_share),
            self._recalibration,
        )

    def _adapted(
        self, start: FloatVector, own: Sequence[LocalDataset], shots: int
    ) -> list[Personalized]:
        """Personalizes every held-out phone with some examples of its own, or of another phone."""
        settings, built = self._scenario.personalization, self._built
        public = built.training_negatives.first(settings.negatives)
        most = max(len(clips) for clips in own) + len(public)
        return personalize(
            built.adapter,
            built.adapter.spec.unflatten(start),
            own,
            public,
            built.guard_negatives,
            LocalTraining(
                learning_rate=settings.learning_rate,
                # All in one batch, so nothing is drawn: own and control differ only in whose clips
                # they are.
                batch_size=most,
                local_epochs=settings.epochs,
                max_examples=most,
            ),
            Guard(max_false_accept_rise=settings.max_false_accept_rise),
            [
                stream(self._scenario.seed, "personalize", shots, phone.phone.phone_id)
                for phone in built.held_out
            ],
            built.task,
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

    def _errors(self, scores: Found, groups: Cells, weak: Sequence[Any]) -> Iterator[Section]:
        """The error by which models are compared, over all and by segment."""
        task = self._task
        found = [task.error_metric(of_model, model) for model, of_model in scores.items()]
        if any(error is None for error in found):
            return
        if weak:
            found.append(task.error_metric(weak, "personalized", variant="from corrections"))
        found += [
            task.error_metric([of_model[i] for i in members], model, segment=segment)
            for segment, members in groups.items()
            for model, of_model in scores.items()
        ]
        yield Section(
            key=ERROR,
            title=task.error[:1].upper() + task.error[1:],
            on=task.error_on(scores["base"]),
            metrics=tuple(error for error in found if error is not None),
        )

    def _changes(self, scores: Found, shipped: Model) -> Iterator[Section]:
        """How much of a change of the error these phones can tell."""
        rates = {
            model: functools.partial(self._task.error_rates, of_model)
            for model, of_model in scores.items()
        }
        held_against: tuple[Model, ...] = ("base", shipped, "control")
        pairs: dict[tuple[Model, Model], None] = {("federated", "base"): None}
        pairs |= dict.fromkeys(("personalized", model) for model in held_against)
        phones, seed = len(self._phones), self._scenario.seed
        if found := change_section(rates, pairs, self._task.error, phones, seed):
            yield found

    def _shots(
        self,
        untouched: Mistakes,
        start: FloatVector,
        own: Mapping[int, Sequence[Personalized]],
        control: Mapping[int, Sequence[Personalized]],
    ) -> Iterator[ShotLine]:
        """Own examples with and without guard, and those of another phone."""

        def mistakes(
            adapted: Mapping[int, Sequence[Personalized]], *, guarded: bool = True
        ) -> dict[int, Mistakes]:
            return {
                count: self._mistakes([phone.adapter(start, guarded=guarded) for phone in found])
                for count, found in adapted.items()
            }

        yield "own examples", "personalized", "personalized", {0: untouched} | mistakes(own)
        unguarded = mistakes(own, guarded=False)
        yield "own examples, no guard", "personalized", "without_guard", unguarded
        yield "control", "control", "control", mistakes(control)


def _copies_of(copies: LocalDataset, places: NDArray[np.int64], count: int) -> LocalDataset:
    """Altered copies of the clips at some places among so many."""
    each = len(copies) // max(count, 1)
    return copies.take((places[:, np.newaxis] * each + np.arange(each)).ravel())


def _is_base(choice: StageChoice | None) -> bool:
    """Whether public speakers chose the base; without a choice the federated adapter ships."""
    return choice is not None and choice.chosen == "base"


def _derangement(count: int, seed: int) -> list[int]:
    """Another phone for every phone: one random cycle through all of them."""
    # A cycle: a mere shuffle would give, on average, one phone its own clips.
    order = stream(seed, "control").permutation(count)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, 1)
    return [int(index) for index in giver]
