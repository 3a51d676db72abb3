"""Guesses beside the truth: a perfect attacker gets everything, one that guesses gets chance."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedspeech.audits.attack import Guess
from fedspeech.audits.transcript import SeenRound, Transcript
from simulations.audits.judge import NothingToAsk, Promised, Shown, beats_chance, checked, judged

D = 3
RNG = np.random.default_rng(5)
CANDIDATES = np.arange(10, 22)
ABSENT = frozenset(range(16, 22))
THERE = [phone for phone in CANDIDATES if phone not in ABSENT]
SUBJECT = SimpleNamespace(
    candidates=CANDIDATES,
    absent=ABSENT,
    traits={phone: {"accent": "abc"[phone % 3]} for phone in range(30)},
    public=[SimpleNamespace(traits={"accent": value}) for value in "cba"],
    asked=(None, np.repeat(THERE, 2), np.tile([True, False], len(THERE))),
)
REPORTING = (np.array([0, 10, 11, 12, 13, 14, 15, 16]), np.arange(10, 16))


def shown(single):
    """Two rounds, seen by a server without masks or with them."""
    rounds = [
        SeenRound(
            number=number, sent=np.zeros(D, np.float32), senders=phones,
            singles=np.zeros((len(phones), D)) if single else None, total=np.zeros(D),
        )
        for number, phones in enumerate(REPORTING)
    ]  # fmt: skip
    transcript = Transcript(
        observer="server", plan=None, releases=np.zeros((3, D), np.float32), rounds=tuple(rounds)
    )
    behind = [phones[:, None] for phones in REPORTING] if single else [REPORTING]
    return Shown(transcript=transcript, behind=tuple(row for rows in behind for row in rows))


def truth(secret, single):
    behind = shown(single).behind
    if secret == "speaker":
        return np.stack([np.isin(CANDIDATES, phones) & (CANDIDATES < 16) for phones in behind])
    if secret == "link":
        phones = np.concatenate(REPORTING)
        return phones[:, None] == phones
    if secret == "membership":
        return np.isin(CANDIDATES, THERE)[None]
    if secret == "clip":
        return np.stack([np.isin(SUBJECT.asked[1], rows) & SUBJECT.asked[2] for rows in behind])
    return np.stack(
        [[SUBJECT.traits[int(rows[0])]["accent"] == value for value in "abc"] for rows in behind]
    )


CASES = [(secret, True) for secret in ("speaker", "link", "membership", "accent", "clip")]
CASES += [("speaker", False), ("membership", False), ("clip", False)]


@pytest.mark.parametrize(("secret", "single"), CASES)
def test_who_knows_the_truth_gets_everything_and_who_says_the_opposite_nothing(secret, single):
    scores = truth(secret, single).astype(float)
    found = judged(secret, Guess(scores=scores), SUBJECT, shown(single), RNG)[0]
    wrong = judged(secret, Guess(scores=-scores), SUBJECT, shown(single), RNG)[0]
    certain, none = (0.0, 1.0) if found.lower_is_better else (1.0, 0.0)
    assert found.value == certain
    assert beats_chance(found)
    assert wrong.value == pytest.approx(none, abs=0.5 if secret == "accent" else 0.0)
    assert not beats_chance(wrong)


@pytest.mark.parametrize(("secret", "single"), CASES)
def test_who_says_nothing_is_at_chance(secret, single):
    scores = np.zeros(truth(secret, single).shape)
    found = judged(secret, Guess(scores=scores), SUBJECT, shown(single), RNG)[0]
    assert found.value == pytest.approx(found.by_chance)
    assert not beats_chance(found)


@pytest.mark.parametrize("secret", ["link", "accent"])
def test_a_sum_is_of_nobody_alone(secret):
    guess = Guess(scores=np.zeros((2, 3)))
    with pytest.raises(NothingToAsk, match="no single one"):
        judged(secret, guess, SUBJECT, shown(single=False), RNG)


def test_who_is_absent_is_no_member_though_it_joined():
    scores = np.isin(CANDIDATES, [16])[None].astype(float)
    found = judged("membership", Guess(scores=scores), SUBJECT, shown(single=True), RNG)[0]
    assert found.value < 0.5


MANY = SimpleNamespace(candidates=np.arange(400), absent=frozenset(range(0, 400, 2)))
COINS = np.array([phone % 2 == 1 for phone in range(400)])[None].astype(float)


def test_a_claim_falls_where_members_are_known_and_stands_where_they_are_not():
    """Perfect guesses of 400 coins prove about 4 at delta 1e-9; equal scores prove nothing."""
    promise = Promised(epsilon=2.0, delta=1e-9)
    found = checked("membership", Guess(scores=COINS), MANY, promise, 0.99)
    assert found.broken
    assert found.bound.epsilon > 3
    assert found.says.startswith("CLAIM VIOLATED")
    shuffled = np.random.default_rng(3).permutation(COINS[0])[None]
    assert not checked("membership", Guess(scores=shuffled), MANY, promise, 0.99).broken


def test_no_claim_is_checked_where_none_is_made_or_the_game_is_another():
    nothing, promise = Promised(epsilon=np.inf, delta=0.1), Promised(epsilon=2.0, delta=1e-9)
    assert checked("membership", Guess(scores=COINS), MANY, nothing, 0.99) is None
    assert checked("speaker", Guess(scores=COINS), MANY, promise, 0.99) is None
    few = SimpleNamespace(candidates=np.arange(8), absent=frozenset([1, 2]))
    assert checked("membership", Guess(scores=COINS[:, :8]), few, promise, 0.99) is None
