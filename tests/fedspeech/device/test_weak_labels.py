"""Reactions label a phone's clips: corrections rightly, retries wrongly at a stated rate."""

import numpy as np
import pytest

from fedspeech.device.user_rates import UserRates
from fedspeech.device.weak_labels import LabelWeights, Reaction, reactions

WORDS, CLIPS = 5, 40_000
RNG = np.random.default_rng(1)
MEANT = RNG.integers(0, WORDS, CLIPS)
# Some are answered rightly, some by another word, some by "unknown" or "silence".
ANSWERED = np.where(RNG.random(CLIPS) < 0.7, MEANT, RNG.integers(0, WORDS + 2, CLIPS))
RATES = UserRates(corrected_share=0.4, retried_share=0.8)


def found(mistaken=0.25, rates=RATES):
    return reactions(
        MEANT, ANSWERED, words=WORDS, rates=rates, mistaken=mistaken, rng=np.random.default_rng(2)
    )


def test_each_kind_of_answer_has_its_reaction_at_the_stated_rate():
    kinds = found().kinds
    rejected, right = ANSWERED >= WORDS, ANSWERED == MEANT
    confused = ~rejected & ~right
    assert (kinds[right] == Reaction.ACCEPTED).all()
    for which, reaction, rate in (
        (confused, Reaction.CORRECTION, 0.4),
        (rejected, Reaction.RETRY, 0.8),
    ):
        assert set(kinds[which]) == {reaction, Reaction.NONE}
        assert (kinds[which] == reaction).mean() == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize("mistaken", [0.0, 0.25, 1.0])
def test_corrections_and_acceptance_are_right_and_retries_are_wrong_as_often_as_stated(mistaken):
    one = found(mistaken)
    for kind in (Reaction.ACCEPTED, Reaction.CORRECTION):
        assert (one.told == MEANT)[one.kinds == kind].all()
    retried = one.kinds == Reaction.RETRY
    assert (one.told != MEANT)[retried].mean() == pytest.approx(mistaken, abs=0.02)
    assert set(one.told[retried]) == set(range(WORDS))
    assert (one.told[one.kinds == Reaction.NONE] == -1).all()


def test_more_noise_changes_no_other_draw():
    some, more = found(0.2), found(0.5)
    np.testing.assert_array_equal(some.kinds, more.kinds)
    wrong = some.told != more.told
    assert wrong.any()
    assert (some.told == MEANT)[wrong].all(), "who is wrong at 0.2 is wrong at 0.5, the same way"


def test_clips_count_by_what_labeled_them_and_what_counts_nothing_is_left_out():
    one = found()
    clips, labels, weights = one.labeled(LabelWeights(accepted=0.7, correction=1.0, retry=0.3))
    by_kind = {Reaction.ACCEPTED: 0.7, Reaction.CORRECTION: 1.0, Reaction.RETRY: 0.3}
    np.testing.assert_array_equal(labels, one.told[clips])
    np.testing.assert_allclose(weights, [by_kind[kind] for kind in one.kinds[clips]])
    assert len(clips) == (one.kinds != Reaction.NONE).sum()
    clips, _, _ = one.labeled(LabelWeights(retry=0))
    assert set(one.kinds[clips]) == {Reaction.ACCEPTED, Reaction.CORRECTION}
    with pytest.raises(ValueError, match="retry must be"):
        LabelWeights(retry=1.1)


def test_a_single_word_has_no_other():
    one = reactions(
        np.zeros(9, np.int64), np.ones(9, np.int64), words=1, rates=UserRates(retried_share=1.0),
        mistaken=1.0, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert set(one.told) == {0}
