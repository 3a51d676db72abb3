import numpy as np
import pytest
import torch

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from tflite_export.parity import compare, probes, reference_logits

SPEC = FrontendSpec()
LOGITS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.6]], dtype=np.float32)


def moved(row, column, by):
    logits = LOGITS.copy()
    logits[row, column] += by
    return logits


def test_logits_within_the_limit_pass_with_their_figures():
    check = compare("log_mel", LOGITS, moved(2, 1, 5e-5), speech_inputs=2)
    assert check.max_logit_difference == pytest.approx(5e-5, rel=0.01)
    assert (check.inputs, check.speech_inputs, check.labels_answered) == (3, 2, 2)
    assert check.argmax_agreement == 1.0


@pytest.mark.parametrize("by", [2e-4, -2e-4, np.inf, np.nan])
def test_one_logit_beyond_the_limit_or_not_finite_is_refused(by):
    with pytest.raises(ExportRefused, match=r"log_mel logits: at most 0\.0001 .* on 3 inputs, got"):
        compare("log_mel", LOGITS, moved(2, 1, by), speech_inputs=2)


def test_one_other_answer_is_refused_however_close_the_logits_are():
    tie = np.array([[0.5, 0.50001], [1.0, 0.0]], dtype=np.float32)
    flipped = np.array([[0.50002, 0.50001], [1.0, 0.0]], dtype=np.float32)
    with pytest.raises(ExportRefused, match=r"log_mel argmax: .* got 50\.00%"):
        compare("log_mel", tie, flipped, speech_inputs=1)


def test_another_number_of_labels_is_refused():
    with pytest.raises(ExportRefused, match=r"expected logits of shape \(3, 2\), got \(3, 3\)"):
        compare("log_mel", LOGITS, np.zeros((3, 3), dtype=np.float32), speech_inputs=1)


def test_half_of_the_probes_is_the_speech_and_the_rest_is_repeatable_and_loud_and_silent(clips):
    heard = probes(clips, SPEC)
    assert heard.shape == (500, 16_000)
    np.testing.assert_array_equal(heard[:250], clips)
    np.testing.assert_array_equal(heard, probes(clips, SPEC))
    other = heard[250:]
    peaks = np.abs(other).max(axis=1)
    assert peaks.max() <= 1
    assert peaks.max() > 0.5
    assert peaks[-1] == 0
    assert len(np.unique(other, axis=0)) == 250
    loudness = np.sqrt((other[:-1] ** 2).mean(axis=1))
    assert np.ptp(np.log10(loudness[loudness > 0])) > 2


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda c: c[:249], "at least 250 speech clips, got 249"),
        (lambda c: c[:, :8_000], r"shape \(n, 16000\)"),
        (lambda c: c.astype(np.float64), "must be float32"),
        (lambda c: np.where(np.arange(16_000) == 5, np.float32(np.nan), c), "must be finite"),
    ],
)
def test_speech_that_cannot_be_used_is_refused(clips, change, rule):
    with pytest.raises(ValueError, match=rule):
        probes(change(clips), SPEC)


@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
def test_the_reference_of_an_untrained_adapter_is_the_bases_own_answer(
    base, make_adapted, clips, kind
):
    adapter, _ = make_adapted(kind)
    parameters = adapter.initial(base.head_weight, base.head_bias)
    with torch.inference_mode():
        own = base.logits(base.trunk_output(clips[:70])).numpy()
    found = reference_logits(base, adapter, parameters, clips[:70])
    np.testing.assert_allclose(found, own, atol=1e-5)
