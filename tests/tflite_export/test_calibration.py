import dataclasses
import json

import numpy as np
import pytest
import torch

from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import ExportRefused
from fedspeech.models.base import Base, default_base_path
from fedspeech.seeds import stream
from tflite_export import calibration as module
from tflite_export.calibration import (
    CALIBRATION_CLIPS,
    Calibration,
    observe,
    synthetic_public,
)
from tflite_export.weights import network


@pytest.fixture(scope="module")
def shipped_base():
    return Base.load(default_base_path())


@pytest.fixture(scope="module")
def corpus(shipped_base):
    return synthetic_public(shipped_base)


def committed_document(base, corpus, key):
    """What `calibration_clips.json` holds for a base; for whoever ships another one."""
    own = set(base.speakers)
    public = [clip for clip in corpus.utterances if clip.speaker_id in own]
    return {
        "base_sha256": base.sha256,
        # The list outlives a new format of the same weights: ranges and figures stay as they are.
        "drawn_by": key,
        "clips": [
            [clip.utterance_id, corpus.fingerprint(clip)] for clip in module.drawn(key, public)
        ],
    }


@pytest.mark.slow
def test_the_committed_list_is_of_the_shipped_base_and_still_made_by_the_synthesizer(
    shipped_base, corpus
):
    document = json.loads(module.COMMITTED_FILE.read_text())
    assert document == committed_document(shipped_base, corpus, document["drawn_by"]), (
        "a new base or synthesizer needs a new list"
    )
    assert len(document["clips"]) == CALIBRATION_CLIPS


def test_clips_are_of_the_bases_own_training_speakers_and_of_nobody_else(
    shipped_base, corpus, monkeypatch
):
    monkeypatch.setattr(SyntheticCorpus, "waveforms", lambda self, clips: np.zeros((len(clips), 2)))
    found = Calibration.of(
        shipped_base, corpus, forbidden_speakers=("held_out-000001", "federated-000001")
    )
    speakers = {name.split("/")[0] for name, _ in found.clips}
    assert speakers <= set(shipped_base.speakers)
    assert len(speakers) > 100
    assert len({name for name, _ in found.clips}) == CALIBRATION_CLIPS
    assert found.to_json()["clips_sha256"] == found.sha256
    with pytest.raises(ExportRefused, match="calibration: no phone may be calibrated on, got 1"):
        Calibration.of(shipped_base, corpus, forbidden_speakers=(min(speakers),))


def test_a_clip_that_is_no_longer_the_committed_one_is_refused(shipped_base, corpus, monkeypatch):
    monkeypatch.setattr(corpus, "fingerprint", lambda clip: "0" * 64)
    with pytest.raises(ExportRefused, match="no longer makes the committed clip public-"):
        Calibration.of(shipped_base, corpus)


def test_another_base_draws_its_own_list(shipped_base, corpus, monkeypatch):
    monkeypatch.setattr(SyntheticCorpus, "waveforms", lambda self, clips: np.zeros((len(clips), 2)))
    other = dataclasses.replace(
        shipped_base, provenance={**shipped_base.provenance, "note": "other bytes"}
    )
    first, second = (Calibration.of(which, corpus).clips for which in (shipped_base, other))
    assert set(first) != set(second)
    assert second == Calibration.of(other, corpus).clips


def test_without_the_bases_speakers_there_is_no_calibration(shipped_base, corpus):
    strangers = dataclasses.replace(shipped_base, speakers=("somebody",))
    with pytest.raises(ExportRefused, match=r"400 clips of the base's 1 .* synthetic has 0"):
        Calibration.of(strangers, corpus)
    recorded = dataclasses.replace(shipped_base, provenance={"corpus": "my recordings"})
    with pytest.raises(ExportRefused, match="trained on my recordings, not on the synthesizer"):
        synthetic_public(recorded)


def test_extreme_ranges_hold_every_value_of_the_network_and_zero(make_trained, clips):
    trained = make_trained("head")
    ranges = observe(network(trained).merged(), clips, within=1.0)
    with torch.inference_mode():
        features = trained.base.built_in.features(clips)
        stem = torch.relu(trained.base.built_in.network.stem(features.transpose(1, 2)))
        output = torch.relu(trained.base.built_in.network(features))
    for name, values in (("input", features), ("stem", stem), ("output", output)):
        low, high = ranges[name]
        assert low == pytest.approx(min(0.0, float(values.min())), abs=1e-4)
        assert high == pytest.approx(float(values.max()), rel=1e-4)
    assert {"block0.first", "block0.second", "block0.shortcut", "block0"} <= set(ranges)


def made_up(clips=10):
    rng = stream(0, "calibration at rates")
    return Calibration(
        corpus="made up",
        license="none",
        clips=tuple((str(row), "0") for row in range(clips)),
        waveforms=rng.normal(0, 0.1, (clips, 16_000)).astype(np.float32),
    )


def above_4_khz(waveforms):
    """Share of each row's power above 4.2 kHz."""
    power = np.abs(np.fft.rfft(waveforms)) ** 2
    return power[:, 4_200:].sum(axis=1) / power.sum(axis=1)


def test_clips_are_calibrated_on_as_the_corpus_was_recorded():
    wide = made_up()
    mixed = wide.recorded_at({8_000: 30, 48_000: 70}, 16_000)
    assert (above_4_khz(wide.waveforms) > 0.4).all()
    np.testing.assert_array_equal(above_4_khz(mixed.waveforms) < 0.01, np.arange(10) < 3)
    np.testing.assert_array_equal(mixed.waveforms[3:], wide.waveforms[3:])
    assert mixed.recorded_at_hz == {8_000: 3, 16_000: 7}
    assert mixed.to_json()["recorded_at_hz"] == {"8000": 3, "16000": 7}
    narrow = wide.recorded_at({8_000: 5}, 16_000)
    assert (above_4_khz(narrow.waveforms) < 0.01).all()
    assert narrow.waveforms.std() > 0.05, "what is below stays"


@pytest.mark.slow
def test_own_recordings_calibrate_unless_they_are_a_phones(shipped_base, corpus, monkeypatch):
    monkeypatch.setattr(SyntheticCorpus, "waveforms", lambda self, clips: np.zeros((len(clips), 2)))
    found = Calibration.of_recordings(shipped_base, corpus)
    assert len(found.clips) == CALIBRATION_CLIPS
    assert found.clips == Calibration.of_recordings(shipped_base, corpus).clips
    with pytest.raises(ExportRefused, match="no clip of a phone may calibrate, got 1 of them"):
        Calibration.of_recordings(shipped_base, corpus, {found.clips[7][1]})

    class Few:
        name, utterances = "few", corpus.utterances[:99]

    with pytest.raises(ExportRefused, match="at least 100 clips are needed, few has 99"):
        Calibration.of_recordings(shipped_base, Few())


@pytest.mark.slow
def test_ranges_hardly_depend_on_which_clips_are_drawn(make_trained, clips):
    """Over ten draws, a layer's range varies two thirds as much as the extremes at most.

    The extremes are what one clip decides: here, as among recordings, one in fifty is far louder.
    """
    arrays = network(make_trained("head")).merged()
    rng = stream(0, "calibration draws")
    loud = clips * np.where(rng.random(len(clips)) < 0.02, 10, 1)[:, None].astype(np.float32)
    draws = [rng.permutation(len(clips))[:100] for _ in range(10)]

    def spread(within):
        """Standard deviation of a layer's width over its mean; the mean over layers."""
        found = [observe(arrays, loud[draw], within) for draw in draws]
        widths = np.array([[high - low for low, high in ranges.values()] for ranges in found])
        return (widths.std(axis=0) / widths.mean(axis=0)).mean()

    extremes = spread(1.0)
    assert extremes > 0.03, "the draws differ enough to tell"
    assert spread(module.CLIPS_WITHIN) < extremes * 2 / 3
