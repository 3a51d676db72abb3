"""What came of it, by both eyes: the server's on public speakers, the simulator's on every phone.

Phones never trained on are judged as base, federated, personalised and control on the same clips,
over all and by segment, beside what chance would have done. A clip is answered rightly if its word
is, or every word of its sentence; what else there is to say of words or of sentences stands in
`judging_words` and `judging_sentences`.
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
from fedspeech.training.personalize import Guard, Personalised, personalize
from fedspeech.vectors import FloatVector
from simulations.build import World
from simulations.judging_sentences import Sentences
from simulations.judging_words import Words
from simulations.results import (
    Accuracies,
    Accuracy,
    Interval,
    PhoneAccuracies,
    SegmentResult,
    ShareWorse,
    Take,
)
from simulations.scenario import Scenario

Correct = list[NDArray[np.bool_]]
MODELS = ("base", "federated", "personalised", "control")


class Judge:
    """Scores adapters on the clips of a world.

    Args:
      world: whose phones.
      scenario: how they personalise and how figures are cut.
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
        found = self._hearing.correct([vector] * len(self._world.unseen), self._each_round)
        return float(personalization.phone_accuracies(found).mean())

    def personalisation(self, federated: FloatVector) -> dict[str, Any]:
        """Adapts every unseen phone to its own and to another phone's clips, and judges all.

        Returns:
          Fields of `Summary`.
        """
        headline = self._scenario.personalisation.headline_takes
        counts = sorted({*self._scenario.personalisation.takes, headline})
        phones = len(self._world.unseen)
        own = {count: self._adapt(federated, count, control=False) for count in counts}
        control = {count: self._adapt(federated, count, control=True) for count in counts}
        vectors = {
            "base": [self._base] * phones,
            "federated": [federated] * phones,
            "personalised": [phone.adapter(federated) for phone in own[headline]],
            "control": [phone.adapter(federated) for phone in control[headline]],
        }
        correct = {model: self._hearing.correct(vectors[model]) for model in MODELS}
        unguarded = self._hearing.correct(
            [p.adapter(federated, guarded=False) for p in own[headline]]
        )
        return {
            "accuracy": self._accuracies(correct),
            "share_worse": _share_worse(correct["federated"], correct["personalised"]),
            "share_worse_without_guard": _share_worse(correct["federated"], unguarded),
            "share_worse_control": _share_worse(correct["federated"], correct["control"]),
            "takes": self._takes(correct["federated"], federated, own, control),
            "clips_per_word": headline,
            "minimum_segment_phones": self._scenario.evaluation.min_segment_phones,
            "phone_accuracies": PhoneAccuracies(
                **{
                    model: tuple(map(float, personalization.phone_accuracies(found)))
                    for model, found in correct.items()
                },
                clips=tuple(len(phone.judged) for phone in self._world.unseen),
            ),
            **self._segments(correct),
            **self._hearing.figures(vectors),
            **self._weakly_labelled(federated),
        }

    def _weakly_labelled(self, federated: FloatVector) -> dict[str, Any]:
        """Sentences again, from what each phone wrote and its user corrected, no transcript."""
        if not isinstance(self._hearing, Sentences) or not self._world.unseen[0].contacts:
            return {}
        headline = self._scenario.personalisation.headline_takes
        own = self._hearing.weakly_labelled(federated, headline)
        adapted = self._adapted(federated, own, headline)
        return self._hearing.weak_figures([phone.adapter(federated) for phone in adapted])

    def personal(
        self, federated: FloatVector, phone_id: str
    ) -> tuple[FloatVector, dict[str, float]]:
        """One unseen phone's own adapter at the headline's takes, and its accuracies.

        Raises:
          KeyError: if there is no such unseen phone.
        """
        names = [unseen.phone.phone_id for unseen in self._world.unseen]
        if phone_id not in names:
            raise KeyError(phone_id)
        index = names.index(phone_id)
        takes = self._scenario.personalisation.headline_takes
        own = self._adapt(federated, takes, control=False)[index].adapter(federated)
        vectors = {"base": self._base, "federated": federated, "personalised": own}
        return own, {
            model: float(self._hearing.correct([vector] * len(names))[index].mean())
            for model, vector in vectors.items()
        }

    def _adapt(self, federated: FloatVector, takes: int, *, control: bool) -> list[Personalised]:
        """Personalises every unseen phone with so many clips per word."""
        phones = self._world.unseen
        givers = _derangement(len(phones), self._scenario.seed) if control else range(len(phones))
        return self._adapted(federated, [phones[giver].own[takes] for giver in givers], takes)

    def _adapted(
        self, federated: FloatVector, own: Sequence[LocalDataset], takes: int
    ) -> list[Personalised]:
        """Personalises every unseen phone with some clips of its own, or of another phone."""
        settings, world = self._scenario.personalisation, self._world
        public = world.background.take(
            np.arange(min(settings.background_clips, len(world.background)))
        )
        most = max(len(clips) for clips in own) + len(public)
        return personalize(
            world.adapter,
            world.adapter.spec.unflatten(federated),
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
                stream(self._scenario.seed, "personalise", takes, phone.phone.phone_id)
                for phone in world.unseen
            ],
        )

    def _accuracies(self, correct: Mapping[str, Correct]) -> Accuracies:
        return Accuracies(**{model: self._accuracy(correct[model], model) for model in MODELS})

    def _accuracy(self, correct: Correct, name: str) -> Accuracy:
        found = personalization.accuracy_over_phones(
            correct, stream(self._scenario.seed, "bootstrap", name)
        )
        return Accuracy(
            mean=found.mean,
            worst_decile=found.worst_decile,
            phones=found.phones,
            interval=Interval(low=found.low, high=found.high),
        )

    def _takes(
        self,
        untouched: Correct,
        federated: FloatVector,
        own: Mapping[int, list[Personalised]],
        control: Mapping[int, list[Personalised]],
    ) -> tuple[Take, ...]:
        """The curve over own clips per word; 0 is the federated adapter."""
        rows = [Take(clips_per_word=0, personalised=self._accuracy(untouched, "federated"))]
        for count in own:
            judged = {
                "personalised": [phone.adapter(federated) for phone in own[count]],
                "without_guard": [p.adapter(federated, guarded=False) for p in own[count]],
                "control": [phone.adapter(federated) for phone in control[count]],
            }
            found = {
                name: self._accuracy(self._hearing.correct(vectors), name)
                for name, vectors in judged.items()
            }
            rows.append(Take(clips_per_word=count, **found))
        return tuple(rows)

    def _segments(self, correct: Mapping[str, Correct]) -> dict[str, Any]:
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
                    model: [found[i] for i in cell.members] for model, found in correct.items()
                }
                heard = None
                if segment == "accent" and self._world.heard_accents and not cell.merged:
                    heard = cell.value in self._world.heard_accents
                results.setdefault(segment, {})[cell.value] = SegmentResult(
                    accuracy=self._accuracies(members),
                    share_worse=_share_worse(members["federated"], members["personalised"]),
                    merged=cell.merged,
                    heard_by_base=heard,
                )
        return {"segments": results, "segments_withheld": withheld}


def _share_worse(before: Correct, after: Correct) -> ShareWorse:
    found = asdict(personalization.share_worse(before, after))
    return ShareWorse(**{name: found[name] for name in ShareWorse.model_fields})


def _derangement(count: int, seed: int) -> list[int]:
    """Another phone for every phone: one random cycle through all of them."""
    order = stream(seed, "control").permutation(count)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, 1)
    return [int(index) for index in giver]
