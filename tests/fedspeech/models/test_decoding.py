"""Transcripts from logits: greedy, and a beam against every path there is."""

import itertools
import math

import numpy as np
import pytest

from fedspeech.corpora.corpus import Alphabet
from fedspeech.models.decoding import START, BeamDecoder, BeamSettings, BigramLanguageModel, greedy

SMALL = Alphabet((" ", "a", "b"))
PLAIN = BeamSettings(
    beam_width=1_000, language_model_weight=0.0, word_insertion_bonus=0.0, contextual_bias=0.0
)
SAID = ("call ann", "call bob", "call ann please", "stop", "call ann", "drive to the mill")
MODEL = BigramLanguageModel.of(SAID, {"people": ("ann", "bob"), "places": ("mill",)})


def logits_of(text, alphabet, *, sure=8.0, instead=None):
    """Windows that say a text, each character followed by a blank; `instead` gives rivals."""
    rows = []
    for place, character in enumerate(text):
        row = np.zeros(len(alphabet.labels), np.float32)
        row[alphabet.labels.index(character)] = sure
        for rival, strength in (instead or {}).get(place, {}).items():
            row[alphabet.labels.index(rival)] = strength
        blank = np.zeros(len(alphabet.labels), np.float32)
        blank[0] = 8.0
        rows += [row, blank]
    return np.stack(rows)


def test_greedy_merges_repetitions_drops_blanks_and_stops_at_the_last_window():
    labels = [2, 2, 0, 2, 1, 1, 3, 3, 2]
    logits = np.eye(4, dtype=np.float32)[labels][None]
    assert greedy(logits, [9], SMALL) == ["aa ba"]
    assert greedy(logits, [7], SMALL) == ["aa b"]
    assert greedy(logits, [0], SMALL) == [""]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "settings",
    [
        PLAIN,
        BeamSettings(
            beam_width=1_000,
            language_model_weight=0.8,
            word_insertion_bonus=0.5,
            contextual_bias=1.5,
        ),
    ],
)
def test_a_wide_beam_finds_the_best_text_over_all_paths(seed, settings):
    prior = BigramLanguageModel.of(["a b", "aa", "a bb"], {"people": ("b", "bb")})
    own = {"people": ("ba", "b"), "places": ("ab",)}
    logits = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mass = {}
    for path in itertools.product(range(4), repeat=4):
        merged = [label for label, _ in itertools.groupby(path)]
        text = SMALL.decode(np.array(merged))
        if "  " in text or text.startswith(" "):
            continue  # the search writes no empty word
        weight = math.prod(shares[window, label] for window, label in enumerate(path))
        mass[text] = mass.get(text, 0.0) + weight

    def score(text):
        total = math.log(mass[text])
        for before, word in itertools.pairwise((START, *text.split())):
            log = prior.log_probability(before, word)
            for kind, names in own.items():
                if word in names:
                    named = prior.log_probability_of_name(before, kind) - math.log(len(names))
                    log = max(log, named) + settings.contextual_bias / 0.8 * len(word)
            total += settings.language_model_weight * log + settings.word_insertion_bonus
        return total

    # What differs in a last space only is the same transcript; the search ranks them apart.
    assert BeamDecoder(SMALL, prior, own, settings)(logits) == max(mass, key=score).rstrip()


def test_the_prior_is_a_distribution_over_words_and_prefers_what_was_said():
    for before in ("call", "ann", START):
        known = sum(math.exp(MODEL.log_probability(before, word)) for word in MODEL.words)
        assert 0.4 < known < 1  # the rest is for words that nobody has said yet
    assert MODEL.log_probability("call", "ann") > MODEL.log_probability("call", "bob")
    assert MODEL.log_probability(START, "call") > MODEL.log_probability(START, "ann")
    assert MODEL.log_probability("call", "zed") < MODEL.log_probability("call", "please")
    name = MODEL.log_probability_of_name
    assert name("call", "people") > name("ann", "people")
    assert name("call", "people") > name("call", "places")
    assert name("the", "places") > name("the", "people")


def test_the_prior_mends_a_doubtful_character():
    alphabet = Alphabet()
    heard = logits_of("call amn", alphabet, instead={6: {"n": 7.5}})
    assert greedy(heard[None], [len(heard)], alphabet) == ["call amn"]
    assert BeamDecoder(alphabet, MODEL)(heard) == "call ann"


def test_an_own_list_brings_back_a_name_and_leaves_clear_words_alone():
    alphabet = Alphabet()
    heard = logits_of("call aroon", alphabet, sure=6.0, instead={7: {"u": 5.0}, 8: {"_": 5.5}})
    without, own = (
        BeamDecoder(alphabet, MODEL),
        BeamDecoder(alphabet, MODEL, {"people": ("arun", "vera")}),
    )
    assert without(heard) != "call arun"
    assert own(heard) == "call arun"
    clear = logits_of("call bob please", alphabet)
    assert own(clear) == without(clear) == "call bob please"


def test_a_name_is_looked_for_where_names_of_its_kind_are_said():
    alphabet = Alphabet()
    own = BeamDecoder(alphabet, MODEL, {"people": ("milo",), "places": ("mile",)})
    doubt = {"instead": {-1: {}}}
    for said, meant in (("call mila", "call milo"), ("drive to the mila", "drive to the mile")):
        last = len(said) - 1
        doubt["instead"] = {last: {"o": 7.0, "e": 7.0}}
        assert own(logits_of(said, alphabet, **doubt)) == meant


def test_a_prefix_promises_at_least_what_its_words_are_worth():
    own = BeamDecoder(Alphabet(), MODEL, {"people": ("anna", "bo")})
    for before, word in itertools.product((START, "call", "zed"), ("ann", "anna", "bo", "bobby")):
        bonus = BeamSettings().contextual_bias if word in ("anna", "bo") else 0.0
        for end in range(len(word) + 1):
            earned = own._scored(before, word) - bonus * (len(word) - end)
            assert own._promise(before, word[:end]) >= earned


def test_a_narrow_beam_keeps_a_name_whose_first_characters_hardly_sound():
    alphabet = Alphabet()
    rivals = {5: dict.fromkeys("bcdfgh", 9.0)}
    heard = logits_of("call vera", alphabet, sure=8.0, instead=rivals)
    narrow = BeamSettings(beam_width=6)
    assert BeamDecoder(alphabet, MODEL, {"people": ("vera",)}, narrow)(heard) == "call vera"


def test_nothing_recorded_is_nothing_said():
    assert BeamDecoder(SMALL, MODEL)(np.zeros((0, 4), np.float32)) == ""


def test_neither_language_model_nor_decoder_shows_a_word():
    decoder = BeamDecoder(Alphabet(), MODEL, {"people": ("arun",)})
    for shown in (repr(MODEL), repr(decoder), str(vars(decoder)["_language_model"])):
        assert "ann" not in shown
        assert "arun" not in shown


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="beam_width must be at least 1, got beam_width=0"):
        BeamSettings(beam_width=0)
    with pytest.raises(ValueError, match="contextual_bias must be finite and not negative"):
        BeamSettings(contextual_bias=-1.0)
