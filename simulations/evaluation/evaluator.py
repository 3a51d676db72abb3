"""What came of it, by both eyes: the server's on public speakers, the simulator's on every phone.

Phones never trained on are judged as base, federated, personalized and control on the same clips,
over all and by segment, beside what chance would have done. A clip is answered rightly if its word
is, or every word of its sentence; what else there is to say of words or of sentences stands in
`judging_words` and `judging_sentences`.

Two stages may ship: the base and the federated adapter. Public validation speakers choose, who are
neither phones nor judged; phones personalize from the stage that was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation import personalization
from fedspeech.evaluation.segments import cut
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from fedspeech.training.personalize import Guard, Personalized, personalize
from fedspeech.vectors import FloatVector
from simulations.evaluation.asr import Sentences
from simulations.evaluation.kws import Words
from simulations.results.records import (
    Accuracies,
    Accuracy,
    PhoneAccuracies,
    SegmentResult,
    ShareWorse,
    StageChoice,
    Take,
)
from simulations.scenario.schema import Scenario
from simulations.setup.experiment import World

Mistakes = list[NDArray[np.int64]]
MODELS = ("base", "federated", "personalized", "control")


class Judge:
    """Scores adapters on the clips of a world.

    Args:
      world: whose phones.
      scenario: how they personalize and how figures are cut.
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        """Keeps the base's own adapter to compare with."""
        self._world, self._scenario = world, scenario
        self._hearing: Words | Sentences = (
            Words(world, scenario) if scenario.task == "words" else Sentences(world, scenario)
        )
        # Sentences are searched for, which takes longer than the rounds if all are.
        self._each_round = None if scenario.task == "words" else scenario.decoding.judged_each_round
        arrays = world.job.load_arrays()
        self._base, self._validation = arrays.initial, arrays.validation

    @property
    def validation_clips(self) -> int:
        """Clips of public validation speakers."""
        return len(self._validation)

    def validation(self, vector: FloatVector) -> dict[str, float]:
        """The server's eye: accuracy and loss in nats on public validation speakers."""
        if not len(self._validation):
            return {}
        clips = self._validation
        if self._each_round is not None:
            speakers = len(self._world.partition.validation)
            count = min(len(clips), self._each_round * speakers)
            clips = clips.take(np.linspace(0, len(clips) - 1, count).astype(np.int64))
        return self._hearing.validation(vector, clips)

    def unseen_accuracy(self, vector: FloatVector) -> float:
        """The simulator's eye: mean over unseen phones of one adapter's accuracy."""
        found = self.correct(vector, self._each_round)
        return float(personalization.phone_accuracies(found).mean())

    def correct(self, vector: FloatVector, most: int | None = None) -> list[NDArray[np.bool_]]:
        """Per unseen phone, which of its first `most` judged clips one adapter answers rightly."""
        return _right(self._hearing.mistakes([vector] * len(self._world.unseen), most))

    def choose(self, federated: FloatVector) -> StageChoice | None:
        """The server's eye: which stage ships, by the error on public validation speakers.

        The federated adapter must make fewer errors than the base to be chosen; with as many, what
        phones contributed has bought nothing.

        Returns:
          None if no public speaker of the phones' own corpus validates: on other speech, such as
          the synthesizer's beside recordings, the stages would be compared in another world.
        """
        if not self._world.validates or not len(self._validation):
            return None
        errors = [
            self._hearing.validation_error(vector, self._validation)
            for vector in (self._base, federated)
        ]
        if errors[0] is None or errors[1] is None:
            return None
        return StageChoice(
            measure=self._hearing.measure,
            base=errors[0],
            federated=errors[1],
            clips=len(self._validation),
            speakers=len(self._world.partition.validation),
            chosen="federated" if errors[1] < errors[0] else "base",
        )

    def shipped(self, federated: FloatVector, choice: StageChoice | None) -> FloatVector:
        """The adapter of the stage that was chosen; without a choice the federated one."""
        return self._base if choice is not None and choice.chosen == "base" else federated

    def personalization(
        self, federated: FloatVector, choice: StageChoice | None = None
    ) -> dict[str, Any]:
        """Adapts every unseen phone to its own and to another phone's clips, and judges all.

        Args:
          federated: the adapter of the last round.
          choice: the stage from which phones adapt; None: the federated one.

        Returns:
          Fields of `Summary`.
        """
        start = self.shipped(federated, choice)
        headline = self._scenario.personalization.headline_takes
        counts = sorted({*self._scenario.personalization.takes, headline})
        phones = len(self._world.unseen)
        own = {count: self._adapt(start, count, control=False) for count in counts}
        control = {count: self._adapt(start, count, control=True) for count in counts}
        vectors = {
            "base": [self._base] * phones,
            "federated": [federated] * phones,
            "personalized": [phone.adapter(start) for phone in own[headline]],
            "control": [phone.adapter(start) for phone in control[headline]],
        }
        mistakes = {model: self._hearing.mistakes(vectors[model]) for model in MODELS}
        before = mistakes["base" if start is self._base else "federated"]
        unguarded = self._hearing.mistakes([p.adapter(start, guarded=False) for p in own[headline]])
        return {
            "accuracy": self._accuracies(mistakes),
            "share_worse": _share_worse(before, mistakes["personalized"]),
            "share_worse_federated": _share_worse(mistakes["base"], mistakes["federated"]),
            "share_worse_without_guard": _share_worse(before, unguarded),
            "share_worse_control": _share_worse(before, mistakes["control"]),
            "takes": self._takes(before, start, own, control),
            "clips_per_word": headline,
            "minimum_segment_phones": self._scenario.evaluation.min_segment_phones,
            "phone_accuracies": PhoneAccuracies(
                **{
                    model: tuple(map(float, personalization.phone_accuracies(_right(found))))
                    for model, found in mistakes.items()
                },
                clips=tuple(len(phone.judged) for phone in self._world.unseen),
            ),
            **self._segments(mistakes, before),
            **self._hearing.figures(vectors),
            **self._weakly_labeled(start),
        }

    def _weakly_labeled(self, start: FloatVector) -> dict[str, Any]:
        """Sentences again, from what each phone wrote and its user corrected, no transcript."""
        if not isinstance(self._hearing, Sentences) or not self._world.unseen[0].contacts:
            return {}
        headline = self._scenario.personalization.headline_takes
        own = self._hearing.weakly_labeled(start, headline)
        adapted = self._adapted(start, own, headline)
        return self._hearing.weak_figures([phone.adapter(start) for phone in adapted])

    def personal(self, shipped: FloatVector, phone_id: str) -> tuple[FloatVector, dict[str, float]]:
        """One unseen phone's own adapter at the headline's takes, and its accuracies.

        Raises:
          KeyError: if there is no such unseen phone.
        """
        names = [unseen.phone.phone_id for unseen in self._world.unseen]
        if phone_id not in names:
            raise KeyError(phone_id)
        index = names.index(phone_id)
        takes = self._scenario.personalization.headline_takes
        own = self._adapt(shipped, takes, control=False)[index].adapter(shipped)
        vectors = {"base": self._base, "federated": shipped, "personalized": own}
        if np.array_equal(shipped, self._base):
            del vectors["federated"]
        return own, {
            model: float((self._hearing.mistakes([vector] * len(names))[index] == 0).mean())
            for model, vector in vectors.items()
        }

    def _adapt(self, start: FloatVector, takes: int, *, control: bool) -> list[Personalized]:
        """Personalizes every unseen phone with so many clips per word."""
        phones = self._world.unseen
        givers = _derangement(len(phones), self._scenario.seed) if control else range(len(phones))
        return self._adapted(start, [phones[giver].own[takes] for giver in givers], takes)

    def _adapted(
        self, start: FloatVector, own: Sequence[LocalDataset], takes: int
    ) -> list[Personalized]:
        """Personalizes every unseen phone with some clips of its own, or of another phone."""
        settings, world = self._scenario.personalization, self._world
        public = world.background.take(
            np.arange(min(settings.background_clips, len(world.background)))
        )
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

    def _accuracies(self, mistakes: Mapping[str, Mistakes]) -> Accuracies:
        return Accuracies(**{model: self._accuracy(mistakes[model], model) for model in MODELS})

    def _accuracy(self, mistakes: Mistakes, name: str) -> Accuracy:
        found = personalization.accuracy_over_phones(
            _right(mistakes), stream(self._scenario.seed, "bootstrap", name)
        )
        return Accuracy.of(found)

    def _takes(
        self,
        untouched: Mistakes,
        start: FloatVector,
        own: Mapping[int, list[Personalized]],
        control: Mapping[int, list[Personalized]],
    ) -> tuple[Take, ...]:
        """The curve over own clips per word; 0 is the adapter that phones start from."""
        rows = [Take(clips_per_word=0, personalized=self._accuracy(untouched, "federated"))]
        for count in own:
            judged = {
                "personalized": [phone.adapter(start) for phone in own[count]],
                "without_guard": [p.adapter(start, guarded=False) for p in own[count]],
                "control": [phone.adapter(start) for phone in control[count]],
            }
            found = {
                name: self._accuracy(self._hearing.mistakes(vectors), name)
                for name, vectors in judged.items()
            }
            rows.append(Take(clips_per_word=count, **found))
        return tuple(rows)

    def _segments(self, mistakes: Mapping[str, Mistakes], before: Mistakes) -> dict[str, Any]:
        """The same figures by accent, device and whatever else is known of the phones."""
        phones = [unseen.phone for unseen in self._world.unseen]
        minimum = self._scenario.evaluation.min_segment_phones
        results: dict[str, dict[str, SegmentResult]] = {}
        withheld: dict[str, int] = {}
        for segment in sorted({name for phone in phones for name in phone.segments}):
            cells = cut([phone.segments.get(segment) for phone in phones], minimum)
            for cell in cells:
                if cell.withheld:
                    withheld[segment] = cell.num_phones
                    continue
                members = {
                    model: [found[i] for i in cell.members] for model, found in mistakes.items()
                }
                heard = None
                if segment == "accent" and self._world.heard_accents and not cell.merged:
                    heard = cell.value in self._world.heard_accents
                results.setdefault(segment, {})[cell.value] = SegmentResult(
                    accuracy=self._accuracies(members),
                    share_worse=_share_worse(
                        [before[i] for i in cell.members], members["personalized"]
                    ),
                    merged=cell.merged,
                    heard_by_base=heard,
                )
        return {"segments": results, "segments_withheld": withheld}


def _right(mistakes: Mistakes) -> list[NDArray[np.bool_]]:
    """Which clips have no mistake."""
    return [clips == 0 for clips in mistakes]


def _share_worse(before: Mistakes, after: Mistakes) -> ShareWorse:
    found = asdict(personalization.share_worse(before, after))
    return ShareWorse(**{name: found[name] for name in ShareWorse.model_fields})


def _derangement(count: int, seed: int) -> list[int]:
    """Another phone for every phone: one random cycle through all of them."""
    order = stream(seed, "control").permutation(count)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, 1)
    return [int(index) for index in giver]
