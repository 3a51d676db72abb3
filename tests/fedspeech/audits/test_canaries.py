"""Canary games: a sound plan keeps its word, and every planted fault is noticed."""

import dataclasses

import numpy as np
import pytest
from auditing import Keyed, Silent, clip_after_noise

from fedspeech.audits import canaries, games, many_canaries
from fedspeech.audits.canaries import FEATURES, OneCanary, small
from fedspeech.audits.games import Attendance
from fedspeech.audits.lower_bounds import jointly
from fedspeech.privacy import mechanisms
from fedspeech.privacy.codec import Decoded
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.seeds import NoiseEntropy, stream

ENTROPY = NoiseEntropy.seeded(29, "canary games")
CONFIDENCE = 1 - 1e-5  # a sound plan is called broken in one of 100,000 games

TWO = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=4, clip_norm=0.5, noise_multiplier=1.2, population=6,
    participation_probability=1.0, rounds=1, max_participations=1, min_cohort=4, min_reporting=3,
    colluders=1, delta=0.01, epsilon_budget=10.0, participation="fixed_size",
)  # fmt: skip
SERVER = dataclasses.replace(
    TWO, mechanism="central", participation="round_robin", noise_multiplier=1.2
)


def played(plan, observer="server", runs=400):
    return canaries.play(plan, observer, ENTROPY, runs=runs, confidence=CONFIDENCE)


def test_a_run_is_seen_by_what_the_observer_computes():
    game = OneCanary(plan=small(TWO, 1), observer="server", entropy=ENTROPY)
    seen = game.run(0, speaks=True)
    assert seen.shape == (len(FEATURES),)
    assert np.isfinite(seen).all()
    assert not np.array_equal(seen, game.run(1, speaks=True))


def test_a_sound_plan_keeps_its_word():
    found = played(TWO, runs=100)
    assert found.relation == "zero-out"
    assert found.claimed == TWO.guarantee(1).epsilon_server
    assert not found.broken


def test_nothing_is_played_where_nothing_is_promised():
    with pytest.raises(games.NothingPromised, match="promises nothing against the server"):
        played(SERVER, "server")


def test_noise_that_is_off_is_noticed(monkeypatch):
    monkeypatch.setattr(mechanisms.IntegerDistribution, "of", lambda stddev: Silent())
    assert played(dataclasses.replace(TWO, noise_multiplier=3.0), runs=100).broken


def test_noise_of_the_server_that_is_off_is_noticed(monkeypatch):
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: Silent())
    assert played(dataclasses.replace(SERVER, noise_multiplier=3.0), "release", runs=100).broken


@pytest.mark.slow
def test_a_clip_after_the_noise_is_noticed(monkeypatch):
    monkeypatch.setattr(PrivacyPlan, "privatize", clip_after_noise)
    assert played(TWO, runs=300).broken


@pytest.mark.slow
def test_a_clip_that_is_missing_is_noticed(monkeypatch):
    """The canary is ten clip norms long."""
    monkeypatch.setattr("fedspeech.privacy.clipping.L2Clip.__call__", lambda self, vector: vector)
    monkeypatch.setattr(
        "fedspeech.privacy.encoding.conditional_round",
        lambda rotated, bound, rounding: np.rint(rotated).astype(np.int64),
    )
    assert played(TWO, runs=300).broken


@pytest.mark.slow
def test_noise_that_all_phones_share_is_noticed():
    """The observer holds a phone of its own, and knows by it the noise of the canary."""
    shared = Keyed(lambda *names: names[:-1] if names[0] in {"noise", "rounding"} else names)
    found = canaries.play(TWO, "server", shared, runs=300, confidence=CONFIDENCE)
    assert found.broken


@pytest.mark.slow
def test_noise_that_rounds_share_is_noticed():
    """The canary changes its sign, so the difference of two rounds holds nothing but the canary."""
    two = dataclasses.replace(TWO, rounds=2, max_participations=2, noise_multiplier=2.0)
    assert not played(two, runs=300).broken
    alike = Keyed(lambda *names: (names[0], names[-1]) if names[0] == "noise" else names)
    found = canaries.play(two, "server", alike, runs=300, confidence=CONFIDENCE)
    assert found.broken


@pytest.mark.slow
def test_a_participation_limit_that_nobody_keeps_is_noticed(monkeypatch):
    limited = dataclasses.replace(TWO, rounds=9, max_participations=1)
    monkeypatch.setattr(PrivacyPlan, "admits", lambda plan, sent, since=None: True)
    assert played(limited, runs=200).broken


@pytest.mark.slow
def test_a_divisor_that_depends_on_who_came_is_noticed(monkeypatch):
    """The others' vectors, which the observer takes off, cancel no longer where one came."""
    plan = dataclasses.replace(
        SERVER, participation="poisson", population=5, min_cohort=3, min_reporting=3,
        noise_multiplier=1.5, delta=0.02,
    )  # fmt: skip
    assert not played(plan, "release", runs=3000).broken
    came = []
    decode, ring_sum = PrivacyPlan.decode, games.ring_sum

    def counted(vectors, bits):
        came[:] = [len(vectors) - 1]
        return ring_sum(vectors, bits)

    def divided(self, total, **of_the_round):
        found = decode(self, total, **of_the_round)
        mean = found.mean * self.expected_cohort / max(1, came[0])
        return Decoded(mean=mean, share_within=None, too_long=found.too_long)

    monkeypatch.setattr(games, "ring_sum", counted)
    monkeypatch.setattr(PrivacyPlan, "decode", divided)
    assert played(plan, "release", runs=3000).broken


@pytest.mark.slow
def test_half_the_noise_is_noticed(monkeypatch):
    half = TWO.noise_distribution(TWO.stddev / 2)
    assert not played(TWO, runs=4000).broken
    monkeypatch.setattr(mechanisms.IntegerDistribution, "of", lambda stddev: half)
    assert played(TWO, runs=4000).broken


# Each of ten sums has two honest shares for certain.
GROUPED = dataclasses.replace(
    TWO, population=60, groups=10, min_cohort=4, min_reporting=4, colluders=2, noise_multiplier=3.0,
    delta=1e-3,
)  # fmt: skip


def priced_whole(plan):
    """Shares of noise as if the sums of all groups were one."""
    return plan.groups * plan.min_reporting - plan.colluders


@pytest.mark.slow
@pytest.mark.parametrize("observer", games.OBSERVERS)
def test_sums_of_groups_keep_their_word(observer):
    found = played(GROUPED, observer, runs=300)
    assert not found.broken
    assert found.claimed > 0


@pytest.mark.slow
def test_noise_that_is_sized_for_all_groups_is_noticed(monkeypatch):
    """The mutant: the price of the whole cohort, where a sum has the phones of a group."""
    claimed = GROUPED.guarantee(1).epsilon_server
    monkeypatch.setattr(PrivacyPlan, "honest", property(priced_whole))
    whole = dataclasses.replace(GROUPED)
    assert whole.guarantee(1).epsilon_server <= 1.01 * claimed  # it prints no more than was said
    assert played(whole, runs=600).broken


# --- Many canaries in one run ---------------------------------------------------------------------

MANY = dataclasses.replace(
    SERVER, dimension=64, population=64, delta=1e-6, epsilon_budget=100.0,
    noise_multiplier=1.0, min_cohort=40, min_reporting=40,
)  # fmt: skip


def many(plan, observer="release", runs=6):
    # The one-run bound cannot be surer than about delta lets it: 2 delta over the share of right
    # guesses beyond one half.
    return many_canaries.play(plan, observer, ENTROPY, runs=runs, confidence=0.999)


@pytest.mark.slow
def test_many_canaries_of_a_sound_plan_prove_less_than_it_claims():
    found = many(MANY, runs=12)
    assert 0 < found.bound.epsilon < found.claimed


def test_many_canaries_notice_noise_that_is_off(monkeypatch):
    weak = dataclasses.replace(MANY, noise_multiplier=3.0)
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: Silent())
    assert many(weak).broken


@pytest.mark.slow
@pytest.mark.parametrize("participation", ["poisson", "fixed_size"])
def test_many_canaries_in_groups_prove_less_than_is_claimed_and_notice_silence(
    monkeypatch, participation
):
    plan = dataclasses.replace(
        MANY, groups=4, min_cohort=8, min_reporting=8, participation=participation,
        participation_probability=0.75, population=64,
    )  # fmt: skip
    assert not many(plan, runs=12).broken
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: Silent())
    assert many(dataclasses.replace(plan, noise_multiplier=3.0), runs=12).broken


def test_no_more_canaries_than_coordinates():
    game = many_canaries.ManyCanaries(
        plan=dataclasses.replace(MANY, dimension=40), observer="release", entropy=ENTROPY
    )
    scores, coins = game.run(0)
    assert scores.shape == coins.shape == (40,)


# --- A phone's own memory -------------------------------------------------------------------------


def test_a_phone_joins_as_often_as_its_limit_says_and_anew_in_the_next_window():
    plan = dataclasses.replace(
        SERVER, rounds=8, max_participations=2, participation_window=4, population=12, delta=1e-3,
        participation_probability=0.5,
    )  # fmt: skip
    attendance = Attendance(plan)
    joined = [attendance.joins(number) for number in range(8)]
    assert joined == [True, True, False, False] * 2


# --- Plans drawn at random ------------------------------------------------------------------------

PLANS = 100


def drawn(number):
    """A small plan of any mechanism and participation; None: its rules refuse it."""
    rng = stream(31, "plans", number)
    mechanism = ["distributed", "skellam", "local", "central"][rng.integers(4)]
    participation = ["poisson", "fixed_size", "round_robin"][rng.integers(3)]
    population, rounds = int(rng.integers(6, 16)), int(rng.integers(1, 4))
    probability = 1.0 if participation == "round_robin" else float(rng.choice([0.5, 0.75, 1.0]))
    cohort = round(population * probability)
    try:
        return PrivacyPlan(
            secure_aggregation="ideal", dropout_rate=0.0, mechanism=mechanism,
            participation=participation, dimension=4, clip_norm=float(rng.choice([0.1, 1.0, 3.0])),
            noise_multiplier=float(rng.uniform(0.8, 3.0)), population=population,
            participation_probability=probability, rounds=rounds,
            max_participations=rounds, min_cohort=cohort // 2, min_reporting=cohort // 2,
            colluders=int(rng.integers(0, 2)), delta=1 / (20 * population), epsilon_budget=100.0,
        )  # fmt: skip
    except ValueError:
        return None


def audited(numbers, runs):
    """Bounds and claims of the drawn plans, of both observers, at a joint error level of 1 %."""
    bounds, claims = [], []
    for number in numbers:
        plan = drawn(number)
        for observer in games.OBSERVERS:
            try:
                found = canaries.play(
                    plan, observer, ENTROPY, runs=runs, confidence=1 - 0.01 / (2 * PLANS)
                )
            except games.NothingPromised:
                continue
            bounds.append(found.bound)
            claims.append(found.claimed)
    return bounds, claims


def test_most_drawn_plans_can_be_played():
    plans = [drawn(number) for number in range(2 * PLANS)]
    assert sum(plan is not None for plan in plans) >= PLANS
    assert len({(p.mechanism, p.participation) for p in plans if p is not None}) >= 8


@pytest.mark.slow
def test_no_bound_exceeds_its_claim_in_some_random_plans():
    numbers = [number for number in range(2 * PLANS) if drawn(number) is not None][:3]
    assert not jointly(*audited(numbers, runs=60))[0]


@pytest.mark.soak
def test_no_bound_exceeds_its_claim_in_a_hundred_random_plans():
    """A sound library fails this once in a hundred keys."""
    numbers = [number for number in range(2 * PLANS) if drawn(number) is not None][:PLANS]
    bounds, claims = audited(numbers, runs=400)
    assert len(numbers) == PLANS
    beaten, level = jointly(bounds, claims)
    assert level <= 0.0101
    assert not beaten
    assert sum(bound.epsilon > 0 for bound in bounds) > len(bounds) / 4  # and they do see
