"""What came of it, by both eyes: the server's on public speakers, the simulator's on every phone.

Phones never trained on are judged as base, federated, personalised and control on the same clips,
over all and by segment, beside what chance would have done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation import personalization
from fedspeech.evaluation.kws import KwsCounts, answers
from fedspeech.evaluation.segments import cut
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from fedspeech.training.personalize import Guard, Personalised, personalize
from fedspeech.vectors import FloatVector
from simulations.build import World
from simulations.results import (
    Accuracies,
    Accuracy,
    Confusion,
    DetCurve,
    FalseAccepts,
    FrrAtFar,
    Interval,
    PhoneAccuracies,
    SegmentResult,
    ShareWorse,
    Take,
)
from simulations.scenario import Scenario

Correct = list[NDArray[np.bool_]]
MODELS = ("base", "federated", "personalised", "control")
DET_POINTS = 200


class Judge:
    """Scores adapters on the clips of a world.

    Args:
      world: whose phones.
      scenario: how they personalise and how figures are cut.
    """

    def __init__(self, world: World, scenario: Scenario) -> None:
        """Keeps the base's own adapter to compare with."""
        self._world, self._scenario = world, scenario
        arrays = world.job.load_arrays()
        self._base, self._validation = arrays.initial, arrays.validation

    @property
    def validation_clips(self) -> int:
        """Clips of public validation speakers."""
        return len(self._validation)

    def validation(self, vector: FloatVector) -> dict[str, float]:
        """The server's eye: accuracy and cross-entropy in nats on public validation speakers."""
        if not len(self._validation):
            return {}
        logits = self._logits(vector, self._validation).astype(np.float64)
        labels = self._validation.labels
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
        return {
            "validation_accuracy": float((answers(logits) == labels).mean()),
            "validation_loss": float(losses.mean()),
        }

    def unseen_accuracy(self, vector: FloatVector) -> float:
        """The simulator's eye: mean over unseen phones of one adapter's accuracy."""
        return float(personalization.phone_accuracies(self.correct(vector)).mean())

    def correct(self, vector: FloatVector) -> Correct:
        """Per unseen phone, whether each judged clip is answered rightly by one adapter."""
        return self._correct([vector] * len(self._world.unseen))

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
        correct = {model: self._correct(vectors[model]) for model in MODELS}
        unguarded = self._correct([p.adapter(federated, guarded=False) for p in own[headline]])
        detection = {model: self._counts(vectors[model]) for model in MODELS}
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
            **self._detection(detection),
        }

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
        judged = self._world.unseen[index].judged
        vectors = {"base": self._base, "federated": federated, "personalised": own}
        return own, {
            model: float((answers(self._logits(vector, judged)) == judged.labels).mean())
            for model, vector in vectors.items()
        }

    def _adapt(self, federated: FloatVector, takes: int, *, control: bool) -> list[Personalised]:
        """Personalises every unseen phone with so many clips per word."""
        settings, world = self._scenario.personalisation, self._world
        phones = world.unseen
        givers = _derangement(len(phones), self._scenario.seed) if control else range(len(phones))
        own = [phones[giver].own[takes] for giver in givers]
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
                for phone in phones
            ],
        )

    def _logits(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.float32]:
        """Scores clips with one adapter: shape (n, c)."""
        logits: NDArray[np.float32] = score_clips(
            self._world.adapter, vector[np.newaxis], clips.embeddings
        )[0]
        return logits

    def _correct(self, vectors: Sequence[FloatVector]) -> Correct:
        """Per unseen phone, whether each judged clip is answered rightly by its adapter."""
        return [
            answers(self._logits(vector, phone.judged)) == phone.judged.labels
            for vector, phone in zip(vectors, self._world.unseen, strict=True)
        ]

    def _counts(self, vectors: Sequence[FloatVector]) -> KwsCounts:
        """Detections over all unseen phones, each heard by its own adapter."""
        total = None
        for vector, phone in zip(vectors, self._world.unseen, strict=True):
            clips = phone.judged.joined(self._world.strangers)
            counts = KwsCounts.of(self._logits(vector, clips), clips.labels)
            total = counts if total is None else total + counts
        assert total is not None
        return total

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
                name: self._accuracy(self._correct(vectors), name)
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

    def _detection(self, counts: Mapping[str, KwsCounts]) -> dict[str, Any]:
        """False rejects against false accepts, and the confusion of the personalised phones."""
        far = self._scenario.evaluation.false_accept_rate
        curves = {}
        for model, found in counts.items():
            rates, rejects = found.curve()
            if len(rates):
                chosen = np.unique(np.linspace(0, len(rates) - 1, DET_POINTS).astype(int))
                curves[model] = DetCurve(
                    far=tuple(map(float, rates[chosen])), frr=tuple(map(float, rejects[chosen]))
                )
        before, after = counts["federated"], counts["personalised"]
        accepts = None
        if before.false_accepts is not None and after.false_accepts is not None:
            accepts = FalseAccepts(
                federated=before.false_accepts,
                personalised=after.false_accepts,
                limit=self._scenario.personalisation.max_false_accept_rise,
                clips=after.num_negatives,
            )
        return {
            "frr_at_far": FrrAtFar(
                far=far, **{model: found.frr_at_far(far) for model, found in counts.items()}
            ),
            "det": curves,
            "false_accepts": accepts,
            "confusion": Confusion(
                model="personalised",
                labels=self._world.vocabulary.labels,
                counts=tuple(tuple(map(int, row)) for row in after.confusion),
            ),
        }


def _share_worse(before: Correct, after: Correct) -> ShareWorse:
    found = asdict(personalization.share_worse(before, after))
    return ShareWorse(**{name: found[name] for name in ShareWorse.model_fields})


def _derangement(count: int, seed: int) -> list[int]:
    """Another phone for every phone: one random cycle through all of them."""
    order = stream(seed, "control").permutation(count)
    giver = np.empty(count, dtype=np.int64)
    giver[order] = np.roll(order, 1)
    return [int(index) for index in giver]
