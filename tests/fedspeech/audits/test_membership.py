"""Membership attacks: known answers, a positive control, and chance where noise promises it."""

import numpy as np
import pytest
import torch
from attacked_runs import INITIAL, PLAN, membership_game, played, speakers, with_noise
from scipy.stats import multivariate_normal, norm
from tiny_job import LABELS, TRAINING

from fedspeech.audits.membership import (
    ALIGNMENT,
    MEMBERSHIP,
    SUM_RATIO,
    alignments,
    sum_ratios,
)
from fedspeech.audits.shadow_ratio import OWN_SPREAD, ShadowRatio, confidences, likelihood_ratio
from fedspeech.evaluation.roc import roc
from fedspeech.seeds import stream

ATTACKS = (ALIGNMENT, SUM_RATIO, ShadowRatio(runs=60), ShadowRatio(runs=60, variant="offline"))


def areas(attack, plan, games, **how):
    found = []
    for seed in range(games):
        scores, included = membership_game(attack, plan, seed, **how)
        found.append(roc(scores[included], scores[~included]).area)
    return np.mean(found)


def test_confidence_is_the_logit_of_the_probability():
    adapter, (clips,) = TRAINING.built, speakers(1, seed=3, clips=1)
    model = stream(4, "model").normal(size=len(INITIAL)).astype(np.float32)
    parameters = {k: torch.tensor(v[None]) for k, v in adapter.spec.unflatten(model).items()}
    logits = adapter.logits(parameters, torch.tensor(clips.embeddings[None]))[0, 0]
    p = float(torch.softmax(logits, 0)[clips.labels[0]])
    assert confidences(adapter, model, [clips]) == pytest.approx([np.log(p / (1 - p))], rel=1e-4)
    at_start = confidences(adapter, INITIAL, speakers(3, seed=5))
    assert at_start == pytest.approx(np.full(3, -np.log(LABELS - 1)), rel=1e-4)


def test_the_ratio_is_that_of_two_gaussians():
    """Algorithm 1 of Carlini et al. 2022, lines 13 to 15; Eq. 4 offline."""
    rng = stream(1, "shadows")
    included = np.arange(4 * OWN_SPREAD)[:, None] % 2 == np.array([0, 1])
    shadows = rng.normal(np.where(included, 1.0, 0.0), [0.5, 2.0])
    seen = np.array([0.7, -0.2])
    found = likelihood_ratio(seen, shadows, included)
    for place in range(2):
        sides = [shadows[chosen[:, place], place] for chosen in (included, ~included)]
        there, away = (norm.logpdf(seen[place], one.mean(), one.std(ddof=1)) for one in sides)
        assert found[place] == pytest.approx(there - away)
    offline = likelihood_ratio(seen, shadows, np.zeros_like(included))
    assert offline == pytest.approx((seen - shadows.mean(0)) / shadows.std(0, ddof=1))


def test_few_shadow_runs_share_one_spread_and_one_run_is_refused():
    shadows = stream(2, "few").normal(0, [1.0, 3.0], size=(10, 2))
    none = np.zeros((10, 2), dtype=bool)
    deviations = likelihood_ratio(np.array([1.0, 1.0]) + shadows.mean(0), shadows, none)
    shared = np.sqrt((shadows.var(0, ddof=1)).mean())
    assert deviations == pytest.approx(np.full(2, 1 / shared))
    with pytest.raises(ValueError, match="two shadow runs"):
        likelihood_ratio(shadows[0], shadows[:1], none[:1])


def test_alignment_is_the_cosine_without_the_mean():
    mean, own = np.array([2.0, 0, 0]), np.array([[9.0, 1, 0], [-9.0, 0, 3]])
    rows = np.array([[7.0, 0, 2]])
    assert alignments(own, rows, mean) == pytest.approx(np.array([[0.0, 1.0]]))


@pytest.mark.parametrize("phones", [1, 7])
def test_the_ratio_of_sums_is_that_of_two_normal_distributions(phones):
    rng = stream(phones, "sums")
    public, own, rows = (rng.normal(size=shape) for shape in ((5, 6), (3, 6), (2, 6)))
    found = sum_ratios(own, rows, public, phones, 0.7)
    mean, centered = public.mean(0), public - public.mean(0)
    covariance = phones * 0.9 * centered.T @ centered / 4
    covariance += (0.7**2 + phones * 0.1 * public.var(0).mean()) * np.eye(6)
    covariance += phones**2 * np.outer(public.mean(0), public.mean(0))
    without = multivariate_normal(phones * mean, covariance)
    for place, one in enumerate(own):
        there = multivariate_normal((phones - 1) * mean + one, covariance)
        assert found[:, place] == pytest.approx(there.logpdf(rows) - without.logpdf(rows), rel=1e-6)


@pytest.mark.parametrize(
    ("attack", "observer", "least"),
    [(SUM_RATIO, "server", 0.7), (SUM_RATIO, "reader", 0.7), (ALIGNMENT, "server", 0.6)],
)
def test_members_are_found_where_nothing_protects_them(attack, observer, least):
    """Chance is 0.5, with a deviation of 0.05 over the games."""
    assert areas(attack, PLAN, 3, observer=observer) > least


def test_members_are_found_in_single_contributions():
    """Three in a hundred members are never called; batches of one phone are drawn afresh."""
    assert areas(ALIGNMENT, PLAN, 2, single=True) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS[2:], ids=lambda attack: attack.name)
def test_members_are_found_by_shadow_runs_in_the_last_model(attack):
    """Chance is 0.5, with a deviation of 0.04 over the games."""
    assert areas(attack, PLAN, 6, observer="reader") > 0.6


def test_noise_hides_members():
    """A hundred clip norms of it: areas stay within 4 deviations (0.06 each) of chance."""
    for attack in ATTACKS[:2]:
        assert 0.26 < areas(attack, with_noise(100.0), 3) < 0.74


def test_what_an_attack_has_is_stated_and_other_transcripts_are_refused():
    network = played(PLAN, speakers(20, 0), 0, observer="reader")
    for attack in MEMBERSHIP:
        assert attack.secret == "membership"
        assert "very clips" in attack.knowledge
        assert "recipient" not in attack.observers
    object.__setattr__(network, "observer", "network")
    with pytest.raises(ValueError, match="expected a transcript of"):
        ALIGNMENT.guess(network, None, stream(0, "none"))
