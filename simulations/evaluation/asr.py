"""How recognized sentences are judged: word errors, names, with and without a phone's own list.

Every model's transcripts are searched for by beam with the public word prior. CTC hedges where it
is unsure, so the likeliest labels window by window say little of what an adapter has learned.
Transcripts are compared here and go no further: what is handed on is counts, and examples only
where the speech is synthetic.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import MAX_CHARACTERS
from fedspeech.evaluation.asr import AsrCounts, rate_interval, word_errors
from fedspeech.evaluation.segments import cut
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.decoding import BeamDecoder, BeamSettings, greedy
from fedspeech.seeds import stream
from fedspeech.synthesis.names import by_kind
from fedspeech.tasks.asr import Asr
from fedspeech.training.corrections import corrected
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import ctc
from fedspeech.vectors import FloatVector
from simulations.results.records import Example, Headline, How, Interval, Rate, Rates, Search
from simulations.scenario.schema import Scenario, SentenceCorpus
from simulations.setup.experiment import World


class Sentences:
    """Transcripts of clips, one sentence each.

    Attributes:
      measure: the error by which stages are compared, in words.
    """

    measure = "word error rate"

    def __init__(self, world: World, scenario: Scenario) -> None:
        """Keeps whose sentences, and how phones search."""
        assert isinstance(world.task, Asr)
        self._world, self._scenario = world, scenario
        self._alphabet, self._prior = world.task.labels, world.task.prior
        settings = scenario.decoding
        self._beam = BeamSettings(
            width=settings.width,
            prior_weight=settings.prior_weight,
            word_bonus=settings.word_bonus,
            list_bonus=settings.list_bonus,
        )
        # Several figures are of the same transcripts, and a search takes longer than their logits.
        self._written: dict[tuple[str, bytes], list[str]] = {}
        # The prior alone is the same for all phones: one decoder remembers what it says of words.
        self._without_list = BeamDecoder(self._alphabet, self._prior, settings=self._beam)

    def validation(self, vector: FloatVector, clips: LocalDataset) -> dict[str, float]:
        """Share of sentences without an error, and CTC loss per character, on public speakers."""
        logits, windows = self._logits(vector, clips)
        heard = self._searched(logits, windows, ())
        losses = ctc(
            torch.from_numpy(logits), torch.from_numpy(windows), torch.from_numpy(clips.labels)
        )
        right = [a == b for a, b in zip(heard, self._said(clips), strict=True)]
        return {
            "validation_accuracy": float(np.mean(right)),
            "validation_loss": float(losses.mean()),
        }

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """Word error rate on public sentences."""
        heard = self._searched(*self._logits(vector, clips), ())
        return AsrCounts.of(self._said(clips), heard).wer

    def mistakes(
        self, vectors: Sequence[FloatVector], most: int | None = None
    ) -> list[NDArray[np.int64]]:
        """Per unseen phone, the word errors of each of its first `most` judged sentences."""
        return [
            word_errors(self._said(phone.judged)[:most], heard)
            for heard, phone in zip(self._heard(vectors, most), self._world.unseen, strict=True)
        ]

    def figures(self, vectors: Mapping[str, Sequence[FloatVector]]) -> dict[str, Any]:
        """Error rates of every model, over all and by segment; names; examples.

        Args:
          vectors: model to the adapter of each unseen phone.

        Returns:
          Fields of `Summary`.
        """
        phones = self._world.unseen
        heard = {model: self._heard(found) for model, found in vectors.items()}
        counts = {
            model: [
                AsrCounts.of(self._said(phone.judged), texts, phone.contacts)
                for texts, phone in zip(found, phones, strict=True)
            ]
            for model, found in heard.items()
        }
        rates = self._rates(counts, "word_errors", "words")
        return {
            "headline": Headline(
                measure=self.measure,
                **{model: getattr(rates, model).value for model in vectors},
                counted=rates.base.counted,
            ),
            "wer": rates,
            "cer": self._rates(counts, "character_errors", "characters"),
            "wer_segments": self._segments(counts),
            "searches": self._searches(vectors["personalized"], counts["personalized"]),
            "examples": self._examples(heard),
        }

    def weakly_labeled(self, vector: FloatVector, takes: int) -> list[LocalDataset]:
        """Each unseen phone's own sentences with labels that it can have by itself.

        The phone writes with its own list; where a name is wrong its user says which was meant,
        and `corrected` puts it in its place. Other mistakes stay in the label.
        """
        relabeled = []
        for phone in self._world.unseen:
            clips = phone.own[takes]
            logits, windows = self._logits(vector, clips)
            labels = []
            for said, heard in zip(
                self._said(clips), self._searched(logits, windows, phone.contacts), strict=True
            ):
                names = [name for name in said.split() if name in phone.contacts]
                missing = [name for name in names if name not in heard.split()]
                meant = corrected(heard, f"no i said {missing[0]}") if missing else None
                labels.append((meant or heard)[:MAX_CHARACTERS])
            relabeled.append(LocalDataset(clips.embeddings, self._alphabet.encode(labels)))
        return relabeled

    def weak_figures(self, vectors: Sequence[FloatVector]) -> dict[str, Any]:
        """Word error rate of phones that adapted so; a field of `Summary`."""
        counts = [
            AsrCounts.of(self._said(phone.judged), texts, phone.contacts)
            for texts, phone in zip(self._heard(vectors), self._world.unseen, strict=True)
        ]
        return {"wer_from_corrections": self._rate(counts, "corrections", "word_errors", "words")}

    def _rates(self, counts: Mapping[str, Sequence[AsrCounts]], errors: str, totals: str) -> Rates:
        """One rate of every model, with its interval over phones."""
        return Rates(
            **{model: self._rate(found, model, errors, totals) for model, found in counts.items()}
        )

    def _rate(self, counts: Sequence[AsrCounts], model: str, errors: str, totals: str) -> Rate:
        """Errors over totals, summed over phones, with the interval over phones."""
        above = [getattr(phone, errors) for phone in counts]
        below = [getattr(phone, totals) for phone in counts]
        rng = stream(self._scenario.seed, "bootstrap", errors, model)
        low, high = rate_interval(above, below, rng)
        return Rate(
            value=sum(above) / sum(below),
            counted=sum(below),
            interval=Interval(low=low, high=high),
        )

    def _segments(self, counts: Mapping[str, Sequence[AsrCounts]]) -> dict[str, dict[str, Rates]]:
        """Word error rates by accent, device and whatever else is known of the phones."""
        phones = [unseen.phone for unseen in self._world.unseen]
        minimum = self._scenario.evaluation.min_segment_phones
        results: dict[str, dict[str, Rates]] = {}
        for segment in sorted({name for phone in phones for name in phone.segments}):
            for cell in cut([phone.segments.get(segment) for phone in phones], minimum):
                if not cell.withheld:
                    members = {
                        model: [found[i] for i in cell.members] for model, found in counts.items()
                    }
                    rates = self._rates(members, "word_errors", "words")
                    results.setdefault(segment, {})[cell.value] = rates
        return results

    def _searches(
        self, vectors: Sequence[FloatVector], found: Sequence[AsrCounts]
    ) -> tuple[Search, ...]:
        """The same sentences of the personalized phones, answered in three ways."""
        plain, listed = AsrCounts(), AsrCounts()
        for vector, phone in zip(vectors, self._world.unseen, strict=True):
            logits, windows = self._logits(vector, phone.judged)
            said, names = self._said(phone.judged), phone.contacts
            plain += AsrCounts.of(said, greedy(logits, windows, self._alphabet), names)
            if names:
                listed += AsrCounts.of(said, self._searched(logits, windows, names), names)
        ways: dict[How, AsrCounts] = {
            "greedy": plain, "prior": sum(found, AsrCounts()), "prior and list": listed
        }  # fmt: skip
        return tuple(
            Search(
                how=how,
                wer=counts.wer or 0.0,
                sentence_accuracy=counts.sentence_accuracy or 0.0,
                entity_recall=counts.entity_recall,
                false_insertion_rate=counts.false_insertion_rate or 0.0,
                sentences=counts.sentences,
                names=counts.names,
            )
            for how, counts in ways.items()
            if counts.sentences
        )

    def _examples(self, heard: Mapping[str, Sequence[Sequence[str]]]) -> tuple[Example, ...]:
        """A few sentences of different phones; none of them if a person said them."""
        if not isinstance(self._scenario.corpus, SentenceCorpus):
            return ()
        phones = self._world.unseen[: self._scenario.decoding.examples]
        return tuple(
            Example(
                said=self._said(phone.judged)[0],
                **{model: found[place][0] for model, found in heard.items()},
            )
            for place, phone in enumerate(phones)
        )

    def _heard(self, vectors: Sequence[FloatVector], most: int | None = None) -> list[list[str]]:
        """Transcripts of each unseen phone's judged sentences by its adapter and the prior."""
        heard = []
        for vector, phone in zip(vectors, self._world.unseen, strict=True):
            key = (phone.phone.phone_id, vector.tobytes())
            if key in self._written:
                heard.append(self._written[key][:most])
                continue
            clips = phone.judged.take(np.arange(len(phone.judged))[:most])
            heard.append(self._searched(*self._logits(vector, clips), ()))
            if most is None:
                self._written[key] = heard[-1]
        return heard

    def _searched(
        self,
        logits: NDArray[np.float32],
        windows: NDArray[np.int64],
        own_list: Collection[str],
    ) -> list[str]:
        """Transcripts by beam search."""
        search = (
            BeamDecoder(self._alphabet, self._prior, by_kind(own_list), self._beam)
            if own_list
            else self._without_list
        )
        return [search(rows[:count]) for rows, count in zip(logits, windows, strict=True)]

    def _said(self, clips: LocalDataset) -> list[str]:
        """The transcripts behind the labels."""
        return [self._alphabet.decode(row) for row in clips.labels]

    def _logits(
        self, vector: FloatVector, clips: LocalDataset
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores sentences with one adapter: (n, w, c), and the windows of each that count."""
        logits = score_clips(self._world.adapter, vector[np.newaxis], clips.embeddings)[0]
        return logits, present_windows(torch.from_numpy(clips.embeddings)).numpy()
