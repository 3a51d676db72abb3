"""A recipe keeps to its rate on the streams that chose it, and comes back out of a card."""

import json

import numpy as np
import pytest

from fedspeech.evaluation.detection_recipe import COOLDOWN_MS, DetectionRecipe, choose
from fedspeech.evaluation.streaming import (
    THRESHOLDS,
    Keyword,
    ListeningCounts,
    detections,
    scored,
)
from fedspeech.seeds import stream

HOP_MS = 20.0
LABELS = ("one", "two", "_unknown_", "_silence_")


def noise(seed, minutes, peaks=(0.0, 0.0)):
    """Logits of a stream in which both words are heard now and then, by mistake."""
    rng = stream(seed, "recipe")
    hops = int(minutes * 3000)
    logits = rng.standard_normal((hops, 4)) + np.array([-4, -4, 4, 0])
    for word, peak in enumerate(peaks):
        for place in range(400 + 150 * word, hops - 100, 997):
            logits[place : place + 40, word] += peak * rng.random()
    return logits


def words(count, height):
    logits = np.tile(np.array([-4.0, -4.0, 4.0, 0.0]), (count, 200, 1))
    logits[:, 100:140, 0] += height
    return [(one, [Keyword(0, 90, 120)]) for one in logits]


def chosen(rate, heard, spoken=()):
    return choose(heard, spoken, hop_ms=HOP_MS, rate=rate, streams="made up")


@pytest.mark.parametrize("rate", [0.5, 40.0])
def test_a_recipe_keeps_to_its_rate_with_a_threshold_per_word(rate):
    heard = [noise(seed, 3, (14, 9)) for seed in (1, 2)]
    recipe = chosen(rate, heard, words(5, 12))
    assert recipe.found.false_accepts <= rate * recipe.found.hours
    assert recipe.found.hours == pytest.approx(0.1)
    one, two = recipe.thresholds
    assert one > two, "the word that is heard by mistake more loudly has the higher threshold"
    counted = 0
    for logits in heard:
        _, scores = scored(logits, recipe.rules)
        level = np.array([recipe.threshold - 1e-9])
        counted += detections(scores, level, recipe.rules.cooldown_hops).sum()
    assert counted == recipe.found.false_accepts
    if rate * recipe.found.hours < 2:
        assert counted == 0, "less than one false accept of a word is none"


def test_where_other_sounds_reach_a_probability_of_one_no_recipe_keeps_to_a_rate():
    assert chosen(0.5, [noise(1, 3, (200, 0))], words(5, 12)) is None


def test_more_false_accepts_buy_fewer_false_rejects():
    heard = [noise(3, 3, (12, 12))]
    spoken = [one for height in np.linspace(4, 14, 9) for one in words(1, height)]
    rejected = [chosen(rate, heard, spoken).found.rejected for rate in (20.0, 60.0, 900.0)]
    assert rejected == sorted(rejected, reverse=True)
    assert rejected[0] > rejected[-1]


def test_of_equal_recipes_the_shorter_cooldown_is_taken():
    assert chosen(1.0, [noise(4, 1)]).rules.cooldown_hops == COOLDOWN_MS[0] / HOP_MS


def test_a_recipe_comes_back_out_of_a_card():
    recipe = chosen(60.0, [noise(5, 1, (14, 9))], words(4, 10))
    told = json.loads(json.dumps(recipe.to_json(LABELS)))
    assert list(told["thresholds"]) == ["one", "two"]
    again = DetectionRecipe.of_json(told)
    assert again.thresholds == pytest.approx(recipe.thresholds, abs=1e-9)
    assert again.rules.smoothing_hops == recipe.rules.smoothing_hops
    assert again.found.false_accepts_interval == recipe.found.false_accepts_interval
    nothing = ListeningCounts.nothing()
    assert [nothing.at(round(t, 9)).threshold for t in THRESHOLDS] == list(THRESHOLDS)
    logits = noise(6, 1, (14, 9))
    counts = [
        ListeningCounts.without_keywords(logits, one.rules, HOP_MS).at(one.threshold)
        for one in (recipe, again)
    ]
    assert counts[0].false_accepts == counts[1].false_accepts


@pytest.mark.parametrize("broken", [{}, {"thresholds": {"one": 1.0}}, {"thresholds": {}}])
def test_what_is_no_recipe_is_refused(broken):
    with pytest.raises((KeyError, ValueError)):
        DetectionRecipe.of_json(broken)


def test_nothing_is_chosen_on_nothing():
    with pytest.raises(ValueError, match="more than 0 hours"):
        chosen(0.5, [])
