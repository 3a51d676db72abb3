"""A trait that moves updates is found by both classifiers; noise and frequency are not."""

import numpy as np
import pytest
from tiny_voices import MODEL, NOISY, OPEN, Voice, contributions, knowing

from fedspeech.audits.attributes import TRAIT_ATTACKS, NeighborClassifier, RidgeClassifier
from fedspeech.audits.transcript import SeenRound, Transcript
from fedspeech.audits.update_views import as_seen
from fedspeech.evaluation.balanced_accuracy import balanced_accuracy_metric

CLASSIFIERS = (RidgeClassifier(), NeighborClassifier())


def found(attack, plan):
    """Balanced accuracy on 40 voices."""
    rng = np.random.default_rng(3)
    voices = [Voice(rng) for _ in range(40)]
    clips = [voice.clips(rng) for voice in voices]
    updates = np.stack(contributions(clips, MODEL, [rng] * 40)).astype(np.float64)
    seen = SeenRound(
        number=0, sent=MODEL, senders=np.arange(40), singles=as_seen(updates, plan, 0, rng)
    )
    transcript = Transcript(
        observer="server", plan=plan, releases=np.stack([MODEL] * 2), rounds=(seen,)
    )
    scores = attack.guess(transcript, knowing(rng), rng).scores
    truth = np.array([voice.value for voice in voices])
    return balanced_accuracy_metric(scores, truth, np.arange(40), rng)


@pytest.mark.parametrize(
    "attack", [one for one in TRAIT_ATTACKS if one.secret == "sex"], ids=lambda one: one.name
)
def test_a_trait_is_found_unless_noise_hides_it(attack):
    assert found(attack, OPEN).interval.low > 0.6
    # 40 guesses of a fair coin are within 0.32 of a half but for one in 20,000 cases.
    assert abs(found(attack, NOISY).value - 0.5) < 0.32


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda one: type(one).__name__)
def test_a_rare_value_is_found_too(classifier):
    """One of ten speakers has it: whoever always names the other is right in nine of ten cases."""
    rng = np.random.default_rng(9)
    values, truth = np.repeat([0, 1], [90, 10]), np.repeat([0, 1], 200)
    training, seen = (
        rng.normal(size=(len(of), 30)) + 3.0 * np.outer(of, np.eye(30)[0]) for of in (values, truth)
    )
    right = classifier.scores(training, values, seen).argmax(axis=1) == truth
    assert min(right[truth == 0].mean(), right[truth == 1].mean()) > 0.6


def test_sums_and_unknown_traits_are_refused():
    rng = np.random.default_rng(1)
    sum_only = SeenRound(number=0, sent=MODEL, senders=np.zeros(0, np.int64), total=MODEL + 1.0)
    transcript = Transcript(
        observer="server", plan=OPEN, releases=np.stack([MODEL] * 2), rounds=(sum_only,)
    )
    with pytest.raises(ValueError, match="single contributions"):
        TRAIT_ATTACKS[0].guess(transcript, knowing(rng, public=4), rng)
    single = SeenRound(number=0, sent=MODEL, senders=np.arange(1), singles=np.ones((1, 27)))
    transcript = Transcript(
        observer="server", plan=OPEN, releases=np.stack([MODEL] * 2), rounds=(single,)
    )
    with pytest.raises(ValueError, match="two values of accent"):
        TRAIT_ATTACKS[0].guess(transcript, knowing(rng, public=4), rng)


def test_two_classifiers_of_different_kinds_ask_for_every_trait():
    kinds = {}
    for attack in TRAIT_ATTACKS:
        kinds.setdefault(attack.secret, set()).add(type(attack.classifier))
    assert set(kinds) == {"accent", "sex", "age_band", "device", "noise"}
    assert all(len(found) == 2 for found in kinds.values())
