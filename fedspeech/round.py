"""The whole round, slow and obvious: the text to read first.

`clients.client_shard` and `server.rounds` do the same over messages, shard by shard, with phones
asked side by side. Of the same query, the integers of the sum are the same bit for bit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedspeech.aggregation.robust import Defense
from fedspeech.cohorts import draw_cohort, groups_of, too_few
from fedspeech.errors import CohortTooSmall, ProtocolAbort, ScenarioError
from fedspeech.job import Job, model_sha256, rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.population import PopulationArrays
from fedspeech.privacy.codec import Decoded
from fedspeech.privacy.correlated_noise import SECRET_BYTES, CorrelatedNoise
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.query import Query
from fedspeech.secagg.protocol import Stage
from fedspeech.secagg.ring import ring_sum
from fedspeech.secagg.session import sum_vectors
from fedspeech.seeds import NoiseEntropy, canonical
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, eq=False)
class ServerState:
    """What the server carries from round to round.

    Attributes:
      query: what the query carries, in float64.
      clip_norm: of the next round.
      completed: completed rounds.
      summed_means: sum of all decoded means, shape (d,), float64.
      noise_power: expected squared norm of the noise in it; 0 without noise.
      public_losses: on public validation clips, of the model before the first round and after each
        completed one, in nats; empty where nothing is decided by them.
      defended: what the job's defense did in the latest round, in words, or ""; no checkpoint holds
        it.
      earlier: models before the latest, newest first, as many as the job's staleness asks for.
      noise: the server's noise of all rounds, where it is correlated; no checkpoint holds it.
      noise_weights: how much fresh noise of each round stands in `summed_means`, shape (rounds,);
        empty where noise of rounds is independent.
    """

    query: GlobalState
    clip_norm: float
    completed: int
    summed_means: NDArray[np.float64]
    noise_power: float
    public_losses: tuple[float, ...] = ()
    defended: str = ""
    earlier: tuple[FloatVector, ...] = ()
    noise: CorrelatedNoise | None = None
    noise_weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def model(self) -> FloatVector:
        """The query's model as phones get it, float32."""
        return self.query.parameters.astype(np.float32)

    @property
    def sent(self) -> FloatVector:
        """The model that phones of the next round train on: the latest, or one that is stale.

        Either was released before, so what a phone contributes is a function of its own data and of
        earlier releases: adaptive composition asks for no more (docs/asynchronous.md).
        """
        return self.earlier[-1] if self.earlier else self.model

    @classmethod
    def initial(
        cls, job: Job, arrays: PopulationArrays, noise: CorrelatedNoise | None = None
    ) -> ServerState:
        """Where the job's query starts; `noise` is correlated noise that outlives this process."""
        query = job.query.initial(arrays)
        return cls(
            query=query,
            clip_norm=job.plan.clip_norm,
            completed=0,
            summed_means=np.zeros(job.plan.dimension),
            noise_power=0.0,
            public_losses=(_public_loss(job, query),) if job.decides_by_public_loss else (),
            noise=noise or correlated_noise(job),
        )

    @property
    def signal_to_noise(self) -> float | None:
        """Of all rounds so far, as `open_sum` explains it; None without noise."""
        return _ratio(self.summed_means, self.noise_power)


Send = Callable[[PrivacyPlan, FloatVector, RoundKey, int, NoiseEntropy, float], NDArray[np.uint32]]
"""What a phone does to its contribution before it leaves: `privatize_phone`, if it is honest."""


def run_round(
    query: Query,
    state: ServerState,
    job: Job,
    arrays: PopulationArrays,
    ledger: Ledger,
    round_number: int,
    send: Send | None = None,
) -> tuple[ServerState, NDArray[np.uint32]]:
    """Runs one round in one place.

    Args:
      query: what is asked: the job's own, or another that answers for it.
      state: before the round.
      job: names the plan that protects the phones.
      arrays: what the phones hold.
      ledger: charged before phones are asked for what the charge pays for.
      round_number: from 0.
      send: what phones do instead of `privatize_phone`, where an audit lets some of them lie.

    Returns:
      The state after the round and the opened sum, shape (vector length,); where there are groups,
      their sums one after the other.

    Raises:
      BudgetExhausted: before anybody is asked, if the round would exceed the budget.
      CohortTooSmall: if fewer phones join than the plan's minimum, which costs nothing, or fewer
        report, and the round stays charged.
      ProtocolAbort: if a masked sum cannot be opened, or a sum is too long; it stays charged.
    """
    plan, entropy, key = job.plan, job.entropy(), job.round_key(round_number)
    ledger.require_budget(round_number)
    cohort = joining(job, key)
    # Nothing that depends on speech exists yet. From here on the round costs, whatever becomes of
    # it.
    charge = ledger.charge(
        round_number, key.attempt, key.round_id, noise_commitment(job, state, key)
    )
    try:
        arrays = job.as_of(arrays, round_number)
        contributions = query.on(arrays).contributions(
            [arrays.phone(phone) for phone in cohort], state.sent, job.phone_rngs(key, cohort)
        )
        encoded = {
            phone: (send or privatize_phone)(
                plan, contribution, key, phone, entropy, state.clip_norm
            )
            for phone, contribution in zip(cohort, contributions, strict=True)
        }
        total = sum_phones(encoded, job, key, state)
        reporting = sum(job.last_stage(round_number, phone) >= Stage.MASK for phone in cohort)
        state, _ = open_sum(query, state, job, key, total, reporting)
    except (CohortTooSmall, ProtocolAbort) as error:  # the round has failed, and is paid for
        ledger.outcome(charge, completed=False, reason=str(error))
        raise
    ledger.outcome(charge, completed=True)
    return state, total


def joining(job: Job, key: RoundKey) -> list[int]:
    """The phones that are called and there.

    Raises:
      CohortTooSmall: if they, or those of a group, are fewer than the plan's minimum.
    """
    cohort = [
        int(phone)
        for phone in draw_cohort(job, key)
        if job.last_stage(key.round, int(phone)) >= Stage.ADVERTISE
    ]
    if short := too_few(job, key, cohort, "joined", job.plan.min_cohort):
        raise CohortTooSmall(short)
    return cohort


def sum_phones(
    encoded: Mapping[int, NDArray[np.uint32]], job: Job, key: RoundKey, state: ServerState
) -> NDArray[np.uint32]:
    """Sums the vectors of the phones that do not vanish before they send, mod 2^bits.

    Masked or ideal: the same integers. Each group has a sum of its own. One session of longer
    vectors, a block for each group, would give the same integers, and any liar a way into all
    blocks.

    Returns:
      The sums of all groups one after the other, shape (groups * vector length,).

    Raises:
      CohortTooSmall, ProtocolAbort: if too few are left.
    """
    plan, phones = job.plan, np.array(list(encoded))
    parts = [phones[groups_of(job, key, phones) == group] for group in range(plan.groups)]
    if plan.secure_aggregation == "masked":
        return np.concatenate(
            [
                _masked_sum({phone: encoded[phone] for phone in part.tolist()}, job, key, state, of)
                for of, part in enumerate(parts)
            ]
        )
    sent = {phone for phone in encoded if job.last_stage(key.round, phone) >= Stage.MASK}
    if short := too_few(job, key, sorted(sent), "reported", plan.min_reporting):
        raise CohortTooSmall(short)
    return np.concatenate(
        [
            ring_sum([encoded[phone] for phone in part.tolist() if phone in sent], plan.bits)
            for part in parts
        ]
    )


def _masked_sum(
    encoded: Mapping[int, NDArray[np.uint32]],
    job: Job,
    key: RoundKey,
    state: ServerState,
    group: int,
) -> NDArray[np.uint32]:
    """The sum of one group by the protocol, shape (vector length,)."""
    session = key.round_id
    if job.plan.groups > 1:  # what is signed in one group is worth nothing in another
        session = hashlib.sha256(canonical("group", session, group)).digest()[:16]
    return sum_vectors(
        encoded,
        terms=job.plan.terms(session, key.round),
        purpose=job.purpose(key, model_sha256(state.sent, state.clip_norm)),
        identities=job.identity_directory(),
        last_stage=lambda phone: job.last_stage(key.round, phone),
        primitives=job.primitives(),
    ).total


def privatize_phone(
    plan: PrivacyPlan,
    contribution: FloatVector,
    key: RoundKey,
    phone: int,
    entropy: NoiseEntropy,
    clip_norm: float,
) -> NDArray[np.uint32]:
    """What one phone does before its vector leaves: clip, rotate, scale, round, noise, ring.

    Returns:
      Shape (vector length,), uint32.
    """
    # Rounding and noise have keystreams of their own: how much rounding reads depends on the data,
    # and must not decide which noise follows.
    return plan.privatize(
        contribution,
        rotation_seed=rotation_seed(key),
        rounding=entropy.keystream("rounding", key.round_id, key.attempt, phone),
        noise=entropy.keystream("noise", key.round_id, key.attempt, phone),
        clip_norm=clip_norm,
    )


def privatize_phones(
    plan: PrivacyPlan,
    contributions: NDArray[np.float32],
    key: RoundKey,
    phones: Sequence[int],
    entropy: NoiseEntropy,
    clip_norm: float,
) -> NDArray[np.uint32]:
    """The same of several phones, bit for bit; whole numbers are encoded side by side.

    Contributions have shape (phones, dimension).

    Returns:
      Shape (phones, vector length), uint32.
    """
    if not phones:
        return np.zeros((0, plan.vector_length), dtype=np.uint32)
    if not plan.whole:
        return np.stack(
            [
                privatize_phone(plan, contribution, key, phone, entropy, clip_norm)
                for phone, contribution in zip(phones, contributions, strict=True)
            ]
        )
    noise = [
        entropy.keystream("noise", key.round_id, key.attempt, phone)
        for phone in (phones if plan.on_phones else ())
    ]
    return plan.privatize_whole(contributions, noise)


def open_sum(
    query: Query,
    state: ServerState,
    job: Job,
    key: RoundKey,
    total: NDArray[np.uint32],
    reporting: int,
) -> tuple[ServerState, float | None]:
    """Decodes the sum to a mean over the expected cohort and gives it to the query.

    The divisor is the plan's, never the number that replied. Under "central" noise the server adds
    it here, before it looks at anything.

    How much of a mean is signal is read from what the server sees anyway: norms of single phones
    never leave their phones. A decoded mean is a signal s plus noise of known power: d coordinates
    of variance v. So |mean|^2 estimates |s|^2 + d v without bias, and
    sqrt(max(0, |mean|^2 / (d v) - 1)) is the length of the signal over that of the noise. Noise
    alone spreads |mean|^2 / (d v) around 1 by sqrt(2 / d), so a ratio below (8 / d)^(1/4), two
    deviations up, is told from none in a few cases of a hundred only.

    One round says little: signal that keeps its direction adds up like T over T rounds and noise
    like sqrt(T), so rounds that each look like nothing can carry a run. `ServerState` therefore
    follows the sum of the means too. (Phones pull back what noise has put into the model; where
    that is most of what they do, the sum of the means shrinks again.)

    Returns:
      The state after the round, and its signal to noise; None without noise.

    Of several groups those whose sums are too long are left out, as long as most remain.

    Raises:
      ProtocolAbort: if the sum is longer than honest phones can make it. The noise is in it by
        then, so that readers, to whom a round without a step shows, learn what was paid for.
    """
    plan, defense = job.plan, job.defense or Defense()
    parts = total.reshape(plan.groups, plan.vector_length)
    found = [decoded_sum(job, key, state, part, group) for group, part in enumerate(parts)]
    within = [one for one in found if not one.too_long]
    if 2 * len(within) <= plan.groups:
        raise ProtocolAbort(
            "the sum is longer than honest phones can make it (bound "
            f"{plan.norm_bound:.4g} clip norms): it is not used"
        )
    mean = within[0].mean
    if plan.groups > 1:
        mean = defense.combined(np.stack([one.mean for one in within]))
    clip_norm = state.clip_norm
    if plan.adaptive_clipping is not None and within[0].share_within is not None:
        clip_norm = plan.adaptive_clipping.updated(clip_norm, within[0].share_within)
    fresh = plan.noise_norm(reporting, state.clip_norm) ** 2
    fresh *= defense.noise_factor(len(within)) ** 2 * plan.groups / len(within)
    power, accumulated, weights = fresh, state.noise_power + fresh, state.noise_weights
    if state.noise is not None:  # rows take back one another, so their powers do not add up
        weights = state.noise.added(weights, key.round)
        power = fresh * state.noise.variance(key.round)
        accumulated = fresh * float(weights @ weights)
    updated, latest, rejected = _accepted(job, defense, state, query.update(state.query, mean))
    left_out = plan.groups - len(within)
    dropped = f"sums of {left_out} groups are too long and left out" if left_out else ""
    advanced = ServerState(
        query=updated,
        clip_norm=clip_norm,
        completed=state.completed + 1,
        summed_means=state.summed_means + mean,
        noise_power=accumulated,
        noise=state.noise,
        noise_weights=weights,
        public_losses=state.public_losses + latest,
        defended="; ".join(filter(None, (dropped, rejected))),
        earlier=(state.model, *state.earlier)[: job.staleness],
    )
    return advanced, _ratio(mean, power)


def decoded_sum(
    job: Job, key: RoundKey, state: ServerState, part: NDArray[np.uint32], group: int
) -> Decoded:
    """Decodes the sum of one group; where the server adds the noise, each group has its own."""
    own = (group,) if job.plan.groups > 1 else ()
    return job.plan.decode(
        part,
        rotation_seed=rotation_seed(key),
        clip_norm=state.clip_norm,
        noise=job.entropy().keystream("server noise", key.round_id, key.attempt, *own)
        if state.noise is None
        else state.noise.row(key.round),
    )


def _accepted(
    job: Job, defense: Defense, state: ServerState, updated: GlobalState
) -> tuple[GlobalState, tuple[float, ...], str]:
    """The query's state after a step, or before it where public clips speak against the step.

    Returns:
      The state, its public loss if anything is decided by that, and why a step was rejected.
    """
    if not job.decides_by_public_loss:
        return updated, (), ""
    before, after = state.public_losses[-1], _public_loss(job, updated)
    if defense.accepts(before, after):
        return updated, (after,), ""
    return state.query, (before,), f"step rejected: public loss {before:.4g} to {after:.4g} nats"


def _public_loss(job: Job, state: GlobalState) -> float:
    """Loss of a model on the public validation clips of a job."""
    loss = job.query.public_loss(state.parameters.astype(np.float32), job.load_arrays().validation)
    if loss is None:
        raise ScenarioError(
            "early_stopping and max_loss_rise must be left out: this query has no loss to decide by"
        )
    return loss


def noise_commitment(job: Job, state: ServerState, key: RoundKey) -> str:
    """What fixes a round's noise before any of it is drawn; "" where nothing does."""
    if state.noise is not None and job.noise_entropy == "os":
        return state.noise.commitment
    return job.entropy().commitment(key.round_id, key.attempt)


def correlated_noise(job: Job) -> CorrelatedNoise | None:
    """The server's noise of all rounds, where the plan correlates it.

    Seeded noise comes from the seed. Noise of the operating system comes from a secret that ends
    with this process: whoever resumes a run keeps one (`server.resuming`).
    """
    if job.plan.factorization is None:
        return None
    if job.noise_entropy == "os":
        return CorrelatedNoise.fresh(job.plan)
    secret = job.entropy().keystream("correlated noise").bytes(SECRET_BYTES)
    return CorrelatedNoise(job.plan, secret)


def _ratio(mean: NDArray[np.float64], noise_power: float) -> float | None:
    """Length of the signal in a mean over that of its noise; None without noise."""
    if noise_power == 0:
        return None
    return math.sqrt(max(0.0, float(np.add.reduce(mean * mean)) / noise_power - 1))
