import dataclasses

import numpy as np
import pytest
import torch

from fedspeech.audio.spec import FrontendSpec
from tflite_export.evidence import (
    Evidence,
    HeardClips,
    HeldOut,
    listening_embeddings,
    log_mel,
    probes,
    reference_logits,
    scored,
)

SPEC = FrontendSpec()


@pytest.mark.slow
def test_half_of_the_probes_is_the_speech_and_the_rest_is_repeatable_and_loud_and_silent(
    base, clips
):
    heard = probes(clips, base)
    assert heard.shape == (500, base.heard_samples)
    np.testing.assert_array_equal(heard[:250], clips)
    np.testing.assert_array_equal(heard, probes(clips, base))
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
        (lambda c: c[:, :8_000], r"shape \(n, 28800\), left context included"),
        (lambda c: c.astype(np.float64), "must be float32"),
        (lambda c: np.where(np.arange(28_800) == 5, np.float32(np.nan), c), "must be finite"),
    ],
)
def test_speech_that_cannot_be_used_is_refused(base, clips, change, rule):
    with pytest.raises(ValueError, match=rule):
        probes(change(clips), base)


@pytest.mark.parametrize("kind", ["head", "affine", "bottleneck"])
def test_the_reference_of_an_untrained_adapter_is_the_bases_own_answer(make_trained, clips, kind):
    trained = make_trained(kind)
    base = trained.base
    start = trained.adapter.initial(base.head_weight, base.head_bias)
    with torch.inference_mode():
        own = base.logits(base.encoder_output(clips[:70])).numpy()
    found = reference_logits(dataclasses.replace(trained, parameters=start), clips[:70])
    np.testing.assert_allclose(found, own, atol=1e-5)


def test_a_stream_is_scored_as_the_clip_that_ends_with_each_hop(make_trained, clips):
    trained = make_trained("affine")
    for clip in clips[:2]:
        # Without its first 192 samples, a clip's frames end where hops end; 128 samples follow.
        found = scored(trained, listening_embeddings(trained, clip[192:]))[
            (len(clip) - 192) // 320 - 1
        ]
        expected = reference_logits(trained, clip[np.newaxis])[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_log_mel_is_what_the_base_standardizes(base, clips):
    features = (log_mel(SPEC, clips[:4]) - base.built_in.feature_mean) / base.built_in.feature_std
    np.testing.assert_allclose(features, base.built_in.features(clips[:4]).numpy(), atol=1e-5)


def test_held_out_clips_need_a_label_and_a_user_each():
    clips = np.zeros((3, 16_000), np.float32)
    with pytest.raises(ValueError, match="one label and one user each"):
        HeldOut(
            source="x", waveforms=clips, labels=np.zeros(2, np.int64), users=np.array(["a"] * 3)
        )
    with pytest.raises(ValueError, match="one label and one user each"):
        HeldOut(source="x", waveforms=clips[:0], labels=np.zeros(0, np.int64), users=np.array([]))


@pytest.fixture(scope="module")
def two_ways(shipped, people):
    """Evidence whose held-out sound lies in memory, and one that makes it when it is asked for."""
    clips = people.utterances[:70]
    labels = np.array([shipped.base.vocabulary.label(clip.word) for clip in clips])
    users = np.array([clip.speaker_id for clip in clips])
    speech = shipped.base.heard(people, people.utterances[:250])
    return [
        Evidence(
            shipped, speech, HeldOut(source="x", waveforms=waveforms, labels=labels, users=users)
        )
        for waveforms in (
            shipped.base.heard(people, clips), HeardClips(shipped.base, people, clips),
        )
    ]  # fmt: skip


@pytest.mark.slow
def test_sound_that_is_made_when_asked_for_is_the_sound(two_ways, shipped):
    kept, made = two_ways
    for evidence in two_ways:
        few, many = evidence.sound(20, 7), evidence.sound(20)
        assert set(few[0]) < set(many[0])
        assert len(few[0]) == 7
        np.testing.assert_array_equal(few[1], kept.held_out.waveforms[few[0]])
    np.testing.assert_array_equal(made.held_out_logits, kept.held_out_logits)
    expected = log_mel(shipped.base.built_in.frontend, kept.held_out.waveforms)
    np.testing.assert_array_equal(made.held_out_log_mel, expected)
    # From features, the encoder gives the bits that it gives from sound.
    found = reference_logits(shipped, kept.held_out.waveforms)
    np.testing.assert_array_equal(made.held_out_logits, found)
    assert (
        made.held_out.rows(np.array([3, 5])).labels.tolist()
        == kept.held_out.labels[[3, 5]].tolist()
    )


@pytest.mark.slow
def test_what_goes_through_a_stream_holds_every_kind_and_the_extremes(two_ways):
    evidence, half = two_ways[0], 250
    places = evidence.streamed
    level = np.abs(evidence.probes).max(axis=1)
    for part in (slice(0, half), slice(half, None)):
        assert {level[part].min(), level[part].max()} <= set(level[places])
    others = places[places >= half] - half
    assert set(others % 5) == set(range(5)), "noise, brown noise, tones, clicks, overload"
    assert 70 < (places < half).sum() < 100
    assert 499 in places, "digital silence"


def test_features_of_another_length_are_refused(base):
    with pytest.raises(ValueError, match="89 frames together"):
        base.encoder(np.zeros((1, 50, 40), np.float32))
