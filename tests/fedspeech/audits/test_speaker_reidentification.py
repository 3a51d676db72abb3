"""Re-identification beats chance where nothing protects, and does not where noise does."""

import dataclasses

import numpy as np
import pytest
from tiny_voices import ADAPTER, MODEL, NOISY, OPEN, Voice, contributions, knowing

from fedspeech.audits.speaker_reidentification import (
    EVALUATION,
    REIDENTIFICATION,
    UPDATE_LINKING,
    Reidentification,
    pooled,
    rehearsed,
)
from fedspeech.audits.transcript import SeenRound, Transcript
from fedspeech.audits.update_views import as_seen, footprints
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics

ATTACKED = 24
TRUTH = np.eye(ATTACKED, dtype=bool)


def scene(plan, seed=3):
    """Attacked voices, and two rounds of their single updates under a plan."""
    rng = np.random.default_rng(seed)
    voices = [Voice(rng) for _ in range(ATTACKED)]
    rounds = []
    for number in range(2):
        clips = [voice.clips(rng) for voice in voices]
        found = np.stack(contributions(clips, MODEL, [rng] * ATTACKED)).astype(np.float64)
        singles = as_seen(found, plan, 0, rng)
        senders = np.arange(ATTACKED)
        rounds.append(SeenRound(number=number, sent=MODEL, senders=senders, singles=singles,
                                total=singles.sum(0)))  # fmt: skip
    transcript = Transcript(
        observer="server", plan=plan, releases=np.stack([MODEL] * 3), rounds=tuple(rounds)
    )
    return transcript, knowing(rng, voices), rng


@pytest.mark.slow
@pytest.mark.parametrize("attack", REIDENTIFICATION, ids=lambda attack: attack.name)
def test_single_updates_betray_their_speaker_and_noisy_ones_do_not(attack):
    transcript, knowledge, rng = scene(OPEN)
    scores = attack.guess(transcript, knowledge, rng).scores
    assert scores.shape == (2 * ATTACKED, ATTACKED)
    np.testing.assert_allclose(scores[:ATTACKED], scores[ATTACKED:])  # pooled over both rounds
    eer, first, *_ = linking_metrics(Trials(scores[:ATTACKED], TRUTH), rng)
    assert eer.interval.high < 0.3
    assert first.interval.low > 2 * first.by_chance
    transcript, knowledge, rng = scene(NOISY)
    scores = attack.guess(transcript, knowledge, rng).scores
    eer, *_ = linking_metrics(Trials(scores[:ATTACKED], TRUTH), rng)
    assert abs(eer.value - 0.5) < 4 * 0.053  # deviation of 24 speakers


@pytest.mark.parametrize("attack", [UPDATE_LINKING[0], UPDATE_LINKING[2]], ids=lambda a: a.name)
def test_rounds_of_one_phone_are_linked_without_knowing_anybody(attack):
    transcript, knowledge, rng = scene(OPEN)
    assert not dataclasses.replace(knowledge, candidates=()).candidates
    scores = attack.guess(transcript, dataclasses.replace(knowledge, candidates=()), rng).scores
    speakers = np.tile(np.arange(ATTACKED), 2)
    eer, *_ = linking_metrics(
        Trials(scores, speakers[:, None] == speakers, ~np.eye(2 * ATTACKED, dtype=bool), speakers),
        rng,
    )
    assert eer.interval.high < 0.3


def test_a_sum_has_one_row_and_every_candidate():
    transcript, knowledge, rng = scene(OPEN)
    rounds = tuple(
        dataclasses.replace(seen, singles=None, senders=np.zeros(0, np.int64))
        for seen in transcript.rounds
    )
    sums = dataclasses.replace(transcript, rounds=rounds)
    assert REIDENTIFICATION[0].guess(sums, knowledge, rng).scores.shape == (2, ATTACKED)


def test_the_evaluation_attacker_is_of_another_kind():
    kinds = {type(attack.linker) for attack in (*REIDENTIFICATION, *UPDATE_LINKING)}
    assert not kinds & {type(attack.linker) for attack in EVALUATION}


def test_an_observer_without_models_is_refused():
    transcript = Transcript(observer="network", plan=OPEN, releases=np.zeros((0, 27), np.float32))
    for attack in (REIDENTIFICATION[0], UPDATE_LINKING[0]):
        with pytest.raises(ValueError, match="got 'network'"):
            attack.guess(transcript, None, None)


def test_scores_of_one_sender_are_averaged_and_unknown_senders_stay_apart():
    scores = np.array([[1.0], [3.0], [10.0], [20.0]])
    np.testing.assert_array_equal(pooled(scores, np.array([4, 4, -1, -1]))[:, 0], [2, 2, 10, 20])


def test_attackers_train_under_the_noise_of_the_plan():
    """2,000 rows of 27: the deviation is within 2 % but for one seed in a billion."""
    rng, rows = np.random.default_rng(2), np.zeros((2000, ADAPTER.spec.size))
    per_phone = NOISY.stddev / NOISY.scale
    assert per_phone == pytest.approx(3.0, rel=0.01)
    assert as_seen(rows, NOISY, 0, rng).std() == pytest.approx(per_phone, rel=0.02)
    assert as_seen(rows, NOISY, 8, rng).std() == pytest.approx(3 * per_phone, rel=0.02)
    long = as_seen(10 + rows[:5], OPEN, 0, rng)
    np.testing.assert_allclose(np.linalg.norm(long, axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(as_seen(10 + rows[:5], OPEN, 3, rng), axis=1), 4.0)


def test_adapters_that_left_their_phones_are_attacked_without_the_noise_of_rounds():
    """Attackers who trained under a noise that is not there would look weaker than they are."""
    transcript, _, rng = scene(OPEN)
    alone = dataclasses.replace(transcript.rounds[0], senders=np.zeros(0, np.int64), total=None)
    left = dataclasses.replace(transcript, observer="recipient", plan=NOISY, rounds=(alone,))
    updates = 5 * np.ones((4, ADAPTER.spec.size))
    np.testing.assert_array_equal(rehearsed(updates, left, rng), updates)
    noisy = rehearsed(updates, dataclasses.replace(transcript, plan=NOISY), rng)
    assert np.abs(noisy - updates).min() > 0


def test_a_footprint_is_what_a_step_changes_whatever_its_length():
    rng = np.random.default_rng(8)
    updates, clips = rng.normal(size=(3, 27)), rng.normal(size=(5, 8)).astype(np.float32)
    found = footprints(ADAPTER, MODEL, updates, clips)
    np.testing.assert_allclose(found, footprints(ADAPTER, MODEL, 9 * updates, clips), atol=1e-5)
    unit = updates / np.linalg.norm(updates, axis=1, keepdims=True)
    logits = np.einsum("plf,nf->pnl", unit[:, :24].reshape(3, 3, 8), clips) + unit[:, None, 24:]
    expected = logits - logits.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(found, expected.reshape(3, -1), atol=1e-5)


def test_what_an_attack_knows_is_said():
    for attack in (*REIDENTIFICATION, *UPDATE_LINKING, *EVALUATION):
        holds = "enrollment" if isinstance(attack, Reidentification) else "public"
        assert (attack.auxiliary, bool(attack.knowledge)) == (holds, True)
