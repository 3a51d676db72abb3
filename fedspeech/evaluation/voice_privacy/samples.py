"""What an input holds, as figures of how often each speaker counts; one function a form of input.

Each takes fields as `fields.read_fields` gives them, and refuses those that do not fit together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.evaluation.asr import word_errors
from fedspeech.evaluation.metric import Unit
from fedspeech.evaluation.voice_privacy.agreement import f0_correlations, purity, recalls
from fedspeech.evaluation.voice_privacy.bootstrap import Figure, Sample, item_weights, owners
from fedspeech.evaluation.voice_privacy.distinctiveness import voice_similarity
from fedspeech.evaluation.voice_privacy.evidence import Scored
from fedspeech.evaluation.voice_privacy.fields import codes, same_length
from fedspeech.evaluation.voice_privacy.identification import Named, singled_out
from fedspeech.evaluation.voice_privacy.linking import random_rank_p1
from fedspeech.seeds import stream

FloatArray = NDArray[np.float64]
Weighted = Callable[[FloatArray], float]


def pairs_sample(
    figures: Sequence[tuple[str, str, float | None, Unit]], given: dict[str, Any]
) -> Sample:
    """Scores of target and of nontarget pairs; figures name methods of `Scored`.

    A figure whose chance is None is biased: chance comes of shuffling which pairs are targets.
    """
    target, nontarget = given["target"], given["nontarget"]
    mine, theirs = given["target_speakers"], given["nontarget_speakers"]
    require((mine is None) == (theirs is None),
            "target_speakers and nontarget_speakers belong together",
            target_speakers=mine is not None, nontarget_speakers=theirs is not None)  # fmt: skip
    same_length(target=target, target_speakers=mine)
    same_length(nontarget=nontarget, nontarget_speakers=theirs)
    scores = np.concatenate([target, nontarget])
    truth = np.arange(len(scores)) < len(target)
    named = [*range(len(scores))] if mine is None else [*mine, *theirs]
    units, owned = owners(named)
    whole = Scored(scores, truth)

    def drawn(name: str, weights: FloatArray) -> float:
        found: float = getattr(whole, name)(item_weights(weights, owned))
        return found

    def shuffled(name: str, rng: np.random.Generator) -> float:
        found: float = getattr(Scored(scores, rng.permutation(truth)), name)(np.ones(len(scores)))
        return found

    return Sample(
        units=units,
        kind="pairs" if mine is None else "speakers",
        figures=tuple(
            Figure(
                name=says, of=partial(drawn, name), unit=unit, by_chance=chance,
                permuted=partial(shuffled, name) if chance is None else None,
                independent=mine is None,
            )
            for name, says, chance, unit in figures
        ),
    )  # fmt: skip


def _items(
    name: str,
    of: Weighted,
    speakers: Sequence[Hashable] | None,
    size: int,
    **more: Any,
) -> Sample:
    """One figure of items, which are drawn by speaker where speakers are named."""
    units, owned = owners([*range(size)] if speakers is None else list(speakers))
    figure = Figure(name=name, of=lambda weights: of(item_weights(weights, owned)), **more)
    kind = "items" if speakers is None else "speakers"
    return Sample(units=units, kind=kind, figures=(figure,))


def _mean(values: FloatArray, weights: FloatArray) -> float:
    """Mean of values that are defined."""
    there = np.isfinite(values)
    total = weights[there].sum()
    return float(weights[there] @ values[there] / total) if total else float("nan")


def ranks_sample(given: dict[str, Any]) -> Sample:
    """Percentiles over speakers of the mean rank of a speaker over all its probes."""
    named = Named(given["scores"], given["probe_speakers"], given["candidate_speakers"])
    names, owned = owners(list(named.probes))
    owner = owned[:, 0]
    ranks = np.bincount(owner, named.ranks()) / np.bincount(owner)
    people = round(float((~named.truth).sum(axis=1).mean())) + 1
    tests = int(np.bincount(owner).min())
    drawn = ((50, (people + 1) / 2), (1, random_rank_p1(people, tests)))

    def percentile(share: int, weights: FloatArray) -> float:
        return float(np.percentile(np.repeat(ranks, weights.astype(np.int64)), share))

    return Sample(
        units=names,
        figures=tuple(
            Figure(name=f"mean rank, p{share}", of=partial(percentile, share), by_chance=chance)
            for share, chance in drawn
        ),
    )


def linkability_sample(given: dict[str, Any]) -> Sample:
    """Share of probes that are linked to their speaker."""
    named = Named(given["scores"], given["probe_speakers"], given["candidate_speakers"])
    most = given["candidates"]
    linked = named.linked(most)
    mine = named.truth.sum(axis=1)
    require(most is None or int(mine.max()) == 1,
            "with candidates, every probe must have one candidate of its speaker",
            most=int(mine.max()))  # fmt: skip
    chance = float((mine / len(named.candidates)).mean()) if most is None else 1 / most
    return _items("linkability", partial(_mean, linked), named.probes, len(linked),
                  unit="share", by_chance=chance)  # fmt: skip


def retrieval_sample(given: dict[str, Any]) -> Sample:
    """Mean average precision of the lists of candidates."""
    named = Named(given["scores"], given["probe_speakers"], given["candidate_speakers"])
    found = named.average_precision()
    # Which order the candidates are in tells nothing of a probe, so a shuffled one is chance.
    rng = stream(0, "retrieval by chance")
    shuffled = [
        Named(rng.permuted(named.scores, axis=1), named.probes, named.candidates) for _ in range(20)
    ]
    chance = float(np.mean([one.average_precision().mean() for one in shuffled]))
    return _items("mean average precision", partial(_mean, found), named.probes, len(found),
                  unit="share", by_chance=chance)  # fmt: skip


def singling_out_sample(given: dict[str, Any]) -> Sample:
    """Share of attackers whose predicate holds for exactly one record."""
    tests, calibration, speakers = given["scores"], given["calibration"], given["attackers"]
    same_length(scores=tests, calibration=calibration, attackers=speakers)
    found, size = singled_out(tests, calibration).astype(np.float64), tests.shape[1]
    return _items("singling out", partial(_mean, found), speakers, len(found), unit="share",
                  by_chance=(1 - 1 / size) ** (size - 1))  # fmt: skip


def similarities_sample(
    name: str,
    of: Callable[..., float],
    matrices: Sequence[str],
    by_chance: float | None,
    given: dict[str, Any],
) -> Sample:
    """A figure of similarity matrices; by_chance None: biased, so that columns are shuffled."""
    speakers = given["speakers"]
    found = []
    for one in matrices:
        require(given[one].shape == (len(speakers),) * 2,
                f"{one} must be square, a row and a column of each of speakers",
                shape=given[one].shape, speakers=len(speakers))  # fmt: skip
        found.append(voice_similarity(given[one], speakers))

    def shuffled(rng: np.random.Generator) -> float:
        """Whose each column of the last is, shuffled: a distance from 0 is never below it."""
        columns = rng.permutation(len(found[-1]))
        return of(*found[:-1], found[-1][:, columns], None)

    figure = Figure(
        name=name,
        of=lambda weights: of(*found, weights),
        by_chance=by_chance,
        permuted=shuffled if by_chance is None else None,
    )
    return Sample(units=list(dict.fromkeys(speakers)), figures=(figure,))


def f0_sample(given: dict[str, Any]) -> Sample:
    """Mean over utterances of the correlation of F0, without those with too few voiced frames."""
    found = f0_correlations(given["original"], given["anonymized"])
    same_length(original=given["original"], speakers=given["speakers"])
    require(bool(np.isfinite(found).any()), "an utterance needs 3 frames that are voiced in both",
            utterances=len(found))  # fmt: skip
    return _items("F0 correlation", partial(_mean, found), given["speakers"], len(found),
                  by_chance=0.0)  # fmt: skip


def agreement_sample(name: str, of: Callable[..., float], given: dict[str, Any]) -> Sample:
    """A figure of two numbers of each item."""
    x, y, speakers = given["x"], given["y"], given["speakers"]
    same_length(x=x, y=y, speakers=speakers)
    return _items(name, partial(of, x, y), speakers, len(x), by_chance=0.0)


def uar_sample(given: dict[str, Any]) -> Sample:
    """Unweighted average recall of labels."""
    truth, predicted, speakers = given["truth"], given["predicted"], given["speakers"]
    same_length(truth=truth, predicted=predicted, speakers=speakers)
    labels = list(dict.fromkeys(truth))
    require(len(labels) > 1, "truth must hold two labels or more", labels=len(labels))
    order = list(dict.fromkeys([*labels, *predicted]))
    both = codes(truth, order), codes(predicted, order)
    return _items("unweighted average recall", partial(recalls, *both), speakers, len(truth),
                  unit="share", by_chance=1 / len(labels))  # fmt: skip


def words_sample(name: str, accuracy: bool, given: dict[str, Any]) -> Sample:
    """Errors of all texts over all words said, or 1 minus that."""
    said, heard, speakers = given["said"], given["heard"], given["speakers"]
    same_length(said=said, heard=heard, speakers=speakers)
    totals = np.array([len(text.split()) for text in said], dtype=np.float64)
    require(bool(totals.all()), "said must hold a word in every text",
            empty=int((totals == 0).sum()))  # fmt: skip
    errors = word_errors(said, heard).astype(np.float64)

    def rate(weights: FloatArray) -> float:
        share = float(weights @ errors / (weights @ totals))
        return 1 - share if accuracy else share

    return _items(name, rate, speakers, len(said), unit="share")


def purity_sample(given: dict[str, Any]) -> Sample:
    """Purity of clusters; labels are shuffled for its chance."""
    clusters, labels, speakers = given["clusters"], given["labels"], given["speakers"]
    same_length(clusters=clusters, labels=labels, speakers=speakers)
    require(len(set(labels)) > 1, "labels must hold two or more", labels=len(set(labels)))
    found, truth = codes(clusters), codes(labels)

    def shuffled(rng: np.random.Generator) -> float:
        return purity(found, rng.permutation(truth), np.ones(len(truth)))

    return _items("cluster purity", partial(purity, found, truth), speakers, len(truth),
                  unit="share", permuted=shuffled, independent=speakers is None)  # fmt: skip
