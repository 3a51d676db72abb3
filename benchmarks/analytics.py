"""What queries of counts err and cost: beside OpenDP, for a million phones, and beside masks alone.

    python -m benchmarks.analytics library [--runs 300] [--phones 200]  (needs the package opendp)
    python -m benchmarks.analytics population [--phones 1000000] [--probability 0.05]
    python -m benchmarks.analytics masked [--phones 1000]

`library` asks the same question of the same phones at epsilon 1 and delta 1e-5: root mean square
errors of sum and histogram, in phones, and of the median's rank. `population` runs one round of a
window as a node and the server do, on one core, sums ideal. `masked` compares such a round with its
masked session alone.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, isotonic_regression
from scipy.stats import norm

from clients.client_shard import ClientShard
from clients.state import ShardState
from fedspeech import messages
from fedspeech.job import Job
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.axes import Axis
from fedspeech.queries.histogram import Histogram
from fedspeech.queries.quantile import Quantiles
from fedspeech.queries.quantile_search import best
from fedspeech.round import ServerState, joining, open_sum, privatize_phone, sum_phones
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy, Streams, stream
from fedspeech.vectors import GlobalState

EPSILON, DELTA = 1.0, 1e-5
CELLS, SCORES = 16, 256

Errors = NDArray[np.float64]


def axis(size: int) -> Axis:
    """A column of so many codes."""
    return Axis(name="code", place=1, names=tuple(map(str, range(size))), cells=tuple(range(size)))


def plan_of(query: Analytics, population: int, **changes: Any) -> PrivacyPlan:
    """A plan that asks everybody, unless it is changed."""
    asked = population * changes.get("participation_probability", 1.0)
    settings: dict[str, Any] = {
        "mechanism": "central",
        "dimension": query.dimension,
        "clip_norm": query.l2_bound,
        "noise_multiplier": central_multiplier() * math.sqrt(query.rounds),
        "population": population,
        "participation_probability": 1.0,
        "rounds": query.rounds,
        "max_participations": query.rounds,
        "min_cohort": round(0.75 * asked),
        "min_reporting": round(0.6 * asked),
        "dropout_rate": 0.0,
        "delta": min(DELTA, 1 / (10 * population)),
        "epsilon_budget": 1000.0,
        "secure_aggregation": "ideal",
        "whole": query.whole,
    }
    return PrivacyPlan(**{**settings, **changes})


def central_multiplier() -> float:
    """Smallest noise of one Gaussian release at EPSILON and DELTA (Balle and Wang 2018, Thm. 8)."""

    def excess(z: float) -> float:
        half, shift = 1 / (2 * z), EPSILON * z
        return float(norm.cdf(half - shift) - math.exp(EPSILON) * norm.cdf(-half - shift) - DELTA)

    return float(brentq(excess, 0.5, 50)) * 1.0005  # what a grid of losses adds to epsilon


def distributed_multiplier(query: Analytics, population: int) -> float:
    """Smallest noise of phones at EPSILON by the plan's own price, to a thousandth."""
    low, high = central_multiplier(), 10 * central_multiplier()
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        plan = plan_of(query, population, mechanism="distributed", noise_multiplier=middle)
        if plan.guarantee(query.rounds).epsilon_release <= EPSILON:
            high = middle
        else:
            low = middle
    return high


def answer(query: Analytics, plan: PrivacyPlan, codes: NDArray[np.int16], run: int) -> GlobalState:
    """The state after all rounds; phone p holds one event of code codes[p], and nobody is away."""
    entropy, state = NoiseEntropy.seeded(run, plan.fingerprint), query.initial(None)  # type: ignore[arg-type]
    rows = np.stack([np.zeros_like(codes), codes], axis=1)
    lengths, attributes = np.ones(len(codes), np.int64), np.zeros((len(codes), 1), np.int16)
    for number in range(query.rounds):
        rotation = stream(run, "rotation", number).bytes(16)
        rngs = Streams(lambda phone: stream(0, "own", phone), range(len(codes)))
        model = state.parameters.astype(np.float32)
        total = ring_sum(
            [
                plan.privatize(
                    vector,
                    rotation_seed=rotation,
                    rounding=entropy.keystream("rounding", number, phone),
                    noise=entropy.keystream("noise", number, phone),
                )
                for phone, vector in enumerate(
                    query.of_block(rows, lengths, attributes, rngs, model)
                )
            ],
            plan.bits,
        )
        server = entropy.keystream("server", number) if plan.central else None
        state = query.update(state, plan.decode(total, rotation_seed=rotation, noise=server).mean)
    return state


def rank_error(codes: NDArray[np.int16], place: int) -> float:
    """Events between the median and the nearest of a cell."""
    up_to = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=SCORES))])
    half = len(codes) / 2
    return float(max(up_to[place] - half, half - up_to[place + 1], 0))


def own_error(query: Analytics, plan: PrivacyPlan, codes: NDArray[np.int16], runs: int) -> float:
    """Root mean square error over runs, in phones or in ranks."""
    found = []
    for run in range(runs):
        estimates = query.estimates(answer(query, plan, codes, run), plan)
        values = [one.value for one in estimates if one.value is not None]
        if isinstance(query, Quantiles):
            found.append([rank_error(codes, int(values[0]))])
        else:
            found.append(values - np.bincount(codes, minlength=len(values)))
    return _rms(found)


def count_errors(codes: NDArray[np.int16], size: int, runs: int) -> dict[str, float]:
    """Root mean square errors of OpenDP's central noise on counts, by mechanism."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    in_l2 = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    in_l1 = dp.vector_domain(dp.atom_domain(T=int)), dp.l1_distance(T=int)

    def gaussian(scale: float) -> Any:
        return dp.m.make_gaussian(*in_l2, scale)

    def approximate(scale: float) -> Any:
        return dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(gaussian(scale)), DELTA)

    def laplace(scale: float) -> Any:
        return dp.m.make_laplace(*in_l1, scale)

    true = np.bincount(codes, minlength=size)[:size].tolist()
    measurements = {
        "Gaussian": gaussian(dp.binary_search_param(approximate, d_in=1.0, d_out=(EPSILON, DELTA))),
        "Laplace, delta 0": laplace(dp.binary_search_param(laplace, d_in=1, d_out=EPSILON)),
    }
    return {
        name: _rms([np.subtract(measurement(true), true) for _ in range(runs)])
        for name, measurement in measurements.items()
    }


def median_errors(codes: NDArray[np.int16], runs: int) -> dict[str, float]:
    """Root mean square errors of the rank of OpenDP's medians, by mechanism.

    Its tree has Laplace noise: in L2 it bounds what one event adds to a tree by the number of
    levels, where their square root would do, and Gaussian noise would be larger.
    """
    import opendp.prelude as dp

    dp.enable_features("contrib")
    records = dp.vector_domain(dp.atom_domain(T=int)), dp.symmetric_distance()
    places, found = list(range(SCORES)), {}
    for fanout in (2, 4, 16):
        counted = records >> dp.t.then_count_by_categories(
            categories=places, null_category=False, MO="L1Distance<i32>", TOA=int
        )
        tree = counted >> dp.t.then_b_ary_tree(leaf_count=SCORES, branching_factor=fanout)
        scale = dp.binary_search_param(
            lambda scale, tree=tree: tree >> dp.m.then_laplace(scale), d_in=1, d_out=EPSILON
        )
        measurement = tree >> dp.m.then_laplace(scale)
        fit = dp.t.make_consistent_b_ary_tree(fanout)
        errors = []
        for _ in range(runs):
            prefixes = np.cumsum(fit(measurement(codes.tolist()))[-SCORES:])
            rising = isotonic_regression(prefixes - prefixes[-1] / 2).x
            errors.append(rank_error(codes, min(int(np.searchsorted(rising, 0)), SCORES - 1)))
        found[f"Laplace tree of fanout {fanout}, delta 0"] = _rms(errors)

    def chosen(scale: float) -> Any:
        scored = records >> dp.t.then_quantile_score_candidates(places, 0.5)
        return scored >> dp.m.then_noisy_max(dp.max_divergence(), scale, negate=True)

    place = chosen(dp.binary_search_param(chosen, d_in=1, d_out=EPSILON))
    errors = [rank_error(codes, place(codes.tolist())) for _ in range(runs)]
    found["exponential mechanism, no sums"] = _rms(errors)
    return found


def _rms(errors: Sequence[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(np.array(errors, dtype=np.float64)))))


def questions() -> dict[str, Analytics]:
    """The same questions as OpenDP is asked."""
    return {
        "sum": Histogram(axes=(axis(1),)),
        "histogram": Histogram(axes=(axis(CELLS),)),
        "median": best(axis=axis(SCORES)),
    }


def codes_for(question: str, phones: int) -> NDArray[np.int16]:
    """What phones hold: one code each."""
    rng = np.random.default_rng(0)
    if question == "median":
        return np.clip(rng.normal(120, 30, phones), 0, SCORES - 1).astype(np.int16)
    size = {"sum": 1, "histogram": CELLS}[question]
    return np.minimum(rng.geometric(0.3, phones) - 1, size - 1).astype(np.int16)


def library(runs: int, phones: int) -> None:
    """Prints errors beside OpenDP's."""
    print("| question | mechanism | error | over `central` |\n|---|---|---|---|")
    for question, query in questions().items():
        codes = codes_for(question, phones)
        central = plan_of(query, phones)
        price = central.guarantee(query.rounds).epsilon_release
        assert price <= EPSILON, price
        own = own_error(query, central, codes, runs)
        print(f"| {question} | fedspeech central | {own:.2f} | 1 |")
        noise = distributed_multiplier(query, phones)
        plan = plan_of(query, phones, mechanism="distributed", noise_multiplier=noise)
        spread = own_error(query, plan, codes, runs)
        factor = math.sqrt(phones / plan.honest)
        print(f"| {question} | fedspeech distributed, factor of the plan {factor:.2f} | "
              f"{spread:.2f} | {spread / own:.2f} |")  # fmt: skip
        theirs = (
            median_errors(codes, runs)
            if question == "median"
            else count_errors(codes, query.cells, runs)
        )
        for name, error in theirs.items():
            print(f"| {question} | OpenDP {name} | {error:.2f} | {error / own:.2f} |", flush=True)


def make_job(
    folder: Path, phones: int, query: Analytics, **plan: Any
) -> tuple[Job, PopulationArrays]:
    """A job whose phones hold five events each on average, over the query's cells."""
    rng = np.random.default_rng(0)
    lengths = rng.poisson(5, phones)
    events = np.zeros((int(lengths.sum()), 2), np.int16)
    events[:, 1] = rng.integers(0, query.cells, len(events))
    arrays = PopulationArrays.without_clips(
        phones,
        events=events,
        event_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        attributes=np.zeros((phones, 1), np.int16),
    )
    identities = folder / "identities.key"
    IdentityDirectory.create(identities)
    job = Job(
        seed=1,
        noise_entropy="seeded",
        num_shards=1,
        plan=plan_of(query, phones, **plan),
        query=query,
        base_sha256="0" * 64,
        arrays=str(folder / "arrays"),
        arrays_sha256=arrays.sha256(),
        identities=str(identities),
    )
    return job, arrays


def population(phones: int, probability: float) -> None:
    """Prints CPU seconds of one window."""
    query = Histogram(axes=(axis(1000),), max_cells=5)
    print("| phones | asked | mechanism | CPU s |\n|---|---|---|---|")
    for mechanism in ("central", "distributed"):
        with tempfile.TemporaryDirectory() as name:
            job, arrays = make_job(
                Path(name), phones, query, mechanism=mechanism,
                participation_probability=probability, noise_multiplier=4.0,
            )  # fmt: skip
            arrays.save(Path(job.arrays))
            shard, key = ClientShard(job, 0), job.round_key(0)
            state = ServerState.initial(job, arrays)
            start = time.process_time()
            entered = shard.enter(key, 0, ShardState())
            request = messages.UpdateRequest(
                key=key, model=state.sent, clip_norm=state.clip_norm, cohort_list=entered.joined
            )
            update, _ = shard.update(request, entered)
            open_sum(query, state, job, key, update.total, len(update.reporting))
            seconds, asked = time.process_time() - start, len(update.reporting)
        print(f"| {phones:,} | {asked:,.0f} | {mechanism} | {seconds:.1f} |", flush=True)


def masked(phones: int) -> None:
    """Prints CPU seconds of a masked round over those of its masked session alone."""
    query = Histogram(axes=(axis(1000),), max_cells=5)
    with tempfile.TemporaryDirectory() as name:
        job, arrays = make_job(
            Path(name), phones, query, mechanism="distributed", noise_multiplier=4.0,
            secure_aggregation="masked", threat_model="semi_honest", dropout_rate=0.03,
        )  # fmt: skip
        state, key = ServerState.initial(job, arrays), job.round_key(0)
        start = time.process_time()
        cohort = joining(job, key)
        vectors = query.contributions(
            [arrays.phone(phone) for phone in cohort], state.sent, job.phone_rngs(key, cohort)
        )
        encoded = {
            phone: privatize_phone(job.plan, vector, key, phone, job.entropy(), state.clip_norm)
            for phone, vector in zip(cohort, vectors, strict=True)
        }
        asked = time.process_time()
        sum_phones(encoded, job, key, state)
        done = time.process_time()
    alone, whole = done - asked, done - start
    print("| phones | masks alone, CPU s | whole round, CPU s | ratio |\n|---|---|---|---|")
    print(f"| {len(cohort):,} | {alone:.2f} | {whole:.2f} | {whole / alone:.2f} |")


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("library", "population", "masked"))
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--phones", type=int, default=None)
    parser.add_argument("--probability", type=float, default=0.05)
    options = parser.parse_args()
    match options.what:
        case "library":
            library(options.runs, options.phones or 200)
        case "population":
            population(options.phones or 1_000_000, options.probability)
        case "masked":
            masked(options.phones or 1000)


if __name__ == "__main__":
    main()
