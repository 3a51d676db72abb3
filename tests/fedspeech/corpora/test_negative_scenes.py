"""Scenes of what a wake word must not wake to."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from fedspeech.corpora import negative_scenes as scenes
from fedspeech.corpora.negative_scenes import SHARES, negative_scenes
from fedspeech.corpora.stream_scenes import SCENE_SAMPLES
from fedspeech.seeds import stream
from fedspeech.synthesis.lexicon import parse_phones
from fedspeech.synthesis.near_misses import distance

ZERO = parse_phones("zero", "Z IH1 R OW0")


def test_every_beginning_has_the_shares():
    kinds = list(islice(scenes.in_turn(SHARES), 1000))
    for count in (10, 50, 1000):
        found = Counter(kinds[:count])
        assert {
            kind: pytest.approx(share * count, abs=1) for kind, share in SHARES.items()
        } == found


def test_nobody_says_a_target_or_what_an_accent_makes_of_it():
    says = scenes._Says.of(["zero"], {"xero": "S IY1 R OW0"})
    assert all(distance(ZERO, word) >= 1 for word in says.words)
    rng = stream(0, "says")
    for _ in range(12):
        for near in (True, False):
            take = says._take(None, near, rng)
            assert take.words
            assert all(distance(ZERO, word) >= 1 for word in take.words)


@pytest.mark.slow
def test_scenes_repeat_and_differ_by_seed():
    first, again, other = (list(negative_scenes(50, ["zero"], seed, {})) for seed in (1, 1, 2))
    assert len(first) == 5
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.sound, same.sound)
        assert (one.kind, one.accent) == (same.kind, same.accent)
    assert not np.array_equal(first[0].sound, other[0].sound)
    for one in first:
        assert one.sound.shape == (SCENE_SAMPLES,)
        assert np.isfinite(one.sound).all()
        assert bool(one.accent) == (one.kind in ("speech", "near_misses"))


def test_other_kinds_and_shares_are_refused():
    for shares in ({"silence": 1.0}, {"speech": 0.0}, {}):
        with pytest.raises(ValueError, match="shares must be positive"):
            next(negative_scenes(12, ["zero"], 1, {}, shares))
