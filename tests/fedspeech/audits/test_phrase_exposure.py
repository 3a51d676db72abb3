"""Phrase exposure: its definition, a phone that repeats a phrase, and chance behind noise."""

import dataclasses
import itertools
import types

import numpy as np
import pytest
from attacked_runs import PLAN, knowledge, played
from tiny_job import TRAINING

from fedspeech.audits.phrase_exposure import (
    PHRASE_EXPOSURE,
    LossDrop,
    PhraseAlignment,
    Recognition,
    by_chance,
    exposures,
)
from fedspeech.audits.transcript import Transcript
from fedspeech.corpora.corpus import Alphabet
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining

BOTH = (pytest.param(LossDrop(), marks=pytest.mark.slow), PhraseAlignment())
FEATURES, LETTERS, FRAMES = 8, 6, 9
SENTENCES = dataclasses.replace(
    TRAINING,
    training=LocalTraining(batch_size=8, local_epochs=3, max_examples=8, learning_rate=0.3),
    adapter=AdapterShape(
        name="frame_affine", num_windows=FRAMES, num_features=FEATURES, num_labels=LETTERS + 1
    ),
)
PHRASES = tuple("".join(letters) for letters in itertools.permutations("abcdef", 3))[::8]


def spoken(phrases, seed):
    """Each letter as three frames of its own sound, by a voice of its own."""
    rng, sounds = stream(seed, "voice"), stream(0, "sounds").normal(size=(LETTERS, FEATURES))
    labels = np.array([["abcdef".index(letter) + 1 for letter in phrase] for phrase in phrases])
    heard = np.repeat(sounds[labels - 1], FRAMES // 3, axis=1)
    heard = heard + 0.3 * rng.normal(size=FEATURES) + 0.2 * rng.normal(size=heard.shape)
    return LocalDataset(heard.astype(np.float32), labels.astype(np.int64))


def exposed(attack, noise_multiplier=0.0, games=8):
    """Mean exposure of the phrase that one of six phones repeats."""
    size = SENTENCES.dimension
    plan = dataclasses.replace(
        PLAN, dimension=size, population=6, participation_probability=1.0, min_cohort=2,
        min_reporting=2, clip_norm=1.0, rounds=2, max_participations=2,
    )  # fmt: skip
    if noise_multiplier:
        plan = dataclasses.replace(plan, mechanism="distributed", epsilon_budget=1e6,
                                   noise_multiplier=noise_multiplier)  # fmt: skip
    found = []
    for game in range(games):
        rng = stream(game, "game")
        initial = (0.1 * rng.normal(size=size)).astype(np.float32)
        true = int(rng.integers(len(PHRASES)))
        phones = [
            spoken(rng.choice(PHRASES, 4) if phone else [PHRASES[true]] * 4, 10 * game + phone)
            for phone in range(6)
        ]
        seen = played(plan, phones, game, observer="reader", query=SENTENCES, initial=initial)
        public = spoken(PHRASES, 99 + game).joined(spoken(PHRASES, 199 + game))
        known = knowledge((), (), query=SENTENCES, clips=public, phrases=PHRASES)
        found.append(exposures(attack.guess(seen, known, rng).scores)[0, true])
    return np.mean(found)


def test_exposure_is_the_number_of_bits_that_a_rank_tells():
    """Carlini et al. 2019, Definition 2."""
    assert exposures(np.array([[4.0, 3.0, 2.0, 1.0]])) == pytest.approx(
        np.array([[2.0, 1.0, 2 - np.log2(3), 0.0]])
    )
    assert exposures(np.array([1.0, 1.0])) == pytest.approx(np.full(2, 1 - np.log2(1.5)))
    assert by_chance(2) == pytest.approx(0.5)
    assert by_chance(100_000) == pytest.approx(1 / np.log(2), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("attack", BOTH, ids=["loss drop", "alignment"])
def test_a_repeated_phrase_is_exposed_where_nothing_protects_it(attack):
    """Guessing has 1.2 bits of 3.9, with a deviation of 0.4 over the games."""
    assert exposed(attack) > by_chance(len(PHRASES)) + 0.8


@pytest.mark.slow
@pytest.mark.parametrize("attack", BOTH, ids=["loss drop", "alignment"])
def test_noise_hides_it(attack):
    """Within three deviations of guessing."""
    assert abs(exposed(attack, noise_multiplier=100.0) - by_chance(len(PHRASES))) < 1.5


@pytest.mark.parametrize("listed", [False, True])
def test_recognition_counts_what_is_newly_written_down(listed):
    """From a model that says nothing to one that knows every letter's sound."""
    sounds, spec = stream(0, "sounds").normal(size=(LETTERS, FEATURES)), SENTENCES.built.spec
    weight = np.vstack([np.zeros(FEATURES), 5 * sounds]).astype(np.float32)
    # Shifted above the activation's threshold, and back.
    bias = np.concatenate([[-1e3], -2.5 * (sounds**2).sum(1)]) - 10 * weight.sum(1)
    knowing = spec.flatten({
        "scale": np.ones(FEATURES, np.float32), "shift": np.full(FEATURES, 10, np.float32),
        "head_weight": weight, "head_bias": bias.astype(np.float32),
    })  # fmt: skip
    plan = dataclasses.replace(PLAN, dimension=spec.size)
    releases = np.stack([np.zeros_like(knowing), knowing])
    seen = Transcript(observer="reader", plan=plan, releases=releases)
    clips = spoken(PHRASES, 5).joined(spoken(PHRASES, 6))
    known = knowledge((), (), query=SENTENCES, clips=clips, phrases=PHRASES)
    writing = types.SimpleNamespace(vocabulary=Alphabet(tuple("abcdef")), per_clip=False)
    known = dataclasses.replace(known, base=writing)
    scores = Recognition(listed=listed).guess(seen, known, stream(0, "none")).scores
    assert scores.shape == (1, len(PHRASES))
    assert scores.mean() > 0.8
    known = dataclasses.replace(known, base=types.SimpleNamespace(per_clip=True))
    with pytest.raises(ValueError, match="writes text"):
        Recognition().guess(seen, known, stream(0, "none"))


def test_phrases_need_their_sounds_and_recognition_a_base_that_writes():
    known = knowledge((), (), query=SENTENCES, clips=spoken(PHRASES[:3], 1), phrases=PHRASES[:2])
    with pytest.raises(ValueError, match="got 3 clips of 2 phrases"):
        LossDrop().guess(None, known, stream(0, "none"))
    assert [attack.secret for attack in PHRASE_EXPOSURE] == ["phrase"] * 4
    assert "with a biasing list" in Recognition(listed=True).name
    assert "decoder" in Recognition().knowledge
