"""Files for sentences: the same logits and transcripts as the trained model, and the same steps."""

import json
import re

import numpy as np
import pytest

from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.corpora.names import NAMES
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.training.pretrain_sentences import public_grammar
from tflite_export import sentences
from tflite_export.interpreter import TfliteModel
from tflite_export.sentences import FILES, export_sentences
from tflite_export.weights import Trained

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def speech():
    """Forty sentences of people who taught nobody."""
    group = SpeakerGroup(
        name="unseen", num_speakers=10, words=(), takes_per_word=0, grammar=public_grammar(),
        num_sentences=4,
    )  # fmt: skip
    corpus = SyntheticCorpus(
        SyntheticSpec(seed=7, groups=(group,), lexicon=tuple(NAMES.items()), frontend=SPHINX_MFCC)
    )
    return corpus.waveforms(corpus.utterances)


def make_trained(name):
    """The shipped base with an adapter that has moved from it."""
    base = Base.load(sentence_base_path())
    features, labels = base.trunk.spec.features, len(base.vocabulary.labels)
    adapter = make_adapter(name, base.num_windows, features, labels)
    rng = np.random.default_rng(1)
    parameters = {
        key: (value + 0.02 * rng.standard_normal(value.shape)).astype(np.float32)
        for key, value in adapter.initial(base.head_weight, base.head_bias).items()
    }
    return Trained(base=base, adapter=adapter, parameters=parameters)


@pytest.mark.parametrize("name", ["frame_affine", "frame_bottleneck"])
def test_every_file_does_what_the_model_did(name, speech, make_card, tmp_path):
    trained = make_trained(name)
    exported = export_sentences(trained, make_card(trained), speech, tmp_path)
    assert not exported.refused
    assert set(exported.verified) == set(FILES)
    assert exported.figure("float", "largest logit difference") < 1e-3
    assert exported.figure("float", "same transcripts") == 1
    assert exported.figure("personal", "20 training steps") < 1e-5
    sizes = {kind: (tmp_path / file).stat().st_size for kind, file in FILES.items()}
    assert sizes["int8"] < sizes["float"] / 2.5
    assert json.loads((tmp_path / "card.json").read_text())["labels"][0] == "_"
    model = TfliteModel((tmp_path / "model_float.tflite").read_bytes())
    assert set(model.signatures) == {"window", "reset"}


def test_a_file_that_says_something_else_is_refused_and_an_earlier_one_goes(
    speech, make_card, tmp_path, monkeypatch
):
    trained = make_trained("frame_affine")
    monkeypatch.setattr(sentences, "_merged", lambda arrays: arrays)  # forgets the affine
    (tmp_path / FILES["float"]).write_bytes(b"of an earlier export")
    exported = export_sentences(trained, make_card(trained), speech[:8], tmp_path)
    assert "float" in exported.refused
    assert re.match("same transcripts|same label|largest logit", exported.refused["float"])
    assert not (tmp_path / FILES["float"]).exists()
    assert (tmp_path / FILES["personal"]).exists()  # does not need what was broken


def test_a_card_of_another_model_is_refused_and_nothing_is_written(speech, make_card, tmp_path):
    trained = make_trained("frame_affine")
    card = make_card(make_trained("frame_bottleneck"))
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        export_sentences(trained, card, speech[:8], tmp_path / "export")
    assert not (tmp_path / "export").exists()
