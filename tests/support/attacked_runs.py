"""Small runs to attack: rounds by the code of a run, on phones that an attacker may know."""

import dataclasses

import numpy as np
from tiny_job import FEATURES, LABELS, TRAINING

from fedspeech.audits.attack import Knowledge, KnownSpeaker
from fedspeech.audits.transcript import SeenRound, Transcript
from fedspeech.cohorts import called
from fedspeech.job import rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import privatize_phone
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy, stream
from fedspeech.training.dataset import LocalDataset

PLAN = PrivacyPlan(secure_aggregation="ideal", mechanism="none", dropout_rate=0.0,
    dimension=TRAINING.dimension, clip_norm=0.2, noise_multiplier=0.0, population=20,
    participation_probability=0.6, rounds=4, max_participations=4, min_cohort=4, min_reporting=3,
    delta=0.001, epsilon_budget=np.inf,
)  # fmt: skip
INITIAL = np.zeros(TRAINING.dimension, np.float32)
NOTHING = LocalDataset(np.zeros((0, FEATURES), np.float32), np.zeros(0, np.int64))


def with_noise(noise_multiplier, mechanism="distributed", **changes):
    """The plan with noise."""
    return dataclasses.replace(
        PLAN, mechanism=mechanism, noise_multiplier=noise_multiplier, epsilon_budget=1e6,
        **changes,
    )  # fmt: skip


def speakers(count, seed, clips=6):
    """Speakers who say every label in their own way: an offset of their own."""
    rng = stream(seed, "speakers")
    centers = stream(0, "centers").normal(size=(LABELS, FEATURES))
    found = []
    for _ in range(count):
        labels = rng.integers(0, LABELS, clips)
        own = rng.normal(size=FEATURES)
        heard = centers[labels] + own + 0.2 * rng.normal(size=(clips, FEATURES))
        found.append(LocalDataset(heard.astype(np.float32), labels.astype(np.int64)))
    return found


def played(plan, phones, seed, observer="server", query=TRAINING, initial=INITIAL, single=False):
    """What an observer sees of one run on phones with these clips."""
    entropy = NoiseEntropy.seeded(seed, "attacked run")
    state, releases, rounds = query.optimizer.init(initial), [initial], []
    for number in range(plan.rounds):
        round_id = entropy.keystream("rid", number).bytes(16)
        key = RoundKey(round=number, attempt=0, round_id=round_id, context=bytes(32))
        coins = entropy.keystream("coins", number)
        cohort = [int(phone) for phone in called(plan, number, coins) if phone < len(phones)]
        rngs = [stream(seed, "batches", number, phone) for phone in cohort]
        said = query.contributions([phones[phone] for phone in cohort], releases[-1], rngs)
        sent = [
            privatize_phone(plan, one, key, phone, entropy, plan.clip_norm)
            for one, phone in zip(said, cohort, strict=True)
        ]

        noise = entropy.keystream("server noise", number) if plan.central else None

        def opened(total, key=key, noise=noise):
            mean = plan.decode(total, rotation_seed=rotation_seed(key), noise=noise).mean
            return mean * plan.expected_cohort

        nothing = np.zeros(plan.vector_length, dtype=np.uint32)
        total = opened(ring_sum([nothing, *sent], plan.bits))
        seen = {"total": total, "senders": np.array(cohort, dtype=np.int64)}
        if single:
            seen["singles"] = np.stack([opened(one) for one in sent])
        if observer != "server":
            seen = {"senders": np.zeros(0, np.int64)}
        rounds.append(SeenRound(number=number, sent=releases[-1], **seen))
        state = query.update(state, total / plan.expected_cohort)
        releases.append(state.parameters.astype(np.float32))
    return Transcript(
        observer=observer, plan=plan, releases=np.stack(releases), rounds=tuple(rounds)
    )


def knowledge(public, candidates, query=TRAINING, **more):
    """What an attacker of such a run knows."""
    return Knowledge(
        base=None, adapter=query.built, training=query.training, background=NOTHING,
        speakers=tuple(KnownSpeaker(clips=clips) for clips in public),
        candidates=tuple(KnownSpeaker(clips=clips) for clips in candidates),
        contributions=query.contributions, optimizer=query.optimizer, play=None, **more,
    )  # fmt: skip


def membership_game(attack, plan, seed, observer="server", count=40, **run):
    """Scores of candidates, each in the run by a fair coin, and the coins."""
    rng = stream(seed, "coins")
    included = rng.random(count) < 0.5
    candidates = speakers(count, seed)
    members = [clips for clips, there in zip(candidates, included, strict=True) if there]
    seen = played(plan, members, seed, observer, **run)
    guess = attack.guess(seen, knowledge(speakers(count, 1_000 + seed), candidates), rng)
    return guess.scores[0], included
