"""Claims against attacks: what epsilon allows, and a fault that an attack on speech finds."""

import numpy as np
import pytest
from attacked_runs import membership_game, with_noise
from auditing import Silent

from fedspeech.audits.claims import check, most_true_positives
from fedspeech.audits.membership import ALIGNMENT
from fedspeech.privacy import mechanisms
from fedspeech.seeds import stream


@pytest.mark.parametrize(
    ("rate", "epsilon", "delta", "most"),
    [(0.01, 0.0, 0.0, 0.01), (0.01, np.log(3), 0.001, 0.031), (0.9, np.log(2), 0.0, 0.95),
     (0.001, np.inf, 0.0, 1.0), (1.0, 0.5, 0.0, 1.0)],
)  # fmt: skip
def test_true_positives_that_a_claim_allows(rate, epsilon, delta, most):
    assert most_true_positives(rate, epsilon=epsilon, delta=delta) == pytest.approx(most)


def test_randomized_response_is_called_broken_only_below_its_epsilon():
    """Right with probability e / (1 + e), so epsilon is 1; a false alarm in one of 100,000."""
    rng = stream(1, "responses")
    included = rng.random(4000) < 0.5
    scores = np.where(rng.random(4000) < np.e / (1 + np.e), included, ~included).astype(float)
    scores += 1e-6 * rng.random(4000)
    assert not check(scores, included, claimed=1.0, delta=0.0, confidence=1 - 1e-5).broken
    found = check(scores, included, claimed=0.7, delta=0.0, confidence=1 - 1e-5)
    assert found.broken
    assert found.says.startswith("CLAIM VIOLATED: epsilon is at least 0.")
    assert not check(scores, included, claimed=np.inf, delta=0.0).broken


def attacked():
    """Eight candidates a run, half of them in its sums: no crowd hides anybody, so noise must."""
    plan = with_noise(
        20.0, "central", delta=1e-9, population=8, participation_probability=1.0, min_cohort=2,
        min_reporting=2,
    )  # fmt: skip
    claimed = plan.guarantee(plan.rounds).epsilon_release
    games = [membership_game(ALIGNMENT, plan, seed, "reader", count=8) for seed in range(16)]
    scores, included = (np.concatenate(parts) for parts in zip(*games, strict=True))
    return check(scores, included, claimed=claimed, delta=plan.delta, confidence=0.999)


@pytest.mark.slow
def test_a_sound_plan_is_not_contradicted_and_one_whose_noise_is_off_is(monkeypatch):
    sound = attacked()
    assert not sound.broken
    assert "not contradicted" in sound.says
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: Silent())
    broken = attacked()
    assert broken.broken, broken.says
