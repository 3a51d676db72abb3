"""The test set of an incident: jingles that wake one class of devices, and what thresholds do."""

import numpy as np
import pytest
import soundfile
from tiny_experiment import cache

import fedspeech as fs
from fedspeech.errors import ArgumentRefused, ScenarioError
from simulations.artifacts import jingle_set

pytestmark = pytest.mark.slow  # sounds are synthesized


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Of three jingles, the second wakes far-field devices alone, the third by chance, once."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("jingles")

    def peaks(self, sounds):
        loud = np.abs(sounds).max(axis=1)
        return 1 / (1 + np.exp(-np.log(loud / 0.1)))

    def recorded(sound, kind, count, seed):
        first, by_chance = sound[0] == 1, sound[0] == 0
        heard = first or (kind == "far_field" and not (by_chance and seed > 1))
        return np.full((count, 100), 0.2 if heard else 0.05, dtype=np.float32)

    def drawn(targets, lexicon, seed, number):
        sound = np.full(100, 1.0 - number / 2, dtype=np.float32)
        return jingle_set.DrawnJingle(targets[0], ("N",), sound)

    patch.setattr(jingle_set._Detector, "peaks", peaks)
    patch.setattr(jingle_set, "on_devices", recorded)
    patch.setattr(jingle_set, "jingle", drawn)
    patch.setattr(jingle_set, "said", lambda *_: np.full((2, 100), 0.3, dtype=np.float32))
    try:
        return fs.find_jingles(
            "far_field", "quick", threshold=0.5, candidates=3, recordings=3, out=folder,
            progress=False,
        )  # fmt: skip
    finally:
        patch.undo()


def test_what_wakes_every_class_is_no_test_of_one(found):
    assert [one.in_test_set for one in found.candidates] == [False, True, False]
    (chosen,) = found.chosen
    assert chosen.wakes["far_field"] == 1
    assert chosen.wakes["handset"] == 0


def test_thresholds_are_tried_on_the_test_set_and_on_words(found):
    rows = {row.threshold: row for row in found.rows}
    # Scores of 2/3 for the jingle on far-field devices, 1/3 on others, 3/4 for words.
    assert rows[0.65].wakes == 1
    assert rows[0.7].wakes == rows[0.5].wakes_others == 0
    assert rows[0.75].missed == 0
    assert rows[0.8].missed == 1
    assert found.median_score == pytest.approx(2 / 3)


def test_recordings_are_written_for_listening(found):
    files = sorted((found.folder / "far_field").rglob("*.wav"))
    assert [file.parent.name for file in files] == ["jingle-001"] * 6
    assert soundfile.read(files[0])[1] == 16_000
    assert str(found.folder) in str(found)


def test_a_class_that_does_not_exist_and_numbers_out_of_range_are_refused():
    with pytest.raises(ScenarioError, match="toaster"):
        fs.find_jingles("toaster", "quick", progress=False)
    for name, number in (("threshold", 1.0), ("candidates", 0), ("recordings", 0)):
        with pytest.raises(ArgumentRefused, match=name):
            fs.find_jingles("handset", "quick", progress=False, **{name: number})


def test_the_incident_has_the_scores_of_a_jingle_that_the_shipped_base_hears():
    """Jingle 13, on 24 headsets: what the scenario false-wake-incident stands on."""
    scenario = fs.read_scenario("false-wake-incident")
    detector = jingle_set._Detector(fs.Experiment(scenario="quick"), cache())
    sound = jingle_set.jingle(detector.words, {}, 1, 13).sound
    peaks = detector.peaks(jingle_set.on_devices(sound, "headset", 24, 2))
    jingle = scenario.telemetry.jingle
    assert np.median(peaks) == pytest.approx(jingle.median_score, abs=0.02)
    assert np.log(peaks / (1 - peaks)).std() == pytest.approx(jingle.score_spread, abs=0.05)
    other = detector.peaks(jingle_set.on_devices(sound, "far_field", 24, 2))
    threshold = scenario.telemetry.threshold
    assert (peaks >= threshold).mean() > 2 * (other >= threshold).mean()
    assert (peaks >= scenario.telemetry.threshold_change.threshold).mean() < 0.1
