"""The wake word for ESPHome: its manifest, its rules, and that pymicro-wakeword hears the word."""

import dataclasses
import json

import numpy as np
import pytest

from fedspeech.audio.spec import PCAN
from fedspeech.corpora.corpus import Vocabulary
from fedspeech.corpora.synthetic import SyntheticCorpus, pretraining_spec
from fedspeech.errors import ExportRefused
from fedspeech.evaluation.detection_recipe import DetectionRecipe
from fedspeech.models.adapters import HeadAdapter
from fedspeech.training.pretrain import PretrainSettings, synthetic_base
from tflite_export.calibration import Calibration, synthetic_public
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.keywords import FILES, MANIFEST, KeywordFamily
from tflite_export.micro.blueprint import micro_blueprint, wake_word_blueprint
from tflite_export.micro.esphome import manifest, pairwise
from tflite_export.micro.listening import MicroListener, word_logits
from tflite_export.publishing import export_family
from tflite_export.weights import Trained, network

WORD = "seven"
RECIPE = {
    "smoothing_hops": 10, "cooldown_hops": 25, "hop_ms": 40.0, "thresholds": {WORD: 0.91469},
    "false_accepts_per_hour_asked_for": 0.5, "chosen_on": "a test", "false_accepts": 0,
    "false_accepts_per_hour_interval": [0.0, 3.69], "hours": 1.0, "rejected": 1, "keywords": 4,
    "frr_interval": [0.006, 0.81],
}  # fmt: skip


def test_the_manifest_is_of_version_2_and_smooths_over_200_ms():
    found = json.loads(manifest("computer", "a.tflite", 24_400, None))
    assert (found["type"], found["version"], found["wake_word"]) == ("micro", 2, "computer")
    assert found["model"] == "a.tflite"
    needed = {"feature_step_size": 10, "sliding_window_size": 5, "tensor_arena_size": 24_400}
    assert found["micro"].items() >= needed.items()
    assert 0 < found["micro"]["probability_cutoff"] < 1


def test_the_manifest_has_the_threshold_and_the_window_of_the_recipe():
    recipe = DetectionRecipe.of_json(RECIPE)
    found = json.loads(manifest("computer", "a.tflite", 24_400, recipe))["micro"]
    assert (found["probability_cutoff"], found["sliding_window_size"]) == (0.9146, 10)


def test_steps_of_a_probability_are_the_softmax_of_their_logits():
    steps = np.array([0, 1, 128, 200, 255], np.uint8)
    shares = np.exp(word_logits(steps)) / np.exp(word_logits(steps)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[1:, 0], steps[1:] / 256, rtol=1e-6)
    assert 0 < shares[0, 0] < 1 / 512


def test_the_product_over_pairs_is_never_above_the_softmax_and_near_it_for_sure_words():
    logits = np.random.default_rng(0).normal(0, 4, (500, 3))
    softmax = np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)
    product = pairwise(logits)
    assert (product <= softmax + 1e-12).all()
    assert (softmax - product).max() < 0.1
    one_way = np.array([[1.0, 2.0, -30.0]])
    assert pairwise(one_way) == pytest.approx(1 / (1 + np.e))


@pytest.mark.slow
def test_a_base_behind_another_front_end_or_of_several_words_is_refused(make_trained, clips):
    net = network(make_trained("head")).merged()
    with pytest.raises(ExportRefused, match="pretrain --encoder esphome"):
        wake_word_blueprint(net, clips[:1])
    behind = dataclasses.replace(net, frontend=PCAN)
    with pytest.raises(ExportRefused, match="got 4 words and the adapter head"):
        wake_word_blueprint(behind, clips[:1])
    with pytest.raises(ExportRefused, match="got pcan of 480 samples"):
        micro_blueprint(behind, clips[:1])


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Files of a small wake word, taught in half a minute."""
    base = synthetic_base(
        Vocabulary((WORD,)), seed=0, cache_dir=tmp_path_factory.mktemp("cache"), num_speakers=24,
        settings=dataclasses.replace(PretrainSettings.of("esphome"), epochs=8),
    )  # fmt: skip
    adapter = HeadAdapter(base.num_features, len(base.vocabulary.labels))
    start = adapter.initial(base.head_weight, base.head_bias)
    people = SyntheticCorpus(pretraining_spec((WORD,), seed=77, num_public=25))
    spoken = people.utterances[::2]
    held_out = HeldOut(
        source="people for a test",
        waveforms=base.heard(people, spoken),
        labels=np.array([base.vocabulary.label(clip.word) for clip in spoken]),
        users=np.array([clip.speaker_id for clip in spoken]),
    )
    trained = Trained(base=base, adapter=adapter, parameters=start)
    calibration = Calibration.of(base, synthetic_public(base))
    evidence = Evidence(trained, held_out.waveforms[:250], held_out)
    return KeywordFamily(evidence, lambda: calibration)


@pytest.fixture(scope="module")
def exported(family, make_card, tmp_path_factory):
    pytest.importorskip("tflite_micro", reason="wheels for Linux x86-64 alone")
    folder = tmp_path_factory.mktemp("esphome")
    found = export_family(
        family, make_card(family.trained), ["esphome", "float"], folder=folder,
        detection=lambda content: RECIPE | {"labels": MicroListener(content).labels},
    )  # fmt: skip
    assert list(found.refused) == ["float"]
    assert "its files are esphome and adapter" in found.refused["float"]
    return found


@pytest.mark.slow
@pytest.mark.export
def test_the_file_keeps_what_esphome_requires(exported):
    (found,) = exported.verified
    figures = {check.name: check.figure for check in found.checks}
    assert figures["operators that ESPHome does not register"] == 0
    assert figures["weights that compute in float"] == 0
    assert figures["wake word agreement"] > 0.95
    card = json.loads((exported.folder / "card.json").read_text())
    assert card["frontend"]["kind"] == "pcan"
    said = json.loads((exported.folder / MANIFEST).read_text())["micro"]
    assert card["files"][FILES["esphome"]]["arena_bytes"] == said["tensor_arena_size"]
    assert (said["probability_cutoff"], said["sliding_window_size"]) == (0.9146, 10)


@pytest.mark.slow
@pytest.mark.export
def test_pymicro_wakeword_loads_the_file_and_hears_the_word(exported, family):
    runtime = pytest.importorskip("pymicro_wakeword", reason="its wheels ask for glibc 2.35")
    listener = runtime.MicroWakeWord.from_config(exported.folder / MANIFEST)
    features = runtime.MicroWakeWordFeatures()
    assert (listener.stride, listener.wake_word) == (4, WORD)

    def peak(samples):
        """Highest smoothed probability while samples, then a second of silence, are heard."""
        whole = np.clip(np.round(np.pad(samples, (0, 16_000)) * 2**15), -(2**15), 2**15 - 1)
        frames = features.process_streaming(whole.astype(np.int16).tobytes())
        return max(listener.process_streaming_prob(frame.astype(np.float32)) for frame in frames)

    held_out = family.evidence.held_out
    clips = held_out.waveforms[:, -16_000:]
    peaks = {
        label: np.array([peak(clip) for clip in clips[held_out.labels == label][:40]])
        for label in (0, 1)
    }
    assert (peaks[0] > 0.5).mean() > 0.75
    assert np.median(peaks[0]) > np.median(peaks[1]) + 0.2


@pytest.mark.slow
@pytest.mark.export
def test_the_file_streams_as_pymicro_wakeword_hears_it(exported, family):
    runtime = pytest.importorskip("pymicro_wakeword", reason="its wheels ask for glibc 2.35")
    content = (exported.folder / FILES["esphome"]).read_bytes()
    listener, other = MicroListener(content), runtime.MicroWakeWord.from_config(
        exported.folder / MANIFEST
    )  # fmt: skip
    assert listener.spec.hop_ms == 40
    whole = np.clip(np.round(family.evidence.speech[:6].ravel() * 2**15), -(2**15), 2**15 - 1)
    logits = listener.feed((whole / 2**15).astype(np.float32))
    found = (np.exp(logits)[:, 0] / np.exp(logits).sum(axis=1)).astype(np.float64)
    # A file's stream begins after as much silence as its first window lacks.
    sound = np.pad(whole, (320, 0)).astype(np.int16).tobytes()
    frames = runtime.MicroWakeWordFeatures().process_streaming(sound)
    means = [other.process_streaming_prob(frame.astype(np.float32)) for frame in frames]
    answers = np.array(means[3::4])[9:]
    assert len(answers) > 200
    assert np.abs(np.convolve(found, np.ones(10) / 10, "valid") - answers).max() < 0.02
