"""Files with fewer bits on real speech: the base that ships, an adapter learnt from real speakers.

Calibrated on what the base was trained on, which is synthetic; judged on speakers who gave neither.
"""

import dataclasses
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fedspeech.corpora.layouts import open_corpus
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, default_base_path
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.settings import LocalTraining
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.keywords import KeywordFamily
from tflite_export.publishing import export_family
from tflite_export.weights import Trained

pytestmark = [pytest.mark.export, pytest.mark.corpus]
HEAVY = 30  # clips from which on a speaker is held out, as scenarios with recordings do it


@pytest.fixture(scope="module")
def corpus():
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("FEDSPEECH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real recordings in {folder}; FEDSPEECH_TEST_DATA names another folder")
    return open_corpus(folder / "speech_commands_v1_subset")


@pytest.fixture(scope="module")
def real_evidence(corpus):
    """An adapter trained on the light speakers, held against clips of the heavy ones."""
    base = Base.load(default_base_path())
    counts = Counter(clip.speaker_id for clip in corpus.utterances)
    light = [clip for clip in corpus.utterances if counts[clip.speaker_id] < HEAVY][::2]
    heavy = [clip for clip in corpus.utterances if counts[clip.speaker_id] >= HEAVY][::3]

    def labels(clips):
        return np.array([base.vocabulary.label(clip.word) for clip in clips], dtype=np.int64)

    adapter = make_adapter("affine", 13, 64, 12)
    outputs = [
        adapter.embed(base.encoder_output(base.heard(corpus, light[start : start + 64]))).numpy()
        for start in range(0, len(light), 64)
    ]
    training = LocalTraining(batch_size=64, local_epochs=5, max_examples=len(light))
    start = adapter.initial(base.head_weight, base.head_bias)
    dataset = LocalDataset(np.concatenate(outputs), labels(light))
    (delta,) = train_cohort(adapter, start, [dataset], training, [stream(0, "real speech")])
    parameters = adapter.spec.unflatten(adapter.spec.flatten(start) + delta.vector)
    sounds = base.heard(corpus, heavy)
    held_out = HeldOut(
        source=corpus.name,
        waveforms=sounds,
        labels=labels(heavy),
        users=np.array([clip.speaker_id for clip in heavy]),
    )
    trained = Trained(base=base, adapter=adapter, parameters=parameters)
    return Evidence(trained, sounds[:250], held_out)


def test_int8_keeps_torchs_answers_user_by_user_on_real_speech(
    real_evidence, make_card, calibration, tmp_path
):
    found = export_family(
        KeywordFamily(real_evidence, lambda: calibration), make_card(real_evidence.trained),
        ["int8", "streaming-int8"], folder=tmp_path,
    )  # fmt: skip
    assert found.refused == {}
    held_out = real_evidence.held_out
    right = real_evidence.held_out_logits.argmax(axis=1) == held_out.labels
    assert right.mean() > 0.7, "a model that knows nothing would lose nothing"
    assert len(set(held_out.users)) == 36
    for verified in found.verified:
        assert verified.figure(" agreement") >= 0.98
        assert verified.figure(" accuracy drop") <= 0.01


def test_calibration_on_noise_is_refused_on_real_speech(
    real_evidence, make_card, calibration, tmp_path
):
    noise = stream(0, "noise control").normal(0, 0.01, calibration.waveforms.shape)
    wrong = dataclasses.replace(calibration, waveforms=noise.astype(np.float32))
    with pytest.raises(
        ExportRefused, match=r"log_mel agreement: at least 0\.98.* got 0\.(9[0-5]|[0-8])"
    ):
        export_family(
            KeywordFamily(real_evidence, lambda: wrong), make_card(real_evidence.trained),
            ["int8"], folder=tmp_path,
        )  # fmt: skip
