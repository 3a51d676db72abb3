"""What the cells of a release are without noise and with every phone: only a simulation knows."""

from __future__ import annotations

import dataclasses

import numpy as np

from fedspeech.evaluation.metric import Metric, Segment
from fedspeech.job import Job
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.evaluation import Evaluation
from fedspeech.queries.event_counts import BLOCK
from fedspeech.vectors import Vector


def truths(
    query: Analytics, job: Job, estimates: tuple[Estimate, ...]
) -> tuple[tuple[Metric | None, ...], tuple[Metric | None, ...]]:
    """The true value of each estimate, within the bound of a phone and without that bound.

    None where an answer without noise has no such cell, or its value says nothing.
    """
    arrays = job.load_arrays()
    bounded = _exact(query, job, job.plan, arrays)
    everything = _unbounded(query, arrays)
    # No sum of the ring is looked at, and such a bound may fit none of whole numbers.
    plan = dataclasses.replace(job.plan, clip_norm=everything.l2_bound, whole=False)
    unbounded = _exact(everything, job, plan, arrays)
    return tuple(
        tuple(_metric(query, one, found.get((one.segment, one.cell))) for one in estimates)
        for found in (bounded, unbounded)
    )  # type: ignore[return-value]


def _unbounded(query: Analytics, arrays: PopulationArrays) -> Analytics:
    """The query with a bound that no phone reaches."""
    if isinstance(query, Evaluation):
        clips = int(np.diff(arrays.offsets).max(initial=1))
        # A transcript has a word per two characters at most, and can be missed whole.
        words = arrays.labels.shape[1] if query.alphabet else 1
        return dataclasses.replace(query, max_per_cell=max(1, clips * words))
    held = int(np.diff(arrays.event_offsets).max(initial=1))
    return query.unbounded(held)


def _exact(
    query: Analytics, job: Job, plan: PrivacyPlan, arrays: PopulationArrays
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], float | None]:
    """Values by segment and cell if everybody answered and nobody added noise."""
    query, state = query.on(arrays), query.initial(arrays)
    scale_up = Sampling.of(plan).scale_up
    for number in range(query.rounds):
        model = state.parameters.astype(np.float32)
        mean = _total(query, job, arrays, number, model) / scale_up
        state = query.update(state, mean)
    return {(one.segment, one.cell): one.value for one in query.estimates(state, plan)}


def _total(
    query: Analytics, job: Job, arrays: PopulationArrays, number: int, model: np.ndarray
) -> Vector:
    """Sum of what all phones add in a round; what each keeps is what it keeps in the release."""
    total, key = np.zeros(query.dimension), job.round_key(number)
    population = job.plan.population
    for start in range(0, population, BLOCK):
        block = range(start, min(start + BLOCK, population))
        rngs = job.phone_rngs(key, block)
        phones = np.arange(block.start, block.stop)
        for vector in query.contributions_of(arrays, phones, model, rngs):
            total += vector
    return total


def _metric(query: Analytics, estimate: Estimate, value: float | None) -> Metric | None:
    """A true value as what it is: visible in a simulation only."""
    if value is None:
        return None
    names = " x ".join(axis.name for axis in query.segments)
    return Metric(
        name=" ".join((estimate.of, *estimate.cell)),
        value=value,
        unit="number",
        visibility="simulation_only",
        segment=Segment(name=names, value=", ".join(estimate.segment)) if names else None,
    )
