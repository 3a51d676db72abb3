"""Personalizing on blobs: each phone's words are moved by a shift of its own."""

import numpy as np
import pytest

from fedspeech.models.adapters import make_adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.seeds import stream
from fedspeech.tasks.kws import Kws, WordRoles
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.personalize import Guard, personalize
from fedspeech.training.settings import LocalTraining

TARGETS, FEATURES = 4, 12
LABELS = TARGETS + 2
ADAPTER = make_adapter("head", 1, FEATURES, LABELS)
TASK = Kws(WordRoles(("a", "b", "c", "d")))
CENTRES = 1.6 * np.random.default_rng(0).standard_normal((LABELS, FEATURES))
GLOBAL = {
    "head_weight": CENTRES.astype(np.float32),
    "head_bias": (-0.5 * (CENTRES**2).sum(axis=1)).astype(np.float32),
}
START = ADAPTER.spec.flatten(GLOBAL)
TRAINING = LocalTraining(learning_rate=0.1, local_epochs=30, batch_size=128, max_examples=128)


def clips(labels, seed, shift=0.0):
    rng = np.random.default_rng([9, seed])
    labels = np.asarray(labels)
    moved = CENTRES[labels] + shift + rng.standard_normal((len(labels), FEATURES))
    return LocalDataset(moved.astype(np.float32), labels)


def shift_of(phone):
    return 2.0 * np.random.default_rng([5, phone]).standard_normal((LABELS, FEATURES))


def own_clips(phone, per_word, seed=0):
    labels = np.repeat(np.arange(TARGETS), per_word)
    return clips(labels, 100 * phone + seed, shift_of(phone)[labels])


def rngs(phones):
    return [stream(3, "personalize", 2, phone) for phone in phones]


PUBLIC = clips(np.repeat([TARGETS, TARGETS + 1], 6), 1)
HELD_BACK = clips(np.repeat([TARGETS, TARGETS + 1], 40), 2)


def adapt(own, guard, training=TRAINING, phones=None):
    phones = range(len(own)) if phones is None else phones
    return personalize(ADAPTER, GLOBAL, own, PUBLIC, HELD_BACK, training, guard, rngs(phones), TASK)


def accuracy(vector, data):
    logits = score_clips(ADAPTER, vector[np.newaxis], data.embeddings)[0]
    return (logits.argmax(axis=1) == data.labels).mean()


def test_own_clips_help_and_another_phones_do_not():
    phones = range(12)
    own = [own_clips(phone, 3) for phone in phones]
    judged = [own_clips(phone, 25, seed=1) for phone in phones]
    before = np.mean([accuracy(START, data) for data in judged])

    def after(given, **which):
        found = adapt(given, Guard())
        pairs = zip(found, judged, strict=True)
        return np.mean([accuracy(one.adapter(START, **which), data) for one, data in pairs])

    assert after(own) > before + 0.1
    assert after(own, guarded=False) > before + 0.1
    assert after(own[1:] + own[:1]) < before + 0.03
    assert after(own[1:] + own[:1], guarded=False) < before


def losses(found, judged):
    """Mean accuracy lost against the global adapter, without and with the guard."""
    return (
        np.mean(
            [
                accuracy(START, data) - accuracy(one.adapter(START, guarded=guarded), data)
                for one, data in zip(found, judged, strict=True)
            ]
        )
        for guarded in (False, True)
    )


def test_the_guard_saves_the_words_of_which_a_phone_has_no_clip():
    own = [own_clips(phone, 3).take(np.arange(3)) for phone in range(20)]  # one word only
    judged = [clips(np.repeat(np.arange(1, TARGETS), 25), 77)] * 20
    found = adapt(own, Guard())
    lost, lost_with_guard = losses(found, judged)
    assert lost > 0.02
    assert lost_with_guard < lost / 4
    assert max(one.interpolation_weight for one in found) <= 0.75 / TARGETS**3


def test_the_guard_refuses_what_held_back_clips_speak_against():
    # Of three clips of a word, one is of the next word: what it teaches, the others contradict.
    labels = np.repeat(np.arange(TARGETS), 3)
    said = np.where(np.arange(12) % 3 == 0, (labels + 1) % TARGETS, labels)
    own = [LocalDataset(clips(said, phone).embeddings, labels) for phone in range(30)]
    guarded = adapt(own, Guard(interpolation_weights=(0.0, 1.0)))
    assert np.mean([one.interpolation_weight == 0 for one in guarded]) > 0.5
    judged = [clips(np.repeat(np.arange(TARGETS), 25), 77)] * 30
    lost, lost_with_guard = losses(guarded, judged)
    assert lost > 0.1
    assert lost_with_guard < lost / 2


def test_a_words_only_clip_is_never_held_back():
    # Held back, it would be answered by an adapter that never heard the word.
    found = adapt([own_clips(phone, 1) for phone in range(12)], Guard(max_false_accept_rise=1.0))
    assert {one.interpolation_weight for one in found} == {0.5}


def test_false_accepts_never_rise_beyond_the_stated_figure_on_the_held_back_set():
    # No public negatives in the training set: adapting alone forgets what unknown means.
    none = PUBLIC.take(np.array([], dtype=np.int64))
    own = [own_clips(phone, 3) for phone in range(12)]
    hard = clips(np.repeat([TARGETS, TARGETS + 1], 40), 2, shift=0.6)

    def rises(guarded, limit):
        found = personalize(
            ADAPTER,
            GLOBAL,
            own,
            none,
            hard,
            TRAINING,
            Guard(max_false_accept_rise=limit),
            rngs(range(12)),
            TASK,
        )
        vectors = [START, *(one.adapter(START, guarded=guarded) for one in found)]
        answers = score_clips(ADAPTER, np.stack(vectors), hard.embeddings).argmax(axis=2)
        shares = (answers < TARGETS).mean(axis=1)
        return shares[1:] - shares[0]

    assert rises(guarded=False, limit=0.02).max() > 0.05
    assert rises(guarded=True, limit=0.02).max() <= 0.02 + 1e-9
    assert rises(guarded=True, limit=0.0).max() <= 0
    assert rises(guarded=True, limit=1.0).max() > 0.02


def test_without_a_guard_all_of_the_delta_is_kept_and_equals_the_one_phone_loop():
    own = own_clips(0, 2)
    found = adapt([own], None)[0]
    alone = train_adapter(ADAPTER, GLOBAL, own.joined(PUBLIC), TRAINING, stream(3, "x"))
    assert found.interpolation_weight == 1
    np.testing.assert_allclose(found.delta.vector, alone.vector, atol=1e-5)
    assert np.array_equal(found.adapter(START), START + found.delta.vector)


def test_the_guard_does_not_change_what_is_learnt_only_how_much_is_kept():
    own = [own_clips(0, 2), own_clips(1, 2)]
    with_guard, without = adapt(own, Guard()), adapt(own, None)
    for one, other in zip(with_guard, without, strict=True):
        assert np.array_equal(one.delta.vector, other.delta.vector)
        assert one.interpolation_weight in Guard().interpolation_weights  # every word has a clip


def test_a_phone_does_not_depend_on_its_company():
    own = [own_clips(phone, 1 + phone % 3) for phone in range(20)]
    together = adapt(own, Guard())
    alone = adapt(own[7:8], Guard(), phones=[7])[0]
    assert np.array_equal(together[7].delta.vector, alone.delta.vector)
    assert together[7].interpolation_weight == alone.interpolation_weight


def test_a_phone_without_clips_keeps_the_global_adapter():
    nothing = own_clips(0, 0)
    for guard in (Guard(), None):
        one = adapt([nothing, own_clips(1, 1)], guard)[0]
        assert np.array_equal(one.adapter(START), START)


def test_a_delta_that_is_not_finite_is_never_kept():
    # A learning rate beyond all reason, and no clip that could speak against it.
    wild = LocalTraining(learning_rate=1e38, local_epochs=9, batch_size=128, max_examples=128)
    nothing = HELD_BACK.take(np.array([], dtype=np.int64))
    found = personalize(
        ADAPTER, GLOBAL, [own_clips(0, 1)], PUBLIC, nothing, wild, Guard(), rngs([0]), TASK
    )[0]
    assert not np.isfinite(found.delta.vector).all()
    assert np.array_equal(found.adapter(START), START)


def test_the_largest_set_must_fit():
    small = LocalTraining(batch_size=64, local_epochs=5, max_examples=13)
    with pytest.raises(ValueError, match="must hold own and public clips, got 13 for 16"):
        adapt([own_clips(0, 1)], Guard(), training=small)
    with pytest.raises(ValueError, match="expected a stream per phone, got 2 for 1"):
        adapt([own_clips(0, 1)], Guard(), phones=[0, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interpolation_weights": (0.5, 1.0)}, "interpolation_weights must ascend from 0"),
        ({"interpolation_weights": (0.0, 1.5)}, "interpolation_weights must ascend from 0"),
        ({"interpolation_weights": (0.0, 1.0, 0.5)}, "interpolation_weights must ascend from 0"),
        ({"unchecked": 1.5}, r"unchecked must be in \[0, 1\], got 1.5"),
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"max_false_accept_rise": -0.1}, r"max_false_accept_rise must be in \[0, 1\]"),
    ],
)
def test_a_guard_out_of_range_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Guard(**changes)


def test_scoring_refuses_shapes_that_do_not_fit():
    clip = own_clips(0, 1).embeddings
    with pytest.raises(ValueError, match="expected vectors of shape"):
        score_clips(ADAPTER, START, clip)
    with pytest.raises(ValueError, match="expected embeddings of shape"):
        score_clips(ADAPTER, START[np.newaxis], clip[:, :-1])
