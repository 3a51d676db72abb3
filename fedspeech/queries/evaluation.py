"""How well an adapter does on the phones' own labeled clips, as noisy counts by segment.

The server sends the adapter as it sends a model to train on; each phone scores its own clips and
adds two counts to the coordinates of its segment. Phones that are asked are those that federate:
held-out phones join no round, so no noisy count is of them.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Alphabet
from fedspeech.errors import ScenarioError, require
from fedspeech.evaluation.asr import AsrCounts
from fedspeech.evaluation.kws import answers, detections
from fedspeech.limits import Probability
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips, transcribe
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.spending import Purpose
from fedspeech.queries import likeness
from fedspeech.queries.axes import NOWHERE, flat_cells
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.fieller import Fraction
from fedspeech.queries.ratios import Quotient
from fedspeech.queries.truncation import Generators
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

Measure = Literal["accuracy", "false_rejects", "false_accepts", "word_errors"]
COUNTS, VERSION = "counts", "version"
OLD, NEW = "old", "new"
_MEASURED: Mapping[str, str] = {
    "accuracy": "share of clips answered rightly",
    "false_rejects": "share of target clips rejected at the threshold",
    "false_accepts": "share of other clips accepted at the threshold",
    "word_errors": "word errors per word said",
}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Quotient):
    """Counts of one measure of one adapter; of too many clips a phone keeps some at random.

    Attributes:
      adapter: what is evaluated.
      adapter_sha256: of its parameters, float32, in the order of its spec; hex.
      measure: what is counted; words are those of sentences, the two middle ones of keywords.
      threshold: probability from which a keyword counts as detected.
      alphabet: characters of the transcripts; "": one label per clip.
      version_sha256: of the old and the new version, hex, where phones are sent both, one after the
        other, and each scores the one that it serves: that of its attribute `VERSION`.
      frozen: what of the job's arrays clips are scored through, see `on`. No job file holds it.

    Raises:
      ValueError: if the measure is not one of such labels, or a phone has more than one segment.
    """

    adapter: AdapterShape
    adapter_sha256: str = ""
    measure: Measure = "accuracy"
    threshold: Probability = 0.5
    alphabet: str = ""
    version_sha256: tuple[str, ...] = ()
    frozen: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Checks what depends on two values; rebuilds what was read back as plain data."""
        if isinstance(self.adapter, Mapping):
            object.__setattr__(self, "adapter", AdapterShape.from_settings(self.adapter))
        object.__setattr__(self, "version_sha256", tuple(self.version_sha256))
        super().__post_init__()
        by_version = [len(axis) for axis in self.segments if axis.name == VERSION]
        fits = by_version == ([2] if self.version_sha256 else []) and (
            len(self.version_sha256) in (0, 2)
        )
        require(fits, "two versions need one segment of both, and one version none",
                segments=[axis.name for axis in self.segments])  # fmt: skip
        require(self.max_cells == 1, "max_cells must be 1: a phone is in one segment",
                max_cells=self.max_cells)  # fmt: skip
        fits = self.measure == "accuracy" or (self.measure == "word_errors") == bool(self.alphabet)
        rule = (
            "measure must be accuracy or word_errors of sentences, and of keywords no word_errors"
        )
        require(fits, rule, measure=self.measure)

    @property
    def purpose(self) -> Purpose:
        """An adapter is evaluated."""
        return "evaluation"

    @property
    def l2_bound(self) -> float:
        """A clip adds to one of two coordinates; words and their errors are bounded each."""
        return self.max_per_cell * (math.sqrt(2) if self.measure == "word_errors" else 1.0)

    @property
    def width(self) -> int:
        """Coordinates of one segment: two counts, and what says how alike clips of a phone are."""
        return 5 if self._says_likeness else 2

    @property
    def _says_likeness(self) -> bool:
        return self.max_per_cell > 1 and self.measure != "word_errors"

    @property
    def fraction(self) -> Fraction:
        """Of clips a share; of words a rate, which may exceed 1."""
        return Fraction(nested=self.measure != "word_errors", most=self.max_per_cell)

    @property
    def measured(self) -> str:
        """What is counted, in words."""
        return _MEASURED[self.measure]

    def on(self, arrays: PopulationArrays) -> Self:
        """The query with the frozen graph that an inner adapter needs; see `Query.on`."""
        return self if self.adapter.lora is None else replace(self, frozen=arrays.frozen)

    @functools.cached_property
    def built(self) -> Adapter:
        """The adapter."""
        return self.adapter.build(self.frozen)

    def check(self, arrays: PopulationArrays) -> None:
        """Refuses arrays that send another adapter, or whose labels it has no output for."""
        if sha256_of(arrays.initial) != self.adapter_sha256:
            raise ScenarioError(
                f"the job's arrays must send adapter {self.adapter_sha256[:12]}..., got "
                f"{sha256_of(arrays.initial)[:12]}..."
            )
        if arrays.labels.size and arrays.labels.max() >= self.adapter.num_labels:
            raise ScenarioError(f"job labels must be below {self.adapter.num_labels}")

    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """The adapter, which phones are sent."""
        return GlobalState(arrays.initial.astype(np.float64), {COUNTS: np.zeros(self.dimension)})

    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """Keeps the counts beside the adapter."""
        return GlobalState(state.parameters, {COUNTS: np.array(mean)})

    def contributions(
        self, phones: Sequence[LocalDataset], model: FloatVector, rngs: Generators
    ) -> list[FloatVector]:
        """The counts of each phone, at the coordinates of its segment.

        Each phone is scored by itself: a product of more rows may round otherwise, and the answer
        would depend on which phones share a node.
        """
        found = []
        for place, phone in enumerate(phones):
            vector = np.zeros(self.dimension, dtype=np.float32)
            segment = int(flat_cells(self.segments, phone.attributes[np.newaxis])[0])
            if segment != NOWHERE and len(phone):
                served = self._served(phone, model)
                right, wrong = self._counted(phone, served, rngs, place)
                added = vector[self.width * segment : self.width * (segment + 1)]
                added[:2] = right, wrong
                if self._says_likeness:
                    added[2:] = likeness.of_phone(right, wrong, self.max_per_cell, rngs[place])
            found.append(vector)
        return found

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One ratio per segment."""
        self.check_plan(plan)
        sampling, most = Sampling.of(plan), float(self.max_per_cell)
        found = []
        rows = state.moments[COUNTS].reshape(-1, self.width)
        for row, (segment, cell) in zip(rows, self.names, strict=True):
            fraction = self.fraction.of(*row[:2].tolist())
            if self._says_likeness:
                effect = likeness.design_effect(row * sampling.scale_up, most, sampling)
                fraction = replace(fraction, most=effect)
            found.append(fraction.estimate(sampling, of=self.measured, segment=segment, cell=cell))
        return tuple(found)

    def settings(self) -> dict[str, Any]:
        """The fields as plain values, without the frozen graph."""
        settings = super().settings()
        del settings["frozen"]
        return settings

    def _served(self, phone: LocalDataset, model: FloatVector) -> FloatVector:
        """Of what is sent, the adapter that a phone scores."""
        if not self.version_sha256:
            return model
        (place,) = (axis.place for axis in self.segments if axis.name == VERSION)
        size = len(model) // 2
        number = int(phone.attributes[place])
        return model[number * size : (number + 1) * size]

    def _counted(
        self, phone: LocalDataset, model: FloatVector, rngs: Generators, place: int
    ) -> tuple[float, float]:
        """Numerator, and rest of the denominator or the denominator, of one phone."""
        targets = self.adapter.num_labels - NUM_NEGATIVE_LABELS
        counted = np.arange(len(phone))
        if self.measure in ("false_rejects", "false_accepts"):
            counted = np.flatnonzero((phone.labels < targets) == (self.measure == "false_rejects"))
        if self.measure == "word_errors" or len(counted) > self.max_per_cell:
            counted = rngs[place].permutation(counted)
        if self.measure == "word_errors":
            return self._words(phone.take(counted), model)
        clips = phone.take(counted[: self.max_per_cell])
        holds = self._holds(clips, model, targets) if len(clips) else np.zeros(0, dtype=bool)
        return float(holds.sum()), float((~holds).sum())

    def _holds(self, clips: LocalDataset, model: FloatVector, targets: int) -> NDArray[np.bool_]:
        """Whether each clip is of the numerator."""
        if self.alphabet:
            said, heard = self._transcripts(clips, model)
            return np.array([one == other for one, other in zip(said, heard, strict=True)])
        logits = score_clips(self.built, model[np.newaxis], clips.embeddings)[0]
        if self.measure == "accuracy":
            return np.asarray(answers(logits) == clips.labels)
        words, scores = detections(logits)
        detected = scores >= logit(self.threshold)
        if self.measure == "false_accepts":
            return np.asarray(detected)
        return np.asarray(~(detected & (words == clips.labels)))

    def _words(self, clips: LocalDataset, model: FloatVector) -> tuple[float, float]:
        """Errors and words of as many sentences as fit the bound, in the order given."""
        errors = words = 0
        for said, heard in zip(*self._transcripts(clips, model), strict=True):
            one = AsrCounts.of([said], [heard])
            if max(errors + one.word_errors, words + one.words) > self.max_per_cell:
                break
            errors, words = errors + one.word_errors, words + one.words
        return float(errors), float(words)

    def _transcripts(self, clips: LocalDataset, model: FloatVector) -> tuple[list[str], list[str]]:
        """What was said and what the adapter writes, greedily."""
        alphabet = Alphabet(tuple(self.alphabet))
        said = [alphabet.decode(row) for row in clips.labels]
        return said, transcribe(self.built, model, clips.embeddings, alphabet)


def sha256_of(parameters: FloatVector) -> str:
    """Digest of an adapter's parameters, hex."""
    return hashlib.sha256(np.ascontiguousarray(parameters, dtype="<f4").tobytes()).hexdigest()
