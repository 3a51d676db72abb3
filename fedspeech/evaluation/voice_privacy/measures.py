"""Every measure by its name: which fields its input has, and which figures come of it.

    MEASURES["eer"].sample({"target": [2.0, 1.0], "nontarget": [0.0, -1.0]})

docs/voice-privacy.md describes each for readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fedspeech.evaluation.voice_privacy import fields as kinds
from fedspeech.evaluation.voice_privacy.agreement import concordance, spearman
from fedspeech.evaluation.voice_privacy.bootstrap import Sample
from fedspeech.evaluation.voice_privacy.distinctiveness import (
    d_diag,
    de_identification,
    gain_of_distinctiveness,
)
from fedspeech.evaluation.voice_privacy.fields import Kind, read_fields
from fedspeech.evaluation.voice_privacy.samples import (
    agreement_sample,
    f0_sample,
    linkability_sample,
    pairs_sample,
    purity_sample,
    ranks_sample,
    retrieval_sample,
    similarities_sample,
    singling_out_sample,
    uar_sample,
    words_sample,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One entry of the list.

    Attributes:
      says: what it tells, and which way is private.
      figures: makes a sample of fields that were read.
      fields: those that must be there, by kind.
      optional: those that may.
    """

    says: str
    figures: Callable[[dict[str, Any]], Sample]
    fields: Mapping[str, Kind]
    optional: Mapping[str, Kind] = field(default_factory=dict)

    def sample(self, given: Mapping[str, Any]) -> Sample:
        """Reads an input.

        Raises:
          ValueError: naming the field and what is wrong with it.
        """
        return self.figures(read_fields(given, self.fields, self.optional))


_PAIRS: Mapping[str, Kind] = {"target": kinds.numbers, "nontarget": kinds.numbers}
_PAIRS_MORE: Mapping[str, Kind] = {
    "target_speakers": kinds.pairs, "nontarget_speakers": kinds.pairs,
}  # fmt: skip
_MATRIX: Mapping[str, Kind] = {
    "scores": kinds.matrix, "probe_speakers": kinds.names, "candidate_speakers": kinds.names,
}  # fmt: skip
_OF: Mapping[str, Kind] = {"speakers": kinds.names}
_ORIGINAL: Mapping[str, Kind] = {"original": kinds.matrix}
_SAID: Mapping[str, Kind] = {"said": kinds.texts, "heard": kinds.texts}
_XY: Mapping[str, Kind] = {"x": kinds.numbers, "y": kinds.numbers}
_SERIES: Mapping[str, Kind] = {"original": kinds.series, "anonymized": kinds.series}

MEASURES: Mapping[str, Measure] = {
    "eer": Measure(
        says="Equal error rate of linking pairs: 0.5 tells nothing, 0 all, 1 is upside down.",
        figures=partial(pairs_sample, (("equal_error_rate", "equal error rate", 0.5, "share"),)),
        fields=_PAIRS, optional=_PAIRS_MORE,
    ),
    "cllr": Measure(
        says="Cost of log-likelihood ratios (natural), in bits: 1 for ratios that say nothing.",
        figures=partial(pairs_sample, (("cllr", "Cllr", 1.0, "number"),)),
        fields=_PAIRS, optional=_PAIRS_MORE,
    ),
    "min-cllr": Measure(
        says="Cllr after the best monotone calibration: near 1 tells nothing, 0 all.",
        figures=partial(pairs_sample, (("min_cllr", "min Cllr", None, "number"),)),
        fields=_PAIRS, optional=_PAIRS_MORE,
    ),
    "d-sys": Measure(
        says="Linkability of score distributions: near 0 tells nothing, 1 all.",
        figures=partial(pairs_sample, (("d_sys", "D_sys", None, "number"),)),
        fields=_PAIRS, optional=_PAIRS_MORE,
    ),
    "zebra": Measure(
        says="Expected disclosure in bits (0 to 0.721) and strongest evidence as a power of ten.",
        figures=partial(pairs_sample, (
            ("disclosure", "expected disclosure", None, "number"),
            ("strongest", "strongest evidence", None, "number"),
        )),
        fields=_PAIRS, optional=_PAIRS_MORE,
    ),
    "rank": Measure(
        says="Mean rank of a speaker over all its tests, median and 1st percentile over speakers; "
        "the second is the k-anonymity factor: 99 of 100 speakers hide among at least so many.",
        figures=ranks_sample, fields=_MATRIX,
    ),
    "linkability": Measure(
        says="Share of probes whose speaker is named first of so many candidates.",
        figures=linkability_sample, fields=_MATRIX, optional={"candidates": kinds.count},
    ),
    "singling-out": Measure(
        says="Share of predicates that hold for exactly one record of N; 0.37 tells nothing.",
        figures=singling_out_sample,
        fields={"scores": kinds.matrix, "calibration": kinds.matrix},
        optional={"attackers": kinds.names},
    ),
    "retrieval": Measure(
        says="Mean average precision of finding a probe's speaker among candidates.",
        figures=retrieval_sample, fields=_MATRIX,
    ),
    "d-diag": Measure(
        says="How far a speaker's similarity to itself stands out: 0 tells nothing.",
        figures=partial(similarities_sample, "D_diag", d_diag, ("original",), None),
        fields={**_ORIGINAL, **_OF},
    ),
    "g-vd": Measure(
        says="Gain of voice distinctiveness in dB: 0 as distinct as before, below 0 voices merge.",
        figures=partial(similarities_sample, "G_VD", gain_of_distinctiveness,
                        ("original", "anonymized"), 0.0),
        fields={**_ORIGINAL, "anonymized": kinds.matrix, **_OF},
    ),
    "deid": Measure(
        says="De-identification: 1 where nothing links a voice to its original, 0 as before.",
        figures=partial(similarities_sample, "DeID", de_identification, ("original", "crossed"),
                        None),
        fields={**_ORIGINAL, "crossed": kinds.matrix, **_OF},
    ),
    "f0-correlation": Measure(
        says="Correlation of F0 over frames voiced in both, mean over utterances: 1 is unchanged.",
        figures=f0_sample, fields=_SERIES, optional=_OF,
    ),
    "spearman": Measure(
        says="Correlation of ranks: 1 is the same order.",
        figures=partial(agreement_sample, "Spearman correlation", spearman),
        fields=_XY, optional=_OF,
    ),
    "ccc": Measure(
        says="Concordance (moments over n): 1 is equal.",
        figures=partial(agreement_sample, "concordance", concordance), fields=_XY, optional=_OF,
    ),
    "uar": Measure(
        says="Unweighted average recall of labels, such as emotion or sex.",
        figures=uar_sample, fields={"truth": kinds.names, "predicted": kinds.names}, optional=_OF,
    ),
    "wer": Measure(
        says="Word error rate: errors of all texts over words said.",
        figures=partial(words_sample, "word error rate", False), fields=_SAID, optional=_OF,
    ),
    "word-accuracy": Measure(
        says="1 minus the word error rate; of single words the share that is right.",
        figures=partial(words_sample, "word accuracy", True), fields=_SAID, optional=_OF,
    ),
    "cluster-purity": Measure(
        says="Share of items with their cluster's most frequent label.",
        figures=purity_sample,
        fields={"clusters": kinds.names, "labels": kinds.names}, optional=_OF,
    ),
}  # fmt: skip
