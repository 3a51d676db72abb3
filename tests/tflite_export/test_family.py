"""The whole family of one model, and its negative controls: each refused by name and figure."""

import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest

from fedspeech.corpora.corpus import Vocabulary
from fedspeech.errors import ExportRefused
from fedspeech.extras import lacking
from fedspeech.seeds import stream
from tflite_export import converter as conversion
from tflite_export.arrays import convolution_steps
from tflite_export.blueprint import Blueprint
from tflite_export.checks import at_most
from tflite_export.converter import Converter
from tflite_export.evidence import Evidence, HeldOut
from tflite_export.files import from_c_array
from tflite_export.flatbuffer import card_bytes, embed_card, float_weights, read_card
from tflite_export.interpreter import TfliteModel
from tflite_export.keyword_checks import stream_clips
from tflite_export.keywords import FILES, KeywordFamily
from tflite_export.publishing import Recipes, export_family
from tflite_export.verification import Verification, verify, verify_content
from tflite_export.weights import network

# Those that need an extra of their own are made where it is installed; micro/ tests firmware.
KINDS = tuple(
    kind
    for kind in FILES
    if kind not in ("micro", "esphome") and not lacking(KeywordFamily.extras.get(kind, "export"))
)
PUBLISHED = {FILES[kind] for kind in KINDS}


@pytest.fixture(scope="module")
def card(shipped, make_card):
    return make_card(shipped)


@pytest.fixture(scope="module")
def exported(keywords, card, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "export"
    told = []
    found = export_family(
        keywords, card, KINDS, folder=folder,
        progress=lambda *before: told.append(before),
    )  # fmt: skip
    files = [(FILES[kind], done, len(KINDS)) for done, kind in enumerate(KINDS)]
    assert list(dict.fromkeys(entry[:3] for entry in told)) == files
    works = {entry[3] for entry in told if entry[0] == FILES["streaming-int8"]}
    assert {"conversion", "minutes of hops without a reset"} <= works
    return found


@pytest.fixture
def make_with(keywords, card):
    """Kind of file and graph to break -> the bytes that are then made."""

    def make(kind, broken):
        with pytest.MonkeyPatch.context() as patch, Converter("broken_graphs") as converter:
            patch.setenv("BROKEN_GRAPH", broken)
            patch.setattr(keywords, "_float", None)  # which the right graph may have filled
            return keywords.make(kind, card, converter)

    return make


@pytest.fixture(scope="module")
def converter():
    with Converter() as converter:
        yield converter


@pytest.fixture
def plain(keywords, converter):
    """The float file before it has a card."""
    return converter.convert(keywords.blueprint("float"))


@pytest.mark.slow
def test_an_unknown_format_or_a_missing_calibration_is_refused(evidence, card, tmp_path):
    family = KeywordFamily(evidence)
    with pytest.raises(ExportRefused, match="no format int4; there are float, fp16"):
        export_family(family, card, ["float", "int4"], folder=tmp_path / "x")
    with pytest.raises(ExportRefused, match="calibration: int8, cc cannot be made without one"):
        export_family(family, card, ["int8", "cc"], folder=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_card_of_another_adapter_is_refused_before_anything_is_converted(
    keywords, make_trained, make_card, tmp_path
):
    with pytest.raises(ExportRefused, match="card: expected"):
        export_family(keywords, make_card(make_trained("head")), KINDS, folder=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.export
def test_every_format_passes_and_is_published(exported):
    assert exported.refused == {}
    assert [found.kind for found in exported.verified] == list(KINDS)
    for found in exported.verified:
        assert all(check.passed for check in found.checks)
        assert not any(name.startswith("custom") for name in found.operators)


@pytest.mark.export
def test_the_folder_holds_files_card_and_figures_that_agree(exported, calibration):
    folder = exported.folder
    names = {"card.json", "card.md", "parity.json", "calibration.json", "golden_vectors.json"}
    names |= PUBLISHED
    assert {path.name for path in folder.iterdir()} == names
    card = json.loads((folder / "card.json").read_text())
    figures = json.loads((folder / "parity.json").read_text())
    assert [entry["file"] for entry in figures["files"]] == [FILES[kind] for kind in KINDS]
    for entry in figures["files"]:
        content = (folder / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert card["files"][entry["file"]]["sha256"] == entry["sha256"]
        assert entry["sha256"] in (folder / "card.md").read_text()
    listed = json.loads((folder / "calibration.json").read_text())
    assert [tuple(clip) for clip in listed["list"]] == list(calibration.clips)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["float", "int8", "adapter", "cc"])
def test_verify_finds_what_was_published_good(exported, keywords, kind):
    before = exported.verified[KINDS.index(kind)]
    assert verify(exported.folder / FILES[kind], keywords) == before


@pytest.mark.export
def test_every_model_carries_its_own_card_in_both_forms(exported, card, calibration):
    for kind in set(KINDS) - {"adapter", "onnx", "executorch"}:
        content = (exported.folder / FILES[kind]).read_bytes()
        content = from_c_array(content.decode()) if kind == "cc" else content
        found = read_card(content)
        assert found["file"] == kind
        integer = kind in ("int8", "streaming-int8", "cc")
        assert (found["calibration"] is not None) == integer
        assert (b"## What protects the speakers" in content) == (kind != "cc")


@pytest.mark.export
def test_full_integer_files_compute_in_integers_and_are_small(exported, shipped):
    whole = (exported.folder / FILES["int8"]).read_bytes()
    assert len(whole) - card_bytes(whole) <= 1.3 * shipped.num_parameters + 20_000
    assert 10_000 < card_bytes(whole) < 20_000
    head = shipped.parameters["head_weight"].size
    assert float_weights(whole) == head
    assert float_weights((exported.folder / FILES["float"]).read_bytes()) > 100 * head


@pytest.mark.export
def test_multiply_adds_of_a_hop_are_the_weights_that_it_meets_once(exported, shipped):
    merged = network(shipped).merged()
    weights = sum(conv.weight.size for _, conv, _ in convolution_steps(merged.encoder))
    weights += merged.parameters["head_weight"].size
    for found in exported.verified:
        if found.kind in ("streaming", "streaming-int8", "personal"):
            assert found.multiply_adds["hop"] == weights
            assert found.multiply_adds["reset"] == 0


@pytest.mark.export
def test_int8_streaming_gives_the_bits_of_the_int8_whole_clip(exported, evidence):
    waveforms = evidence.held_out.waveforms[:20].copy()
    waveforms[:, :192] = 0
    whole = TfliteModel((exported.folder / FILES["int8"]).read_bytes()).run_each(
        "waveform", waveforms
    )
    model = TfliteModel((exported.folder / FILES["streaming-int8"]).read_bytes())
    streamed = stream_clips(model, evidence.trained.base.built_in.frontend, waveforms)
    np.testing.assert_array_equal(streamed, whole)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["affine", "bottleneck"])
def test_the_other_adapters_pass_too(
    shipped, evidence, make_moved, make_card, calibration, tmp_path, kind
):
    trained = make_moved(shipped.base, kind)
    few = HeldOut(
        source="people for a test",
        waveforms=evidence.held_out.waveforms[:120],
        labels=evidence.held_out.labels[:120],
        users=evidence.held_out.users[:120],
    )
    found = export_family(
        KeywordFamily(Evidence(trained, evidence.speech, few), lambda: calibration, batch_clips=8),
        make_card(trained), ["int8", "personal", "adapter"], folder=tmp_path,
    )  # fmt: skip
    assert found.refused == {}


@pytest.mark.export
def test_a_file_of_an_earlier_export_stays_beside_its_own_card_only(
    exported, keywords, card, shipped, make_card, tmp_path
):
    def files():
        listed = json.loads((tmp_path / "card.json").read_text())["files"]
        figures = json.loads((tmp_path / "parity.json").read_text())["files"]
        there = {path.name for path in tmp_path.iterdir()} & PUBLISHED
        assert there == set(listed) == {entry["file"] for entry in figures}
        return there

    for path in exported.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / FILES["fp16"]).write_bytes(b"torn")
    export_family(keywords, card, ["adapter"], folder=tmp_path)
    assert files() == PUBLISHED - {FILES["fp16"]}
    export_family(keywords, make_card(shipped, epsilon_release=3.0), ["adapter"], folder=tmp_path)
    assert files() == {FILES["adapter"]}
    assert not (tmp_path / "calibration.json").exists(), "of files that are gone"


def test_files_that_answer_every_hop_as_the_model_does_share_a_recipe():
    recipes, asked = Recipes(lambda content: asked.append(content) or {"of": content}), []

    def found(*names):
        checks = [at_most(name, 0, 1e-4, "12,000 hops") for name in names]
        return Verification(
            file="x", kind="x", sha256="", size_bytes=0, checks=tuple(checks), operators={},
            multiply_adds={},
        )  # fmt: skip

    as_torch = found("listening, largest difference")
    assert recipes.of(b"int8", found("listening, same answer")) == {"of": b"int8"}
    assert recipes.of(b"streaming", as_torch) == {"of": b"streaming"}
    assert recipes.of(b"personal", as_torch) == {"of": b"streaming"}
    assert recipes.of(b"other int8", found()) == {"of": b"other int8"}
    assert asked == [b"int8", b"streaming", b"other int8"]


# Negative controls.


@pytest.fixture
def by_noise(evidence, calibration):
    """Calibrated on white noise 40 dB below full scale: a quiet room with an open microphone."""
    noise = stream(0, "noise control").normal(0, 0.01, calibration.waveforms.shape)
    wrong = dataclasses.replace(calibration, waveforms=noise.astype(np.float32))
    return KeywordFamily(evidence, lambda: wrong)


@pytest.mark.export
def test_calibration_on_noise_is_refused_by_agreement(by_noise, card, tmp_path):
    with pytest.raises(
        ExportRefused, match=r"log_mel agreement: at least 0\.98.* got 0\.(9[0-5]|[0-8])"
    ):
        export_family(by_noise, card, ["int8"], folder=tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.export
def test_one_refused_file_stands_in_no_others_way(by_noise, card, tmp_path):
    found = export_family(by_noise, card, ["int8", "adapter"], folder=tmp_path)
    assert list(found.refused) == ["int8"]
    assert not (tmp_path / FILES["int8"]).exists()
    assert (tmp_path / FILES["adapter"]).exists()
    assert "agreement" in json.loads((tmp_path / "parity.json").read_text())["refused"]["int8"]


@pytest.mark.export
def test_a_encoder_that_fell_back_to_float_is_refused(plain, card, keywords):
    content = embed_card(plain, card.inside("int8").to_json())
    with pytest.raises(ExportRefused, match="weights that compute in float: at most 768 allowed"):
        verify_content(content, "model.tflite", keywords)


@pytest.mark.export
def test_swapped_labels_are_refused(exported, evidence, keywords, shipped, made_of):
    targets = shipped.base.vocabulary.targets
    vocabulary = Vocabulary((targets[1], targets[0], *targets[2:]))
    base = dataclasses.replace(shipped.base, vocabulary=vocabulary)
    model = dataclasses.replace(shipped, base=base)
    swapped = KeywordFamily(Evidence(model, evidence.speech, evidence.held_out))
    with pytest.raises(ExportRefused, match="card: expected"):
        verify(exported.folder / FILES["float"], swapped)
    order = [1, 0, *range(2, 12)]
    rows = {name: value[order] for name, value in shipped.parameters.items()}
    content = made_of(dataclasses.replace(shipped, parameters=rows))
    with pytest.raises(ExportRefused, match=r"waveform logits, .*at most 0\.0001 .* got"):
        verify_content(content, "model.tflite", keywords)


@pytest.fixture
def made_of(card, converter):
    """Trained model -> a file that claims the card's model but was built from its arrays."""

    def make(trained):
        blueprint = Blueprint(graph="keyword", network=network(trained).merged())
        return embed_card(converter.convert(blueprint), card.inside("float").to_json())

    return make


@pytest.mark.export
def test_one_slightly_wrong_weight_is_refused(keywords, shipped, made_of):
    head = shipped.parameters["head_weight"].copy()
    head[3, 5] += 0.01
    moved = dataclasses.replace(shipped, parameters={**shipped.parameters, "head_weight": head})
    with pytest.raises(ExportRefused, match=r"waveform logits, .*at most 0\.0001 .* got"):
        verify_content(made_of(moved), "model.tflite", keywords)


@pytest.mark.export
def test_foreign_constants_of_standardization_are_refused(keywords, shipped, made_of):
    mean = shipped.base.built_in.feature_mean + np.float32(0.01)
    encoder = dataclasses.replace(shipped.base.built_in, feature_mean=mean)
    other = dataclasses.replace(shipped, base=dataclasses.replace(shipped.base, encoder=encoder))
    with pytest.raises(ExportRefused, match=r"waveform logits, .*at most 0\.0001 .* got"):
        verify_content(made_of(other), "model.tflite", keywords)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["float", "int8"])
def test_padding_on_both_sides_is_refused(make_with, keywords, kind):
    content = make_with(kind, "padded_on_both_sides")
    name = "waveform logits" if kind == "float" else "log_mel agreement"
    with pytest.raises(ExportRefused, match=f"{name}.* got"):
        verify_content(content, "model.tflite", keywords)


@pytest.mark.export
def test_streams_are_held_against_torch_for_minutes_without_a_reset(exported):
    checks = {
        found.kind: {check.name: check for check in found.checks} for found in exported.verified
    }
    for kind in ("streaming", "streaming-int8"):
        found = checks[kind]["listening, same answer"]
        assert int(found.over.split(" hops")[0]) > 10_000
        assert found.figure >= found.limit
    assert checks["streaming"]["listening, largest difference"].figure <= 1e-4


@pytest.mark.export
def test_a_stream_that_begins_in_a_mean_frame_is_refused(make_with, keywords):
    content = make_with("streaming", "beginning_in_a_mean_frame")
    with pytest.raises(ExportRefused, match=r"listening, .* got"):
        verify_content(content, "model_streaming.tflite", keywords)


@pytest.mark.export
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(exported, keywords, tmp_path, kind):
    file = tmp_path / FILES[kind]
    file.write_bytes((exported.folder / FILES[kind]).read_bytes()[:-1000])
    with pytest.raises(ExportRefused, match=r"LiteRT cannot read|C array|not an exported adapter"):
        verify(file, keywords)


@pytest.mark.export
@pytest.mark.parametrize("kind", ["float", "int8", "personal", "adapter", "cc"])
def test_a_foreign_base_is_refused(exported, evidence, shipped, kind):
    base = dataclasses.replace(shipped.base, provenance={"command": "another base"})
    model = dataclasses.replace(shipped, base=base)
    foreign = KeywordFamily(Evidence(model, evidence.speech, evidence.held_out))
    with pytest.raises(ExportRefused, match="card: expected base_sha256"):
        verify(exported.folder / FILES[kind], foreign)


@pytest.mark.export
def test_a_file_that_claims_another_kind_is_refused(plain, card, keywords):
    for kind, rule in (("int4", "no file of the family"), ("streaming", "signature")):
        with pytest.raises(ExportRefused, match=rule):
            verify_content(embed_card(plain, card.inside(kind).to_json()), "x.tflite", keywords)


@pytest.mark.export
def test_an_operation_without_a_builtin_is_refused(make_with):
    with pytest.raises(
        ExportRefused, match=r"conversion: .* builtin operator for MatrixDeterminant$"
    ):
        make_with("float", "with_a_determinant")


@pytest.mark.export
def test_a_card_whose_embedding_moved_an_output_is_refused(
    keywords, card, shipped, made_of, converter, monkeypatch
):
    flipped = {name: -value for name, value in shipped.parameters.items()}
    other = made_of(dataclasses.replace(shipped, parameters=flipped))
    monkeypatch.setattr(conversion, "embed_card", lambda plain, card, text: embed_card(other, card))
    with pytest.raises(ExportRefused, match="card: embedding it must leave every output"):
        keywords.make("float", card, converter)


@pytest.mark.export
def test_a_refusal_of_everything_leaves_an_earlier_export_alone(exported, by_noise, card):
    before = {path.name: path.read_bytes() for path in exported.folder.iterdir()}
    with pytest.raises(ExportRefused, match=r"model_int8\.tflite: log_mel agreement"):
        export_family(by_noise, card, ["int8"], folder=exported.folder)
    assert {path.name: path.read_bytes() for path in exported.folder.iterdir()} == before


@pytest.mark.export
def test_a_disk_that_fails_leaves_no_partial_file(keywords, card, tmp_path, monkeypatch):
    replace = os.replace

    def fail_on_the_model(source, target):
        if target.name == FILES["adapter"]:
            raise OSError("no space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_model)
    with pytest.raises(OSError, match="no space left"):
        export_family(keywords, card, ["adapter"], folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "card.json", "card.md", "golden_vectors.json", "parity.json",
    ]  # fmt: skip


@pytest.mark.export
def test_a_phone_can_run_the_file_from_the_card_alone(exported, evidence):
    model = TfliteModel((exported.folder / FILES["float"]).read_bytes())
    card = read_card(model.content)
    (clip,) = model.signatures["waveform"].inputs.values()
    frontend = card["frontend"]
    before = card["context_frames"] * frontend["hop_samples"]
    assert clip.shape == (1, before + frontend["clip_samples"])
    logits = model.run("waveform", waveform=evidence.speech[:1])[card["outputs"]]
    assert logits.shape == (1, len(card["labels"]))


@pytest.mark.export
def test_the_file_gives_the_golden_vectors_logits(exported):
    golden = json.loads((exported.folder / "golden_vectors.json").read_text())
    waveform = (np.array(golden["samples_int16"]) / 2**15).astype(np.float32)[np.newaxis]
    features = np.array(golden["features"], np.float32)[np.newaxis]
    model = TfliteModel((exported.folder / FILES["float"]).read_bytes())
    for signature, given in (("waveform", waveform), ("log_mel", features)):
        found = model.run_each(signature, given)[0]
        np.testing.assert_allclose(found, golden["logits"], atol=1e-4)
