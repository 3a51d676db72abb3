"""The front end rebuilt from the card alone meets the golden vectors; usual conventions do not."""

import dataclasses
import json

import numpy as np
import pytest

from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.models.base import Base, sentence_base_path
from tflite_export.front_end import golden_vectors, in_numpy, in_words
from tflite_export.weights import Trained


@pytest.fixture
def published(make_trained, make_card):
    """What whoever gets the files has: a card and golden vectors, both as JSON."""
    trained = make_trained("head")
    return [
        json.loads(json.dumps(part))
        for part in (
            make_card(trained).to_json(),
            json.loads(golden_vectors(trained, with_logits=True)),
        )
    ]


def program_of(code):
    """The function that the card's program defines."""
    names = {}
    exec(code, names)  # this is the promise: the card's text runs by itself
    return names["features"]


def samples_of(golden):
    return np.array(golden["samples_int16"]) / 2**15


def test_the_program_in_the_card_meets_the_golden_vectors(published):
    card, golden = published
    found = program_of(card["frontend_numpy"])(samples_of(golden))
    np.testing.assert_allclose(found, golden["features"], atol=2e-4)
    assert np.ptp(golden["features"]) > 5
    assert len(golden["logits"]) == len(card["labels"])


def test_the_words_in_the_card_meet_the_golden_vectors(published):
    """Written from the sentences of `frontend_steps` and the numbers of `frontend`, no more."""
    card, golden = published
    words, numbers = " ".join(card["frontend_steps"]), card["frontend"]
    for said in (
        "mono, 16000 Hz, full scale 1", "nothing is padded or centered", "periodic Hann window",
        "divided by the sum of the window", "squared magnitude of the 512-point", "height 1",
        "not divided by their area", "HTK mel scale", "natural logarithm",
        f"plus {numbers['floor']:g}", "not standardized",
    ):  # fmt: skip
        assert said in words
    window, hop, bands = numbers["window_samples"], numbers["hop_samples"], numbers["num_mels"]
    samples = samples_of(golden)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    edges_mel = np.linspace(
        *(2595 * np.log10(1 + numbers[edge] / 700) for edge in ("low_hz", "high_hz")), bands + 2
    )
    bins_mel = 2595 * np.log10(1 + np.arange(257) * numbers["rate_hz"] / 512 / 700)
    for frame in (0, 20, 60, len(golden["features"]) - 1):
        piece = samples[frame * hop : frame * hop + window] * hann / hann.sum()
        power = np.abs(np.fft.rfft(piece, 512)) ** 2
        for band in range(bands):
            left, top, right = edges_mel[band : band + 3]
            triangle = np.interp(bins_mel, [left, top, right], [0, 1, 0], left=0, right=0)
            expected = golden["features"][frame][band]
            assert np.log(triangle @ power + numbers["floor"]) == pytest.approx(expected, abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("/ 512) ** 2  # periodic", "/ 511) ** 2  # symmetric"),
        ("(window / window.sum())", "window"),
        ("** 2\n\n    def mel", "** 1\n\n    def mel"),
        ("np.log(power", "np.log10(power"),
        ("2595 * np.log10(1 + hz / 700)", "1127 * np.log(1 + hz / 1000)"),
        ("np.minimum(rising, falling))", "np.minimum(rising, falling)) / (edges[2:] - edges[:-2])"),
    ],
)
def test_other_conventions_do_not_meet_them(published, right, wrong):
    card, golden = published
    code = card["frontend_numpy"]
    assert right in code
    found = program_of(code.replace(right, wrong))(samples_of(golden))
    assert np.abs(found - golden["features"]).max() > 5e-4


def test_cepstra_are_told_too(make_trained):
    base = Base.load(sentence_base_path())
    assert base.built_in.frontend == SPHINX_MFCC
    trained = Trained(base=base, adapter=None, parameters={})
    golden = json.loads(golden_vectors(trained, with_logits=False))
    found = program_of(in_numpy(base.built_in.frontend))(samples_of(golden))
    assert found.shape[1] == 13
    np.testing.assert_allclose(found, golden["features"], atol=2e-4)
    words = " ".join(in_words(base.built_in.frontend))
    assert "symmetric Hamming window" in words
    assert "0.97 times the sample before" in words
    assert "logits" not in golden


def test_every_number_of_the_front_end_reaches_words_and_program(base):
    for field, value in (
        ("window_samples", 400), ("hop_samples", 160), ("num_mels", 31), ("low_hz", 77.0),
        ("high_hz", 7001.0), ("floor", 3e-5),
    ):  # fmt: skip
        changed = dataclasses.replace(base.built_in.frontend, **{field: value})
        assert in_words(changed) != in_words(base.built_in.frontend)
        assert in_numpy(changed) != in_numpy(base.built_in.frontend)
