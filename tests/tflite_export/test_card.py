import dataclasses
import json
import math

import numpy as np
import pytest

from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.errors import ExportRefused
from fedspeech.privacy.phrasing import paragraphs
from tflite_export.card import (
    BASE_NOTICE,
    FIGURES_NOTICE,
    INTEGER_NOTICE,
    JUDGED_NOTICE,
    LATER_TRAINING_NOTICE,
    PERSONAL_NOTICE,
    SegmentAccuracy,
    file_list,
    files_table,
    require_identity,
    require_listed,
    runtime_table,
)
from tflite_export.checks import at_most
from tflite_export.keywords import OUTPUT_NOTICE
from tflite_export.sentences import FRAMES_NOTICE, SENTENCES


@pytest.fixture
def trained(make_trained):
    return make_trained("affine")


@pytest.fixture
def card(trained, make_card):
    return make_card(trained)


def test_both_forms_say_that_later_training_is_not_covered(card):
    assert "not covered by the stated epsilons" in " ".join(LATER_TRAINING_NOTICE.split())
    assert LATER_TRAINING_NOTICE in card.to_json()["notices"]
    assert LATER_TRAINING_NOTICE in card.to_markdown()


def test_both_forms_carry_the_guarantee_with_everything_it_needs(card):
    privacy = card.to_json()["privacy"]
    text = card.to_markdown()
    assert privacy["epsilon_release"] == 0.94
    for name in (
        "epsilon_release", "epsilon_server", "delta", "unit", "relation_release",
        "relation_server", "trust", "accountant", "rounds", "secure_aggregation",
    ):  # fmt: skip
        assert f"| {name} | {privacy[name]} |" in text
    assert paragraphs(card.privacy) in text


def test_a_file_of_the_base_says_so_in_both_forms(trained, make_card):
    base = trained.base
    untrained = dataclasses.replace(
        trained, parameters=trained.adapter.initial(base.head_weight, base.head_bias)
    )
    card = make_card(untrained)
    assert card.stage == card.to_json()["stage"] == "base"
    assert "| stage | base |" in card.to_markdown()
    for made, stage, notices in (
        (card, "base", {BASE_NOTICE}),
        (make_card(trained), "federated", set()),
        (make_card(trained, phone="ann"), "personal", {PERSONAL_NOTICE}),
        (make_card(untrained, phone="ann"), "personal", {PERSONAL_NOTICE}),
    ):
        assert made.stage == stage
        assert set(made.notices) & {BASE_NOTICE, PERSONAL_NOTICE} == notices
        assert made.inside("float").to_json()["stage"] == stage


def test_figures_of_people_who_were_judged_are_said_to_be_uncovered(trained, make_card, card):
    assert card.metrics
    assert (JUDGED_NOTICE in card.to_markdown()) == (card.metrics_visibility == "simulation_only")
    judged = dataclasses.replace(card, metrics_visibility="simulation_only")
    assert JUDGED_NOTICE in judged.to_json()["notices"]
    for other in ({"metrics_visibility": "public"}, {"metrics": ()}):
        assert JUDGED_NOTICE not in dataclasses.replace(judged, **other).to_json()["notices"]


def test_the_notice_of_repeatable_noise_is_there_exactly_when_it_applies(trained, make_card, card):
    assert "repeatable noise" in card.to_json()["notices"]
    unseeded = make_card(trained, noise_notice=None)
    assert "repeatable" not in unseeded.to_markdown()
    assert len(unseeded.to_json()["notices"]) == len(card.to_json()["notices"]) - 1


def test_an_infinite_epsilon_is_written_out_in_both_forms(trained, make_card):
    card = make_card(trained, epsilon_release=math.inf, epsilon_server=math.inf)
    written = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert written["privacy"]["epsilon_release"] == "Infinity"
    assert written["privacy"]["epsilon_server"] == "Infinity"
    assert "| epsilon_release | infinity |" in card.to_markdown()
    assert "NO PRIVACY GUARANTEE" in card.to_markdown()


def test_json_survives_a_round_trip_and_names_labels_base_data_and_versions(base, card):
    written = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert written == card.to_json()
    assert written["labels"] == ["yes", "no", "up", "down", "_unknown_", "_silence_"]
    assert written["outputs"] == "logits"
    assert written["base_sha256"] == base.sha256
    assert written["frontend"]["hop_samples"] == 320
    assert written["data_licenses"] == {"embedded": "Apache-2.0"}
    assert written["metrics"][0]["accuracy"] == {"base": 0.5, "federated": 0.625}
    assert {"torch", "ai-edge-litert", "fedspeech"} <= set(written["versions"])


def test_segments_stand_in_the_text_with_counts_and_eye(card):
    text = card.to_markdown()
    assert "| segment | value | phones | base | federated |" in text
    assert "| accent | coastal | 30 | 0.5 | 0.625 |" in text
    assert "visibility: simulation_only" in text


def test_a_card_without_a_number_for_epsilon_is_not_written(trained, make_card):
    with pytest.raises(
        ValueError, match="epsilon_server must be a number from 0, got epsilon_server=nan"
    ):
        make_card(trained, epsilon_server=math.nan)


@pytest.mark.parametrize("change", [{"phones": 0}, {"accuracy": {"base": 1.2}}])
def test_a_cell_without_phones_or_with_an_impossible_share_is_refused(change):
    values = {"segment": "accent", "value": "coastal", "phones": 3, "accuracy": {"base": 0.5}}
    with pytest.raises(ValueError, match="must"):
        SegmentAccuracy(**(values | change))


def test_a_phones_own_adapter_says_that_no_epsilon_covers_it(trained, make_card, card):
    own = make_card(trained, phone="phone-7")
    assert own.to_json()["notices"][0] == PERSONAL_NOTICE
    assert "do not cover" in own.to_markdown().split("##")[0]
    assert PERSONAL_NOTICE not in card.to_markdown()


def test_the_card_in_a_file_says_which_file_and_what_it_was_calibrated_on(card):
    inside = card.inside("int8", {"corpus": "synthetic", "clips": 400})
    assert inside.to_json()["file"] == "int8"
    assert inside.to_json()["calibration"]["clips"] == 400
    assert "| clips | 400 |" in inside.to_markdown()
    assert INTEGER_NOTICE in inside.notices
    assert INTEGER_NOTICE not in card.notices
    assert "calibration" not in card.to_markdown()


def test_a_card_is_accepted_for_its_own_model_and_refused_for_any_other(
    foreign_base, make_trained, trained, card
):
    def other(**changes):
        return dataclasses.replace(trained, **changes)

    written = card.to_json()
    require_identity(written, trained, "kws")
    with pytest.raises(ExportRefused, match="card: expected base_sha256"):
        require_identity(written, other(base=foreign_base), "kws")
    scale = np.nextafter(trained.parameters["scale"], np.float32(9))
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        require_identity(written, other(parameters={**trained.parameters, "scale": scale}), "kws")
    with pytest.raises(ExportRefused, match="card: expected adapter"):
        require_identity(written, make_trained("head"), "kws")
    swapped = written | {"labels": ["no", "yes", *written["labels"][2:]]}
    with pytest.raises(ExportRefused, match="card: expected labels"):
        require_identity(swapped, trained, "kws")
    with pytest.raises(ExportRefused, match="card: expected format"):
        require_identity({}, trained, "kws")


def test_a_keyword_model_on_cepstra_is_told_as_a_keyword_model(trained, make_card):
    card = dataclasses.replace(make_card(trained), frontend=SPHINX_MFCC)
    assert card.to_markdown().startswith("# Keyword model")
    assert OUTPUT_NOTICE in card.notices
    assert "40 ms" not in card.to_markdown()
    assert "frames of cepstra" in card.to_markdown()
    assert card.to_json()["task"] == "kws"
    sentences = make_card(trained, task=SENTENCES)
    assert sentences.to_markdown().startswith("# Sentence model")
    assert FRAMES_NOTICE in sentences.notices
    assert sentences.to_json()["task"] == "asr"
    with pytest.raises(ExportRefused, match="card: expected task kws, got asr"):
        require_identity(sentences.to_json(), trained, "kws")


def test_the_card_says_that_noise_on_a_phone_is_floating_point(card):
    assert "floating-point numbers" in card.to_markdown()


def test_a_file_is_known_by_the_hash_in_the_card_beside_it(tmp_path):
    file, run = tmp_path / "copied" / "any name.tflite", tmp_path / "run"
    file.parent.mkdir()
    run.mkdir()
    entry = {"file": "a", "kind": "float", "sha256": "1f", "size_bytes": 3, "checks": ()}
    entry |= {"operators": {}, "multiply_adds": {}}
    files = file_list([entry])
    named = {"kind": "float", "sha256": "1f", "size_bytes": 3}
    assert files["a"].items() >= named.items()
    assert "| a | 3 | none | none | 1f |" in files_table(files)
    with pytest.raises(ExportRefused, match=r"no card.json lists its SHA-256"):
        require_listed(file, "1f", (file.parent, run))
    (run / "card.json").write_text(json.dumps({"files": files}))
    assert require_listed(file, "1f", (file.parent, run)).passed
    with pytest.raises(ExportRefused, match=r"the card does not list.*this one is 2e"):
        require_listed(file, "2e", (file.parent, run))
    (run / "card.json").write_text("[]")
    with pytest.raises(ExportRefused, match="is no card of a family"):
        require_listed(file, "1f", (run,))


def test_a_file_has_one_figure_of_each_name_the_worst_of_its_ways_in_and_kernels():
    found = (
        ("hop agreement", 0.991), ("reference kernels, hop agreement", 0.984),
        ("listening, same answer", 0.95), ("hop, largest difference of a logit from torch", 0.27),
        ("reference kernels, hop, largest difference of a logit from torch", 0.74),
        ("hop, largest difference of a logit between two sets of kernels", 0.9),
        ("frame by frame, largest difference from the whole clip in this file", 0.0),
        ("listening, largest difference", 3.0), ("hop accuracy drop", 0.01),
    )  # fmt: skip
    checks = [dataclasses.asdict(at_most(name, figure, 9, "clips")) for name, figure in found]
    entry = {"file": "a", "kind": "x", "sha256": "1f", "size_bytes": 3, "checks": checks}
    entry |= {"operators": {"CONV_2D": 9, "MEAN": 1}, "multiply_adds": {"hop": 117_000, "reset": 0}}
    (listed,) = file_list([entry]).values()
    assert (listed["same_answer"], listed["largest_logit_difference"]) == (0.984, 0.74)
    text = files_table({"a": listed})
    assert "| a | 3 | 0.984 | 0.74 | 1f |" in text
    assert FIGURES_NOTICE in text
    kernels = "LiteRT on CPU (XNNPACK), LiteRT reference"
    assert f"| a | {kernels} | hop 117,000 | CONV_2D, MEAN |" in runtime_table({"a": listed})


def test_the_list_of_files_says_what_firmware_needs_and_nothing_of_it_elsewhere():
    checks = [
        dataclasses.asdict(at_most(name, figure, 1e9, "a board"))
        for name, figure in (("arena, bytes", 22_336), ("multiply-adds a second", 1_000_000))
    ]
    entry = {
        "file": "a", "kind": "micro", "sha256": "1f", "size_bytes": 3, "checks": checks,
        "operators": {"ADD": 3, "CONV_2D": 10}, "multiply_adds": {},
    }  # fmt: skip
    files = file_list([entry, {**entry, "file": "b", "checks": []}])
    assert files["a"]["arena_bytes"] == 22_336
    assert files["a"]["operators"] == {"ADD": 3, "CONV_2D": 10}
    assert "arena_bytes" not in files["b"]
    text = files_table(files)
    assert "| a on a microcontroller |" in text
    assert "| multiply_adds_per_second | 1,000,000 |" in text
    assert "b on a microcontroller" not in text


def test_a_card_begins_with_what_a_device_must_know(card):
    glance = card.to_markdown().split("\n> ")[0]
    assert "| sound | mono, 16000 Hz, full scale 1; a hop is 320 samples |" in glance
    assert "| accuracy over" not in glance, "a segment alone is not everybody"
    assert "0.940 against readers of the model, 5.300 against the server, for one phone" in glance
    assert "| licenses of the data | embedded: Apache-2.0 |" in glance
    everybody = SegmentAccuracy(segment="all", value="all", phones=60, accuracy={"base": 0.829})
    whole = dataclasses.replace(card, metrics=(everybody, *card.metrics))
    assert "| accuracy over 60 phones | base 82.9% |" in whole.to_markdown()


@pytest.mark.parametrize("epsilon", [0.976746624880177, 6.016082443548324, 123456.7])
def test_no_figure_of_the_guarantee_is_below_what_it_is(trained, make_card, epsilon):
    card = make_card(trained, epsilon_release=epsilon, delta=1 / 30_000)
    text = card.to_markdown()
    for name in ("epsilon_release", "delta"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert float(row.split("|")[2]) >= getattr(card.privacy, name)
