"""Correlated noise as a mechanism: its price, its ledger, what is refused, and who tries it."""

import dataclasses
import json
import math

import numpy as np
import pytest
from auditing import ENTROPY, audited_epsilon

from fedspeech.errors import BudgetExhausted
from fedspeech.privacy import adversary_views, phrasing, pricing
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.correlated_noise import CorrelatedNoise
from fedspeech.privacy.events import (
    CorrelatedGaussian,
    Gaussian,
    NonPrivate,
    cost_from_record,
    cost_to_record,
)
from fedspeech.privacy.factorization import GRID, Factorization
from fedspeech.privacy.filling import fill
from fedspeech.privacy.ledger import Ledger
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.solving import solve

TURNS = {
    "participation": "round_robin", "population": 3000, "cohort": 300, "rounds": 40,
    "noise_multiplier": 3.0, "dimension": 600, "secure_aggregation": "ideal",
}  # fmt: skip


def filled(mechanism="matrix_factorization", **changes):
    return fill(mechanism=mechanism, **{**TURNS, **changes})


def plan(**changes):
    return filled(**changes).plan


PLAN = plan(epsilon_budget=100.0)


# The price.


@pytest.mark.parametrize("rounds", [10, 40])
def test_independent_noise_costs_what_the_server_adds_round_by_round(rounds):
    """C = I: the same events, epsilons and deltas as plain noise, for one turn and for four."""
    one = pricing.price(filled(bands=1, rounds=rounds))
    plain = pricing.price(filled("central", rounds=rounds))
    assert one.plan.server_stddev == plain.plan.server_stddev
    assert one.release.epsilons == pytest.approx(plain.release.epsilons, rel=1e-9)
    assert one.release.participations == plain.release.participations == rounds // 10
    assert one.release.relation == plain.release.relation == "add/remove"
    assert math.isinf(one.server.epsilon)
    assert one.server.relation == plain.server.relation == "none"


def test_all_rounds_are_one_gaussian_of_the_sensitivity_of_the_strategy():
    """Sensitivity of jax-privacy 2.0.0; epsilon of a Gaussian by dp-accounting's exact formula."""
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    event = PLAN.cost.release
    assert isinstance(event, CorrelatedGaussian)
    assert event.together(4) == Gaussian(noise_multiplier=3.0 / event.norm(4))
    assert event.norm(4) == pytest.approx(2.676821952679029, rel=1e-12)
    exact = get_epsilon_gaussian(3.0 / event.norm(4), PLAN.delta)
    assert exact <= PLAN.guarantee(40).epsilon_release < exact * 1.0001
    assert PLAN.cost.server == NonPrivate()


def test_first_rounds_cost_what_the_leading_block_does_and_never_more_than_the_whole():
    norms = [PLAN.cost.of_first(rounds).release.norm(4) for rounds in range(1, 41)]
    assert norms == sorted(norms)
    assert norms[0] == 1.0
    assert PLAN.guarantee(0).epsilon_release == 0
    assert PLAN.cost.of_first(12).release == plan(rounds=12, bands=10).cost.release
    assert PLAN.cost.of_first(100) == PLAN.cost
    assert PLAN.guarantee(12).epsilon_release < PLAN.guarantee(40).epsilon_release


@pytest.mark.slow
def test_correlated_noise_of_two_runs_composes_as_two_gaussians():
    event = PLAN.cost.release.together(4)
    alone, both = (
        adversary_views.release([(PLAN.cost, 40)] * runs, PLAN.delta).epsilon for runs in (1, 2)
    )
    plain = dataclasses.replace(PLAN.cost, release=event, given=event, max_participations=1)
    expected = adversary_views.release([(plain, 2)], PLAN.delta)
    assert alone < both
    # Of one relation and one Gaussian each; two plain rounds of which a phone joins one are one.
    twice = dataclasses.replace(plain, max_participations=2)
    assert both == pytest.approx(
        adversary_views.release([(twice, 2)], PLAN.delta).epsilon, rel=1e-9
    )
    assert expected.epsilon == pytest.approx(alone, rel=1e-9)


def test_a_phone_that_joined_fewer_rounds_has_spent_less():
    spent = [pricing.spent(PLAN, joined).epsilon for joined in (1, 2, 4)]
    assert spent == sorted(set(spent))
    assert spent[-1] == pytest.approx(PLAN.guarantee(40).epsilon_release, rel=1e-6)


@pytest.mark.slow
def test_noise_is_solved_for_an_epsilon():
    def make(noise_multiplier):
        return filled(noise_multiplier=noise_multiplier)

    found = solve(make, "noise", 2.0).price
    assert 1.99 < found.release.epsilon <= 2.0


def test_a_cost_and_a_plan_survive_json():
    cost = cost_from_record(json.loads(json.dumps(cost_to_record(PLAN.cost))))
    assert cost == PLAN.cost
    assert PrivacyPlan(**json.loads(json.dumps(dataclasses.asdict(PLAN)))) == PLAN
    record = cost_to_record(PLAN.cost)
    record["release"]["coefficients"] = [GRID, GRID + 1]
    with pytest.raises(ValueError, match="never rise"):
        cost_from_record(record)


def test_a_plan_without_correlation_has_the_fingerprint_that_it_always_had():
    plain = filled("central").plan
    assert "factorization" not in plain.identity()
    assert plan().identity()["factorization"] == {
        "min_separation": 10, "bands": 10, "momentum": 0.0
    }  # fmt: skip
    others = {plan(bands=9), plan(min_separation=9), plan(momentum=0.5), plan()}
    assert len({other.fingerprint for other in others}) == 4


def test_words_say_who_adds_the_noise_and_what_a_phone_keeps():
    words = phrasing.paragraphs(PLAN.guarantee(40))
    assert "epsilon_server is infinite, because it adds the noise itself" in words
    assert "nor the secret from which it draws that of all rounds" in words
    assert "each phone counts its rounds and keeps 10 from one to its next" in words
    filled_in = filled()
    said = " ".join(phrasing.assumptions(filled_in.plan, filled_in.plan.cost, filled_in.assumed))
    assert "takes back noise of the 9 before it" in said
    assert "cut to 10 bands (min_separation and bands chosen here)" in said
    assert "moves it by 2.677 clip norms" in said
    assert "Independent noise of the same epsilon would leave 2.04 times as much" in said


# What is refused.


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"participation": "poisson"}, "needs round_robin participation"),
        ({"participation": "fixed_size"}, "needs round_robin participation"),
        ({"min_separation": 11}, "turn comes every 10 rounds: min_separation must be at most that"),
        (
            {
                "adaptive_clipping": AdaptiveClipping(
                    target_quantile=0.5, min_clip_norm=0.01, max_clip_norm=100.0
                )
            },
            "needs a clip norm that stays",
        ),
        ({"max_participations": 3}, "turn comes 4 times in 40 rounds"),
        ({"bands": 0}, "bands must be at least 1"),
        (
            {"population": 10**8, "cohort": 1e4, "rounds": 9000, "bands": 4096, "momentum": 0.9999,
             "noise_multiplier": 1e6, "ring_bits": 32},
            "do not fit whole numbers of 64 bits",
        ),
    ],
)  # fmt: skip
def test_what_has_no_price_is_refused_with_the_rule(changes, rule):
    with pytest.raises(ValueError, match=rule):
        plan(**changes)


@pytest.mark.parametrize("mechanism", ["distributed", "skellam", "local"])
def test_noise_of_phones_is_never_correlated(mechanism):
    with pytest.raises(ValueError, match="nobody holds the noise of earlier ones"):
        filled(mechanism, bands=4)


def test_a_factorization_belongs_to_its_mechanism():
    with pytest.raises(ValueError, match="belongs to mechanism matrix_factorization"):
        filled("central", min_separation=4)
    with pytest.raises(ValueError, match="needs a factorization"):
        dataclasses.replace(PLAN, factorization=None)


# Phone and server.


def test_a_phone_joins_neither_too_often_nor_too_soon():
    assert PLAN.admits(0)
    assert PLAN.admits(3, 10)
    assert not PLAN.admits(3, 9)
    assert not PLAN.admits(4, 10)
    plain = filled("central").plan
    assert plain.admits(3, 1)


def test_sums_need_the_noise_of_their_round_and_of_no_keystream():
    total = np.zeros(PLAN.vector_length, np.uint32)
    with pytest.raises(ValueError, match="'matrix_factorization' adds noise to the sum: none was"):
        PLAN.decode(total, rotation_seed=b"public")
    with pytest.raises(ValueError, match="Keystream was given"):
        PLAN.decode(total, rotation_seed=b"public", noise=ENTROPY.keystream("x"))
    with pytest.raises(ValueError, match="'central' adds noise to the sum: ndarray was given"):
        filled("central").plan.decode(
            total, rotation_seed=b"public", noise=np.zeros(PLAN.padded_dimension, np.int64)
        )


def test_rounds_are_rotated_alike_so_that_noise_is_taken_back():
    """All weights of C and no data: the sum of decoded rounds has the noise that is stated."""
    noise, zeros = CorrelatedNoise(PLAN, bytes(32)), np.zeros(PLAN.vector_length, np.uint32)
    means = [
        PLAN.decode(zeros, rotation_seed=bytes([number]), noise=noise.row(number)).mean
        for number in range(40)
    ]
    weights = np.empty(0)
    for number in range(40):
        weights = noise.added(weights, number)
    expected = PLAN.noise_norm(300) * math.sqrt(weights @ weights)
    # The squared norm of 600 normal numbers: 6 deviations, 2e-9.
    assert np.linalg.norm(np.sum(means, axis=0)) == pytest.approx(
        expected, rel=6 * math.sqrt(0.5 / 600)
    )
    assert expected < 0.6 * PLAN.noise_norm(300) * math.sqrt(40)


# The ledger.


def rid(number):
    return number.to_bytes(16, "big")


def opened(path, plan=PLAN, run_id="a run", source="seeded"):
    return Ledger.open(path, plan, run_id, source)


def test_a_charge_pays_for_every_row_up_to_its_round(tmp_path):
    """Rounds 2 to 10 were abandoned: a phone may stand in rounds 1 and 11, not in two of two."""
    ledger = opened(tmp_path / "ledger.jsonl")
    ledger.charge(0, 0, rid(0))
    assert ledger.guarantee().epsilon_release == PLAN.guarantee(1).epsilon_release
    ledger.charge(10, 0, rid(10))
    found = ledger.guarantee()
    assert found.rounds == 2
    assert found.epsilon_release == PLAN.guarantee(11).epsilon_release
    assert found.epsilon_release > PLAN.guarantee(2).epsilon_release
    again = Ledger.inspect(tmp_path / "ledger.jsonl")
    assert again.guarantee().epsilon_release == found.epsilon_release


def test_the_noise_of_a_round_is_never_used_for_two_sums(tmp_path):
    for source in ("os", "seeded"):
        ledger = opened(tmp_path / source, source=source)
        ledger.charge(3, 0, rid(3), "a secret")
        with pytest.raises(ValueError, match="noise of a round must never be used twice"):
            ledger.charge(3, 0, rid(4), "a secret")
        assert ledger.noise_commitments == {"a secret"}


def test_the_round_that_would_exceed_the_budget_is_refused_by_its_number(tmp_path):
    budget = (PLAN.guarantee(10).epsilon_release + PLAN.guarantee(11).epsilon_release) / 2
    ledger = opened(tmp_path / "ledger", dataclasses.replace(PLAN, epsilon_budget=budget))
    with pytest.raises(BudgetExhausted):
        ledger.require_budget(10)
    ledger.charge(9, 0, rid(9))
    with pytest.raises(BudgetExhausted):
        ledger.charge(10, 0, rid(10))


def test_a_torn_line_pays_for_the_whole_run(tmp_path):
    """It may have been the charge of any round."""
    path = tmp_path / "ledger.jsonl"
    opened(path).charge(0, 0, rid(0))
    with path.open("ab") as file:
        file.write(b'{"kind": "char')
    ledger = Ledger.resume(path, PLAN, "a run", "seeded", None)
    assert ledger.guarantee().epsilon_release == PLAN.guarantee(40).epsilon_release


def test_runs_of_both_kinds_share_a_ledger(tmp_path):
    plain = dataclasses.replace(filled("central").plan, epsilon_budget=100.0)
    path = tmp_path / "ledger.jsonl"
    first = opened(path)
    for number in range(3):
        first.charge(number, 0, rid(number))
    second = opened(path, plain, "another run")
    second.charge(0, 0, rid(100))
    found = second.guarantee()
    spent = [(PLAN.cost.of_first(3), 3), (plain.cost, 1)]
    assert found.epsilon_release == adversary_views.release(spent, plain.delta).epsilon
    assert found.mechanism == "central"  # both trust the server


# Who tries it.

SMALL = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    mechanism="matrix_factorization", participation="round_robin", dimension=4, clip_norm=1.0,
    noise_multiplier=2.0, population=16, participation_probability=0.5, rounds=4,
    max_participations=2, min_cohort=6, min_reporting=2, colluders=1, delta=0.00625,
    epsilon_budget=10.0, factorization=Factorization(min_separation=2, bands=2),
)  # fmt: skip


def reader_attack(noise_of, trials):
    """The best test: all that was published, times C, along what C makes of the phone's vectors."""
    strategy = np.zeros((4, 4))
    for lag, coefficient in enumerate(SMALL.factorization.coefficients):
        strategy += np.diag(np.full(4 - lag, coefficient / GRID), -lag)
    direction = strategy[:, [0, 2]].sum(axis=1)
    direction /= np.linalg.norm(direction)
    scores = []
    for world, said in (("said", 1.0), ("silent", 0.0)):
        found = []
        for trial in range(trials):
            rows, means = noise_of(ENTROPY.keystream(world, trial).bytes(32)), []
            for number in range(4):
                content = np.array([said if number in (0, 2) else 0.0, 0, 0, 0])
                sent = SMALL.privatize(
                    content, rotation_seed=b"", noise=ENTROPY.keystream("none"),
                    rounding=ENTROPY.keystream(world, trial, number),
                )  # fmt: skip
                decoded = SMALL.decode(sent, rotation_seed=b"", noise=rows(number))
                means.append(decoded.mean[0] * SMALL.expected_cohort)
            found.append(direction @ strategy @ means)
        scores.append(np.array(found))
    return audited_epsilon(*scores, np.linspace(-4, 5, 10), SMALL.delta)


@pytest.mark.slow
def test_a_reader_of_all_rounds_never_beats_the_claim_and_comes_near():
    claimed = SMALL.guarantee(4).epsilon_release
    assert 0.3 * claimed < reader_attack(lambda s: CorrelatedNoise(SMALL, s).row, 1500) < claimed


@pytest.mark.slow
def test_a_reader_beats_noise_that_every_round_uses_again():
    """Of two rounds with one noise the difference has none."""

    def again(secret):
        row = CorrelatedNoise(SMALL, secret).row(0)
        return lambda number: row

    def difference(noise_of, trials=300):
        scores = []
        for world, said in (("said", 1.0), ("silent", 0.0)):
            found = []
            for trial in range(trials):
                rows = noise_of(ENTROPY.keystream(world, trial).bytes(32))
                sums = []
                for number, content in ((0, said), (1, 0.0)):
                    sent = SMALL.privatize(
                        np.array([content, 0, 0, 0]), rotation_seed=b"",
                        noise=ENTROPY.keystream("none"),
                        rounding=ENTROPY.keystream(world, trial, number),
                    )  # fmt: skip
                    decoded = SMALL.decode(sent, rotation_seed=b"", noise=rows(number))
                    sums.append(decoded.mean[0] * SMALL.expected_cohort)
                found.append(sums[0] - sums[1])
            scores.append(np.array(found))
        return audited_epsilon(*scores, np.linspace(-4, 5, 10), SMALL.delta)

    claimed = SMALL.guarantee(4).epsilon_release
    assert difference(lambda secret: CorrelatedNoise(SMALL, secret).row) < claimed
    assert difference(again) > claimed
