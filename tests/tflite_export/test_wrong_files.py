"""Real files that are wrong in one thing: each converts, has the right signatures, and is refused.

One process converts them all; see `wrong_graphs`.
"""

import numpy as np
import pytest
from strangers import strangers

from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import make_adapter
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.seeds import stream
from tflite_export.blueprint import Blueprint
from tflite_export.converter import Converter
from tflite_export.evidence import Evidence, HeldOut, reference_logits
from tflite_export.flatbuffer import embed_card
from tflite_export.interpreter import TfliteModel
from tflite_export.keywords import KeywordFamily
from tflite_export.personal_checks import personal_run
from tflite_export.sentences import SENTENCES, SentenceFamily
from tflite_export.twins import PersonalTwin
from tflite_export.verification import verify_content
from tflite_export.weights import Trained, network

pytestmark = [pytest.mark.adversarial, pytest.mark.export]
LEARNS_WRONGLY = (
    "train_without_present", "train_without_proximal_mu", "constant_loss",
    "train_dp_without_present", "train_dp_without_expected_clips", "train_dp_without_momentum",
    "train_dp_without_noise", "restore_keeps_momentum", "restore_without_checksum",
    "save_without_checksum",
)  # fmt: skip
ANSWERS_WRONGLY = {
    "infer_with_its_own_adapter": "infer_with another adapter, largest difference",
    "infer_with_keeps_the_adapter": "infer_with another adapter, adapters changed",
    "infer_by_the_first_adapter": "infer by a trained adapter, largest difference",
    "reset_keeps_the_samples": "every call in random order",
    "reset_forgets_the_adapter": "every call in random order",
    "hop_by_the_first_adapter": "every call in random order",
    "score_with_its_own_adapter": "every call in random order",
    "train_resets_the_stream": "every call in random order",
    "restore_resets_the_stream": "every call in random order",
    "embed_hop_does_not_move_on": "every call in random order",
    "averages_two_seconds": "every call in random order",
    "forgets_every_thousandth_hop": "listening",
}
LISTENS_WRONGLY = {
    "averages_two_seconds": "hop logits",
    "forgets_what_was_before": "hop logits",
    "memory_does_not_move_on": "hop logits",
    "hops_do_not_overlap": "hop logits",
    "forgets_every_thousandth_hop": "listening",
    # Minutes of listening begin with a reset, and so may meet the fault before its own check does.
    "reset_resets_nothing": "(reset, outputs changed|listening, )",
    "reset_keeps_the_samples": "(reset, outputs changed|listening, )",
}
WRITES_WRONGLY = {
    "sentence_reset_keeps_a_layer": "embed, difference after reset",
    "present_is_ignored": "embed, ",
    "clip_without_clip_norm": "train_dp, largest difference",
    "train_dp_without_expected_sentences": "train, clip, train_dp, save, restore, largest",
    "train_dp_keeps_the_sum": "train, clip, train_dp, save, restore, largest",
    "restore_keeps_the_sum": "train, clip, train_dp, save, restore, largest",
    "scores_by_the_first_adapter": "score after training, largest difference",
}


@pytest.fixture(scope="module")
def convert(tmp_path_factory):
    """Blueprint and name of a fault -> the bytes of a file; one process makes all of them."""
    fault = tmp_path_factory.mktemp("wrong") / "fault"

    def make(blueprint, wrong):
        fault.write_text(wrong, encoding="utf-8")
        return converter.convert(blueprint)

    with pytest.MonkeyPatch.context() as patch, Converter("wrong_graphs") as converter:
        patch.setenv("WRONG_GRAPH", str(fault))
        yield make


@pytest.fixture(scope="module")
def trained(make_trained):
    return make_trained("head")


@pytest.fixture(scope="module")
def evidence(trained, clips):
    """What the small model's files are held against."""
    labels = reference_logits(trained, clips[:64]).argmax(axis=1)
    users = np.repeat(["one", "two"], 32)
    held_out = HeldOut(source="sounds", waveforms=clips[:64], labels=labels, users=users)
    return Evidence(trained, clips, held_out)


def personal_blueprint(trained):
    return Blueprint(
        graph="personal", network=network(trained), base_sha256=trained.base.sha256, batch_clips=8
    )


def run_of(convert, trained, clips, wrong):
    """The long run of random calls over a file of the wrong graph."""
    file = TfliteModel(convert(personal_blueprint(trained), wrong))
    embeddings = np.abs(stream(0, "wrong files").standard_normal((12, 24))).astype(np.float32)
    return personal_run(file, PersonalTwin(trained), trained, embeddings, clips[0], 8)


@pytest.mark.parametrize("wrong", LEARNS_WRONGLY)
def test_a_file_that_learns_wrongly_is_refused(convert, trained, clips, wrong):
    with pytest.raises(ExportRefused, match="every call in random order, largest difference"):
        run_of(convert, trained, clips, wrong)


def test_a_file_that_learns_rightly_passes(convert, trained, clips):
    assert run_of(convert, trained, clips, "nothing").passed


@pytest.fixture(scope="module")
def verify(convert, trained, evidence, make_card):
    """Name of a fault and kind of file -> what all checks of the kind find, card and all."""

    def found(wrong, kind):
        blueprint = (
            personal_blueprint(trained)
            if kind == "personal"
            else Blueprint(graph="streaming", network=network(trained).merged())
        )
        content = embed_card(convert(blueprint, wrong), make_card(trained).inside(kind).to_json())
        return verify_content(content, f"model_{kind}.tflite", KeywordFamily(evidence))

    return found


@pytest.mark.parametrize("wrong", ANSWERS_WRONGLY)
def test_a_file_that_answers_by_the_wrong_adapter_is_refused(verify, wrong):
    with pytest.raises(ExportRefused, match=f"^{ANSWERS_WRONGLY[wrong]}"):
        verify(wrong, "personal")


@pytest.mark.parametrize("wrong", LISTENS_WRONGLY)
def test_a_file_that_listens_wrongly_is_refused(verify, wrong):
    with pytest.raises(ExportRefused, match=f"^{LISTENS_WRONGLY[wrong]}"):
        verify(wrong, "streaming")


@pytest.mark.parametrize("kind", ["personal", "streaming"])
def test_a_right_file_passes_every_check(verify, kind):
    assert all(check.passed for check in verify("nothing", kind).checks)


@pytest.fixture(scope="module")
def sentences():
    corpus = strangers(seed=7, num_speakers=2)
    return corpus.waveforms(corpus.utterances)[::2]


@pytest.fixture(scope="module")
def verify_sentences(convert, sentences, make_card):
    """Name of a fault -> what all checks of the personal file for sentences find."""
    base = Base.load(sentence_base_path())
    features, labels = base.built_in.spec.features, len(base.vocabulary.labels)
    adapter = make_adapter("frame_affine", base.num_windows, features, labels)
    trained = Trained(
        base=base,
        adapter=adapter,
        parameters=adapter.initial(base.head_weight, base.head_bias),
    )
    blueprint = Blueprint(
        graph="personal-sentence", network=network(trained), base_sha256=base.sha256
    )

    family = SentenceFamily(trained, np.repeat(sentences, 2, axis=0))  # judges by each of them

    def found(wrong):
        card = make_card(trained, task=SENTENCES).inside("personal")
        content = embed_card(convert(blueprint, wrong), card.to_json())
        return verify_content(content, "model_personal.tflite", family)

    return found


@pytest.mark.parametrize("wrong", WRITES_WRONGLY)
def test_a_file_that_writes_wrongly_is_refused(verify_sentences, wrong):
    with pytest.raises(ExportRefused, match=f"^{WRITES_WRONGLY[wrong]}"):
        verify_sentences(wrong)


def test_a_file_that_writes_rightly_passes(verify_sentences):
    assert all(check.passed for check in verify_sentences("nothing").checks)
